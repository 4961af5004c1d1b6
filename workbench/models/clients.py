"""Clients of the `openai` package whose HTTP transport is the boundary.

Any library that accepts such a client is governed. No socket is opened: a request's wire JSON becomes a call,
the handler's events become the response, and the workbench's errors become the statuses from which `openai`
raises its own exceptions.
"""

from __future__ import annotations

import base64
from array import array
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench import _sync, wire
from workbench.errors import (
    ConfigError,
    DeadlineError,
    InvalidOutputError,
    NoAnswerError,
    NotFoundError,
    RateLimitedError,
    RefusedError,
    UnavailableError,
    WorkbenchError,
)
from workbench.models import short_path
from workbench.ports import Call, Handler
from workbench.types import JSON, Event

if TYPE_CHECKING:
    import httpx2
    import openai

MakeCall = Callable[[str, JSON], Call]

#: `.invalid` never resolves, so that no request leaves the process by accident.
BASE_URL = "http://workbench.invalid/v1"
_GOVERNED: Mapping[str, str] = {"/v1/chat/completions": "chat", "/v1/embeddings": "embed"}
_STATUS: tuple[tuple[type[WorkbenchError], int], ...] = (
    (RateLimitedError, 429),
    (DeadlineError, 504),
    (UnavailableError, 503),
    (NoAnswerError, 502),
    (RefusedError, 403),
    (NotFoundError, 404),
    (InvalidOutputError, 422),
    (ConfigError, 400),
    (WorkbenchError, 500),
)
_DONE = b"data: [DONE]\n\n"


def openai_client(handler: Handler, make_call: MakeCall) -> openai.OpenAI:
    """Return an `openai.OpenAI` whose requests all cross the boundary. It does not retry: a control does."""
    import httpx2

    class Boundary(httpx2.BaseTransport):
        """Answers a request by running the handler on the background loop."""

        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            try:
                asked = _read(request.url.path, request.read())
                events = _sync.iterate(handler(make_call(asked.operation, asked.payload)))
                if asked.stream:
                    return _response(200, stream=_sync_stream(asked, _first(next(events, None)), events))
                return _response(200, asked.body(wire.fold(events)))
            except WorkbenchError as error:
                return _error_response(error)

    def answer(path: str, body: bytes) -> bytes | httpx2.Response:
        try:
            asked = _read(f"/v1{path}", body)
            return asked.body(_sync.run(_whole(handler, make_call(asked.operation, asked.payload))))
        except WorkbenchError as error:
            return _error_response(error)

    # trust_env=False: a proxy named in the environment would replace this transport
    http = httpx2.Client(transport=Boundary(), trust_env=False)
    client = short_path.client_class(answer, http)
    return client(base_url=BASE_URL, api_key="unused", http_client=http, max_retries=0)


def openai_async_client(handler: Handler, make_call: MakeCall) -> openai.AsyncOpenAI:
    """Return the `openai.AsyncOpenAI` twin of `openai_client`, for any event loop."""
    import httpx2

    class Boundary(httpx2.AsyncBaseTransport):
        """Answers a request by running the handler on the background loop."""

        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            try:
                asked = _read(request.url.path, await request.aread())
                events = _sync.iterate_async(handler(make_call(asked.operation, asked.payload)))
                if asked.stream:
                    first = _first(await anext(events, None))
                    return _response(200, stream=_async_stream(asked, first, events))
                return _response(200, asked.body(wire.fold([event async for event in events])))
            except WorkbenchError as error:
                return _error_response(error)

    async def answer(path: str, body: bytes) -> bytes | httpx2.Response:
        try:
            asked = _read(f"/v1{path}", body)
            call = make_call(asked.operation, asked.payload)
            return asked.body(await _sync.run_async(_whole(handler, call)))
        except WorkbenchError as error:
            return _error_response(error)

    http = httpx2.AsyncClient(transport=Boundary(), trust_env=False)
    client = short_path.async_client_class(answer, http)
    return client(base_url=BASE_URL, api_key="unused", http_client=http, max_retries=0)


