"""Report connections that bypass the boundary, and openings of guarded files, by an audit hook.

The hook is a safeguard, not isolation, because it runs in the process of the watched code. It receives the
events of Python's own `socket`, `subprocess`, `os`, `io` and `sqlite3`; a library that opens sockets or files
in C, Rust or Go raises none. A fork is not reported, because the child inherits the hook. `guarded` says
which openings it sees.
"""

from __future__ import annotations

import contextlib
import inspect
import ipaddress
import json
import os
import re
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar, Token
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final, TypeVar

from workbench import files
from workbench.errors import NotFoundError, UnavailableError
from workbench.records.file_openings import openings
from workbench.records.guarded import OPENINGS, Guard, Opening

T = TypeVar("T")
_crossing: ContextVar[bool] = ContextVar("workbench_crossing", default=False)
#: Set while a hook writes a report, whose own file may be guarded.
_reporting: ContextVar[bool] = ContextVar("workbench_reporting", default=False)
#: The open crossings of all threads, by the identity of their tokens.
_open: set[int] = set()
#: The files that this process appends reports to, each with its guarded paths.
_watched: set[tuple[str, ...]] = set()

#: The place in the report of an opening that only the system saw.
ELSEWHERE: Final = "inside a library, or in another process"

_CELL: Final = re.compile(r"[/\\]ipykernel_\d+[/\\]\d+\.py$")
_PACKAGES: Final = re.compile(r"[/\\](?:site|dist)-packages[/\\]")
#: The standard library and this package: a report names the code that called them.
_OURS: Final = tuple(
    folder + os.sep
    for folder in dict.fromkeys(
        (
            os.path.dirname(os.__file__),  # noqa: PTH120
            str(Path(__file__).parents[1]),  # a confined kernel imports this package through a link
            str(Path(__file__).resolve().parents[1]),
        )
    )
)
#: Standard modules that run programs such as `uname` and `ldconfig` to identify the machine.
_ASK_THE_MACHINE: Final = frozenset({"platform", "ctypes.util", "uuid"})
#: Errors outside a kernel; the report then names no cell.
_NO_KERNEL: Final = (KeyError, AttributeError)
#: urllib3 asks for a socket while it is imported, to learn whether the machine has IPv6.
_PROBES_IPV6: Final = frozenset({"urllib3.util.connection", "importlib._bootstrap"})
_DEBUGGERS: Final = ("debugpy", "pydevd", "_pydevd_bundle", "_pydev_bundle")


def enter() -> Token[bool]:
    """Begin a crossing: connections of this context and its tasks belong to the boundary."""
    token = _crossing.set(True)
    _open.add(id(token))
    return token


def leave(token: Token[bool]) -> None:
    """End the crossing that `enter` began."""
    _open.discard(id(token))
    # The garbage collector closes a coroutine in another context, which has no mark.
    try:  # noqa: SIM105 - `suppress` takes longer, and this runs for each event
        _crossing.reset(token)
    except ValueError:
        pass


@contextlib.contextmanager
def crossing() -> Iterator[None]:
    """Mark connections of the block as the boundary's. A generator uses `marked` instead."""
    token = enter()
    try:
        yield
    finally:
        leave(token)


def marked(stream: AsyncIterator[T]) -> AsyncIterator[T]:
    """Iterate over `stream` with a crossing around its own steps only; closing it closes the stream."""
    return _Marked(stream)


class _Marked(AsyncIterator[T]):
    """Not a generator: every event of every call would pass one more frame."""

    __slots__ = ("_stream",)

    def __init__(self, stream: AsyncIterator[T]) -> None:
        self._stream = stream

    async def __anext__(self) -> T:
        token = enter()
        try:
            return await self._stream.__anext__()
        finally:
            leave(token)

    async def aclose(self) -> None:
        """Close the stream."""
        if (close := getattr(self._stream, "aclose", None)) is not None:
            with crossing():
                await close()


