"""The health of a job from its runs: what counts as good, the error budget and its burn, times and cost."""

from __future__ import annotations

import dataclasses
import datetime as dt

import pytest
from made_job_runs import DUE, NOW, a_run, daily, many

from workbench.config.operations import JobOperation, Objective
from workbench.jobs.health import JobHealth, SlotSummary
from workbench.jobs.objective import ErrorBudget, GoodSlots
from workbench.jobs.status import cost_text

AT = dt.datetime.combine(NOW.date(), DUE)
OPERATION = JobOperation(objective=Objective(success=0.9, seconds=600, days=28))


def health(runs, *, operation=OPERATION, scheduled=True, expected=28):
    return JobHealth.of(runs, operation, NOW, scheduled=scheduled, expected=expected)


def states(runs, **how):
    return [slot.state for slot in health(runs, **how).slots]


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        ("published", "good"), ("unchanged", "good"), ("held", "bad"), ("failed", "bad"), ("deadline", "bad"),
        ("interrupted", "bad"), ("lost", "bad"), ("missed", "bad"), ("refused", "bad"),
        ("rolled_back", "bad"), ("queued", "open"), ("running", "open"), ("waiting", "open"),
        ("skipped", "left_out"), ("replaced", "left_out"),
    ],
)  # fmt: skip
def test_a_slot_is_what_its_run_ended_as(outcome, state):
    assert states([a_run(AT, outcome)]) == [state]


def test_a_slot_counts_once_and_is_good_when_one_of_its_runs_published_in_time():
    failed, again = a_run(AT, "failed"), a_run(AT, waited=100)
    found = health([again, failed])
    assert [(slot.state, slot.attempts, slot.seconds) for slot in found.slots] == [("good", 2, 140.0)]
    assert found.total.good == GoodSlots(good=1, n=1)
    assert found.total.cost_usd == pytest.approx(0.04)  # the failed run was paid too


def test_a_rerun_that_changes_nothing_does_not_make_a_slot_late():
    rerun = a_run(AT, "unchanged", waited=7200)
    assert health([rerun, a_run(AT)]).slots[0].seconds == 41.0


def test_a_slot_that_is_published_too_late_is_bad_for_the_budget_and_published_all_the_same():
    found = health([a_run(AT, took=601)])
    assert [slot.state for slot in found.slots] == ["late"]
    assert found.total.published == GoodSlots(good=1, n=1) and found.total.good == GoodSlots(good=0, n=1)
    assert found.budget.bad == 1


def test_a_slot_that_is_filled_by_hand_days_later_is_not_timed():
    assert health([a_run(AT - dt.timedelta(days=9), waited=8 * 86_400)]).slots[0].seconds is None
    assert states([a_run(AT - dt.timedelta(days=9), waited=8 * 86_400)]) == ["good"]


def test_without_a_schedule_the_time_is_that_of_the_run():
    start_of_day = AT.replace(hour=0)
    assert health([a_run(start_of_day, waited=40_000, took=30)], scheduled=False).slots[0].seconds == 30.0


def test_tenants_have_slots_of_their_own():
    found = health([a_run(AT, tenant="acme"), a_run(AT, "failed", tenant="globex")])
    assert sorted((slot.tenant, slot.state) for slot in found.slots) == [("acme", "good"), ("globex", "bad")]


def test_only_the_days_of_the_objective_count():
    found = health(daily(*["failed"] * 12, *["published"] * 28))
    assert found.total.good == GoodSlots(good=28, n=28) and found.verdict == "pass"


def test_the_budget_is_of_all_slots_that_the_window_will_hold_and_not_of_those_so_far():
    found = health(daily("failed", "published"))  # two slots of 28: 2.8 may be bad
    assert found.budget.left == pytest.approx(1 - 1 / 2.8)
    assert found.verdict == "pass" and "64 % left" in str(found.budget)
    found = health(daily("failed", "failed", "failed"))
    assert found.budget.used_up and found.verdict == "fail" and "used up: 3 of 2.8" in str(found.budget)


def test_the_burn_is_that_of_the_last_quarter_of_the_window():
    old = health(daily("failed", "failed", *["published"] * 20))
    new = health(daily(*["published"] * 20, "failed", "failed"))
    assert old.budget.burn == 0.0 and old.budget.left == new.budget.left
    assert new.budget.burn == pytest.approx((2 / 7) / 0.1)


def test_no_runs_are_no_numbers():
    found = health([])
    assert found.verdict is None and found.budget.left is None and found.budget.burn is None
    assert str(found.budget) == "no runs yet"
    assert found.total.good.value is None and found.total.good.interval is None
    assert found.total.quantile(0.95) is None and found.total.quarantine_rate is None
    assert found.total.good.against(0.5) == "undecided"


def test_a_cost_that_is_unknown_is_counted_and_not_taken_as_nothing():
    total = SlotSummary.of(
        health([a_run(AT, cost_usd=None), *daily("published", last=NOW - dt.timedelta(1))]).slots
    )
    assert (total.cost_usd, total.unpriced) == (0.02, 1)
    total = SlotSummary.of(health([a_run(AT, cost_usd=None)]).slots)
    assert (total.cost_usd, total.unpriced) == (None, 1)
    assert cost_text(None, 1, 1) == "unknown" and cost_text(0.02, 1, 2) == "0.02, and 1 unknown"
    assert cost_text(None, 0, 0) == ""


def test_versions_have_sums_of_their_own():
    runs = daily("failed", "published", "published")
    runs[-1] = dataclasses.replace(runs[-1], version=6)
    found = health(runs).versions
    assert {version: (s.good.good, s.good.n) for version, s in found.items()} == {6: (0, 1), 7: (2, 2)}


def test_the_interval_of_a_share_is_exact():
    share = GoodSlots(good=28, n=28)
    assert share.interval.low == pytest.approx(0.05 ** (1 / 28), abs=1e-6)  # all of n: alpha / 2 = low ** n
    assert share.against(0.95) == "undecided" and share.against(0.85) == "pass"


@pytest.mark.parametrize("count", [1, 19, 20, 21])
def test_a_budget_is_used_up_by_the_first_bad_slot_too_many(count):
    budget = ErrorBudget(success=0.95, expected=400, bad=count, recent=GoodSlots(good=0, n=0))
    assert budget.used_up == (count > 20) == (budget.left < -1e-9)


def test_every_slot_is_in_exactly_one_state():
    found = health(many(3_000)).slots
    total = SlotSummary.of(found)
    counted = [slot for slot in found if slot.state in {"good", "late", "bad"}]
    assert total.good.n == len(counted) == len(found) > 1_900
    assert total.good.good + sum(slot.state == "late" for slot in found) == total.published.good
