"""The queue of the ledger: which slots fired, which runs wait, and which of them is next."""

# ruff: noqa: S608 - only conditions of this file are put in; values are bound
from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Collection, Sequence
from typing import Any, Literal

from workbench.jobs.ledger.damage import DamagedRowError, read_row
from workbench.jobs.ledger.runs import JobRun, Role, RunOrder, Slot, Trigger
from workbench.jobs.ledger.transactions import (
    LedgerTransaction,
    Transactions,
    job_run,
    place,
    time_of,
    utc,
)

_FIRE = (
    "INSERT INTO fired (job, tenant, at, role, attempt, cause) VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT DO NOTHING"
)
_ENQUEUE = (
    "INSERT INTO runs (run, job, tenant, at, role, version, input_digest, cause, attempt, priority, state,"
    " queued_at, lease_until, not_before) VALUES (?, ?, ?, ?, ?, ?, '', ?, ?, ?, 'waiting', ?, ?, ?)"
)
_MISS = (
    "INSERT INTO runs (run, job, tenant, at, role, version, input_digest, cause, state, outcome, queued_at,"
    " finished_at, lease_until, detail) VALUES (?, ?, ?, ?, ?, 0, '', 'schedule', 'finished', ?, ?, ?, ?, ?)"
)
_WAITS = (
    "SELECT * FROM runs WHERE job = ? AND tenant = ? AND at = ? AND role = ? AND state = 'waiting'"
    " ORDER BY number LIMIT 1"
)
_LATER_ATTEMPTS = "DELETE FROM fired WHERE job = ? AND tenant = ? AND at = ? AND role = ? AND attempt > 1"
#: A run that may be taken now: its time has come, and neither a pause nor a run of its slot holds it back.
#: One that was queued later than now is of before the clock was set back, and so is its time. Most jobs have
#: no pause, and the lists in the second test of pauses cost a microsecond for each run.
_READY = """
waits.state = 'waiting' AND (waits.not_before <= ? OR waits.queued_at > ?)
AND NOT EXISTS (
    SELECT 1 FROM runs AS other WHERE other.alive AND other.job = waits.job
    AND other.tenant = waits.tenant AND other.at = waits.at AND other.role = waits.role
)
AND (waits.job NOT IN (SELECT job FROM pauses) OR NOT EXISTS (
    SELECT 1 FROM pauses WHERE pauses.job = waits.job AND pauses.tenant IN ('', waits.tenant)
    AND pauses.version IN (0, waits.version)
))
{passed_over}"""
#: A job is passed over as long as a row of one of its unfinished runs cannot be read.
_PASSED_OVER = "AND waits.job NOT IN (SELECT job FROM runs WHERE number IN ({}))"
#: The job and tenant whose turn it is: one row of each is compared, and not each of a thousand runs.
_NEXT_LANE = f"""
SELECT due.priority, due.job, due.tenant FROM (
    SELECT waits.priority, waits.job, waits.tenant, min(waits.at) AS at, min(waits.number) AS number
    FROM runs AS waits WHERE {_READY} GROUP BY waits.priority, waits.job, waits.tenant
) AS due
LEFT JOIN (SELECT job, count(*) AS runs FROM runs WHERE alive GROUP BY job) AS of_job
ON of_job.job = due.job
LEFT JOIN (SELECT tenant, count(*) AS runs FROM runs WHERE alive GROUP BY tenant) AS of_tenant
ON of_tenant.tenant = due.tenant
LEFT JOIN (SELECT tenant, count(*) AS runs FROM runs WHERE alive AND server = ? GROUP BY tenant) AS mine
ON mine.tenant = due.tenant
LEFT JOIN turns AS job_turn ON job_turn.name = 'job/' || due.job
LEFT JOIN turns AS tenant_turn ON tenant_turn.name = 'tenant/' || due.job || '/' || due.tenant
WHERE ? = 0 OR due.tenant = '' OR coalesce(mine.runs, 0) < ?
ORDER BY due.priority DESC, coalesce(of_job.runs, 0), coalesce(of_tenant.runs, 0),
coalesce(job_turn.turn, 0), coalesce(tenant_turn.turn, 0), due.at, due.number LIMIT 1
"""
_NEXT = f"""
SELECT waits.* FROM runs AS waits WHERE {_READY}
AND waits.priority = ? AND waits.job = ? AND waits.tenant = ? ORDER BY waits.at, waits.number LIMIT 1
"""
_TAKE = (
    "UPDATE runs SET state = 'queued', server = ?, host = ?, pid = ?, born = ?, lease_until = ? WHERE run = ?"
)
_TURN = (
    "INSERT INTO turns (name, turn) VALUES (?, (SELECT coalesce(max(turn), 0) + 1 FROM turns))"
    " ON CONFLICT (name) DO UPDATE SET turn = excluded.turn"
)
_LAST_FIRED = (
    "SELECT * FROM fired WHERE job = ? AND tenant = ? AND role = ? AND attempt = 1"
    " AND cause IN ('schedule', 'catch_up') ORDER BY at DESC LIMIT 1"
)
_ONCE = (
    "INSERT INTO effects (job, tenant, at, role, kind, key) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
)
#: What a person asked for: it never fires a slot, so that the slot's own time still does.
_BY_HAND: tuple[Trigger, ...] = ("manual", "trigger")


