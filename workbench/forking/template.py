"""A template process: it has one thread and no secret, and forks a fresh process for each that asks.

`serve` returns once in each forked process, with what that process is to do. The template itself never reads
what it is asked: environment, arguments and streams go to the forked process alone.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from workbench.errors import ConfigError, WorkbenchError
from workbench.forking import messages, seeds, state

#: The argument of a program that starts it as a template, before the path of its socket.
OPTION: Final = "--template"
#: The exit code of a template that may not fork.
UNFIT: Final = 79
_BACKLOG: Final = 128
_PEER: Final = struct.Struct("3i")


@dataclass(frozen=True, slots=True, kw_only=True)
class Forked:
    """What a forked process is to do: run its program with `arguments`, or become a kernel as `kernel` says.

    `report` is where it tells its exit code.
    """

    arguments: tuple[str, ...] = ()
    kernel: dict[str, Any] | None = None
    report: socket.socket | None = None

    @contextlib.contextmanager
    def reporting(self) -> Iterator[None]:
        """Tell the exit code of the block, which ends by SystemExit, to who asked for this process."""
        code = 1
        try:
            yield
            code = 0
        except SystemExit as ending:
            code = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
            raise
        finally:
            if self.report is not None:
                with contextlib.suppress(OSError):
                    messages.send(self.report, {"code": code})


def serve(path: Path, *, seeded: bool) -> Forked | None:
    """Fork a process for each connection to `path`; return in each of them what it is to do.

    With `seeded` each process has a kernel's seed of its own, forked before it knows its environment. Return
    None in the template itself when its standard input closes. Raise ConfigError when it may not fork.
    """
    check_fit()
    state.note_imports()
    listener = _listening(path)
    sys.stdout.flush()
    sys.stderr.flush()
    gc.freeze()  # a search for garbage in a forked process would copy all that it looks at
    ended = _told_of_ends()
    looking = select.poll()  # `select` takes no descriptor above 1,023
    for watched in (listener.fileno(), ended.fileno(), 0):
        looking.register(watched, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in looking.poll()}
        if ended.fileno() in ready:
            _reap(ended)
        if 0 in ready and not os.read(0, 4096):
            path.unlink(missing_ok=True)
            return None
        if listener.fileno() in ready:
            connection, _ = listener.accept()
            with contextlib.suppress(OSError):  # no memory: who asked starts its process cold
                if not os.fork():
                    listener.close()
                    _forget_ends(ended)
                    return _forked(connection, seeded=seeded)
            connection.close()


def check_fit() -> None:
    """Raise ConfigError when this process may not be forked: it has threads, sockets or an event loop.

    A fork copies the calling thread alone, and would wait for ever for a lock that another one held. Threads
    of a library that ends its own before a fork, as OpenBLAS does, are gone after the first one.
    """
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    opened = []
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            opened.append(str(path.readlink()))
    found = [item for item in opened if item.startswith(("socket:", "anon_inode:"))]
    if len(names) != 1 or found:
        what = f"threads {', '.join(sorted(names))}" if len(names) != 1 else f"open {', '.join(found)}"
        raise ConfigError(
            f"a process with {what} may not be forked", hint="import what starts them in the run instead"
        )


def _told_of_ends() -> socket.socket:
    """Return a socket that becomes readable when a forked process has ended."""
    reading, writing = socket.socketpair()
    writing.settimeout(0)
    signal.set_wakeup_fd(writing.detach(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    reading.settimeout(0)
    return reading


def _forget_ends(ended: socket.socket) -> None:
    """Undo `_told_of_ends` in a forked process."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.close(signal.set_wakeup_fd(-1))
    ended.close()


def _reap(ended: socket.socket) -> None:
    """Wait for the forked processes that have ended, so that none stays as a zombie."""
    with contextlib.suppress(BlockingIOError):
        ended.recv(4096)
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _listening(path: Path) -> socket.socket:
    """Return a socket that listens at `path`, where it appears when connections are accepted."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    aside = path.with_name(f"{path.name}.new")
    aside.unlink(missing_ok=True)
    listener.bind(str(aside))
    aside.chmod(0o600)
    listener.listen(_BACKLOG)
    aside.rename(path)
    return listener


def _forked(connection: socket.socket, *, seeded: bool) -> Forked:
    """Become the process that the other end of a connection asks for."""
    try:
        _check_peer(connection)
        os.setsid()
        state.renew_randomness()
        descriptor = os.pidfd_open(os.getpid())
        messages.send(connection, {"format": messages.FORMAT, "pid": os.getpid()}, [descriptor])
        os.close(descriptor)
        state.set_mark(messages.receive(connection)[0]["mark"])
        if seeded and (kernel := seeds.plant()) is not None:
            state.renew_randomness()
            connection.detach()  # the seed has closed it
            return Forked(kernel=kernel)
        asked, streams = messages.receive(connection)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        state.replace_environment(asked["environment"])
        os.chdir(asked["cwd"])
        os.umask(asked["umask"])
    except (OSError, WorkbenchError):  # who asked has ended, or starts its process cold
        os._exit(UNFIT)
    return Forked(arguments=tuple(asked["arguments"]), report=connection)


def _check_peer(connection: socket.socket) -> None:
    """Raise PermissionError for a connection of another user."""
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    if _PEER.unpack(found)[1] != os.getuid():
        raise PermissionError("the connection is of another user")
