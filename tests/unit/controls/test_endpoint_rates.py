"""Invariants of an endpoint's rates and queue, whatever calls, in what order, at what times."""

import itertools
import random
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.endpoints.circuit import Breaker, BreakerPolicy
from workbench.endpoints.fair_queue import FairQueue
from workbench.endpoints.rates import EndpointLimits, Rates, SharedRates, open_rates
from workbench.errors import CircuitOpenError
from workbench.testing.fakes import FakeClock

pauses = st.lists(st.floats(0, 30), min_size=1, max_size=200)


def of(**limits):
    return EndpointLimits(url="https://x", model="m", **limits)


@given(limit=st.integers(1, 300), waits=pauses, patient=st.booleans())
def test_no_minute_has_more_requests_than_the_limit(limit, waits, patient):
    rates, now, starts = Rates(of(requests_per_minute=limit)), 0.0, []
    for wait in waits:
        now += wait / limit
        left = rates.take(0, now)
        if left and patient:
            now += left
            left = rates.take(0, now)
            assert left == 0, "who waits as long as was said may start"
        if not left:
            starts.append(now)
    for n, start in enumerate(starts):
        assert sum(start <= other < start + 60 - 1e-6 for other in starts[n:]) <= limit


@given(limit=st.integers(1, 300))
def test_who_always_asks_gets_nine_tenths_of_the_limit(limit):
    rates, now, started = Rates(of(requests_per_minute=limit)), 0.0, 0
    while now < 600:
        wait = rates.take(0, now)
        started += not wait
        now += wait
    assert started >= 0.9 * 10 * limit


@given(
    limit=st.integers(10, 1000),
    asked=st.lists(st.tuples(st.floats(0, 20), st.integers(0, 2000), st.floats(0, 1)), max_size=100),
)
def test_tokens_never_exceed_a_full_bucket_and_what_filled_it(limit, asked):
    rates, now, held, taken = Rates(of(tokens_per_minute=limit)), 0.0, [], []
    for wait, tokens, share in asked:
        now += wait
        if rates.take(tokens, now) == 0:
            taken.append((now, tokens))
            held.append(int(tokens * share))
        elif held:
            rates.give_back(held.pop(), now)
        # A full bucket and its filling, and a request above the whole bucket, which found it full.
        level = rates._tokens_full - now
        assert level <= 60 + max((tokens for _, tokens in taken), default=0) * rates.token_s + 1e-6
        assert rates._tokens_full >= 0


@given(
    limit=st.integers(10, 500), asked=st.lists(st.tuples(st.floats(0, 5), st.integers(0, 9)), max_size=200)
)
def test_reserved_tokens_of_any_time_are_a_bucket_and_the_time_it_fills(limit, asked):
    rates, now, taken = Rates(of(tokens_per_minute=limit)), 0.0, []
    for wait, tokens in asked:
        now += wait
        if rates.take(tokens, now) == 0:
            taken.append((now, tokens))
    for n, (start, _) in enumerate(taken):
        for end, _ in taken[n:]:
            total = sum(tokens for at, tokens in taken if start <= at <= end)
            assert total <= limit + (end - start) / 60 * limit + 1e-6


def test_tokens_that_come_back_make_room_and_never_more_than_a_full_bucket():
    rates = Rates(of(tokens_per_minute=60))
    assert rates.take(60, 0.0) == 0 and rates.take(50, 0.0) == 50
    rates.give_back(50, 0.0)
    assert rates.take(50, 0.0) == 0
    rates.give_back(10_000, 0.0)
    assert rates.take(60, 0.0) == 0 and rates.take(60, 0.0) == 60


def test_a_request_above_the_whole_bucket_waits_for_a_full_one_and_is_paid_off():
    rates = Rates(of(tokens_per_minute=60))
    assert rates.take(1, 0.0) == 0
    assert rates.take(120, 0.0) == 1.0 and rates.take(120, 1.0) == 0
    assert rates.take(1, 1.0) == 61.0


def test_a_pause_holds_everything_until_its_end():
    rates = Rates(of(requests_per_minute=600))
    rates.pause(10.0, 0.0)
    rates.pause(5.0, 0.0)
    assert rates.take(0, 4.0) == 6.0 and rates.take(0, 10.0) == 0


# -- shared by processes --------------------------------------------------------------------------


TAKING = """
import sys
from pathlib import Path
from workbench.endpoints.rates import EndpointLimits, open_rates
limits = EndpointLimits(url="https://x", model="m", requests_per_minute=20_000, tokens_per_minute=100_000)
rates = open_rates(limits, Path(sys.argv[1]))
sys.stdout.write("x" * sum(rates.take(1, 1000.0) == 0 for _ in range(2_000)))
"""


