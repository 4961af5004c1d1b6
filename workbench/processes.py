"""Start child processes that end with their caller, and end a child with all its descendants.

The standard input of a child is a pipe, which the system closes when the caller ends. The child watches that
pipe (`end_with_caller`); `python -m workbench.processes MODULE …` does so for another Python program. All
descendants of a child carry its mark in their environment.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

from workbench import process_groups

#: The environment variable of the mark. Descendants inherit it, also in another session.
MARK = "WORKBENCH_RUN"
#: Variables that children do not inherit: a gateway's keys of providers.
_withheld: set[str] = set()
#: Seconds between SIGTERM and SIGKILL.
GRACE_S = 3.0


def start(
    command: Sequence[str], *, mark: str, cwd: Path, environment: Mapping[str, str], **options: Any
) -> subprocess.Popen[bytes]:
    """Start a command that watches its standard input; `options` are those of `subprocess.Popen`."""
    return subprocess.Popen(  # noqa: S603  our own programs and arguments
        command, cwd=cwd, env={**environment, MARK: mark}, stdin=subprocess.PIPE, **options
    )


def inherited(*, withhold: Iterable[str] = ()) -> dict[str, str] | None:
    """Return the environment of a child without the variables that are withheld; None is all of it.

    `withhold` names more of them, for this child and those that follow.
    """
    _withheld.update(withhold)
    if not _withheld:
        return None
    return {name: value for name, value in os.environ.items() if name not in _withheld}


@contextlib.contextmanager
def environment(variables: Mapping[str, str | None]) -> Iterator[None]:
    """Set variables of this process, which its children inherit, until the block ends; None removes one."""
    before = {name: os.environ.get(name) for name in variables}
    _set(variables)
    try:
        yield
    finally:
        _set(before)


def _set(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


class _EndableProcess(Protocol):
    """A process that this one started: a child, or one that a template forked."""

    @property
    def stdin(self) -> IO[bytes] | None:
        """The pipe that the process watches."""

    def poll(self) -> int | None:
        """Return the exit code, or None while the process lives."""

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code; raise subprocess.TimeoutExpired."""

    def terminate(self) -> None:
        """Send SIGTERM."""

    def kill(self) -> None:
        """Send SIGKILL."""


def end(mark: str, process: _EndableProcess | None = None, *, variable: str = MARK) -> None:
    """End a child and every process that carries its mark in `variable`: by SIGTERM, then by SIGKILL.

    What they started in sessions that they began ends too, also without a mark: a process can write over its
    own environment.
    """
    alive = variable == MARK and (process is None or process.poll() is None)
    groups = process_groups.begun_below(found.pid for found in marked(mark)) if alive else set()
    if process is not None:
        stop(process)
        if process.stdin is not None:
            process.stdin.close()
    until = time.monotonic() + GRACE_S
    while kill_marked(mark, variable=variable) and time.monotonic() < until:
        time.sleep(0.02)  # a dying process may start another
    for group in groups:
        process_groups.end_group(group)


def stop(process: _EndableProcess | int, *, grace_s: float = GRACE_S) -> None:
    """End a child, or the process with an id, by SIGTERM, and by SIGKILL after `grace_s` seconds."""
    found: Any = process
    expired: type[Exception] = subprocess.TimeoutExpired
    if isinstance(process, int):
        import psutil

        found, expired = psutil.Process(process), psutil.TimeoutExpired
    found.terminate()  # does nothing to a child that has ended
    try:
        found.wait(grace_s)
    except expired:
        found.kill()
        found.wait()


def kill_marked(mark: str, *, variable: str = MARK) -> int:
    """Kill this user's other processes that carry the mark; return their number.

    Of a session that one of them leads, whole process groups are killed: the system leaves none out that is
    being started meanwhile, as a loop over thousands of processes would.
    """
    import psutil

    found = marked(mark, variable=variable)
    for group in process_groups.begun_by({process.pid for process in found}) if variable == MARK else ():
        with contextlib.suppress(OSError):  # it has ended
            os.killpg(group, signal.SIGKILL)
    for process in found:
        with contextlib.suppress(psutil.Error):  # it has ended
            process.kill()
    return len(found)


def marked(mark: str, *, variable: str = MARK) -> list[Any]:
    """Return this user's other living processes whose environment has the mark in `variable`."""
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            ours = process.pid != os.getpid() and _carries(process, mark, variable)
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def _carries(process: Any, mark: str, variable: str) -> bool:
    """Whether the variable of a process is the mark; one other than `MARK` may have it inside."""
    value = process.environ().get(variable)
    return value == mark if variable == MARK else bool(mark) and mark in (value or "")


def end_with_caller(mark: str, *, grace_s: float = 0.0) -> None:
    """End this process and all that carry the mark when the caller's end of standard input closes.

    For `grace_s` seconds only the other processes are killed, so that this one can release its locks.
    """
    # Not through sys.stdin, whose lock would outlive the main thread. Children get an empty standard input.
    pipe = os.dup(0)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)

    def wait() -> None:
        while os.read(pipe, 4096):
            pass
        until = time.monotonic() + grace_s
        while time.monotonic() < until:  # this thread ends with the main one
            kill_marked(mark)
            time.sleep(0.05)
        groups = process_groups.begun_below([os.getpid()])
        end(mark)
        for group in groups:
            process_groups.end_group(group)
        os._exit(3)

    threading.Thread(target=wait, name="workbench-caller", daemon=True).start()


def collect_rarely() -> None:
    """Let this process look for cyclic garbage after 200,000 new objects, not after each 700, nor at its end.

    A command that imports libraries, works and ends spends about a twentieth of its time on the search, and
    as much again on the searches with which the interpreter ends.
    """
    gc.set_threshold(200_000)
    atexit.register(gc.freeze)


def main(arguments: list[str]) -> None:
    """Run a Python module as a program that ends with its caller."""
    collect_rarely()
    end_with_caller(os.environ.get(MARK, ""), grace_s=GRACE_S)
    sys.argv = arguments
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
