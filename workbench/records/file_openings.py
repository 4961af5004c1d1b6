"""Find out which files any process opens while a block runs, by inotify; outside Linux nothing is found."""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from collections.abc import Iterator, Mapping
from typing import Any, Final

_OPEN: Final = 0x20
_FOLDER: Final = 0x40000000
#: The head of an event: the number of its watch, its kind, a cookie and the bytes of the name that follows.
_EVENT: Final = struct.Struct("iIII")
_READ: Final = 1 << 16


@contextlib.contextmanager
def openings(paths: Mapping[str, str]) -> Iterator[set[str]]:
    """Collect the addresses of files that are opened while the block runs; the set is filled at its end.

    `paths` maps real paths of files and folders to their addresses. Files in folders that are made in the
    block are not found. The set stays empty on systems without inotify and when its limits are reached.
    """
    found: set[str] = set()
    with contextlib.ExitStack() as stack:
        libc = ctypes.CDLL(None)
        descriptor = (
            libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC) if hasattr(libc, "inotify_init1") else -1
        )
        watches: dict[int, str] = {}
        if descriptor >= 0:
            stack.callback(os.close, descriptor)
            watches = dict(_watches(libc, descriptor, paths))
        yield found
        if watches:
            found.update(_opened(descriptor, watches))


def _watches(libc: Any, descriptor: int, paths: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    """Watch each path and each folder below it, and yield the number of the watch with its address."""
    for real, address in paths.items():
        for path in (real, *(folder for folder, _, _ in os.walk(real) if folder != real)):
            number = libc.inotify_add_watch(descriptor, os.fsencode(path), _OPEN)
            if number >= 0:
                yield number, address + path[len(real) :]


def _opened(descriptor: int, watches: Mapping[int, str]) -> Iterator[str]:
    """Yield the addresses of the files, without the folders, in the events of a descriptor."""
    with contextlib.suppress(BlockingIOError):  # no event is left
        while events := os.read(descriptor, _READ):
            at = 0
            while at < len(events):
                watch, kind, _, length = _EVENT.unpack_from(events, at)
                at += _EVENT.size + length
                name = os.fsdecode(events[at - length : at].rstrip(b"\0"))
                if watch in watches and not kind & _FOLDER:
                    yield f"{watches[watch]}/{name}" if name else watches[watch]
