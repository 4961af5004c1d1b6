"""Memories for tests that are not async: each verb is the port's, waited for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from workbench import _sync
from workbench.ports import (
    Added,
    Budget,
    Forgotten,
    Memory,
    MemoryStats,
    MemoryStore,
    MemoryVersion,
    Purged,
    Query,
    Remembered,
    Requester,
    Selector,
)
from workbench.types import Hit, Item


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncMemory:
    """The verbs of `ports.Memory`, each waited for."""

    inner: Memory

    @property
    def tenant(self) -> str:
        """Whose items these are."""
        return self.inner.tenant

    def add(self, items: Iterable[Item], *, now: str = "") -> Added:
        """`Memory.add`."""
        return _sync.run(self.inner.add(items, now=now))

    def missing(self, ids: Sequence[str]) -> list[str]:
        """`Memory.missing`."""
        return _sync.run(self.inner.missing(ids))

    def stage(self, items: Iterable[Item]) -> int:
        """`Memory.stage`."""
        return _sync.run(self.inner.stage(items))

    def publish(self, ids: Sequence[str], *, now: str = "") -> Added:
        """`Memory.publish`."""
        return _sync.run(self.inner.publish(ids, now=now))

    def remember(
        self, items: Iterable[Item], *, budget: Budget, now: str, while_there: Sequence[str] = ()
    ) -> Remembered:
        """`Memory.remember`."""
        return _sync.run(self.inner.remember(items, budget=budget, now=now, while_there=while_there))

    def search(self, query: Query) -> list[Hit]:
        """`Memory.search`."""
        return _sync.run(self.inner.search(query))

    def count(self, ids: Sequence[str] | None = None, *, requester: Requester | None = None) -> int:
        """`Memory.count`."""
        return _sync.run(self.inner.count(ids, requester=requester))

    def items(self, version: int | None = None, *, requester: Requester | None = None) -> list[Item]:
        """`Memory.items`."""
        return _sync.run(self.inner.items(version, requester=requester))

    def forget(self, what: Selector, *, now: str = "", dry_run: bool = False) -> Forgotten:
        """`Memory.forget`."""
        return _sync.run(self.inner.forget(what, now=now, dry_run=dry_run))

    def hold(self, what: Selector) -> int:
        """`Memory.hold`."""
        return _sync.run(self.inner.hold(what))

    def release(self, what: Selector) -> int:
        """`Memory.release`."""
        return _sync.run(self.inner.release(what))

    def purge(self, *, now: str, keep_versions: int) -> Purged:
        """`Memory.purge`."""
        return _sync.run(self.inner.purge(now=now, keep_versions=keep_versions))

    def versions(self) -> list[MemoryVersion]:
        """`Memory.versions`."""
        return _sync.run(self.inner.versions())

    def stats(self, *, now: str) -> MemoryStats:
        """`Memory.stats`."""
        return _sync.run(self.inner.stats(now=now))


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncStore:
    """The verbs of `ports.MemoryStore`, each waited for."""

    inner: MemoryStore

    def tenant(self, tenant: str) -> SyncMemory:
        """`MemoryStore.tenant`."""
        return SyncMemory(inner=self.inner.tenant(tenant))

    def tenants(self) -> list[str]:
        """`MemoryStore.tenants`."""
        return _sync.run(self.inner.tenants())

    def close(self) -> None:
        """`MemoryStore.aclose`."""
        _sync.run(self.inner.aclose())
