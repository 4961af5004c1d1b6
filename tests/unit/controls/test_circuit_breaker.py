"""The breaker of an endpoint: what opens it, what does not, and that one probe closes it."""

import asyncio
import dataclasses
import threading
from contextlib import aclosing

import pytest
from calls import ask, chat, limited_card, read

from workbench.controls.circuit_breaker import CircuitBreaker
from workbench.controls.retry import Retry, RetryPolicy
from workbench.controls.stack import fold
from workbench.endpoints.circuit import Breaker, BreakerPolicy
from workbench.endpoints.states import read_states
from workbench.errors import (
    BudgetExceededError,
    CircuitOpenError,
    NoAnswerError,
    RateLimitedError,
    RefusedError,
    UnavailableError,
)
from workbench.testing.fakes import FakeClock
from workbench.types import Event

POLICY = BreakerPolicy(calls=4, open_s=10.0, longest_s=30.0)


class Answers:
    """An endpoint that follows a script of errors, and answers after it."""

    def __init__(self, *script):
        self.script, self.asked = list(script), 0

    async def __call__(self, call):
        self.asked += 1
        error = self.script.pop(0) if self.script else None
        if isinstance(error, Exception):
            raise error
        yield Event(data={})


def broken(tmp_path, leaf, *, policy=POLICY, card=None, retry=None):
    control = CircuitBreaker(lambda _target: card or limited_card(), tmp_path / "endpoints", policy=policy)
    return fold({"circuit_breaker": control, **({"retry": Retry(retry)} if retry else {})}, leaf), control


def ends(handler, n, clock):
    """What each of n calls ended with: an exception or None."""

    async def several():
        return await asyncio.gather(
            *(read(handler, chat(clock=clock)) for _ in range(n)), return_exceptions=True
        )

    return [end if isinstance(end, BaseException) else None for end in asyncio.run(several())]


def test_workspaces_of_a_process_share_the_breaker_of_an_endpoint(tmp_path):
    clock, leaf = FakeClock(), Answers(*[UnavailableError("down")] * 4)
    (first, _), (second, _) = broken(tmp_path, leaf), broken(tmp_path, leaf)
    assert [type(end) for end in ends(first, 2, clock) + ends(second, 2, clock)] == [UnavailableError] * 4
    assert [type(end) for end in ends(first, 1, clock) + ends(second, 1, clock)] == [CircuitOpenError] * 2
    assert leaf.asked == 4


def opened(tmp_path, clock, leaf=None):
    leaf = leaf or Answers(*[UnavailableError("down", status=503)] * 4)
    handler, control = broken(tmp_path, leaf)
    ends(handler, 4, clock)
    (breaker,) = control.breakers.values()
    assert breaker.state == "open"
    return handler, leaf, breaker


def test_after_too_many_failures_the_endpoint_is_not_asked_and_the_error_says_all(tmp_path):
    clock = FakeClock()
    handler, leaf, _ = opened(tmp_path, clock)
    clock.advance(4)
    with pytest.raises(CircuitOpenError) as caught:
        ask(handler, chat(clock=clock))
    error = caught.value
    assert leaf.asked == 4 and error.retry_after_s == 6.0 and not error.retryable
    for told in ("2025-01-01T00:00:00", "4 of 4", "503", "6.0 s", "api.openai.com"):
        assert told in error.message
    assert "workbench doctor" in error.hint


def test_a_share_of_failures_below_the_limit_opens_nothing(tmp_path):
    clock = FakeClock()
    leaf = Answers(*[UnavailableError("down"), None, None] * 10)
    handler, control = broken(tmp_path, leaf, policy=BreakerPolicy(calls=10))
    ends(handler, 30, clock)
    assert [breaker.state for breaker in control.breakers.values()] == ["closed"] and leaf.asked == 30


