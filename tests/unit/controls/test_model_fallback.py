"""The candidates of a model call: which failures fall back, what each is asked, and what an answer says."""

import asyncio
import random
from collections import Counter
from dataclasses import replace

import pytest
from calls import FORMAT, Bench, ask, chat, finish, read, text

from workbench import errors, wire
from workbench.controls.fallback import TRIGGERS, Fallback, retargeted, trigger_of
from workbench.controls.retry import Retry, RetryPolicy
from workbench.controls.stack import around, fold
from workbench.errors import (
    BudgetExceededError,
    CircuitOpenError,
    ConfigError,
    DeadlineError,
    InvalidOutputError,
    LimitExceededError,
    ModerationError,
    NoAnswerError,
    OverloadedError,
    PolicyError,
    PrivacyError,
    RateLimitedError,
    RefusedError,
    ReplayMissError,
    UnauthenticatedError,
    UnavailableError,
    WorkbenchError,
)
from workbench.ports import ModelCandidate
from workbench.testing.fakes import FakeClock, FakeModel
from workbench.types import STATED, Event

B = ModelCandidate(
    target="b@1", model="wire-b", identity={"weights": "b"}, defaults={"temperature": 0.5, "seed": 7}
)
C = ModelCandidate(target="c@2", model="wire-c", identity={"weights": "c"})
SORRY = ModelCandidate(target=STATED, answer="We will come back to you.")


class Several:
    """Models by target; `asked` holds each call that reached one."""

    def __init__(self, **models):
        self.models = {name.replace("_", "@"): model for name, model in models.items()}
        self.asked = []

    def __call__(self, call):
        self.asked.append(call)
        return self.models[call.target].chat(call.payload)

    @property
    def targets(self):
        return [call.target for call in self.asked]


def away(*_):
    return UnavailableError("away")


def asking(*fallbacks, **more):
    return replace(chat(**more), fallbacks=fallbacks)


def test_the_first_model_that_can_answer_is_the_only_one_asked():
    models, call = Several(small=FakeModel(["one"]), b_1=FakeModel()), asking(B)
    assert text(ask(around(Fallback(), models), call)) == "one"
    assert models.targets == ["small"] and not call.span.facts


def test_a_fallback_is_asked_with_its_own_card_and_what_the_caller_set():
    models = Several(small=FakeModel(away), b_1=FakeModel(["two"]))
    call = replace(asking(B, temperature=0.1, top_p=0.9), defaulted=frozenset({"temperature"}))
    assert text(ask(around(Fallback(), models), call)) == "two"
    asked = models.asked[1]
    assert (asked.target, asked.identity, asked.fallbacks) == ("b@1", {"weights": "b"}, ())
    assert {name: asked.payload.get(name) for name in ("model", "temperature", "top_p", "seed")} == {
        "model": "wire-b", "temperature": 0.5, "top_p": 0.9, "seed": 7,
    }  # fmt: skip
    assert asked.payload["messages"] == call.payload["messages"]
    assert call.span.facts == {"fallback": "b@1", "fallback_reason": "unavailable"}


def test_what_the_caller_set_to_the_value_of_the_default_stays():
    call = asking(B, temperature=0.1)
    assert retargeted(call, B).payload["temperature"] == 0.1


def test_only_a_recorded_model_is_recorded():
    call = replace(asking(B), labels={"prompt": "p@1", "recorded": False})
    assert retargeted(call, B).labels == {"prompt": "p@1"}
    assert retargeted(call, replace(B, recorded=False)).labels == {"prompt": "p@1", "recorded": False}


def test_candidates_are_asked_in_order_and_the_reason_is_that_of_the_first():
    models = Several(
        small=FakeModel(lambda _: RateLimitedError("slow down")),
        b_1=FakeModel(away),
        c_2=FakeModel(["three"]),
    )
    call = asking(B, C)
    assert text(ask(around(Fallback(), models), call)) == "three"
    assert models.targets == ["small", "b@1", "c@2"]
    assert call.span.facts == {"fallback": "c@2", "fallback_reason": "rate_limited"}


