"""The server's loop with a clock set by hand, a ledger in a file, and processes that a test ends."""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools

import pytest
from job_servers import DAY, NIGHT, SIX, House, SetClock, definition

from workbench.config.operations import JobOperation, Retries
from workbench.errors import UnavailableError
from workbench.jobs.ledger import RunOrder, Slot
from workbench.scheduler import server as serving
from workbench.scheduler.due import Era
from workbench.scheduler.server import ServeOptions


@pytest.fixture
def house(tmp_path):
    return lambda *found, **rest: House(tmp_path, *(found or [definition()]), **rest)


def test_a_slot_starts_at_its_time_and_only_once(house):
    made = house()
    assert made.tick() == pytest.approx(serving._IDLE_S)
    assert not made.starter.runs
    assert made.tick(59.5) == pytest.approx(0.5)
    made.tick(0.5)
    assert made.starter.slots == ["answers/all/20261124T060000Z"]
    made.tick(1)
    made.starter.end(made.starter.runs[0])
    made.tick(1)
    made.tick(60)
    assert len(made.starter.runs) == 1 and not made.server.children
    assert made.server.measures.outcomes == {"published": 1}


def test_two_servers_start_a_slot_once(house):
    one = house()
    other = one.again()
    one.tick()
    other.tick()
    one.clock.advance(60)
    one.tick()
    other.tick()
    assert len(one.starter.runs) + len(other.starter.runs) == 1


def test_a_server_that_was_away_for_three_days_catches_up_as_the_operation_states(house):
    made = house(definition(catch_up="latest", start_deadline_s=10 * 86_400))
    made.tick()
    made.clock.advance(60 + 3 * 86_400 + 3_600)
    later = made.again()
    later.tick()
    assert later.starter.slots == ["answers/all/20261127T060000Z"]
    assert [state for _, state in later.states()][-4:] == ["missed"] * 3 + ["queued"]
    assert later.told.slots == [("missed", "answers/all/20261126T060000Z")]


def test_a_clock_set_back_fires_nothing_again_in_this_server_and_in_the_next(house):
    made = house()
    made.tick()
    made.tick(60)
    made.starter.end(made.starter.runs[0])
    made.tick(1)
    made.tick(-86_400)
    made.tick(3_600)
    later = made.again()
    for _ in range(50):
        later.tick(3_600)
    slots = [run.slot.key for run in (*made.starter.runs, *later.starter.runs)]
    assert len(slots) == len(set(slots)) and slots[-1] == "answers/all/20261125T060000Z"


def test_a_new_definition_begins_with_its_next_slot_or_with_its_move(house):
    old = house()
    old.tick()
    assert old.states() == [("23 06:00", "skipped")]
    fresh = definition("fresh", "0 * * * *", catch_up="all")
    moved = dataclasses.replace(
        fresh, eras=(Era(start=NIGHT - dt.timedelta(hours=2), schedule=fresh.schedule),)
    )
    made = house(moved, runs=10)
    made.tick()
    assert [f"{run.slot.at:%H}" for run in made.starter.runs] == ["04"]  # the other waits behind it
    assert made.states("fresh") == [("24 04:00", "queued"), ("24 05:00", "waiting")]


def test_failed_runs_are_retried_with_growing_pauses_and_then_told(house):
    made = house(definition(retries=Retries(times=2, backoff_s=30, most_s=45)))
    made.tick()
    made.tick(60)
    starts = []
    for _ in range(3):
        run = made.starter.runs[-1]
        starts.append((made.clock.now(), run.attempt, run.trigger))
        made.starter.end(run, "failed", "the endpoint is away")
        made.tick()
        while len(made.starter.runs) == len(starts) < 3:
            made.tick(5)
    assert [attempt for _, attempt, _ in starts] == [1, 2, 3]
    assert [trigger for *_, trigger in starts] == ["schedule", "retry", "retry"]
    pauses = [(b - a).total_seconds() for (a, *_), (b, *_) in itertools.pairwise(starts)]
    assert pauses == [30, 45]
    assert [told for told in made.told.runs if told[0] == "failed"][-1] == ("failed", False)
    assert ("failed", True) in made.told.runs


