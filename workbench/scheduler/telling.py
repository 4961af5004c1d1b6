"""Tell the channels of a job what became of its slots, through the ledger's outbox: once for each event."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Protocol

from workbench.jobs.ledger import JobLedger, JobRun, PostedNotice, Slot
from workbench.notices import Event, JobNotice, event_of_run
from workbench.notices.events import is_broken

#: Runs of a job and tenant in which the event before a success is looked for.
_LOOK_BACK = 20
#: Notices of a job in which those of the failures of these runs are looked for.
_LOOK_BACK_TOLD = 200


class Teller(Protocol):
    """Tells what became of slots and runs."""

    def slot(self, event: Event, slot: Slot, channels: Sequence[str], *, detail: str) -> None:
        """Tell an event of a slot, once."""

    def fault(self, job: str, channels: Sequence[str], *, when: dt.datetime, detail: str) -> None:
        """Tell that a server cannot serve a job since a moment."""

    def run(self, run: JobRun, channels: Sequence[str], *, retried: bool) -> None:
        """Tell what an ended run is, once for its slot, unless a retry follows or nobody needs to know."""


class OutboxTeller:
    """Posts notices into the ledger's outbox."""

    def __init__(self, ledger: JobLedger) -> None:
        self._ledger = ledger

    def slot(self, event: Event, slot: Slot, channels: Sequence[str], *, detail: str) -> None:
        """Post an event of a slot, once; nothing without channels."""
        if channels:
            notice = JobNotice.of_slot(event, slot.job, slot.tenant, slot.at, detail=detail)
            self._ledger.post(PostedNotice(**notice.posting(channels)))

    def fault(self, job: str, channels: Sequence[str], *, when: dt.datetime, detail: str) -> None:
        """Post that a server cannot serve a job since a moment; nothing without channels."""
        if channels:
            notice = JobNotice.of_version("fault", job, 0, when, detail=detail)
            self._ledger.post(PostedNotice(**notice.posting(channels)))

    def run(self, run: JobRun, channels: Sequence[str], *, retried: bool) -> None:
        """Post what an ended run is, once for its slot."""
        if not channels:
            return
        known = self._ledger.history(run.slot.job, tenant=run.slot.tenant, role=run.role, limit=_LOOK_BACK)
        earlier = [item for item in known if item.run != run.run and item.queued_at <= run.queued_at]
        event = event_of_run(run, self._without_untold(earlier), retried=retried)
        if event is None:
            return
        notice = JobNotice.of_slot(
            event, run.slot.job, run.slot.tenant, run.slot.at,
            detail=run.detail, version=run.version, run=run.run,
        )  # fmt: skip
        self._ledger.post(PostedNotice(**notice.posting(channels)))

    def _without_untold(self, runs: Sequence[JobRun]) -> list[JobRun]:
        """Return the runs without the failures that nobody was told, such as one whose retry still waits."""
        if not any(is_broken(item) for item in runs):
            return list(runs)
        told = {notice.key for notice in self._ledger.notices(runs[0].slot.job, limit=_LOOK_BACK_TOLD)}
        return [item for item in runs if not is_broken(item) or _failure_key(item.slot) in told]


def _failure_key(slot: Slot) -> str:
    return JobNotice.of_slot("failed", slot.job, slot.tenant, slot.at, detail="").key