FALLS = {
    "circuit_open": CircuitOpenError("open"),
    "overloaded": OverloadedError("full"),
    "rate_limited": RateLimitedError("slow"),
    "deadline": DeadlineError("late"),
    "unavailable": UnavailableError("away"),
    "invalid_output": InvalidOutputError("wrong"),
    "no_answer": NoAnswerError("none", reason="malformed"),
    "policy": PolicyError("no"),
    "privacy": PrivacyError("no"),
    "budget": BudgetExceededError("too dear"),
    "not_recorded": ReplayMissError("not there"),
}
STAYS = {
    "a limit of the run": LimitExceededError("enough"),
    "a refusal of the endpoint": RefusedError("bad request", status=400),
    "a key that is not valid": UnauthenticatedError("no"),
    "a content filter": RefusedError("no", status=400, body={"error": {"code": "content_filter"}}),
    "a check of the text": ModerationError("no"),
    "a missing key": ConfigError("no key"),
    "a refusal by the model": NoAnswerError("no", reason="refusal"),
    "an answer that was cut": NoAnswerError("cut", reason="truncated"),
}


def test_every_trigger_has_an_example():
    assert {trigger.name for trigger in TRIGGERS} == set(FALLS)


@pytest.mark.parametrize("name", FALLS)
def test_what_is_the_fault_of_one_model_falls_back(name):
    models, call = Several(small=FakeModel(lambda _: FALLS[name]), b_1=FakeModel(["two"])), asking(B)
    assert trigger_of(FALLS[name]) == name
    assert text(ask(around(Fallback(), models), call)) == "two"
    assert call.span.facts["fallback_reason"] == name


@pytest.mark.parametrize("name", STAYS)
def test_what_another_model_would_not_change_is_raised(name):
    models, call = Several(small=FakeModel(lambda _: STAYS[name]), b_1=FakeModel()), asking(B, SORRY)
    with pytest.raises(type(STAYS[name])):
        ask(around(Fallback(), models), call)
    assert models.targets == ["small"]


def test_every_error_of_the_package_is_decided_by_an_example():
    kinds = {
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, WorkbenchError)
    }
    decided = {type(error) for error in (*FALLS.values(), *STAYS.values())}
    local = {
        "WorkbenchError",
        "CorruptError",
        "NotFoundError",
        "GateFailedError",
        "NotebookError",
        "RunStoppedError",
    }
    assert {kind.__name__ for kind in kinds - decided} == local
    assert all(not trigger_of(vars(errors)[name]("x")) for name in local)


def test_a_cancelled_call_asks_nobody_else():
    async def cancelled(call):
        raise asyncio.CancelledError
        yield

    with pytest.raises(asyncio.CancelledError):
        ask(around(Fallback(), cancelled), asking(SORRY))


def test_a_stream_that_breaks_after_its_first_event_is_not_answered_twice():
    asked = []

    async def torn(call):
        asked.append(call.target)
        yield Event(data={"choices": []})
        raise UnavailableError("gone")

    call = asking(B, SORRY, stream=True)
    with pytest.raises(UnavailableError, match="gone"):
        ask(around(Fallback(), torn), call)
    assert asked == ["small"] and not call.span.facts


def test_a_stream_falls_back_before_its_first_event():
    models = Several(small=FakeModel(away), b_1=FakeModel(["two words"]))
    events = ask(around(Fallback(), models), asking(B, stream=True))
    assert wire.text_of(wire.fold([Event(data=data) for data in events])) == "two words"


def test_when_nobody_answers_the_failure_that_may_pass_is_raised_and_names_the_others():
    models = Several(
        small=FakeModel(lambda _: InvalidOutputError("wrong")), b_1=FakeModel(away), c_2=FakeModel(away)
    )
    with pytest.raises(UnavailableError) as caught:
        ask(around(Fallback(), models), asking(B, C))
    assert caught.value.message == "away"
    assert caught.value.__notes__ == ["small: InvalidOutputError: wrong", "c@2: UnavailableError: away"]


def test_a_fallback_without_a_key_is_passed_over_and_one_that_refuses_the_text_ends_the_call():
    def refuse(_):
        return RefusedError("not this text", status=400)

    models = Several(
        small=FakeModel(away), b_1=FakeModel(lambda _: ConfigError("no key")), c_2=FakeModel(refuse)
    )
    with pytest.raises(RefusedError, match="not this text"):
        ask(around(Fallback(), models), asking(B, C, SORRY))
    assert models.targets == ["small", "b@1", "c@2"]


# -- time -----------------------------------------------------------------------------------------


class Hanging:
    """Models that use up all the time of their attempt, except those in `answers`."""

    def __init__(self, *answers):
        self.answers, self.shares = answers, {}

    async def __call__(self, call):
        clock = call.context.clock
        self.shares[call.target] = call.deadline - clock.monotonic()
        if call.target not in self.answers:
            clock.advance(self.shares[call.target])
            raise DeadlineError(f"{call.target} is late")
        yield Event(data={"choices": [{"message": {"content": call.target}}]})


