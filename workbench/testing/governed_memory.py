"""Put a memory store behind the controls, for tests: each verb is a call that passes them."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.context import Context
from workbench.controls import stack
from workbench.controls.access import Access
from workbench.controls.observe import Observe
from workbench.controls.retry import Retry, RetryPolicy
from workbench.identity import Principal
from workbench.ports import Call, Control, Handler, MemoryStore, MemoryVerbs, Query, Requester
from workbench.records.log import Lines
from workbench.testing.fakes import FakeClock
from workbench.types import Event

OpenStore = Callable[[Path], MemoryStore]
CALLS = "calls.jsonl"


def governed(open_store: OpenStore) -> OpenStore:
    """Wrap `open_store` so that every verb passes the controls; the log of calls is beside the store."""
    return functools.partial(_open, open_store)


def _open(open_store: OpenStore, path: Path) -> MemoryStore:
    return GovernedStore(inner=open_store(path), log=Lines(path.parent / CALLS))


@dataclass(frozen=True, slots=True, kw_only=True)
class GovernedStore:
    """A store whose views send every verb through a memory's controls; implements `ports.MemoryStore`."""

    inner: MemoryStore
    log: Lines
    clock: FakeClock = field(default_factory=FakeClock)

    @property
    def name(self) -> str:
        """The memory's name."""
        return self.inner.name

    def tenant(self, tenant: str) -> GovernedMemory:
        """Return one tenant's view."""
        self.inner.tenant(tenant)
        controls: dict[str, Control] = {
            "observe": Observe(self.log),
            "access": Access(timeless=True),  # a test sets the time of its calls
            "retry": Retry(RetryPolicy(attempts=2)),
        }
        return GovernedMemory(store=self, tenant=tenant, handler=stack.fold(controls, self._leaf))

    async def tenants(self) -> list[str]:
        """Return the tenants that have items, sorted."""
        return await self.inner.tenants()

    async def aclose(self) -> None:
        """Close the store."""
        await self.inner.aclose()

    async def _leaf(self, call: Call) -> AsyncIterator[Event]:
        verb = getattr(self.inner.tenant(call.context.tenant), call.operation)
        yield Event(data=await verb(**call.payload))


@dataclass(frozen=True, slots=True, kw_only=True)
class GovernedMemory(MemoryVerbs):
    """One tenant's view; the payload of a call is the verb's arguments by name."""

    store: GovernedStore
    tenant: str
    handler: Handler = field(repr=False)

    async def _invoke(self, verb: str, arguments: dict[str, Any]) -> Any:
        call = Call(
            port="memory",
            operation=verb,
            target=self.store.name,
            payload=arguments,
            context=Context(
                use_case="contract",
                tenant=self.tenant,
                principal=_who(arguments.get("query") or arguments.get("requester")),
                purpose="test",
                clock=self.store.clock,
            ),
        )
        async with aclosing(self.handler(call)) as events:  # type: ignore[type-var]
            (answer,) = [event.data async for event in events]
        return answer


def _who(requester: Requester | Query | None) -> Principal:
    """Return an admin with the groups and the clearance of the requester."""
    if requester is None:
        return Principal(name="tester", admin=True)
    return Principal(name="tester", groups=requester.groups, clearance=requester.clearance, admin=True)
