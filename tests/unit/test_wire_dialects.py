"""Every dialect: a stream and the whole answer say the same, and a request states its size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench import wire
from workbench.errors import NoAnswerError, NotFoundError, UnavailableError
from workbench.types import Event, Usage
from workbench.wire.output_items import PIECES

RESPOND = wire.dialect("respond")
TEXTS = st.text(max_size=12)


def part(kind: str, text: str) -> dict:
    more = {"annotations": [{"type": "url_citation", "url": "u"}], "logprobs": []}
    return {"type": kind, "text": text, **(more if kind == "output_text" else {})}


def message(*parts: dict, **more) -> dict:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [*parts],
    } | more


def response(*items, status="completed", **more) -> dict:
    return {
        "id": "resp_1",
        "object": "response",
        "status": status,
        "error": None,
        "incomplete_details": None,
        "model": "m",
        "output": [*items],
        "usage": {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5},
    } | more


MESSAGES = st.builds(
    lambda texts, refusal: message(
        *(part("output_text", text) for text in texts), *({"type": "refusal", "refusal": r} for r in refusal)
    ),
    st.lists(TEXTS, max_size=3),
    st.lists(TEXTS, max_size=1),
)
CALLS = st.builds(
    lambda name, arguments, id_: {
        "type": "function_call",
        "id": id_,
        "call_id": f"call_{id_}",
        "name": name,
        "arguments": arguments,
        "status": "completed",
    },
    TEXTS,
    TEXTS,
    TEXTS,
)
REASONING = st.builds(
    lambda summary, texts: {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [part("summary_text", text) for text in summary],
        "content": [part("reasoning_text", text) for text in texts],
    },
    st.lists(TEXTS, max_size=2),
    st.lists(TEXTS, max_size=2),
)
OTHERS = st.fixed_dictionaries({"type": st.sampled_from(["web_search_call", "mcp_call", "new"]), "id": TEXTS})
RESPONSES = st.builds(
    lambda items, status: response(*items, status=status),
    st.lists(MESSAGES | CALLS | REASONING | OTHERS, max_size=4),
    st.sampled_from(["completed", "incomplete"]),
)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


def events(chunks) -> list[Event]:
    return [Event(data=data) for data in chunks]


def split(chunks: list, pieces: list[int]) -> list:
    """The same stream with every delta cut into texts of these lengths, in turn."""
    found = []
    for data in chunks:
        if not data["type"].endswith(".delta"):
            found.append(data)
            continue
        text, n = data["delta"], 0
        while text or not n:
            size = pieces[(len(found) + n) % len(pieces)]
            found.append({**data, "delta": text[:size]})
            text, n = text[size:], n + 1
    return found


@given(RESPONSES)
def test_a_response_split_into_events_folds_to_itself(answer):
    found = events(RESPOND.unfold(answer))
    assert RESPOND.fold(found) == answer
    assert RESPOND.is_complete(found)
    assert [event.data["sequence_number"] for event in found] == list(range(len(found)))
    assert all(RESPOND.is_chunk(event.data) for event in found) and not RESPOND.is_chunk(answer)


@given(st.dictionaries(TEXTS, JSON_VALUES), JSON_VALUES)
def test_a_response_of_any_form_folds_to_itself(answer, output):
    answer = {**answer, "output": output}
    assert RESPOND.fold(events(RESPOND.unfold(answer))) == answer


@given(RESPONSES, st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_every_split_of_a_stream_has_the_same_text_and_the_same_fold(answer, pieces):
    whole = RESPOND.unfold(answer)
    parts = split(whole, pieces)
    assert RESPOND.fold(events(parts)) == answer
    assert "".join(map(RESPOND.piece_of, parts)) == RESPOND.text_of(answer)


@given(RESPONSES, st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_an_output_that_the_last_event_leaves_out_comes_from_the_events_before_it(answer, pieces):
    *before, last = split(RESPOND.unfold(answer), pieces)
    bare = {**last, "response": {**answer, "output": []}}
    assert RESPOND.fold(events([*before, bare])) == answer
    cut = RESPOND.fold(events(before))
    assert cut["output"] == answer["output"] and cut["status"] == "in_progress"
    assert not RESPOND.is_complete(events(before))


@given(RESPONSES, st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_deltas_alone_are_the_texts(answer, pieces):
    def is_end(data):
        return data["type"].endswith(".done") or data["type"] == "response.completed"

    found = RESPOND.fold(events(d for d in split(RESPOND.unfold(answer), pieces) if not is_end(d)))
    assert RESPOND.text_of(found) == RESPOND.text_of(answer)
    arguments = [[item.get("arguments") for item in each["output"]] for each in (found, answer)]
    assert arguments[0] == arguments[1]


CHAT = wire.dialect("chat")


@given(st.lists(TEXTS, min_size=1, max_size=3), st.none() | st.just({"prompt_tokens": 3}))
def test_a_chat_answer_of_several_choices_folds_to_itself(texts, usage):
    choices = [
        {"index": n, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        for n, text in enumerate(texts)
    ]
    answer = {"id": "c", "object": "chat.completion", "choices": choices}
    answer |= {"usage": usage} if usage else {}
    assert CHAT.fold(events(CHAT.unfold(answer))) == answer
    assert CHAT.is_complete(events(CHAT.unfold(answer)))


def test_every_piece_of_text_has_its_event_in_an_unfolded_response():
    items = [
        message(part("output_text", "a"), {"type": "refusal", "refusal": "b"}),
        {
            "type": "reasoning",
            "summary": [part("summary_text", "c")],
            "content": [part("reasoning_text", "d")],
        },
        *(
            {"type": piece.of, piece.text: "e", "id": name}
            for name, piece in PIECES.items()
            if piece.parts is None
        ),
    ]
    kinds = {data["type"] for data in RESPOND.unfold(response(*items))}
    assert {f"response.{name}.delta" for name in PIECES} < kinds


def test_a_stream_without_an_event_is_an_error_in_every_dialect():
    for each in wire.DIALECTS.values():
        with pytest.raises(UnavailableError, match="event"):
            each.fold([])


def test_usage_is_read_of_a_response_and_of_the_event_that_carries_it():
    usage = {
        "input_tokens": 30,
        "input_tokens_details": {"cached_tokens": 20},
        "output_tokens": 9.0,
        "output_tokens_details": {"reasoning_tokens": 4},
    }
    wanted = Usage(input_tokens=30, output_tokens=9, cached_tokens=20, reasoning_tokens=4)
    answer = response(message(part("output_text", "a")), usage=usage)
    first, *_, last = RESPOND.unfold(answer)
    assert RESPOND.usage_of(answer) == RESPOND.usage_of(last) == wanted
    assert RESPOND.states_usage(answer) and RESPOND.states_usage(last) and not RESPOND.states_usage(first)


@pytest.mark.parametrize(
    "usage",
    [
        None,
        [],
        {},
        {"input_tokens": -1},
        {"input_tokens": "3", "output_tokens": True},
        {"input_tokens": 2**60},
    ],
)
def test_a_count_that_is_none_is_unknown(usage):
    assert RESPOND.usage_of(response(usage=usage)) == Usage()


CALL = {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "c"}


def cut(reason: str | None) -> dict:
    return response(status="incomplete", incomplete_details={"reason": reason})


@pytest.mark.parametrize(
    ("answer", "reason", "finish"),
    [
        (response(message(part("output_text", "a"))), "", "completed"),
        (response(message({"type": "refusal", "refusal": "no"})), "refusal", "completed"),
        (response(CALL), "tool_call", "completed"),
        (response({"type": "reasoning", "summary": []}), "empty", "completed"),
        (cut("max_output_tokens"), "truncated", "max_output_tokens"),
        (cut("content_filter"), "filtered", "content_filter"),
        (cut(None), "truncated", "incomplete"),
    ],
)  # fmt: skip
def test_a_reason_says_what_a_response_lacks(answer, reason, finish):
    assert RESPOND.reason_of(answer) == reason
    assert RESPOND.finish_of(answer) == finish
    if not reason:
        assert RESPOND.check_text(answer) == ""
    elif reason == "tool_call":
        assert RESPOND.check_text(answer) == reason
        with pytest.raises(NoAnswerError):
            RESPOND.check_text(answer, calls=False)
    else:
        with pytest.raises(NoAnswerError) as caught:
            RESPOND.check_text(answer)
        assert caught.value.reason == reason


def test_a_truncated_response_says_which_limit_to_raise():
    with pytest.raises(NoAnswerError) as caught:
        RESPOND.check_text(response(status="incomplete"))
    assert "max_output_tokens" in caught.value.hint
    assert RESPOND.check_text(response(message(part("output_text", "a")), status="incomplete")) == "truncated"


def size(operation: str, payload: dict) -> tuple:
    speaks = wire.dialect(operation)
    texts = "|".join(speaks.input_texts(payload))
    return texts, speaks.input_messages(payload), speaks.max_output_tokens(payload)


def test_a_request_states_its_texts_its_messages_and_its_limit():
    image = {"type": "image_url", "image_url": {"url": "data:x"}}
    turns = [{"role": "user", "content": [{"type": "text", "text": "a"}, image]}]
    assert size("chat", {"messages": turns, "max_tokens": 5}) == ("user|text|a|image_url|data:x", 1, 5)
    assert size("chat", {"messages": turns, "max_completion_tokens": 5, "n": 3})[2] == 15
    assert size("chat", {"messages": turns, "tools": [{"a": 1}]})[0].endswith('|[{"a":1}]')
    assert size("chat", {"messages": turns})[2] is None
    asked = {"input": "a", "instructions": "b", "max_output_tokens": 7}
    assert size("respond", asked) == ("b|a", 2, 7)
    assert size("respond", {"input": turns, "text": {"format": 1}})[0].endswith('|{"format":1}')
    assert size("embed", {"input": ["a", "b"]}) == ("a|b", 2, 0)
    assert size("embed", {"input": [[1, 2], [3]]}) == ("   ", 2, 0)
    assert size("embed", {"input": [1, 2]}) == ("  ", 1, 0)
    assert size("moderate", {"input": ["a", "b"]}) == ("a|b", 2, 0)
    assert size("moderate", {"input": [{"type": "text", "text": "a"}]}) == ("text|a", 1, 0)
    assert size("count", {"messages": turns})[2] == 0 and size("count", {"input": "a"}) == ("a", 1, 0)


def test_an_operation_is_found_by_its_name_or_by_that_of_its_port():
    assert wire.dialect("model.respond") is wire.dialect("respond") is RESPOND
    assert (RESPOND.path, CHAT.path) == ("/responses", "/chat/completions")
    assert [each.operation for each in wire.DIALECTS.values() if each.generates] == ["chat", "respond"]
    with pytest.raises(NotFoundError, match="'responds'"):
        wire.dialect("responds")
