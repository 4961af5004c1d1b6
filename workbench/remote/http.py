"""A small HTTP/1.1 client for one server: connections that are kept, and answers read piece by piece.

A general client takes four times as long for a call, which here is most of what a gateway costs.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from workbench.records import egress

if TYPE_CHECKING:
    import httptools

#: Seconds after which an unused connection is closed: less than the server's own time for it.
_KEEPALIVE_S: Final = 4.0
_CONNECT_S: Final = 10.0
#: Bytes of an answer that a connection reads ahead of its reader.
_AHEAD: Final = 2**16
#: Most bytes of the head of an answer, and unused connections that are kept.
_MOST_HEAD: Final = 2**16
_MOST_IDLE: Final = 64

Open = Callable[[Callable[[], asyncio.Protocol]], Awaitable[tuple[Any, Any]]]


class BrokenConnectionError(Exception):
    """The connection broke off, or what came is no answer in HTTP/1.1; its text says which."""


class HttpClient:
    """Sends requests to one server, each over a free connection, on one event loop.

    `connect` opens a connection for a protocol, as `loop.create_connection` does, within `connect_s` seconds.
    `head` begins every request's head, after its first line.
    """

    def __init__(self, connect: Open, head: bytes) -> None:
        self._connect, self._head = connect, head
        self.connect_s = _CONNECT_S
        self._idle: deque[HttpExchange] = deque()

    @contextlib.asynccontextmanager
    async def opened(
        self, method: str, path: str, body: bytes = b"", kind: str = ""
    ) -> AsyncIterator[HttpExchange]:
        """Send a request and give its answer, whose head has come.

        The connection is closed after the block unless the answer was read to its end. Raise
        BrokenConnectionError, OSError when there is no connection, and TimeoutError when none is in time.
        """
        exchange = self._free() or await self._connected()
        try:
            typed = b"content-type: %b\r\n" % kind.encode() if kind else b""
            size = b"content-length: %d\r\n\r\n" % len(body)
            line = f"{method} {path} HTTP/1.1\r\n".encode()
            await exchange.send(b"".join((line, self._head, typed, size, body)))
            yield exchange
        finally:
            if exchange.is_reusable and len(self._idle) < _MOST_IDLE:
                exchange.idle_since = time.monotonic()
                self._idle.append(exchange)
            else:
                exchange.abort()

    def close(self) -> None:
        """Close the connections that nobody uses."""
        while self._idle:
            self._idle.pop().abort()

    def _free(self) -> HttpExchange | None:
        """Return the connection that was used last, if the server can still have it open."""
        oldest = time.monotonic() - _KEEPALIVE_S
        while self._idle and self._idle[0].idle_since < oldest:
            self._idle.popleft().abort()
        while self._idle:
            exchange = self._idle.pop()
            if exchange.is_reusable and not exchange.is_closed:
                return exchange
            exchange.abort()
        return None

    async def _connected(self) -> HttpExchange:
        with egress.crossing():  # the connection is the boundary's own
            async with asyncio.timeout(self.connect_s):
                exchange: HttpExchange = (await self._connect(HttpExchange))[1]
                return exchange


class HttpExchange(asyncio.Protocol):
    """One connection, and the answer to its present request."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.idle_since = 0.0
        self._transport: asyncio.Transport
        self._parser: httptools.HttpResponseParser | None = None
        self._pieces: deque[bytes] = deque()
        self._size = self._head_size = 0
        self._has_head = self._is_complete = self._is_paused = False
        self._is_reusable = True
        self._broken = ""
        self._waiter: asyncio.Future[None] | None = None

    @property
    def is_reusable(self) -> bool:
        """Whether another request may follow: the answer is complete and all of it was read."""
        return self._is_reusable and not self._broken and not self._pieces and self._is_complete

    @property
    def is_closed(self) -> bool:
        """Whether the server has closed the unused connection, though this loop has not seen it yet."""
        found = self._transport.get_extra_info("socket")
        if found is None or self._transport.get_extra_info("ssl_object") is not None:
            return False
        if (descriptor := found.fileno()) < 0:
            return True
        looking = select.poll()
        looking.register(descriptor, select.POLLIN)
        return bool(looking.poll(0))

    async def send(self, request: bytes) -> None:
        """Send a request and wait for the head of its answer."""
        import httptools

        self.status, self.headers = 0, {}
        self._has_head = self._is_complete = False
        self._head_size = 0
        self._parser = httptools.HttpResponseParser(self)
        self._transport.write(request)
        while not self._has_head:
            await self._more()

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Yield the body's pieces as they come; raise BrokenConnectionError before its end."""
        while True:
            while self._pieces:
                piece = self._pieces.popleft()
                self._size -= len(piece)
                if self._is_paused and self._size < _AHEAD:
                    self._is_paused = False
                    self._transport.resume_reading()
                yield piece
            if self._is_complete:
                return
            await self._more()

    def abort(self) -> None:
        """Close the connection at once."""
        self._broken = self._broken or "it was closed here"
        self._transport.abort()

    async def _more(self) -> None:
        """Wait until something comes; raise BrokenConnectionError if nothing can come."""
        if self._broken:
            raise BrokenConnectionError(self._broken)
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _break(self, why: str) -> None:
        self._broken = self._broken or why
        self._transport.abort()
        self._wake()

    # -- what the loop calls ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport  # type: ignore[assignment]

    def connection_lost(self, error: Exception | None) -> None:
        """Wake the reader: nothing more comes."""
        self._broken = self._broken or (type(error).__name__ if error else "it was closed by the server")
        self._wake()

    def data_received(self, data: bytes) -> None:
        """Read what came."""
        import httptools

        if self._parser is None or self._is_complete:
            self._break("the server sent something that was not asked for")
            return
        if not self._has_head:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._break(f"the answer is no HTTP/1.1: {error}"[:200])
            return
        if not self._has_head and self._head_size > _MOST_HEAD:
            self._break("the head of the answer is too long")
        if self._size > _AHEAD and not self._is_paused and not self._is_complete:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    # -- what the parser calls ----------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Note an answer that nobody asked for."""
        if self._is_complete:
            self._is_reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; a second one of a name replaces the first."""
        self.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Note that the head has come."""
        if not self._is_complete and self._parser is not None:
            self.status, self._has_head = self._parser.get_status_code(), True

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body."""
        if not self._is_complete:
            self._pieces.append(body)
            self._size += len(body)

    def on_message_complete(self) -> None:
        """Note the end of the answer."""
        if self._parser is not None and not self._is_complete:
            self._is_complete = True
            self._is_reusable = bool(self._parser.should_keep_alive())
