"""Ask for a process of a template: which one it must be, where its socket is, and the process that it forks.

A folder holds, for each template, its order `KEY.json` and its socket `KEY`. Who finds no socket writes the
order and starts its process cold; who owns the folder starts a template for each order.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import select
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

from workbench import files
from workbench.errors import WorkbenchError
from workbench.forking import messages

#: The variable that names the folder of templates, for the processes of a server.
FOLDER_VARIABLE: Final = "WORKBENCH_TEMPLATES"
#: Variables that a program reads at its start alone. Credentials are none of them.
_AT_START: Final = re.compile(
    r"PYTHON[A-Z_]*|LANG|LANGUAGE|LC_[A-Z]+|TZ|PATH|HOME|USER|LOGNAME|TMPDIR|LD_[A-Z_]+|MALLOC_[A-Z_]+"
    r"|GLIBC_TUNABLES|[A-Z]+_NUM_THREADS|POLARS_[A-Z_]+|OPENBLAS_[A-Z_]+|COVERAGE_[A-Z_]+"
)
_HELLO_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateOrder:
    """What a template is: an interpreter that runs a module in a folder, with what it reads at its start.

    `name` is for people. A process may come from a template only when all else is equal.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    name: str
    python: str
    module: str
    cwd: str
    flags: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, environment: Mapping[str, str], **fields: Any) -> TemplateOrder:
        """Return the order of a template whose processes get this environment."""
        kept = {name: value for name, value in sorted(environment.items()) if _AT_START.fullmatch(name)}
        return cls(environment=kept, **fields)

    @property
    def key(self) -> str:
        """The name of the template's files."""
        return files.digest(files.pretty({**asdict(self), "name": ""}))[:16]


class ForkedProcess:
    """A process that a template forked, with the methods of `subprocess.Popen` that its owner needs.

    It is no child of this process: its end is seen by a descriptor of the process, its code is told.
    """

    def __init__(self, pid: int, descriptor: int, report: socket.socket, stdin: io.FileIO) -> None:
        self.pid, self.stdin = pid, stdin
        self.returncode: int | None = None
        self._descriptor, self._report = descriptor, report

    def poll(self) -> int | None:
        """Return the exit code, -9 for a process that was killed, or None while it lives."""
        if self.returncode is None and self._ended(0.0):
            self.returncode = self._told()
            self._report.close()
            os.close(self._descriptor)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code when the process has ended; raise TimeoutExpired after `timeout` seconds."""
        if self.returncode is None and not self._ended(timeout):
            raise subprocess.TimeoutExpired([str(self.pid)], timeout or 0.0)
        return self.poll() or 0

    def terminate(self) -> None:
        """Send SIGTERM unless the process has ended."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL unless the process has ended."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, number)

    def _ended(self, timeout: float | None) -> bool:
        looking = select.poll()  # `select` takes no descriptor above 1,023
        looking.register(self._descriptor, select.POLLIN)
        return bool(looking.poll(None if timeout is None else timeout * 1_000))

    def _told(self) -> int:
        self._report.settimeout(0)
        with contextlib.suppress(OSError, WorkbenchError, ValueError, KeyError):
            return int(messages.receive(self._report)[0]["code"])
        return -signal.SIGKILL


#: A process that this one started: a child, or one that a template forked.
StartedProcess = subprocess.Popen[bytes] | ForkedProcess


def forked(
    folder: Path,
    order: TemplateOrder,
    arguments: Sequence[str],
    *,
    mark: str,
    environment: Mapping[str, str],
    streams: tuple[int, int],
    umask: int = -1,
) -> ForkedProcess | None:
    """Return a process of a template, or None when it must be started cold; then the template is ordered.

    `streams` are the descriptors of its output and its errors. Its standard input is a pipe, closed when
    this process ends. The environment is sent when the template has shown that it reads this format.
    """
    place = folder / order.key
    with contextlib.suppress(OSError):
        os.utime(place.with_suffix(".json"))
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(_HELLO_S)
        connection.connect(str(place))
        hello, descriptors = messages.receive(connection)
    except (OSError, WorkbenchError, ValueError):
        connection.close()
        place_order(folder, order)
        return None
    if hello.get("format") != messages.FORMAT or not descriptors:  # this process may open no more files
        connection.close()
        for descriptor in descriptors:
            os.close(descriptor)
        return None
    return _started(
        connection, hello["pid"], descriptors[0], streams,
        {"mark": mark},
        {"arguments": [*arguments], "environment": {**environment}, "cwd": order.cwd, "umask": _mask(umask)},
    )  # fmt: skip


def _started(
    connection: socket.socket,
    pid: int,
    descriptor: int,
    streams: tuple[int, int],
    first: Mapping[str, Any],
    second: Mapping[str, Any],
) -> ForkedProcess | None:
    """Tell a forked process what it is to do; return None when it died before it knew."""
    reading, writing = os.pipe()
    try:
        messages.send(connection, first)
        messages.send(connection, second, [reading, *streams])
    except OSError:
        for each in (descriptor, writing):
            os.close(each)
        connection.close()
        return None
    finally:
        os.close(reading)
    return ForkedProcess(pid, descriptor, connection, io.FileIO(writing, "wb"))


@contextlib.contextmanager
def descriptor_of(stream: int) -> Iterator[int]:
    """Give the descriptor that `subprocess` would take for a stream: DEVNULL is opened for the block."""
    if stream != subprocess.DEVNULL:
        yield stream
        return
    descriptor = os.open(os.devnull, os.O_RDWR)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _mask(umask: int) -> int:
    """Return the umask, for -1 that of this process."""
    if umask < 0:
        umask = os.umask(0o077)
        os.umask(umask)
    return umask


def place_order(folder: Path, order: TemplateOrder) -> None:
    """Leave the order of a template; a folder that is gone with its server needs none."""
    path = folder / f"{order.key}.json"
    if folder.is_dir() and not path.exists():
        with contextlib.suppress(OSError, WorkbenchError):
            files.write_atomic(path, files.pretty(asdict(order)), private=True)


def read_order(path: Path) -> TemplateOrder:
    """Return the order of a file; raise ConfigError for one that is not valid."""
    return files.parse(
        TemplateOrder, files.parse_json(files.read_text(path), where=str(path)), where=str(path)
    )
