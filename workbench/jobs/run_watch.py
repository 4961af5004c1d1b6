"""Watch the processes of a run from outside: end it when they are too many, or have too much memory.

The system's limits hold for one process (memory) or for all of a user (processes, and not for root). A look
at /proc holds for a run as a whole, whatever code its version has; elsewhere than on Linux there is none.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple

from workbench import processes
from workbench.config.run_bounds import RunBounds
from workbench.context import Clock
from workbench.errors import LimitExceededError
from workbench.forking.state import ROOM

#: Seconds between two looks, each of which takes about 3 ms. A kernel starts some thousand processes in them.
_LOOK_S: Final = 0.5
_PROC: Final = Path("/proc")
_MB: Final = 1 << 20
_MARK: Final = f"{processes.MARK}=".encode()
#: What a template has, and a process that it forked until that knows its run.
_UNMARKED: Final = _MARK + ROOM.encode()
#: The fields of /proc/PID/stat after the name of the program: state and session.
_STATE, _SESSION = 0, 3


class _Member(NamedTuple):
    pid: int
    session: int


class RunWatch:
    """Looks at the processes of a run twice a second; it is called as a `tick` of the runner."""

    def __init__(self, job: str, run: str, bounds: RunBounds, clock: Clock) -> None:
        self._job, self._mark, self._bounds, self._clock = job, _MARK + run.encode(), bounds, clock
        self._next = clock.monotonic()
        #: Whether each session that was seen belongs to the run.
        self._sessions: dict[int, bool] = {}

    def __call__(self) -> None:
        """Raise LimitExceededError when the run has more than its bounds; the runner then ends it."""
        now = self._clock.monotonic()
        if now < self._next:
            return
        self._next = now + _LOOK_S
        found = self.members()
        if len(found) > self._bounds.processes:
            raise self._exceeded("processes", f"more than {self._bounds.processes} processes at once")
        most = self._bounds.memory_mb
        if most is not None and _exceeds(found, most * _MB):
            raise self._exceeded("memory_mb", f"more than {most} MB of memory")

    def members(self) -> list[int]:
        """Return the living processes of the run: those of the sessions that its own processes began."""
        found = _living()
        sessions = {one.session: self._is_own(one) for one in found}
        self._sessions = {session: own for session, own in sessions.items() if own is not None}
        return [one.pid for one in found if sessions[one.session]]

    def _is_own(self, one: _Member) -> bool | None:
        """Return whether a session belongs to the run; None while one of a template has no mark yet."""
        known = self._sessions.get(one.session)
        if known is not None:
            return known
        marks = _marks(one.session) | _marks(one.pid)
        return True if self._mark in marks else None if _UNMARKED in marks else False

    def _exceeded(self, limit: str, what: str) -> LimitExceededError:
        return LimitExceededError(
            f"{self._job}: {what}; all its processes were ended",
            hint=f"run it again: its answers are kept; or raise bounds.{limit} in pipelines/operations.yaml",
            limit=limit,
        )


def _marks(pid: int) -> set[bytes]:
    """Return the marks in the environment of a process; none of a process of another user."""
    try:
        environment = (_PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return set()
    return {item for item in environment.split(b"\0") if item.startswith(_MARK)}


def _living() -> list[_Member]:
    """Return every process that is no zombie, with its session; none where there is no /proc."""
    found = []
    try:
        names = os.listdir(_PROC)  # noqa: PTH208  an object for each entry would double the time
    except OSError:
        return []
    for name in names:
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:  # it has ended
                continue
            if fields[_STATE] not in {b"Z", b"X"}:
                found.append(_Member(int(name), int(fields[_SESSION])))
    return found


def _exceeds(pids: list[int], most: int) -> bool:
    """Return whether processes have more bytes of memory together; what several share counts once.

    The share of each takes a millisecond, so it is asked for only when it may decide.
    """
    return sum(map(_own_bytes, pids)) > most and sum(map(_share_bytes, pids)) > most


def _share_bytes(pid: int) -> int:
    """Return a process's part of the memory that it and those it was forked from or to have in common."""
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return _own_bytes(pid)  # it has ended, or the system has no such file
    found = [line.split()[1] for line in lines if line.startswith("Pss_Anon:")]
    return int(found[0]) << 10 if found else _own_bytes(pid)


def _own_bytes(pid: int) -> int:
    """Return the bytes in memory that a process does not share with a file; 0 for one that has ended."""
    try:
        resident, shared = (_PROC / str(pid) / "statm").read_bytes().split()[1:3]
    except OSError:
        return 0
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGESIZE")