@pytest.mark.parametrize("outcome", ["deadline", "refused", "rolled_back"])
def test_other_ends_without_an_output_are_retried(house, outcome):
    made = house()
    made.tick()
    made.tick(60)
    made.starter.end(made.starter.runs[0], outcome)
    made.tick()
    made.tick(31)
    assert [run.attempt for run in made.starter.runs] == [1, 2]


@pytest.mark.parametrize("outcome", ["held", "interrupted", "unchanged"])
def test_ends_that_somebody_decided_are_not_retried(house, outcome):
    made = house()
    made.tick()
    made.tick(60)
    made.starter.end(made.starter.runs[0], outcome)
    made.tick()
    made.tick(3_600)
    assert len(made.starter.runs) == 1


def test_a_command_that_ends_without_a_line_has_failed_with_what_it_said(house):
    made = house()
    made.tick()
    made.tick(60)
    made.starter.processes[made.starter.runs[0].run].code = 1
    made.tick()
    first = made.ledger.history("answers")[1]
    assert (first.outcome, first.detail) == ("failed", "the last line")
    assert made.ledger.history("answers")[0].attempt == 2


@pytest.mark.parametrize(
    ("overlap", "states"),
    [
        ("skip", ["queued", "skipped"]),
        ("queue", ["queued", "waiting"]),
        ("replace", ["replaced", "queued"]),
    ],
)
def test_a_slot_that_is_due_while_the_one_before_runs(house, overlap, states):
    made = house(definition(cron="0,1 6 * * *", overlap=overlap))
    made.tick()
    made.tick(60)
    made.tick(60)
    assert [state for _, state in made.states()][1:] == states
    assert made.starter.processes[made.starter.runs[0].run].killed == (overlap == "replace")
    if overlap == "queue":
        made.starter.end(made.starter.runs[0])
        made.tick(serving._BEHIND_S)
        assert made.starter.slots[-1] == "answers/all/20261124T060100Z"


def test_capacity_is_for_the_server_and_each_tenant_and_higher_priority_goes_first(house):
    jobs = [definition(f"job-{n}", priority=n, tenants=("acme", "globex")) for n in range(4)]
    made = house(*jobs, runs=3, per_tenant=2)
    made.tick()
    made.tick(60)
    assert len(made.starter.runs) == 3
    assert [run.slot.job for run in made.starter.runs[:2]] == ["job-3", "job-3"]
    tenants = [run.slot.tenant for run in made.starter.runs]
    assert max(tenants.count("acme"), tenants.count("globex")) == 2


def test_100_due_at_once_are_started_fairly(house):
    jobs = [definition("busy", cron="0 6 * * *", tenants=tuple(f"t-{n}" for n in range(90)))]
    jobs += [definition(f"small-{n}") for n in range(10)]
    made = house(*jobs, runs=11)
    made.tick()
    made.tick(60)
    started = [run.slot.job for run in made.starter.runs]
    assert len(started) == 11 and {f"small-{n}" for n in range(10)} <= set(started)


def test_nothing_of_a_paused_job_starts_and_it_is_caught_up_afterwards(house):
    made = house(definition(catch_up="latest"), definition("triage"))
    made.ledger.pause("answers", by="ada", reason="the input is wrong")
    made.tick()
    made.tick(60)
    assert made.starter.slots == ["triage/all/20261124T060000Z"]
    made.tick(3_600)
    made.ledger.resume("answers")
    made.tick(1)
    assert made.starter.slots[-1] == "answers/all/20261124T060000Z"
    assert made.starter.runs[-1].trigger == "catch_up"


def test_a_run_that_waited_beyond_its_start_deadline_is_missed_and_told(house):
    made = house(definition(start_deadline_s=300), definition("triage", start_deadline_s=300), runs=1)
    made.tick()
    made.tick(60)
    assert len(made.starter.runs) == 1
    made.tick(301)
    made.starter.end(made.starter.runs[0])
    made.tick(1)
    other = "triage" if made.starter.runs[0].slot.job == "answers" else "answers"
    assert made.states(other)[-1] == ("24 06:00", "missed")
    assert len(made.starter.runs) == 1 and ("missed", False) in made.told.runs