def test_failures_that_lie_back_do_not_count(tmp_path):
    clock = FakeClock()
    handler, control = broken(tmp_path, Answers(*[UnavailableError("down")] * 20))
    for _ in range(20):
        ends(handler, 1, clock)
        clock.advance(11)
    (breaker,) = control.breakers.values()
    assert breaker.state == "closed", "never four within 30 s"


@pytest.mark.parametrize(
    "error",
    [
        RateLimitedError("429"), RefusedError("no", status=400), BudgetExceededError("no money"),
        NoAnswerError("html", status=200, reason="malformed", hint="h"), KeyError("bug"),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_what_is_no_failure_of_the_endpoint_opens_nothing(tmp_path, error):
    leaf = Answers(*[error] * 20)
    handler, control = broken(tmp_path, leaf)
    assert [type(end) for end in ends(handler, 20, FakeClock())] == [type(error)] * 20
    assert [breaker.state for breaker in control.breakers.values()] == ["closed"] and leaf.asked == 20


async def hang(_call):
    await asyncio.sleep(60)
    yield Event(data={})


def test_a_call_that_its_caller_cancels_or_gives_little_time_opens_nothing(tmp_path):
    handler, control = broken(tmp_path, hang, retry=RetryPolicy(attempts=1, deadline_s=0.01))

    async def several():
        tasks = [asyncio.create_task(read(handler, chat())) for _ in range(10)]
        tasks += [asyncio.create_task(read(handler, chat(deadline=1e12))) for _ in range(10)]
        await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(several())
    assert [breaker.state for breaker in control.breakers.values()] == ["closed"]


def test_silence_until_a_timeout_is_a_failure(tmp_path, monkeypatch):
    monkeypatch.setattr("workbench.controls.circuit_breaker._SILENCE_S", 0.02)
    handler, control = broken(tmp_path, hang, retry=RetryPolicy(attempts=1, timeout_s=0.03))

    async def several():
        await asyncio.gather(*(read(handler, chat()) for _ in range(4)), return_exceptions=True)

    asyncio.run(several())
    (breaker,) = control.breakers.values()
    assert breaker.state == "open" and "silence" in breaker.last.reason


def test_a_stream_that_breaks_off_is_a_failure(tmp_path):
    async def cut(_call):
        yield Event(data={})
        raise UnavailableError("cut off", status=200)

    handler, control = broken(tmp_path, cut)
    ends(handler, 4, FakeClock())
    assert [breaker.state for breaker in control.breakers.values()] == ["open"]


def test_a_probe_that_is_answered_closes_the_breaker(tmp_path):
    clock = FakeClock()
    handler, leaf, breaker = opened(tmp_path, clock)
    clock.advance(10)
    assert ends(handler, 3, clock).count(None) >= 1 and breaker.state == "closed"
    assert ends(handler, 5, clock) == [None] * 5 and leaf.asked >= 10


def test_a_probe_that_fails_opens_it_for_twice_as_long_up_to_the_longest(tmp_path):
    clock = FakeClock()
    handler, leaf, breaker = opened(tmp_path, clock, Answers(*[UnavailableError("down")] * 100))
    for waits in (10, 20, 30, 30):
        clock.advance(waits - 0.1)
        assert [type(end) for end in ends(handler, 2, clock)] == [CircuitOpenError] * 2
        clock.advance(0.1)
        before = leaf.asked
        assert type(ends(handler, 1, clock)[0]) is UnavailableError
        assert leaf.asked == before + 1 and breaker.state == "open"


def test_one_probe_is_let_through_over_threads(tmp_path):
    breaker = Breaker("x", POLICY)
    clock = FakeClock()
    for _ in range(4):
        breaker.record(0.0, "503", probe=False, now_is=clock.now)
    start, let, refused = threading.Barrier(16), [], []

    def enter():
        start.wait()
        try:
            let.append(breaker.admit(10.0))
        except CircuitOpenError as error:
            refused.append(error.message)

    threads = [threading.Thread(target=enter) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert let == [True] and len(refused) == 15 and all("probe" in message for message in refused)


def test_a_probe_that_is_cancelled_or_refused_makes_room_for_the_next(tmp_path):
    clock = FakeClock()
    leaf = Answers(*[UnavailableError("down")] * 4, RateLimitedError("429"))
    handler, leaf, breaker = opened(tmp_path, clock, leaf)
    clock.advance(10)
    assert type(ends(handler, 1, clock)[0]) is RateLimitedError and breaker.state == "half-open"
    assert ends(handler, 1, clock) == [None] and breaker.state == "closed"


def test_a_probe_that_hangs_makes_room_for_the_next_after_the_time_of_an_open_breaker():
    clock, breaker = FakeClock(), Breaker("e", BreakerPolicy(calls=1, open_s=10.0))
    breaker.record(0.0, "503", probe=False, now_is=clock.now)
    assert breaker.admit(10.0), "the probe, which hangs"
    with pytest.raises(CircuitOpenError, match=r"for 1\.0 s at most") as caught:
        breaker.admit(19.0)
    assert caught.value.retry_after_s == 1.0
    assert breaker.admit(20.0), "another probe"
    breaker.record(21.0, "", probe=True, now_is=clock.now)
    assert breaker.state == "closed"
    breaker.record(30.0, "10 s of silence", probe=True, now_is=clock.now)
    assert breaker.state == "closed", "the hanging one ends too late to say anything"


def test_a_call_that_pauses_between_attempts_keeps_no_probe(tmp_path):
    clock = FakeClock()
    leaf = Answers(*[UnavailableError("down")] * 4)
    handler, control = broken(tmp_path, leaf)
    ends(handler, 4, clock)
    (breaker,) = control.breakers.values()
    clock.advance(10)
    states = []

    class Watched(FakeClock):
        async def sleep(self, seconds):
            states.append(breaker.admit(clock.monotonic()))
            await super().sleep(seconds)

    leaf.script = [RateLimitedError("429", retry_after_s=1)]
    paused = Watched()
    paused.advance(clock.monotonic())
    retrying = fold({"circuit_breaker": control, "retry": Retry()}, leaf)
    with pytest.raises(CircuitOpenError):
        ask(retrying, chat(clock=paused))
    assert states == [True], "the probe was free during the pause, and another call took it"


def test_a_long_stream_that_is_the_probe_closes_the_breaker_with_its_first_event(tmp_path):
    clock = FakeClock()
    handler, _, breaker = opened(tmp_path, clock)
    clock.advance(10)

    async def begin():
        async with aclosing(handler(chat(clock=clock, stream=True))) as events:
            await anext(events)
            return breaker.state

    assert asyncio.run(begin()) == "closed"


def test_embedded_models_have_no_breaker(tmp_path):
    card = dataclasses.replace(limited_card(), provider="local", base_url=None)
    handler, control = broken(tmp_path, Answers(*[UnavailableError("down")] * 20), card=card)
    assert {type(end) for end in ends(handler, 20, FakeClock())} == {UnavailableError}
    assert not control.breakers


def test_transitions_are_shown_to_other_processes(tmp_path):
    clock = FakeClock()
    handler, _, _ = opened(tmp_path, clock)
    (state,) = read_states(tmp_path / "endpoints")
    assert (state.state, state.model, state.url) == ("open", "small", "https://api.openai.com/v1")
    assert state.since == "2025-01-01T00:00:00+00:00" and state.probe_at == "2025-01-01T00:00:10+00:00"
    assert "4 of 4" in state.reason
    clock.advance(10)
    ends(handler, 1, clock)
    assert [state.state for state in read_states(tmp_path / "endpoints")] == ["closed"]
    (tmp_path / "endpoints" / "damaged.json").write_text("{")
    assert len(read_states(tmp_path / "endpoints")) == 1


def test_a_state_that_cannot_be_written_fails_no_call(tmp_path):
    (tmp_path / "endpoints").write_text("in the way")
    clock = FakeClock()
    handler, _, _ = opened(tmp_path, clock)
    clock.advance(10)
    assert ends(handler, 1, clock) == [None]
