"""Serve one connected socket on the running loop: the gateway of a run, which no one else reaches."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from uvicorn.server import ServerState

from workbench.config import GatewayLimits
from workbench.gateway.connections import BoundedProtocol, uvicorn_config
from workbench.gateway.exchange import Receive, Scope, Send

#: Of a connection that only our own client has: it may be silent for as long as it likes.
_LIMITS = GatewayLimits(head_s=86_400, body_s=600, write_s=86_400, idle_s=86_400, drain_s=1)


App = Callable[[Scope, Receive, Send], Awaitable[None]]


async def serve_connection(connection: socket.socket, app: App) -> None:
    """Serve a connected socket with an ASGI app until it is closed; cancelled, end its calls and close it."""
    loop, state = asyncio.get_running_loop(), ServerState()
    config = uvicorn_config(app, _LIMITS)
    closed = asyncio.Event()

    def protocol() -> BoundedProtocol:
        made = BoundedProtocol(config, state, limits=_LIMITS, _loop=loop)
        made.on_lost = closed.set
        return made

    transport: Any = (await loop.connect_accepted_socket(protocol, connection))[0]
    try:
        await closed.wait()
    finally:
        transport.abort()
        for task in (tasks := [*state.tasks]):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