def test_a_late_slot_is_told_once(house):
    made = house(definition(late_after_s=600))
    made.tick()
    made.tick(60)
    made.tick(599)
    assert not made.told.slots
    made.tick(2)
    made.tick(2)
    assert made.told.slots == [("late", "answers/all/20261124T060000Z")]


def test_a_killed_server_leaves_a_run_that_the_next_one_watches_and_retries_when_it_fails(house, tmp_path):
    made = house()
    made.tick()
    made.tick(60)
    run = made.starter.runs[0]
    later = made.again()
    later.tick(1)
    assert not later.starter.runs  # its process lives: this test's own
    made.ledger.finished(run.run, "failed", detail="no answer")
    later.tick(1)
    later.tick(31)
    assert [item.attempt for item in later.starter.runs] == [2]


def test_what_a_killed_server_did_not_settle_is_settled_by_the_next(house):
    made = house()
    made.tick()
    made.tick(60)
    made.ledger.finished(made.starter.runs[0].run, "failed")
    later = made.again()  # the first one never looked again
    later.tick(31)
    later.tick(31)
    assert [item.attempt for item in later.starter.runs] == [2]


def test_a_stopped_server_kills_its_runs_and_their_slots_wait_for_the_next(house):
    made = house()
    made.tick()
    made.tick(60)
    run = made.starter.runs[0]
    made.server.end()
    made.server.leave()
    assert made.starter.processes[run.run].killed and not made.server.children
    assert made.ledger.run(run.run).state == "waiting"
    assert made.ledger.servers() == []
    later = made.again()
    later.tick(1)
    assert [(item.run, item.attempt) for item in later.starter.runs] == [(run.run, 1)]


def test_a_run_that_published_while_the_server_stopped_is_left_as_it_is(house):
    made = house()
    made.tick()
    made.tick(60)
    made.ledger.finished(made.starter.runs[0].run, "published")
    made.server.end()
    assert made.ledger.run(made.starter.runs[0].run).outcome == "published"


def test_an_unreachable_ledger_is_said_and_nothing_due_is_lost(house, monkeypatch):
    made = house()
    made.tick()
    with monkeypatch.context() as patch:
        patch.setattr(
            made.ledger, "enqueue_all", lambda *_, **__: (_ for _ in ()).throw(UnavailableError("away"))
        )
        assert made.tick(60) == serving._AGAIN_S
        assert "away" in made.server.fault and not made.starter.runs
    made.tick(5)
    assert not made.server.fault
    assert made.starter.slots == ["answers/all/20261124T060000Z"]


def test_a_process_that_cannot_be_started_waits_again(house):
    made = house()
    made.tick()
    made.starter.fault = OSError(12, "Cannot allocate memory")
    made.tick(60)
    assert made.server.faults.open == {"starting runs of answers": "OSError: Cannot allocate memory"}
    assert made.states()[-1] == ("24 06:00", "waiting")
    made.starter.fault = None
    made.tick(2)
    assert len(made.starter.runs) == 1


def test_a_server_with_an_end_is_done_when_all_has_ended(house):
    made = house(options=ServeOptions(until=SIX + dt.timedelta(minutes=5)))
    made.tick()
    assert not made.server.is_done()
    made.tick(60)
    made.tick(400)
    assert not made.server.is_done()
    made.starter.end(made.starter.runs[0])
    made.tick(86_400)
    assert made.server.is_done() and len(made.starter.runs) == 1


def test_an_end_that_passes_between_two_looks_leaves_no_slot_before_it_behind(house):
    made = house(options=ServeOptions(until=SIX + dt.timedelta(minutes=1)))
    made.tick()
    made.clock.advance(86_400)
    assert not made.server.is_done()
    made.tick()
    assert len(made.starter.runs) == 1 and not made.server.is_done()
    made.starter.end(made.starter.runs[0])
    made.tick()
    assert made.server.is_done()


