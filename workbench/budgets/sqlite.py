"""The ledger of budgets in a SQLite file, for the processes of one machine."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from workbench.budgets.books import AccountEntry, Claim, Held, Waiter
from workbench.sqlite_file import connect, prepare, translated

SCHEMA: Final = 1
#: Seconds for which an expired reservation can still be settled.
KEPT_S: Final = 7 * 86_400.0
_TABLES = """
CREATE TABLE accounts (
    id TEXT PRIMARY KEY, refused INTEGER NOT NULL, refused_at REAL NOT NULL,
    usd INTEGER NOT NULL, tokens INTEGER NOT NULL, calls INTEGER NOT NULL, seconds INTEGER NOT NULL,
    held_usd INTEGER NOT NULL, held_tokens INTEGER NOT NULL, held_calls INTEGER NOT NULL,
    held_seconds INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE reservations (
    id TEXT PRIMARY KEY, holder TEXT NOT NULL, until REAL NOT NULL, live INTEGER NOT NULL,
    accounts TEXT NOT NULL, amounts TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX reservations_due ON reservations (live, until);
CREATE TABLE line (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, until REAL NOT NULL,
    accounts TEXT NOT NULL
) STRICT;
"""
#: Beside the accounts and not in them: the code of earlier versions, which jobs run, writes their columns.
_OBSERVED = """
CREATE TABLE IF NOT EXISTS would_refuse (
    id TEXT PRIMARY KEY, number INTEGER NOT NULL, at REAL NOT NULL
) STRICT, WITHOUT ROWID;
"""
_ENTRY = """
SELECT id, usd, tokens, calls, seconds, held_usd, held_tokens, held_calls, held_seconds, refused, refused_at,
coalesce(would_refuse.number, 0), coalesce(would_refuse.at, 0.0)
FROM accounts LEFT JOIN would_refuse USING (id) WHERE id IN (SELECT value FROM json_each(?))
"""
_SAVE = "INSERT OR REPLACE INTO accounts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_IDS = "(SELECT value FROM json_each(?))"
_WAIT = """
INSERT INTO line (id, until, accounts) VALUES (?, ?, ?)
ON CONFLICT (id) DO UPDATE SET until = excluded.until, accounts = excluded.accounts RETURNING number
"""


class SqliteBudgets:
    """The store of a ledger in one file, opened when it is first used."""

    def __init__(self, path: Path, *, holder: str) -> None:
        self._path = path
        self._holder = holder
        self._db: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None

    @contextlib.contextmanager
    def transaction(self) -> Iterator[SqliteBooks]:
        """Begin a transaction that no other process writes into."""
        with translated(self._path, damaged=f"restore {self._path} from a backup"):
            db = self._opened()
            db.execute("BEGIN IMMEDIATE")
            try:
                yield SqliteBooks(db, self._holder)
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    def sync(self) -> None:
        """Write the log into the file and both to the disk."""
        if self._db is not None:
            with translated(self._path, damaged=f"restore {self._path} from a backup"):
                self._db.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def close(self) -> None:
        """Close the file."""
        db, self._db = self._db, None
        if db is not None:
            db.close()

    def _opened(self) -> sqlite3.Connection:
        """Return the open file; another file in its place, such as a backup, is opened instead of it."""
        if self._db is not None and self._file != _file_of(self._path):
            self.close()
        if self._db is None:
            db = connect(self._path)
            try:
                self._prepare(db)
                self._file = _file_of(self._path)
                # A commit survives a kill without waiting for the disk; `sync` waits for it.
                db.execute("PRAGMA synchronous = NORMAL")
            except BaseException:
                db.close()
                raise
            self._db = db
        return self._db

    def _prepare(self, db: sqlite3.Connection) -> None:
        prepare(db, self._path, _TABLES, schema=SCHEMA)
        if not db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'would_refuse'").fetchone()[0]:
            db.executescript(f"BEGIN IMMEDIATE; {_OBSERVED} COMMIT;")


class SqliteBooks:
    """One transaction of a ledger in SQLite."""

    def __init__(self, db: sqlite3.Connection, holder: str) -> None:
        self._db = db
        self._holder = holder

    def now(self) -> float:
        """Return the time of this machine, which all processes of the file share."""
        return time.time()

    def entries(self, accounts: Sequence[str]) -> dict[str, AccountEntry]:
        """Return the entry of each account."""
        found = {name: AccountEntry() for name in accounts}
        for row in self._db.execute(_ENTRY, (_json(accounts),)):
            found[row[0]] = AccountEntry(row[1:5], row[5:9], refused=row[9:11], observed=row[11:13])
        return found

    def save(self, entries: dict[str, AccountEntry]) -> None:
        """Write entries."""
        rows = [(name, *e.refused, *e.spent, *e.reserved) for name, e in entries.items()]
        self._db.executemany(_SAVE, rows)
        if observed := [(name, *e.observed) for name, e in entries.items() if e.observing]:
            self._db.executemany("INSERT OR REPLACE INTO would_refuse VALUES (?, ?, ?)", observed)

    def insert(self, held: Sequence[Held], *, until: float) -> None:
        """Write new reservations."""
        rows = [(h.id, self._holder, until, _json(h.accounts), _json(h.amounts)) for h in held]
        self._db.executemany("INSERT INTO reservations VALUES (?, ?, ?, 1, ?, ?)", rows)

    def held(self, ids: Sequence[str]) -> set[str]:
        """Return those of the ids that are reservations."""
        rows = self._db.execute(f"SELECT id FROM reservations WHERE id IN {_IDS}", (_json(ids),))
        return {row[0] for row in rows}

    def close(self, ids: Sequence[str]) -> dict[str, bool]:
        """Remove reservations."""
        query = f"DELETE FROM reservations WHERE id IN {_IDS} RETURNING id, live"
        return {name: bool(live) for name, live in self._db.execute(query, (_json(ids),))}

    def due(self, now: float) -> list[Held]:
        """Return the reservations whose lease has ended."""
        self._db.execute("DELETE FROM reservations WHERE NOT live AND until < ?", (now - KEPT_S,))
        query = "SELECT id, accounts, amounts FROM reservations WHERE live = 1 AND until < ?"
        return list(map(_held, self._db.execute(query, (now,))))

    def expire(self, ids: Sequence[str], now: float) -> list[Held]:
        """Mark reservations as expired."""
        query = (
            f"UPDATE reservations SET live = 0 WHERE live = 1 AND until < ? AND id IN {_IDS} "
            "RETURNING id, accounts, amounts"
        )
        return list(map(_held, self._db.execute(query, (now, _json(ids)))))

    def renew(self, until: float) -> None:
        """Extend the leases of this process."""
        query = "UPDATE reservations SET until = ? WHERE live = 1 AND holder = ?"
        self._db.execute(query, (until, self._holder))

    def line(self, now: float) -> list[Waiter]:
        """Return the places that have not expired."""
        rows = self._db.execute(
            "SELECT number, id, accounts FROM line WHERE until > ? ORDER BY number", (now,)
        )
        return [Waiter(number=n, id=i, accounts=frozenset(orjson.loads(a))) for n, i, a in rows]

    def wait(self, claim: Claim, *, until: float) -> int:
        """Write or renew the place of a claim."""
        row = self._db.execute(_WAIT, (claim.id, until, _json(claim.blocked))).fetchone()
        return int(row[0])

    def leave(self, ids: Sequence[str]) -> None:
        """Remove places, and places that expired long ago."""
        query = f"DELETE FROM line WHERE id IN {_IDS} OR until < ?"
        self._db.execute(query, (_json(ids), self.now() - 60))

    def known(self) -> list[str]:
        """Return the ids of all accounts."""
        return [row[0] for row in self._db.execute("SELECT id FROM accounts ORDER BY id")]


def holder() -> str:
    """Return a new name for the reservations of this process."""
    return f"{os.uname().nodename}:{os.getpid()}:{os.urandom(4).hex()}"


def _file_of(path: Path) -> tuple[int, int] | None:
    """Return the device and the number of a file; None if it is missing."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _json(values: Iterable[Any]) -> str:
    return orjson.dumps(list(values)).decode()


def _held(row: tuple[str, str, str]) -> Held:
    return Held(id=row[0], accounts=tuple(orjson.loads(row[1])), amounts=orjson.loads(row[2]))
