"""Locks on files and folders, held by one process at a time and released when their holder ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path


def acquire(descriptor: int, *, shared: bool = False, wait: bool = True) -> bool:
    """Lock an open file or folder; False when another process holds it and `wait` is off.

    The lock ends when every copy of the descriptor is closed, also by the death of its holders.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(descriptor, kind if wait else kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def held(descriptor: int) -> Iterator[None]:
    """Hold the lock on an open file, and release it at the end though the file stays open."""
    acquire(descriptor)
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


@contextlib.contextmanager
def locked(path: Path, *, shared: bool = False, on_wait: Callable[[], None] | None = None) -> Iterator[int]:
    """Hold the lock on a folder that exists, or on a file that is created; yield its descriptor.

    `on_wait` is called once when another process holds the lock. OSError when `path` cannot be opened.
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
        os.close(descriptor)
