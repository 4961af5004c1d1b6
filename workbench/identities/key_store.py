"""The store of API keys: its contract, and the SQLite file that the processes of one machine share."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

from workbench.errors import NotFoundError
from workbench.identities.api_keys import ApiKey
from workbench.sqlite_file import connect, prepare, translated

SCHEMA: Final = 1
_TABLES: Final = """
CREATE TABLE keys (
    id TEXT PRIMARY KEY, digest TEXT NOT NULL, rights TEXT NOT NULL, issued TEXT NOT NULL,
    issued_by TEXT NOT NULL, expires TEXT NOT NULL, revoked TEXT NOT NULL, used TEXT NOT NULL,
    replaced_by TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE changes (number INTEGER NOT NULL) STRICT;
INSERT INTO changes VALUES (0);
"""
#: Milliseconds for which a request waits to note that its key was used.
_USED_MS: Final = 20


class KeyStore(Protocol):
    """Keeps API keys for several processes; every change is seen by the next `changes` of each."""

    def changes(self) -> object:
        """Return a value that differs after each change of a key, but not after a use."""

    def listed(self) -> list[ApiKey]:
        """Return all keys, the newest last."""

    def add(self, key: ApiKey, *, replacing: str = "", ends: str = "") -> None:
        """Add a key; in the same transaction the key `replacing` gets its successor and ends at `ends`.

        A key that ends earlier anyway keeps its end. Raise NotFoundError when the other key is unknown,
        revoked, expired at the new one's `issued`, or replaced already; nothing is added then.
        """

    def revoke(self, key: str, *, at: str) -> bool:
        """Revoke a key; return False when it was revoked before. Raise NotFoundError for an unknown one."""

    def note_use(self, key: str, *, at: str) -> None:
        """Note that a key was used; a store that is busy or read-only may forget it."""

    def close(self) -> None:
        """Close files and connections."""


def not_replaceable(key: str) -> NotFoundError:
    """Return the error for a key that cannot be rotated."""
    return NotFoundError(
        f"there is no active key {key[:40]!r} that was not rotated yet",
        hint="workbench keys list   # it shows the state of each key",
    )


def unknown_key(key: str) -> NotFoundError:
    """Return the error for an id that no key has."""
    return NotFoundError(f"there is no key {key[:40]!r}", hint="workbench keys list   # it shows the ids")


class SqliteKeys:
    """Keys in one file, which the first key creates. Threads may share a store."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._db: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._seen: int | None = None
        self._number = 0

    def changes(self) -> object:
        """Return the file and the number of its changes."""
        with self._lock:
            found = self._found()
            if found is None:
                self.close()
                return None
            db = self._db if self._db is not None and found == self._file else self._opened()
            try:
                # SQLite's own number tells of commits of other connections, and takes less than a query.
                seen = db.execute("PRAGMA data_version").fetchone()[0]
                if seen != self._seen:
                    self._number = db.execute("SELECT number FROM changes").fetchone()[0]
                    self._seen = seen
            except sqlite3.Error:
                with self._translated():
                    raise
            return (*found, self._number)

    def listed(self) -> list[ApiKey]:
        """Return all keys."""
        if self._found() is None:
            return []
        with self._translated(), self._lock:
            rows = self._opened().execute("SELECT * FROM keys ORDER BY issued, id").fetchall()
        return [ApiKey.from_row(row, where=str(self._path)) for row in rows]

    def add(self, key: ApiKey, *, replacing: str = "", ends: str = "") -> None:
        """Add a key, and end the one that it replaces."""
        with self._changing() as db:
            if replacing:
                changed = db.execute(
                    "UPDATE keys SET replaced_by = ?, expires = CASE WHEN expires != '' AND expires < ? "
                    "THEN expires ELSE ? END WHERE id = ? AND revoked = '' AND replaced_by = '' "
                    "AND (expires = '' OR expires > ?)",
                    (key.id, ends, ends, replacing, key.issued),
                )
                if not changed.rowcount:
                    raise not_replaceable(replacing)
            db.execute("INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", key.to_row())

    def revoke(self, key: str, *, at: str) -> bool:
        """Revoke a key."""
        with self._changing() as db:
            row = db.execute("SELECT revoked FROM keys WHERE id = ?", (key,)).fetchone()
            if row is None:
                raise unknown_key(key)
            db.execute("UPDATE keys SET revoked = ? WHERE id = ? AND revoked = ''", (at, key))
        return not row[0]

    def note_use(self, key: str, *, at: str) -> None:
        """Note a use without waiting for a writer."""
        with self._lock, contextlib.suppress(sqlite3.Error, OSError):
            db = self._opened()
            before = db.execute("PRAGMA busy_timeout").fetchone()[0]
            db.execute(f"PRAGMA busy_timeout = {_USED_MS}")
            try:
                db.execute("UPDATE keys SET used = ? WHERE id = ? AND used < ?", (at, key, at))
            finally:
                db.execute(f"PRAGMA busy_timeout = {before}")

    def close(self) -> None:
        """Close the file; a later call opens it again."""
        with self._lock:
            db, self._db, self._seen = self._db, None, None
            if db is not None:
                db.close()

    @contextlib.contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """Begin a transaction that changes keys; it is on the disk when the block ends."""
        with self._translated(), self._lock:
            db = self._opened()
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("UPDATE changes SET number = number + 1")
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
            self._seen = None  # a connection does not tell of its own commits

    def _opened(self) -> sqlite3.Connection:
        if self._db is not None and self._found() == self._file:
            return self._db
        self.close()
        with self._translated():
            db = connect(self._path)
            try:
                self._prepare(db)
            except BaseException:
                db.close()
                raise
            self._db, self._file = db, self._found()
        return db

    def _prepare(self, db: sqlite3.Connection) -> None:
        prepare(db, self._path, _TABLES, schema=SCHEMA)

    def _found(self) -> tuple[int, int] | None:
        """Return the device and the number of the file; None if it is missing."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino

    def _translated(self) -> contextlib.AbstractContextManager[None]:
        return translated(self._path, damaged=f"restore {self._path} from a backup")
