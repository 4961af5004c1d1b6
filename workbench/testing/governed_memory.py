"""A memory behind the stack: each verb is a call that real controls see, down to the store."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.context import Context
from workbench.controls import stack
from workbench.controls.access import Access
from workbench.controls.fallback import Fallback
from workbench.controls.observe import Observe
from workbench.controls.retry import Retry, RetryPolicy
from workbench.identity import Principal
from workbench.ports import (
    Added,
    Budget,
    Call,
    Control,
    Forgotten,
    Handler,
    MemoryStats,
    MemoryStore,
    MemoryVersion,
    Purged,
    Query,
    Remembered,
    Requester,
    Selector,
)
from workbench.records.log import Lines
from workbench.testing.fakes import FakeClock
from workbench.types import Event, Hit, Item

OpenStore = Callable[[Path], MemoryStore]
CALLS = "calls.jsonl"


def governed(open_store: OpenStore) -> OpenStore:
    """`open_store` for the same suite with every verb sent through the stack; its log lies beside it."""
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
        """One tenant's view."""
        self.inner.tenant(tenant)
        controls: dict[str, Control] = {
            "observe": Observe(self.log),
            "fallback": Fallback(snapshot=False),
            "access": Access(timeless=True),  # the sentences say themselves at which moment they ask
            "retry": Retry(RetryPolicy(attempts=2)),
        }
        return GovernedMemory(store=self, tenant=tenant, handler=stack.fold(controls, self._leaf))

    async def tenants(self) -> list[str]:
        """Tenants that have items, sorted."""
        return await self.inner.tenants()

    async def aclose(self) -> None:
        """Give back what the store holds."""
        await self.inner.aclose()

    async def _leaf(self, call: Call) -> AsyncIterator[Event]:
        verb = getattr(self.inner.tenant(call.context.tenant), call.operation)
        yield Event(data=await verb(**call.payload))


@dataclass(frozen=True, slots=True, kw_only=True)
class GovernedMemory:
    """One tenant's view; implements `ports.Memory`. The call's payload is the verb's arguments by name."""

    store: GovernedStore
    tenant: str
    handler: Handler = field(repr=False)

    async def _call(self, operation: str, **payload: Any) -> Any:
        call = Call(
            port="memory",
            operation=operation,
            target=self.store.name,
            payload=payload,
            context=Context(
                use_case="contract",
                tenant=self.tenant,
                principal=_who(payload.get("query") or payload.get("requester")),
                purpose="test",
                clock=self.store.clock,
            ),
        )
        async with aclosing(self.handler(call)) as events:  # type: ignore[type-var]
            (answer,) = [event.data async for event in events]
        return answer

    async def add(self, items: Iterable[Item], *, now: str = "") -> Added:
        """`Memory.add` through the stack."""
        done: Added = await self._call("add", items=items, now=now)
        return done

    async def missing(self, ids: Sequence[str]) -> list[str]:
        """`Memory.missing` through the stack."""
        done: list[str] = await self._call("missing", ids=ids)
        return done

    async def stage(self, items: Iterable[Item]) -> int:
        """`Memory.stage` through the stack."""
        done: int = await self._call("stage", items=items)
        return done

    async def publish(self, ids: Sequence[str], *, now: str = "") -> Added:
        """`Memory.publish` through the stack."""
        done: Added = await self._call("publish", ids=ids, now=now)
        return done

    async def remember(
        self, items: Iterable[Item], *, budget: Budget, now: str, while_there: Sequence[str] = ()
    ) -> Remembered:
        """`Memory.remember` through the stack."""
        payload = {"items": items, "budget": budget, "now": now, "while_there": while_there}
        done: Remembered = await self._call("remember", **payload)
        return done

    async def search(self, query: Query) -> list[Hit]:
        """`Memory.search` through the stack."""
        done: list[Hit] = await self._call("search", query=query)
        return done

    async def count(self, ids: Sequence[str] | None = None, *, requester: Requester | None = None) -> int:
        """`Memory.count` through the stack."""
        done: int = await self._call("count", ids=ids, requester=requester)
        return done

    async def items(self, version: int | None = None, *, requester: Requester | None = None) -> list[Item]:
        """`Memory.items` through the stack."""
        done: list[Item] = await self._call("items", version=version, requester=requester)
        return done

    async def forget(self, what: Selector, *, now: str = "", dry_run: bool = False) -> Forgotten:
        """`Memory.forget` through the stack."""
        done: Forgotten = await self._call("forget", what=what, now=now, dry_run=dry_run)
        return done

    async def hold(self, what: Selector) -> int:
        """`Memory.hold` through the stack."""
        done: int = await self._call("hold", what=what)
        return done

    async def release(self, what: Selector) -> int:
        """`Memory.release` through the stack."""
        done: int = await self._call("release", what=what)
        return done

    async def purge(self, *, now: str, keep_versions: int) -> Purged:
        """`Memory.purge` through the stack."""
        done: Purged = await self._call("purge", now=now, keep_versions=keep_versions)
        return done

    async def versions(self) -> list[MemoryVersion]:
        """`Memory.versions` through the stack."""
        done: list[MemoryVersion] = await self._call("versions")
        return done

    async def stats(self, *, now: str) -> MemoryStats:
        """`Memory.stats` through the stack."""
        done: MemoryStats = await self._call("stats", now=now)
        return done


def _who(requester: Requester | Query | None) -> Principal:
    """Somebody who is what a sentence asks as, and keeps the memory."""
    if requester is None:
        return Principal(name="tester", admin=True)
    return Principal(name="tester", groups=requester.groups, clearance=requester.clearance, admin=True)
