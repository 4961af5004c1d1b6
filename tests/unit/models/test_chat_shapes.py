"""Every shape of an answer that servers send, whole and streamed: the answer, or one clear error."""

from __future__ import annotations

import json

import pytest
from wire_readers import KEY, chunk, chunks, completion, sse, streamed, whole

from workbench import files, wire
from workbench.errors import NoAnswerError, RateLimitedError, RefusedError, UnavailableError

HI, END = chunk({"role": "assistant", "content": "Hi"}), chunk({}, "stop")
THINKING = {"type": "thinking", "thinking": [{"type": "text", "text": "2 and 2"}]}
TEXT = {"type": "text", "text": "It is 4."}
USAGE = {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}


def no_choices(**more) -> dict:
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", **more}


# --- content ---------------------------------------------------------------------------------------------

CONTENTS = [
    ("It is 4.", "It is 4."),
    ([TEXT], "It is 4."),
    ([THINKING, TEXT], "It is 4."),
    ([{"type": "text", "text": "It is"}, {"type": "text", "text": " 4."}], "It is 4."),
    (["It is", " 4."], "It is 4."),
    ([None, TEXT, None], "It is 4."),
    (TEXT, "It is 4."),
    ([{"text": "It is 4."}], "It is 4."),
    ([{"type": "output_text", "text": "It is 4.", "annotations": []}], "It is 4."),
    ([{"type": "text", "text": {"value": "It is 4.", "annotations": []}}], "It is 4."),
    ([{"type": "image_url", "image_url": {"url": "data:"}}, TEXT], "It is 4."),
    ([{"type": ["text"], "text": "no"}, TEXT], "It is 4."),
    ({"answer": 4, "ü": "é"}, '{"answer": 4, "ü": "é"}'),
    (4, "4"),
    (True, "true"),
]


@pytest.mark.parametrize(("content", "text"), CONTENTS)
def test_content_of_any_shape_is_its_text(content, text):
    assert wire.text_of(whole(completion({"role": "assistant", "content": content}))) == text
    assert wire.text_of(streamed(sse(chunk({"content": content}), END))) == text


def test_texts_and_lists_may_take_turns_and_parts_that_are_no_text_stay_whole():
    deltas = ("", [THINKING], [THINKING], "It is ", [{"type": "text", "text": "4."}])
    message = streamed(sse(*(chunk({"content": delta}) for delta in deltas), END))["choices"][0]["message"]
    assert message["content"] == "It is 4."
    assert message["content_parts"] == [THINKING, THINKING]
    kept = whole(completion({"content": [THINKING, TEXT]}))["choices"][0]["message"]
    assert kept == {"content": "It is 4.", "content_parts": [THINKING, TEXT]}


def test_a_refusal_among_the_parts_is_a_refusal():
    message = {"content": [{"type": "refusal", "refusal": "I can't"}]}
    assert wire.reason_of(whole(completion(message))) == "refusal"
    assert streamed(sse(chunk(message), END))["choices"][0]["message"]["refusal"] == "I can't"


# --- fields that come in pieces, and fields that are repeated ---------------------------------------------

FOLDED = [
    ([{"reasoning": "First"}, {"reasoning": " then"}], {"reasoning": "First then"}),
    (
        [{"reasoning_content": "a"}, {"reasoning_content": None}, {"reasoning_content": "b"}],
        {"reasoning_content": "ab"},
    ),
    (
        [{"reasoning_details": [{"index": 0}]}, {"reasoning_details": [{"index": 0}]}],
        {"reasoning_details": [{"index": 0}, {"index": 0}]},
    ),
    (
        [{"audio": {"id": "a", "transcript": "Hel"}}, {"audio": {"transcript": "lo", "expires_at": 5}}],
        {"audio": {"id": "a", "transcript": "Hello", "expires_at": 5}},
    ),
    (
        [{"audio": {"data": "AAAA"}}, {"audio": {"data": "BBBB", "id": ""}}],
        {"audio": {"data": "AAAABBBB", "id": ""}},
    ),
    (
        [
            {"function_call": {"name": "f", "arguments": ""}},
            {"function_call": {"arguments": '{"a":'}},
            {"function_call": {"arguments": "1}"}},
        ],
        {"function_call": {"name": "f", "arguments": '{"a":1}'}},
    ),
    (
        [{"function_call": {"name": "f", "arguments": {"a": 1}}}],
        {"function_call": {"name": "f", "arguments": '{"a": 1}'}},
    ),
    ([{"function_call": None}, {"function_call": {}}, {"function_call": ""}], {"function_call": {}}),
    ([{"role": "assistant"}, {"role": ""}, {"role": None}], {"role": "assistant"}),
    ([{"refusal": None}, {"refusal": "I "}, {"refusal": "can't"}], {"refusal": "I can't"}),
    ([{"annotations": [1]}, {"annotations": []}, {"annotations": [2]}], {"annotations": [1, 2]}),
    (
        [{"x_new": {"deep": {"list": [1], "n": 1}}}, {"x_new": {"deep": {"list": [2], "n": 2}}}],
        {"x_new": {"deep": {"list": [1, 2], "n": 2}}},
    ),
]


