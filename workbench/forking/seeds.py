"""The seed of a kernel: a process forked from a worker before it knows a secret, which becomes its kernel."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.errors import WorkbenchError
from workbench.forking import messages

_TICK_S = 0.02


class ForkedChild:
    """A child that this process forked, with the methods of `subprocess.Popen` that a kernel needs."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal, or None while the child lives."""
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # something else in this process has waited for it
                self.returncode = 0
                return 0
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code when the child has ended; raise TimeoutExpired after `timeout` seconds."""
        until = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if until is not None and time.monotonic() > until:
                raise subprocess.TimeoutExpired(["kernel"], timeout or 0.0)
            time.sleep(_TICK_S)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal to the child unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


class KernelSeed:
    """A forked process that waits to become the kernel of this process, and ends with it."""

    def __init__(self, pid: int, connection: socket.socket) -> None:
        self._child, self._connection = ForkedChild(pid), connection

    def become(self, command: Sequence[str], *, environment: Mapping[str, str], cwd: str) -> ForkedChild:
        """Let the seed run a kernel's command; return its process. Raise OSError when the seed has died."""
        with self._connection:
            asked = {"command": list(command), "environment": dict(environment), "cwd": cwd}
            messages.send(self._connection, asked, [1, 2])
        return self._child


#: The seed of this process, until its kernel starts.
_waiting: list[KernelSeed] = []


def taken() -> KernelSeed | None:
    """Return the seed of this process once; None when there is none, or when it was taken."""
    return _waiting.pop() if _waiting else None


def plant() -> dict[str, Any] | None:
    """Fork the seed of this process. Return None here, and in the seed what it is asked to become.

    The seed leads a session of its own from the start. When this process ends first, the seed ends.
    """
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid:
        theirs.close()
        ours.recv(1)  # a kernel leads its session before anyone asks for its group
        _waiting.append(KernelSeed(pid, ours))
        return None
    ours.close()
    return _asked(theirs)


def _asked(connection: socket.socket) -> dict[str, Any]:
    """Wait, with no descriptor but the standard ones and this connection, to be asked for a kernel."""
    os.setsid()
    kept = connection.fileno()
    os.closerange(3, kept)
    os.closerange(kept + 1, 1 << 16)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    try:
        connection.sendall(b"+")
        asked, descriptors = messages.receive(connection)
    except (OSError, WorkbenchError):  # its worker has ended
        os._exit(0)
    connection.close()
    for number, descriptor in enumerate(descriptors, start=1):
        os.dup2(descriptor, number)
        os.close(descriptor)
    return asked
