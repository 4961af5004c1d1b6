"""One worker of the gateway: serve a listening socket until it is told to stop, then end the answers."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Collection
from email.utils import formatdate
from pathlib import Path
from typing import Any, Final

from uvicorn.server import ServerState

from workbench import _sync
from workbench.config import GatewaySettings, Mode
from workbench.errors import ConfigError
from workbench.gateway.access_log import AccessLog
from workbench.gateway.app import make_app
from workbench.gateway.connections import BoundedProtocol, uvicorn_config
from workbench.gateway.gateway import Gateway
from workbench.gateway.metrics import GatewayMetrics
from workbench.gateway.provider_secrets import hold_stored_keys, is_held
from workbench.identities.owner_token import make_owner_token
from workbench.workspace.interrupted import recover_interrupted

_BACKLOG: Final = 2_048
#: Seconds for what is left of cancelled calls, which write their records.
_LAST_S: Final = 5.0
_log = logging.getLogger("workbench.gateway")


class GatewayServer:
    """Serves one listening socket on the running loop."""

    def __init__(
        self,
        gateway: Gateway,
        listener: socket.socket,
        settings: GatewaySettings,
        *,
        log: AccessLog | None = None,
    ) -> None:
        self.gateway, self._log = gateway, log
        self._listener, self._limits = listener, settings.limits
        self._state = ServerState()
        metrics = GatewayMetrics(lambda: len(self._state.connections))
        self._config = uvicorn_config(
            make_app(gateway, metrics=metrics, log=self._log),
            settings.limits,
            **_tls(gateway.root, settings, listener),
        )
        self._server: asyncio.Server | None = None
        self._ticking: asyncio.Task[None] | None = None
        self._used = time.monotonic()

    @property
    def idle_s(self) -> float:
        """The seconds since the last connection was seen open, or a process whose keys are held."""
        if self._state.connections or is_held():
            self._used = time.monotonic()
        return time.monotonic() - self._used

    async def start(self) -> None:
        """Begin to accept connections."""
        loop = asyncio.get_running_loop()
        self._ticking = loop.create_task(self._tick())
        self._server = await loop.create_server(
            lambda: BoundedProtocol(self._config, self._state, limits=self._limits, _loop=loop),
            sock=self._listener, ssl=self._config.ssl, backlog=_BACKLOG,
            ssl_handshake_timeout=self._limits.head_s if self._config.ssl else None,
        )  # fmt: skip

    async def stop(self) -> None:
        """Stop accepting, let answers under way end within `drain_s`, cancel the others, and close."""
        if self._server is not None:
            self._server.close()
        for connection in tuple(self._state.connections):
            connection.shutdown()
        await _emptied(self._state.connections, self._limits.drain_s)
        for task in tuple(self._state.tasks):
            task.cancel("the gateway stops")
        await _emptied(self._state.tasks, _LAST_S)
        if self._ticking is not None:
            self._ticking.cancel()
        if self._log is not None:
            self._log.flush()
        await self.gateway.aclose()

    async def _tick(self) -> None:
        while True:
            self._state.default_headers = [(b"date", formatdate(time.time(), usegmt=True).encode())]
            await asyncio.sleep(1)


async def _emptied(left: Collection[object], seconds: float) -> None:
    """Wait until nothing is left of what uvicorn keeps in a set, or for some seconds."""
    end = time.monotonic() + seconds
    while left and time.monotonic() < end:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.02)


def serve(
    root: Path,
    listener: socket.socket,
    settings: GatewaySettings,
    *,
    mode: Mode = "auto",
    log: AccessLog | None = None,
    ready: Callable[[], object] = lambda: None,
    idle_s: float | None = None,
) -> None:
    """Serve a listening socket until SIGTERM or SIGINT; with `idle_s`, until no connection was open so long.

    `mode` chooses what answers, as that of `wb.connect`. With `log`, each request leaves a line there. The
    function `ready` is called when connections are accepted. A second signal ends the process at once.
    """
    stopping = threading.Event()

    def stop(*_: object) -> None:
        if stopping.is_set():
            os._exit(130)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    log_to_stderr()
    _use_uvloop()
    _allow_open_files()
    make_owner_token(root)
    hold_stored_keys(root)
    recover_interrupted(root)
    server = GatewayServer(Gateway(root, mode=mode), listener, settings, log=log)
    _sync.run(server.start())
    _collect_rarely()
    ready()
    while not stopping.wait(None if idle_s is None else 1.0):
        if idle_s is not None and server.idle_s >= idle_s:
            break
    _sync.run(server.stop())


def log_to_stderr() -> None:
    """Write the log of the gateway to the standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    ours = logging.getLogger("workbench.gateway")
    if not ours.handlers:
        ours.addHandler(handler)
        ours.setLevel(logging.INFO)
        ours.propagate = False
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)  # it logs requests as they are


def _allow_open_files() -> None:
    """Let this process have as many open files as the system permits: each connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS states more than it permits
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _collect_rarely() -> None:
    """Look for cyclic garbage after 20,000 new objects, and never among those that are there now."""
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


def _use_uvloop() -> None:
    """Make the loops of this process those of uvloop, where it is installed."""
    with contextlib.suppress(ImportError):
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())


def _tls(root: Path, settings: GatewaySettings, listener: socket.socket) -> dict[str, Any]:
    """Return uvicorn's options of TLS; raise ConfigError for files that are missing or do not fit."""
    if settings.tls is None or listener.family == socket.AF_UNIX:
        return {}
    import ssl

    certificate, key = root / settings.tls.certificate, root / settings.tls.key
    for path in (certificate, key):
        if not path.is_file():
            raise ConfigError(f"gateway.tls: there is no file {path}", hint="docs/gateway.md makes one")
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key)
    except ssl.SSLError as error:
        raise ConfigError(
            f"gateway.tls: {certificate.name} and {key.name} are no certificate with its key: {error.reason}",
            hint="both are PEM files, the key without a password",
        ) from None
    return {"ssl_certfile": str(certificate), "ssl_keyfile": str(key)}
