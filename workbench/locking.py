"""Lock files and folders between processes; a lock ends with its holder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

#: Seconds between two looks at a lock that is held: of the one that is next, and of each in the queue.
_NEXT_PAUSE_S: Final = 0.0001
_QUEUE_PAUSE_S: Final = 0.001


def acquire(descriptor: int, *, shared: bool = False, wait: bool = True) -> bool:
    """Lock an open file or folder and return True; return False when it is locked and `wait` is off.

    The lock ends when every copy of the descriptor is closed, also when its holders are killed.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(descriptor, kind if wait else kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def release(descriptor: int) -> None:
    """Unlock an open file or folder."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)


@contextlib.contextmanager
def held(descriptor: int) -> Iterator[None]:
    """Lock an open file during a block; the file stays open."""
    acquire(descriptor)
    try:
        yield
    finally:
        release(descriptor)


@contextlib.contextmanager
def locked(
    path: Path, *, shared: bool = False, inherited: bool = False, on_wait: Callable[[], None] | None = None
) -> Iterator[int]:
    """Lock a folder, or a file that is created if missing, during a block; yield its descriptor.

    `on_wait` is called once if another process holds the lock. With `inherited` a child that was given the
    descriptor still holds the lock after the block. OSError when `path` cannot be opened.
    """
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        if on_wait is None or not acquire(descriptor, shared=shared, wait=False):
            if on_wait is not None:
                on_wait()
            acquire(descriptor, shared=shared)
        yield descriptor
    finally:
        if not inherited:  # a process that another thread forked meanwhile has a copy of the descriptor
            release(descriptor)
        os.close(descriptor)


@contextlib.contextmanager
def in_turn(path: Path, *, wait_s: float) -> Iterator[bool]:
    """Hold the lock of `path` during a block, and yield whether it was free in time.

    A holder that wants the lock again at once stands behind one who waits: each first takes the lock of the
    queue, keeps it while it waits, and gives it up when it has the other one. Of several that want to enter
    the queue any may be next. The files `PATH.turn` and `PATH.queue` are created if missing.
    """
    until = time.monotonic() + wait_s
    descriptors = [
        os.open(path.with_name(f"{path.name}.{name}"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        for name in ("queue", "turn")
    ]
    queue, turn = descriptors
    try:
        granted = _acquired(queue, until, _QUEUE_PAUSE_S) and _acquired(turn, until, _NEXT_PAUSE_S)
        release(queue)
        yield granted
    finally:
        for descriptor in descriptors:
            release(descriptor)  # a process that another thread forked meanwhile has copies
            os.close(descriptor)


def _acquired(descriptor: int, until: float, pause_s: float) -> bool:
    """Return whether the lock was free before the time `until`."""
    while not acquire(descriptor, wait=False):
        if time.monotonic() > until:
            return False
        time.sleep(pause_s)
    return True
