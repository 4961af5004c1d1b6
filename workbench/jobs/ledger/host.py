"""Identify this host, and tell a process from a later one with the same number."""

from __future__ import annotations

import contextlib
import functools
import platform
from dataclasses import dataclass
from pathlib import Path

#: The process namespace of the machine itself; each container has its own.
_MACHINE = "pid:[4026531836]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A machine or a container: the scope in which a process number is unique."""

    name: str

    @classmethod
    def here(cls) -> Host:
        """Return the host of this process."""
        name = platform.node()
        with contextlib.suppress(OSError):
            namespace = str(Path("/proc/self/ns/pid").readlink())
            name += "" if namespace == _MACHINE else f"/{namespace}"
        return cls(name=name)

    def process_started_at(self, pid: int) -> str | None:
        """Return a process's start as a text; None when it has ended, "" when it cannot be read."""
        import psutil

        try:
            if platform.system() == "Linux":
                return _ticks(pid)
            process = psutil.Process(pid)
            return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
        except (OSError, psutil.Error):
            return "" if psutil.pid_exists(pid) else None


def _ticks(pid: int) -> str | None:
    """Return boot id and ticks since boot: psutil's `create_time` changes when the clock is set."""
    stat = Path(f"/proc/{pid}/stat").read_bytes()
    fields = stat.rpartition(b")")[2].split()  # the process name may contain brackets
    ended = fields[0] in {b"Z", b"X"}  # ended, and not yet reaped by its parent
    return None if ended else f"{_boot()[:8]}/{int(fields[19])}"


@functools.cache
def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
