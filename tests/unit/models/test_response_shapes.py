"""Responses as servers really send them: read, repaired, or refused with an error of ours."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_readers import ERRORS, responded

from workbench import wire
from workbench.errors import NoAnswerError, RateLimitedError, RefusedError, UnavailableError, WorkbenchError
from workbench.models.response_format import read_response
from workbench.types import Event

RESPOND = wire.dialect("respond")
USAGE = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
SPOKEN = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [
    {"type": "output_text", "text": "Grüße 😀", "annotations": [], "logprobs": []}
]}  # fmt: skip
CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": '{"a":1}'}
WHOLE = {"id": "resp_1", "object": "response", "status": "completed", "model": "m", "output": [SPOKEN, CALL]}
WHOLE |= {"usage": USAGE}


def named(*events, end="\n\n", escape=False) -> bytes:
    """The body of a stream of typed events: mappings, and texts that stand as they are."""
    body = ""
    for event in events:
        if isinstance(event, str):
            body += event
        else:
            data = json.dumps(event, ensure_ascii=escape)
            body += f"event: {event.get('type')}{end[0] if len(end) == 2 else end[:2]}data: {data}{end}"
    return body.encode()


def folded(*pieces: bytes) -> dict:
    return RESPOND.fold([Event(data=data) for data in responded(*pieces)])


def whole(answer) -> dict:
    return read_response(answer if isinstance(answer, bytes) else json.dumps(answer).encode(), ERRORS)


OPENAI = RESPOND.unfold(WHOLE)


def test_a_well_formed_response_is_unchanged():
    assert whole(WHOLE) == WHOLE
    assert responded(named(*OPENAI)) == OPENAI


@pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n"])
@pytest.mark.parametrize("escape", [False, True])
@given(st.lists(st.integers(0, 4000), max_size=6))
def test_a_stream_cut_anywhere_is_the_same_stream(end, escape, cuts):
    body = named(": keep-alive\n\n", *OPENAI, end=end, escape=escape)
    places = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    assert responded(*(body[a:b] for a, b in itertools.pairwise(places))) == OPENAI


def test_a_stream_needs_no_done_and_may_have_one():
    assert folded(named(*OPENAI)) == folded(named(*OPENAI, "data: [DONE]\n\n")) == WHOLE


def test_what_comes_after_the_last_event_is_not_read():
    late = {"type": "response.output_text.delta", "delta": "late"}
    assert responded(named(*OPENAI, late, "data: {broken\n\n")) == OPENAI


def test_keep_alives_of_every_kind_are_no_events():
    odd = [": OPENROUTER PROCESSING\n\n", {"type": "keepalive", "sequence_number": 3}, "data: {}\n\n"]
    first, *others = OPENAI
    assert folded(named(odd[0], first, *odd, *others)) == WHOLE


def bare(event: dict, *names: str) -> dict:
    return {name: value for name, value in event.items() if name not in names}


def test_llama_cpp_leaves_out_numbers_and_indices():
    """It names the item alone in its deltas, and numbers nothing."""
    events = [bare(e, "sequence_number", "output_index", "content_index", "logprobs") for e in OPENAI]
    found = responded(named(*events))
    assert RESPOND.fold([Event(data=data) for data in found]) == WHOLE
    assert [data["sequence_number"] for data in found] == list(range(len(found)))
    deltas = [data for data in found if data["type"].endswith(".delta")]
    assert [(data["output_index"], data.get("content_index")) for data in deltas] == [(0, 0), (1, None)]


@pytest.mark.parametrize("output", [[], None])
def test_vllm_ends_its_stream_without_the_output(output):
    """Early versions sent the items before the last event only."""
    *before, last = OPENAI
    ended = {**last, "response": {**WHOLE, "output": output}}
    assert responded(named(*before, ended))[-1]["response"] == WHOLE


def test_vllm_states_null_for_what_it_does_not_know():
    item = {
        **SPOKEN,
        "status": None,
        "content": [{**SPOKEN["content"][0], "logprobs": None, "annotations": None}],
    }
    answer = {**WHOLE, "output": [item], "usage": {**USAGE, "input_tokens_details": None}}
    assert RESPOND.text_of(whole(answer)) == "Grüße 😀"
    assert RESPOND.usage_of(whole(answer)).input_tokens == 3
    assert RESPOND.text_of(folded(named(*RESPOND.unfold(answer)))) == "Grüße 😀"


def test_lm_studio_sends_only_deltas_and_the_last_event():
    deltas = [e for e in OPENAI if e["type"].endswith((".delta", "created", "completed"))]
    assert folded(named(*deltas)) == WHOLE
    *before, last = deltas
    spoken = folded(named(*before, {**last, "response": bare(WHOLE, "output")}))
    assert RESPOND.text_of(spoken) == "Grüße 😀"
    assert spoken["output"][1]["arguments"] == CALL["arguments"]


def test_a_router_calls_the_last_event_response_done():
    *before, last = OPENAI
    found = responded(named(*before, {**last, "type": "response.done"}, "data: [DONE]\n\n"))
    assert found == OPENAI
    short = {"type": "response.done", "response": {**WHOLE, "status": "incomplete"}}
    assert responded(named(*before, short))[-1]["type"] == "response.incomplete"


def test_a_stream_answered_with_a_whole_response_is_its_events():
    """As the whole JSON in answer to a chat stream: a body without one event, and one as a single event."""
    pretty = json.dumps(WHOLE, indent=2).encode()
    assert folded(pretty) == folded(json.dumps(WHOLE).encode()) == folded(named(WHOLE)) == WHOLE
    assert len(responded(pretty)) == len(OPENAI)


def test_texts_of_other_shapes_become_texts():
    loose = {"role": "assistant", "content": "a"}
    parts = {"type": "message", "content": [{"type": "text", "text": "b"}, {"text": "c"}, "d"]}
    call = {**CALL, "arguments": {"a": 1}}
    answer = whole({"output": [loose, None, parts, call]})
    assert RESPOND.text_of(answer) == "abcd"
    assert answer["status"] == "completed"
    assert json.loads(answer["output"][2]["arguments"]) == {"a": 1}
    assert RESPOND.text_of(whole({"output": [loose], "incomplete_details": {"reason": "x"}})) == "a"


def test_a_tool_call_streamed_as_a_mapping_is_its_json():
    done = {"type": "response.function_call_arguments.done", "item_id": "fc_1", "arguments": {"a": 1}}
    begin, end = {"type": "response.output_item.added", "item": {**CALL, "arguments": ""}}, OPENAI[-1]
    spoken = folded(named(begin, done, {**end, "response": {"status": "completed"}}))
    assert json.loads(spoken["output"][0]["arguments"]) == {"a": 1}


@given(st.permutations(["0a", "0b", "1a", "1b", "2a"]))
def test_calls_streamed_at_once_keep_their_own_arguments(order):
    calls = [{**CALL, "id": f"fc_{n}", "call_id": f"call_{n}"} for n in range(3)]
    begun = [{"type": "response.output_item.added", "item": {**call, "arguments": ""}} for call in calls]
    deltas = [
        {"type": "response.function_call_arguments.delta", "item_id": f"fc_{n}", "delta": text}
        for n, text in order
    ]
    spoken = folded(named(*begun, *deltas, {**OPENAI[-1], "response": {"status": "completed"}}))
    wanted = ["".join(text for n, text in order if n == str(number)) for number in range(3)]
    assert [item["arguments"] for item in spoken["output"]] == wanted
    assert [item["call_id"] for item in spoken["output"]] == [call["call_id"] for call in calls]


def test_annotations_are_those_of_the_events_or_of_the_whole_part():
    def noted(n):
        place = {"output_index": 0, "content_index": 0, "annotation": {"n": n}}
        return {"type": "response.output_text.annotation.added", **place}

    def part(verb, **more):
        place = {"output_index": 0, "content_index": 0, "part": {"type": "output_text", "text": "a", **more}}
        return {"type": f"response.content_part.{verb}", **place}

    end = {"type": "response.completed", "response": {"status": "completed", "output": []}}

    def found(*events):
        (item,) = folded(named(*events, end))["output"]
        return item["content"][0]["annotations"]

    assert found(noted(1), noted(2)) == [{"n": 1}, {"n": 2}]
    assert found(part("added", annotations=[]), noted(1), part("done")) == [{"n": 1}]
    assert found(noted(1), part("done", annotations=[{"n": 1}])) == [{"n": 1}]
    assert found(part("added", annotations=1e308), noted(1)) == [{"n": 1}]
    assert len(found(*map(noted, range(20_000)))) == 20_000


def test_halves_of_a_surrogate_pair_are_joined_over_deltas():
    half = '"type":"response.output_text.delta","item_id":"msg_1","delta":'
    deltas = [f'data: {{{half}"\\ud83d"}}\n\n', f'data: {{{half}"\\ude00!"}}\n\n']
    found = responded(named(*deltas, {**OPENAI[-1], "response": {"status": "completed"}}))
    assert "".join(map(RESPOND.piece_of, found)) == "😀!"
    alone = responded(named(deltas[0], {**OPENAI[-1], "response": {"status": "completed"}}))
    json.dumps(alone, ensure_ascii=False).encode()  # no half is left


def failed(error, **more) -> dict:
    return {"type": "response.failed", "response": {"status": "failed", "error": error, "output": []}, **more}


DIED = "the engine died"
FAILURES = [
    (failed({"code": "server_error", "message": DIED}), UnavailableError),
    (failed({"code": "rate_limit_exceeded", "message": DIED}), RateLimitedError),
    (failed({"code": "invalid_prompt", "message": DIED}), RefusedError),
    ({"type": "error", "code": "server_error", "message": DIED, "param": None}, UnavailableError),
    ({"type": "error", "error": {"code": "rate_limit_exceeded", "message": DIED}}, RateLimitedError),
    ({"error": {"message": DIED, "code": 500}}, UnavailableError),
    ({"object": "error", "message": DIED, "code": 400}, RefusedError),
]  # fmt: skip


@pytest.mark.parametrize(("event", "kind"), FAILURES)
@pytest.mark.parametrize("begun", [0, 1, 5])
def test_an_error_inside_a_stream_is_raised(event, kind, begun):
    with pytest.raises(kind, match=DIED):
        responded(named(*OPENAI[:begun], event, *OPENAI[begun:]))


def test_an_error_event_is_known_by_its_name():
    with pytest.raises(UnavailableError, match=DIED):
        responded(named(OPENAI[0], 'event: error\ndata: {"message":"the engine died"}\n\n'))


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_response_that_failed_is_no_answer(status):
    with pytest.raises(UnavailableError, match=status):
        whole({**WHOLE, "status": status})
    with pytest.raises(UnavailableError, match=DIED):
        whole({**WHOLE, "status": status, "error": {"message": DIED}})
    with pytest.raises(UnavailableError):
        responded(named(*OPENAI[:-1], {"type": f"response.{status}"}))


@pytest.mark.parametrize("n", range(len(OPENAI)))
@pytest.mark.parametrize("done", ["", "data: [DONE]\n\n"])
def test_a_stream_without_its_last_event_is_no_answer(n, done):
    with pytest.raises((UnavailableError, NoAnswerError)) as caught:
        responded(named(*OPENAI[:n], done))
    assert caught.value.status == 200
    if n:
        assert isinstance(caught.value, UnavailableError), "asked again"


def test_an_event_cut_in_the_middle_is_no_answer():
    body = named(*OPENAI)
    with pytest.raises(UnavailableError):
        responded(body[: len(body) - 40])


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"<html>Bad gateway</html>", "malformed"),
        (b'{"choices": []}', "malformed"),
        (b'{"output": []}', "no_choices"),
        (b'{"output": "text"}', "malformed"),
        (b'{"output": [1]}', "malformed"),
        (b'{"output": [{"type": "message", "content": 7}]}', "malformed"),
        (b'{"output": [{}], "status": 7}', "malformed"),
        (b"[]", "malformed"),
    ],
)
def test_a_body_that_is_no_response_is_refused_with_a_reason(body, reason):
    with pytest.raises(NoAnswerError) as caught:
        whole(body)
    assert caught.value.reason == reason


@pytest.mark.parametrize("body", [b"", b'{"output": [{"type"', b"{"])
def test_a_body_that_is_cut_off_may_be_asked_again(body):
    with pytest.raises(UnavailableError):
        whole(body)


@pytest.mark.parametrize(
    "body",
    [
        b"<html>Bad gateway</html>",
        b'data: {"object": "chat.completion.chunk", "choices": []}\n\n',
        b'data: {"type": "response.output_text.delta", "delta": 7}\n\n',
        b'data: {"type": "response.completed"}\n\n',
        b'data: {"type": "response.completed", "response": {"output": []}}\n\n',
        b"data: [DONE]\n\n",
    ],
)
def test_a_stream_of_something_else_is_refused_with_a_reason(body):
    with pytest.raises(NoAnswerError):
        responded(body)


def test_a_truncated_response_may_be_without_output():
    cut = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}, "output": []}
    assert RESPOND.reason_of(whole(cut)) == "truncated"
    found = responded(named(OPENAI[0], {"type": "response.incomplete", "response": cut}))
    assert RESPOND.finish_of(RESPOND.fold([Event(data=data) for data in found])) == "max_output_tokens"


NAMES = (
    "type", "output", "status", "response", "item", "content", "text", "delta", "error", "part",
    "output_index", "item_id", "arguments", "role", "sequence_number", "content_index", "summary",
    "annotation",
)  # fmt: skip
KINDS = sorted({e["type"] for e in OPENAI} | {"message", "output_text", "function_call", "response.done"})
SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(KINDS)
ODD = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5)
        | st.fixed_dictionaries(
            {"type": st.sampled_from(KINDS), "item": inner, "part": inner, "response": inner}
        )
        | st.fixed_dictionaries({"type": st.sampled_from(KINDS), "delta": inner, "output": inner})
    ),
    max_leaves=12,
)


@given(ODD, st.integers(0, len(OPENAI)))
def test_whatever_comes_is_read_or_is_an_error_of_ours(value, n):
    bodies = named(*OPENAI[:n], f"data: {json.dumps(value)}\n\n", *OPENAI[n:]), json.dumps(value).encode()
    for body in bodies:
        try:
            found = [Event(data=data) for data in responded(body)]
        except WorkbenchError:
            continue
        assert RESPOND.is_complete(found)
        read_every_field(RESPOND.fold(found))
    try:
        answer = whole(value)
    except WorkbenchError:
        return
    read_every_field(answer)


def read_every_field(answer: dict) -> None:
    assert isinstance(RESPOND.text_of(answer), str) and isinstance(RESPOND.reason_of(answer), str)
    assert RESPOND.usage_of(answer) is not None and isinstance(RESPOND.finish_of(answer), str)