@pytest.mark.parametrize(
    ("fallbacks", "answers", "shares"),
    [
        ((B,), ("b@1",), {"small": 30, "b@1": 30}),
        ((B, C), ("c@2",), {"small": 20, "b@1": 20, "c@2": 20}),
        ((SORRY,), (), {"small": 59}),
        ((B, SORRY), (), {"small": 29.5, "b@1": 29.5}),
    ],
)
def test_a_model_that_hangs_leaves_time_for_the_others(fallbacks, answers, shares):
    clock, models = FakeClock(), Hanging(*answers)
    call = asking(*fallbacks, clock=clock, deadline=60.0)
    said = text(ask(around(Fallback(), models), call))
    assert said == (answers[0] if answers else SORRY.answer)
    assert models.shares == shares and clock.monotonic() < 60


def test_a_model_that_fails_at_once_leaves_its_time_to_the_next():
    clock, seen = FakeClock(), []

    async def failing(call):
        seen.append(call.deadline)
        raise UnavailableError("away")
        yield

    with pytest.raises(UnavailableError):
        ask(around(Fallback(seconds=10), failing), asking(B, clock=clock))
    assert seen == [5, 10]


def test_the_attempts_of_all_candidates_count_from_the_first_one():
    clock, call = FakeClock(), asking(B)
    call = replace(call, context=replace(call.context, clock=clock))
    models = Several(small=FakeModel(away), b_1=FakeModel(["two"]))
    policy = RetryPolicy(attempts=2, first_s=4.0, longest_s=4.0)
    handler = fold({"fallback": Fallback(), "retry": Retry(policy, rng=random.Random(7))}, models)
    assert text(ask(handler, call)) == "two"
    started = [attempt["started_s"] for attempt in call.span.attempts]
    assert started[0] == 0 < started[1] <= started[2]


def test_nobody_is_asked_after_the_deadline():
    clock, asked = FakeClock(), []

    async def slow(call):
        asked.append(call.target)
        clock.advance(100)
        raise UnavailableError("away")
        yield

    with pytest.raises(UnavailableError):
        ask(around(Fallback(), slow), asking(B, clock=clock, deadline=60.0))
    assert asked == ["small"]


# -- stated answers -------------------------------------------------------------------------------


def test_a_stated_answer_is_an_answer_of_the_wire_format_that_says_what_it_is():
    call = asking(B, SORRY)
    (answer,) = ask(around(Fallback(), Several(small=FakeModel(away), b_1=FakeModel(away))), call)
    assert wire.text_of(answer) == SORRY.answer and wire.check_text(answer) == ""
    assert answer["model"] == STATED and answer["workbench"]["fallback_reason"] == "unavailable"
    assert wire.usage_of(answer).total_tokens == 0
    assert call.span.facts["fallback"] == STATED and call.span.facts["source"] == "stated"


def test_a_stated_answer_is_streamed_as_chunks():
    events = ask(around(Fallback(), Several(small=FakeModel(away))), asking(SORRY, stream=True))
    assert all(wire.is_chunk(event) for event in events)
    assert wire.text_of(wire.fold([Event(data=data) for data in events])) == SORRY.answer


@pytest.mark.parametrize("stream", [False, True])
def test_a_stated_answer_speaks_the_dialect_of_its_call(stream):
    call = replace(
        asking(SORRY), operation="respond", payload={"model": "small", "input": "?", "stream": stream}
    )

    async def failing(_call):
        raise UnavailableError("away")
        yield

    events = ask(around(Fallback(), failing), call)
    answer = wire.dialect("respond").fold([Event(data=data) for data in events])
    assert wire.dialect("respond").check_text(answer) == ""
    assert wire.dialect("respond").text_of(answer) == SORRY.answer and answer["model"] == STATED


def test_defaults_of_another_dialect_are_not_sent():
    call = replace(asking(B), operation="respond", payload={"model": "small", "input": "?"})
    assert retargeted(call, B).payload == {"model": "wire-b", "input": "?"}
    spoken = replace(B, operation="respond")
    assert retargeted(call, spoken).payload == {
        "model": "wire-b",
        "input": "?",
        "temperature": 0.5,
        "seed": 7,
    }


def test_a_request_of_json_gets_a_stated_answer_only_if_it_is_json():
    models = Several(small=FakeModel(away))
    said = replace(SORRY, answer='{"answer":"no"}')
    assert text(ask(around(Fallback(), models), asking(said, response_format=FORMAT))) == said.answer
    with pytest.raises(UnavailableError):
        ask(around(Fallback(), models), asking(SORRY, response_format=FORMAT))


