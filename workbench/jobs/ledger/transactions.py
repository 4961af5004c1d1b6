"""Transactions of the job ledger in any SQL store, and the columns of its runs."""

from __future__ import annotations

import abc
import datetime as dt
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, Protocol, get_args

import orjson

from workbench.context import Clock
from workbench.errors import NotFoundError
from workbench.jobs.ledger.damage import DamagedRow, DamagedRowError, T, read_row
from workbench.jobs.ledger.host import Host
from workbench.jobs.ledger.runs import JobRun, Outcome, Role, RunEnd, Slot

#: Seconds after which a run or a server on another host counts as dead unless it renews its lease.
LEASE_S: Final = 60
_ROLES: Final = frozenset(get_args(Role))
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

    def rows(self, query: str, *values: Any) -> list[Any]:
        """Return the rows of a query."""
        return self.execute(query, *values).fetchall()

    def find(self, run: str) -> JobRun:
        """Return a run; NotFoundError for an unknown one, DamagedRowError for one that cannot be read."""
        rows = self.rows("SELECT * FROM runs WHERE run = ?", run)
        if not rows:
            raise unknown_run(run)
        return read_row("runs", rows[0], job_run)


class Transactions(abc.ABC):
    """The base of a ledger: its clock, its host, and what decides whether a process is alive."""

    def __init__(self, *, clock: Clock, host: Host | None = None, end_of: EndOf = lambda _: None) -> None:
        self._clock = clock
        self._host = host or Host.here()
        self._end_of = end_of
        #: The rows that could not be read, by table and key, as long as they are there.
        self._damaged: dict[tuple[str, tuple[str | int, ...]], DamagedRow] = {}

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
            return db.rows(query, *values) if db else []

    def _runs(self, query: str, *values: Any) -> list[JobRun]:
        return self._readable("runs", self._rows(query, *values), job_run)

    def _readable(self, table: str, rows: Iterable[Any], read: Callable[[Any], T]) -> list[T]:
        """Return the values of the rows that can be read; note the others, which `damaged` returns."""
        found = []
        for row in rows:
            try:
                found.append(read_row(table, row, read))
            except DamagedRowError as error:
                self._note_damaged(error.row)
        return found

    def _note_damaged(self, row: DamagedRow) -> None:
        self._damaged[row.table, row.key] = row

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
    """Return a row of the table `runs` as a value; an error for one that no workbench wrote.

    The row has all columns, in the order of the table: to find one by its name takes longer than to read it,
    and a page reads 100,000 rows.
    """
    (
        _, run, job, tenant, at, role, version, input_digest, state, _, _, outcome, queued_at, started_at,
        finished_at, host, pid, born, lease_until, rows, quarantined, cost, folder, detail, cause, attempt,
        priority, not_before, server, fingerprint, facts,
    ) = row.values() if isinstance(row, dict) else row  # fmt: skip
    if role not in _ROLES:
        raise ValueError(f"role is {role!r}")
    if cost is not None and not 0.0 <= cost < math.inf:
        raise ValueError(f"cost_usd is {cost!r}")
    if "\\" in run:
        raise ValueError(f"run is {run!r}, which is no id")
    return JobRun(
        run=run, slot=Slot(job=job, tenant=tenant, at=time_of(at)), version=version,
        input_digest=input_digest, state=state, outcome=outcome, queued_at=time_of(queued_at),
        started_at=None if started_at is None else time_of(started_at),
        finished_at=None if finished_at is None else time_of(finished_at),
        host=host, pid=pid, process_started_at=born, lease_until=time_of(lease_until), rows=rows,
        quarantined=quarantined, cost_usd=cost, folder=folder, detail=detail, role=role, trigger=cause,
        attempt=attempt, priority=priority,
        not_before=None if not_before is None else time_of(not_before),
        server=server, fingerprint=fingerprint, facts={} if facts == "{}" else _facts(facts),
    )  # fmt: skip


def _facts(text: str) -> dict[str, Any]:
    """Return the facts of a run; ValueError or TypeError for what is no JSON object."""
    known = orjson.loads(text)
    if not isinstance(known, dict):
        raise TypeError(f"facts is {text[:40]!r}, which is no JSON object")
    return known


def time_of(text: str) -> dt.datetime:
    """Return a time as the tables hold it; ValueError for another text."""
    at = dt.datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"the time {text!r} has no offset")
    return at
