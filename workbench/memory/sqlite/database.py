"""Open and check the embedded store's file, run its transactions, and erase deleted rows to the byte."""

from __future__ import annotations

import functools
import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from workbench import files, locking, sqlite_file
from workbench.errors import ConfigError, UnavailableError

#: The application id of the workbench's files ("wkbm"); databases of other programs are refused.
APPLICATION = 0x776B626D
SCHEMA = 3
#: The former schema, which an `upgrade` converts to `SCHEMA`.
UPGRADED = 2
#: Seconds that a write waits for its turn among the processes that write the same file.
_TURN_S = 60.0
Upgrade = Callable[[sqlite3.Connection], None]

_TABLES = """
CREATE TABLE tenants (
    key INTEGER PRIMARY KEY, tenant TEXT NOT NULL UNIQUE,
    changes INTEGER NOT NULL, version INTEGER NOT NULL, embedding TEXT NOT NULL, dimensions INTEGER NOT NULL
) STRICT;
CREATE TABLE items (
    number INTEGER PRIMARY KEY AUTOINCREMENT, tenant INTEGER NOT NULL REFERENCES tenants (key),
    id TEXT NOT NULL, since INTEGER NOT NULL, until INTEGER NOT NULL,
    kind TEXT NOT NULL, source TEXT NOT NULL, source_digest TEXT NOT NULL, position INTEGER NOT NULL,
    version INTEGER NOT NULL, access TEXT NOT NULL, classification INTEGER NOT NULL, owner TEXT NOT NULL,
    subject TEXT NOT NULL, trust INTEGER NOT NULL, parents TEXT NOT NULL, created TEXT, valid_from TEXT,
    valid_to TEXT, expires TEXT, title TEXT NOT NULL, text TEXT NOT NULL, vector BLOB NOT NULL,
    UNIQUE (tenant, id, since)
) STRICT;
CREATE INDEX items_source ON items (tenant, source);
CREATE INDEX items_subject ON items (tenant, subject) WHERE subject <> '';
CREATE INDEX items_in_force ON items (tenant, until, since, kind, id);
CREATE INDEX items_by_use ON items (tenant) WHERE kind <> 'document';
CREATE INDEX items_expiring ON items (tenant, expires) WHERE expires IS NOT NULL;
CREATE INDEX items_derived ON items (tenant) WHERE parents <> '[]';
CREATE TABLE versions (
    tenant INTEGER NOT NULL REFERENCES tenants (key), number INTEGER NOT NULL, at TEXT NOT NULL,
    items INTEGER NOT NULL, content TEXT NOT NULL, PRIMARY KEY (tenant, number)
) STRICT;
CREATE TABLE holds (
    tenant INTEGER NOT NULL REFERENCES tenants (key), hold TEXT NOT NULL, what TEXT NOT NULL,
    name TEXT NOT NULL, PRIMARY KEY (tenant, hold, what, name)
) STRICT;
"""


