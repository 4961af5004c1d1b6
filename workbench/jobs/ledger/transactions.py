"""Transactions of the job ledger in any SQL store, and the columns of its runs."""

from __future__ import annotations

import abc
import datetime as dt
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, Protocol

import orjson

from workbench.context import Clock
from workbench.errors import CorruptError, NotFoundError
from workbench.jobs.ledger.host import Host
from workbench.jobs.ledger.runs import JobRun, Outcome, RunEnd, Slot

#: Seconds after which a run or a server on another host counts as dead unless it renews its lease.
LEASE_S: Final = 60
#: What the output of a run says about its end, when its process died after it had published; else None.
EndOf = Callable[[JobRun], tuple[Outcome, RunEnd] | None]


class Cursor(Protocol):
    """The result of a statement; a row is read by the names of its columns."""

    @property
    def rowcount(self) -> int:
        """The number of changed rows."""

    def fetchone(self) -> Any:
        """Return the next row, or None."""

    def fetchall(self) -> list[Any]:
        """Return all rows."""


class Statements(Protocol):
    """A connection within a transaction; `?` stands for a value."""

    def execute(self, statement: str, values: Sequence[Any] = (), /) -> Cursor:
        """Execute one statement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerTransaction:
    """One open transaction, and the ledger's time at its begin."""

    db: Statements
    now: dt.datetime

    def execute(self, statement: str, *values: Any) -> Cursor:
        """Execute one statement."""
        return self.db.execute(statement, values)

    def find(self, run: str) -> JobRun:
        """Return a run; NotFoundError for an unknown one."""
        row = self.execute("SELECT * FROM runs WHERE run = ?", run).fetchone()
        if row is None:
            raise unknown_run(run)
        return job_run(row)


class Transactions(abc.ABC):
    """The base of a ledger: its clock, its host, and what decides whether a process is alive."""

    def __init__(self, *, clock: Clock, host: Host | None = None, end_of: EndOf = lambda _: None) -> None:
        self._clock = clock
        self._host = host or Host.here()
        self._end_of = end_of

    def _now(self) -> dt.datetime:
        """Return the time that leases are compared with."""
        return self._clock.now()

    @abc.abstractmethod
    def _write(self) -> AbstractContextManager[LedgerTransaction]:
        """Begin a transaction that no other process writes into, on the disk when the block ends."""

    def _write_unsynced(self) -> AbstractContextManager[LedgerTransaction]:
        """Begin a transaction that writes; it may be undone when the machine loses power, never otherwise."""
        return self._write()

    @abc.abstractmethod
    def _look(self) -> AbstractContextManager[LedgerTransaction | None]:
        """Begin a transaction that reads; None when nothing was ever written."""

    def _rows(self, query: str, *values: Any) -> list[Any]:
        with self._look() as db:
            return db.execute(query, *values).fetchall() if db else []

    def _runs(self, query: str, *values: Any) -> list[JobRun]:
        return [job_run(row) for row in self._rows(query, *values)]

    def _process(self, now: dt.datetime, pid: int | None = None) -> tuple[str, int, str, str]:
        """Return the columns `host`, `pid`, `born` and `lease_until` of a process of this host."""
        number = os.getpid() if pid is None else pid
        born = self._host.process_started_at(number) or ""
        return self._host.name, number, born, (now + dt.timedelta(seconds=LEASE_S)).isoformat()

    def _is_dead(self, *, host: str, pid: int, born: str, lease_until: dt.datetime) -> bool:
        """Whether a process has ended: on this host by its number and start, elsewhere by its lease."""
        if host == self._host.name:
            found = self._host.process_started_at(pid)
            if found is None:
                return True
            if found and born:
                return found != born
        return lease_until <= self._now()

    def _is_lost(self, run: JobRun) -> bool:
        return self._is_dead(
            host=run.host, pid=run.pid, born=run.process_started_at, lease_until=run.lease_until
        )


def unknown_run(run: str) -> NotFoundError:
    """Return the error for a run that the ledger does not have."""
    return NotFoundError(f"the ledger has no run {run}", hint="workbench jobs list")


def place(slot: Slot) -> tuple[str, str, str]:
    """Return the columns `job`, `tenant` and `at` of a slot."""
    return slot.job, slot.tenant, slot.at.isoformat()


def utc(at: dt.datetime) -> str:
    """Return a time as the tables hold it."""
    return at.astimezone(dt.UTC).isoformat()


def packed(value: Mapping[str, Any] | Sequence[str]) -> str:
    """Return a value as JSON text."""
    return orjson.dumps(value).decode()


def job_run(row: Any) -> JobRun:
    """Return a row of the table `runs` as a value; CorruptError for one that no workbench wrote."""
    # SQLite compares a name with those of all columns: a row is read as a whole.
    values = row if isinstance(row, dict) else dict(zip(row.keys(), row, strict=True))
    try:
        return JobRun(  # by name, and not in a loop: a page reads 100,000 rows
            run=values["run"],
            slot=Slot(job=values["job"], tenant=values["tenant"], at=_time(values["at"])),
            version=values["version"],
            input_digest=values["input_digest"],
            state=values["state"],
            outcome=values["outcome"],
            queued_at=_time(values["queued_at"]),
            started_at=_time_or_none(values["started_at"]),
            finished_at=_time_or_none(values["finished_at"]),
            host=values["host"],
            pid=values["pid"],
            process_started_at=values["born"],
            lease_until=_time(values["lease_until"]),
            rows=values["rows"],
            quarantined=values["quarantined"],
            cost_usd=values["cost_usd"],
            folder=values["folder"],
            detail=values["detail"],
            role=values["role"],
            trigger=values["cause"],
            attempt=values["attempt"],
            priority=values["priority"],
            not_before=_time_or_none(values["not_before"]),
            server=values["server"],
            fingerprint=values["fingerprint"],
            facts=orjson.loads(values["facts"]) if values["facts"] != "{}" else {},
        )
    except ValueError as error:
        raise CorruptError(
            f"the ledger's row of run {values['run']} cannot be read: {error}",
            hint="restore it from a backup",
        ) from None


_time = dt.datetime.fromisoformat


def _time_or_none(text: str | None) -> dt.datetime | None:
    return None if text is None else _time(text)
