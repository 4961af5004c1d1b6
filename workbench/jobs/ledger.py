"""The ledger of job runs: the slot, process, state and outcome of each run.

A slot is job, tenant and logical time. At most one run of a slot is alive, over all processes: a unique
index of the database enforces it. The next process to look declares a run lost when its process has
ended; a lost run can neither renew its lease nor finish, so it does not publish.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import platform
import re
import shlex
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from workbench import locking
from workbench.context import Clock
from workbench.errors import ConfigError, NotFoundError, RefusedError
from workbench.sqlite_file import connect, translated

State = Literal["queued", "running", "finished", "lost"]
Outcome = Literal["published", "unchanged", "held", "failed", "interrupted", "deadline"]
#: Seconds after which a run on another host counts as dead unless it renews its lease.
LEASE_S = 60
SCHEMA = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_EVERY_TENANT = "all"
_DETAIL = 300
#: The process namespace of the machine itself; each container has its own.
_MACHINE = "pid:[4026531836]"
_TABLES = """
CREATE TABLE runs (
    number INTEGER PRIMARY KEY, run TEXT NOT NULL UNIQUE,
    job TEXT NOT NULL, tenant TEXT NOT NULL, at TEXT NOT NULL,
    version INTEGER NOT NULL, input_digest TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'finished', 'lost')),
    alive INTEGER NOT NULL AS (state IN ('queued', 'running')),
    outcome TEXT NOT NULL DEFAULT '',
    queued_at TEXT NOT NULL, started_at TEXT, finished_at TEXT,
    host TEXT NOT NULL, pid INTEGER NOT NULL, born TEXT NOT NULL, lease_until TEXT NOT NULL,
    rows INTEGER NOT NULL DEFAULT 0, quarantined INTEGER NOT NULL DEFAULT 0, cost_usd REAL,
    folder TEXT NOT NULL DEFAULT '', detail TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE UNIQUE INDEX runs_alive ON runs (job, tenant, at) WHERE alive;