@pytest.mark.parametrize(("deltas", "wanted"), FOLDED)
def test_fields_of_a_message_are_kept_whole(deltas, wanted):
    answer = streamed(sse(*map(chunk, deltas), END))
    assert answer["choices"][0]["message"] == {"content": None, "role": "assistant", **wanted}


def test_unknown_fields_of_every_level_are_kept():
    more = {"x_top": {"a": [1]}, "provider": "p"}
    odd = {
        **HI,
        **more,
        "choices": [{**HI["choices"][0], "delta": {"content": [TEXT], "x_delta": 1}, "x_choice": 2}],
    }
    (found, _) = chunks(sse(odd, END))
    assert {name: found[name] for name in more} == more
    assert found["choices"][0] == {
        "index": 0,
        "finish_reason": None,
        "x_choice": 2,
        "delta": {"content": "It is 4.", "x_delta": 1},
    }
    message = {"content": [TEXT], "x_message": {"b": None}}
    kept = whole({**completion(message), **more})
    assert kept["choices"][0]["message"] == {"content": "It is 4.", "x_message": {"b": None}}
    assert kept["x_top"] == more["x_top"]


# --- streams that are answers -----------------------------------------------------------------------------

STREAMS = {
    "plain": sse(HI, END),
    "no [DONE]": sse(HI, END, done=False),
    "no blank line at the end": sse(HI, END, done=False).rstrip(),
    "data: null": sse(HI, "null", END),
    "data: numbers, texts and booleans": sse("1", '"wait"', HI, "true", "[]", END),
    "a list of chunks": sse([HI, END]),
    "a list with null": sse([None, HI], [END, 1]),
    "usage before choices": sse(no_choices(choices=[], usage=USAGE), HI, END),
    "filter results before choices": sse(
        no_choices(choices=[], prompt_filter_results=[{"prompt_index": 0}]), HI, END
    ),
    "usage without choices": sse(HI, END, no_choices(usage=USAGE)),
    "choices null": sse(HI, END, no_choices(choices=None, usage=USAGE)),
    "a choice that is null": sse(no_choices(choices=[None]), HI, END),
    "a delta that is null": sse({**HI, "choices": [{"index": 0, "delta": None}]}, HI, END),
    "no delta": sse(HI, {**HI, "choices": [{"index": 0, "finish_reason": None}]}, END),
    "no index": sse(chunk({"content": "Hi"}, index="none"), chunk({}, "stop", index="none")),
    "index null": sse(chunk({"content": "Hi"}, index=None), chunk({}, "stop", index=None)),
    "index a text": sse(chunk({"content": "Hi"}, index="0"), chunk({}, "stop", index=[0])),
    "finish reason empty": sse(chunk({"content": "H"}, ""), chunk({"content": "i"}, ""), END),
    "empty pieces after the end": sse(HI, END, chunk({"content": ""}, "")),
    "a piece after the end, no [DONE]": sse(HI, END, chunk({"content": ""}), done=False),
    "filter results after the end": sse(HI, END, no_choices(choices=[{"index": 0, "finish_reason": None}])),
    "keep-alive comments": sse(b": OPENROUTER PROCESSING\n\n", HI, b": ping\n\n", END),
    "keep-alive events": sse(b'event: ping\ndata: {"type": "ping"}\n\n', HI, {"type": "ping"}, {}, END),
    "error null": sse({**HI, "error": None}, {**END, "error": {}}),
    "the message beside the delta": sse(
        *({**c, "choices": [{**c["choices"][0], "message": {"content": "Hi"}}]} for c in (HI, END))
    ),
    "the message instead of the delta": sse(
        {**HI, "choices": [{"index": 0, "message": {"content": "Hi"}}]}, END
    ),
    "a whole answer as an event": sse(completion({"role": "assistant", "content": "Hi"})),
    "a whole answer": json.dumps(completion({"role": "assistant", "content": "Hi"})).encode(),
    "a whole answer on several lines": json.dumps(completion({"content": "Hi"}), indent=1).encode(),
    "lines of JSON": b"".join(json.dumps(each).encode() + b"\n" for each in (HI, END)),
    "byte order mark": b"\xef\xbb\xbf" + sse(HI, END),
    "CR": sse(HI, END, end="\r\r"),
    "CRLF": sse(HI, END, end="\r\n\r\n", start="data:"),
    "half a pair in two chunks": sse(HI, END).replace(b"Hi", b"H\\u0069"),
    "garbage after the end": sse(HI, END, "not JSON"),
    "[DONE] with more behind it": sse(HI, END, "[DONE] bye", "not JSON"),
    "no finish reason": sse(HI, chunk({})),
    "log-probabilities of -Infinity": sse(
        {**HI, "choices": [{**HI["choices"][0], "logprobs": {"content": [{"logprob": float("-inf")}]}}]}, END
    ),
    "usage as a list": sse({**HI, "usage": []}, {**END, "usage": ["ten"]}),
    "usage as a text": sse(HI, END, no_choices(choices=[], usage="ten")),
}


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("cut", [None, 1, 5])
def test_a_stream_that_is_an_answer(name, cut):
    body = STREAMS[name]
    answer = streamed(*([body] if cut is None else [body[n : n + cut] for n in range(0, len(body), cut)]))
    assert wire.text_of(answer) == "Hi"
    assert len(answer["choices"]) == 1
    assert wire.finish_of(answer) == (None if name == "no finish reason" else "stop")
    wire.usage_of(answer)
    for event in chunks(body):
        assert wire.is_chunk(event)
        assert files.canonical(event)
    assert answer["object"] == "chat.completion"