async def _whole(handler: Handler, call: Call) -> JSON:
    """Return the whole answer of a call, on the background loop."""
    async with aclosing(handler(call)) as events:  # type: ignore[type-var]
        return wire.fold([event async for event in events])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A client's request: the call, and the form of the response."""

    operation: str
    payload: JSON
    stream: bool = False
    usage: bool = False
    as_base64: bool = False

    def body(self, answer: JSON) -> bytes:
        """Return the body of a plain response."""
        import orjson

        if self.as_base64:  # single precision, little-endian, as the wire format packs a vector
            rows = [{**row, "embedding": _base64(row["embedding"])} for row in answer["data"]]
            answer = {**answer, "data": rows}
        return orjson.dumps(answer)

    def server_sent(self, event: Event) -> bytes:
        """Return an event as server-sent events; a whole answer is split into chunks."""
        import orjson

        data = event.data
        chunks = [data] if wire.is_chunk(data) else wire.unfold(data, usage=self.usage)
        return b"".join(b"data: " + orjson.dumps(chunk) + b"\n\n" for chunk in chunks)


def _read(path: str, body: bytes) -> _Asked:
    """Read a request by its path and body; raise NotFoundError for a path that is not governed."""
    import orjson

    operation = _GOVERNED.get(path)
    if operation is None:
        raise NotFoundError(
            f"{path} does not cross the boundary; governed are {' and '.join(_GOVERNED)}",
            hint="call client.chat.completions.create(…) or client.embeddings.create(…)",
        )
    payload = orjson.loads(body)
    if operation == "embed":
        # `openai` requests base64 by default; the boundary's events hold numbers
        as_base64 = payload.get("encoding_format") == "base64"
        return _Asked(
            operation=operation, payload={**payload, "encoding_format": "float"}, as_base64=as_base64
        )
    options = payload.get("stream_options") or {}
    return _Asked(
        operation=operation,
        payload=payload,
        stream=bool(payload.get("stream")),
        usage=bool(options.get("include_usage")),
    )


def _base64(vector: list[float]) -> str:
    return base64.b64encode(array("f", vector).tobytes()).decode("ascii")


def _response(
    status: int, body: bytes = b"", *, stream: Any = None, headers: Mapping[str, str] | None = None
) -> httpx2.Response:
    import httpx2

    kind = "application/json" if stream is None else "text/event-stream"
    head = {"content-type": kind, **(headers or {})}
    return httpx2.Response(status, headers=head, content=body, stream=stream)


def _error_response(error: WorkbenchError) -> httpx2.Response:
    """Return an error as a wire error that the client does not retry."""
    headers = {"x-should-retry": "false"}
    if isinstance(error, RateLimitedError) and error.retry_after_s is not None:
        headers["retry-after"] = f"{error.retry_after_s:g}"
    return _response(_status(error), _wire_error(error), headers=headers)


def _status(error: WorkbenchError) -> int:
    status = getattr(error, "status", None)
    if isinstance(status, int) and status >= 400:
        return status
    return next(status for kind, status in _STATUS if isinstance(error, kind))


def _wire_error(error: WorkbenchError) -> bytes:
    import orjson

    kind = type(error).__name__
    fields = {"message": str(error), "type": kind, "code": _status(error), "param": None}
    return orjson.dumps({"error": fields})


def _first(event: Event | None) -> Event:
    """Return the first event, awaited before the response so that an early error has its own status."""
    if event is None:
        raise UnavailableError("the stream ended without an event", hint="repeat the call")
    return event


def _sync_stream(asked: _Asked, first: Event, events: Iterator[Event]) -> httpx2.SyncByteStream:
    """Return the events as a byte stream; closing it closes the boundary's stream."""
    import httpx2

    class Stream(httpx2.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            try:
                yield asked.server_sent(first)
                for event in events:
                    yield asked.server_sent(event)
                yield _DONE
            except WorkbenchError as error:
                yield b"data: " + _wire_error(error) + b"\n\n"

        def close(self) -> None:
            events.close()  # type: ignore[attr-defined]

    return Stream()


def _async_stream(asked: _Asked, first: Event, events: AsyncIterator[Event]) -> httpx2.AsyncByteStream:
    """Return the events as an async byte stream; closing it closes the boundary's stream."""
    import httpx2

    class Stream(httpx2.AsyncByteStream):
        async def __aiter__(self) -> AsyncGenerator[bytes, None]:
            try:
                yield asked.server_sent(first)
                async for event in events:
                    yield asked.server_sent(event)
                yield _DONE
            except WorkbenchError as error:
                yield b"data: " + _wire_error(error) + b"\n\n"

        async def aclose(self) -> None:
            await events.aclose()  # type: ignore[attr-defined]

    return Stream()
