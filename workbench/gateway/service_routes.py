"""The routes about the gateway itself: health, readiness, metrics, description, and the session."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import tempfile
from typing import Any, Final

import orjson

from workbench import config
from workbench.config import Params
from workbench.errors import WorkbenchError
from workbench.gateway.description import description, page
from workbench.gateway.exchange import GatewayExchange, encoded
from workbench.gateway.gateway import Gateway, Stated
from workbench.gateway.metrics import KIND, GatewayMetrics
from workbench.identities.grants import Grant
from workbench.layout import STATE
from workbench.remote.protocol import HEADER, VERSION
from workbench.workspace.gateway_place import code_digest
from workbench.workspace.spending import Spending

_LEDGER_S: Final = 5.0
_HTML: Final = encoded(
    {
        "content-type": "text/html; charset=utf-8",
        "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
        "x-content-type-options": "nosniff",
    }
)


async def answer_health(exchange: GatewayExchange) -> None:
    """Say that the process lives."""
    await exchange.whole(200, b'{"status":"ok"}')


async def answer_metrics(exchange: GatewayExchange, metrics: GatewayMetrics) -> None:
    """Answer with the metrics in the format of Prometheus."""
    await exchange.whole(200, metrics.text(), encoded({"content-type": KIND}))


async def answer_openapi(exchange: GatewayExchange) -> None:
    """Answer with the description of the routes."""
    await exchange.whole(200, _description())


async def answer_docs(exchange: GatewayExchange) -> None:
    """Answer with the description as a page that loads nothing from elsewhere."""
    await exchange.whole(200, page().encode(), _HTML)


@functools.cache
def _description() -> bytes:
    return orjson.dumps(description())


async def answer_session(gateway: Gateway, exchange: GatewayExchange, grant: Grant) -> None:
    """Say who the caller is, what it may use, and which version answers."""
    stated = Stated(
        use_case=exchange.use_case or exchange.stated("use-case"),
        tenant=exchange.stated("tenant"),
        purpose=exchange.stated("purpose"),
    )
    async with gateway.entered(grant, stated) as caller:
        ws = caller.ws
        pinned = ws.boundary.stores.pinned()
        said: dict[str, Any] = {
            "use_case": ws.name,
            "use_cases": sorted(gateway.use_cases(grant)),
            "tenant": ws.tenant,
            "tenants": [grant.identity.tenant] if grant.identity.tenant else list(ws.use_case.tenants),
            "principal": dataclasses.asdict(ws.context.principal),
            "purpose": ws.context.purpose,
            "purposes": _listed(grant.scope.purposes),
            "models": _listed(grant.scope.models),
            "memories": _listed(grant.scope.memories),
            "kind": grant.kind,
            "api_key": grant.api_key,
            "expires": grant.identity.expires,
            "confinement": grant.scope.confinement,
            "snapshot": pinned.digest if pinned else None,
            "protocol": VERSION,
            "code": await asyncio.to_thread(code_digest),
        }
        head = encoded({"content-type": "application/json", HEADER: VERSION})
        await exchange.whole(200, orjson.dumps(said), head)


def _listed(names: frozenset[str] | None) -> list[str] | None:
    return None if names is None else sorted(names)


class Readiness:
    """Whether the gateway can answer: valid parameters, a writable state, a ledger that answers."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._spending: tuple[Params, Spending] | None = None

    async def answer(self, exchange: GatewayExchange) -> None:
        """Answer 200 when all checks pass, else 503; what failed is named without a path or a name."""
        checks = {
            "params": self._params(),
            "state": await asyncio.to_thread(self._state),
            "ledger": await self._ledger(),
        }
        ready = all(found.startswith("ok") for found in checks.values())
        body = {"status": "ready" if ready else "not ready", "checks": checks}
        await exchange.whole(200 if ready else 503, orjson.dumps(body))

    def _params(self) -> str:
        if self._gateway.is_stale:
            return "ok: the last valid files are served, and those of now are not valid: workbench check"
        return "ok"

    def _state(self) -> str:
        folder = self._gateway.root / STATE
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"ready")
        except OSError as error:
            return f"the state cannot be written: {error.strerror}"
        return "ok"

    async def _ledger(self) -> str:
        params = config.load_params(self._gateway.root)
        if not params.budgets:
            return "ok: no budget is declared"
        try:
            if self._spending is None or self._spending[0] is not params:
                self._spending = params, Spending(self._gateway.root)
            async with asyncio.timeout(_LEDGER_S):
                await self._spending[1].ledger.known()
        except (WorkbenchError, TimeoutError) as error:
            return f"the ledger of budgets does not answer: {type(error).__name__}"
        return "ok"
