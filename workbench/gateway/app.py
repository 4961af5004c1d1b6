"""The ASGI app of the gateway: its routes, who may use each, and what a request leaves in log and metrics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from starlette.routing import Route, Router

from workbench.errors import NotFoundError, RefusedError
from workbench.gateway import service_routes
from workbench.gateway.access_log import AccessLog
from workbench.gateway.exchange import GatewayExchange, Receive, Scope, Send
from workbench.gateway.failures import answer_failed, public
from workbench.gateway.gateway import Gateway, Stated
from workbench.gateway.memory_routes import answer_memories, answer_memory
from workbench.gateway.metrics import GatewayMetrics
from workbench.gateway.native_routes import answer_native
from workbench.gateway.openai_routes import ROOT, answer_openai
from workbench.gateway.provider_secrets import answer_secrets
from workbench.gateway.verbs import answer_verbs
from workbench.identities.grants import Grant
from workbench.models.client_routes import GOVERNED, MODELS, begins
from workbench.remote.protocol import CALLS
from workbench.workspace.gateway_process import SECRETS_ROUTE
from workbench.workspace.gateway_verbs import ROUTE as VERBS

App = Callable[[Scope, Receive, Send], Awaitable[None]]
Answer = Callable[[GatewayExchange], Awaitable[None]]
_EXCHANGE: Final = "workbench.exchange"
#: What is written to the metrics for a method that no route has.
_METHODS: Final = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})


def make_app(gateway: Gateway, *, metrics: GatewayMetrics | None = None, log: AccessLog | None = None) -> App:
    """Return the ASGI app of a gateway; with `log`, each request leaves a line there."""
    return _GatewayApp(gateway, metrics or GatewayMetrics(), log)


class _GatewayApp:
    """Answers each request by its route, and notes what came of it."""

    def __init__(self, gateway: Gateway, metrics: GatewayMetrics, log: AccessLog | None) -> None:
        self._gateway, self._metrics, self._log = gateway, metrics, log
        routes = self._routes()
        self._router = Router(routes=routes, default=_unknown, redirect_slashes=False)
        #: Routes by their whole path, so that the most frequent ones are found at once.
        self._exact = {route.path: route.app for route in routes if "{" not in route.path}
        self._exact |= {f"{ROOT}{path}": routes[-1].app for _, path in GOVERNED}

    def _routes(self) -> list[Route]:
        gateway = self._gateway
        ready = service_routes.Readiness(gateway)
        table: Mapping[str, Mapping[str, Answer]] = {
            "/health": {"GET": service_routes.answer_health},
            "/ready": {"GET": ready.answer},
            "/metrics": {"GET": lambda exchange: service_routes.answer_metrics(exchange, self._metrics)},
            "/openapi.json": {"GET": service_routes.answer_openapi},
            "/docs": {"GET": service_routes.answer_docs},
            "/v1/memories": {"GET": self._served(answer_memories)},
            "/v1/memories/{name}/{verb}": dict.fromkeys(("GET", "POST"), self._served(answer_memory)),
            CALLS: {"POST": self._granted(answer_native)},
            f"{VERBS}{{name}}": {"POST": self._granted(answer_verbs)},
            SECRETS_ROUTE: {"POST": lambda exchange: answer_secrets(gateway, exchange)},
            "/workbench/v1/session": {"GET": self._granted(service_routes.answer_session)},
        }
        routes = [Route(path, _Methods(gateway, path, by_method)) for path, by_method in table.items()]
        return [
            *routes,
            Route("/v1/{path:path}", _Methods(gateway, "/v1", None, self._served(answer_openai))),
        ]

    def _granted(self, answer: Callable[[Gateway, GatewayExchange, Grant], Awaitable[None]]) -> Answer:
        """Return what answers a request of an identified caller."""

        async def answered(exchange: GatewayExchange) -> None:
            grant = await self._gateway.grant(exchange.header(b"authorization"))
            exchange.key = grant.api_key or grant.kind
            await answer(self._gateway, exchange, grant)

        return answered

    def _served(self, answer: Callable[[Gateway, GatewayExchange, Any], Awaitable[None]]) -> Answer:
        """Return what answers a request of an identified caller to one use case."""

        async def entered(gateway: Gateway, exchange: GatewayExchange, grant: Grant) -> None:
            async with gateway.entered(grant, stated_by(exchange)) as caller:
                await answer(gateway, exchange, caller)

        return self._granted(entered)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise RuntimeError(f"the gateway serves HTTP, not {scope['type']}")
        exchange = GatewayExchange(scope, receive, send)
        began = time.perf_counter()
        self._metrics.begin()
        try:
            exchange.check_head()
            scope["path"], scope[_EXCHANGE] = exchange.path, exchange
            await self._exact.get(exchange.path, self._router)(scope, receive, send)
        except asyncio.CancelledError:
            if not exchange.left:
                raise
        except Exception as error:
            failed = public(error, self._gateway.root)
            if not exchange.started:
                await answer_failed(exchange, failed)
            elif not exchange.is_finished:
                raise
        finally:
            self._note(exchange, time.perf_counter() - began)

    def _note(self, exchange: GatewayExchange, seconds: float) -> None:
        """Note a request in metrics and access log: by its route, because a path may hold names."""
        method = exchange.method if exchange.method in _METHODS else "OTHER"
        status = 499 if exchange.left and not exchange.started else exchange.status
        self._metrics.end(
            route=exchange.route, method=method, status=status, seconds=seconds, left=exchange.left
        )
        if self._log is not None:
            self._log.add(
                method=method, route=exchange.route, status=status, seconds=seconds, key=exchange.key,
                left=exchange.left,
            )  # fmt: skip


class _Methods:
    """The ASGI app of one route: what answers each method."""

    def __init__(
        self,
        gateway: Gateway,
        route: str,
        by_method: Mapping[str, Answer] | None,
        other: Answer | None = None,
    ) -> None:
        self._gateway, self._route, self._by_method, self._other = gateway, route, by_method, other

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's
        exchange: GatewayExchange = scope[_EXCHANGE]
        exchange.route = self._route
        known = self._by_method or {}
        answer = known.get("GET" if exchange.method == "HEAD" else exchange.method, self._other)
        if answer is None:
            raise RefusedError(
                f"this route has no method {exchange.method[:20]}",
                hint=f"it has {', '.join(known)}",
                status=405,
            )
        await answer(exchange)


def stated_by(exchange: GatewayExchange) -> Stated:
    """Return what the path and the headers of a request state; raise RefusedError when they disagree."""
    named = exchange.stated("use-case")
    if named and exchange.use_case and named != exchange.use_case:
        raise RefusedError("path and header name two use cases", hint="name one of them", status=400)
    return Stated(
        use_case=exchange.use_case or named,
        tenant=exchange.stated("tenant"),
        purpose=exchange.stated("purpose"),
        session=exchange.stated("session"),
        subject=exchange.stated("subject"),
    )


async def _unknown(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - ASGI's signature
    is_short = any(begins(scope["path"], path) for path in (MODELS, *(path for _, path in GOVERNED)))
    hint = "the base_url of a client ends in /v1" if is_short else "GET /openapi.json lists the routes"
    raise NotFoundError("the gateway has no such route", hint=hint)
