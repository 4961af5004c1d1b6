"""An append-only file of lines, safe across threads, processes and kills."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

from workbench import files, locking

#: Bytes that are read at once when the begin of a line is looked for.
_BLOCK = 1 << 16


class Lines:
    """An append-only file of lines, safe across threads and processes.

    A lock of the file excludes other writers. A line that does not fit on the disk is removed. A killed
    writer leaves an incomplete last line: the next writer ends it, and readers skip it. In a `durable` file
    each line is on the disk when `append` returns, and the next writer removes an incomplete line, which its
    writer never acknowledged.
    """

    def __init__(self, path: Path, *, durable: bool = False) -> None:
        self.path = path
        self._name = str(path)
        self._durable = durable
        self._fd: int | None = None
        self._pid = 0
        self._identity = (0, 0)
        self._end = -1  # the end of this writer's last line
        self._lock = threading.RLock()

    @property
    def is_open(self) -> bool:
        """Whether this process has opened the file; somebody may have deleted or replaced it since."""
        return self._fd is not None and self._pid == os.getpid()

    def open(self) -> int:
        """Return the file's descriptor; open or create the file if needed, or raise UnavailableError."""
        with self._lock:  # another thread may write to the descriptor that this closes
            return self._opened()

    def _opened(self) -> int:
        if self._current_size() is not None:
            return self._fd  # type: ignore[return-value]
        with files.writing(self.path):
            files.make_folder(self.path.parent)
            fd = files.open_regular(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            if self._durable:
                files.sync_folder(self.path.parent)
        if self._fd is not None and self._pid == os.getpid():
            os.close(self._fd)
        status = os.fstat(fd)
        self._identity, self._end = (status.st_dev, status.st_ino), -1
        self._fd, self._pid = fd, os.getpid()
        return fd

    def append(self, line: bytes) -> int:
        """Append a line, passed without its newline, and return its offset in bytes."""
        with self._lock, files.writing(self.path):
            fd, end = self._exclusive()
            try:
                return self._append(fd, line, end)
            finally:
                locking.release(fd)

    @contextlib.contextmanager
    def writing(self) -> Iterator[Callable[[bytes], int]]:
        """Exclude other writers, and yield the function that appends a line and returns its offset.

        A file that was deleted or replaced while this writer waited for its lock is opened again.
        """
        with self._lock, files.writing(self.path):
            fd, _ = self._exclusive()
            try:
                yield lambda line: self._append(fd, line, os.fstat(fd).st_size)
            finally:
                locking.release(fd)

    def _exclusive(self) -> tuple[int, int]:
        """Return the descriptor of the file at the path, locked against other writers, and its size."""
        while True:
            fd = self._fd
            if fd is None or self._pid != os.getpid():
                fd = self._opened()
            locking.acquire(fd)
            try:
                size = self._current_size()
            except BaseException:
                locking.release(fd)
                raise
            if size is not None:
                return fd, size
            locking.release(fd)
            self._opened()

    def read(self, start: int = 0, length: int | None = None) -> bytes:
        """Return `length` bytes from `start`, by default to the end of the file."""
        parts = []
        with self._lock:
            fd = self._opened()
            wanted = os.fstat(fd).st_size - start if length is None else length
            while wanted > 0 and (part := os.pread(fd, min(wanted, 1 << 26), start)):
                parts.append(part)
                start += len(part)
                wanted -= len(part)
        return b"".join(parts)

    def size(self) -> int:
        """Return the current size of the file in bytes, including writes of other processes."""
        with self._lock:
            return os.fstat(self._opened()).st_size

    def _current_size(self) -> int | None:
        """Return the file's size; None unless this process opened it, and nobody deleted or replaced it."""
        if self._fd is None or self._pid != os.getpid():
            return None
        try:
            status = os.stat(self._name)  # noqa: PTH116  every call asks twice, and a Path takes longer
        except (FileNotFoundError, NotADirectoryError):
            return None
        return status.st_size if (status.st_dev, status.st_ino) == self._identity else None

    def _append(self, fd: int, line: bytes, end: int) -> int:
        torn = end > 0 and end != self._end and os.pread(fd, 1, end - 1) != b"\n"
        if torn and self._durable:
            end = _begin_of_last_line(fd, end)
            os.ftruncate(fd, end)
            torn = False
        record = (b"\n" if torn else b"") + line + b"\n"
        written = 0
        try:
            while written < len(record):
                written += os.write(fd, record[written:])
            if self._durable:
                os.fsync(fd)
        except OSError:
            os.ftruncate(fd, end)
            raise
        self._end = end + len(record)
        return end + torn


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return the records of a log, oldest first.

    The incomplete lines of killed writers, and other lines that are no JSON object, are not records.
    """
    records = []
    with contextlib.suppress(FileNotFoundError):
        for line in filter(None, files.read_bytes(path).split(b"\n")):
            with contextlib.suppress(orjson.JSONDecodeError):
                record = orjson.loads(line)
                if isinstance(record, dict):
                    records.append(record)
    return records


def _begin_of_last_line(fd: int, end: int) -> int:
    """Return the offset at which the line begins that has no end before `end`; 0 without a line before."""
    while end:
        start = max(0, end - _BLOCK)
        found = os.pread(fd, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