def test_well_formed_events_are_not_changed():
    tool = {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    sent = [
        no_choices(choices=[], prompt_filter_results=[]),
        HI,
        chunk({"tool_calls": [tool]}),
        chunk({}, "tool_calls", x=1),
        chunk({"content": None}, index=1),
        chunk({"content": ""}, "stop", index=1),
        no_choices(choices=[], usage=USAGE),
    ]
    assert chunks(sse(*sent)) == sent
    answer = completion({"role": "assistant", "content": "Hi", "tool_calls": [tool], "refusal": None})
    assert whole(answer) == answer


def test_a_pair_of_surrogates_split_over_chunks_is_joined_in_every_field():
    high, low = "\ud83d", "\ude00"
    call = {"index": 0, "id": "a", "function": {"name": "f"}}
    deltas = [
        {
            "content": f"Hi {high}",
            "reasoning": high,
            "tool_calls": [{**call, "function": {"arguments": f'"{high}'}}],
        },
        {"role": "assistant"},
        {
            "content": f"{low}!",
            "reasoning": low,
            "tool_calls": [{**call, "function": {"arguments": f'{low}"'}}],
        },
    ]
    body = sse(*map(chunk, deltas), END)
    message = streamed(*[body[n : n + 1] for n in range(len(body))])["choices"][0]["message"]
    assert message["content"] == "Hi 😀!"
    assert message["reasoning"] == "😀"
    assert message["tool_calls"][0]["function"]["arguments"] == '"😀"'


@pytest.mark.parametrize(
    "last", [chunk({}, "stop"), chunk({"content": ""}, "stop"), chunk({"role": "assistant"})]
)
def test_a_half_that_is_never_joined_is_a_replacement_character(last):
    call = {"index": 0, "id": "a", "function": {"name": "f", "arguments": "\ud83d"}}
    body = sse(chunk({"content": "Hi \ud83d", "tool_calls": [call]}), last)
    message = streamed(body)["choices"][0]["message"]
    assert message["content"] == "Hi \ufffd"
    assert message["tool_calls"][0]["function"]["arguments"] == "\ufffd"


def test_halves_of_two_choices_are_not_mixed():
    pieces = [
        chunk({"content": "\ud83d"}),
        chunk({"content": "\ud83d"}, index=1),
        chunk({"content": "\ude00"}, "stop"),
    ]
    answer = streamed(sse(*pieces, chunk({"content": "\ude01"}, "stop", index=1)))
    assert [choice["message"]["content"] for choice in answer["choices"]] == ["😀", "😁"]


# --- what is no answer ------------------------------------------------------------------------------------

#: The class, the reason, and whether the endpoint may be asked again.
MALFORMED = (NoAnswerError, "malformed", False)
NO_CHOICES = (NoAnswerError, "no_choices", False)
DOWN = (UnavailableError, "", True)
BOOM = {"code": 502, "message": "boom"}
ERROR = {"error": {"message": "boom", "code": 500}}
#: The body, its error, and a word of the message.
NO_STREAM = {
    "only [DONE]": (sse(), *NO_CHOICES, "[DONE]"),
    "only usage": (sse(no_choices(choices=[], usage=USAGE)), *NO_CHOICES, "choices"),
    "only null choices": (sse(no_choices(choices=None), no_choices(choices=[None])), *NO_CHOICES, ""),
    "only keep-alive after a byte order mark": (b"\xef\xbb\xbf\r\n: ping\n\n", *DOWN, "cut"),
    "only keep-alive": (sse(b": ping\n\n", done=False), *DOWN, "cut"),
    "only a text": (sse('"Internal error"'), *NO_CHOICES, "Internal error"),
    "a whole answer without choices": (b'{"id": "x", "choices": []}', *NO_CHOICES, "choices"),
    "a whole answer with null choices": (b'{"id": "x",\n"choices": null}', *NO_CHOICES, "choices"),
    "chunks without choices, cut": (sse(no_choices(choices=[]), done=False), *DOWN, "cut"),
    "nothing": (b"", *DOWN, "choices"),
    "blank": (b"\n\r\n  ", *DOWN, "choices"),
    "a page": (b"<!doctype html>\n<p>Sign in", *MALFORMED, "Sign in"),
    "plain text": (b"Service is warming up", *MALFORMED, "warming up"),
    "not JSON": (sse("not json"), *MALFORMED, "not json"),
    "not UTF-8": (sse(b'data: "\xff"\n\n'), *MALFORMED, ""),
    "cut inside the first event": (sse(HI)[:40], *DOWN, "choices"),
    "cut inside a whole answer": (b'{"choices": [\n{"message": ', *DOWN, "choices"),
    "cut after a chunk": (sse(HI, done=False), *DOWN, "cut"),
    "one choice of two is open": (sse(HI, chunk({}, index=1), END, done=False), *DOWN, "cut"),
    "not JSON after a chunk": (sse(HI, "not json"), *DOWN, "cut"),
    "other JSON": (b'{"object": "list", "data": []}', *MALFORMED, "object"),
    "nested too deep": (sse("[" * 500 + "]" * 500), *MALFORMED, "[[["),
    "choices a text": (sse(no_choices(choices="Hi")), *MALFORMED, "list of choices"),
    "choices a number": (sse(no_choices(choices=4)), *MALFORMED, "list of choices"),
    "choices a mapping": (sse(no_choices(choices={"0": {}})), *MALFORMED, "list of choices"),
    "a choice that is a text": (sse(no_choices(choices=["Hi"])), *MALFORMED, "a choice"),
    "a delta that is a text": (sse(chunk("Hi")), *MALFORMED, "choices[0].delta"),
    "a delta that is a list": (sse(chunk(["Hi"])), *MALFORMED, "choices[0].delta"),
    "a function call that is a text": (sse(chunk({"function_call": "f"})), *MALFORMED, "function_call"),
    "an error": (sse(ERROR), *DOWN, "500: boom"),
    "an error after a chunk": (sse(HI, ERROR), *DOWN, "500: boom"),
    "an error with choices": (sse({**HI, **ERROR}), *DOWN, "500: boom"),
    "an error in a list": (sse([ERROR]), *DOWN, "500: boom"),
    "an error as lines of JSON": (json.dumps(ERROR).encode() + b"\n", *DOWN, "500: boom"),
    "an error on several lines": (json.dumps(ERROR, indent=2).encode(), *DOWN, "500: boom"),
    "an error that is a text": (sse({"error": "boom"}), *DOWN, "500: boom"),
    "an error object": (sse(HI, {"object": "error", "message": "boom", "code": 500}), *DOWN, "500: boom"),
    "an error event": (sse(HI, b'event: error\ndata: {"message": "boom"}\n\n'), *DOWN, "500: boom"),
    "an error event of text": (sse(HI, b"event: error\ndata: boom\n\n"), *DOWN, "500: boom"),
    "llama.cpp's error": (sse(HI, b'error: {"message": "boom", "code": 500}\n\n'), *DOWN, "500: boom"),
    "an error with a status as a text": (
        sse({"error": {"message": "boom", "code": "400"}}),
        RefusedError,
        "",
        False,
        "400: boom",
    ),
    "an error with a type": (
        sse({"error": {"message": "boom", "type": "invalid_request_error"}}),
        RefusedError,
        "",
        False,
        "400: boom",
    ),
    "an error with a rate": (
        sse({"error": {"message": "boom", "code": "rate_limit_exceeded"}}),
        RateLimitedError,
        "",
        True,
        "429: boom",
    ),
    "an error without quota": (
        sse({"error": {"message": "boom", "code": "insufficient_quota"}}),
        RateLimitedError,
        "",
        False,
        "429: boom",
    ),
    "an error of a provider": (
        sse({"error": {"message": "boom", "status": "UNAVAILABLE"}}),
        *DOWN,
        "503: boom",
    ),
    "an error of a choice": (
        sse(HI, {**HI, "choices": [{"index": 0, "delta": {}, "error": BOOM}]}),
        NoAnswerError,
        "error",
        True,
        "boom",
    ),
    "a refused choice": (
        sse({**HI, "choices": [{"index": 0, "error": {"code": 400, "message": "boom"}}]}),
        NoAnswerError,
        "error",
        False,
        "boom",
    ),
    "finish reason error": (sse(HI, chunk({}, "error")), NoAnswerError, "error", True, "finish_reason"),
    "a half pair in an error": (sse(b'data: {"error": {"message": "boom \\ud83d"}}\n\n'), *DOWN, "boom"),
    "the key in an error": (sse({"error": {"message": f"boom {KEY}"}}), *DOWN, "boom [key]"),
}


@pytest.mark.parametrize("name", NO_STREAM)
@pytest.mark.parametrize("cut", [None, 1])
def test_a_stream_that_is_no_answer_is_one_error_that_says_what_came(name, cut):
    body, kind, reason, retryable, word = NO_STREAM[name]
    with pytest.raises(kind) as caught:
        chunks(*([body] if cut is None else [body[n : n + 1] for n in range(len(body))]))
    judge(caught.value, kind, reason, retryable=retryable, word=word)


def judge(error, kind, reason, *, retryable, word):
    assert type(error) is kind
    assert getattr(error, "reason", "") == reason
    assert error.retryable is retryable
    assert word in error.message and error.message.startswith("http://endpoint/v1 ")
    assert KEY not in str(error)
    assert len(error.message) < 500


def one(choice) -> dict:
    return {**completion({}), "choices": [choice]}


NO_WHOLE = {
    "no choices": ({**completion({}), "choices": []}, *NO_CHOICES, "choices"),
    "choices null": ({**completion({}), "choices": None}, *NO_CHOICES, "choices"),
    "choices of null": (one(None), *NO_CHOICES, "choices"),
    "choices a text": ({"choices": "Hi"}, *MALFORMED, "list of choices"),
    "choices a number": ({"choices": 4}, *MALFORMED, "list of choices"),
    "choices a mapping": ({"choices": {"message": {"content": "Hi"}}}, *MALFORMED, "list of choices"),
    "a choice that is a text": (one("Hi"), *MALFORMED, "a choice"),
    "a choice that is a list": (one([{}]), *MALFORMED, "a choice"),
    "message null": (one({"message": None, "finish_reason": "stop"}), *MALFORMED, "choices[0].message"),
    "message a text": (one({"message": "Hi"}), *MALFORMED, "choices[0].message"),
    "message a list": (one({"message": ["Hi"]}), *MALFORMED, "choices[0].message"),
    "no message": (one({"text": "Hi"}), *MALFORMED, "choices[0].message"),
    "a function call that is a list": (completion({"function_call": ["f"]}), *MALFORMED, "function_call"),
    "null": (b"null", *MALFORMED, "null"),
    "a number": (b"4", *MALFORMED, "4"),
    "a text": (b'"Hi"', *MALFORMED, "Hi"),
    "a list": ([completion({"content": "Hi"})], *MALFORMED, "chat.completion"),
    "two answers": (b'{"choices": []}\n{"choices": []}', *MALFORMED, "choices"),
    "bytes after the answer": (json.dumps(completion({"content": "Hi"})).encode() + b"\0", *MALFORMED, ""),
    "another character set": ('{"choices": "Zoë"}'.encode("latin-1"), *MALFORMED, "choices"),
    "a page": (b"<html>", *MALFORMED, "<html>"),
    "events": (sse(HI, END), *MALFORMED, "data:"),
    "nothing": (b"", *DOWN, "choices"),
    "cut off": (b'{"choices": [{"message": {"content": "Hi', *DOWN, "Hi"),
    "nested too deep": (b'{"choices": ' + b"[" * 300 + b"]" * 300 + b"}", *MALFORMED, "[[["),
    "nested far too deep": (b"[" * 100_000 + b"]" * 100_000, *MALFORMED, "[[["),
    "nested too deep beside an answer": (
        {**completion({"content": "Hi"}), "x": json.loads("[" * 300 + "]" * 300)},
        *MALFORMED,
        "",
    ),
    "an error": (ERROR, *DOWN, "500: boom"),
    "an error in a list": ([ERROR], *DOWN, "500: boom"),
    "an error object": (
        {"object": "error", "message": "boom", "code": 404},
        RefusedError,
        "",
        False,
        "404: boom",
    ),
    "an error beside choices": ({**completion({"content": "Hi"}), **ERROR}, *DOWN, "500: boom"),
    "an error of a choice": (
        one({"message": {"content": ""}, "finish_reason": "error", "error": BOOM}),
        NoAnswerError,
        "error",
        True,
        "boom",
    ),
    "finish reason error": (
        completion({"content": "par"}, "error"),
        NoAnswerError,
        "error",
        True,
        "finish_reason",
    ),
}


@pytest.mark.parametrize("name", NO_WHOLE)
def test_a_whole_answer_that_is_none_is_one_error_that_says_what_came(name):
    answer, kind, reason, retryable, word = NO_WHOLE[name]
    with pytest.raises(kind) as caught:
        whole(answer)
    judge(caught.value, kind, reason, retryable=retryable, word=word)


WHOLES = [
    completion({"content": "Hi"}),
    completion({"content": "Hi", "tool_calls": None, "function_call": None, "refusal": None}),
    completion({"content": "Hi", "tool_calls": [], "audio": None}),
    completion({"content": "Hi", "tool_calls": {}, "function_call": ""}),
    completion({"content": "Hi"}, ""),
    completion({"content": "Hi"}, None),
    completion({"content": "Hi"}, usage=None),
    completion({"content": "Hi"}, usage=[]),
    completion({"content": "Hi"}, usage={"prompt_tokens": 3.0, "completion_tokens": None}),
    completion({"content": "Hi"}, error=None),
    completion({"content": "Hi"}, error={}),
    completion({"content": "Hi"}, system_seed=2**100),
    completion({"content": "Hi"}, choices=[None, {"message": {"content": "Hi"}}]),
    completion({"content": "Hi"}, choices=[{"delta": {"content": "Hi"}}]),
    b"\xef\xbb\xbf" + json.dumps(completion({"content": "Hi"})).encode(),
    json.dumps(completion({"content": "Hi"})).encode("utf-16"),
    json.dumps(completion({"content": "Hi"}, x=float("nan"))).encode(),
    b" \n" + json.dumps(completion({"content": "Hi"}), indent=2).encode() + b"\r\n",
]


@pytest.mark.parametrize("answer", WHOLES, ids=range(len(WHOLES)))
def test_a_whole_answer_that_deviates(answer):
    found = whole(answer)
    assert wire.text_of(found) == "Hi"
    assert files.canonical(found)
    assert wire.reason_of(found) == ""


def test_a_message_withheld_by_the_filter_is_an_answer_without_text():
    found = whole(one({"message": None, "finish_reason": "content_filter"}))
    assert wire.reason_of(found) == "filtered"
    assert found["choices"][0]["message"] == {"role": "assistant", "content": None}
