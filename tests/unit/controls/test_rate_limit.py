"""Turns at an endpoint: who waits, how long, who is refused, and that nothing is kept by a call that left."""

import asyncio
import random
import threading
import time
from contextlib import aclosing, suppress
from dataclasses import replace

import pytest
from calls import chat, limited_card, read

from workbench.controls.rate_limit import RateLimit
from workbench.controls.retry import Retry, RetryPolicy
from workbench.controls.stack import fold
from workbench.endpoints.fair_queue import FairQueue
from workbench.endpoints.rates import EndpointLimits, Rates
from workbench.errors import DeadlineError, OverloadedError, RateLimitedError, UnavailableError
from workbench.testing.fakes import FakeClock
from workbench.types import Event

USAGE = {"prompt_tokens": 30, "completion_tokens": 10, "total_tokens": 40}


class Endpoint:
    """An endpoint that answers after some seconds or when it is let go, and what it saw."""

    def __init__(self, seconds=0.0, *, fails=()):
        self.seconds, self.fails, self.held = seconds, list(fails), None
        self.asked, self.most, self.now = [], 0, 0

    async def __call__(self, call):
        self.asked.append((call.context.tenant, call.context.clock.monotonic()))
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            if self.fails:
                raise self.fails.pop(0)
            for n in range(3 if call.payload.get("stream") else 1):
                await (self.held.wait() if self.held else asyncio.sleep(self.seconds))
                yield Event(data={"n": n, "usage": USAGE})
        finally:
            self.now -= 1


def limited(tmp_path, leaf, *, retry=None, **limits):
    control = RateLimit(lambda _target: limited_card(**limits), tmp_path / "endpoints")
    controls = {"rate_limit": control, **({"retry": Retry(retry)} if retry else {})}
    return fold(controls, leaf), control


def of(tenant, **more):
    call = chat(**more)
    return replace(call, context=replace(call.context, tenant=tenant))


def the_queue(control):
    (queue,) = control.queues.values()
    return queue


def test_requests_are_spread_and_the_wait_is_told_apart_from_the_endpoints_time(tmp_path):
    clock, leaf = FakeClock(), Endpoint()
    handler, control = limited(tmp_path, leaf, retry=RetryPolicy(), requests_per_minute=60)

    async def several():
        calls = [of("acme", clock=clock) for _ in range(6)]
        for call in calls:
            await read(handler, call)
        return calls

    calls = asyncio.run(several())
    gap = the_queue(control).rates.gap_s
    assert [round(at, 6) for _, at in leaf.asked] == [0, 0, 0, *(round(gap * n, 6) for n in (1, 2, 3))]
    assert [call.span.attempts[0].get("queued_s", 0) > 0 for call in calls] == [False] * 3 + [True] * 3


def test_an_endpoint_without_limits_is_passed_by(tmp_path):
    handler, control = limited(tmp_path, Endpoint())
    assert not control.applies(chat())
    assert asyncio.run(read(handler, chat())) and not control.queues and not (tmp_path / "endpoints").exists()


def test_no_more_calls_are_in_flight_than_the_card_says_and_streams_count_until_they_are_closed(tmp_path):
    leaf = Endpoint(0.003)
    handler, control = limited(tmp_path, leaf, concurrent=3)

    async def several():
        await asyncio.gather(*(read(handler, chat(stream=n % 2 == 0)) for n in range(30)))

    asyncio.run(several())
    assert len(leaf.asked) == 30 and leaf.most == 3
    assert the_queue(control).in_flight == the_queue(control).waiting == 0


def test_workspaces_of_a_process_share_the_places_of_an_endpoint(tmp_path):
    leaf = Endpoint(0.003)
    (first, one), (second, two) = (limited(tmp_path, leaf, concurrent=3) for _ in range(2))

    async def several():
        calls = [(first, of("acme")), (second, of("globex"))] * 15
        await asyncio.gather(*(read(handler, call) for handler, call in calls))

    asyncio.run(several())
    assert len(leaf.asked) == 30 and leaf.most == 3
    assert the_queue(one) is the_queue(two)
    other, apart = limited(tmp_path / "another", leaf, concurrent=3)
    asyncio.run(read(other, chat()))
    assert the_queue(apart) is not the_queue(one)


