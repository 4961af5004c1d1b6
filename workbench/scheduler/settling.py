"""Settle ended runs: enqueue the retry of a failed one, tell of the others, and of slots that are late."""

from __future__ import annotations

import datetime as dt

from workbench.config.operations import Operations, Retries
from workbench.context import Clock
from workbench.jobs.ledger import JobLedger, JobRun, Role, RunOrder
from workbench.scheduler.faults import JobFaults
from workbench.scheduler.telling import Teller

#: Outcomes whose slot runs again; after a rollback, with the version before or without the canary.
_AGAIN = frozenset({"failed", "deadline", "refused", "rolled_back"})


class Settling:
    """Settles ended runs by the operations of their jobs; to settle a run again changes nothing."""

    def __init__(self, ledger: JobLedger, teller: Teller, clock: Clock, faults: JobFaults) -> None:
        self.operations = Operations()
        self._ledger, self._teller, self._clock, self._faults = ledger, teller, clock, faults
        #: When each open slot counts as late, and those of them that were told.
        self._late: dict[tuple[str, Role], tuple[dt.datetime, JobRun]] = {}
        self._told: set[tuple[str, Role]] = set()

    def watch(self, run: JobRun) -> None:
        """Tell when the slot of an unfinished run of a server is late."""
        if run.role == "production" and run.trigger in {"schedule", "catch_up", "retry"}:
            late_after = self.operations.of(run.slot.job).late_after_s
            at = run.slot.at + dt.timedelta(seconds=late_after)
            self._late.setdefault((run.slot.key, run.role), (at, run))

    def settle(self, run: JobRun) -> JobRun | None:
        """Enqueue the retry of an ended run and return it, or tell what the run is and return None.

        A run by hand is settled by its caller.
        """
        if run.state not in {"finished", "lost"} or (run.trigger == "manual" and not run.server):
            return None
        operation = self.operations.of(run.slot.job)
        retry = None
        if _is_broken(run) and run.attempt <= operation.retries.times:
            retry = self._ledger.enqueue(_retry(run, operation.retries, run.finished_at or self._clock.now()))
            again = retry is not None or self._was_retried(run)
        else:  # a version that was taken back is no failed attempt: its slot runs again in any case
            again = run.outcome == "rolled_back" and self._was_retried(run)
        if not again:
            self._late.pop((run.slot.key, run.role), None)
            self._told.discard((run.slot.key, run.role))
        self._teller.run(run, operation.notify, retried=again)
        return retry

    def settle_recent(self, now: dt.datetime) -> None:
        """Settle the last run of each slot of the past day: a server that was killed may have left it."""
        newest: dict[tuple[str, Role], JobRun] = {}
        for run in self._ledger.history(since=now - dt.timedelta(days=1), limit=1_000):
            newest.setdefault((run.slot.key, run.role), run)
        for run in newest.values():
            with self._faults.of(run.slot.job, f"settling {run.slot.key}"):
                self.settle(run)

    def tell_late(self, now: dt.datetime) -> None:
        """Tell once of each watched slot that has not ended in time."""
        due = [(key, run) for key, (at, run) in self._late.items() if at <= now and key not in self._told]
        for key, run in due:
            operation = self.operations.of(run.slot.job)
            detail = f"not finished {operation.late_after_s:g} s after its time"
            with self._faults.of(run.slot.job, f"telling that {run.slot.key} is late"):
                self._teller.slot("late", run.slot, operation.notify, detail=detail)
                self._told.add(key)

    def _was_retried(self, run: JobRun) -> bool:
        """Return whether a later run of the slot exists."""
        known = self._ledger.history(run.slot.job, tenant=run.slot.tenant, role=run.role, limit=200)
        return any(item.slot == run.slot and item.attempt > run.attempt for item in known)


def pause_s(retries: Retries, attempt: int) -> float:
    """Return the seconds between the end of an attempt (from 1) and the start of the next."""
    return min(retries.backoff_s * 2.0 ** min(attempt - 1, 60), retries.most_s)


def _is_broken(run: JobRun) -> bool:
    return run.state == "lost" or run.outcome in _AGAIN


def _retry(run: JobRun, retries: Retries, ended: dt.datetime) -> RunOrder:
    return RunOrder(
        slot=run.slot, role=run.role, trigger="retry", attempt=run.attempt + 1, priority=run.priority,
        not_before=ended + dt.timedelta(seconds=pause_s(retries, run.attempt)),
    )  # fmt: skip