def test_processes_of_a_machine_share_one_limit(tmp_path):
    command = [sys.executable, "-c", TAKING, str(tmp_path)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(3)]
    taken = [len(process.communicate(timeout=60)[0]) for process in started]
    assert sum(taken) == 1000, "a twentieth of the limit may start at once, whichever processes ask"


def test_a_second_handle_goes_on_where_the_first_is_and_a_new_boot_begins_anew(tmp_path, monkeypatch):
    path = tmp_path / "x.rates"
    first, second = (SharedRates(of(requests_per_minute=6), path) for _ in range(2))
    assert first.take(0, 100.0) == 0 and second.take(0, 100.0) == 10.0
    second.pause(150.0, 100.0)
    assert first.take(0, 110.0) == 40.0
    monkeypatch.setattr("workbench.endpoints.rates._boot", lambda: b"restart.")
    assert SharedRates(of(requests_per_minute=6), path).take(0, 1.0) == 0


@pytest.mark.parametrize("content", [b"", b"\xff" * 32, b"short", bytes(range(64, 128))])
def test_a_damaged_file_of_rates_is_no_reason_to_stop(tmp_path, content):
    path = tmp_path / "x.rates"
    path.write_bytes(content)
    rates = SharedRates(of(requests_per_minute=6), path)
    assert rates.take(0, 100.0) == 0 and rates.take(0, 100.0) == 10.0


@pytest.mark.parametrize("made", [lambda limits, path: Rates(limits), SharedRates], ids=["own", "shared"])
def test_a_pause_and_a_debt_last_an_hour_at_most(tmp_path, made):
    rates = made(of(tokens_per_minute=10), tmp_path / "x.rates")
    rates.pause(90_000.0, 100.0)
    assert rates.take(1, 100.0) == 3600.0
    assert rates.take(1_000_000, 3700.0) == 0
    assert 3500 < rates.take(1, 3700.0) <= 3600


def test_without_a_place_for_the_file_the_rates_are_those_of_the_process(tmp_path):
    (tmp_path / "endpoints").write_text("in the way")
    assert type(open_rates(of(requests_per_minute=6), tmp_path / "endpoints")) is Rates
    assert type(open_rates(of(concurrent=6), tmp_path)) is Rates


# -- the queue ------------------------------------------------------------------------------------

#: What happens to a queue: a tenant's call enters, a waiting one leaves, one in flight ends, time passes.
events = st.lists(
    st.one_of(
        st.tuples(st.just("enter"), st.integers(0, 3)),
        st.tuples(st.just("leave"), st.integers(0, 50)),
        st.tuples(st.just("end"), st.integers(0, 50)),
        st.tuples(st.just("pass"), st.integers(1, 20)),
    ),
    max_size=150,
)


@settings(max_examples=200)
@given(happens=events, places=st.integers(1, 6), rate=st.sampled_from([None, 60, 600]))
def test_whatever_happens_places_are_neither_lost_nor_doubled_and_nobody_waits_for_nothing(
    happens, places, rate
):
    limits = of(concurrent=places, requests_per_minute=rate)
    queue, now, tickets = FairQueue(limits, Rates(limits)), 0.0, []
    for what, value in happens:
        waiting = [ticket for ticket in tickets if not ticket.granted]
        running = [ticket for ticket in tickets if ticket.granted]
        if what == "enter":
            tickets.append(queue.enter(f"t{value}", 0, now))
        elif what == "leave" and waiting:
            gone = waiting[value % len(waiting)]
            tickets.remove(gone)
            queue.leave(gone, now)
            queue.leave(gone, now)  # a second time changes nothing
        elif what == "end" and running:
            done = running[value % len(running)]
            tickets.remove(done)
            queue.release(done, now, used=0, seconds=1.0)
        elif what == "pass":
            now += value / 10
            for ticket in waiting:
                queue.poll(ticket, now)
        running = sum(ticket.granted for ticket in tickets)
        assert queue.in_flight == running <= places
        assert queue.waiting == len(tickets) - running
        if rate is None and places < 4:
            assert not queue.waiting or running == places, "a place is free and somebody waits"
    for ticket in tickets:
        queue.leave(ticket, now)
    assert queue.in_flight == queue.waiting == 0


@given(seed=st.integers(0, 1000), places=st.integers(1, 8))
def test_tenants_that_always_wait_are_served_alike_whatever_they_send(seed, places):
    rng, limits = random.Random(seed), of(concurrent=places)
    queue = FairQueue(limits, Rates(limits))
    tickets = [queue.enter("many", 0, 0.0) for _ in range(300)]
    tickets += [queue.enter(f"few{n}", 0, 0.0) for n in range(3) for _ in range(30)]
    running, started = set(), Counter()
    for _ in range(80):
        running |= {ticket for ticket in tickets if ticket.granted and ticket not in running}
        done = rng.choice(sorted(running))
        tickets.remove(done)
        running.remove(done)
        started[done.tenant] += 1
        queue.release(done, 0.0, used=0, seconds=1.0)
    started += Counter(ticket.tenant for ticket in tickets if ticket.granted)
    assert max(started.values()) - min(started.values()) <= places + 1


