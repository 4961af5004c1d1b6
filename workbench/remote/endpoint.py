"""The ASGI endpoint of native calls: reads a call, answers it in lines, ends it when the caller leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from contextlib import aclosing
from typing import Any, Final

import orjson

from workbench._sync import ABANDONED
from workbench.errors import ConfigError, WorkbenchError
from workbench.remote.calls import AskedCall
from workbench.remote.failures import failure_of
from workbench.remote.protocol import HEADER, LINES, MOST_BYTES, VERSION
from workbench.remote.serving import Resolver, Serving

AsgiMessage = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[AsgiMessage]]
Send = Callable[[AsgiMessage], Awaitable[None]]
ResolverOf = Callable[[AskedCall], Resolver]
#: Seconds after which the endpoint looks whether the caller has left: a quick answer needs no look.
_LOOK_S: Final = 0.005
_VERSION: Final = (HEADER.lower().encode(), VERSION.encode())
_LINES: Final = (b"content-type", LINES.encode())


async def answer(receive: Receive, send: Send, *, serving: Serving, resolver_of: ResolverOf) -> None:
    """Answer one request, whose caller is known: `resolver_of` returns what it may ask.

    An error before the call is known has a status; every other one is the last line of the answer.
    """
    try:
        body = await _body(receive)
        if body is None:
            await refuse(send, _too_large(), status=413)
            return
        asked = AskedCall.read(body)
        resolver = resolver_of(asked)
    except WorkbenchError as error:
        await refuse(send, error, status=400 if isinstance(error, ConfigError) else 403)
        return
    leaving = _Leaving(receive, ABANDONED if asked.streamed else "cancelled")
    try:
        async with aclosing(serving.serve(asked, resolver)) as lines:
            await (_streamed(send, lines) if asked.streamed else _whole(send, lines))
    except asyncio.CancelledError:
        if not leaving.has_left:
            raise
    finally:
        leaving.stop()


async def refuse(send: Send, error: BaseException, *, status: int) -> None:
    """Send an error in place of an answer."""
    await _send_whole(send, orjson.dumps({"error": failure_of(error)}), b"application/json", status=status)


async def _body(receive: Receive) -> bytes | None:
    """Return the body of a request; None above the bound, without reading more."""
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        return body if len(body) <= MOST_BYTES else None
    pieces, size = [body], len(body)
    while message.get("more_body"):
        message = await receive()
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if size > MOST_BYTES:
            return None
    return b"".join(pieces)


def _too_large() -> ConfigError:
    return ConfigError(f"the call has more than {MOST_BYTES:,} bytes", hint="ask in smaller parts")


async def _whole(send: Send, lines: AsyncGenerator[bytes, None]) -> None:
    """Send an answer that is no stream in one piece; a long one piece by piece."""
    pieces: list[bytes] = []
    size, began = 0, False
    async for line in lines:
        pieces.append(line)
        size += len(line)
        if size > _AT_ONCE:
            if not began:
                await _begin(send)
                began = True
            await send({"type": "http.response.body", "body": b"".join(pieces), "more_body": True})
            pieces, size = [], 0
    if began:
        await send({"type": "http.response.body", "body": b"".join(pieces), "more_body": False})
    else:
        await _send_whole(send, b"".join(pieces), LINES.encode())


#: Bytes of an answer that are sent at once.
_AT_ONCE: Final = 2**20


async def _streamed(send: Send, lines: AsyncGenerator[bytes, None]) -> None:
    await _begin(send)
    async for line in lines:
        await send({"type": "http.response.body", "body": line, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _begin(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [_LINES, _VERSION]})


async def _send_whole(send: Send, body: bytes, kind: bytes, *, status: int = 200) -> None:
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body)), _VERSION]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class _Leaving:
    """Cancels the task of a call when its caller leaves."""

    def __init__(self, receive: Receive, why: str) -> None:
        self._receive, self._why = receive, why
        self._task = asyncio.current_task()
        self._watch: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(_LOOK_S, self._begin)
        self.has_left = False

    def _begin(self) -> None:
        self._watch = asyncio.get_running_loop().create_task(self._wait())

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.has_left = True
        if self._task is not None:
            self._task.cancel(self._why)

    def stop(self) -> None:
        """Look no longer; the caller's leaving is no cancellation of the task that serves it."""
        self._timer.cancel()
        if self._watch is not None:
            self._watch.cancel()
        if self.has_left and self._task is not None:
            self._task.uncancel()
