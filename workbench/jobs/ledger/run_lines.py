"""The lines of runs in the ledger: claim a slot, renew its lease, finish, and find what died."""

# ruff: noqa: S608 - only names of tables and columns are put in; values are bound
from __future__ import annotations

import datetime as dt
from typing import Any, Final, Unpack

from workbench.errors import RefusedError
from workbench.jobs.ledger.damage import read_row
from workbench.jobs.ledger.runs import JobRun, Outcome, Role, RunEnd, Slot, Trigger
from workbench.jobs.ledger.transactions import (
    LedgerTransaction,
    Transactions,
    job_run,
    packed,
    place,
    unknown_run,
    utc,
)

_DETAIL: Final = 300
_MOST_FACTS: Final = 16_384
_HOLDER = "SELECT * FROM runs WHERE job = ? AND tenant = ? AND at = ? AND role = ? AND alive"
_FINISH = (
    "UPDATE runs SET state = 'finished', outcome = ?, finished_at = ?, rows = ?, quarantined = ?,"
    " cost_usd = ?, folder = ?, detail = ?, facts = ? WHERE run = ?"
)
_CLAIM = (
    "INSERT INTO runs (run, job, tenant, at, role, version, input_digest, cause, fingerprint, state,"
    " queued_at, host, pid, born, lease_until) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'queued', ?, ?, ?, ?, ?)"
)
_TAKE_OVER = (
    "UPDATE runs SET version = ?, input_digest = ?, fingerprint = ?, host = ?, pid = ?, born = ?,"
    " lease_until = ? WHERE run = ?"
)
_REFUSE = (
    "INSERT INTO runs (run, job, tenant, at, version, input_digest, state, outcome, queued_at, finished_at,"
    " lease_until, detail) VALUES (?, ?, ?, ?, ?, '', 'finished', 'refused', ?, ?, ?, ?)"
)
_WAIT = (
    "UPDATE runs SET state = 'waiting', started_at = NULL, host = '', pid = 0, born = '', server = '',"
    " not_before = ? WHERE run = ? AND alive"
)


