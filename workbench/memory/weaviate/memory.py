"""Implement the port of one tenant's memory on a Weaviate server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.errors import RefusedError
from workbench.memory import checks, rules
from workbench.memory.weaviate import filters, retention, schema, versions
from workbench.memory.weaviate.repair import repair_index
from workbench.memory.weaviate.search import Search
from workbench.memory.weaviate.space import TenantSpace, is_active, of_version
from workbench.memory.weaviate.table import StoredRow
from workbench.memory.weaviate.tenant_record import TenantRecord
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

Found = tuple[StoredRow, Item, float, Mapping[str, int]]
#: Searches that start again because the active version moved while they ran.
_ATTEMPTS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class WeaviateMemory(TenantSpace):
    """One tenant's view of a `WeaviateStore`; implements `ports.Memory`."""

    async def add(self, items: Iterable[Item], *, now: str = "") -> Added:
        """Activate documents in place of what their sources had, as one version."""
        batch = checks.checked_items(items, knowledge=True)
        if not batch and await self.record() is None:
            return Added(added=0, unchanged=0, replaced=0)
        async with self._writing() as record:
            return await versions.add(self, record, batch, now)

    async def missing(self, ids: Sequence[str]) -> list[str]:
        """Return the ids that are neither active nor staged, in the order given."""
        record = await self.record()
        return await versions.missing(self, record, ids) if record else list(ids)

    async def stage(self, items: Iterable[Item]) -> int:
        """Make documents a part of the next version, durably; return how many were new."""
        batch = checks.checked_items(items, knowledge=True)
        if not batch:
            return 0
        async with self._writing() as record:
            _, new = await versions.stage(self, record, batch)
            return new

    async def publish(self, ids: Sequence[str], *, now: str = "") -> Added:
        """Activate the version that holds exactly these documents."""
        async with self._writing() as record:
            return await versions.publish(self, record, ids, now)

    async def remember(
        self, items: Iterable[Item], *, budget: Budget, now: str, while_there: Sequence[str] = ()
    ) -> Remembered:
        """Write episodic items, then evict until the budget holds."""
        batch, wanted = checks.checked_items(items, knowledge=False), set(while_there)
        async with self._writing() as record:
            if wanted:
                checks.check_there(len(wanted) - await self.count(list(wanted)), len(wanted))
            return await retention.remember(self, record, batch, budget=budget, now=now)

    async def search(self, query: Query) -> list[Hit]:
        """Return at most `k` valid hits that the requester may see, best first."""
        checks.check_query(query)
        if rules.sees_nothing(query):
            return []
        current = await self._current()
        if not versions.is_kept(current, query.version):  # another handle may have activated it meanwhile
            current = await self.record()
        for _ in range(_ATTEMPTS):
            record = current
            found, current = await self._search(query, record)
            if _same(record, current) and all(self._fits(query, row, current) for row in found):
                return self._hits(query, found, current)
        return self._hits(query, found, record)  # writers did not pause: every condition was in the query

    async def count(self, ids: Sequence[str] | None = None, *, requester: Requester | None = None) -> int:
        """Return the number of active items that the requester sees, or of those among `ids`."""
        if (record := await self.record()) is None:
            return 0
        properties = schema.BRIEF if requester is None else schema.ALL
        if ids is not None:
            rows = await self.table.named("item", map(self.encrypt, ids), properties=properties)
        elif self._restarted(record):  # a repair may hold a row twice
            rows = await self.table.rows(properties=properties)
        else:
            seen = filters.readable(requester, version=record.version, encrypt=self.encrypt)
            return 0 if seen is None else await self.table.count(seen)
        found = of_version(rows, record.version).values()
        return sum(requester is None or rules.readable(self.item(row), requester) for row in found)

    async def items(self, version: int | None = None, *, requester: Requester | None = None) -> list[Item]:
        """Return the items of a version, the active one by default, that the requester sees, sorted by id."""
        if (record := await self.record()) is None:
            return []
        number = versions.kept_version(record, version)
        rows = await self.table.rows(properties=schema.ALL, vectors=True)
        found = map(self.item, of_version(rows, number).values())
        return sorted((item for item in found if rules.readable(item, requester)), key=lambda item: item.id)

    async def forget(self, what: Selector, *, now: str = "", dry_run: bool = False) -> Forgotten:
        """Remove items, and what was derived from them, from every version at once.

        No verb finds them afterwards. Their bytes stay in the server's files until it compacts them.
        """
        checks.check_selector(what, now=now)
        if await self.record() is None:
            return Forgotten(items=0)
        async with self._writing() as record:
            return await retention.forget(self, record, what, now=now, dry_run=dry_run)

    async def hold(self, what: Selector) -> int:
        """Put ids, a subject or a source under legal hold; return how many items it covers now."""
        checks.check_selector(what, now="", hold=True)
        async with self._writing() as record:
            return await retention.hold(self, record, what)

    async def release(self, what: Selector) -> int:
        """End a hold, named as it was made; return how many items it covered."""
        checks.check_selector(what, now="", hold=True)
        async with self._writing() as record:
            return await retention.release(self, record, what)

    async def purge(self, *, now: str, keep_versions: int) -> Purged:
        """Remove what has expired, and what only older versions hold."""
        checks.check_selector(Selector(expired=True), now=now)
        if await self.record() is None:
            return Purged(expired=0, outdated=0)
        async with self._writing() as record:
            return await retention.purge(self, record, now=now, keep_versions=keep_versions)

    async def versions(self) -> list[MemoryVersion]:
        """Return the kept versions, oldest first; the last is the active one."""
        record = await self.record()
        return versions.listed(record) if record else []

    async def stats(self, *, now: str) -> MemoryStats:
        """Count what the memory holds."""
        record = await self.record() or TenantRecord(name="")
        rows = await retention.counted(self, record, now) if record.name else _NOTHING
        return MemoryStats(store="weaviate", tenant=self.tenant, facts=self._facts(), **rows)

    @contextlib.asynccontextmanager
    async def _writing(self) -> AsyncIterator[TenantRecord]:
        """Take the tenant's lock, and give its record, which is made when missing."""
        async with self.store.locks.writing(self.table.tenant):
            record, term = await self.record(), self.store.connection.term
            if record is None:
                await self.store.make_tenant(self.table.tenant)
                record = TenantRecord(
                    name=self.store.names.encrypt("", self.tenant), term=self.store.connection.term
                )
                await self.write_record(record)
            yield await repair_index(self, record, term) if self._restarted(record) else record

    def _restarted(self, record: TenantRecord) -> bool:
        """Return whether the server has started since the tenant's index was known to be complete."""
        return self.store.connection.term not in {0, record.term}

    async def _current(self) -> TenantRecord | None:
        """Return the last record read, after a repair of the index when the server has restarted."""
        await self.store.connection.client()  # notices a restart after a failure
        record = self.last_record or await self.record()
        if record is not None and self._restarted(record):
            with contextlib.suppress(RefusedError):  # a key that only reads finds what the index has
                async with self._writing() as record:
                    return record
        return record

    async def _search(
        self, query: Query, record: TenantRecord | None
    ) -> tuple[list[Found], TenantRecord | None]:
        """Search by a record; return what is found, and the record as it is afterwards."""
        version = versions.kept_version(record, query.version)
        if record is None or not record.embedding:
            return [], await self.record()
        if len(query.vector) != record.dimensions:
            if await self.table.count():
                checks.check_dimensions(query, record.dimensions)
            return [], await self.record()
        search = Search(space=self, query=query, version=version)
        # The record is read after the rankings, so that it is of the moment at which rows were ranked.
        return await asyncio.gather(search.best(await search.rankings()), self.record())

    def _fits(self, query: Query, found: Found, record: TenantRecord | None) -> bool:
        """Return whether a row is still what the query asks for: it may have been written again meanwhile."""
        row, item, *_ = found
        version = versions.kept_version(record, query.version)
        return is_active(row.properties, version) and rules.visible(item, query)

    def _hits(self, query: Query, found: Sequence[Found], record: TenantRecord | None) -> list[Hit]:
        version, memory = versions.kept_version(record, query.version), self.store.name
        return [
            rules.hit(
                item, query, score=score, memory=memory, version=version, tenant=self.tenant, ranks=ranks
            )
            for row, item, score, ranks in found
            if is_active(row.properties, version)
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


def _same(before: TenantRecord | None, after: TenantRecord | None) -> bool:
    """Return whether a search by one record is a search by the other."""
    if before is None or after is None:
        return before is after
    return (before.version, before.embedding) == (after.version, after.embedding)


_NOTHING: dict[str, Any] = {
    "version": 0, "items": 0, "stored": 0, "staged": 0, "expired": 0, "held": 0, "by_kind": {},
    "embedding": None, "dimensions": None,
}  # fmt: skip
