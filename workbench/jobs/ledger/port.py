"""The port of the job ledger: what fired, waits, runs, is paused or withdrawn, and who was told.

Every method is one transaction, durable when it returns, over all processes and hosts of the ledger. A method
that only reads creates nothing. All methods raise UnavailableError when the database does not answer.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, Unpack

from workbench.jobs.ledger.damage import DamagedRow
from workbench.jobs.ledger.runs import JobRun, Outcome, Role, RunEnd, RunOrder, Slot, Trigger


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRow:
    """A scheduler's process: `born` is its start as `Host.process_started_at` says it, `address` its URL."""

    id: str
    host: str
    pid: int
    born: str
    address: str
    started_at: dt.datetime
    lease_until: dt.datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """A pause of a job: of all tenants ("") or one, of all versions (0) or one."""

    job: str
    tenant: str
    version: int
    by: str
    reason: str
    at: dt.datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal:
    """A version that its label no longer runs. `evidence` is the path of the signed statement, if any."""

    job: str
    version: int
    by: str
    reason: str
    evidence: str
    at: dt.datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PostedNotice:
    """A notice in the ledger's outbox. `key` is unique; `channels` are the names it is delivered to."""

    key: str
    job: str
    event: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    channels: tuple[str, ...] = ()
    posted_at: dt.datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingDelivery:
    """A notice that one channel has not been given yet, the number of failed tries and the last error."""

    notice: PostedNotice
    channel: str
    tries: int
    detail: str


