"""The law of the tape, as far as one process sees it."""

import asyncio
import dataclasses
import gc
from contextlib import aclosing

import orjson
import pytest
from calls import ask, behind, chat, finish, read, text

from workbench.context import InvocationScope, invocation_scope
from workbench.controls.stack import around, fold
from workbench.errors import (
    ConfigError,
    DeadlineError,
    RateLimitedError,
    RefusedError,
    ReplayMissError,
    UnavailableError,
)
from workbench.records.tape import Tape
from workbench.testing.fakes import FakeModel
from workbench.types import Event


def never(_payload):
    raise AssertionError("the model was asked")


def only(replay, model):
    return fold({"replay": replay}, behind(model))


def recorded(bench, *calls, model=None):
    """Ask the calls, write the tape, and return the model that answered."""
    replay = bench.replay()
    model = model or FakeModel()
    for call in calls:
        ask(only(replay, model), call)
    finish(replay)
    return model


def test_auto_asks_once_then_answers_from_the_cache_then_from_the_tape(bench):
    replay, model = bench.replay(), FakeModel()
    first, second, third = chat(), chat(), chat()
    answers = [ask(only(replay, model), call) for call in (first, second)]
    assert finish(replay) is True and finish(replay) is False
    answers.append(ask(only(bench.replay("auto"), FakeModel(never)), third))
    assert answers[0] == answers[1] == answers[2]
    assert [call.span.facts["source"] for call in (first, second, third)] == ["model", "cache", "tape"]
    assert [call.span.facts["replayed"] for call in (first, second, third)] == [False, True, True]
    assert len({call.span.facts["key"] for call in (first, second, third)}) == 1
    assert len({call.span.facts["recorded_latency_s"] for call in (first, second, third)}) == 1
    assert len(model.calls) == 1


def test_a_request_that_the_endpoint_shall_keep_is_not_answered_from_the_journal(bench):
    ask(only(bench.replay(), FakeModel(["first"])), chat())
    refused = FakeModel([RefusedError("store is refused")])  # as the adapter of a stateless endpoint
    with pytest.raises(RefusedError, match="store"):
        ask(only(bench.replay(), refused), chat(store=True))
    assert text(ask(only(bench.replay(), FakeModel(["kept"])), chat(store=True))) == "kept"
    assert text(ask(only(bench.replay(), FakeModel(never)), chat(store=False))) == "kept"
    replay = bench.replay()
    ask(only(replay, FakeModel(never)), chat())
    finish(replay)
    again = chat(store=True)  # a stateful endpoint's recording still reproduces
    assert text(ask(only(bench.replay("replay"), FakeModel(never)), again)) == "kept"


def test_replay_touches_nothing_below_and_not_the_cache(bench):
    ask(only(bench.replay(), FakeModel()), chat())  # in the cache, not on the tape
    with pytest.raises(ReplayMissError, match=r"it has none of model\.chat"):
        ask(only(bench.replay("replay"), FakeModel(never)), chat())


def test_record_asks_again_and_the_new_answer_goes_onto_the_tape(bench):
    recorded(bench, chat(), model=FakeModel(["old"]))
    replay = bench.replay("record")
    assert text(ask(only(replay, FakeModel(["new"])), chat())) == "new"
    finish(replay)
    assert text(ask(only(bench.replay("replay"), FakeModel(never)), chat())) == "new"


def test_live_keeps_nothing(bench):
    replay, call = bench.replay("live"), chat()
    ask(only(replay, FakeModel()), call)
    assert call.span.facts["replayed"] is False and "recorded_latency_s" in call.span.facts
    assert not bench.journal.exists() and not replay._used


def test_the_tape_is_pruned_to_what_was_used_and_extended_by_what_was_asked(bench):
    recorded(bench, chat("one"), chat("two"))
    replay, model = bench.replay(), FakeModel()
    for question in ("two", "three"):
        ask(only(replay, model), chat(question))
    finish(replay)
    asked = {e.question.request["messages"][1]["content"] for e in Tape.read(bench.tape).entries()}
    assert asked == {"two", "three"} and len(model.calls) == 1
    assert set(replay._used) == {entry.key for entry in Tape.read(bench.tape).entries()}


def test_an_interrupted_run_s_answers_are_not_asked_again(bench):
    ask(only(bench.replay(), FakeModel()), chat())  # and no finish: the run was killed
    assert not bench.tape.exists()
    replay = bench.replay()
    ask(only(replay, FakeModel(never)), chat())
    finish(replay)
    ask(only(bench.replay("replay"), FakeModel(never)), chat())


def test_a_miss_after_one_changed_character_names_the_place_and_both_values(bench):
    before = "May I expense a taxi home after a late shift that ends at 22:00 on a weekday?"
    recorded(bench, chat("something else altogether"), chat(before))
    with pytest.raises(ReplayMissError) as caught:
        ask(only(bench.replay("replay"), FakeModel(never)), chat(before.replace("22", "23")))
    assert caught.value.path == "messages[1].content"
    message = str(caught.value)
    assert "first difference:  messages[1].content\n" in message
    assert "22:00 on a weekday?'" in message and "23:00 on a weekday?'" in message
    assert "May I expense" not in message and "something else" not in message
    assert "dvc repro" in message


