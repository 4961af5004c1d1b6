"""Find, start and stop a Weaviate server on this machine."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from workbench import _sync, files, processes
from workbench.config import DEFAULT_MEMORY_URL, MemoryServer, secret
from workbench.errors import ConfigError, CorruptError, NotFoundError, UnavailableError
from workbench.layout import WEAVIATE_SERVER
from workbench.memory.weaviate.connection import Address, Connection

VERSION = "1.39.0"
BINARY = "weaviate-server"
#: The variable that names a binary which is neither on the PATH nor where Go puts it.
BINARY_VARIABLE = "WORKBENCH_WEAVIATE"
#: The variable that holds the key of the server's administrator, here and in pipelines/deploy.
KEY_VARIABLE = "WEAVIATE_ROOT_KEY"
KEY_FILE = WEAVIATE_SERVER / "key"
MODULE = f"github.com/weaviate/weaviate/cmd/weaviate-server@v{VERSION}"
_PAUSE_S = 0.2


def cached_binary() -> Path:
    """Return the path at which `make weaviate` and CI keep the binary they build."""
    return Path.home() / ".cache" / "workbench" / f"weaviate-{VERSION}" / BINARY


def find_binary(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Return the server's binary: named, on the PATH, in the cache or where Go puts it; None when missing."""
    if named := environment.get(BINARY_VARIABLE):
        path = Path(named)
        if not os.access(path, os.X_OK):
            raise ConfigError(
                f"{BINARY_VARIABLE} is {named!r}, which is not a program", hint=f"unset {BINARY_VARIABLE}"
            )
        return path
    on_path = shutil.which(BINARY, path=environment.get("PATH"))
    candidates = [Path(on_path)] if on_path else []
    candidates += [cached_binary(), *_go_binaries()]
    return next((path for path in candidates if os.access(path, os.X_OK)), None)


def root_key(root: Path) -> str:
    """Return the administrator's key of the repository's own server; the first call makes it."""
    path = root / KEY_FILE
    text = files.write_once(path, f"{secrets.token_hex(32)}\n".encode())
    if not re.fullmatch(rb"[0-9a-f]{64}\n", text):
        raise CorruptError(
            f"{KEY_FILE} does not hold a key of 64 hexadecimal digits",
            hint=f"rm {KEY_FILE}, then make weaviate STOP=1 and make weaviate",
        )
    return text.decode().strip()


def default_server(root: Path) -> MemoryServer:
    """Return the server at the default address, with its key's variable when `make weaviate` made a key."""
    variable = KEY_VARIABLE if (root / KEY_FILE).is_file() else None
    return MemoryServer(url=DEFAULT_MEMORY_URL, api_key_env=variable)