def test_a_stream_that_its_reader_leaves_makes_room(tmp_path):
    handler, control = limited(tmp_path, Endpoint(), concurrent=1)

    async def leave():
        async with aclosing(handler(chat(stream=True))) as events:
            await anext(events)
            assert the_queue(control).in_flight == 1
        assert the_queue(control).in_flight == 0
        return await asyncio.wait_for(read(handler, chat()), 5)

    assert asyncio.run(leave())


def test_a_cancelled_call_leaves_the_queue_at_once_and_the_next_one_takes_its_place(tmp_path):
    leaf = Endpoint()
    handler, control = limited(tmp_path, leaf, concurrent=1)

    async def several():
        leaf.held = asyncio.Event()
        first, left, last = (asyncio.create_task(read(handler, chat())) for _ in range(3))
        await asyncio.sleep(0.005)
        assert the_queue(control).waiting == 2
        left.cancel()
        with suppress(asyncio.CancelledError):
            await left
        assert the_queue(control).waiting == 1
        leaf.held.set()
        await asyncio.gather(first, last)

    asyncio.run(several())
    assert len(leaf.asked) == 2 and the_queue(control).in_flight == the_queue(control).waiting == 0


def test_however_calls_are_cancelled_no_place_is_lost(tmp_path):
    handler, control = limited(tmp_path, Endpoint(0.001), concurrent=2, requests_per_minute=100_000)

    async def several():
        tasks = [asyncio.create_task(read(handler, of(f"t{n % 3}", stream=n % 2 == 0))) for n in range(200)]
        for n, task in enumerate(tasks):
            if n % 3 == 0:
                await asyncio.sleep(0.0002)
            if n % 2:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(several())
    assert the_queue(control).in_flight == the_queue(control).waiting == 0


def test_a_turn_after_the_deadline_is_refused_before_anything_is_waited_for(tmp_path):
    clock, leaf = FakeClock(), Endpoint()
    handler, _ = limited(tmp_path, leaf, requests_per_minute=6)
    asyncio.run(read(handler, chat(clock=clock)))
    with pytest.raises(OverloadedError, match=r"10\.0 s, and 4\.0 s are left") as caught:
        asyncio.run(read(handler, chat(clock=clock, deadline=4.0)))
    assert caught.value.retry_after_s == 10.0 and not caught.value.retryable
    assert clock.slept == [] and len(leaf.asked) == 1


def test_a_wait_that_turns_out_too_long_ends_at_the_deadline_as_overload_and_not_as_the_endpoints(tmp_path):
    leaf = Endpoint(60)
    handler, control = limited(tmp_path, leaf, retry=RetryPolicy(deadline_s=0.1), concurrent=1)

    async def several():
        first = asyncio.create_task(read(handler, chat(deadline=time.monotonic() + 90)))
        await asyncio.sleep(0.01)
        with pytest.raises(OverloadedError) as caught:
            await read(handler, chat())
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        return caught.value

    error = asyncio.run(several())
    assert error.retry_after_s and len(leaf.asked) == 1
    assert the_queue(control).in_flight == the_queue(control).waiting == 0


def test_a_timeout_begins_when_the_endpoint_is_asked(tmp_path):
    leaf = Endpoint(0.1)
    handler, _ = limited(tmp_path, leaf, retry=RetryPolicy(attempts=1, timeout_s=0.45), concurrent=1)

    async def several():
        return await asyncio.gather(*(read(handler, chat()) for _ in range(7)))

    assert len(asyncio.run(several())) == 7, "the last one waited 0.6 s for its turn"


def test_an_endpoint_that_is_silent_after_the_wait_still_times_out(tmp_path):
    silent, _ = limited(tmp_path, Endpoint(60), retry=RetryPolicy(attempts=1, timeout_s=0.05), concurrent=1)
    with pytest.raises(UnavailableError, match="sent no answer"):
        asyncio.run(read(silent, chat()))

    async def several():
        return await asyncio.gather(*(read(silent, chat()) for _ in range(2)), return_exceptions=True)

    ends = asyncio.run(several())
    assert [type(end) for end in ends] == [UnavailableError] * 2
    deadline = RetryPolicy(attempts=1, timeout_s=50.0, deadline_s=0.05)
    late, _ = limited(tmp_path, Endpoint(60), retry=deadline, concurrent=1)
    with pytest.raises(DeadlineError):
        asyncio.run(read(late, chat()))