class RunQueue(Transactions):
    """The part of a ledger about slots that fire and runs that wait."""

    def enqueue(self, order: RunOrder, *, again: bool = False) -> JobRun | None:
        """Insert a waiting run; return None when the slot and role fired with this attempt before."""
        with self._write() as db:
            return _enqueue(db, order, again=again)

    def enqueue_all(self, orders: Sequence[RunOrder]) -> list[JobRun | None]:
        """Insert the waiting runs of orders in one transaction; return for each what `enqueue` returns."""
        if not orders:
            return []
        with self._write() as db:
            return [_enqueue(db, order) for order in orders]

    def miss(
        self, slot: Slot, role: Role, detail: str, *, outcome: Literal["missed", "skipped"] = "missed"
    ) -> bool:
        """Fire a slot with a finished line instead of a run; return False when it fired before."""
        with self._write() as db:
            if not db.execute(_FIRE, *place(slot), role, 1, "schedule").rowcount:
                return False
            times = (db.now.isoformat(),) * 3
            db.execute(_MISS, secrets.token_hex(8), *place(slot), role, outcome, *times, detail)
            return True

    def take(self, server: str, *, runs: int, per_tenant: int) -> JobRun | None:
        """Return the next waiting run, queued and held by this process for the server; None without one."""
        if not self._rows("SELECT 1 FROM runs WHERE state = 'waiting' LIMIT 1"):
            return None
        while True:
            try:
                with self._write_unsynced() as db:
                    return self._take(db, server, runs=runs, per_tenant=per_tenant)
            except DamagedRowError as error:  # of one job, which is passed over from now on
                if (error.row.table, error.row.key) in self._damaged:
                    raise
                self._note_damaged(error.row)

    def _take(self, db: LedgerTransaction, server: str, *, runs: int, per_tenant: int) -> JobRun | None:
        held = db.execute("SELECT count(*) AS runs FROM runs WHERE alive AND server = ?", server)
        if held.fetchone()["runs"] >= runs:
            return None
        times = (db.now.isoformat(),) * 2
        rows = [row.key[0] for row in self._damaged.values() if row.stops]
        words = _PASSED_OVER.format(", ".join(map(str, rows))) if rows else ""
        lane_query, run_query = (query.format(passed_over=words) for query in (_NEXT_LANE, _NEXT))
        lanes = db.rows(lane_query, *times, server, per_tenant, per_tenant)
        if not lanes:
            return None
        lane = lanes[0]
        row = db.rows(run_query, *times, lane["priority"], lane["job"], lane["tenant"])[0]
        read_row("runs", row, job_run)
        db.execute(_TAKE, server, *self._process(db.now), row["run"])
        for name in (f"job/{row['job']}", f"tenant/{row['job']}/{row['tenant']}"):
            db.execute(_TURN, name)
        return db.find(row["run"])

    def last_fired(self, job: str, tenant: str, role: Role) -> dt.datetime | None:
        """Return the latest slot time that a schedule fired, caught up with, or missed."""
        return next(
            (read_row("fired", row, fired_at) for row in self._rows(_LAST_FIRED, job, tenant, role)), None
        )

    def last_fired_of(
        self, keys: Collection[tuple[str, str, Role]]
    ) -> dict[tuple[str, str, Role], dt.datetime]:
        """Return what `last_fired` returns of each job, tenant and role that has fired."""
        with self._look() as db:
            rows = {key: db.rows(_LAST_FIRED, *key) for key in keys} if db else {}
        return {key: read_row("fired", found[0], fired_at) for key, found in rows.items() if found}

    def effect(self, slot: Slot, role: Role, kind: str, key: str) -> bool:
        """Return True the first time that a slot and role has this effect, and False ever after."""
        with self._write() as db:
            return bool(db.execute(_ONCE, *place(slot), role, kind, key).rowcount)


def fired_at(row: Any) -> dt.datetime:
    """Return the slot time of a row of the table `fired`; ValueError for a text that is no time."""
    return time_of(row["at"])


def _enqueue(db: LedgerTransaction, order: RunOrder, *, again: bool = False) -> JobRun | None:
    key = (*place(order.slot), order.role)
    if order.trigger in _BY_HAND:
        for row in db.rows(_WAITS, *key):
            return read_row("runs", row, job_run)
        db.execute(_LATER_ATTEMPTS, *key)
    elif not db.execute(_FIRE, *key, order.attempt, order.trigger).rowcount:
        if not again:
            return None
        db.execute(_LATER_ATTEMPTS, *key)
    run, now = secrets.token_hex(8), db.now.isoformat()
    facts = (order.version, order.trigger, order.attempt, order.priority)
    db.execute(_ENQUEUE, run, *key, *facts, now, now, utc(order.not_before or db.now))
    return db.find(run)


def delete_lines(db: LedgerTransaction, before: dt.datetime, *, dry_run: bool) -> int:
    """Delete the lines of runs that ended before a time, but for the newest of each slot and role."""
    where = (
        "FROM runs WHERE ended AND finished_at < ? AND EXISTS (SELECT 1 FROM runs AS"
        " newer WHERE newer.job = runs.job AND newer.tenant = runs.tenant AND newer.at = runs.at"
        " AND newer.role = runs.role AND newer.number > runs.number)"
    )
    if dry_run:
        return int(db.execute(f"SELECT count(*) AS runs {where}", utc(before)).fetchone()["runs"])
    return db.execute(f"DELETE {where}", utc(before)).rowcount
