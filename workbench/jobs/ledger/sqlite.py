"""The job ledger in a SQLite file, for the processes of one machine."""

from __future__ import annotations

import contextlib
import datetime as dt
import shlex
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench import locking
from workbench.context import Clock
from workbench.jobs.ledger.holds import Holds
from workbench.jobs.ledger.host import Host
from workbench.jobs.ledger.outbox import Outbox, delete_settled
from workbench.jobs.ledger.repairs import Repairs
from workbench.jobs.ledger.run_lines import RunLines
from workbench.jobs.ledger.run_queue import RunQueue, delete_lines
from workbench.jobs.ledger.tables import FROM_SCHEMA_1, SCHEMA, SQLITE
from workbench.jobs.ledger.transactions import EndOf, LedgerTransaction
from workbench.sqlite_file import connect, prepare, translated


class SqlLedger(RunLines, RunQueue, Holds, Outbox, Repairs):
    """A complete ledger in an SQL store; the store provides the transactions."""

    def purge(self, before: dt.datetime, *, dry_run: bool = False) -> int:
        """Remove the lines of runs that ended before a time, but for the newest of each slot and role."""
        if not self._rows("SELECT 1 FROM runs LIMIT 1"):
            return 0
        with self._write() as db:
            if not dry_run:
                delete_settled(db, before)
            return delete_lines(db, before, dry_run=dry_run)


class SqliteLedger(SqlLedger):
    """A ledger in one file, safe across threads and processes. A file of schema 1 is migrated when opened.

    The file stays open between transactions; another file in its place is opened instead.
    """

    def __init__(
        self, path: Path, *, clock: Clock, host: Host | None = None, end_of: EndOf = lambda _: None
    ) -> None:
        super().__init__(clock=clock, host=host, end_of=end_of)
        self.path = path
        self._lock = threading.RLock()
        self._db: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None

    def close(self) -> None:
        """Close the file; a later call opens it again."""
        with self._lock:
            db, self._db = self._db, None
            if db is not None:
                db.close()

    def _write(self) -> contextlib.AbstractContextManager[LedgerTransaction]:
        return self._transaction("BEGIN IMMEDIATE")

    def _write_unsynced(self) -> contextlib.AbstractContextManager[LedgerTransaction]:
        return self._transaction("BEGIN IMMEDIATE", synced=False)

    @contextlib.contextmanager
    def _look(self) -> Iterator[LedgerTransaction | None]:
        if not self.path.exists():  # a read does not create the file
            yield None
            return
        with self._transaction("BEGIN") as db:
            yield db

    @contextlib.contextmanager
    def _transaction(self, begin: str, *, synced: bool = True) -> Iterator[LedgerTransaction]:
        """Run the block as one transaction, which is on disk when the block ends.

        One that is not synced is on disk with the next one that is.
        """
        with self._lock, translated(self.path, damaged=_set_aside(self.path)):
            db = self._opened()
            try:
                if not synced:
                    db.execute("PRAGMA synchronous = NORMAL")
                db.execute(begin)
                yield _LenientTransaction(db=db, now=self._clock.now())
                db.execute("COMMIT")
                if not synced:
                    db.execute("PRAGMA synchronous = FULL")
            except BaseException:
                self.close()  # a transaction that is open ends without effect
                raise

    def _opened(self) -> sqlite3.Connection:
        if self._db is not None and self._file != _identity(self.path):
            self.close()
        if self._db is None:
            db = connect(self.path)
            try:
                _prepare(db, self.path)
                self._file = _identity(self.path)
            except BaseException:
                db.close()
                raise
            self._db = db
        return self._db


@dataclass(frozen=True, slots=True, kw_only=True)
class _LenientTransaction(LedgerTransaction):
    """A transaction whose queries also return texts that are not UTF-8: one bad row hides no other."""

    db: sqlite3.Connection

    def rows(self, query: str, *values: Any) -> list[Any]:
        """Return the rows of a query; a byte that is no text is returned as its code."""
        try:
            return self.db.execute(query, values).fetchall()
        except sqlite3.OperationalError as error:
            if "decode" not in str(error).lower():
                raise
        self.db.text_factory = _escaped
        try:
            return self.db.execute(query, values).fetchall()
        finally:
            self.db.text_factory = str


def _escaped(text: bytes) -> str:
    return text.decode(errors="backslashreplace")


def _identity(path: Path) -> tuple[int, int] | None:
    """Return the device and the number of a file; None if it is missing."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    db.row_factory = sqlite3.Row
    if _schema(db) == 1:
        with locking.locked(path.parent):
            if _schema(db) == 1:
                db.executescript(f"BEGIN IMMEDIATE; {FROM_SCHEMA_1} PRAGMA user_version = {SCHEMA}; COMMIT;")
    hint = f"use the workbench that wrote it, or set it aside: {_set_aside(path)}"
    prepare(db, path, SQLITE, schema=SCHEMA, hint=hint)


def _schema(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _set_aside(path: Path) -> str:
    """Return the command that moves the database and its write-ahead log, which belong together."""
    aside = shlex.quote(str(path.parent / "aside"))
    return f"mkdir -p {aside} && mv {shlex.quote(str(path))}* {aside}   (the history begins anew)"
