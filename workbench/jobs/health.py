"""The health of a job, from its history: the outcome of each slot, the share of good ones, times and cost."""

from __future__ import annotations

import datetime as dt
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from workbench.config.operations import JobOperation
from workbench.experiments.intervals import quantile
from workbench.jobs.ledger import JobRun
from workbench.jobs.objective import ErrorBudget, GoodSlots

#: `late`: published after the seconds of the objective. `open`: nothing has ended yet. `left_out`: by the
#: operator's own rule, so it counts neither way.
SlotState = Literal["good", "late", "bad", "open", "left_out"]
_COUNTED = frozenset({"good", "late", "bad"})
_PUBLISHED = frozenset({"published", "unchanged"})
_UNENDED = frozenset({"waiting", "queued", "running"})
_LEFT_OUT = frozenset({"skipped", "replaced", "shadowed"})
#: Runs that a person may have started long after the time of their slot.
_BY_HAND = frozenset({"manual", "trigger", "backfill"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotOutcome:
    """What became of one slot. `run` published it, or is its last run; `attempts` counts all its runs.

    `seconds` are from the slot's time to its output; without a schedule, from its first run. They are None
    for a slot that is not published, and for one that was filled by hand after its time to start had passed.
    """

    tenant: str
    at: dt.datetime
    state: SlotState
    run: JobRun
    attempts: int
    seconds: float | None
    cost_usd: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotSummary:
    """Sums over slots. `cost_usd` is of the slots with a known cost, None without one.

    `unpriced` counts the published slots whose cost is unknown.
    """

    good: GoodSlots
    published: GoodSlots
    seconds: tuple[float, ...]
    cost_usd: float | None
    unpriced: int
    rows: int
    quarantined: int

    @classmethod
    def of(cls, slots: Sequence[SlotOutcome]) -> SlotSummary:
        """Sum up slots; those that are open or left out count for their cost alone."""
        counted = [slot for slot in slots if slot.state in _COUNTED]
        published = [slot for slot in counted if slot.state != "bad"]
        costs = [slot.cost_usd for slot in slots if slot.cost_usd is not None]
        return cls(
            good=_good(counted),
            published=GoodSlots(good=len(published), n=len(counted)),
            seconds=tuple(sorted(slot.seconds for slot in published if slot.seconds is not None)),
            cost_usd=math.fsum(costs) if costs else None,
            unpriced=sum(slot.cost_usd is None for slot in published),
            rows=sum(slot.run.rows for slot in published),
            quarantined=sum(slot.run.quarantined for slot in published),
        )

    def quantile(self, q: float) -> float | None:
        """Return a quantile of the seconds from due to published, or None of no timed slot."""
        return quantile(self.seconds, q) if self.seconds else None

    @property
    def quarantine_rate(self) -> float | None:
        """The share of rows in quarantine, or None of no rows."""
        return self.quarantined / self.rows if self.rows else None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobHealth:
    """The health of a job over the days of its objective. `slots` are oldest first, open ones included."""

    slots: tuple[SlotOutcome, ...]
    total: SlotSummary
    versions: Mapping[int, SlotSummary]
    budget: ErrorBudget

    @property
    def verdict(self) -> Literal["pass", "fail"] | None:
        """Whether the objective is kept; None of no slots."""
        if not self.total.good.n:
            return None
        return "fail" if self.budget.used_up else "pass"

    @classmethod
    def of(
        cls,
        runs: Sequence[JobRun],
        operation: JobOperation,
        now: dt.datetime,
        *,
        scheduled: bool,
        expected: int = 0,
    ) -> JobHealth:
        """Return the health of one job's runs; the order of `runs` is that of the ledger, newest first.

        `expected` is the number of slots that its schedule fires in the days of the objective.
        """
        objective = operation.objective
        first = now - dt.timedelta(days=objective.days)
        found = slot_outcomes(runs, operation, scheduled=scheduled)
        slots = tuple(slot for slot in found if _ended(slot) >= first)
        last_quarter = now - (now - first) / 4
        recent = [slot for slot in slots if _ended(slot) >= last_quarter]
        by_version: dict[int, list[SlotOutcome]] = defaultdict(list)
        for slot in slots:
            by_version[slot.run.version].append(slot)
        total = SlotSummary.of(slots)
        only = len(by_version) == 1  # of one version, which most windows have, the sums are those of all
        return cls(
            slots=slots,
            total=total,
            versions={
                version: total if only else SlotSummary.of(some)
                for version, some in sorted(by_version.items())
            },
            budget=ErrorBudget(
                success=objective.success,
                expected=max(expected, total.good.n) if total.good.n else 0,
                bad=total.good.n - total.good.good,
                recent=_good([slot for slot in recent if slot.state in _COUNTED]),
            ),
        )


def _good(counted: Sequence[SlotOutcome]) -> GoodSlots:
    """Return how many of slots that count are good."""
    return GoodSlots(good=sum(slot.state == "good" for slot in counted), n=len(counted))


def slot_outcomes(runs: Sequence[JobRun], operation: JobOperation, *, scheduled: bool) -> list[SlotOutcome]:
    """Return the outcome of each slot of one job's production runs, oldest slot first.

    The order of `runs` is that of the ledger, newest first.
    """
    by_slot: dict[tuple[dt.datetime, str], list[JobRun]] = defaultdict(list)
    for run in reversed(runs):
        if run.role == "production":
            by_slot[run.slot.at, run.slot.tenant].append(run)
    return [_outcome(by_slot[key], operation, scheduled=scheduled) for key in sorted(by_slot)]


def _outcome(runs: Sequence[JobRun], operation: JobOperation, *, scheduled: bool) -> SlotOutcome:
    """Return the outcome of a slot with these runs, oldest first."""
    # The first that published it: a later run of the same input and version changes nothing.
    done = [run for run in runs if run.outcome in _PUBLISHED]
    shown, seconds = runs[-1], None
    state: SlotState = "bad"
    if done:
        shown, seconds = done[0], _seconds(runs[0], done[0], operation, scheduled=scheduled)
        state = "late" if (seconds or 0) > operation.objective.seconds else "good"
    elif any(run.state in _UNENDED for run in runs):
        state = "open"
    elif shown.outcome in _LEFT_OUT:
        state = "left_out"
    cost = runs[0].cost_usd
    if len(runs) > 1:
        known = [run.cost_usd for run in runs if run.cost_usd is not None]
        cost = math.fsum(known) if known else None
    return SlotOutcome(
        tenant=shown.slot.tenant,
        at=shown.slot.at,
        state=state,
        run=shown,
        attempts=len(runs),
        seconds=seconds,
        cost_usd=cost,
    )


def _seconds(first: JobRun, published: JobRun, operation: JobOperation, *, scheduled: bool) -> float | None:
    """Return the seconds from due to published; None where the slot was filled by hand, too late to count."""
    due = first.slot.at if scheduled else first.queued_at
    waited = (first.queued_at - due).total_seconds()
    by_hand = first.trigger in _BY_HAND
    if published.finished_at is None or (by_hand and waited > operation.start_deadline_s):
        return None
    return max(0.0, (published.finished_at - due).total_seconds())


def _ended(slot: SlotOutcome) -> dt.datetime:
    """Return when a slot was decided, or the time of one that is open."""
    return slot.run.finished_at or slot.run.queued_at
