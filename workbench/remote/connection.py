"""Connections to a gateway: over TCP with or without TLS, over a Unix socket, or by a descriptor."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from workbench.errors import ConfigError, UnavailableError, WorkbenchError
from workbench.remote.descriptors import ask_for_socket
from workbench.remote.failures import error_of
from workbench.remote.http import BrokenConnectionError, HttpClient, HttpExchange
from workbench.remote.protocol import HEADER, VERSION

_ADDRESSES: Final = "http://HOST:PORT, https://HOST:PORT, unix:/PATH or fd:NUMBER"
#: Most bytes of a whole answer, and of the body of an error.
_MOST_ANSWER: Final = 64 * 2**20
_MOST_ERROR: Final = 2**20
_HEADER: Final = HEADER.lower().encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayAnswer:
    """The whole answer to a request: its status, media type and body."""

    status: int
    kind: str
    body: bytes = field(repr=False)


class GatewayConnection:
    """One gateway at an address: `https://HOST:PORT`, `http://…`, `unix:/PATH`, or `fd:NUMBER`.

    The descriptor is a Unix socket on which `descriptors.hand_over` gives connected sockets.
    `authorization` is the value of the header of that name, `tls` the context of `https`. Connections are
    kept for one event loop, and made anew on another one.
    """

    def __init__(self, address: str, *, authorization: str = "", tls: ssl.SSLContext | None = None) -> None:
        kind, _, rest = address.partition(":")
        if kind not in {"http", "https", "unix", "fd"} or not rest or (kind == "fd" and not rest.isdigit()):
            raise ConfigError(f"{address[:100]!r} is no address of a gateway", hint=_ADDRESSES)
        self.address = address
        self._kind, self._rest, self._tls = kind, rest, tls
        host = "gateway"
        if kind in {"http", "https"}:
            self._host, self._port, host = _host_and_port(address)
        if any(sign in authorization for sign in "\r\n\0") or not authorization.isascii():
            raise ConfigError("the authorization of a gateway is no line of ASCII", hint="pass the key alone")
        allowed = f"authorization: {authorization}\r\n" if authorization else ""
        self._head = f"host: {host}\r\n{HEADER}: {VERSION}\r\n{allowed}".encode()
        self._client: HttpClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return f"GatewayConnection({self.address!r})"

    @contextlib.asynccontextmanager
    async def opened(
        self, method: str, path: str, body: bytes = b"", *, kind: str = "application/json"
    ) -> AsyncIterator[HttpExchange]:
        """Send a request and give its answer; the connection is closed unless the answer is read to its end.

        Raise UnavailableError when the gateway is away or breaks off, ConfigError for one of another version
        of the protocol, and the error that it states in place of an answer.
        """
        try:
            async with self._current().opened(method, path, body, kind if body else "") as exchange:
                self._check_version(exchange)
                if exchange.status >= 400:
                    raise _stated_error(exchange.status, await _bounded(exchange, _MOST_ERROR))
                yield exchange
        except (BrokenConnectionError, OSError) as error:  # a TimeoutError is an OSError
            raise self._away(error) from error

    async def request(self, method: str, path: str, body: bytes = b"") -> GatewayAnswer:
        """Return the answer to a request; raise UnavailableError for one above 64 MiB, and as `opened`."""
        async with self.opened(method, path, body) as exchange:
            found = await _bounded(exchange, _MOST_ANSWER)
            return GatewayAnswer(status=exchange.status, kind=media_type(exchange), body=found)

    async def aclose(self) -> None:
        """Close the connections that no call uses; a later request makes new ones."""
        client, self._client = self._client, None
        if client is not None and self._loop is asyncio.get_running_loop():
            client.close()
            await asyncio.sleep(0)  # the loop closes the sockets in its next turn

    def _current(self) -> HttpClient:
        """Return the client of the running loop."""
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            self._client, self._loop = HttpClient(self._connect, self._head), loop
        return self._client

    async def _connect(self, protocol: Callable[[], asyncio.Protocol]) -> tuple[Any, Any]:
        loop = asyncio.get_running_loop()
        if self._kind == "unix":
            return await loop.create_unix_connection(protocol, self._rest)
        if self._kind == "fd":
            connected = await asyncio.to_thread(ask_for_socket, int(self._rest))
            return await loop.create_unix_connection(protocol, sock=connected)
        if self._kind == "https" and self._tls is None:
            self._tls = ssl.create_default_context()
        return await loop.create_connection(protocol, self._host, self._port, ssl=self._tls)

    def _check_version(self, exchange: HttpExchange) -> None:
        found = exchange.headers.get(_HEADER, b"").decode("latin-1")
        if found == VERSION:
            return
        if not found:
            raise UnavailableError(
                f"{self.address} answered with status {exchange.status}, and is no gateway of the workbench",
                hint="workbench gateway status   # shows its address",
            )
        raise ConfigError(
            f"the gateway at {self.address} speaks the protocol {found[:20]!r}, and this process {VERSION!r}",
            hint="workbench gateway stop   # the next call starts the gateway of this version",
        )

    def _away(self, error: Exception) -> UnavailableError:
        told = str(error) if isinstance(error, BrokenConnectionError) else type(error).__name__
        return UnavailableError(
            f"the gateway at {self.address} is not reachable or broke off: {told}",
            hint="run it again: the next call starts the gateway; or workbench gateway status",
        )


def media_type(exchange: HttpExchange) -> str:
    """Return the media type of an answer, without its parameters."""
    return exchange.headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()


def _host_and_port(address: str) -> tuple[str, int, str]:
    """Return host, port and the header of an address; raise ConfigError for one with a key or a path."""
    try:
        url = urlsplit(address)
        port = url.port or (443 if url.scheme == "https" else 80)
    except ValueError:
        url, port = urlsplit(""), 0
    if (
        not url.hostname
        or url.username
        or url.query
        or url.path.strip("/")
        or not (address.isascii() and address.isprintable())
    ):
        raise ConfigError(
            "the address of a gateway is a host and a port, without a key or a path", hint=_ADDRESSES
        )
    return url.hostname, port, url.netloc


async def _bounded(exchange: HttpExchange, most: int) -> bytes:
    found = bytearray()
    async for piece in exchange.pieces():
        found += piece
        if len(found) > most:
            raise UnavailableError(f"the gateway's answer has more than {most:,} bytes", hint="ask for less")
    return bytes(found)


def _stated_error(status: int, body: bytes) -> WorkbenchError:
    """Return the error that a gateway states in place of an answer."""
    try:
        stated = orjson.loads(body)
    except ValueError:
        stated = None
    if isinstance(stated, dict) and isinstance(stated.get("error"), dict):
        return error_of(stated["error"])
    return UnavailableError(f"the gateway answered with status {status}", hint="workbench gateway status")
