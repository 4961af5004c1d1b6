"""The ledger of job runs: who runs which slot, what became of it, and who died on the way.

A slot is job, tenant and logical time. At most one run of a slot is alive, over all processes: the
database itself holds no second one. A run whose process has ended is declared lost by whoever finds
it; from then on it can neither renew its lease nor finish, so that it does not publish.
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
from typing import TYPE_CHECKING, Any, Literal

from workbench import files, locking
from workbench.context import Clock
from workbench.errors import ConfigError, NotFoundError, RefusedError
from workbench.sqlite_errors import BUSY_S, translated

if TYPE_CHECKING:
    import polars as pl

State = Literal["queued", "running", "finished", "lost"]
Outcome = Literal["published", "unchanged", "held", "failed", "interrupted", "deadline"]
#: A run on a host we cannot look into is dead when it has not renewed its lease for so long.
LEASE_S = 60
SCHEMA = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_EVERY_TENANT = "all"
_DETAIL = 300
#: The process namespace of a machine itself; a container has another one.
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
    """What one output is for: a job, a tenant ("" for all of the use case) and a logical time."""

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
        """Its name, also as a path: `answers/acme/20261124T060000Z`."""
        return f"{self.job}/{self.tenant or _EVERY_TENANT}/{self.at:%Y%m%dT%H%M%SZ}"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRun:
    """One run of a slot, as the ledger has it. `outcome` is "" until it has finished, and when it was lost.

    The run lives as long as process `pid` on `host` does; `process_started_at` tells it from a later process
    with the same number. Its output was published in `folder`; `quarantined` rows were set aside.
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
        """Whether the ledger has it as queued or running."""
        return self.state in {"queued", "running"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Where a process number means one process: a machine, or a container on it."""

    name: str

    @classmethod
    def here(cls) -> Host:
        """The one this process runs on."""
        name = platform.node()
        with contextlib.suppress(OSError):
            namespace = str(Path("/proc/self/ns/pid").readlink())
            name += "" if namespace == _MACHINE else f"/{namespace}"
        return cls(name=name)

    def process_started_at(self, pid: int) -> str | None:
        """When a process began; None when it has ended, "" when it lives and cannot be looked at."""
        import psutil

        try:
            if platform.system() == "Linux":
                return _ticks(pid)
            process = psutil.Process(pid)
            return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
        except (OSError, psutil.Error):
            return "" if psutil.pid_exists(pid) else None


def _ticks(pid: int) -> str | None:
    """Which boot, and how many ticks after it: psutil's `create_time` moves whenever the clock is set."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    stat = Path(f"/proc/{pid}/stat").read_bytes()
    fields = stat.rpartition(b")")[2].split()  # the name before it may hold anything, also a bracket
    ended = fields[0] in {b"Z", b"X"}  # only its parent has not asked for it yet
    return None if ended else f"{boot[:8]}/{int(fields[19])}"


class RunLedger:
    """The ledger in one SQLite file. Safe over threads and processes: every verb is one transaction."""

    def __init__(self, path: Path, *, clock: Clock, host: Host | None = None) -> None:
        self.path = path
        self._clock = clock
        self._host = host or Host.here()

    def claim(self, slot: Slot, *, run: str, version: int, input_digest: str) -> JobRun:
        """A queued run of the slot, this process's; RefusedError names the one that is alive there."""
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
        """The run is running, and lives as long as this process of this host does."""
        statement = (
            "UPDATE runs SET state = 'running', started_at = ?, host = ?, pid = ?, born = ?, lease_until = ?"
            " WHERE run = ? AND state = 'queued'"
        )
        return self._change(run, statement, self._now(), *self._process(pid))

    def beat(self, run: str) -> JobRun:
        """Renew the lease; RefusedError when the run is over or was declared lost: it must not publish."""
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
        """The run is over; RefusedError when it was already, or was declared lost."""
        line = " ".join(detail.split())
        line = line if len(line) <= _DETAIL else line[: _DETAIL - 1] + "…"
        statement = (
            "UPDATE runs SET state = 'finished', outcome = ?, finished_at = ?, rows = ?, quarantined = ?,"
            " cost_usd = ?, folder = ?, detail = ? WHERE run = ? AND alive"
        )
        return self._change(run, statement, outcome, self._now(), rows, quarantined, cost_usd, folder, line)

    def reconcile(self) -> list[JobRun]:
        """Declare lost whoever is queued or running by the ledger and dead in truth; who that was.

        On this host the process alone decides, whatever the clock says; on another one the lease does.
        """
        if not self.path.exists():
            return []
        with self._transaction() as db:
            alive = map(_job_run, db.execute("SELECT * FROM runs WHERE alive ORDER BY number").fetchall())
            return [self._lose(db, run) for run in alive if self._is_dead(run)]

    def alive(self, slot: Slot) -> JobRun | None:
        """The run that holds the slot now, dead ones not counted."""
        return next((run for run in self._read(_HOLDER, *_place(slot)) if not self._is_dead(run)), None)

    def is_alive(self, run: str) -> bool:
        """Whether this run is queued or running, and its process alive."""
        found = self._read("SELECT * FROM runs WHERE run = ? AND alive", run)
        return any(not self._is_dead(one) for one in found)

    def history(self, job: str | None = None, *, limit: int = 50) -> list[JobRun]:
        """The runs of one job or of all, the last claimed first."""
        query = "SELECT * FROM runs WHERE ?1 IS NULL OR job = ?1 ORDER BY number DESC LIMIT ?2"
        return self._read(query, job, limit)

    def frame(self, job: str | None = None, *, limit: int = 50) -> pl.DataFrame:
        """`history` as a frame; the columns are the same when there is none."""
        import polars as pl

        text, count, time = pl.String(), pl.Int64(), pl.Datetime("us", "UTC")
        schema: dict[str, Any] = {
            "run": text, "job": text, "tenant": text, "at": time, "version": count, "state": text,
            "outcome": text, "queued_at": time, "started_at": time, "finished_at": time, "rows": count,
            "quarantined": count, "cost_usd": pl.Float64(), "folder": text, "detail": text,
            "input_digest": text, "host": text, "pid": count, "lease_until": time,
        }  # fmt: skip
        rows = [
            [getattr(run.slot if name in {"job", "tenant", "at"} else run, name) for name in schema]
            for run in self.history(job, limit=limit)
        ]
        return pl.DataFrame(rows, schema=schema, orient="row")

    def _is_dead(self, run: JobRun) -> bool:
        if run.host == self._host.name:
            process_started_at = self._host.process_started_at(run.pid)
            if process_started_at is None:
                return True
            if process_started_at and run.process_started_at:
                return process_started_at != run.process_started_at
        return run.lease_until <= self._clock.now()

    def _lose(self, db: sqlite3.Connection, run: JobRun) -> JobRun:
        why = f"process {run.pid} on {run.host} ended without a word"
        statement = "UPDATE runs SET state = 'lost', finished_at = ?, detail = ? WHERE run = ? AND alive"
        db.execute(statement, (self._now(), why, run.run))
        return _found(db, run.run)

    def _change(self, run: str, statement: str, *values: Any) -> JobRun:
        with self._transaction() as db:
            if not db.execute(statement, (*values, run)).rowcount:
                raise _over(_found(db, run))
            return _found(db, run)

    def _read(self, query: str, *values: Any) -> list[JobRun]:
        if not self.path.exists():  # looking creates nothing
            return []
        with self._transaction("BEGIN") as db:
            return [_job_run(row) for row in db.execute(query, values)]

    def _now(self) -> str:
        return self._clock.now().isoformat()

    def _lease(self) -> str:
        return (self._clock.now() + dt.timedelta(seconds=LEASE_S)).isoformat()

    def _process(self, pid: int) -> tuple[str, int, str, str]:
        """The columns `host`, `pid`, `born` and `lease_until`."""
        return self._host.name, pid, self._host.process_started_at(pid) or "", self._lease()

    @contextlib.contextmanager
    def _transaction(self, begin: str = "BEGIN IMMEDIATE") -> Iterator[sqlite3.Connection]:
        """All of the block or nothing of it; on disk when the block has ended."""
        with translated(self.path, damaged=_set_aside(self.path), waited_s=BUSY_S):
            files.make_folder(self.path.parent)
            # SQLite would create it readable for all, and wait for ever on a named pipe.
            os.close(files.open_regular(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            with contextlib.closing(sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None)) as db:
                _prepare(db, self.path)
                db.execute(begin)
                yield db
                db.execute("COMMIT")


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    db.row_factory = sqlite3.Row
    db.execute("PRAGMA synchronous = FULL")
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
    """The tables, unless another process was faster or the file is another program's."""
    with locking.locked(path.parent):
        if not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {SCHEMA}; COMMIT;")


def _set_aside(path: Path) -> str:
    """The command; the log beside the file must go with it, or SQLite would put it into the next one."""
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
    columns["process_started_at"] = "born"  # its name in the table, which older versions read too
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
