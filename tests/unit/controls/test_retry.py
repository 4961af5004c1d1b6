"""Attempts, pauses and the one deadline, on a clock that only moves when somebody sleeps."""

import asyncio
import dataclasses
import random

import pytest
from calls import ask, behind, chat

from workbench.controls.retry import Retry, RetryPolicy
from workbench.controls.stack import fold
from workbench.errors import DeadlineError, RateLimitedError, RefusedError, UnavailableError
from workbench.testing.fakes import FakeClock, FakeModel
from workbench.types import Event


class Highest(random.Random):
    """Jitter at its upper end, so that pauses are known."""

    def uniform(self, a, b):
        return b


def down(times):
    return [UnavailableError("down") for _ in range(times)]


def retrying(leaf, *, rng=None, **patience):
    return fold({"retry": Retry(RetryPolicy(**patience), rng=rng or Highest())}, leaf)


def test_it_tries_again_with_longer_pauses_until_answered():
    clock, model = FakeClock(), FakeModel(["yes"], fails=down(3))
    call = chat(clock=clock)
    ask(retrying(behind(model), first_s=1.0, longest_s=3.0), call)
    assert len(model.calls) == 4 and clock.slept == [1.0, 2.0, 3.0]
    assert [a["outcome"] for a in call.span.attempts] == ["failed", "failed", "failed", "ok"]
    assert [a["waited_s"] for a in call.span.attempts] == [0.0, 1.0, 2.0, 3.0]
    assert [a["started_s"] for a in call.span.attempts] == [0.0, 1.0, 3.0, 6.0]
    assert [a["error"] for a in call.span.attempts] == ["UnavailableError"] * 3 + [None]


def test_the_last_error_is_raised_as_it_is():
    clock, model = FakeClock(), FakeModel(fails=[*down(3), UnavailableError("the fourth", status=502)])
    with pytest.raises(UnavailableError, match="the fourth"):
        ask(retrying(behind(model)), chat(clock=clock))
    assert len(model.calls) == 4 and len(clock.slept) == 3


def test_pauses_are_spread_between_nothing_and_the_most():
    def pauses(seed):
        clock = FakeClock()
        with pytest.raises(UnavailableError):
            ask(retrying(behind(FakeModel(fails=down(4))), rng=random.Random(seed)), chat(clock=clock))
        return clock.slept

    many = [pauses(seed) for seed in range(50)]
    assert pauses(1) == pauses(1) != pauses(2)
    for n, most in enumerate((0.5, 1.0, 2.0)):
        column = [each[n] for each in many]
        assert 0 <= min(column) < 0.2 * most and 0.8 * most < max(column) <= most


def test_what_the_server_asks_for_is_waited_for():
    clock = FakeClock()
    ask(
        retrying(behind(FakeModel(["yes"], fails=[RateLimitedError("429", retry_after_s=17)]))),
        chat(clock=clock),
    )
    assert clock.slept == [17]


@pytest.mark.parametrize("error", [RefusedError("no", status=400), DeadlineError("late"), KeyError("bug")])
def test_what_waiting_cannot_help_is_not_tried_again(error):
    async def leaf(_call):
        asked.append(1)
        raise error
        yield

    asked, call = [], chat(clock=FakeClock())
    with pytest.raises(type(error)):
        ask(retrying(leaf), call)
    assert len(asked) == 1
    assert call.span.attempts[0]["outcome"] == ("refused" if isinstance(error, RefusedError) else "failed")


def test_a_stream_is_not_tried_again_once_it_has_begun():
    async def leaf(_call):
        asked.append(1)
        yield Event(data={"n": 1})
        raise UnavailableError("cut off")

    asked, came = [], []

    async def collect():
        async for event in retrying(leaf)(chat(stream=True)):
            came.append(event.data)

    with pytest.raises(UnavailableError, match="cut off"):
        asyncio.run(collect())
    assert len(asked) == len(came) == 1


def test_a_pause_stays_a_number_however_many_attempts_there_were():
    clock, model = FakeClock(), FakeModel(["yes"], fails=down(1_100))
    call = dataclasses.replace(chat(clock=clock, deadline=1e9), retries=1_100)
    ask(retrying(behind(model), longest_s=3.0), call)
    assert len(model.calls) == 1_101 and set(clock.slept[3:]) == {3.0}


def test_a_wait_beyond_the_deadline_is_not_begun():
    clock = FakeClock()
    model = FakeModel(fails=[RateLimitedError("429", retry_after_s=120)])
    with pytest.raises(DeadlineError, match=r"120\.0 s, and only 30\.0 s") as caught:
        ask(retrying(behind(model), deadline_s=30.0), chat(clock=clock))
    assert clock.slept == [] and isinstance(caught.value.__cause__, RateLimitedError)


def test_one_deadline_is_for_all_attempts_and_comes_with_the_call():
    clock, seen = FakeClock(), []

    async def leaf(call):
        seen.append(call.deadline)
        clock.advance(4)
        raise UnavailableError("down")
        yield

    with pytest.raises(DeadlineError):
        ask(retrying(leaf, first_s=1.0), chat(clock=clock, deadline=10.0))
    assert seen == [10.0, 10.0] and clock.monotonic() == 9.0


def test_without_time_left_nobody_is_asked():
    model = FakeModel()
    clock = FakeClock()
    clock.advance(11)
    with pytest.raises(DeadlineError, match="deadline passed before"):
        ask(retrying(behind(model)), chat(clock=clock, deadline=10.0))
    assert not model.calls


def stalling(closed, *, after=0):
    async def leaf(_call):
        try:
            for n in range(after):
                yield Event(data={"n": n})
            await asyncio.sleep(60)
        finally:
            closed.append(1)

    return leaf


def test_silence_is_an_attempt_that_failed():
    closed, call = [], chat()
    with pytest.raises(UnavailableError, match=r"sent no answer for 0\.01 s"):
        ask(retrying(stalling(closed), attempts=2, timeout_s=0.01, first_s=0.0), call)
    assert len(closed) == 2 and [a["error"] for a in call.span.attempts] == ["UnavailableError"] * 2


def test_a_stall_in_the_middle_of_a_stream_is_an_error_and_not_tried_again():
    closed, call = [], chat(stream=True)
    with pytest.raises(UnavailableError, match="in the middle"):
        ask(retrying(stalling(closed, after=2), timeout_s=0.01), call)
    assert len(closed) == 1 == len(call.span.attempts)


def test_the_deadline_ends_a_stalled_attempt():
    closed = []
    with pytest.raises(DeadlineError):
        ask(retrying(stalling(closed), timeout_s=5.0, deadline_s=0.02), chat())
    assert len(closed) == 1


def test_a_slow_reader_does_not_use_up_the_timeout():
    async def slowly():
        got = []
        async for event in retrying(behind(FakeModel()), timeout_s=0.01)(chat("a b c", stream=True)):
            got.append(event)
            await asyncio.sleep(0.012)
        return got

    assert len(asyncio.run(slowly())) > 3


def test_a_timeout_from_below_is_not_taken_for_its_own():
    async def leaf(_call):
        raise TimeoutError("from a library")
        yield

    with pytest.raises(TimeoutError, match="from a library"):
        ask(retrying(leaf), chat())


def test_a_cancelled_attempt_is_not_tried_again():
    async def cancel():
        closed, call = [], chat()
        task = asyncio.create_task(anext(retrying(stalling(closed))(call)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return closed, call.span.attempts

    closed, attempts = asyncio.run(cancel())
    assert len(closed) == 1 and [a["outcome"] for a in attempts] == ["cancelled"]
