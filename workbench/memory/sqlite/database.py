"""One SQLite file: opened so that it is safe over threads and processes and erasable to the byte."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workbench import files
from workbench.errors import ConfigError, CorruptError, UnavailableError, WorkbenchError

#: Marks our files ("wkbm"), so that a foreign database is refused instead of written into.
APPLICATION = 0x776B626D
SCHEMA = 2
BUSY_S = 10.0

_TABLES = """
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE tenants (
    key INTEGER PRIMARY KEY, tenant TEXT NOT NULL UNIQUE, sealed TEXT NOT NULL,
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
    """One connection, used by one thread at a time. `path` None keeps everything in memory."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._left_behind: list[sqlite3.Connection] = []
        with _explained(path):
            self._connection = _open(path)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One state of the file, whatever other processes write meanwhile."""
        with self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """All of the block or nothing of it; on disk when the block has ended."""
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    def truncate_log(self) -> None:
        """Bring the log's content into the file and empty it; UnavailableError while others read."""
        with self._lock, _explained(self.path):
            busy = self._usable().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if busy:
            raise UnavailableError(
                f"{self.path}: another process reads it, so that forgotten bytes are still in its log",
                hint="forget the same ids again when that process has ended",
            )

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        with self._lock, _explained(self.path):
            connection = self._usable()
            connection.execute(begin)
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # SQLite itself has rolled back when the disk is full
                    connection.execute("ROLLBACK")
                raise

    def _usable(self) -> sqlite3.Connection:
        """The connection; after a fork a new one, for SQLite's locks belong to the process."""
        if self.path is not None and self._pid != os.getpid():
            self._left_behind.append(self._connection)  # closing it here would break the parent's locks
            self._connection, self._pid = _open(self.path), os.getpid()
        return self._connection


def _open(path: Path | None) -> sqlite3.Connection:
    if path is None:
        connection = _connect(":memory:")
        _create(connection)
        return connection
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path.parent):  # two processes must not both create the tables
        os.close(files.open_regular(path, os.O_CREAT | os.O_RDWR, 0o600))
        connection = _connect(str(path))
        try:
            _check(connection, path)
            connection.execute("PRAGMA journal_mode = WAL")
        except BaseException:
            connection.close()
            raise
    return connection


def _connect(name: str) -> sqlite3.Connection:
    connection = sqlite3.connect(name, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    connection.create_function("whole", 1, _whole, deterministic=True)
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def _whole(text: str) -> str:
    """A text out of hexadecimal digits: in a JSON list as it is, SQLite would end it at a NUL."""
    return bytes.fromhex(text).decode()


def _check(connection: sqlite3.Connection, path: Path) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if (application, version, tables) == (0, 0, 0):
        _create(connection)
    elif application != APPLICATION:
        raise ConfigError(
            f"{path} is a database of another program", hint="name another file; this one is untouched"
        )
    elif version != SCHEMA:
        raise ConfigError(
            f"{path} has schema {version}, this workbench knows schema {SCHEMA}",
            hint=f"mv {path} {path}.old, then: workbench memory ingest",
        )


def _create(connection: sqlite3.Connection) -> None:
    marks = f"PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {SCHEMA};"
    connection.executescript(f"BEGIN IMMEDIATE; {_TABLES} {marks} COMMIT;")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _explained(path: Path | None) -> Iterator[None]:
    """SQLite's and the system's errors as ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise _ours(path or Path(":memory:"), error) from error
    except OSError as error:
        raise files.unwritable(path or Path(":memory:"), error) from error


def _ours(path: Path, error: sqlite3.Error) -> WorkbenchError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary code of an extended one
    if code == sqlite3.SQLITE_FULL:
        return files.unwritable(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    if code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}:
        return files.unwritable(path, OSError(errno.EROFS, "the file or its folder is read-only"))
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return CorruptError(
            f"{path} is damaged, or is no SQLite file ({error})",
            hint=f"mv {path} {path}.old, then: workbench memory ingest",
        )
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return UnavailableError(
            f"{path}: another process has held it for {BUSY_S:g} s", hint="run the same command again"
        )
    return UnavailableError(
        f"{path}: SQLite failed ({error})", hint="see whether the disk is full, then run it again"
    )
