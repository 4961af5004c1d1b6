"""Clients of the `openai` package whose HTTP transport is the boundary.

Any library that accepts such a client is governed. No socket is opened: a request's wire JSON becomes a call,
the handler's events become the response, and the workbench's errors become the statuses from which `openai`
raises its own exceptions. The HTTP library is the one that the installed `openai` uses: httpx2, or httpx
before its version 3.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import importlib
from array import array
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping
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
    nearest,
)
from workbench.models import lenient_json, short_path
from workbench.models.card import ModelCard
from workbench.models.client_routes import MODELS, begins, operation_of
from workbench.ports import Call, Handler
from workbench.types import JSON, Event

if TYPE_CHECKING:
    import httpx2
    import openai

MakeCall = Callable[[str, JSON], Call]

#: `.invalid` never resolves, so that no request leaves the process by accident.
BASE_URL = "http://workbench.invalid/v1"
_ROOT = "/v1"
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
_BODY = 'an object such as {"model": "NAME", "messages": […]}'
#: Most levels of a request: the controls read it level by level within Python's own limit.
_MOST_LEVELS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """What the requests of a client share.

    `make_call` makes the call of an operation and its payload, `cards` returns the cards that the caller may
    use. `timeout` limits a whole call in seconds, a stream included; a request's own timeout replaces it.
    `max_retries` is the number of retries of a call; None leaves it to the control.
    """

    handler: Handler
    make_call: MakeCall
    cards: Callable[[], Iterable[ModelCard]] = tuple
    timeout: float | None = None
    max_retries: int | None = None

    def __post_init__(self) -> None:
        """Raise ConfigError for a timeout or a number of retries that is none."""
        if not (self.timeout is None or (_is_number(self.timeout) and self.timeout > 0)):
            raise ConfigError(
                f"timeout must be seconds above 0 or None, found {self.timeout!r}",
                hint="ws.openai(timeout=30)",
            )
        if not (self.max_retries is None or (type(self.max_retries) is int and self.max_retries >= 0)):
            raise ConfigError(
                f"max_retries must be a whole number of 0 or more, or None, found {self.max_retries!r}",
                hint="ws.openai(max_retries=0)",
            )

    def options(self) -> dict[str, Any]:
        """Return the arguments of an `openai` client, beside its transport. It does not retry by itself."""
        return {"base_url": BASE_URL, "api_key": "unused", "timeout": self.timeout, "max_retries": 0}

    def call(self, asked: _Asked) -> Call:
        """Return the call of a request, with the request's timeout as its deadline."""
        call = self.make_call(asked.operation, asked.payload)
        if self.max_retries is not None:
            call = dataclasses.replace(call, retries=self.max_retries)
        return call.within(asked.timeout)

    def models(self, path: str) -> JSON:
        """Return the list of the caller's cards, or the one that `/models/NAME` names."""
        cards = {card.name: card for card in self.cards()}
        if path == MODELS:
            return {"object": "list", "data": [_model(card) for card in cards.values()]}
        name = path.removeprefix(f"{MODELS}/")
        if name not in cards:
            raise NotFoundError(
                f"no model card is called {name!r} ({nearest(name, cards)})",
                hint="client.models.list() names the cards",
            )
        return _model(cards[name])


def openai_client(caller: Caller) -> openai.OpenAI:
    """Return an `openai.OpenAI` whose requests all cross the boundary. It does not retry: a control does."""
    if TYPE_CHECKING:
        import httpx2 as http
    else:
        http = _http()

    class Boundary(http.BaseTransport):
        """Answers a request by running the handler on the background loop."""

        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            try:
                asked = _read(caller, request, request.read())
                if isinstance(asked, bytes):
                    return _response(200, asked)
                events = _sync.iterate(caller.handler(caller.call(asked)))
                if asked.stream:
                    return _response(200, stream=_sync_stream(asked, _first(next(events, None)), events))
                return _response(200, asked.body(asked.speaks.fold(events)))
            except WorkbenchError as error:
                return _error_response(error)

    def answer(path: str, body: bytes, seconds: float | None) -> bytes | httpx2.Response:
        try:
            asked = _asked(operation_of("POST", path), body, seconds)
            return asked.body(_sync.run(_whole(caller, asked)))
        except WorkbenchError as error:
            return _error_response(error)

    # trust_env=False: a proxy named in the environment would replace this transport
    client = http.Client(transport=Boundary(), trust_env=False)
    return short_path.client_class(answer, client)(http_client=client, **caller.options())


