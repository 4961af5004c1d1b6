"""SQLite's errors and the system's as the workbench's own, with the file and what to type."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from workbench import files
from workbench.errors import CorruptError, UnavailableError, WorkbenchError

#: How long a connection waits for a file that another process holds.
BUSY_S = 10.0


@contextlib.contextmanager
def translated(path: Path, *, damaged: str, waited_s: float) -> Iterator[None]:
    """Raise the errors of the block as WorkbenchError.

    `damaged` is the hint for a damaged file, `waited_s` how long the connection waits for a lock.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise _ours(path, error, damaged, waited_s) from error
    except OSError as error:
        raise files.unwritable(path, error) from error


def _ours(path: Path, error: sqlite3.Error, damaged: str, waited_s: float) -> WorkbenchError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary code of an extended one
    if code == sqlite3.SQLITE_FULL:
        return files.unwritable(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    if code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}:
        return files.unwritable(path, OSError(errno.EROFS, "the file or its folder is read-only"))
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return CorruptError(f"{path} is damaged, or is no SQLite file ({error})", hint=damaged)
    busy = code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
    why = f"another process has held it for {waited_s:g} s" if busy else f"SQLite failed ({error})"
    return UnavailableError(f"{path}: {why}", hint="nothing was changed; run the same command again")