def watch(path: Path | str, guarded: Sequence[Path | str] = ()) -> None:
    """Append connections and programs opened outside a crossing to `path`, until this process ends.

    Openings of `guarded` files, and of files in `guarded` folders, are appended too, also inside a
    crossing and by whatever name: relative, through links, as bytes. Each line is a JSON object: the audit
    event, the address, program or file, and the place in the caller's code. The file is created at once;
    UnavailableError when it cannot be written.
    """
    where = os.path.abspath(path)  # noqa: PTH100 - a notebook may change its folder later
    try:
        _append(where, b"")
    except OSError as error:
        raise UnavailableError(
            f"cannot write {where}: {error.strerror}", hint="name a file in a folder that can be written"
        ) from error
    watched = (where, *(os.path.abspath(name) for name in guarded))  # noqa: PTH100
    if watched not in _watched:  # a hook cannot be removed
        _watched.add(watched)
        sys.addaudithook(_Watch(path=where, guard=Guard.of(watched[1:]) if guarded else None))


@contextlib.contextmanager
def natively(path: Path, guarded: Sequence[Path]) -> Iterator[None]:
    """Append the openings of guarded files that no watch reports to `path`, at the end of the block.

    The block runs the watched process. Libraries such as polars open files in Rust, C or C++, which only the
    system sees, and only on Linux. The system does not tell which process opened a file.
    """
    with openings(Guard.of([os.path.abspath(name) for name in guarded]).paths) as opened:  # noqa: PTH100
        yield
    known = {report["address"] for report in reported(path)} if opened else set()
    for address in sorted(opened - known):
        report = {"event": "open", "address": address, "where": ELSEWHERE}
        _append(str(path), json.dumps(report).encode() + b"\n")


def reported(path: Path) -> list[dict[str, str]]:
    """Return the distinct reports of a watch, in order; NotFoundError when no watch wrote the file."""
    try:
        lines = files.read_bytes(path).splitlines()
    except FileNotFoundError:
        raise NotFoundError(
            f"there is no file {path}: connections were not watched", hint="run the notebook again"
        ) from None
    reports = []
    for line in dict.fromkeys(lines):
        with contextlib.suppress(ValueError):  # a partial line: its writer was killed
            reports.append(json.loads(line))
    return reports


@dataclass(frozen=True, slots=True, kw_only=True)
class _Watch:
    """The audit hook, which appends its reports to `path`."""

    path: str
    guard: Guard | None = None

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        try:
            describe = _EVENTS.get(event)
            if describe is None:
                if self.guard is not None and event in OPENINGS and not _reporting.get():
                    self._opened(self.guard, OPENINGS[event](*args))
                return
            if _crossing.get():
                return
            token = _crossing.set(True)  # ignore events of the hook itself
            try:
                self._report(event, describe(*args))
            finally:
                _crossing.reset(token)
        except Exception:  # noqa: BLE001, S110  an error here would fail the caller's operation
            pass

    def _report(self, event: str, address: str | None) -> None:
        if address is None:
            return
        place = _Place.of(inspect.currentframe())
        if not place.excuses(event, address):
            self._write(event, address, place)

    def _opened(self, guard: Guard, paths: Iterator[Opening]) -> None:
        for opening in paths:
            if (address := guard.address_of(*opening)) is not None:
                self._write("open", address, _Place.of(inspect.currentframe()))

    def _write(self, event: str, address: str, place: _Place) -> None:
        report = {"event": event, "address": address, "where": place.where}
        token = _reporting.set(True)
        try:
            _append(self.path, json.dumps(report).encode() + b"\n")
        finally:
            _reporting.reset(token)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """The place of a connection in the code, and the modules it went `through`, innermost first.

    `asked` is false when the stack holds no code outside libraries, as on a library's own thread.
    """

    where: str
    through: tuple[str, ...]
    asked: bool = True

    @classmethod
    def of(cls, frame: FrameType | None) -> _Place:
        """Return the nearest frame outside libraries, or the nearest library on its own thread."""
        through: list[str] = []
        library = ""
        while frame is not None:
            file = frame.f_code.co_filename
            name = str(frame.f_globals.get("__name__"))
            if _CELL.search(file):
                return cls(where=_cell(file, frame.f_lineno), through=tuple(through))
            if _PACKAGES.search(file):
                library = library or name.partition(".")[0]
            elif not file.startswith(("<", *_OURS)):
                return cls(where=f"{file}, line {frame.f_lineno}", through=tuple(through))
            through.append(name)
            frame = frame.f_back
        where = f"inside {library or 'the standard library'}{_meanwhile()}"
        return cls(where=where, through=tuple(through), asked=False)

    def excuses(self, event: str, address: str) -> bool:
        """Whether the event is known to be no call around the boundary."""
        through = set(self.through)
        if event in _LOOK_UPS:
            # An event loop resolves names on a pool's thread, whose context has no mark.
            return not self.asked and "concurrent.futures.thread" in through and bool(_open)
        if event == "subprocess.Popen" and through & _ASK_THE_MACHINE:
            return True
        if event == _NEW_SOCKET and through >= _PROBES_IPV6:
            return True
        if event == "os.posix_spawn" and "subprocess" in through:
            return True  # reported as subprocess.Popen
        if any(name.partition(".")[0] in _DEBUGGERS for name in through):
            return True
        # A pool of processes talks to its own children.
        return address.startswith("unix:") and any(name.startswith("multiprocessing.") for name in through)


