"""Open a SQLite file safely, and translate SQLite's errors into the workbench's own."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from workbench import files, locking
from workbench.errors import ConfigError, CorruptError, UnavailableError, WorkbenchError

#: Seconds that a connection waits for a file that another process has locked.
BUSY_S = 10.0
_OTHER = "use the workbench that wrote it"


def connect(path: Path | None) -> sqlite3.Connection:
    """Open a file as a database, for any thread and without implicit transactions; None opens one in memory.

    A missing file is created, readable by its owner only. On a read-only disk an existing file can be read.
    ConfigError unless the path is a regular file.
    """
    name = ":memory:" if path is None else _address(path)
    db = sqlite3.connect(name, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA synchronous = FULL")
    except BaseException:
        db.close()
        raise
    return db


def prepare(
    db: sqlite3.Connection,
    path: Path,
    tables: str,
    *,
    schema: int,
    hint: str = _OTHER,
) -> None:
    """Create the tables in an empty database, in WAL mode and under a lock; one with tables stays unchanged.

    Raise ConfigError, with `hint`, for a database of another `schema` number.
    """
    if not _schema(db):
        with locking.locked(path.parent):
            if not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                db.execute("PRAGMA journal_mode = WAL")
                db.executescript(f"BEGIN IMMEDIATE; {tables} PRAGMA user_version = {schema}; COMMIT;")
    if (found := _schema(db)) != schema:
        raise ConfigError(f"{path} has schema {found}, this workbench knows schema {schema}", hint=hint)


def _schema(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _address(path: Path) -> str:
    files.make_folder(path.parent)
    _look(path)
    # SQLite reads a file in WAL mode only where it can write the log, or where the file is immutable: on a
    # disk that nobody can write. A log that is there holds changes, which an immutable file would not show.
    log = path.with_name(f"{path.name}-wal")
    immutable = bool(os.statvfs(path.parent).f_flag & os.ST_RDONLY) and not log.exists()
    return f"file:{quote(str(path.absolute()))}{'?immutable=1' if immutable else ''}"


def _look(path: Path) -> None:
    """Create a missing file; raise ConfigError for what is no regular file, and OSError for one of others.

    SQLite would create a file that all users can read, and block on a named pipe. A file that exists is not
    opened: to close it ends every lock that this process has on it, those of its other connections too, and
    another process could then remove the log under them.
    """
    try:
        kind = path.stat().st_mode
    except FileNotFoundError:
        place = Path(os.path.realpath(path))  # of a link that leads to no file yet
        aside = files.aside_of(place)
        os.close(os.open(aside, os.O_CREAT | os.O_WRONLY | os.O_EXCL | os.O_CLOEXEC, 0o600))
        try:
            with contextlib.suppress(FileExistsError):  # another process was first
                os.link(aside, place)
        finally:
            aside.unlink()
        return
    if not stat.S_ISREG(kind):
        what = "Is a directory" if stat.S_ISDIR(kind) else "not a regular file"
        raise ConfigError(f"cannot read {path}: {what}", hint=f"ls -l {path}   # a file is expected there")
    if not os.access(path, os.R_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


@contextlib.contextmanager
def translated(path: Path, *, damaged: str) -> Iterator[None]:
    """Raise SQLite's and the system's errors of the block as WorkbenchError.

    `damaged` is the hint for a damaged file.
    """
    with files.writing(path):
        try:
            yield
        except sqlite3.Error as error:
            raise _ours(path, error, damaged) from error


def _ours(path: Path, error: sqlite3.Error, damaged: str) -> OSError | WorkbenchError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary code of an extended one
    if code == sqlite3.SQLITE_FULL:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}:
        return OSError(errno.EROFS, "the file or its folder is read-only")
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return CorruptError(f"{path} is damaged, or is no SQLite file ({error})", hint=damaged)
    busy = code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
    why = f"another process has locked it for {BUSY_S:g} s" if busy else f"SQLite failed ({error})"
    return UnavailableError(f"{path}: {why}", hint="nothing was changed; run the same command again")