def openai_async_client(caller: Caller) -> openai.AsyncOpenAI:
    """Return the `openai.AsyncOpenAI` twin of `openai_client`, for any event loop."""
    if TYPE_CHECKING:
        import httpx2 as http
    else:
        http = _http()

    class Boundary(http.AsyncBaseTransport):
        """Answers a request by running the handler on the background loop."""

        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            try:
                asked = _read(caller, request, await request.aread())
                if isinstance(asked, bytes):
                    return _response(200, asked)
                events = _sync.iterate_async(caller.handler(caller.call(asked)))
                if asked.stream:
                    first = _first(await anext(events, None))
                    return _response(200, stream=_async_stream(asked, first, events))
                return _response(200, asked.body(asked.speaks.fold([event async for event in events])))
            except WorkbenchError as error:
                return _error_response(error)

    async def answer(path: str, body: bytes, seconds: float | None) -> bytes | httpx2.Response:
        try:
            asked = _asked(operation_of("POST", path), body, seconds)
            return asked.body(await _sync.run_async(_whole(caller, asked)))
        except WorkbenchError as error:
            return _error_response(error)

    client = http.AsyncClient(transport=Boundary(), trust_env=False)
    return short_path.async_client_class(answer, client)(http_client=client, **caller.options())


async def _whole(caller: Caller, asked: _Asked) -> JSON:
    """Return the whole answer of a request, on the background loop."""
    async with aclosing(caller.handler(caller.call(asked))) as events:  # type: ignore[type-var]
        return asked.speaks.fold([event async for event in events])


@functools.cache
def _http() -> Any:
    """Return the HTTP library that the installed `openai` uses."""
    import openai

    modules = (kind.__module__.partition(".")[0] for kind in openai.DefaultHttpxClient.__mro__)
    return importlib.import_module(next(name for name in modules if name in {"httpx2", "httpx"}))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A client's request: the call, and the form of the response. `timeout` is in seconds."""

    operation: str
    payload: JSON
    speaks: wire.Dialect
    stream: bool = False
    usage: bool = False
    as_base64: bool = False
    timeout: float | None = None

    def body(self, answer: JSON) -> bytes:
        """Return the body of a plain response."""
        import orjson

        if self.as_base64:  # single precision, little-endian, as the wire format packs a vector
            rows = [{**row, "embedding": _base64(row["embedding"])} for row in answer["data"]]
            answer = {**answer, "data": rows}
        return orjson.dumps(answer)

    def server_sent(self, event: Event) -> bytes:
        """Return an event as server-sent events; a whole answer is split into the events of a stream."""
        import orjson

        data = event.data
        chunks = [data] if self.speaks.is_chunk(data) else self.speaks.unfold(data, usage=self.usage)
        if self.operation == "chat":
            return b"".join(b"data: " + orjson.dumps(chunk) + b"\n\n" for chunk in chunks)
        return b"".join(_named(chunk["type"], orjson.dumps(chunk)) for chunk in chunks)

    def end(self) -> bytes:
        """Return what ends a stream; a response ends with its last event."""
        return _DONE if self.operation == "chat" else b""

    def failed(self, error: WorkbenchError) -> bytes:
        """Return the event of an error inside a stream, from which `openai` raises an APIError."""
        import orjson

        if self.operation == "chat":
            return b"data: " + _wire_error(error) + b"\n\n"
        stated = orjson.loads(_wire_error(error))["error"]
        return _named("error", orjson.dumps({**stated, "type": "error", "error": stated}))


def _named(name: str, data: bytes) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"


def _read(caller: Caller, request: httpx2.Request, body: bytes) -> _Asked | bytes:
    """Read a request; return the body of its answer if it needs no call.

    Raises NotFoundError for a route that is not governed.
    """
    import orjson

    path = request.url.path.removeprefix(_ROOT)
    if request.method == "GET" and begins(path, MODELS):
        return orjson.dumps(caller.models(path))
    timeout = (request.extensions.get("timeout") or {}).get("read")
    return _asked(operation_of(request.method, path), body, timeout)


