"""The routes of OpenAI's API: chat, responses, embeddings, moderations and models, streams included."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Final

import orjson

from workbench import _sync
from workbench.errors import NotFoundError, UnavailableError
from workbench.gateway.exchange import GatewayExchange, encoded
from workbench.gateway.failures import public
from workbench.gateway.gateway import Gateway, ServedCaller
from workbench.models.client_requests import AskedRequest, asked_request, first_event
from workbench.models.client_routes import MODELS, begins, operation_of
from workbench.ports import Call
from workbench.types import Event

ROOT: Final = "/v1"
_JSON: Final = (b"content-type", b"application/json")
_STREAM: Final = (
    (b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"),
)  # fmt: skip
_STOPPED: Final = "the gateway stopped before the answer ended"


async def answer_openai(gateway: Gateway, exchange: GatewayExchange, caller: ServedCaller) -> None:
    """Answer a request below `/v1` as `ws.openai()` does; raise NotFoundError for another route."""
    path = exchange.path.removeprefix(ROOT)
    if exchange.method == "GET" and begins(path, MODELS):
        exchange.route = f"{ROOT}{MODELS}"
        await exchange.whole(200, orjson.dumps(_models(caller, path)))
        return
    operation = operation_of(exchange.method, path)
    exchange.route = exchange.path
    body = await exchange.body(most=gateway.most_bytes)
    asked = asked_request(operation, body, _seconds(exchange))
    call = caller.client.call(asked)
    if asked.stream:
        with gateway.stream_of(caller.grant):
            await _answer_stream(gateway, exchange, caller, call, asked)
        return
    async with exchange.watched(), aclosing(_events(caller, call)) as events:
        answer = asked.speaks.fold([event async for event in events])
        await exchange.whole(200, asked.body(answer), (_JSON, *_traced(call)))


def _models(caller: ServedCaller, path: str) -> Any:
    """Return the list of models that the grant permits, or one of them."""
    found, scope = caller.client.models(path), caller.grant.scope
    permitted = {card.name for card in caller.client.cards() if scope.permits("model", card.reference)}
    if path == MODELS:
        return {**found, "data": [item for item in found["data"] if item["id"] in permitted]}
    if found["id"] not in permitted:
        raise NotFoundError("this key has no such model", hint="client.models.list() names its models")
    return found


async def _answer_stream(
    gateway: Gateway, exchange: GatewayExchange, caller: ServedCaller, call: Call, asked: AskedRequest
) -> None:
    """Send the events of a call as they come; an error before the first one is raised."""
    async with exchange.watched(), aclosing(_events(caller, call)) as events:
        first = first_event(await anext(events, None))
        await exchange.begin(200, (*_STREAM, *_traced(call)))
        try:
            await exchange.piece(asked.server_sent(first))
            async for event in events:
                await exchange.piece(asked.server_sent(event))
            last = asked.end()
        except Exception as error:  # noqa: BLE001 - the client gets every error of the stream, in its form
            last = asked.failed(public(error, gateway.root))
        except BaseException:
            if not exchange.left:  # the server ends
                await exchange.end(asked.failed(UnavailableError(_STOPPED, hint="ask again")))
            raise
        await exchange.end(last)


def _events(caller: ServedCaller, call: Call) -> Any:
    events: AsyncIterator[Event] = _sync.iterate_async(caller.client.handler(call))
    return events


def _traced(call: Call) -> list[tuple[bytes, bytes]]:
    """Return the header that names the call's record."""
    return encoded({"workbench-trace-id": str(call.span.facts.get("trace_id", ""))})


def _seconds(exchange: GatewayExchange) -> float | None:
    """Return the time that a client of `openai` waits for its answer, which it states; None without one."""
    text = exchange.header(b"x-stainless-timeout")
    try:
        seconds = float(text) if text else 0.0
    except ValueError:
        return None
    return seconds if 0 < seconds < 1e9 else None
