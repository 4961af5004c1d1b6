"""Find the rows of a ledger that cannot be read, and take them out of it."""

# ruff: noqa: S608 - only names of tables and columns are put in; values are bound
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from workbench.jobs.ledger.damage import KEYS, DamagedRow, DamagedRowError, read_row
from workbench.jobs.ledger.holds import check_time
from workbench.jobs.ledger.outbox import posted_notice
from workbench.jobs.ledger.run_queue import fired_at
from workbench.jobs.ledger.transactions import LedgerTransaction, Transactions, job_run

_READERS: Final[Mapping[str, Callable[[Any], object]]] = {
    "runs": job_run, "fired": fired_at, "pauses": check_time, "withdrawals": check_time,
    "notices": posted_notice,
}  # fmt: skip
#: The tables whose rows hold a job back.
_HOLDS: Final = frozenset({"pauses", "withdrawals"})


class Repairs(Transactions):
    """The part of a ledger about its damaged rows."""

    def damaged(self) -> list[DamagedRow]:
        """Return the rows that a read of this ledger met and that still cannot be read, sorted by job."""
        for name, row in list(self._damaged.items()):
            if not any(True for _ in _damages(row.table, self._rows(_one(row.table), *row.key))):
                del self._damaged[name]
        return sorted(self._damaged.values(), key=_order)

    def all_damaged(self) -> list[DamagedRow]:
        """Return every row of the ledger that cannot be read, sorted by job."""
        found = [row for table in KEYS for row in _damages(table, self._rows(f"SELECT * FROM {table}"))]
        return sorted(found, key=_order)

    def set_aside(self, row: DamagedRow) -> bool:
        """Remove a damaged row; return False, and change nothing, when it can be read or is not there.

        A pause and a withdrawal stay, with the present time: nothing that is held back starts by a repair.
        """
        with self._write() as db:
            return _removed(db, row)


def _removed(db: LedgerTransaction, row: DamagedRow) -> bool:
    if not list(_damages(row.table, db.rows(_one(row.table), *row.key))):
        return False
    if row.table in _HOLDS:
        statement = f"UPDATE {row.table} SET at = ? WHERE {_is_row(row.table)}"
        return bool(db.execute(statement, db.now.isoformat(), *row.key).rowcount)
    return bool(db.execute(f"DELETE FROM {row.table} WHERE {_is_row(row.table)}", *row.key).rowcount)


def _one(table: str) -> str:
    """Return the query for the row of a table with a key."""
    return f"SELECT * FROM {table} WHERE {_is_row(table)}"


def _is_row(table: str) -> str:
    return " AND ".join(f"{name} = ?" for name in KEYS[table])


def _damages(table: str, rows: list[Any]) -> Iterator[DamagedRow]:
    for row in rows:
        try:
            read_row(table, row, _READERS[table])
        except DamagedRowError as error:
            yield error.row


def _order(row: DamagedRow) -> tuple[str, str, str]:
    return row.job, row.table, str(row.key)