def test_the_nearest_recording_is_one_of_the_same_case_first(bench):
    replay = bench.replay()
    for case, question in (("q1", "quite another text"), ("q2", "a taxi home?")):
        with invocation_scope(InvocationScope(case=case)):
            ask(only(replay, FakeModel()), chat(question))
    finish(replay)
    with invocation_scope(InvocationScope(case="q1")), pytest.raises(ReplayMissError) as caught:
        ask(only(bench.replay("replay"), FakeModel(never)), chat("a taxi home!"))
    assert "nearest recording" in str(caught.value) and "quite another text" in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "path"),
    [
        ({"temperature": 0.5}, "temperature"),
        ({"temperature": 0}, "temperature"),
        ({"tools": []}, "tools"),
        ({"stream": True}, "stream"),
        ({"identity": {"weights": "w2"}}, "identity.weights"),
    ],
)
def test_everything_that_can_change_an_answer_is_in_the_key(bench, changed, path):
    recorded(bench, chat(temperature=0.0))
    with pytest.raises(ReplayMissError) as caught:
        ask(only(bench.replay("replay"), FakeModel(never)), chat(**{"temperature": 0.0, **changed}))
    assert caught.value.path == path


def test_what_cannot_change_an_answer_is_neither_in_the_key_nor_on_the_tape(bench):
    recorded(bench, chat(user="cust-4711", metadata={"run": "1"}, store=True))
    ask(only(bench.replay("replay"), FakeModel(never)), chat(user="cust-4712"))
    assert b"cust-471" not in bench.tape.read_bytes() + bench.journal.read_bytes()


def test_identical_requests_in_one_case_are_numbered_and_repeats_are_their_own(bench):
    replay, model = bench.replay(), FakeModel(["a", "b", "c"])

    def twice(handler, repeat, times):
        with invocation_scope(InvocationScope(case="q1", repeat=repeat)):
            return [text(ask(handler, chat())) for _ in range(times)]

    assert twice(only(replay, model), 0, 2) + twice(only(replay, model), 1, 1) == ["a", "b", "c"]
    finish(replay)
    again = only(bench.replay("replay"), FakeModel(never))
    assert twice(again, 1, 1) + twice(again, 0, 2) == ["c", "a", "b"]
    with pytest.raises(ReplayMissError) as caught:
        twice(again, 1, 2)
    assert caught.value.path == "occurrence.n"


def test_a_stream_is_replayed_in_its_recorded_pieces(bench):
    call = chat("one two three", stream=True, stream_options={"include_usage": True})
    live = ask(only(bench.replay(), FakeModel()), call)
    assert len(live) > 3
    assert ask(only(bench.replay(), FakeModel(never)), call) == live


def test_a_stream_that_was_left_is_not_kept(bench):
    async def leave():
        async with aclosing(only(bench.replay(), FakeModel())(chat(stream=True))) as events:
            await anext(events)

    asyncio.run(leave())
    assert bench.journal.read_bytes() == b""


def test_a_stream_that_stops_without_a_reason_is_not_kept(bench):
    cut = {"choices": [{"index": 0, "delta": {"content": "half an"}}]}
    ask(only(bench.replay(), FakeModel([cut])), chat(stream=True))
    assert bench.journal.read_bytes() == b""


def test_what_a_reader_does_to_an_answer_is_not_recorded(bench):
    async def spoil(handler):
        async with aclosing(handler(chat(stream=True))) as events:
            async for event in events:
                event.data["choices"].clear()

    asyncio.run(spoil(only(bench.replay(), FakeModel())))
    again = ask(only(bench.replay(), FakeModel(never)), chat(stream=True))
    assert any(chunk["choices"] for chunk in again)


def test_a_deterministic_refusal_is_replayed_as_the_same_error(bench):
    refusal = RefusedError("too long", hint="shorten it", status=400, body={"error": {"code": "length"}})
    for model in (FakeModel([refusal]), FakeModel(never)):
        with pytest.raises(RefusedError, match="too long") as caught:
            ask(only(bench.replay(), model), chat())
        error = caught.value
        assert (error.hint, error.status, error.body) == (refusal.hint, refusal.status, refusal.body)


@pytest.mark.parametrize(
    "error",
    [RefusedError("no", status=status) for status in (401, 403, 404, 408, 429, 500)]
    + [RefusedError("over budget"), RateLimitedError("later"), UnavailableError("down", status=503)],
    ids=lambda error: f"{type(error).__name__}-{error.status}",
)
def test_what_may_be_answered_another_time_is_not_kept(bench, error):
    with pytest.raises(type(error)):
        ask(only(bench.replay(), FakeModel([error])), chat())
    assert text(ask(only(bench.replay(), FakeModel(["now"])), chat())) == "now"