def _go_binaries() -> list[Path]:
    if (go := shutil.which("go")) is None:
        return []
    try:
        said = subprocess.run(  # noqa: S603 - the Go that was found, with fixed words
            [go, "env", "GOBIN", "GOPATH"], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    gobin, gopath = [*said.stdout.splitlines(), "", ""][:2]
    return [Path(folder) / BINARY for folder in (gobin, f"{gopath}/bin" if gopath else "") if folder]


class LocalServer:
    """One node on this machine. `folder` keeps its data and its log, over restarts too.

    `ports` are those of HTTP, gRPC and the cluster's data; without them free ones. `api_key_env` names the
    variable with the key of the administrator `root`, and `key` is that key where the variable is not set:
    such a server refuses every caller without a key. A server without one is open on every interface,
    because gRPC listens there: it is for tests. A `tied` server ends with the thread that started it, where
    the system supports that.
    """

    def __init__(
        self,
        folder: Path,
        *,
        ports: tuple[int, int, int] | None = None,
        api_key_env: str | None = None,
        key: str | None = None,
        environment: Mapping[str, str] | None = None,
        tied: bool = True,
    ) -> None:
        self.folder = folder
        self.api_key_env = api_key_env
        self.environment = dict(environment or {})
        self.tied = tied
        free = _free_ports()
        self.http_port, self.grpc_port, self.data_port = ports or free[:3]
        self.gossip_port, self.raft_port = free[3:]
        self._key = key
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> Address:
        """Return the address at which it answers."""
        return Address(
            url=f"http://127.0.0.1:{self.http_port}", grpc_port=self.grpc_port, api_key_env=self.api_key_env
        )

    @property
    def pid(self) -> int | None:
        """Return the id of its process while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def log(self) -> Path:
        """Return the path of its log."""
        return self.folder / "server.log"

    def start(self, *, wait_s: float = 60.0) -> None:
        """Start it and wait until it answers a real read; UnavailableError when it does not."""
        binary = find_binary()
        if binary is None:
            raise NotFoundError(f"there is no {BINARY} on this machine", hint="make weaviate   # needs Go")
        self._check_ports()  # another server there would be taken for this one
        files.make_folder(self.folder)
        arguments = ["--host", "127.0.0.1", "--port", str(self.http_port), "--scheme", "http"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the binary that was found
                [*self._leash(), str(binary), *arguments],
                env=self._environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        try:
            self._wait(wait_s)
        except BaseException:
            self.kill()
            raise

    def stop(self, *, wait_s: float = 20.0) -> None:
        """End it by SIGTERM, and by SIGKILL when it does not end in time."""
        if self._process is not None:
            processes.stop(self._process, grace_s=wait_s)
            self._process = None

    def kill(self) -> None:
        """End it by SIGKILL, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _check_ports(self) -> None:
        for port in (self.http_port, self.grpc_port, self.data_port):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    raise UnavailableError(
                        f"port {port} is taken: a Weaviate server cannot listen there",
                        hint=f"lsof -i :{port}   # shows the process; end it, or name other ports",
                    ) from None

    def _check_listening(self) -> None:
        """UnavailableError while a port is closed, which a client finds out in a hundred times the time."""
        for port in (self.http_port, self.grpc_port):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
            except OSError:
                raise UnavailableError(f"port {port} is still closed", hint=f"tail {self.log}") from None

    def _leash(self) -> list[str]:
        setpriv = shutil.which("setpriv") if self.tied else None
        return [setpriv, "--pdeathsig", "KILL"] if setpriv else []

    def _wait(self, wait_s: float) -> None:
        until = time.monotonic() + wait_s
        while True:
            if self._process is None or self._process.poll() is not None:
                raise UnavailableError(
                    f"the Weaviate server ended while it started; the reason is in {self.log}",
                    hint=f"tail {self.log}",
                )
            try:
                self._check_listening()
                return _sync.run(self._read())
            except UnavailableError:
                if time.monotonic() > until:
                    raise
                time.sleep(_PAUSE_S)

    async def _read(self) -> None:
        connection = Connection(self.address, start_s=1.0, key=self._key)
        try:
            await connection.client()
        finally:
            await connection.aclose()

    def _environment(self) -> dict[str, str]:
        settings = {
            "PERSISTENCE_DATA_PATH": str(self.folder / "data"),
            "DEFAULT_VECTORIZER_MODULE": "none", "ENABLE_MODULES": "",
            "CLUSTER_HOSTNAME": "node1", "CLUSTER_ADVERTISE_ADDR": "127.0.0.1",
            "CLUSTER_BIND_ADDR": "127.0.0.1", "CLUSTER_GOSSIP_BIND_PORT": str(self.gossip_port),
            "CLUSTER_DATA_BIND_PORT": str(self.data_port), "RAFT_PORT": str(self.raft_port),
            "RAFT_INTERNAL_RPC_PORT": str(self.raft_port + 1), "RAFT_BOOTSTRAP_EXPECT": "1",
            # The default, five, allows for the delays of a network, and lets one node wait six seconds.
            "RAFT_TIMEOUTS_MULTIPLIER": "1",
            "GRPC_PORT": str(self.grpc_port), "DISABLE_TELEMETRY": "true", "GO_PROFILING_DISABLE": "true",
            "LIMIT_RESOURCES": "true", "OBJECTS_TTL_DELETE_SCHEDULE": "@every 1m",
            # The data port listens on every interface, and serves rows to whoever has these.
            "CLUSTER_BASIC_AUTH_USERNAME": "cluster", "CLUSTER_BASIC_AUTH_PASSWORD": secrets.token_hex(32),
            "AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED": "false" if self.api_key_env else "true",
        }  # fmt: skip
        if self.api_key_env:
            settings |= {
                "AUTHENTICATION_APIKEY_ENABLED": "true",
                "AUTHENTICATION_APIKEY_ALLOWED_KEYS": self._key
                or secret(self.api_key_env, needed_by="the server"),
                "AUTHENTICATION_APIKEY_USERS": "root", "AUTHENTICATION_DB_USERS_ENABLED": "true",
                "AUTHORIZATION_RBAC_ENABLED": "true", "AUTHORIZATION_RBAC_ROOT_USERS": "root",
            }  # fmt: skip
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        return kept | settings | self.environment


def _free_ports() -> list[int]:
    """Return five free ports of the loopback; the port after the last is free too.

    They lie below 32768, where systems take the port of an outgoing connection: another process would take
    such a port while this server is stopped.
    """
    found: list[int] = []
    with contextlib.ExitStack() as held:
        while len(found) < 6:
            first = secrets.randbelow(12_000) + 20_000
            wanted = [first, first + 1] if len(found) == 4 else [first]
            with contextlib.suppress(OSError):
                for port in wanted:
                    held.enter_context(socket.socket()).bind(("127.0.0.1", port))
                found += wanted
    return found[:5]
