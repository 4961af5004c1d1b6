"""Responses and moderations on the tape: recorded once, replayed as the same events, named by their key."""

from __future__ import annotations

import dataclasses

import pytest
from calls import ask, behind, chat, finish

from workbench import wire
from workbench.controls.stack import fold
from workbench.errors import ConfigError, ReplayMissError, UnavailableError
from workbench.records.journal import purge
from workbench.records.tape import Tape, compare_answers
from workbench.testing.fakes import FakeModel
from workbench.types import Event

RESPOND = wire.dialect("respond")


def respond(text="a taxi?", *, operation="respond", **payload):
    asked = {"model": "small", "input": text, **payload}
    return dataclasses.replace(chat(), operation=operation, payload=asked)


def never(_payload):
    raise AssertionError("the model was asked")


def recorded(bench, *calls, model=None) -> list:
    """The answers to these calls, which are on the tape afterwards."""
    replay = bench.replay()
    handler = fold({"replay": replay}, behind(model or FakeModel()))
    answers = [ask(handler, call) for call in calls]
    finish(replay)
    return answers


def replayed(bench, call) -> list:
    return ask(fold({"replay": bench.replay("replay")}, behind(FakeModel(never))), call)


@pytest.mark.parametrize("stream", [False, True])
def test_a_response_replays_as_the_same_events(bench, stream):
    (first,) = recorded(bench, respond(stream=stream))
    call = respond(stream=stream)
    assert replayed(bench, call) == first
    assert RESPOND.is_complete([Event(data=data) for data in first]) and (len(first) > 1) is stream
    assert call.span.facts["source"] == "tape" and call.span.facts["replayed"] is True


def test_a_moderation_replays(bench):
    (first,) = recorded(bench, respond(operation="moderate"), model=FakeModel(flagged=["taxi"]))
    assert replayed(bench, respond(operation="moderate")) == first
    assert first[0]["results"][0]["flagged"] is True


def test_an_operation_is_part_of_the_key_and_storing_is_not(bench):
    calls = [
        respond(),
        respond(store=False),
        respond(store=True),
        respond(operation="moderate"),
        respond("b"),
    ]
    recorded(bench, *calls)
    keys = [call.span.facts["key"] for call in calls]
    assert keys[0] == keys[1] == keys[2] and len(set(keys)) == 3
    with pytest.raises(ReplayMissError, match="no recording"):
        replayed(bench, respond("something else"))


class Broken(FakeModel):
    """A model whose stream ends before its last event."""

    async def respond(self, payload, *, timeout_s=None):
        for data in RESPOND.unfold({"id": "r", "status": "completed", "output": []})[:-1]:
            yield Event(data=data)
        if payload.get("fails"):
            raise UnavailableError("cut off")


@pytest.mark.parametrize("fails", [False, True])
def test_a_stream_without_its_last_event_is_not_recorded(bench, fails):
    call = respond(stream=True, fails=fails)
    replay = bench.replay()
    handler = fold({"replay": replay}, behind(Broken()))
    if fails:
        with pytest.raises(UnavailableError):
            ask(handler, call)
    else:
        ask(handler, call)
    finish(replay)
    assert not len(bench.replay()._tape)


def test_a_secret_that_is_split_over_deltas_is_not_recorded(bench):
    secret = "sk-" + "a1b2c3d4 e5f6g7h8 i9j0k1l2".replace(" ", "")
    whole = {"id": "r", "status": "completed", "output": [{"type": "message", "content": [
        {"type": "output_text", "text": secret}
    ]}]}  # fmt: skip

    class Telling(FakeModel):
        async def respond(self, payload, *, timeout_s=None):
            for data in RESPOND.unfold(whole):
                if data["type"].endswith(".delta"):
                    for letter in data["delta"]:
                        yield Event(data={**data, "delta": letter})
                elif data["type"] == "response.completed":
                    yield Event(data={**data, "response": {**whole, "output": []}})
                elif data["type"].endswith("added") or "response" in data:
                    yield Event(data=data)

    with pytest.raises(ConfigError, match="key or token"):
        ask(fold({"replay": bench.replay()}, behind(Telling())), respond(stream=True))


def test_an_answer_asked_again_is_compared_by_its_text_and_not_by_its_ids(bench):
    recorded(bench, respond(stream=True))
    (entry,) = Tape.read(bench.tape).entries()
    again, other = FakeModel(), FakeModel(lambda _payload: "by train")
    again.calls.append({})  # its ids are others
    handlers = [fold({}, behind(model)) for model in (again, other)]
    answers = [[Event(data=data) for data in ask(handler, respond())] for handler in handlers]
    assert compare_answers(entry, answers[0]) == []
    assert "text" in compare_answers(entry, answers[1])


def test_a_forgotten_text_is_purged_from_a_streamed_response(bench):
    recorded(bench, respond("the taxi of Ms Gordon", stream=True))
    assert purge(bench.journal, ["taxi of Ms"]) == 1


def test_the_record_of_a_streamed_response_has_its_tokens(bench):
    for stream in (False, True):
        ask(bench.handler(FakeModel()), respond("one two three", stream=stream))
    plain, streamed = bench.records
    assert (plain["input_tokens"], plain["output_tokens"]) == (3, 3)
    assert (streamed["input_tokens"], streamed["cached_tokens"]) == (3, 0)
    assert streamed["operation"] == "respond" and streamed["streamed"] is True
