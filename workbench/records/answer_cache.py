"""Store answers of models for a time in a SQLite file of bounded size, and purge those with a given text."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from workbench import files
from workbench.errors import ConfigError, CorruptError
from workbench.records.journal import contained_in, forms_of
from workbench.records.keys import refuse_secrets
from workbench.sqlite_file import connect, translated
from workbench.types import JSON

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, made REAL NOT NULL, expires REAL NOT NULL, line BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS answers_made ON answers (made);
"""
#: The age of an entry from the future is unknown: the clock was set back.
_GET: Final = "SELECT line FROM answers WHERE key = ? AND expires > ? AND made <= ?"
_EVICT: Final = """
DELETE FROM answers WHERE key IN (
    SELECT key FROM answers ORDER BY made LIMIT (SELECT 1 + CAST(count(*) * ? AS INTEGER) FROM answers)
)
"""
_DAMAGED: Final = "delete the file: it is a cache, and answers are asked again"
#: Most bytes of one answer with its request: a larger one would push out many others.
_MOST_LINE: Final = 1 << 20
#: The share of the entries that are removed, the oldest first, when the file is full.
_EVICTED: Final = 0.1
#: Rows that one search of `purge` takes.
_BATCH: Final = 1_000


class AnswerCache:
    """Answers by key in one file, for all processes of a machine; opened when it is first used.

    `most_bytes` bounds the file: then the oldest entries are removed. An entry holds its request too, so that
    `purge` finds the texts in it.
    """

    def __init__(self, path: Path, *, most_bytes: int) -> None:
        self.path = path
        self._most_bytes = most_bytes
        self._db: sqlite3.Connection | None = None

    def get(self, key: str, *, now: float) -> list[JSON] | None:
        """Return the events of an answer, or None if there is none or it has expired."""
        with self._opened() as db:
            row = db.execute(_GET, (key, now, now)).fetchone()
        return None if row is None else orjson.loads(row[0])["events"]

    def put(
        self,
        key: str,
        request: JSON,
        events: Sequence[Any],
        *,
        now: float,
        seconds: float,
        whole: JSON | None = None,
    ) -> bool:
        """Store an answer for a number of seconds; return whether it is neither too large nor secret.

        `whole` is the answer of a stream in one piece: the events may split a secret, or a text to purge.
        """
        more = {} if whole is None else {"whole": whole}
        line = files.canonical({"request": request, "events": list(events), **more})
        if len(line) > min(_MOST_LINE, self._most_bytes // 4):
            return False
        try:
            refuse_secrets(line)
        except ConfigError:
            return False
        with self._opened() as db:
            values = (key, now, now + seconds, line)
            db.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?)", values)
            self._evict(db, now)
        return True

    def close(self) -> None:
        """Close the file; a later call opens it again."""
        db, self._db = self._db, None
        if db is not None:
            db.close()

    def _evict(self, db: sqlite3.Connection, now: float) -> None:
        """Remove expired entries, then the oldest ones, when the entries take more than the bound."""
        if _used_bytes(db) <= self._most_bytes:
            return
        db.execute("DELETE FROM answers WHERE expires <= ?", (now,))
        while _used_bytes(db) > self._most_bytes:
            db.execute(_EVICT, (_EVICTED,))

    @contextlib.contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """Yield the open file; a damaged file is deleted, because everything in it can be asked again."""
        try:
            with translated(self.path, damaged=_DAMAGED):
                if self._db is None or not self.path.exists():
                    self.close()
                    self._db = _open(self.path)
                yield self._db
        except CorruptError:
            self.close()
            for name in (self.path.name, f"{self.path.name}-wal", f"{self.path.name}-shm"):
                self.path.with_name(name).unlink(missing_ok=True)
            raise


def purge(path: Path, texts: Sequence[str]) -> int:
    """Remove the answers of a file whose request or events contain one of `texts`; return their number.

    The freed bytes are overwritten. A missing file has no answers; UnavailableError when it cannot be
    written.
    """
    forms, parts = forms_of(texts)
    if not forms or not path.exists():
        return 0
    removed = 0
    with translated(path, damaged=_DAMAGED), contextlib.closing(_open(path)) as db:
        rows = db.execute("SELECT key, line FROM answers")
        while batch := rows.fetchmany(_BATCH):
            marks = contained_in([line for _, line in batch], forms, parts)
            found = [(key,) for (key, _), mark in zip(batch, marks, strict=True) if mark]
            db.executemany("DELETE FROM answers WHERE key = ?", found)
            removed += len(found)
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return removed


def _open(path: Path) -> sqlite3.Connection:
    db = connect(path)
    try:
        # Killed processes lose nothing; after a power cut the file may be damaged, and is then deleted.
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = OFF")
        db.execute("PRAGMA secure_delete = ON")
        db.executescript(_TABLE)
    except BaseException:
        db.close()
        raise
    return db


def _used_bytes(db: sqlite3.Connection) -> int:
    pages, free, size = (
        db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)