class Database:
    """A connection to the store's file, used by one thread at a time; `path` None keeps it in memory.

    `upgrade` converts the tables of the former schema inside a transaction. An existing file on a read-only
    disk can be read.
    """

    def __init__(self, path: Path | None, *, upgrade: Upgrade | None = None) -> None:
        self.path = path
        self._upgrade = upgrade
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._left_behind: list[sqlite3.Connection] = []
        with _translated(path):
            self._connection = _open(path, upgrade)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Run the block as a read transaction: it sees one state of the file."""
        with self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Run the block as a write transaction, which is on disk at its end or rolled back.

        Processes write in turn: SQLite alone lets one that writes all the time keep others waiting for long.
        """
        with self._turn(), self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait for this process's turn to write; UnavailableError when it does not come."""
        if self.path is None:
            yield
            return
        with self._lock, ExitStack() as turn:
            try:
                granted = turn.enter_context(locking.in_turn(self.path, wait_s=_TURN_S))
            except OSError:  # where no file can be made, SQLite's own error says why
                granted = True
            if not granted:
                raise UnavailableError(
                    f"{self.path}: other processes have written for {_TURN_S:g} s",
                    hint="nothing was changed; run the same command again",
                )
            yield

    def erase_deleted(self) -> None:
        """Rewrite the file without deleted bytes and empty its log; UnavailableError while others read.

        `secure_delete` overwrites a deleted row, but not the copy that SQLite leaves in the free part of a
        page when it moves a row to another page.
        """
        if self.path is None:
            return
        with self._lock, _translated(self.path):
            self._usable().execute("VACUUM")
            busy = self._usable().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if busy:
            raise UnavailableError(
                f"another process reads {self.path}, so its log still holds deleted bytes",
                hint="forget the same ids again after that process has ended",
            )

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        with self._lock, _translated(self.path):
            connection = self._usable()
            connection.execute(begin)
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # SQLite itself rolls back when the disk is full
                    connection.execute("ROLLBACK")
                raise

    def _usable(self) -> sqlite3.Connection:
        """Return the connection, after a fork a new one: SQLite's locks belong to a process."""
        if self.path is not None and self._pid != os.getpid():
            self._left_behind.append(self._connection)  # closing it here would break the parent's locks
            self._connection, self._pid = _open(self.path, self._upgrade), os.getpid()
        return self._connection


def _open(path: Path | None, upgrade: Upgrade | None) -> sqlite3.Connection:
    if path is None:
        connection = _connect(None)
        _create(connection)
        return connection
    files.make_folder(path.parent)
    with locking.locked(path.parent):  # two processes must not both create the tables
        connection = _connect(path)
        try:
            _check(connection, path, upgrade)
            connection.execute("PRAGMA journal_mode = WAL")
        except BaseException:
            connection.close()
            raise
    return connection


def _connect(path: Path | None) -> sqlite3.Connection:
    connection = sqlite_file.connect(path)
    connection.create_function("whole", 1, _whole, deterministic=True)
    connection.create_function("names_any", 2, _names_any, deterministic=True)
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def _whole(text: str) -> str:
    """Decode a text from hexadecimal digits; SQLite would end a text of a JSON list at a NUL."""
    return bytes.fromhex(text).decode()


def _names_any(entries: str, groups: str) -> bool:
    """Return whether an access list names one of the groups, both as JSON.

    `json_each` ends a text at NUL, so that a group would match an entry that only begins with it.
    """
    return not _names(entries).isdisjoint(_names(groups))


@functools.lru_cache(maxsize=4096)
def _names(listed: str) -> frozenset[str]:
    return frozenset(json.loads(listed))


def _check(connection: sqlite3.Connection, path: Path, upgrade: Upgrade | None) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if (application, version, tables) == (0, 0, 0):
        _create(connection)
    elif application != APPLICATION:
        raise ConfigError(
            f"{path} is a database of another program", hint="name another file; this one is unchanged"
        )
    elif version == UPGRADED and upgrade is not None:
        _upgrade(connection, upgrade)
    elif version != SCHEMA:
        raise ConfigError(
            f"{path} has schema {version}, this workbench reads schema {SCHEMA}",
            hint=f"mv {path} {path}.old, then: workbench memory ingest",
        )


def _upgrade(connection: sqlite3.Connection, upgrade: Upgrade) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        upgrade(connection)
        connection.execute(f"PRAGMA user_version = {SCHEMA}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _create(connection: sqlite3.Connection) -> None:
    marks = f"PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {SCHEMA};"
    connection.executescript(f"BEGIN IMMEDIATE; {_TABLES} {marks} COMMIT;")


def _translated(path: Path | None) -> AbstractContextManager[None]:
    again = f"mv {path} {path}.old, then: workbench memory ingest"
    return sqlite_file.translated(path or Path(":memory:"), damaged=again)
