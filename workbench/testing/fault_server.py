"""A server of the OpenAI wire format that fails as planned: run this module with `-m` and `--help`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime as dt
import socket
import struct
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from email.utils import format_datetime
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import orjson

from workbench.errors import ConfigError
from workbench.testing import wire_answers
from workbench.testing.fault_plan import FAULTS, OK, Latency, Plan, is_fault
from workbench.types import JSON

_MEBIBYTE: Final = 2**20
_HTML: Final = b"<!doctype html><html><body><h1>502 Bad Gateway</h1></body></html>"
#: SO_LINGER with a timeout of zero: closing sends a reset.
_RESET: Final = struct.pack("ii", 1, 0)


class FaultServer:
    """An OpenAI-compatible server on the loopback, on a thread of its own, while a `with` block runs.

    `faults` and `seed` make its `Plan`. `latency` is a number of seconds or a distribution, before each
    answer, and `event_s` the seconds between the events of a stream. `counts` says how many requests got
    which fault. The server answers chat completions, responses, embeddings, moderations, models and input
    tokens with `text`; it needs no key. A request for the model `fault:NAME` gets this fault, whatever the
    plan says. `GET /counts` returns the counts as JSON.
    """

    def __init__(
        self,
        faults: Mapping[str, float] | Sequence[str] = (),
        *,
        seed: int = 0,
        latency: str | float = 0.0,
        event_s: float = 0.0,
        text: str = wire_answers.TEXT,
        port: int = 0,
    ) -> None:
        self.plan = Plan(faults, seed=seed)
        self.latency = Latency(latency)
        self.event_s = event_s
        self.text = text
        self.port = port
        self.counts: Counter[str] = Counter()
        #: The bytes of an answer by the faults `large` and `large-chunked`.
        self.large_bytes = 100 * _MEBIBYTE
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The base URL of the API, for a model card or a client."""
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Self:
        """Listen; the port is free, unless one was given."""
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        failed: list[OSError] = []

        async def main() -> None:
            with contextlib.suppress(asyncio.CancelledError):
                await self.serve(ready)

        def run(loop: asyncio.AbstractEventLoop) -> None:
            try:
                loop.run_until_complete(main())
            except OSError as error:
                failed.append(error)
            finally:
                ready.set()
                loop.close()

        self._thread = threading.Thread(target=run, args=(self._loop,), name="fault-server", daemon=True)
        self._thread.start()
        ready.wait()
        if failed:
            raise failed[0]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the socket and every connection, and end the thread."""
        if self._loop is not None and self._thread is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(_cancel_all, self._loop)
            self._thread.join()

    async def serve(self, ready: threading.Event | None = None) -> None:
        """Serve until cancelled; `ready` is set when the port is known."""
        loop = asyncio.get_running_loop()
        connections: set[_HttpConnection] = set()
        server = await loop.create_server(lambda: _HttpConnection(self, connections), "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        if ready is not None:
            ready.set()
        try:
            await asyncio.Event().wait()
        finally:
            server.close()
            for connection in tuple(connections):
                connection.abort()

    def begin(self, payload: JSON) -> tuple[int, str]:
        """Return the number and the fault of the next request, and count it."""
        number, model = self.counts.total(), str(payload.get("model"))
        asked = model.removeprefix("fault:")
        fault = asked if asked != model and is_fault(asked) else self.plan.fault(number)
        self.counts[fault] += 1
        return number, fault


class _WireRequest(NamedTuple):
    """A request as far as an answer depends on it. `operation` is the end of its path."""

    operation: str
    payload: JSON

    @property
    def stream(self) -> bool:
        return bool(self.payload.get("stream")) and self.operation in {"completions", "responses"}


class _HttpConnection(asyncio.Protocol):
    """One connection: reads requests one after another, and answers each before the next."""

    def __init__(self, server: FaultServer, connections: set[_HttpConnection]) -> None:
        self._server = server
        self._connections = connections
        self._received = bytearray()
        self._task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._connections.discard(self)
        self._writable.set()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._read()

    def _read(self) -> None:
        """Begin to answer a complete request, unless an earlier one is being answered."""
        end = self._received.find(b"\r\n\r\n")
        if end < 0 or self._task is not None:
            return
        head = bytes(self._received[:end]).lower()
        length = int(head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0] or 0)
        if len(self._received) < end + 4 + length:
            return
        body = bytes(self._received[end + 4 : end + 4 + length])
        del self._received[: end + 4 + length]
        path = head.split(b" ", 2)[1].decode()
        self._task = asyncio.get_running_loop().create_task(self._answer(path, body))
        self._task.add_done_callback(self._answered)

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if task.cancelled():
            return
        if (error := task.exception()) is not None and not isinstance(error, ConnectionError):
            self.abort()
            raise error
        if not self.transport.is_closing():
            self._read()

    async def _answer(self, path: str, body: bytes) -> None:
        operation = path.rpartition("/")[2]
        if operation == "counts":
            await _HttpReply(self).plain(200, orjson.dumps(dict(self._server.counts)))
            return
        try:
            request = _WireRequest(operation, orjson.loads(body) if body else {})
            wire_answers.whole(operation, request.payload, "")
        except (KeyError, ValueError, AttributeError, TypeError):
            message = f"the fault server has no answer to {path}"
            await _HttpReply(self).plain(404, orjson.dumps(wire_answers.error_object(message, 404)))
            return
        number, fault = self._server.begin(request.payload)
        await asyncio.sleep(self._server.latency.draw(self._server.plan.random(number, "latency")))
        await _FaultyAnswer(self._server, request, _HttpReply(self)).give(fault)

    def abort(self) -> None:
        """Reset the connection."""
        if (sock := self.transport.get_extra_info("socket")) is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    async def send(self, data: bytes) -> None:
        """Write, and wait while the client reads more slowly; raise ConnectionError when it left."""
        if self.transport.is_closing():
            raise ConnectionResetError
        self.transport.write(data)
        await self._writable.wait()


class _HttpReply:
    """The HTTP response to one request."""

    def __init__(self, connection: _HttpConnection) -> None:
        self.connection = connection
        self._chunked = False

    async def plain(self, status: int, body: bytes, kind: str = "application/json", **headers: str) -> None:
        """Send a whole response."""
        await self.connection.send(_head(status, kind, str(len(body)), headers) + body)

    async def begin(self, kind: str, length: int | None = None) -> None:
        """Send the head of a response whose body follows in pieces."""
        self._chunked = length is None
        await self.connection.send(_head(200, kind, None if length is None else str(length), {}))

    async def piece(self, data: bytes) -> None:
        """Send a piece of the body."""
        await self.connection.send(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    async def end(self) -> None:
        """End the body."""
        if self._chunked:
            await self.connection.send(b"0\r\n\r\n")


def _head(status: int, kind: str, length: str | None, headers: Mapping[str, str]) -> bytes:
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} Status\r\nContent-Type: {kind}\r\n{size}\r\n{more}\r\n".encode()


class _FaultyAnswer:
    """The answer to one request, right or with a fault."""

    def __init__(self, server: FaultServer, request: _WireRequest, reply: _HttpReply) -> None:
        self._server = server
        self._request = request
        self._reply = reply
        self._kind = "text/event-stream" if request.stream else "application/json"

    async def give(self, fault: str) -> None:
        """Send the answer, with a fault unless it is `ok`."""
        special: Mapping[str, Callable[[], Awaitable[None]]] = {
            "hang": self._hang, "hang-body": self._hang_in_body, "drip": self._drip, "reset": self._reset,
            "reset-body": self._reset_in_body, "short-body": self._short, "empty": self._empty,
            "html": self._html, "endless": self._endless, "large": self._large,
            "large-chunked": self._large_chunked,
        }  # fmt: skip
        if fault[:3].isdecimal():
            await self._fail(int(fault[:3]), fault[4:])
        elif fault in special:
            await special[fault]()
        else:
            await self._send(fault)

    async def _send(self, fault: str) -> None:
        """Send the pieces of the answer, changed by a fault of its content or its form."""
        pieces = self._pieces(_edited(fault, self._request.payload), fault)
        kind = "text/plain; charset=iso-8859-1" if fault == "content-type" else self._kind
        if len(pieces) == 1 and not self._request.stream:
            await self._reply.plain(200, pieces[0], kind)
            return
        await self._reply.begin(kind)
        for piece in pieces:
            await self._reply.piece(piece)
            await asyncio.sleep(self._server.event_s)
        await self._reply.end()

    def _pieces(self, edit: Callable[[dict[str, Any]], None] | None = None, fault: str = OK) -> list[bytes]:
        """Return the pieces of the body: one for each event of a stream, else the whole answer."""
        operation, payload = self._request
        if self._request.stream:
            pieces = wire_answers.streamed(operation, payload, self._server.text)
            if edit is not None:
                pieces = [_edited_event(piece, edit) for piece in pieces]
        else:
            answer = wire_answers.whole(operation, payload, self._server.text)
            if edit is not None:
                edit(answer)
            pieces = [orjson.dumps(answer)]
        return _formed(fault, pieces, self._request)

    async def _fail(self, status: int, after: str) -> None:
        headers = {}
        now = dt.datetime.now(dt.UTC)
        if after == "after":
            headers["Retry_After"] = "1"
        elif after == "date":
            headers["Retry_After"] = format_datetime(now + dt.timedelta(seconds=1), usegmt=True)
            headers["Date"] = format_datetime(now, usegmt=True)
        message = "too many requests" if status == 429 else f"the fault server answers {status}"
        body = orjson.dumps(wire_answers.error_object(message, status))
        await self._reply.plain(status, body, **headers)

    async def _half(self) -> None:
        """Send the first half of the answer, whose body has not ended."""
        body = b"".join(self._pieces())
        await self._reply.begin(self._kind)
        await self._reply.piece(body[: len(body) // 2])

    async def _hang(self) -> None:
        await asyncio.Event().wait()

    async def _hang_in_body(self) -> None:
        await self._half()
        await self._hang()

    async def _drip(self) -> None:
        body = b"".join(self._pieces())
        await self._reply.begin(self._kind)
        for position in range(len(body)):
            await self._reply.piece(body[position : position + 1])
            await asyncio.sleep(0.05)
        await self._reply.end()

    async def _reset(self) -> None:
        self._reply.connection.abort()

    async def _reset_in_body(self) -> None:
        await self._half()
        await asyncio.sleep(0.01)  # a reset discards what was not sent yet
        self._reply.connection.abort()

    async def _short(self) -> None:
        body = b"".join(self._pieces())
        await self._reply.begin(self._kind, len(body) + 1000)
        await self._reply.piece(body[: len(body) // 2])
        self._reply.connection.transport.close()

    async def _empty(self) -> None:
        await self._reply.plain(200, b"", self._kind)

    async def _html(self) -> None:
        await self._reply.plain(200, _HTML, "text/html; charset=utf-8")

    async def _endless(self) -> None:
        operation, payload = self._request
        await self._reply.begin(self._kind)
        piece = b"word " * 1000
        if self._request.stream:
            piece = wire_answers.delta(operation, payload, "word ") * 20
        else:
            await self._reply.piece(b'{"choices":[{"index":0,"message":{"role":"assistant","content":"')
        while True:
            await self._reply.piece(piece)
            await asyncio.sleep(0)

    async def _large(self) -> None:
        await self._send_large(stated=True)

    async def _large_chunked(self) -> None:
        await self._send_large(stated=False)

    async def _send_large(self, *, stated: bool) -> None:
        """Send a right answer, or one event of a stream, whose text is blown up."""
        operation, payload = self._request
        mark = "\x1a"
        if self._request.stream:
            events = wire_answers.streamed(operation, payload, self._server.text)
            body = wire_answers.delta(operation, payload, mark) + b"".join(events[1:])
        else:
            body = orjson.dumps(wire_answers.whole(operation, payload, mark))
        before, _, after = body.partition(b"\\u001a")
        rest = self._server.large_bytes
        await self._reply.begin(self._kind, len(before) + rest + len(after) if stated else None)
        await self._reply.piece(before)
        while rest:
            size = min(rest, _MEBIBYTE)
            await self._reply.piece(b"x" * size)
            rest -= size
        await self._reply.piece(after)
        await self._reply.end()


def _edited(fault: str, payload: JSON) -> Callable[[dict[str, Any]], None] | None:
    """Return the function that changes an answer as the fault says, or None."""
    names = ("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "total_tokens")
    counts: dict[str, Any] = {}
    match fault:
        case "usage-negative":
            counts = dict.fromkeys(names, -5)
        case "usage-absurd":
            counts = {name: 10**18 if n % 2 else "many" for n, name in enumerate(names)}

    def edit(answer: dict[str, Any]) -> None:
        inner = answer["response"] if isinstance(answer.get("response"), dict) else answer
        if fault == "other-model" and "model" in inner:
            inner["model"] = f"not-{payload.get('model', 'm')}"
        if fault == "usage-missing":
            inner.pop("usage", None)
        elif counts and isinstance(inner.get("usage"), dict):
            usage = inner["usage"]
            usage.update({name: count for name, count in counts.items() if name in usage})

    return edit if fault == "other-model" or fault.startswith("usage-") else None


def _edited_event(event: bytes, edit: Callable[[dict[str, Any]], None]) -> bytes:
    """Return a server-sent event whose data was changed."""
    head, _, data = event.partition(b"data: ")
    if data.startswith(b"[DONE]"):
        return event
    value = orjson.loads(data)
    edit(value)
    return head + b"data: " + orjson.dumps(value) + b"\n\n"


def _formed(fault: str, pieces: list[bytes], request: _WireRequest) -> list[bytes]:
    """Return the pieces of a body in the form that the fault gives them."""
    body, stream = b"".join(pieces), request.stream
    match fault:
        case "truncated":
            pieces = [body[: len(body) // 2 + 1]]
        case "error-event":
            message = "the model ran out of memory"
            stated = orjson.dumps(wire_answers.error_object(message, 500))
            last = wire_answers.stated_error(request.operation, message) if stream else stated
            pieces = [*pieces[:3], last] if stream else [last]
        case "keep-alive":
            idle = b": keep-alive\n\n" if stream else b" \n"
            pieces = [part for piece in pieces for part in (idle, piece)]
        case "crlf":
            pieces = [b"\r\n" * (not stream) + piece.replace(b"\n", b"\r\n") for piece in pieces]
        case "split":
            pieces = [body[at : at + 7] for at in range(0, len(body), 7)]
        case "no-done" if stream:
            pieces = pieces[:-1]
    return pieces


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    for task in asyncio.all_tasks(loop):
        task.cancel()


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until interrupted. The first line of the output is the base URL."""
    faults = "\n".join(f"  {name:<15} {what}" for name, what in FAULTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m workbench.testing.fault_server",
        description="Serve the OpenAI wire format on the loopback, with faults.",
        epilog=f"faults:\n{faults}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--fault",
        action="append",
        default=[],
        metavar="NAME=RATE",
        help="a fault and its rate; repeatable",
    )
    add("--seed", type=int, default=0, help="the seed of faults and latencies (default 0)")
    add("--latency", default="0", help="seconds, or as lognormal:0.02,0.5 (default 0)")
    add("--event-s", type=float, default=0.0, help="seconds between the events of a stream (default 0)")
    add("--port", type=int, default=0, help="the port (default: a free one)")
    given = parser.parse_args(arguments)
    try:
        rates = {name: float(rate or 1) for name, _, rate in (item.partition("=") for item in given.fault)}
        server = FaultServer(
            rates, seed=given.seed, latency=given.latency, event_s=given.event_s, port=given.port
        )
        with server, contextlib.suppress(KeyboardInterrupt):
            sys.stdout.write(server.url + "\n")
            sys.stdout.flush()
            threading.Event().wait()
    except (ConfigError, ValueError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