def _cell(file: str, line: int) -> str:
    """Return a cell's line, with the cell's number in Jupyter when it has one."""
    named = None
    with contextlib.suppress(*_NO_KERNEL):
        named = sys.modules["IPython"].get_ipython().compile.format_code_name(file)
    return f"cell {named[1]}, line {line}" if named else f"a cell of the notebook, line {line}"


def _meanwhile() -> str:
    """Return the cell that the kernel runs, for a report from a library's own thread."""
    with contextlib.suppress(*_NO_KERNEL):
        begun = sys.modules["IPython"].get_ipython().history_manager.input_hist_parsed
        return f", while cell In[{len(begun) - 1}] ran"
    return ""


def _append(path: str, line: bytes) -> None:
    """Append with one write and without the lock of `log.Lines`: an audit hook must not wait.

    The file is opened each time, because a fork or the notebook may close it.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


def _peer(_: Any, address: Any) -> str | None:
    """Return a socket's peer; None for a datagram on a connected socket."""
    if address is None:
        return None
    if isinstance(address, str | bytes):
        return "unix:" + os.fsdecode(address).replace("\0", "@", 1)
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"


def _refused(_: Any, family: int, *__: Any) -> str | None:
    """Return the family of an Internet socket in a confined process, which is refused before it connects.

    The code that asked may catch the error, as `logging.handlers` does; the attempt is reported all the same.
    """
    if family not in {socket.AF_INET, socket.AF_INET6} or _CONFINED not in os.environ:
        return None
    return socket.AddressFamily(family).name


def _name(host: Any, port: Any = None, *_: Any) -> str | None:
    """Return the host name of a look-up; None for an IP address and for this machine."""
    host = os.fsdecode(host or "")
    if host in {"", "localhost", socket.gethostname()}:
        return None
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host if port is None else f"{host}:{os.fsdecode(port) if isinstance(port, bytes) else port}"
    return None


def _program(program: Any, *_: Any) -> str:
    """Return a program's name, without arguments (possibly secret) and folders (`exec` tries many)."""
    if not isinstance(program, str | bytes | os.PathLike):
        return "a program"
    return os.path.basename(os.fsdecode(program))  # noqa: PTH119


def _command(command: Any) -> str:
    """Return a shell command's first word, unless it assigns a value."""
    first = os.fsdecode(command).strip().partition(" ")[0]
    return "a shell command" if "=" in first else first


_NEW_SOCKET: Final = "socket.__new__"
#: The variable of a confined process: the descriptor by which it reaches its gateway.
_CONFINED: Final = "WORKBENCH_GATEWAY_FD"
_LOOK_UPS: Final = frozenset({"socket.getaddrinfo", "socket.gethostbyname"})
_EVENTS: Final[Mapping[str, Callable[..., str | None]]] = {
    _NEW_SOCKET: _refused,
    "socket.connect": _peer,
    "socket.sendto": _peer,
    "socket.sendmsg": _peer,
    **dict.fromkeys(_LOOK_UPS, _name),
    "subprocess.Popen": _program,
    "os.system": _command,
    "os.exec": _program,
    "os.posix_spawn": _program,
}
