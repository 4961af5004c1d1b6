"""A Weaviate server on this machine: found, started on the loopback, waited for, and stopped."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from workbench import _sync, files
from workbench.config import secret
from workbench.errors import ConfigError, NotFoundError, UnavailableError
from workbench.memory.weaviate.connection import Address, Connection

VERSION = "1.39.0"
BINARY = "weaviate-server"
#: Names a binary that is neither on the path nor where Go puts it.
BINARY_VARIABLE = "WORKBENCH_WEAVIATE"
MODULE = f"github.com/weaviate/weaviate/cmd/weaviate-server@v{VERSION}"
_PAUSE_S = 0.2


def cached_binary() -> Path:
    """Where `make weaviate` and CI put the binary they build."""
    return Path.home() / ".cache" / "workbench" / f"weaviate-{VERSION}" / BINARY


def find_binary(environment: Mapping[str, str] = os.environ) -> Path | None:
    """The server's binary: the one named, on the path, in the cache, or where Go puts it; None without."""
    if named := environment.get(BINARY_VARIABLE):
        path = Path(named)
        if not os.access(path, os.X_OK):
            raise ConfigError(f"{BINARY_VARIABLE} names no program", hint=f"unset {BINARY_VARIABLE}")
        return path
    on_path = shutil.which(BINARY, path=environment.get("PATH"))
    places = [Path(on_path)] if on_path else []
    places += [cached_binary(), *_of_go()]
    return next((path for path in places if os.access(path, os.X_OK)), None)


def _of_go() -> list[Path]:
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


class Server:
    """One node on the loopback; `folder` keeps its data and its log, over restarts too.

    Ports that are not given are free ones. `api_key_env` names a variable with the key of its
    administrator `root`: with one, every caller needs a key and a role. A `tied` server ends, where the
    system can see to that, with the thread that started it, however that ends; another one outlives it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        http_port: int | None = None,
        grpc_port: int | None = None,
        api_key_env: str | None = None,
        environment: Mapping[str, str] | None = None,
        tied: bool = True,
    ) -> None:
        self.folder = folder
        self.api_key_env = api_key_env
        self.environment = dict(environment or {})
        self.tied = tied
        free = _free_ports()
        self.http_port = http_port or free.pop()
        self.grpc_port = grpc_port or free.pop()
        self._inner = free[:3]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> Address:
        """Where it answers."""
        return Address(
            url=f"http://127.0.0.1:{self.http_port}", grpc_port=self.grpc_port, api_key_env=self.api_key_env
        )

    @property
    def pid(self) -> int | None:
        """Its process, while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def log(self) -> Path:
        """What it writes."""
        return self.folder / "server.log"

    def start(self, *, wait_s: float = 60.0) -> None:
        """Start it and wait until it has answered a real read; UnavailableError when it does not."""
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
        """End it as an operator would; by force when it does not end in time."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(wait_s)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None

    def kill(self) -> None:
        """End it as a crash would."""
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
        for port in (self.http_port, self.grpc_port):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    raise UnavailableError(
                        f"port {port} of this machine is taken: a Weaviate server cannot start there",
                        hint="end what listens there, or name other ports",
                    ) from None

    def _leash(self) -> list[str]:
        setpriv = shutil.which("setpriv") if self.tied else None
        return [setpriv, "--pdeathsig", "KILL"] if setpriv else []

    def _wait(self, wait_s: float) -> None:
        until = time.monotonic() + wait_s
        while True:
            if self._process is None or self._process.poll() is not None:
                raise UnavailableError(
                    f"the Weaviate server ended while it started; {self.log} says why",
                    hint=f"tail {self.log}",
                )
            try:
                return _sync.run(_answered(self.address))
            except UnavailableError:
                if time.monotonic() > until:
                    raise
                time.sleep(_PAUSE_S)

    def _environment(self) -> dict[str, str]:
        gossip, data, raft = self._inner
        settings = {
            "PERSISTENCE_DATA_PATH": str(self.folder / "data"),
            "DEFAULT_VECTORIZER_MODULE": "none", "ENABLE_MODULES": "",
            "CLUSTER_HOSTNAME": "node1", "CLUSTER_ADVERTISE_ADDR": "127.0.0.1",
            "CLUSTER_BIND_ADDR": "127.0.0.1", "CLUSTER_GOSSIP_BIND_PORT": str(gossip),
            "CLUSTER_DATA_BIND_PORT": str(data), "RAFT_PORT": str(raft),
            "RAFT_INTERNAL_RPC_PORT": str(raft + 1), "RAFT_BOOTSTRAP_EXPECT": "1",
            "GRPC_PORT": str(self.grpc_port), "DISABLE_TELEMETRY": "true", "GO_PROFILING_DISABLE": "true",
            "LIMIT_RESOURCES": "true", "OBJECTS_TTL_DELETE_SCHEDULE": "@every 1m",
            "AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED": "false" if self.api_key_env else "true",
        }  # fmt: skip
        if self.api_key_env:
            settings |= {
                "AUTHENTICATION_APIKEY_ENABLED": "true",
                "AUTHENTICATION_APIKEY_ALLOWED_KEYS": secret(self.api_key_env, needed_by="the server"),
                "AUTHENTICATION_APIKEY_USERS": "root", "AUTHENTICATION_DB_USERS_ENABLED": "true",
                "AUTHORIZATION_RBAC_ENABLED": "true", "AUTHORIZATION_RBAC_ROOT_USERS": "root",
            }  # fmt: skip
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        return kept | settings | self.environment


async def _answered(address: Address) -> None:
    connection = Connection(address, start_s=1.0)
    try:
        await connection.client()
    finally:
        await connection.aclose()


def _free_ports() -> list[int]:
    """Five free ports of the loopback; the one after the third is free too."""
    with contextlib.ExitStack() as held:

        def bound(port: int = 0) -> int:
            probe = held.enter_context(socket.socket())
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])

        others = [bound() for _ in range(4)]
        while True:
            first = bound()
            with contextlib.suppress(OSError, OverflowError):
                bound(first + 1)
                return [others[0], others[1], first, others[2], others[3]]