def test_a_definition_that_goes_starts_nothing_more_and_a_changed_one_keeps_its_place(house):
    made = house()
    made.tick()
    before = made.reader.current
    changed = dataclasses.replace(before.found[0], operation=JobOperation(tenants=("acme",)))
    made.reader.current = dataclasses.replace(before, found=(changed,), mark=(2,))
    made.tick(60)
    assert made.starter.slots == ["answers/acme/20261124T060000Z"]
    made.reader.current = dataclasses.replace(before, found=(), mark=(3,))
    made.tick(86_400)
    assert len(made.starter.runs) == 1


def test_an_order_by_hand_is_started_beside_a_running_slot(house):
    made = house()
    made.tick()
    made.tick(60)
    for day in (1, 2):
        slot = Slot(job="answers", tenant="", at=SIX - day * DAY)
        made.ledger.enqueue(RunOrder(slot=slot, trigger="backfill"), again=True)
    made.tick(1)
    assert len(made.starter.runs) == 2  # its capacity
    made.starter.end(made.starter.runs[0])
    made.tick(1)
    assert len(made.starter.runs) == 3


def test_trials_are_settled_after_each_run_and_an_error_of_theirs_stops_nothing(house):
    asked, made = [], house()

    def after_run(job):
        asked.append(job)
        raise UnavailableError("git is away")

    made.server._parts = dataclasses.replace(made.server._parts, after_run=after_run)
    made.tick()
    made.tick(60)
    made.starter.end(made.starter.runs[0], "failed")
    made.tick()
    assert asked == ["answers"] and not made.server.fault
    made.tick(31)
    assert [run.attempt for run in made.starter.runs] == [1, 2]


@pytest.mark.parametrize("times", [0, 2])
def test_an_output_that_took_its_version_back_is_not_told_as_held_when_the_slot_runs_again(house, times):
    made = house(definition(retries=Retries(times=times)))
    made.server.settling.settle_recent = lambda _now: (
        None
    )  # the command of a run decides on its trials itself

    def taken_back(_job):
        run = made.starter.runs[0]
        made.ledger.enqueue(RunOrder(slot=run.slot, trigger="retry", attempt=2))

    made.server._parts = dataclasses.replace(made.server._parts, after_run=taken_back)
    made.tick()
    made.tick(60)
    made.starter.end(made.starter.runs[0], "rolled_back")
    made.tick()
    told = [retried for outcome, retried in made.told.runs if outcome == "rolled_back"]
    assert told == [True] and len(made.starter.runs) == 2


def test_a_slot_that_another_server_ran_between_two_looks_is_not_late(house):
    made = house(definition(late_after_s=600), options=ServeOptions(runs=1))
    made.server.settling.settle_recent = lambda _now: None  # which would settle it within a minute
    made.tick()
    slot = Slot(job="other", tenant="", at=SIX)
    made.ledger.enqueue(RunOrder(slot=slot, not_before=SIX))
    made.tick()
    made.clock.advance(60)
    run = made.ledger.take("another", runs=5, per_tenant=0)
    assert run.slot == slot
    made.ledger.finished(run.run, "published")
    made.tick()
    made.tick(7_200)
    assert ("late", slot.key) not in made.told.slots


def test_a_server_that_ends_by_itself_also_runs_what_waited_behind_another_slot(house):
    made = house(definition(catch_up="all"), clock=SetClock(SIX + DAY), options=ServeOptions(once=True))
    for hour in (4, 5):
        slot = Slot(job="answers", tenant="", at=SIX - hour * dt.timedelta(hours=1))
        made.ledger.enqueue(RunOrder(slot=slot, trigger="retry"))
    made.tick()
    first = made.starter.runs[0]
    made.tick(2)
    made.starter.end(first)
    made.tick()
    while not made.server.is_done():
        made.tick(1)
        for run in made.starter.runs[1:]:
            if run.run in made.server.children:
                made.starter.end(run)
    assert made.ledger.unfinished() == [] and len(made.starter.runs) == 2