def test_who_asks_little_passes_who_asks_much():
    limits = of(concurrent=1)
    queue = FairQueue(limits, Rates(limits))
    first, *many = (queue.enter("many", 0, 0.0) for _ in range(50))
    one = queue.enter("few", 0, 0.0)
    queue.release(first, 0.0, used=0, seconds=1.0)
    queue.release(next(t for t in [*many, one] if t.granted), 0.0, used=0, seconds=1.0)
    assert one.granted, "at most one call of the other tenant is before it"


def test_the_last_place_is_kept_for_another_tenant_while_two_call_and_given_away_otherwise():
    limits = of(concurrent=4)
    queue = FairQueue(limits, Rates(limits))
    alone = [queue.enter("many", 0, 0.0) for _ in range(5)]
    assert sum(ticket.granted for ticket in alone) == 4, "nobody else has called"
    for ticket in alone:
        queue.leave(ticket, 0.0)
    few = queue.enter("few", 0, 1.0)
    queue.release(few, 1.0, used=0, seconds=0.1)
    many = [queue.enter("many", 0, 2.0) for _ in range(5)]
    assert sum(ticket.granted for ticket in many) == 3
    assert queue.enter("few", 0, 2.0).granted
    later = FairQueue(limits, Rates(limits))
    later.release(later.enter("few", 0, 0.0), 0.0, used=0, seconds=0.1)
    assert sum(later.enter("many", 0, 100.0).granted for _ in range(5)) == 4


def test_who_leaves_the_queue_is_not_behind_for_what_was_never_served():
    limits = of(concurrent=1)
    queue = FairQueue(limits, Rates(limits))
    running = queue.enter("b", 0, 0.0)
    for ticket in [queue.enter("a", 0, 0.0) for _ in range(100)]:
        queue.leave(ticket, 0.0)
    rest = [queue.enter("b", 0, 0.0) for _ in range(3)]
    mine = queue.enter("a", 0, 0.0)
    queue.release(running, 0.0, used=0, seconds=1.0)
    if not mine.granted:
        queue.release(next(t for t in rest if t.granted), 0.0, used=0, seconds=1.0)
    assert mine.granted


# -- the breaker ----------------------------------------------------------------------------------


def admitted(breaker, now):
    """Whether a call is the probe, and the error of one that is refused."""
    try:
        return breaker.admit(now), None
    except CircuitOpenError as error:
        return False, error


steps = st.lists(
    st.one_of(
        st.tuples(st.just("call"), st.booleans()),
        st.tuples(st.just("begin"), st.booleans()),
        st.tuples(st.just("finish"), st.booleans()),
        st.tuples(st.just("drop"), st.booleans()),
        st.tuples(st.just("pass"), st.integers(1, 60)),
    ),
    max_size=120,
)


@settings(max_examples=200)
@given(steps=steps)
def test_whatever_happens_an_open_breaker_lets_one_probe_through_and_reopens_or_closes(steps):
    clock, policy = FakeClock(), BreakerPolicy(calls=3, open_s=5.0, longest_s=20.0)
    changes, running = [], []
    breaker = Breaker("x", policy, changed=changes.append)
    for what, value in steps:
        now = clock.monotonic()
        if what == "pass":
            clock.advance(value / 4)
            continue
        if what in {"call", "begin"}:
            probe, refused = admitted(breaker, now)
            if refused is not None:
                assert breaker.state != "closed" and refused.retry_after_s <= policy.longest_s
                assert refused.retry_after_s > 0 or breaker.state == "half-open"
                continue
            assert probe == (breaker.state == "half-open")
            running.append(probe)
        if what == "begin" or not running:
            continue
        probe = running.pop()
        if what == "drop":
            breaker.forget(probe=probe)
        else:
            breaker.record(now, "" if value else "503", probe=probe, now_is=clock.now)
        assert sum(running) <= 1, "more than one probe"
    for probe in running:
        breaker.forget(probe=probe)
    clock.advance(policy.longest_s)
    probe = breaker.admit(clock.monotonic())
    breaker.record(clock.monotonic(), "", probe=probe, now_is=clock.now)
    assert breaker.state == "closed", "it never stays open for ever"
    assert all(a.state != b.state or b.state == "open" for a, b in itertools.pairwise(changes))
