"""One request to the gateway and its answer: the checked head, the bounded body, and a client that leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol
from urllib.parse import unquote

from workbench._sync import ABANDONED
from workbench.errors import ConfigError, RefusedError
from workbench.identities.owner_token import PREFIX as OWNER

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

#: Seconds after which it is watched, with a task, whether the client of another server leaves.
_LOOK_S: Final = 0.005
#: What API keys begin with.
KEY: Final = "wbk_"
#: Headers of which a second one would let two readers see two requests.
_ONCE: Final = frozenset(
    {
        b"authorization", b"content-length", b"content-type", b"host", b"transfer-encoding",
        b"workbench-protocol", b"workbench-purpose", b"workbench-session", b"workbench-subject",
        b"workbench-tenant", b"workbench-use-case", b"x-stainless-timeout",
    }
)  # fmt: skip
#: Names of query parameters that hold a secret with other servers.
_SECRETS: Final = frozenset(
    {"access_token", "api-key", "api_key", "apikey", "authorization", "key", "secret", "token"}
)
_TRICKS: Final = (b"//", b"/./", b"/../", b"\\", b"%2f", b"%5c", b"%00", b"%2e", b";")
#: Most characters of a header that states a use case, a tenant, a purpose, a session or a person.
_MOST_STATED: Final = 1_000
_JSON: Final = ((b"content-type", b"application/json"),)
#: The key of an ASGI scope under which our server states the connection.
CONNECTION: Final = "workbench.connection"


class WatchedConnection(Protocol):
    """A connection that tells the block of its request when its client closes it."""

    def watch(self, left: Callable[[], object]) -> None:
        """Call `left` when the client closes the connection, at once when it has."""

    def unwatch(self, left: Callable[[], object]) -> None:
        """Call `left` no longer."""


class GatewayExchange:
    """One request, read once, and its answer. `left` is whether the client closed the connection meanwhile.

    `route` is the template of the path and `key` the id of the API key, for metrics and the access log.
    """

    __slots__ = (
        "_body_read", "_finished", "_is_trusted", "_receive", "_send", "headers", "key", "left", "method",
        "path", "route", "scope", "started", "status", "use_case",
    )  # fmt: skip

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope, self._receive, self._send = scope, receive, send
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: dict[bytes, bytes] = {}
        self.use_case: str | None = None
        self.route, self.key, self.status = "unknown", "", 0
        self.started = self.left = False
        self._finished = self._body_read = self._is_trusted = False

    @property
    def is_finished(self) -> bool:
        """Whether the whole answer was given to the server."""
        return self._finished

    def check_head(self) -> None:
        """Read the headers, and take `/use-cases/NAME` off the path.

        Raise ConfigError (status 400) for a key in the URL, a path with tricks, a header that may stand only
        once, and a body of two lengths or of an encoding that is not read.
        """
        headers = self.headers
        if self.scope["http_version"] not in {"1.0", "1.1"}:
            raise ConfigError("the gateway speaks HTTP/1.1", hint="name HTTP/1.1 in the request's first line")
        for name, value in self.scope["headers"]:
            if name in headers and name in _ONCE:
                raise ConfigError(f"the request has two headers {name.decode()}", hint="send one of them")
            headers[name] = value
        if b"content-length" in headers and b"transfer-encoding" in headers:
            raise ConfigError("the request has content-length and transfer-encoding", hint="send one of them")
        if headers.get(b"transfer-encoding", b"chunked").lower() != b"chunked":
            raise ConfigError(
                "the transfer-encoding of the request is not chunked", hint="send the body as it is"
            )
        self._check_upgrade()
        self._check_target()
        if self.path.startswith("/use-cases/"):
            name, slash, rest = self.path.removeprefix("/use-cases/").partition("/")
            self.use_case, self.path = name, slash + rest
        self._is_trusted = True

    def _check_upgrade(self) -> None:
        """Raise ConfigError for a body beside an offer of another protocol: the parser does not give it."""
        offers = b"upgrade" in self.headers and b"upgrade" in self.headers.get(b"connection", b"").lower()
        if offers and self._has_body:
            raise ConfigError(
                "the request offers another protocol by the header upgrade; the gateway speaks HTTP/1.1",
                hint="set the client to HTTP/1.1, for example curl --http1.1",
            )

    def _check_target(self) -> None:
        raw, query = self.scope.get("raw_path") or self.path.encode(), self.scope["query_string"]
        target = unquote((raw + b"?" + query).decode("latin-1"))
        names = {pair.partition("=")[0].lower() for pair in target.partition("?")[2].split("&")}
        if KEY in target or OWNER in target or names & _SECRETS:
            raise ConfigError(
                "the URL holds a key, and URLs stand in logs: revoke this key",
                hint="send the header 'Authorization: Bearer KEY'; workbench keys revoke ID",
            )
        lower = raw.lower()
        if any(trick in lower for trick in _TRICKS) or not self.path.isprintable():
            raise ConfigError("the path of the URL has parts that no route has", hint="GET /openapi.json")

    def header(self, name: bytes) -> str | None:
        """Return the value of a header; None without one."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1").strip()

    def stated(self, name: str) -> str | None:
        """Return what the header `Workbench-NAME` states; None without it.

        Raise ConfigError for an empty one, as an unset variable makes it, for a long one, and for signs that
        cannot be shown.
        """
        value = self.headers.get(f"workbench-{name}".encode())
        if value is None:
            return None
        found = _decoded(value).strip()
        if not 0 < len(found) <= _MOST_STATED or not found.isprintable():
            most = f"is no text of 1 to {_MOST_STATED:,} signs that can be shown"
            raise ConfigError(
                f"the header Workbench-{name.title()} {most if found else 'is empty'}",
                hint="name one, or leave the header out",
            )
        return found

    async def body(self, *, most: int) -> bytes:
        """Return the body; raise RefusedError for one of more than `most` bytes, and a compressed one."""
        if self.headers.get(b"content-encoding", b"identity") != b"identity":
            raise RefusedError(
                "the body of the request is compressed", hint="send it as it is, without Content-Encoding",
                status=415,
            )  # fmt: skip
        length = self.headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > most:
            raise _too_large(most)
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            self._body_read = True
            found: bytes = message.get("body", b"")
            if len(found) > most:
                raise _too_large(most)
            return found
        return await self._pieces(message, most)

    async def _pieces(self, message: MutableMapping[str, Any], most: int) -> bytes:
        pieces = bytearray()
        while True:
            if message["type"] == "http.disconnect":
                self.left = True
                raise asyncio.CancelledError(ABANDONED)
            pieces += message.get("body", b"")
            if len(pieces) > most:
                raise _too_large(most)
            if not message.get("more_body"):
                self._body_read = True
                return bytes(pieces)
            message = await self._receive()

    def watched(self) -> AbstractAsyncContextManager[None]:
        """Run a block that ends, cancelled, when the client closes the connection."""
        return _WatchedBlock(self)

    async def disconnected(self) -> None:
        """Wait until the client closes the connection."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def begin(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Send the head of the answer."""
        self.started, self.status = True, status
        await self._send({"type": "http.response.start", "status": status, "headers": list(headers)})

    async def piece(self, data: bytes) -> None:
        """Send a piece of the body; wait while the client reads more slowly."""
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes = b"") -> None:
        """Send the last piece of the body."""
        self._finished = True
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    async def whole(self, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]] = _JSON) -> None:
        """Send a whole answer; after a wrong head, or a body that was not read, the connection is closed."""
        head = [*headers, (b"content-length", b"%d" % len(body))]
        if not self._is_trusted or (not self._body_read and self._has_body):
            head.append((b"connection", b"close"))
        await self.begin(status, head)
        await self.end(body)

    @property
    def _has_body(self) -> bool:
        return self.headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in self.headers


