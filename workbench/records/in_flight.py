"""The calls in flight of each process, in a file that outlives a kill: what a killed process had asked.

A process has one file of slots, which it locks while it lives. A call is written into a slot before its
target is asked, and its slot is cleared after its record is written. Both are writes without a sync, so that
they outlive the process, and not a power failure. What is left in a file that nobody locks was interrupted.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import orjson

from workbench import files, locking
from workbench.errors import ConfigError, UnavailableError
from workbench.layout import IN_FLIGHT
from workbench.types import JSON

#: The size of a slot in bytes: the longest call, with the newline that ends it.
SLOT_BYTES: Final = 4096
#: Most slots of a process. Only calls whose records could not be written keep theirs.
_MOST_SLOTS: Final = 16_384
#: Seconds between two looks whether the file still has its name.
_LOOK_S: Final = 1.0
_SUFFIX: Final = ".calls"


class CallSlot:
    """The place of one call in the file of its process."""

    __slots__ = ("_file", "_offset")

    def __init__(self, file: _SlotFile, number: int) -> None:
        self._file, self._offset = file, number * SLOT_BYTES

    def write(self, call: bytes) -> None:
        """Write the call, JSON of less than `SLOT_BYTES` bytes; raise UnavailableError when it cannot be."""
        file = self._file
        with files.writing(file.path):
            os.pwrite(file.descriptor, call + b"\n", self._offset)

    def clear(self) -> None:
        """Free the slot. A file that cannot be written keeps the call, whose record is then found."""
        try:  # noqa: SIM105 - `suppress` takes longer, and this runs for each call
            os.pwrite(self._file.descriptor, b"\0", self._offset)
        except OSError:
            pass
        self._file.give_back(self._offset // SLOT_BYTES)


class CallsInFlight:
    """The calls in flight of this process, for any number of threads; each process has a file in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: _SlotFile | None = None
        self._lock = threading.Lock()
        self._look_at = 0.0
        _all.add(self)

    def slot(self) -> CallSlot:
        """Return a free slot; raise UnavailableError when the file cannot be written."""
        with self._lock:
            file, now = self._file, time.monotonic()
            if file is None or (now >= self._look_at and not file.is_usable):
                with files.writing(self._folder):
                    file = self._file = _SlotFile(self._folder)
            if now >= self._look_at:
                self._look_at = now + _LOOK_S
            return CallSlot(file, file.take())

    def forked(self) -> None:
        """Leave the file to the parent, in a new child process: a copy would keep its lock."""
        file, self._file = self._file, None
        if file is not None:
            file.abandon()
        self._lock = threading.Lock()


class _SlotFile:
    """A locked file of slots, removed with its last user, or when the process ends, if no call is left."""

    def __init__(self, folder: Path) -> None:
        files.make_folder(folder)
        self._pid, self._free, self._used = os.getpid(), list[int](), set[int]()
        self._slots = 0
        while True:
            self.path = folder / f"{self._pid}-{secrets.token_hex(8)}{_SUFFIX}"
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self.descriptor = os.open(self.path, flags, 0o600)
            locking.acquire(self.descriptor)
            if os.fstat(self.descriptor).st_nlink:
                break
            os.close(self.descriptor)  # somebody who looked for killed processes removed it before the lock
        self._end = weakref.finalize(self, _end, self.descriptor, self.path, self._pid, self._used)

    @property
    def is_usable(self) -> bool:
        """Whether the file still has its name."""
        return os.fstat(self.descriptor).st_nlink > 0

    def take(self) -> int:
        """Return the number of a free slot."""
        if not self._free:
            self._free.append(self._slots)
            self._slots += 1
        number = self._free.pop()
        if number >= _MOST_SLOTS:
            raise UnavailableError(
                f"{self.path} is full: the records of {_MOST_SLOTS:,} calls could not be written",
                hint="workbench doctor; then start this process again",
            )
        self._used.add(number)
        return number

    def give_back(self, number: int) -> None:
        """Take back a slot."""
        self._used.discard(number)
        self._free.append(number)

    def abandon(self) -> None:
        """Close this copy of the descriptor, in the child of a fork."""
        self._end.detach()
        with contextlib.suppress(OSError):
            os.close(self.descriptor)


def _end(descriptor: int, path: Path, pid: int, used: set[int]) -> None:
    if pid != os.getpid():
        return
    if not used:
        with contextlib.suppress(OSError):
            path.unlink()
    with contextlib.suppress(OSError):
        locking.release(descriptor)
        os.close(descriptor)


@functools.lru_cache(maxsize=64)
def calls_in_flight(home: Path) -> CallsInFlight:
    """Return this process's calls in flight below a folder of state."""
    return CallsInFlight(home / IN_FLIGHT)


def recover(folder: Path, keep: Callable[[Sequence[JSON]], bool]) -> int:
    """Pass the calls of each process that has ended to `keep`; return their number.

    The file of a process is removed when `keep` returns True, else it is read again next time. One process
    reads a file at a time, and none reads that of a process that lives. A file that cannot be read, or that
    the user may not write, stays.
    """
    number = 0
    for path in _paths(folder):
        with contextlib.suppress(OSError, ConfigError), _unlocked(path) as data:
            calls = list(_calls_in(data)) if data else []
            if keep(calls) if calls else data is not None:
                path.unlink()
                number += len(calls)
    return number


def _paths(folder: Path) -> list[Path]:
    """Return the files of slots; none without the folder."""
    try:
        with os.scandir(folder) as entries:
            return sorted(folder / entry.name for entry in entries if entry.name.endswith(_SUFFIX))
    except OSError:
        return []


@contextlib.contextmanager
def _unlocked(path: Path) -> Iterator[bytes | None]:
    """Lock a file that nobody locks, and yield its content; None when somebody locks or removed it."""
    descriptor = files.open_regular(path, os.O_RDWR, 0o600)
    try:
        if not locking.acquire(descriptor, wait=False):
            yield None
            return
        try:
            status = os.fstat(descriptor)
            size = min(status.st_size, _MOST_SLOTS * SLOT_BYTES)
            yield os.pread(descriptor, size, 0) if status.st_nlink else None
        finally:
            locking.release(descriptor)  # a process that another thread forked meanwhile has a copy
    finally:
        os.close(descriptor)


def _calls_in(data: bytes) -> Iterator[JSON]:
    """Yield the calls of a file; one whose writer was killed meanwhile is none: nobody was asked yet."""
    for begin in range(0, len(data), SLOT_BYTES):
        line, newline, _ = data[begin : begin + SLOT_BYTES].partition(b"\n")
        if newline and line[:1] == b"{":
            with contextlib.suppress(orjson.JSONDecodeError):
                yield orjson.loads(line)


_all: weakref.WeakSet[CallsInFlight] = weakref.WeakSet()


def _after_fork() -> None:
    for each in list(_all):
        each.forked()


os.register_at_fork(after_in_child=_after_fork)