CREATE INDEX runs_of_job ON runs (job, number);
"""
_HOLDER = "SELECT * FROM runs WHERE job = ? AND tenant = ? AND at = ? AND alive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """The key of one output: a job, a tenant ("" for all of the use case) and a logical time in UTC.

    ConfigError for names that cannot be folders and for a time without offset or with microseconds.
    """

    job: str
    tenant: str
    at: dt.datetime

    def __post_init__(self) -> None:
        named = _NAME.fullmatch(self.job) and _NAME.fullmatch(self.tenant or "any")
        if not named or self.tenant == _EVERY_TENANT:
            raise ConfigError(
                f"job {self.job!r} and tenant {self.tenant!r} cannot name folders",
                hint=f"use letters, digits, - and _; {_EVERY_TENANT!r} is taken: it means every tenant",
            )
        if self.at.tzinfo is None or self.at.microsecond:
            raise ConfigError(
                f"{self.at.isoformat()} is not a time in whole seconds with its offset",
                hint="write it like 2026-11-24T06:00:00Z",
            )
        object.__setattr__(self, "at", self.at.astimezone(dt.UTC))

    @property
    def key(self) -> str:
        """The slot's name and relative path, such as `answers/acme/20261124T060000Z`."""
        return f"{self.job}/{self.tenant or _EVERY_TENANT}/{self.at:%Y%m%dT%H%M%SZ}"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRun:
    """A run of a slot in the ledger. `outcome` is "" for an unfinished or lost run.

    The run is alive while process `pid` on `host` is; `process_started_at` distinguishes it from a later
    process with the same number. `folder` is the published output, `quarantined` a count of rows.
    """

    run: str
    slot: Slot
    version: int
    input_digest: str
    state: State
    outcome: Outcome | Literal[""]
    queued_at: dt.datetime
    started_at: dt.datetime | None
    finished_at: dt.datetime | None
    host: str
    pid: int
    process_started_at: str
    lease_until: dt.datetime
    rows: int
    quarantined: int
    cost_usd: float | None
    folder: str
    detail: str

    @property
    def alive(self) -> bool:
        """Whether its state is queued or running."""
        return self.state in {"queued", "running"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A machine or a container: the scope in which a process number is unique."""

    name: str

    @classmethod
    def here(cls) -> Host:
        """Return the host of this process."""
        name = platform.node()
        with contextlib.suppress(OSError):
            namespace = str(Path("/proc/self/ns/pid").readlink())
            name += "" if namespace == _MACHINE else f"/{namespace}"
        return cls(name=name)

    def process_started_at(self, pid: int) -> str | None:
        """Return a process's start as a text; None when it has ended, "" when it cannot be read."""
        import psutil

        try:
            if platform.system() == "Linux":
                return _ticks(pid)
            process = psutil.Process(pid)
            return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
        except (OSError, psutil.Error):
            return "" if psutil.pid_exists(pid) else None


def _ticks(pid: int) -> str | None:
    """Return boot id and ticks since boot: psutil's `create_time` changes when the clock is set."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    stat = Path(f"/proc/{pid}/stat").read_bytes()
    fields = stat.rpartition(b")")[2].split()  # the process name may contain brackets
    ended = fields[0] in {b"Z", b"X"}  # ended, and not yet reaped by its parent
    return None if ended else f"{boot[:8]}/{int(fields[19])}"


class RunLedger:
    """The ledger in one SQLite file, safe across threads and processes: a method is one transaction."""

    def __init__(self, path: Path, *, clock: Clock, host: Host | None = None) -> None:
        self.path = path
        self._clock = clock
        self._host = host or Host.here()

    def claim(self, slot: Slot, *, run: str, version: int, input_digest: str) -> JobRun:
        """Insert a queued run of the slot for this process; RefusedError names a run that is alive."""
        with self._transaction() as db:
            for holder in map(_job_run, db.execute(_HOLDER, _place(slot)).fetchall()):
                if not self._is_dead(holder):
                    raise _held(holder)
                self._lose(db, holder)
            db.execute(
                "INSERT INTO runs (run, job, tenant, at, version, input_digest, state, queued_at, host, pid,"
                " born, lease_until) VALUES (?, ?, ?, ?, ?, ?, 'queued', ?, ?, ?, ?, ?)",
                (run, *_place(slot), version, input_digest, self._now(), *self._process(os.getpid())),
            )
            return _found(db, run)

    def started(self, run: str, pid: int) -> JobRun:
        """Mark a queued run as running in process `pid` of this host; RefusedError when it is not queued."""
        statement = (
            "UPDATE runs SET state = 'running', started_at = ?, host = ?, pid = ?, born = ?, lease_until = ?"
            " WHERE run = ? AND state = 'queued'"
        )
        return self._change(run, statement, self._now(), *self._process(pid))

    def beat(self, run: str) -> JobRun:
        """Renew the lease; RefusedError when the run is finished or lost: it must not publish."""
        return self._change(run, "UPDATE runs SET lease_until = ? WHERE run = ? AND alive", self._lease())

    def finished(
        self,
        run: str,
        outcome: Outcome,
        *,
        rows: int = 0,
        quarantined: int = 0,
        cost_usd: float | None = None,
        folder: str = "",
        detail: str = "",
    ) -> JobRun:
        """Mark a run as finished; RefusedError when it is finished or lost already."""
        line = " ".join(detail.split())
        line = line if len(line) <= _DETAIL else line[: _DETAIL - 1] + "…"
        statement = (
            "UPDATE runs SET state = 'finished', outcome = ?, finished_at = ?, rows = ?, quarantined = ?,"
            " cost_usd = ?, folder = ?, detail = ? WHERE run = ? AND alive"
        )
        return self._change(run, statement, outcome, self._now(), rows, quarantined, cost_usd, folder, line)

    def reconcile(self) -> list[JobRun]:
        """Declare every queued or running run with a dead process lost; return these runs.

        On this host only the process decides, whatever the clock says; on another host the lease does.
        """
        if not self.path.exists():
            return []
        with self._transaction() as db:
            alive = map(_job_run, db.execute("SELECT * FROM runs WHERE alive ORDER BY number").fetchall())
            return [self._lose(db, run) for run in alive if self._is_dead(run)]

    def alive(self, slot: Slot) -> JobRun | None:
        """Return the run that holds the slot, or None; a run with a dead process does not count."""
        return next((run for run in self._read(_HOLDER, *_place(slot)) if not self._is_dead(run)), None)

    def is_alive(self, run: str) -> bool:
        """Whether this run is queued or running and its process is alive."""
        found = self._read("SELECT * FROM runs WHERE run = ? AND alive", run)
        return any(not self._is_dead(item) for item in found)

    def history(self, job: str | None = None, *, limit: int = 50) -> list[JobRun]:
        """Return the newest runs of one job or of all jobs, the last claimed first."""
        query = "SELECT * FROM runs WHERE ?1 IS NULL OR job = ?1 ORDER BY number DESC LIMIT ?2"
        return self._read(query, job, limit)

    def _is_dead(self, run: JobRun) -> bool:
        if run.host == self._host.name:
            process_started_at = self._host.process_started_at(run.pid)
            if process_started_at is None:
                return True
            if process_started_at and run.process_started_at:
                return process_started_at != run.process_started_at
        return run.lease_until <= self._clock.now()

    def _lose(self, db: sqlite3.Connection, run: JobRun) -> JobRun:
        why = f"process {run.pid} on {run.host} ended without reporting an outcome"
        statement = "UPDATE runs SET state = 'lost', finished_at = ?, detail = ? WHERE run = ? AND alive"
        db.execute(statement, (self._now(), why, run.run))
        return _found(db, run.run)

    def _change(self, run: str, statement: str, *values: Any) -> JobRun:
        with self._transaction() as db:
            if not db.execute(statement, (*values, run)).rowcount:
                raise _over(_found(db, run))
            return _found(db, run)

    def _read(self, query: str, *values: Any) -> list[JobRun]:
        if not self.path.exists():  # a read does not create the file
            return []
        with self._transaction("BEGIN") as db:
            return [_job_run(row) for row in db.execute(query, values)]

    def _now(self) -> str:
        return self._clock.now().isoformat()

    def _lease(self) -> str:
        return (self._clock.now() + dt.timedelta(seconds=LEASE_S)).isoformat()

    def _process(self, pid: int) -> tuple[str, int, str, str]:
        """Return the columns `host`, `pid`, `born` and `lease_until`."""
        return self._host.name, pid, self._host.process_started_at(pid) or "", self._lease()

    @contextlib.contextmanager
    def _transaction(self, begin: str = "BEGIN IMMEDIATE") -> Iterator[sqlite3.Connection]:
        """Run the block as one transaction, which is on disk when the block ends."""
        damaged = _set_aside(self.path)
        with translated(self.path, damaged=damaged), contextlib.closing(connect(self.path)) as db:
            _prepare(db, self.path)
            db.execute(begin)
            yield db
            db.execute("COMMIT")


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    db.row_factory = sqlite3.Row
    if _schema(db) == 0:
        _create(db, path)
    if (found := _schema(db)) != SCHEMA:
        raise ConfigError(
            f"{path} has schema {found}, this workbench knows schema {SCHEMA}",
            hint=f"use the workbench that wrote it, or set it aside: {_set_aside(path)}",
        )


def _schema(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _create(db: sqlite3.Connection, path: Path) -> None:
    """Create the tables in an empty database; a database with tables stays unchanged."""
    with locking.locked(path.parent):
        if not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {SCHEMA}; COMMIT;")


def _set_aside(path: Path) -> str:
    """Return the command that moves the database and its write-ahead log, which belong together."""
    aside = shlex.quote(str(path.parent / "aside"))
    return f"mkdir -p {aside} && mv {shlex.quote(str(path))}* {aside}   (the history begins anew)"


def _place(slot: Slot) -> tuple[str, str, str]:
    return slot.job, slot.tenant, slot.at.isoformat()


def _found(db: sqlite3.Connection, run: str) -> JobRun:
    row = db.execute("SELECT * FROM runs WHERE run = ?", (run,)).fetchone()
    if row is None:
        raise NotFoundError(f"the ledger has no run {run}", hint="workbench jobs list")
    return _job_run(row)


def _job_run(row: sqlite3.Row) -> JobRun:
    columns = {name: name for name in JobRun.__dataclass_fields__ if name != "slot"}
    columns["process_started_at"] = "born"  # the column's name, which older versions read too
    raw = {name: row[column] for name, column in columns.items()}
    for name in ("queued_at", "started_at", "finished_at", "lease_until"):
        raw[name] = dt.datetime.fromisoformat(raw[name]) if raw[name] is not None else None
    slot = Slot(job=row["job"], tenant=row["tenant"], at=dt.datetime.fromisoformat(row["at"]))
    return JobRun(slot=slot, **raw)


def _held(run: JobRun) -> RefusedError:
    since = (run.started_at or run.queued_at).isoformat(timespec="seconds")
    return RefusedError(
        f"{run.slot.key} is {run.state} since {since}: run {run.run}, process {run.pid} on {run.host}",
        hint=f"workbench jobs history {run.slot.job}",
    )


def _over(run: JobRun) -> RefusedError:
    lost = "was declared lost, and another run may have its slot: it must not publish"
    what = lost if run.state == "lost" else f"is {run.state} already"
    message = f"run {run.run} of {run.slot.key} {what}"
    return RefusedError(message, hint=f"workbench jobs history {run.slot.job}")
