"""Put a memory store behind the controls, for tests: each verb is a call that passes them."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from workbench.context import Context
from workbench.controls import stack
from workbench.controls.access import Access
from workbench.controls.observe import Observe
from workbench.controls.policy import PolicyControl, memory_of
from workbench.controls.retry import Retry, RetryPolicy
from workbench.identity import Principal
from workbench.policy.engine import CedarPolicy
from workbench.policy.memory_law import MemoryLaw
from workbench.ports import Call, Control, Handler, ItemFilter, MemoryStore, MemoryVerbs, Query, Requester
from workbench.ports.policy import Decision, ItemPolicy, PolicyRequest
from workbench.records.log import Lines
from workbench.testing.fakes import FakeClock
from workbench.types import Event, Item

OpenStore = Callable[[Path], MemoryStore]
CALLS = "calls.jsonl"
_POLICIES = CedarPolicy.builtin()
_BUILTIN = MemoryLaw(lambda: _POLICIES)


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
        return GovernedMemory(store=self, tenant=tenant, handler=self.under(_BUILTIN))

    def under(self, law: ItemPolicy) -> Handler:
        """Return the controls around the store, with a law of its items."""
        controls: dict[str, Control] = {
            "observe": Observe(self.log),
            "policy": PolicyControl(_POLICIES, resource=memory_of),
            "access": Access(law, timeless=True),  # a test sets the time of its calls
            "retry": Retry(RetryPolicy(attempts=2)),
        }
        return stack.fold(controls, self._leaf)

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
    """One tenant's view; the payload of a call is the verb's arguments by name.

    A condition that a query or a requester names becomes the law of the call.
    """

    store: GovernedStore
    tenant: str
    handler: Handler = field(repr=False)

    async def _invoke(self, verb: str, arguments: dict[str, Any]) -> Any:
        handler, arguments = self._by_law(arguments)
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
        async with aclosing(handler(call)) as events:  # type: ignore[type-var]
            (answer,) = [event.data async for event in events]
        return answer

    def _by_law(self, arguments: dict[str, Any]) -> tuple[Handler, dict[str, Any]]:
        """Return the handler of a verb, and its arguments without a condition."""
        for name in ("query", "requester"):
            asked = arguments.get(name)
            if asked is not None and asked.where is not None:
                principal = Principal(name="tester")
                plain = replace(asked, where=None, groups=principal.grants, clearance=principal.clearance)
                return self.store.under(ConditionLaw(where=asked.where)), arguments | {name: plain}
        return self.handler, arguments


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionLaw:
    """A law that permits every action on the items for which a condition holds; implements `ItemPolicy`."""

    where: ItemFilter

    def decide(self, request: PolicyRequest) -> Decision:
        """Allow the request."""
        return Decision(id=_about(request), allowed=True)

    def permitted(self, request: PolicyRequest) -> ItemFilter:
        """Return the condition."""
        _about(request)
        return self.where

    def decide_items(self, request: PolicyRequest, items: Sequence[Item]) -> list[Decision]:
        """Allow the items for which the condition holds."""
        name = _about(request)
        return [Decision(id=f"{name} {item.id}", allowed=self.where.admits(item)) for item in items]


def _about(request: PolicyRequest) -> str:
    """Return the memory that a request is about; raise ValueError for one about another resource."""
    if request.resource.type != "Memory":
        raise ValueError(f"a law of memories is asked about a {request.resource.type}")
    return request.resource.id


def _who(requester: Requester | Query | None) -> Principal:
    """Return an admin with the groups and the clearance of the requester."""
    if requester is None:
        return Principal(name="tester", admin=True)
    return Principal(name="tester", groups=requester.groups, clearance=requester.clearance, admin=True)
