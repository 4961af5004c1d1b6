"""The connections of the gateway: uvicorn's protocol with bounds on time, size and number."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Any, Final

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from workbench.config import GatewayLimits
from workbench.gateway.exchange import CONNECTION

#: Seconds after which a connection whose other end vanished is given up.
_VANISHED_S: Final = 60
#: Seconds in which a client of a gateway that stops may still send a request, so that none is lost.
_LAST_REQUEST_S: Final = 1.0
#: Seconds in which the rest of a body that was refused is read and dropped: a reset would discard the answer.
_DROP_S: Final = 2.0
#: Most headers of a request.
_MOST_HEADERS: Final = 100
#: No wait that anything begins.
_UNCHANGED: Final = -1.0
_CONTINUE: Final = b"HTTP/1.1 100"
#: SO_LINGER with a timeout of zero: closing sends a reset.
_DISCARD: Final = struct.pack("ii", 1, 0)
_REASONS: Final = {
    400: "Bad Request", 408: "Request Timeout", 431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}  # fmt: skip


def _no_request() -> None:
    """Stand for the block of a connection that answers no request."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection. A client that is slow, silent or too large loses it, and no other client waits.

    A head has a time in which it is complete, a body has one for each piece, and what was sent has one in
    which it is read.
    """

    def __init__(
        self, config: Config, server_state: ServerState, *, limits: GatewayLimits, **others: Any
    ) -> None:
        super().__init__(config, server_state, {}, **others)
        self.access_log = False  # the app writes its own, without query strings
        self._limits = limits
        #: Called when the connection is closed.
        self.on_lost: Callable[[], object] = lambda: None
        self._is_ending = self._is_dropping = self._is_in_head = False
        self._is_lost = False
        self._when_left: Callable[[], object] = _no_request
        self._head_bytes = self._head_count = 0
        self._reading: asyncio.TimerHandle | None = None
        #: The wait that the piece which is read now began last.
        self._next_wait: float | None = _UNCHANGED
        self._is_feeding = False
        self._writing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or refuse one too many."""
        super().connection_made(transport)
        if (sock := transport.get_extra_info("socket")) is not None:
            _watch_other_end(sock)
        if len(self.connections) > self._limits.connections:
            self._refuse(503)
            return
        self._wait_to_read(self._limits.head_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers."""
        self._wait_to_read(None)
        self._wait_to_write(None)
        super().connection_lost(exc)
        self._is_lost = True
        if self.scope is not None:
            # A cycle, which would wait for a search for garbage.
            self.scope.pop(CONNECTION, None)  # type: ignore[typeddict-item]
        self._when_left()
        self.on_lost()

    def watch(self, left: Callable[[], object]) -> None:
        """Call `left` when the client closes the connection, at once when it has."""
        self._when_left = left
        if self._is_lost:
            left()
        elif self.flow is not None:
            self.flow.resume_reading()  # the end of a connection is not read otherwise

    def unwatch(self, left: Callable[[], object]) -> None:
        """Call `left` no longer; the next request may be watched already."""
        if self._when_left is left:
            self._when_left = _no_request

    def data_received(self, data: bytes) -> None:
        """Read what came, unless the connection is being closed."""
        if not self.transport.is_closing() and self.parser is not None and not self._is_dropping:
            self._is_feeding, self._next_wait = True, _UNCHANGED
            try:
                super().data_received(data)
            finally:
                self._is_feeding = False
                if self._next_wait != _UNCHANGED:
                    self._wait_to_read(self._next_wait)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's signature
        """Answer what is no HTTP."""
        self._refuse(400)

    def on_message_begin(self) -> None:
        """Begin to wait for the head of a request."""
        self._head_bytes = self._head_count = 0
        self._is_in_head = True
        self._wait_to_read(self._limits.head_s)
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Count the bytes of the head."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count the bytes of the head, and its headers.

        Those that follow a body are dropped: a proxy checks the head, and they could state another tenant.
        """
        self._head_count += 1
        self._count(len(name) + len(value) + 4)
        if self._is_in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin to wait for the body, if the head was taken."""
        self._is_in_head = False
        if self.transport.is_closing():
            return
        self._wait_to_read(self._limits.body_s)
        self.scope[CONNECTION] = self  # type: ignore[typeddict-unknown-key]
        super().on_headers_complete()
        if self.parser.get_method() != b"HEAD":  # of which no body is written
            self.cycle.transport = _JoinedHead(self.transport, self._end)  # type: ignore[assignment]
        # What follows a request for another protocol is not read: its client would wait for an answer.
        if self._is_ending or self.parser.should_upgrade():
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body, and wait for the next."""
        if self.cycle is None or self.transport.is_closing():
            return
        self._wait_to_read(self._limits.body_s)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Take the end of a request."""
        self._wait_to_read(None)
        if self.cycle is not None and not self.transport.is_closing():
            super().on_message_complete()

    def shutdown(self) -> None:
        """End the connection with its answer under way, else with its next one; soon when none is asked."""
        self._is_ending = True
        if self.cycle is None or self.cycle.response_complete:
            self._wait_to_read(_LAST_REQUEST_S)
        else:
            super().shutdown()

    def pause_writing(self) -> None:
        """Begin to wait until the client reads."""
        super().pause_writing()
        self._wait_to_write(self._limits.write_s)

    def resume_writing(self) -> None:
        """Go on writing."""
        self._wait_to_write(None)
        super().resume_writing()

    def _end(self) -> None:
        """Close the connection after an answer; a client that still sends its body reads the answer first."""
        if not self.cycle.more_body or self.transport.is_closing():
            self.transport.close()
            return
        self._is_dropping = True
        self._wait_to_read(_DROP_S)
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self._limits.head_kib * 1024 or self._head_count > _MOST_HEADERS:
            self._refuse(431)

    def _wait_to_read(self, seconds: float | None) -> None:
        """Wait so long for what the client sends next, None for not at all; a piece under way ends first."""
        if self._is_feeding:  # a small request begins and ends within one piece, which needs no timer
            self._next_wait = seconds
            return
        if self._reading is not None:
            self._reading.cancel()
        self._reading = None if seconds is None else self.loop.call_later(seconds, self._read_too_late)

    def _wait_to_write(self, seconds: float | None) -> None:
        if self._writing is not None:
            self._writing.cancel()
        self._writing = None if seconds is None else self.loop.call_later(seconds, self._reset)

    def _reset(self) -> None:
        """Close the connection, and let the system discard what the client did not read."""
        if (sock := self.transport.get_extra_info("socket")) is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DISCARD)
        self.transport.abort()

    def _read_too_late(self) -> None:
        """Close a connection whose client does not send; a body that waits for its reader is not late."""
        if self.flow is not None and self.flow.read_paused:
            self._wait_to_read(self._limits.body_s)
        elif self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self._reset()
        elif self._is_ending or (self.cycle is not None and self.cycle.response_complete):
            self.transport.close()
        else:
            self._refuse(408)

    def _refuse(self, status: int) -> None:
        """Answer with a status alone, and close the connection."""
        if self.transport.is_closing():
            return
        reason = _REASONS[status]
        body = b'{"error":{"message":"%b","type":"RefusedError","code":%d,"param":null}}' % (
            reason.lower().encode(), status,
        )  # fmt: skip
        self.transport.write(
            b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
            b"connection: close\r\n\r\n%b" % (status, reason.encode(), len(body), body)
        )
        self.transport.close()


class _JoinedHead:
    """The transport of one answer: it sends the head with the first piece of the body, in one system call."""

    __slots__ = ("_end", "_head", "_transport")

    def __init__(self, transport: asyncio.Transport, end: Callable[[], None]) -> None:
        self._transport, self._end = transport, end
        self._head: bytes | None = None

    def write(self, data: bytes) -> None:
        """Keep the head until the next piece; write that and all others."""
        if self._head is None:
            self._head = data
            if data.startswith(_CONTINUE):
                self._transport.write(data)
                self._head = None
        elif self._head:
            self._transport.write(self._head + data)
            self._head = b""
        else:
            self._transport.write(data)

    def close(self) -> None:
        """Close the connection after what was written."""
        if self._head:
            self._transport.write(self._head)
            self._head = b""
        self._end()

    def is_closing(self) -> bool:
        """Return whether the connection is being closed."""
        return self._transport.is_closing()


def uvicorn_config(app: Any, limits: GatewayLimits, **options: Any) -> Config:
    """Return uvicorn's configuration: our own logs, no web sockets, no trust in forwarded headers."""
    config = Config(
        app, http=HttpToolsProtocol, ws="none", lifespan="off", interface="asgi3", log_config=None,
        access_log=False, proxy_headers=False, server_header=False, timeout_keep_alive=round(limits.idle_s),
        timeout_graceful_shutdown=max(1, round(limits.drain_s)), reset_contextvars=True, **options,
    )  # fmt: skip
    config.load()
    return config


def _watch_other_end(sock: socket.socket) -> None:
    """Let the system notice that the other end of a TCP connection vanished."""
    if sock.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    for level, name, value in (
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_NODELAY", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", _VANISHED_S // 2),
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", _VANISHED_S // 6),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", 3),
        (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", _VANISHED_S * 1000),
    ):
        if hasattr(socket, name):  # not on every system
            try:
                sock.setsockopt(level, getattr(socket, name), value)
            except OSError:  # it has closed already
                return
