"""Lock files and folders between processes; a lock ends with its holder."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path


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