def _decoded(value: bytes) -> str:
    """Return the text of a header: clients send names as UTF-8 or, as HTTP once had it, as Latin-1.

    A person's data is erased by a name that JSON and commands state as well, so that both must read it alike.
    """
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


class _WatchedBlock:
    """The block of `GatewayExchange.watched`. Not a generator, and without a task: each request has one."""

    __slots__ = ("_connection", "_exchange", "_task", "_timer", "_watching")

    def __init__(self, exchange: GatewayExchange) -> None:
        self._exchange = exchange
        self._connection: WatchedConnection | None = exchange.scope.get(CONNECTION)
        self._task: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._watching: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        self._task = asyncio.current_task()
        if self._connection is not None:
            self._connection.watch(self)
        else:  # another server's
            self._timer = asyncio.get_running_loop().call_later(_LOOK_S, self._begin)

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> bool:
        if self._connection is not None:
            self._connection.unwatch(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._watching is not None:
            self._watching.cancel()
        if not isinstance(error, asyncio.CancelledError) or not self._exchange.left or self._task is None:
            return False
        self._task.uncancel()
        return True

    def __call__(self) -> None:
        """Cancel the block, whose client has left; after the end of the answer nobody waits for it."""
        if not self._exchange.is_finished and self._task is not None:
            self._exchange.left = True
            self._task.cancel(ABANDONED)

    def _begin(self) -> None:
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        await self._exchange.disconnected()
        self()


def _too_large(most: int) -> RefusedError:
    return RefusedError(
        f"the body of the request has more than {most / 2**20:g} MiB",
        hint="send less, or raise gateway.limits.body_mib in params.yaml",
        status=413,
    )


def encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Return headers as the server sends them."""
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
