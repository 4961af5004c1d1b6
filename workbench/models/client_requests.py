"""The requests of `openai` clients, by a library or over HTTP: read, and answered as bytes.

Both the clients of a workspace and the gateway read a request's wire JSON here, and give its answer, the
events of its stream and its error the same bytes and the same status.
"""

from __future__ import annotations

import base64
import dataclasses
from array import array
from collections.abc import Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass

from workbench import wire
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
from workbench.models import lenient_json
from workbench.models.card import ModelCard
from workbench.models.client_routes import MODELS
from workbench.ports import Call, Handler
from workbench.types import JSON, Event
from workbench.wire.shape import is_deeper

MakeCall = Callable[[str, JSON], Call]

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

    def call(self, asked: AskedRequest) -> Call:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedRequest:
    """A client's request: the operation, its payload, and the form of the response.

    `timeout` is in seconds.
    """

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
            return b"data: " + wire_error(error) + b"\n\n"
        stated = orjson.loads(wire_error(error))["error"]
        return _named("error", orjson.dumps({**stated, "type": "error", "error": stated}))


def _named(name: str, data: bytes) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"


def asked_request(operation: str, body: bytes, timeout: float | None) -> AskedRequest:
    """Return the request of an operation by the client's body; raise ConfigError for an odd one."""
    payload, as_base64, speaks = _payload(body), False, wire.dialect(operation)
    if operation == "embed":
        # `openai` requests base64 by default; the boundary's events hold numbers
        as_base64 = payload.get("encoding_format") == "base64"
        payload = {**payload, "encoding_format": "float"}
    stream, options = payload.get("stream") or False, payload.get("stream_options") or {}
    for name, value, kind in (("stream", stream, bool), ("stream_options", options, dict)):
        if not isinstance(value, kind):
            wanted = "an object" if kind is dict else "true or false"
            raise ConfigError(f"{name} is {str(value)[:40]!r}, not {wanted}", hint="stream=True")
    if stream and not speaks.generates:
        raise ConfigError(f"the operation {operation} answers no stream", hint="leave stream out")
    return AskedRequest(
        operation=operation,
        payload=payload,
        speaks=speaks,
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
        deep = is_deeper(body, payload, _MOST_LEVELS)
    except ValueError as error:
        raise ConfigError(f"the body of the request is not JSON: {error}", hint=_BODY) from None
    if not isinstance(payload, dict) or deep:
        found = f"nested deeper than {_MOST_LEVELS} levels" if deep else f"a {type(payload).__name__}"
        raise ConfigError(f"the body of the request is {found}, not an object", hint=_BODY)
    return payload


def _model(card: ModelCard) -> JSON:
    """Return a card in the shape of OpenAI's list of models; the card has no date."""
    return {"id": card.name, "object": "model", "created": 0, "owned_by": card.provider}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _base64(vector: list[float]) -> str:
    return base64.b64encode(array("f", vector).tobytes()).decode("ascii")


def status_of(error: WorkbenchError) -> int:
    """Return the HTTP status of an error."""
    status = getattr(error, "status", None)
    if isinstance(status, int) and status >= 400:
        return status
    return next(status for kind, status in _STATUS if isinstance(error, kind))


def wire_error(error: WorkbenchError) -> bytes:
    """Return an error as the JSON of OpenAI's errors."""
    import orjson

    kind = type(error).__name__
    fields = {"message": str(error), "type": kind, "code": status_of(error), "param": None}
    return orjson.dumps({"error": fields})


async def whole_answer(caller: Caller, asked: AskedRequest) -> JSON:
    """Return the whole answer of a request, on the background loop."""
    async with aclosing(caller.handler(caller.call(asked))) as events:  # type: ignore[type-var]
        return asked.speaks.fold([event async for event in events])


def error_headers(error: WorkbenchError) -> dict[str, str]:
    """Return the headers of an error's response, which tell the client not to retry, and when it could."""
    headers = {"content-type": "application/json", "x-should-retry": "false"}
    if isinstance(error, RateLimitedError) and error.retry_after_s is not None:
        headers["retry-after"] = f"{error.retry_after_s:g}"
    return headers


def first_event(event: Event | None) -> Event:
    """Return the first event, awaited before the response so that an early error has its own status."""
    if event is None:
        raise UnavailableError("the stream ended without an event", hint="repeat the call")
    return event
