"""One tenant's view of a memory in Weaviate: every verb of the port, each an outline of its work."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from workbench.errors import RefusedError
from workbench.memory import rules
from workbench.memory.weaviate import filters, retention, schema, versions
from workbench.memory.weaviate.repair import mend
from workbench.memory.weaviate.search import Search, in_force, of_version
from workbench.memory.weaviate.table import Row, Table
from workbench.memory.weaviate.tenant_record import Control
from workbench.ports import (
    Added,
    Budget,
    Forgotten,
    MemoryStats,
    MemoryVersion,
    Purged,
    Query,
    Remembered,
    Requester,
    Selector,
)
from workbench.types import Hit, Item

if TYPE_CHECKING:
    from workbench.memory.weaviate.store import WeaviateStore

Found = tuple[Row, Item, float]
#: How often a search begins again because the version in force moved while it ran.
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class WeaviateMemory:
    """One tenant's view of a `WeaviateStore`; implements `ports.Memory`."""

    store: WeaviateStore
    tenant: str
    table: Table
    records: Table

    async def add(self, items: Iterable[Item], *, now: str = "") -> Added:
        """Put documents in force in place of what their sources had, as one version."""
        batch = rules.checked_items(items, knowledge=True)
        if not batch and await self._record() is None:
            return Added(added=0, unchanged=0, replaced=0)
        async with self._writing() as record:
            return await versions.add(self, record, batch, now)

    async def missing(self, ids: Sequence[str]) -> list[str]:
        """Those of `ids` that are neither in force nor staged, in the order given."""
        record = await self._record()
        return await versions.missing(self, record, ids) if record else list(ids)

    async def stage(self, items: Iterable[Item]) -> int:
        """Make documents a part of the next version, durably; how many were new."""
        batch = rules.checked_items(items, knowledge=True)
        if not batch:
            return 0
        async with self._writing() as record:
            _, new = await versions.stage(self, record, batch)
            return new

    async def publish(self, ids: Sequence[str], *, now: str = "") -> Added:
        """Put the version in force that holds exactly these documents."""
        async with self._writing() as record:
            return await versions.publish(self, record, ids, now)

    async def remember(
        self, items: Iterable[Item], *, budget: Budget, now: str, while_there: Sequence[str] = ()
    ) -> Remembered:
        """Write episodic items, then evict until the budget holds."""
        batch, wanted = rules.checked_items(items, knowledge=False), set(while_there)
        async with self._writing() as record:
            if wanted:
                rules.check_there(len(wanted) - await self.count(list(wanted)), len(wanted))
            return await retention.remember(self, record, batch, budget=budget, now=now)

    async def search(self, query: Query) -> list[Hit]:
        """At most `k` hits that the asker may see and that are valid, best first."""
        rules.check_query(query)
        if not query.groups:
            return []
        record = await self._current()
        if not versions.is_kept(record, query.version):  # another handle may have put it in force meanwhile
            record = await self._record()
        for _ in range(_ATTEMPTS):
            found, current = await self._once(query, record, None)
            if _same(record, current) and all(self._fits(query, one, current) for one in found):
                return self._hits(query, found, current)
            record = current
        # Written all the time: one more, with every condition stated.
        found, current = await self._once(query, record, filters.CONDITIONS)
        return self._hits(query, found, record)

    async def count(self, ids: Sequence[str] | None = None, *, requester: Requester | None = None) -> int:
        """Items in force that the asker sees, or how many of `ids` are."""
        if (record := await self._record()) is None:
            return 0
        brief = schema.BRIEF if requester is None else schema.ALL
        if ids is not None:
            rows = await self.table.named("item", map(self.encrypt, ids), properties=brief)
        elif self._restarted(record):  # while its index is mended a row may be there twice
            rows = await self.table.rows(properties=brief)
        else:
            seen = filters.readable(requester, version=record.version)
            return 0 if seen is None else await self.table.count(seen)
        found = of_version(rows, record.version).values()
        return len(found) if requester is None else len([row for row in found if self._reads(row, requester)])

    async def items(self, version: int | None = None, *, requester: Requester | None = None) -> list[Item]:
        """Items in force, or in an earlier version, that the asker sees, in the order of their ids."""
        if (record := await self._record()) is None:
            return []
        number = versions.kept(record, version)
        rows = await self.table.rows(properties=schema.ALL, vectors=True)
        found = map(self.item, of_version(rows, number).values())
        return sorted((item for item in found if rules.readable(item, requester)), key=lambda item: item.id)

    async def forget(self, what: Selector, *, now: str = "", dry_run: bool = False) -> Forgotten:
        """Remove items, and what was derived from them, from every version at once.

        Nothing finds them any more. Their bytes stay in the server's files until it compacts them.
        """
        rules.check_selector(what, now=now)
        if await self._record() is None:
            return Forgotten(items=0)
        async with self._writing() as record:
            return await retention.forget(self, record, what, now=now, dry_run=dry_run)

    async def hold(self, what: Selector) -> int:
        """Put ids, a subject or a source under legal hold; how many items there are now."""
        rules.check_selector(what, now="", hold=True)
        async with self._writing() as record:
            return await retention.hold(self, record, what)

    async def release(self, what: Selector) -> int:
        """End a hold, named as it was made; how many items it held."""
        rules.check_selector(what, now="", hold=True)
        async with self._writing() as record:
            return await retention.release(self, record, what)

    async def purge(self, *, now: str, keep_versions: int) -> Purged:
        """Remove what has expired, and what only older versions hold."""
        rules.check_selector(Selector(expired=True), now=now)
        if await self._record() is None:
            return Purged(expired=0, outdated=0)
        async with self._writing() as record:
            return await retention.purge(self, record, now=now, keep_versions=keep_versions)

    async def versions(self) -> list[MemoryVersion]:
        """Versions that can still be asked for, oldest first; the last is in force."""
        record = await self._record()
        return versions.listed(record) if record else []

    async def stats(self, *, now: str) -> MemoryStats:
        """What there is, counted."""
        record = await self._record() or Control(name="")
        rows = await retention.counted(self, record, now) if record.name else _NOTHING
        return MemoryStats(store="weaviate", tenant=self.tenant, facts=self._facts(), **rows)

    def encrypt(self, name: str) -> str:
        """A name of this tenant as the server holds it."""
        return self.store.names.encrypt(self.tenant, name)

    def decrypt(self, name: str) -> str:
        """A name of this tenant as it was given."""
        return self.store.names.decrypt(self.tenant, name)

    def item(self, row: Row) -> Item:
        """The item of a row with all its properties."""
        return schema.item_of(row.properties, row.vector, tenant=self.tenant, names=self.store.names)

    def _reads(self, row: Row, requester: Requester) -> bool:
        return rules.readable(self.item(row), requester)

    async def save(self, record: Control, **changes: Any) -> Control:
        """Replace the tenant's record with one in which these fields are changed."""
        fresh = replace(record, writes=record.writes + 1, **changes)
        await self.store.save(self, fresh)
        return fresh

    async def _record(self) -> Control | None:
        return await self.store.record(self)

    @contextlib.asynccontextmanager
    async def _writing(self) -> AsyncIterator[Control]:
        """Alone with the tenant, whose record is made when missing."""
        async with self.store.locks.writing(self.table.tenant):
            record = await self._record()
            if record is None:
                await self.store.make_tenant(self.table.tenant)
                term = self.store.connection.term
                record = Control(name=self.store.names.encrypt("", self.tenant), term=term)
                await self.store.save(self, record)
            yield await mend(self, record, self.store.connection.term) if self._restarted(record) else record

    def _restarted(self, record: Control) -> bool:
        """Whether the server has started since the tenant's index was known to be whole."""
        return self.store.connection.term not in {0, record.term}

    async def _current(self) -> Control | None:
        """The last record seen, after what a crash took out of the index was put back."""
        await self.store.connection.client()  # which knows of a restart after a failure
        record = self.store.seen.get(self.table.tenant) or await self._record()
        if record is not None and self._restarted(record):
            with contextlib.suppress(RefusedError):  # a key that only reads finds what there is
                async with self._writing() as record:
                    return record
        return record

    async def _once(
        self, query: Query, record: Control | None, conditions: frozenset[str] | None
    ) -> tuple[list[Found], Control | None]:
        """What is found by a record, and the record as it was meanwhile."""
        version = versions.kept(record, query.version)
        if record is None or not record.embedding:
            return [], await self._record()
        if len(query.vector) != record.dimensions:
            if await self.table.count():
                rules.check_dimensions(query, record.dimensions)
            return [], await self._record()
        earlier = {"versions"} if version != record.version else set()
        stated = record.stated | earlier if conditions is None else conditions
        search = Search(memory=self, query=query, version=version, conditions=stated)
        # The record is read after the search, so that it is of the moment to which the search belongs.
        return await asyncio.gather(search.best(await search.rankings()), self._record())

    def _fits(self, query: Query, found: Found, record: Control | None) -> bool:
        """Whether a row is what was asked for; not so when it was written after the record was read."""
        row, item, _ = found
        return in_force(row.properties, versions.kept(record, query.version)) and rules.visible(item, query)

    def _hits(self, query: Query, found: Sequence[Found], record: Control | None) -> list[Hit]:
        version, memory = versions.kept(record, query.version), self.store.name
        return [
            rules.hit(item, query, score=score, memory=memory, version=version, tenant=self.tenant)
            for row, item, score in found
            if in_force(row.properties, version)
        ]

    def _facts(self) -> dict[str, Any]:
        index = self.store.index
        return {
            "server": self.store.connection.version,
            "exact_below": index.flat_cutoff,
            "ef": index.ef,
            "ef_construction": index.ef_construction,
            "max_connections": index.max_connections,
            "server_ttl": index.ttl,
        }


def _same(one: Control | None, other: Control | None) -> bool:
    """Whether a search by one record is a search by the other."""
    if one is None or other is None:
        return one is other
    return (one.version, one.conditions, one.embedding) == (other.version, other.conditions, other.embedding)


_NOTHING: dict[str, Any] = {
    "version": 0, "items": 0, "stored": 0, "staged": 0, "expired": 0, "held": 0, "by_kind": {},
    "embedding": None, "dimensions": None,
}  # fmt: skip