def test_a_429_that_says_when_pauses_the_queue_for_everyone(tmp_path):
    clock = FakeClock()
    leaf = Endpoint(fails=[RateLimitedError("429", retry_after_s=17)])
    handler, _ = limited(tmp_path, leaf, concurrent=8)

    async def several():
        with pytest.raises(RateLimitedError):
            await read(handler, of("acme", clock=clock))
        await read(handler, of("globex", clock=clock))

    asyncio.run(several())
    assert leaf.asked == [("acme", 0), ("globex", 17)]


def test_the_queue_of_a_budget_pauses_no_endpoint(tmp_path):
    clock = FakeClock()
    leaf = Endpoint(fails=[OverloadedError("the budget is held by others", retry_after_s=17)])
    handler, _ = limited(tmp_path, leaf, concurrent=8)
    with pytest.raises(OverloadedError):
        asyncio.run(read(handler, of("acme", clock=clock)))
    asyncio.run(read(handler, of("globex", clock=clock)))
    assert leaf.asked == [("acme", 0), ("globex", 0)]


def test_each_tenant_has_a_bounded_queue_of_its_own(tmp_path):
    leaf = Endpoint()
    handler, control = limited(tmp_path, leaf, concurrent=1)

    async def several():
        leaf.held = asyncio.Event()
        tasks = [asyncio.create_task(read(handler, of("acme"))) for _ in range(4)]
        await asyncio.sleep(0.005)
        the_queue(control).most = 3
        with pytest.raises(OverloadedError, match="3 calls of this tenant"):
            await read(handler, of("acme"))
        tasks.append(asyncio.create_task(read(handler, of("globex"))))
        await asyncio.sleep(0)
        leaf.held.set()
        return await asyncio.gather(*tasks)

    assert len(asyncio.run(several())) == 5


def test_tokens_are_reserved_at_their_upper_bound_and_corrected_by_the_usage(tmp_path):
    clock, leaf = FakeClock(), Endpoint()
    handler, control = limited(tmp_path, leaf, tokens_per_minute=600)

    async def several():
        for _ in range(14):
            await read(handler, chat(clock=clock, max_tokens=500))

    asyncio.run(several())
    # 40 of about 550 reserved tokens are used: the bucket of 600 has room for one reservation again at once
    # after 14 answers of 40 tokens only because the rest came back; it fills by 10 tokens a second.
    assert the_queue(control).rates.token_s == 0.1
    assert 40 < clock.monotonic() < 60


def test_tokens_of_an_answer_that_never_began_come_back(tmp_path):
    clock = FakeClock()
    leaf = Endpoint(fails=[UnavailableError("down")] * 5)
    handler, _ = limited(tmp_path, leaf, tokens_per_minute=600)
    for _ in range(5):
        with pytest.raises(UnavailableError):
            asyncio.run(read(handler, chat(clock=clock, max_tokens=500)))
    asyncio.run(read(handler, chat(clock=clock, max_tokens=500)))
    assert clock.monotonic() == 0


def test_calls_on_several_loops_share_the_places(tmp_path):
    leaf = Endpoint(0.005)
    handler, control = limited(tmp_path, leaf, concurrent=2)

    async def several():
        await asyncio.gather(*(read(handler, chat()) for _ in range(10)))

    threads = [threading.Thread(target=asyncio.run, args=(several(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(leaf.asked) == 40
    assert the_queue(control).in_flight == the_queue(control).waiting == 0


def test_thousands_of_waiting_calls_of_as_many_tenants_take_no_time_and_leave_nothing():
    limits = EndpointLimits(url="u", model="m", concurrent=1, tokens_per_minute=10**9)
    queue = FairQueue(limits, Rates(limits))
    began = time.process_time()
    tickets = [queue.enter(f"t{n}", 1, 0.0) for n in range(5_000)]
    waits = [queue.wait_s(ticket, 0.0) for ticket in tickets[1:]]
    assert time.process_time() - began < 2.0  # it grew with the square of the calls: 20 s
    assert waits == sorted(waits) and queue.waiting == 4_999
    for ticket in random.Random(1).sample(tickets, len(tickets)):
        queue.leave(ticket, 0.0)
    assert (queue.waiting, queue.in_flight, queue._line, queue._waiting_tokens) == (0, 0, [], 0)
    for n in range(5_000):
        queue.release(queue.enter(f"u{n}", 1, 1.0), 1.0, used=1, seconds=0.1)
    assert len(queue._finish) <= 2_001