class RunLines(Transactions):
    """The part of a ledger about runs with a process, and about the lines of ended runs."""

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
        """Insert a queued run for this process, or take over the queued run with this id."""
        with self._write() as db:
            rows = db.rows("SELECT server FROM runs WHERE run = ?", run)
            if any(row["server"] for row in rows):
                _check_taken(db.find(run), slot, role)
                own = self._process(db.now)
                db.execute(_TAKE_OVER, version, input_digest, fingerprint, *own, run)
                return db.find(run)
            self._free(db, slot, role)
            facts = (run, *place(slot), role, version, input_digest, trigger, fingerprint)
            db.execute(_CLAIM, *facts, db.now.isoformat(), *self._process(db.now))
            return db.find(run)

    def _free(self, db: LedgerTransaction, slot: Slot, role: Role) -> None:
        """End a dead run of the slot; RefusedError names a living one."""
        for row in db.rows(_HOLDER, *place(slot), role):
            holder = read_row("runs", row, job_run)
            if not self._is_lost(holder):
                raise _held(holder)
            self._lose(db, holder)

    def started(self, run: str, pid: int) -> JobRun:
        """Mark a queued run as running in process `pid` of this host; RefusedError when it is not queued."""
        statement = (
            "UPDATE runs SET state = 'running', started_at = ?, host = ?, pid = ?, born = ?, lease_until = ?"
            " WHERE run = ? AND state = 'queued'"
        )
        with self._write() as db:
            return _changed(db, run, statement, db.now.isoformat(), *self._process(db.now, pid))

    def beat(self, run: str) -> JobRun:
        """Renew the lease; RefusedError when the run is finished or lost: it must not publish."""
        with self._write() as db:
            statement = "UPDATE runs SET lease_until = ? WHERE run = ? AND alive"
            return _changed(db, run, statement, self._process(db.now)[3])

    def finished(self, run: str, outcome: Outcome, **end: Unpack[RunEnd]) -> JobRun:
        """Mark a living run as finished; RefusedError when it is finished or lost already."""
        with self._write() as db:
            return _finish(db, run, outcome, end, "alive")

    def cancel(self, run: str, outcome: Outcome, detail: str) -> JobRun:
        """Finish a waiting, queued or running run; RefusedError when it is finished or lost."""
        with self._write() as db:
            return _finish(db, run, outcome, {"detail": detail}, "NOT ended")

    def give_back(self, run: str, not_before: dt.datetime) -> JobRun:
        """Make a living run wait again, without a process; RefusedError when it is not alive."""
        with self._write() as db:
            return _changed(db, run, _WAIT, utc(not_before))

    def refused(self, slot: Slot | str, *, run: str, version: int, detail: str) -> JobRun:
        """Write the finished line of a run that failed before its claim; `slot` may be the job's name."""
        with self._write() as db:
            now = db.now
            if db.execute("SELECT 1 FROM runs WHERE run = ?", run).fetchone() is None:
                known = slot
                if isinstance(known, str):
                    known = Slot(job=known, tenant="", at=now.replace(microsecond=0))
                times = (now.isoformat(),) * 3
                db.execute(_REFUSE, run, *place(known), version, *times, _line(detail))
                return db.find(run)
            unclaimed = "NOT ended AND input_digest = ''"
            if version:
                statement = f"UPDATE runs SET version = ? WHERE run = ? AND version = 0 AND {unclaimed}"
                db.execute(statement, version, run)
            values = _end_values(db, "refused", {"detail": detail})
            db.execute(f"{_FINISH} AND {unclaimed}", *values, run)
            return db.find(run)

    def reconcile(self) -> list[JobRun]:
        """End every living run with a dead process, as lost or, when its output is there, as published."""
        if not any(map(self._is_lost, self._runs("SELECT * FROM runs WHERE alive"))):
            return []
        with self._write() as db:
            found = db.rows("SELECT * FROM runs WHERE alive ORDER BY number")
            living = self._readable("runs", found, job_run)
            return [self._lose(db, run) for run in living if self._is_lost(run)]

    def alive(self, slot: Slot, role: Role = "production") -> JobRun | None:
        """Return the run that holds the slot, or None; a run with a dead process does not count."""
        found = self._runs(_HOLDER, *place(slot), role)
        return next((run for run in found if not self._is_lost(run)), None)

    def is_alive(self, run: str) -> bool:
        """Whether this run is queued or running and its process is alive."""
        found = self._runs("SELECT * FROM runs WHERE run = ? AND alive", run)
        return any(not self._is_lost(item) for item in found)

    def run(self, run: str) -> JobRun:
        """Return a run by its id; NotFoundError for an unknown one."""
        with self._look() as db:
            if db:
                return db.find(run)
        raise unknown_run(run)

    def unfinished(self, job: str | None = None) -> list[JobRun]:
        """Return the waiting, queued and running runs, oldest first, without a look at their processes."""
        where, values = ("", ()) if job is None else (" AND job = ?", (job,))
        return self._runs(f"SELECT * FROM runs WHERE NOT ended{where} ORDER BY number", *values)

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
        wanted = {"job =": job, "tenant =": tenant, "role =": role}
        wanted["queued_at >="] = None if since is None else utc(since)
        given = {key: value for key, value in wanted.items() if value is not None}
        where = f" WHERE {' AND '.join(f'{key} ?' for key in given)}" if given else ""
        query = f"SELECT * FROM runs{where} ORDER BY number DESC LIMIT ?"
        return self._runs(query, *given.values(), limit)

    def _lose(self, db: LedgerTransaction, run: JobRun) -> JobRun:
        end = self._end_of(run)
        if end is not None:
            return _finish(db, run.run, *end, "alive")
        why = f"process {run.pid} on {run.host} ended without reporting an outcome"
        statement = "UPDATE runs SET state = 'lost', finished_at = ?, detail = ? WHERE run = ? AND alive"
        return _changed(db, run.run, statement, db.now.isoformat(), why)


def _changed(db: LedgerTransaction, run: str, statement: str, *values: Any) -> JobRun:
    """Execute a change of one run; RefusedError with the run's state when nothing was changed."""
    changed = db.execute(statement, *values, run).rowcount
    found = db.find(run)
    if not changed:
        raise _over(found)
    return found


def _finish(db: LedgerTransaction, run: str, outcome: Outcome, end: RunEnd, states: str) -> JobRun:
    return _changed(db, run, f"{_FINISH} AND {states}", *_end_values(db, outcome, end))


def _end_values(db: LedgerTransaction, outcome: Outcome, end: RunEnd) -> tuple[Any, ...]:
    facts = packed(end.get("facts", {}))
    if len(facts.encode()) > _MOST_FACTS:  # the line of a run is worth more than they are
        facts = packed({"omitted_bytes": len(facts.encode())})
    return (
        outcome, db.now.isoformat(), end.get("rows", 0), end.get("quarantined", 0), end.get("cost_usd"),
        end.get("folder", ""), _line(end.get("detail", "")), facts,
    )  # fmt: skip


def _line(detail: str) -> str:
    line = " ".join(detail.replace("\0", " ").split())
    return line if len(line) <= _DETAIL else line[: _DETAIL - 1] + "…"


def _check_taken(run: JobRun, slot: Slot, role: Role) -> None:
    """Raise RefusedError when a run that a server took cannot be taken over for this slot."""
    if run.state != "queued":
        raise _over(run)
    if (run.slot, run.role) != (slot, role):
        raise RefusedError(
            f"run {run.run} was taken for {run.slot.key} as {run.role}, not for {slot.key} as {role}",
            hint=f"workbench jobs run {slot.job}",
        )


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
