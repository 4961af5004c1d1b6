"""Find the process groups that processes began in sessions of their own, and end a group."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from typing import Final

#: Seconds to wait until the killed processes of a group have ended.
_GRACE_S: Final = 5.0


def end_group(group: int) -> None:
    """Kill the processes of a group and wait some seconds until they have ended."""
    until = time.monotonic() + _GRACE_S
    while _living(group) and time.monotonic() < until:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        time.sleep(0.01)


def _living(group: int) -> bool:
    """Whether a group has a process that has not ended."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    import psutil

    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                return True
    return False


def begun_below(pids: Iterable[int]) -> set[int]:
    """Return the process groups of the sessions that these processes and their descendants began."""
    import psutil

    found = set(pids)
    for pid in tuple(found):
        with contextlib.suppress(psutil.Error):  # it has ended
            process = psutil.Process(pid)
            if process.ppid() not in found:
                found |= {child.pid for child in process.children(recursive=True)}
    return begun_by(found)


def begun_by(pids: set[int]) -> set[int]:
    """Return the process groups of processes in sessions that one of them leads, but for this process's."""
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError):  # it has ended
            if os.getsid(pid) in pids and os.getpgid(pid) != os.getpgid(0):
                found.add(os.getpgid(pid))
    return found
