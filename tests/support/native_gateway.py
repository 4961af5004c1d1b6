"""A gateway of the native protocol alone, on a Unix socket: the endpoint behind uvicorn, in a thread."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
import time
from pathlib import Path

import uvicorn

from workbench import _sync
from workbench.remote.connection import GatewayConnection
from workbench.remote.endpoint import answer
from workbench.remote.handler import RemoteHandler
from workbench.remote.protocol import CALLS
from workbench.remote.serving import Serving


@contextlib.contextmanager
def listening(app, **where):
    """The address of an ASGI application, which listens until the end of the block.

    Without `where`, which is what uvicorn takes, it is a Unix socket.
    """
    folder = Path(tempfile.mkdtemp(prefix="wb-"))
    path = folder / "s"
    where = where or {"uds": str(path)}
    config = uvicorn.Config(
        app, **where, loop="asyncio", http="httptools", lifespan="off", log_level="critical"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.002)
    try:
        scheme = "https" if "ssl_certfile" in where else "http"
        yield f"unix:{path}" if "uds" in where else f"{scheme}://localhost:{where['port']}"
    finally:
        server.should_exit = server.force_exit = True
        thread.join()
        shutil.rmtree(folder)


@contextlib.contextmanager
def gateway(resolver_of, serving=None, **where):
    """The address of the native endpoint; `resolver_of` says what a call may ask."""
    serving = serving or Serving()

    async def app(scope, receive, send):
        assert scope["path"] == CALLS
        await answer(receive, send, serving=serving, resolver_of=resolver_of)

    with listening(app, **where) as address:
        yield address


@contextlib.contextmanager
def remote_handler(address, **options):
    """The handler of a client, whose connections are closed after the block."""
    connection = GatewayConnection(address)
    try:
        yield RemoteHandler(connection, **options)
    finally:
        _sync.run(connection.aclose())


class ElsewhereBoundary:
    """A boundary whose handler is in another process; it reads cards and stores as the local one does."""

    def __init__(self, local, handler):
        self._local, self.handler = local, handler

    def __getattr__(self, name):
        return getattr(self._local, name)