class JobLedger(Protocol):
    """The ledger of slots, runs and decisions about jobs."""

    def enqueue(self, order: RunOrder, *, again: bool = False) -> JobRun | None:
        """Insert a waiting run; return None when the slot and role fired with this attempt before.

        A `manual` or `trigger` order never fires: it returns the run of its slot and role that waits already,
        if there is one. `again` lets a backfill fire a second time, and its retries with it.
        """

    def enqueue_all(self, orders: Sequence[RunOrder]) -> list[JobRun | None]:
        """Insert the waiting runs of orders in one transaction; return for each what `enqueue` returns."""

    def miss(
        self, slot: Slot, role: Role, detail: str, *, outcome: Literal["missed", "skipped"] = "missed"
    ) -> bool:
        """Fire a slot with a finished line instead of a run; return False when it fired before."""

    def take(self, server: str, *, runs: int, per_tenant: int) -> JobRun | None:
        """Return the next waiting run, queued and held by this process for the server; None without one.

        It survives the death of every process. When the machine loses power, the run may wait again.
        None also when the server holds `runs` living runs. A tenant with `per_tenant` living runs of the
        server (0: no limit), a paused job, and a slot with a living run are passed over. The highest priority
        is first; then the job and the tenant with the fewest living runs and the longest wait for a turn.
        """

    def claim(
        self,
        slot: Slot,
        *,
        run: str,
        version: int,
        input_digest: str,
        role: Role = "production",
        trigger: Trigger = "manual",
        fingerprint: str = "",
    ) -> JobRun:
        """Insert a queued run for this process, or take over the queued run with this id.

        RefusedError names a living run of the slot and role.
        """

    def give_back(self, run: str, not_before: dt.datetime) -> JobRun:
        """Make a living run wait again, without a process; RefusedError when it is not alive."""

    def cancel(self, run: str, outcome: Outcome, detail: str) -> JobRun:
        """Finish a waiting, queued or running run; RefusedError when it is finished or lost."""

    def refused(self, slot: Slot | str, *, run: str, version: int, detail: str) -> JobRun:
        """Write the finished line of a run that failed before its claim; `slot` may be the job's name.

        A taken run with this id is finished. A run that was claimed, finished or lost stays as it is.
        """

    def started(self, run: str, pid: int) -> JobRun:
        """Mark a queued run as running in process `pid` of this host; RefusedError when it is not queued."""

    def beat(self, run: str) -> JobRun:
        """Renew the lease; RefusedError when the run is finished or lost: it must not publish."""

    def finished(self, run: str, outcome: Outcome, **end: Unpack[RunEnd]) -> JobRun:
        """Mark a living run as finished; RefusedError when it is finished or lost already."""

    def reconcile(self) -> list[JobRun]:
        """End every living run with a dead process, as lost or, when its output is there, as published.

        Return these runs. On this host only the process decides, whatever the clock says; on another host
        the lease does.
        """

    def alive(self, slot: Slot, role: Role = "production") -> JobRun | None:
        """Return the run that holds the slot, or None; a run with a dead process does not count."""

    def is_alive(self, run: str) -> bool:
        """Whether this run is queued or running and its process is alive."""

    def run(self, run: str) -> JobRun:
        """Return a run by its id; NotFoundError for an unknown one."""

    def unfinished(self, job: str | None = None) -> list[JobRun]:
        """Return the waiting, queued and running runs, oldest first, without a look at their processes."""

    def history(
        self,
        job: str | None = None,
        *,
        tenant: str | None = None,
        role: Role | None = None,
        since: dt.datetime | None = None,
        limit: int = 50,
    ) -> list[JobRun]:
        """Return the newest runs, the last inserted first; `since` is compared with the time of insertion."""

    def last_fired(self, job: str, tenant: str, role: Role) -> dt.datetime | None:
        """Return the latest slot time that a schedule fired, caught up with, or missed."""

    def last_fired_of(
        self, keys: Collection[tuple[str, str, Role]]
    ) -> dict[tuple[str, str, Role], dt.datetime]:
        """Return what `last_fired` returns of each job, tenant and role that has fired."""

    def pause(self, job: str, *, tenant: str = "", version: int = 0, by: str, reason: str) -> None:
        """Pause a job, one of its tenants or versions; a second pause of the same replaces the first."""

    def resume(self, job: str, tenant: str = "") -> bool:
        """End the pauses of a job and tenant, of every version; return whether there was one."""

    def pauses(self) -> list[Pause]:
        """Return all pauses, sorted by job, tenant and version."""

    def withdraw(self, job: str, version: int, *, by: str, reason: str, evidence: str = "") -> bool:
        """Withdraw a version; return False, and change nothing, when it is withdrawn already."""

    def restore(self, job: str, version: int) -> bool:
        """End a withdrawal; return whether there was one."""

    def withdrawals(self, job: str | None = None) -> list[Withdrawal]:
        """Return the withdrawn versions of a job or of all jobs."""

    def beat_server(self, server: ServerRow) -> None:
        """Write a server's row and renew its lease; remove the rows of dead servers."""

    def servers(self) -> list[ServerRow]:
        """Return the servers whose process is alive."""

    def leave(self, server: str) -> None:
        """Remove a server's row."""

    def post(self, notice: PostedNotice) -> bool:
        """Put a notice into the outbox; return False when its key was posted before."""

    def notices(self, job: str | None = None, *, limit: int = 50) -> list[PostedNotice]:
        """Return the newest notices of a job or of all jobs, the last posted first."""

    def undelivered(self, limit: int = 50) -> list[PendingDelivery]:
        """Return the deliveries that are due, the oldest notice first."""

    def lease_delivery(self, key: str, channel: str, until: dt.datetime) -> bool:
        """Keep a due delivery from other processes until a time; return False when it is not due any more."""

    def delivered(self, key: str, channel: str, detail: str = "") -> None:
        """Note that a channel was given a notice."""

    def failed_delivery(self, key: str, channel: str, detail: str, not_before: dt.datetime | None) -> None:
        """Count a failed try; the next is due at `not_before`, or never when it is None."""

    def effect(self, slot: Slot, role: Role, kind: str, key: str) -> bool:
        """Return True the first time that a slot and role has this effect, and False ever after."""

    def purge(self, before: dt.datetime, *, dry_run: bool = False) -> int:
        """Remove the lines of runs that ended before a time, but for the newest of each slot and role.

        Return their number. Settled notices that were posted before go with them.
        """

    def damaged(self) -> list[DamagedRow]:
        """Return the rows that a read of this ledger met and that still cannot be read, sorted by job.

        A method that returns several rows leaves them out. A pause or a withdrawal without a readable time
        still holds. A job with a damaged row of a run that has not ended is passed over by `take`.
        """

    def all_damaged(self) -> list[DamagedRow]:
        """Return every row of the ledger that cannot be read, sorted by job."""

    def set_aside(self, row: DamagedRow) -> bool:
        """Remove a damaged row; return False, and change nothing, when it can be read or is not there.

        A pause and a withdrawal stay, with the present time: nothing that is held back starts by a repair.
        """