SECRETS = [
    "sk-proj-abcdefghij0123456789",
    "AKIAABCDEFGHIJKLMNOP",
    "Authorization: Bearer abcdefghij0123456789",
    "-----BEGIN RSA PRIVATE KEY-----",
    "ghp_" + "a1" * 18,
]


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_is_refused_before_anybody_is_asked(bench, secret):
    with pytest.raises(ConfigError) as caught:
        ask(only(bench.replay(), FakeModel(never)), chat(f"what is {secret} for?"))
    assert "messages[1].content" in str(caught.value) and secret not in str(caught.value)


@pytest.mark.parametrize("stream", [False, True])
def test_a_secret_in_an_answer_is_not_kept(bench, stream):
    said = SECRETS[3]  # four words, so a stream has it in four pieces
    whole = {"choices": [{"index": 0, "message": {"content": said}, "finish_reason": "stop"}]}
    with pytest.raises(ConfigError, match=r"choices\[0\]\.message\.content" if stream else r"events\[0\]"):
        ask(only(bench.replay(), FakeModel([whole])), chat(stream=stream))
    assert bench.journal.read_bytes() == b""


def test_words_that_only_look_like_a_key_are_recorded(bench):
    ask(
        only(bench.replay(), FakeModel()), chat("risk-management, sk-learn-and-other-packages; Bearer shares")
    )


def test_a_request_that_is_not_json_says_so(bench):
    with pytest.raises(ConfigError, match="not JSON"):
        ask(only(bench.replay(), FakeModel(never)), chat(tools={1, 2}))


def test_identical_questions_at_once_are_asked_once(bench):
    model = FakeModel()
    handler = only(bench.replay(), model)

    async def crowd():
        return await asyncio.gather(*(read(handler, chat()) for _ in range(20)))

    answers = asyncio.run(crowd())
    assert len(model.calls) == 1 and all(answer == answers[0] for answer in answers)


def test_when_the_one_who_asks_is_cancelled_the_next_asks(bench):
    model = FakeModel()
    replay = bench.replay()
    handler = only(replay, model)

    async def crowd():
        tasks = [asyncio.create_task(read(handler, chat())) for _ in range(3)]
        while not model.calls:
            await asyncio.sleep(0)
        tasks[0].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, *others = asyncio.run(crowd())
    assert isinstance(first, asyncio.CancelledError) and others[0] == others[1]
    assert len(model.calls) == 2
    gc.collect()
    assert not replay._lanes


def test_who_waits_for_an_identical_question_waits_until_its_own_deadline(bench):
    began, goes = asyncio.Event(), asyncio.Event()

    async def slow(_call):
        began.set()
        await goes.wait()
        yield Event(data={"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}]})

    handler = around(bench.replay(), slow)

    async def crowd():
        first = asyncio.create_task(read(handler, chat()))
        await began.wait()
        hurried = chat()
        hurried = dataclasses.replace(hurried, deadline=hurried.context.clock.monotonic() + 0.05)
        with pytest.raises(DeadlineError, match="identical call"):
            await read(handler, hurried)
        goes.set()
        return await first

    assert asyncio.run(crowd())


def test_two_streams_of_one_question_read_in_turns_do_not_wait_for_each_other(bench):
    handler = only(bench.replay(), FakeModel())

    async def both():
        async with aclosing(handler(chat(stream=True))) as one, aclosing(handler(chat(stream=True))) as two:
            return await anext(one), await anext(two)

    asyncio.run(asyncio.wait_for(both(), 5))


def test_a_plain_reply_whose_reader_stops_after_its_one_event_is_kept(bench):
    async def first():
        async with aclosing(only(bench.replay("record"), FakeModel())(chat())) as events:
            await anext(events)

    asyncio.run(first())
    assert bench.journal.read_bytes().count(b"\n") == 1


def test_what_is_computed_in_this_process_passes_by(bench):
    call = chat(labels={"recorded": False})
    ask(only(bench.replay("replay"), FakeModel()), call)
    assert "replayed" not in call.span.facts


def test_a_tape_names_what_answered_and_how_long_it_took(bench):
    recorded(bench, chat(clock=bench.clock), model=FakeModel(lambda _: bench.clock.advance(1.25) or "yes"))
    (entry,) = Tape.read(bench.tape).entries()
    assert (entry.latency_s, entry.first_event_s, entry.target) == (1.25, 1.25, "small")
    assert entry.processor["machine"]
    assert orjson.loads(entry.line())["target"]["identity"] == {"weights": "w1"}
    assert entry.line().startswith(b'{"key":"' + entry.key.encode() + b'"')


def test_an_answer_deleted_under_a_run_is_not_left_out_of_the_tape_silently(bench):
    replay = bench.replay()
    ask(only(replay, FakeModel()), chat())
    bench.journal.unlink()
    with pytest.raises(UnavailableError, match=r"answers.jsonl"):
        finish(replay)
    assert not bench.tape.exists()


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), [0.5, float("-inf")], {"a": {"b": float("nan")}}]
)
def test_a_request_with_a_number_that_is_not_finite_is_refused_because_json_has_null_for_it(bench, value):
    with pytest.raises(ConfigError, match=r"request: temperature.* finite"):
        ask(only(bench.replay(), FakeModel(never)), chat(temperature=value))