def _asked(operation: str, body: bytes, timeout: float | None) -> _Asked:
    """Return the request of an operation, by the body that the client wrote; ConfigError for an odd one."""
    payload, as_base64 = _payload(body), False
    if operation == "embed":
        # `openai` requests base64 by default; the boundary's events hold numbers
        as_base64 = payload.get("encoding_format") == "base64"
        payload = {**payload, "encoding_format": "float"}
    stream, options = payload.get("stream") or False, payload.get("stream_options") or {}
    for name, value, kind in (("stream", stream, bool), ("stream_options", options, dict)):
        if not isinstance(value, kind):
            wanted = "an object" if kind is dict else "true or false"
            raise ConfigError(f"{name} is {str(value)[:40]!r}, not {wanted}", hint="stream=True")
    return _Asked(
        operation=operation,
        payload=payload,
        speaks=wire.dialect(operation),
        stream=stream,
        usage=bool(options.get("include_usage")),
        as_base64=as_base64,
        timeout=timeout,
    )


def _payload(body: bytes) -> JSON:
    """Return the object in the body of a request; raise ConfigError for a body that holds none."""
    import orjson

    try:
        payload = orjson.loads(body)
        lenient_json.check_depth(body, payload)
        deep = body.count(b"{") + body.count(b"[") > _MOST_LEVELS and _is_deeper(payload, _MOST_LEVELS)
    except ValueError as error:
        raise ConfigError(f"the body of the request is not JSON: {error}", hint=_BODY) from None
    if not isinstance(payload, dict) or deep:
        found = f"nested deeper than {_MOST_LEVELS} levels" if deep else f"a {type(payload).__name__}"
        raise ConfigError(f"the body of the request is {found}, not an object", hint=_BODY)
    return payload


def _is_deeper(value: Any, most: int) -> bool:
    """Return whether a JSON value has more than `most` levels, without recursion."""
    level = [value]
    for _ in range(most):
        level = [
            part
            for item in level
            for part in (item.values() if isinstance(item, dict) else item)
            if isinstance(part, dict | list)
        ]
        if not level:
            return False
    return True


def _model(card: ModelCard) -> JSON:
    """Return a card in the shape of OpenAI's list of models; the card has no date."""
    return {"id": card.name, "object": "model", "created": 0, "owned_by": card.provider}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _base64(vector: list[float]) -> str:
    return base64.b64encode(array("f", vector).tobytes()).decode("ascii")


def _response(
    status: int, body: bytes = b"", *, stream: Any = None, headers: Mapping[str, str] | None = None
) -> httpx2.Response:
    kind = "application/json" if stream is None else "text/event-stream"
    head = {"content-type": kind, **(headers or {})}
    response: httpx2.Response = _http().Response(status, headers=head, content=body or None, stream=stream)
    return response


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
    if TYPE_CHECKING:
        import httpx2 as http
    else:
        http = _http()

    class Stream(http.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            try:
                yield asked.server_sent(first)
                for event in events:
                    yield asked.server_sent(event)
                yield asked.end()
            except WorkbenchError as error:
                yield asked.failed(error)

        def close(self) -> None:
            events.close()  # type: ignore[attr-defined]

    return Stream()


def _async_stream(asked: _Asked, first: Event, events: AsyncIterator[Event]) -> httpx2.AsyncByteStream:
    """Return the events as an async byte stream; closing it closes the boundary's stream."""
    if TYPE_CHECKING:
        import httpx2 as http
    else:
        http = _http()

    class Stream(http.AsyncByteStream):
        async def __aiter__(self) -> AsyncGenerator[bytes, None]:
            try:
                yield asked.server_sent(first)
                async for event in events:
                    yield asked.server_sent(event)
                yield asked.end()
            except WorkbenchError as error:
                yield asked.failed(error)

        async def aclose(self) -> None:
            await events.aclose()  # type: ignore[attr-defined]

    return Stream()
