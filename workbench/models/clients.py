"""Ordinary `openai` clients whose HTTP transport is the boundary.

Any library that accepts such a client is governed without knowing it. No socket is opened: a
request's wire JSON becomes a call, the handler's events become the response, and our errors become
the statuses from which `openai` raises its own exception types.
"""

from __future__ import annotations

import base64
from array import array
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
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
from workbench.ports import Call, Handler
from workbench.types import JSON, Event

if TYPE_CHECKING:
    import httpx2
    import openai

MakeCall = Callable[[str, JSON], Call]

#: `.invalid` never resolves, so that nothing can leave by accident.
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
    """An `openai.OpenAI` whose every request crosses the boundary. It never retries: a control does."""
    import httpx2
    import openai

    class Boundary(httpx2.BaseTransport):
        """Answers a request by running the handler on the background loop."""

        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            try:
                asked = _asked(request.url.path, request.read())
                events = _sync.iterate(handler(make_call(asked.operation, asked.payload)))
                if asked.stream:
                    return _response(200, stream=_sync_stream(asked, _began(next(events, None)), events))
                return _response(200, asked.answer(wire.fold(events)))
            except WorkbenchError as error:
                return _refused(error)

    # trust_env=False: a proxy named in the environment would be used instead of this transport
    http = httpx2.Client(transport=Boundary(), trust_env=False)
    return openai.OpenAI(base_url=BASE_URL, api_key="unused", http_client=http, max_retries=0)


def openai_async_client(handler: Handler, make_call: MakeCall) -> openai.AsyncOpenAI:
    """The `openai.AsyncOpenAI` twin of `openai_client`, for any event loop."""
    import httpx2
    import openai

    class Boundary(httpx2.AsyncBaseTransport):
        """Answers a request by running the handler on the background loop."""

        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            try:
                asked = _asked(request.url.path, await request.aread())
                events = _sync.iterate_async(handler(make_call(asked.operation, asked.payload)))
                if asked.stream:
                    first = _began(await anext(events, None))
                    return _response(200, stream=_async_stream(asked, first, events))
                return _response(200, asked.answer(wire.fold([event async for event in events])))
            except WorkbenchError as error:
                return _refused(error)

    http = httpx2.AsyncClient(transport=Boundary(), trust_env=False)
    return openai.AsyncOpenAI(base_url=BASE_URL, api_key="unused", http_client=http, max_retries=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A request, read: what to call, and in which form the client wants the answer."""

    operation: str
    payload: JSON
    stream: bool = False
    usage: bool = False
    as_base64: bool = False

    def answer(self, whole: JSON) -> bytes:
        """The response's body."""
        import orjson

        if not self.as_base64:
            return orjson.dumps(whole)
        rows = [{**row, "embedding": _base64(row["embedding"])} for row in whole["data"]]
        return orjson.dumps({**whole, "data": rows})

    def pieces(self, event: Event) -> bytes:
        """One event as server-sent events; an answer that came whole is cut into chunks."""
        import orjson

        data = event.data
        chunks = [data] if wire.is_chunk(data) else wire.unfold(data, usage=self.usage)
        return b"".join(b"data: " + orjson.dumps(chunk) + b"\n\n" for chunk in chunks)


def _asked(path: str, body: bytes) -> _Asked:
    """The request behind a path and body; NotFoundError for what is not governed."""
    import orjson

    operation = _GOVERNED.get(path)
    if operation is None:
        raise NotFoundError(
            f"{path} does not cross the boundary; governed are {' and '.join(_GOVERNED)}",
            hint="ask through chat.completions or embeddings",
        )
    payload = orjson.loads(body)
    if operation == "chat":
        options = payload.get("stream_options") or {}
        return _Asked(
            operation=operation,
            payload=payload,
            stream=bool(payload.get("stream")),
            usage=bool(options.get("include_usage")),
        )
    # `openai` asks for base64 unless told otherwise; the boundary always sees numbers
    as_base64 = payload.get("encoding_format") == "base64"
    payload = {**payload, "encoding_format": "float"}
    return _Asked(operation=operation, payload=payload, as_base64=as_base64)


def _base64(vector: list[float]) -> str:
    """A vector as the wire format packs it: single precision, little-endian."""
    return base64.b64encode(array("f", vector).tobytes()).decode("ascii")


def _response(
    status: int,
    body: bytes = b"",
    *,
    stream: Any = None,
    headers: Mapping[str, str] | None = None,
) -> httpx2.Response:
    import httpx2

    kind = "application/json" if stream is None else "text/event-stream"
    head = {"content-type": kind, **(headers or {})}
    if stream is None:
        return httpx2.Response(status, headers=head, content=body)
    return httpx2.Response(status, headers=head, stream=stream)


def _refused(error: WorkbenchError) -> httpx2.Response:
    """Our error as a wire error, which the client must not try again by itself."""
    headers = {"x-should-retry": "false"}
    if isinstance(error, RateLimitedError) and error.retry_after_s is not None:
        headers["retry-after"] = f"{error.retry_after_s:g}"
    return _response(_status(error), _wire_error(error), headers=headers)


def _status(error: WorkbenchError) -> int:
    said = getattr(error, "status", None)
    if isinstance(said, int) and said >= 400:
        return said
    return next(status for kind, status in _STATUS if isinstance(error, kind))


def _wire_error(error: WorkbenchError) -> bytes:
    import orjson

    kind = type(error).__name__
    wrong = {"message": str(error), "type": kind, "code": _status(error), "param": None}
    return orjson.dumps({"error": wrong})


def _began(first: Event | None) -> Event:
    """The first event is awaited before answering, so that an early error has its own status."""
    if first is None:
        raise UnavailableError("the answer ended before it began")
    return first


def _sync_stream(asked: _Asked, first: Event, events: Iterator[Event]) -> httpx2.SyncByteStream:
    """A stream as bytes. Closing it closes the boundary's stream."""
    import httpx2

    class Stream(httpx2.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            try:
                yield asked.pieces(first)
                for event in events:
                    yield asked.pieces(event)
                yield _DONE
            except WorkbenchError as error:
                yield b"data: " + _wire_error(error) + b"\n\n"

        def close(self) -> None:
            events.close()  # type: ignore[attr-defined]

    return Stream()


def _async_stream(asked: _Asked, first: Event, events: AsyncIterator[Event]) -> httpx2.AsyncByteStream:
    """See `_sync_stream`."""
    import httpx2

    class Stream(httpx2.AsyncByteStream):
        async def __aiter__(self) -> AsyncGenerator[bytes, None]:
            try:
                yield asked.pieces(first)
                async for event in events:
                    yield asked.pieces(event)
                yield _DONE
            except WorkbenchError as error:
                yield b"data: " + _wire_error(error) + b"\n\n"

        async def aclose(self) -> None:
            await events.aclose()  # type: ignore[attr-defined]

    return Stream()
