"""Read regular files whole, up to a size limit."""

from __future__ import annotations

import errno
import functools
import io
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from workbench.errors import ConfigError, NotFoundError

T = TypeVar("T")
#: Age in nanoseconds from which a file's times tell it from a later version of it: two writes within one
#: tick of the clock have the same times.
YOUNG_NS = 2_000_000_000


def open_regular(path: Path, flags: int = os.O_RDONLY, mode: int = 0o666) -> int:
    """Open a regular file without blocking and return its descriptor.

    ConfigError for a pipe, a device or a folder. Other errors are the OSError of `os.open`.
    """
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, mode)
    except ValueError as error:  # a NUL, or half of a surrogate pair
        raise ConfigError(f"cannot read {str(path)!a}: {error}", hint="write another path") from None
    except OSError as error:
        if error.errno != errno.ENXIO:  # a socket, or a pipe without a reader
            raise
        raise ConfigError(f"cannot read {path}: {error.strerror}: not a regular file") from None
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISREG(kind):
        return descriptor
    os.close(descriptor)
    what = "Is a directory" if stat.S_ISDIR(kind) else "not a regular file"
    raise ConfigError(f"cannot read {path}: {what}", hint=f"ls -l {path}   # a file is expected there")


def read_bytes(path: Path, *, limit: int = 1 << 30) -> bytes:
    """Return the bytes of a regular file; ConfigError above `limit` bytes and as of `open_regular`."""
    with open(open_regular(path), "rb") as file:
        large = os.fstat(file.fileno()).st_size > limit
        data = b"" if large else file.read(limit + 1)
    if large or len(data) > limit:
        raise ConfigError(
            f"{path} is larger than {limit} bytes", hint=f"ls -l {path}   # is it the right file?"
        )
    return data


def read_text(path: Path, *, hint: str = "", limit: int = 1 << 30) -> str:
    """Return the text of a UTF-8 file without a byte order mark.

    NotFoundError without the file; ConfigError if it is unreadable or has more than `limit` bytes.
    """
    try:
        return io.TextIOWrapper(io.BytesIO(read_bytes(path, limit=limit)), encoding="utf-8-sig").read()
    except FileNotFoundError:
        raise NotFoundError(f"there is no file {path}", hint=hint) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text (byte {error.start})", hint=hint) from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", hint=hint) from None


def until_changed(read: Callable[[Path], T]) -> Callable[[Path], T]:
    """Return `read` with its values kept until the file at the path changes: its inode, size or times.

    The callers share a value, so do not change it. A file younger than two seconds is always read.
    """

    @functools.lru_cache(maxsize=20_000)
    def kept(path: Path, *_seen: int) -> T:
        return read(path)

    @functools.wraps(read)
    def current(path: Path) -> T:
        try:
            status = path.stat()
        except (OSError, ValueError):  # reading the file raises the error
            return read(path)
        if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) < YOUNG_NS:
            return read(path)
        times = status.st_mtime_ns, status.st_ctime_ns
        return kept(path, status.st_dev, status.st_ino, status.st_size, *times)

    return current


def shortened(text: str) -> str:
    """Return a text for an error: cut after 80 characters."""
    return text if len(text) <= 80 else f"{text[:80]}…"
