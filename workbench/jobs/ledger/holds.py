"""What holds jobs back and who serves them: pauses, withdrawn versions and the rows of servers."""

# ruff: noqa: S608 - only names of tables and columns are put in; values are bound
from __future__ import annotations

import datetime as dt
from typing import Any

from workbench.jobs.ledger.port import Pause, ServerRow, Withdrawal
from workbench.jobs.ledger.transactions import Transactions, time_of, utc

_PAUSE = (
    "INSERT INTO pauses (job, tenant, version, author, reason, at) VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (job, tenant, version) DO UPDATE SET author = excluded.author, reason = excluded.reason,"
    " at = excluded.at"
)
_WITHDRAW = (
    "INSERT INTO withdrawals (job, version, author, reason, evidence, at) VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT DO NOTHING"
)
_BEAT = (
    "INSERT INTO servers (id, host, pid, born, address, started_at, lease_until) VALUES (?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (id) DO UPDATE SET host = excluded.host, pid = excluded.pid, born = excluded.born,"
    " address = excluded.address, started_at = excluded.started_at, lease_until = excluded.lease_until"
)


class Holds(Transactions):
    """The part of a ledger about pauses, withdrawals and servers."""

    def pause(self, job: str, *, tenant: str = "", version: int = 0, by: str, reason: str) -> None:
        """Pause a job, one of its tenants or versions; a second pause of the same replaces the first."""
        with self._write() as db:
            db.execute(_PAUSE, job, tenant, version, by, reason, db.now.isoformat())

    def resume(self, job: str, tenant: str = "") -> bool:
        """End the pauses of a job and tenant, of every version; return whether there was one."""
        return self._removed("pauses", job=job, tenant=tenant)

    def pauses(self) -> list[Pause]:
        """Return all pauses, sorted by job, tenant and version."""
        rows = self._rows("SELECT * FROM pauses ORDER BY job, tenant, version")
        self._readable("pauses", rows, check_time)
        return [
            Pause(
                job=row["job"], tenant=row["tenant"], version=row["version"], by=row["author"],
                reason=row["reason"], at=_time_or_first(row["at"]),
            )
            for row in rows
        ]  # fmt: skip

    def withdraw(self, job: str, version: int, *, by: str, reason: str, evidence: str = "") -> bool:
        """Withdraw a version; return False, and change nothing, when it is withdrawn already."""
        with self._write() as db:
            values = (job, version, by, reason, evidence, db.now.isoformat())
            return bool(db.execute(_WITHDRAW, *values).rowcount)

    def restore(self, job: str, version: int) -> bool:
        """End a withdrawal; return whether there was one."""
        return self._removed("withdrawals", job=job, version=version)

    def withdrawals(self, job: str | None = None) -> list[Withdrawal]:
        """Return the withdrawn versions of a job or of all jobs."""
        where, values = ("", ()) if job is None else (" WHERE job = ?", (job,))
        rows = self._rows(f"SELECT * FROM withdrawals{where} ORDER BY job, version", *values)
        self._readable("withdrawals", rows, check_time)
        return [
            Withdrawal(
                job=row["job"], version=row["version"], by=row["author"], reason=row["reason"],
                evidence=row["evidence"], at=_time_or_first(row["at"]),
            )
            for row in rows
        ]  # fmt: skip

    def beat_server(self, server: ServerRow) -> None:
        """Write a server's row and renew its lease; remove the rows of dead servers."""
        with self._write() as db:
            lease = self._process(db.now)[3]
            row = (server.id, server.host, server.pid, server.born, server.address, utc(server.started_at))
            db.execute(_BEAT, *row, lease)
            for other in db.rows("SELECT * FROM servers WHERE id != ?", server.id):
                if not self._serves(other):
                    db.execute("DELETE FROM servers WHERE id = ?", other["id"])

    def servers(self) -> list[ServerRow]:
        """Return the servers whose process is alive."""
        rows = self._rows("SELECT * FROM servers ORDER BY started_at, id")
        return [
            ServerRow(
                id=row["id"], host=row["host"], pid=row["pid"], born=row["born"], address=row["address"],
                started_at=_time_or_first(row["started_at"]), lease_until=_time_or_first(row["lease_until"]),
            )
            for row in rows
            if self._serves(row)
        ]  # fmt: skip

    def leave(self, server: str) -> None:
        """Remove a server's row."""
        self._removed("servers", id=server)

    def _serves(self, row: Any) -> bool:
        lease = _time_or_first(row["lease_until"])
        return not self._is_dead(host=row["host"], pid=row["pid"], born=row["born"], lease_until=lease)

    def _removed(self, table: str, **where: str | int) -> bool:
        """Delete rows; return whether there was one."""
        wanted = f"FROM {table} WHERE {' AND '.join(f'{name} = ?' for name in where)}"
        if not self._rows(f"SELECT 1 {wanted}", *where.values()):
            return False
        with self._write() as db:
            return bool(db.execute(f"DELETE {wanted}", *where.values()).rowcount)


def check_time(row: Any) -> None:
    """Raise ValueError for a row of pauses or withdrawals whose time cannot be read."""
    time_of(row["at"])


def _time_or_first(text: str) -> dt.datetime:
    """Return a time, the first of all for a text that is none: what holds a job back still holds it."""
    try:
        return time_of(text)
    except ValueError:
        return dt.datetime.min.replace(tzinfo=dt.UTC)