def test_where_stated_answers_are_not_given_the_failure_is_raised():
    with pytest.raises(UnavailableError):
        ask(around(Fallback(stated=False), Several(small=FakeModel(away))), asking(SORRY))


# -- in the whole stack ---------------------------------------------------------------------------


def stacked(bench: Bench, models: Several, mode: str = "auto"):
    controls = bench.controls(mode)
    return fold(controls, models), controls["replay"]


def test_one_record_says_who_answered_why_and_what_all_of_it_cost(bench):
    models = Several(small=FakeModel(["bad", "worse"]), b_1=FakeModel(['{"answer": "yes"}']))
    handler, _ = stacked(bench, models)
    call = asking(B, response_format=FORMAT, clock=bench.clock)
    assert text(ask(handler, call)) == '{"answer": "yes"}'
    (record,) = bench.records
    assert (record["outcome"], record["target"]) == ("ok", "small")
    assert (record["fallback"], record["fallback_reason"]) == ("b@1", "invalid_output")
    assert [attempt["candidate"] for attempt in record["attempts"]] == ["small", "small", "b@1"]
    used = [len(str(m["content"]).split()) for asked in models.asked for m in asked.payload["messages"]]
    assert record["input_tokens"] == sum(used)
    assert record["output_tokens"] == 1 + 1 + 2
    assert record["cost_usd"] == pytest.approx((sum(used) + 4) / 1000)
    assert record["replayed"] is False and record["repaired"] is False


def test_a_first_answer_says_no_fallback(bench):
    handler, _ = stacked(bench, Several(small=FakeModel()))
    ask(handler, asking(B, clock=bench.clock))
    assert (bench.records[0]["fallback"], bench.records[0]["fallback_reason"]) == (None, None)


def test_a_replay_gives_the_recorded_answer_of_the_fallback(bench):
    live, recorder = stacked(bench, Several(small=FakeModel(away), b_1=FakeModel(["two"])))
    assert text(ask(live, asking(B, clock=bench.clock))) == "two"
    assert finish(recorder)
    silent = Several()
    handler, _ = stacked(bench, silent, "replay")
    call = asking(B, clock=bench.clock)
    assert text(ask(handler, call)) == "two"
    assert not silent.asked
    assert (call.span.facts["fallback"], call.span.facts["fallback_reason"]) == ("b@1", "not_recorded")
    assert bench.records[1]["replayed"] is True and bench.records[1]["source"] == "tape"


def test_without_any_recording_the_first_miss_is_raised_and_nothing_is_stated(bench):
    handler, _ = stacked(bench, Several(), "replay")
    with pytest.raises(ReplayMissError) as caught:
        ask(handler, asking(B, SORRY, clock=bench.clock))
    assert "small" in caught.value.message
    assert caught.value.__notes__[0].startswith("b@1: ReplayMissError")


def test_in_mode_auto_a_first_model_without_a_recording_is_asked_again(bench):
    live, _ = stacked(bench, Several(small=FakeModel(away), b_1=FakeModel(["two"])))
    ask(live, asking(B, clock=bench.clock))
    back = Several(small=FakeModel(["one"]), b_1=FakeModel())
    handler, _ = stacked(bench, back)
    assert text(ask(handler, asking(B, clock=bench.clock))) == "one"


def test_a_stated_answer_is_never_recorded_and_costs_nothing(bench):
    handler, recorder = stacked(bench, Several(small=FakeModel(away)))
    assert text(ask(handler, asking(SORRY, clock=bench.clock))) == SORRY.answer
    assert not recorder._used and not bench.journal.read_bytes()
    assert bench.records[0]["cost_usd"] == 0 and bench.records[0]["source"] == "stated"


def test_many_calls_over_a_bad_first_model_are_all_answered_in_time(bench):
    """30 % fail and 5 % hang, with a clock that only the controls move."""
    counted: Counter[str] = Counter()

    async def model(call):
        number = sum(counted.values())
        counted[call.target] += 1
        if call.target == "small" and number % 20 == 0:
            call.context.clock.advance(call.deadline - call.context.clock.monotonic())
            raise DeadlineError("late")
        if call.target == "small" and number % 10 in {1, 2, 3}:
            raise UnavailableError("away")
        yield Event(data={"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}], "usage": {}})

    handler = fold({k: v for k, v in bench.controls("live").items() if k != "observe"}, model)
    late = 0
    for number in range(400):
        clock = FakeClock()
        events = asyncio.run(read(handler, asking(B, clock=clock, deadline=20.0, seed=number)))
        late += not events or clock.monotonic() > 20
    assert late == 0 and counted["b@1"] > 10
