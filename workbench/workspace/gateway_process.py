"""The gateway of a repository as a process: whoever calls first starts it; it ends when nobody calls."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from workbench import files, locking, processes
from workbench.config import EXECUTION_VARIABLE
from workbench.errors import ConfigError, UnavailableError, WorkbenchError
from workbench.layout import GATEWAY
from workbench.workspace.gateway_place import GatewayPlace

#: The program of the process, and the log of all gateways of a repository.
MODULE: Final = "workbench.gateway.private"
LOG: Final = GATEWAY / "log"
#: The route of a private gateway to which processes of its owner hand over keys of providers.
SECRETS_ROUTE: Final = "/workbench/v1/secrets"
#: Seconds until a new process must listen, and in which a stopped one finishes its calls.
_START_S: Final = 60.0
_STOP_S: Final = 15.0
#: Bytes of the log after which a new one begins, and those that an error shows.
_MOST_LOG: Final = 2**20
_TAIL: Final = 2_000
_LAST_LINES: Final = 2
#: Most bytes of a short answer, and the metric of requests under way.
_MOST_ANSWER: Final = 2**20
_UNDER_WAY: Final = "workbench_gateway_active_requests "
#: Variables that belong to the process that starts the gateway: its run, its notebook, its terminal.
_OWN_VARIABLES: Final = frozenset({EXECUTION_VARIABLE, processes.MARK, "JPY_PARENT_PID", "JPY_SESSION_NAME"})
#: The gateways, by their processes, that have the keys that this process took.
_told: dict[int, Mapping[str, str]] = {}
#: The processes that this one started, which it takes leave of when they have ended.
_started: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningGateway:
    """A gateway that listens: the id of its process, the socket, and since when.

    `own` is whether it has the code of this process.
    """

    pid: int
    socket: Path
    since: dt.datetime
    own: bool

    def __str__(self) -> str:
        code = "" if self.own else ", of other code"
        return f"process {self.pid} since {self.since:%Y-%m-%d %H:%M} UTC at unix:{self.socket}{code}"


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayProcess:
    """Starts, finds and stops the gateway at a place; `secrets` are the provider keys that it gets."""

    place: GatewayPlace
    idle_s: float = 900.0
    module: str = MODULE
    start_s: float = _START_S
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def log(self) -> Path:
        """The file with what the gateway writes."""
        return self.place.root / LOG

    def ensure(self) -> bool:
        """Start the gateway unless it listens; return whether it was started.

        Of several processes one starts it, and the others wait. Raise UnavailableError, with the end of the
        log, when it does not come up, and ConfigError where the repository cannot be written.
        """
        if listener(self.place.socket) is not None:
            return False
        with locking.locked(self.place.lock):
            if listener(self.place.socket) is not None:
                return False
            self._start()
        return True

    def hand_over(self, token: str) -> None:
        """Give the keys to the gateway that listens, unless this process has done that."""
        pid = listener(self.place.socket) if self.secrets else None
        if pid is None or _told.get(pid) == self.secrets:
            return
        request = f"POST {SECRETS_ROUTE} HTTP/1.1\r\nAuthorization: Bearer {token}"
        if _answer(self.place.socket, request, self._keys()).startswith(b"HTTP/1.1 200"):
            _told[pid] = self.secrets

    def _start(self) -> None:
        for left in self.place.folder.glob(f"{self.place.socket.name}.*"):  # of a start that was killed
            left.unlink(missing_ok=True)
        log = self._opened_log()
        heard, told = os.pipe()
        try:
            began = os.fstat(log).st_size
            process = subprocess.Popen(  # noqa: S603 - our own module, by our own interpreter
                [sys.executable, "-m", self.module, self._settings(told)],
                stdin=subprocess.PIPE, stdout=log, stderr=log, pass_fds=[told], cwd=self.place.root,
                env={k: v for k, v in os.environ.items() if k not in {*_OWN_VARIABLES, *self.secrets}},
                start_new_session=True,
            )  # fmt: skip
        finally:
            os.close(told)
            os.close(log)
        _started[:] = [kept for kept in _started if kept.poll() is None] + [process]
        try:
            if process.stdin is not None:
                with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
                    pipe.write(self._keys())
            listens = _is_told(heard, self.start_s)
        except BaseException:
            process.kill()
            raise
        finally:
            os.close(heard)
        if not listens:
            process.kill()
            raise self._failed(process.wait(), began)
        _told[process.pid] = self.secrets

    def _keys(self) -> bytes:
        return json.dumps({"keys": dict(self.secrets), "holder": os.getpid()}).encode()

    def _settings(self, told: int) -> str:
        return json.dumps(
            {
                "root": str(self.place.root), "socket": str(self.place.socket), "lock": str(self.place.lock),
                "code": self.place.code, "idle_s": self.idle_s, "told": told,
            }
        )  # fmt: skip

    def _opened_log(self) -> int:
        try:
            files.make_folder(self.log.parent)
            with contextlib.suppress(FileNotFoundError):
                if self.log.stat().st_size > _MOST_LOG:
                    self.log.replace(self.log.with_suffix(".1"))
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            return os.open(self.log, flags, 0o600)
        except OSError as error:
            raise ConfigError(
                f"the gateway of {self.place.root} cannot write its log {self.log}: {error.strerror}",
                hint="work in a copy on a disk that can be written; or write gateway: off into params.yaml",
            ) from None

    def _failed(self, code: int, began: int) -> UnavailableError:
        """Return the error for a gateway that did not come up, with the end of what it wrote."""
        with self.log.open("rb") as file:
            file.seek(max(began, self.log.stat().st_size - _TAIL))
            said = file.read().decode(errors="replace").strip()
        why = "was not ready in time" if code == -signal.SIGKILL else f"ended with code {code}"
        last = " ".join(line.strip() for line in said.splitlines()[-_LAST_LINES:])
        return UnavailableError(
            f"the gateway of {self.place.root} {why} while it started{': ' + last if last else ''}",
            hint=f"tail {self.log}   # has all of it; workbench doctor",
        )


def under_way(found: RunningGateway) -> int | None:
    """Return the number of requests that a gateway is answering; None when it does not say."""
    lines = _answer(found.socket, "GET /metrics HTTP/1.1", b"").decode(errors="replace").splitlines()
    values = [line.rpartition(" ")[2] for line in lines if line.startswith(_UNDER_WAY)]
    return max(int(float(values[0])) - 1, 0) if values else None  # this one is under way too


def _answer(path: Path, request: str, body: bytes) -> bytes:
    """Return the answer of a gateway to a request, "" when it gives none in two seconds."""
    head = f"{request}\r\nHost: gateway\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    answer = bytearray()
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connected:
        connected.settimeout(2.0)
        connected.connect(str(path))
        connected.sendall(head.encode() + body)
        while len(answer) < _MOST_ANSWER and (piece := connected.recv(2**16)):
            answer += piece
    return bytes(answer)


def running(place: GatewayPlace) -> list[RunningGateway]:
    """Return the gateways of a repository that listen, also those of other code."""
    found = []
    for path in place.others():
        pid = listener(path)
        if pid is not None:
            since = dt.datetime.fromtimestamp(path.lstat().st_ctime, dt.UTC)
            found.append(RunningGateway(pid=pid, socket=path, since=since, own=path == place.socket))
    return found


def stop(place: GatewayPlace, *, grace_s: float = _STOP_S) -> list[RunningGateway]:
    """End every gateway of a repository, and return those that were ended.

    Each finishes its calls within `grace_s` seconds; then it is killed. Raise WorkbenchError for one of
    another container, which has no process here: the signal would reach this process and its group.
    """
    ended = running(place)
    for found in ended:
        if found.pid <= 0:
            raise WorkbenchError(
                f"the gateway at {found.socket} is a process of another container or sandbox",
                hint="run workbench gateway stop there",
            )
    for found in ended:
        with contextlib.suppress(ProcessLookupError):
            os.kill(found.pid, signal.SIGTERM)
    until = time.monotonic() + grace_s
    for found in ended:
        while (alive := listener(found.socket) == found.pid or _is_alive(found.pid)) and (
            time.monotonic() < until
        ):
            time.sleep(0.02)
        if alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(found.pid, signal.SIGKILL)
    for path in place.others():
        if listener(path) is None:
            path.unlink(missing_ok=True)
    return ended


def listener(path: Path) -> int | None:
    """Return the id of the process that listens on a socket, or None when none does.

    Raise WorkbenchError when it is the process of another user.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2.0)
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError, ConnectionResetError):
            return None
        except OSError as error:
            raise WorkbenchError(
                f"the socket of the gateway, {path}, does not answer: {error}",
                hint="workbench gateway stop   # the next call starts it again",
            ) from None
        return _peer(probe, path)


def _peer(connected: socket.socket, path: Path) -> int:
    """Return the process at the other end of a socket; raise WorkbenchError for one of another user."""
    if sys.platform == "linux":
        pid, user, _ = struct.unpack("3i", connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    else:  # of macOS: SOL_LOCAL and LOCAL_PEERPID
        pid, user = connected.getsockopt(0, 0x002), path.lstat().st_uid
    if user != os.geteuid():
        raise WorkbenchError(
            f"the socket {path} is served by the user {user}, and not by you",
            hint=f"remove {path.parent}; or export XDG_RUNTIME_DIR=FOLDER   # one that only you may enter",
        )
    return int(pid)


def _is_told(heard: int, wait_s: float) -> bool:
    """Return whether the process at the other end of a pipe says within `wait_s` seconds that it listens."""
    poll = select.poll()  # select() takes no descriptor above 1,023
    poll.register(heard, select.POLLIN)
    return bool(poll.poll(wait_s * 1000)) and os.read(heard, 1) == b"+"


def _is_alive(pid: int) -> bool:
    for process in _started:
        if process.pid == pid:
            return process.poll() is None
    import psutil

    return bool(psutil.pid_exists(pid))
