"""The embedded store: one SQLite file for each memory, with fused keyword and exact vector search.

Every tenant has its own rows, its own keyword index (so that no other tenant's words change its scores) and
its own matrix, cached in memory until the tenant's change counter moves. Each verb is one transaction, run
in a thread.
"""

from __future__ import annotations

import asyncio
import functools
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from workbench import config
from workbench.memory import checks, ranking, rules
from workbench.memory.cipher import IdCipher
from workbench.memory.sqlite import filtering, keywords, migration, retention, tables
from workbench.memory.sqlite import versions as sqlite_versions
from workbench.memory.sqlite.database import Database
from workbench.memory.sqlite.escaping import listed
from workbench.memory.sqlite.space import Space, find, make, number, version_asked
from workbench.memory.sqlite.tables import IN_VERSION, NAMED_IN_VERSION
from workbench.memory.vectors import Vectors
from workbench.ports import (
    Added,
    Budget,
    Forgotten,
    ItemFilter,
    MemoryStats,
    MemoryVersion,
    Purged,
    Query,
    Remembered,
    Requester,
    Selector,
)
from workbench.types import KNOWLEDGE, Hit, Item

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")
#: Masks of conditions that a store keeps, the least recently used one goes first.
_MASKS = 64


class SQLiteStore:
    """One memory in one file, for all its tenants; implements `ports.MemoryStore`.

    `path` None keeps it in this process's memory. `cipher` returns the key of a file of schema 2, whose ids
    are encrypted; opening the file decrypts it once.
    """

    def __init__(self, path: Path | None, *, name: str, cipher: Callable[[], IdCipher] | None = None) -> None:
        self.name = name
        upgrade = functools.partial(migration.decrypt_ids, cipher=cipher) if cipher else None
        self.database = Database(path, upgrade=upgrade)
        # Used inside transactions only, which the database runs one at a time.
        self._matrices: dict[str, tuple[Space, Vectors]] = {}
        self._earlier: dict[str, tuple[Space, int, sqlite3.Connection]] = {}
        self._masks: dict[tuple[str, ItemFilter], tuple[Space, NDArray[np.bool_]]] = {}

    def tenant(self, tenant: str) -> SQLiteMemory:
        """Return one tenant's view; ConfigError for an invalid tenant name."""
        config.check_tenant(tenant)
        return SQLiteMemory(store=self, tenant=tenant)

    async def tenants(self) -> list[str]:
        """Return the tenants that have items, sorted."""
        return await asyncio.to_thread(self._tenants)

    async def aclose(self) -> None:
        """Close the file; closing twice is fine."""
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Close the file, from sync code."""
        self.database.close()
        for _, _, words in self._earlier.values():
            words.close()
        self._earlier, self._matrices, self._masks = {}, {}, {}

    def vectors(self, db: sqlite3.Connection, space: Space) -> Vectors:
        """Return the tenant's matrix as of this transaction."""
        before, held = self._matrices.get(space.tenant, (None, None))
        if held is not None and before == space:
            return held
        if held is None or before is None or before.dimensions != space.dimensions:
            held = Vectors.build([], dimensions=space.dimensions)
        # Only the end of a row changes, and its number is never reused.
        last = int(held.numbers[-1]) if held.ids else 0
        kept = held.kept(*tables.ends(db, space, last))
        vectors = kept.with_rows(tables.rows_after(db, space, last))
        self._matrices[space.tenant] = (space, vectors)
        return vectors

    def permitted(
        self, db: sqlite3.Connection, space: Space, vectors: Vectors, where: ItemFilter | None
    ) -> NDArray[np.bool_] | None:
        """Return the mask of the matrix for a condition, None without one; kept until the tenant changes."""
        if where is None:
            return None
        before, held = self._masks.pop((space.tenant, where), (None, None))
        if held is None or before != space:
            held = filtering.mask(db, space, vectors, where)
        if len(self._masks) >= _MASKS:
            del self._masks[next(iter(self._masks))]
        self._masks[space.tenant, where] = (space, held)
        return held

    def words(self, db: sqlite3.Connection, space: Space, version: int) -> tuple[sqlite3.Connection, int]:
        """Return the keyword index of a version: its connection and its key."""
        if version == space.version:
            return db, space.key
        held = self._earlier.get(space.tenant)
        if held and held[:2] == (space, version):
            return held[2], 0
        query = f"SELECT number, title, text FROM items WHERE {IN_VERSION} ORDER BY number"
        words = keywords.aside(db.execute(query, space.bound | {"version": version}))
        if held:
            held[2].close()
        self._earlier[space.tenant] = (space, version, words)
        return words, 0

    def _tenants(self) -> list[str]:
        query = "SELECT tenant FROM tenants WHERE key IN (SELECT tenant FROM items) ORDER BY tenant"
        with self.database.reading() as db:
            return [row[0] for row in db.execute(query)]


@dataclass(frozen=True, slots=True, kw_only=True)
class SQLiteMemory:
    """One tenant's view of a `SQLiteStore`; implements `ports.Memory`."""

    store: SQLiteStore
    tenant: str

    async def add(self, items: Iterable[Item], *, now: str = "") -> Added:
        """Replace the active documents of the items' sources, in one transaction."""
        batch = checks.checked_items(items, knowledge=True)
        return await self._write(lambda db, space: sqlite_versions.add(db, space, batch, now))

    async def missing(self, ids: Sequence[str]) -> list[str]:
        """Return those of `ids` that are neither active nor staged, in the order given."""
        return await self._read(lambda db, space: sqlite_versions.missing(db, space, ids))

    async def stage(self, items: Iterable[Item]) -> int:
        """Stage documents for the next version, in one transaction; return the number of new ones."""
        batch = checks.checked_items(items, knowledge=True)
        if not batch:
            return 0
        return await self._write(lambda db, space: sqlite_versions.stage(db, space, batch))

    async def publish(self, ids: Sequence[str], *, now: str = "") -> Added:
        """Make exactly these documents the active version, in one transaction."""
        return await self._write(lambda db, space: sqlite_versions.publish(db, space, ids, now))

    async def remember(
        self, items: Iterable[Item], *, budget: Budget, now: str, while_there: Sequence[str] = ()
    ) -> Remembered:
        """Write episodic items and evict until the budget holds, in one transaction."""
        batch, wanted = checks.checked_items(items, knowledge=False), set(while_there)

        def written(db: sqlite3.Connection, space: Space) -> Remembered:
            checks.check_there(len(wanted) - tables.count_active(db, space, wanted), len(wanted))
            return retention.remember(db, space, batch, budget=budget, now=now)

        return await self._write(written)

    async def search(self, query: Query) -> list[Hit]:
        """Return at most `k` valid hits that the requester may see, best first."""
        checks.check_query(query)
        if rules.sees_nothing(query):
            return []
        return await self._read(lambda db, space: self._found(db, space, query))

    async def count(self, ids: Sequence[str] | None = None, *, requester: Requester | None = None) -> int:
        """Count the active items, or those of `ids`, that the requester may see."""

        def counted(db: sqlite3.Connection, space: Space) -> int:
            if ids is None:
                seen, bound = tables.readable(requester)
                query = f"SELECT count(*) FROM items WHERE {IN_VERSION} AND {seen}"
                return number(db, query, space.bound | bound)
            return tables.count_active(db, space, ids, requester=requester)

        return await self._read(counted)

    async def items(self, version: int | None = None, *, requester: Requester | None = None) -> list[Item]:
        """Return the items of a version (None: the active one) that the requester may see, in id order."""
        return await asyncio.to_thread(self.all_items, version, requester=requester)

    async def forget(self, what: Selector, *, now: str = "", dry_run: bool = False) -> Forgotten:
        """Remove items and the items derived from them, and erase their bytes from the file.

        Freed pages are overwritten (`secure_delete`), the keyword index is rewritten and the log is
        emptied. A second call for the same items repeats the last two.
        """
        return await asyncio.to_thread(self.forget_now, what, now=now, dry_run=dry_run)

    async def hold(self, what: Selector) -> int:
        """Put ids, a subject or a source under legal hold; return the number of items covered now."""
        checks.check_selector(what, now="", hold=True)
        return await self._write(lambda db, space: retention.hold(db, space, what))

    async def release(self, what: Selector) -> int:
        """End the hold made with the same selector; return the number of items it covered."""
        checks.check_selector(what, now="", hold=True)
        return await self._write(lambda db, space: retention.release(db, space, what))

    async def purge(self, *, now: str, keep_versions: int) -> Purged:
        """Remove expired items and items of older versions, and erase their bytes from the file."""
        checks.check_selector(Selector(expired=True), now=now)
        done = await self._write(
            lambda db, space: retention.purge(db, space, now=now, keep_versions=keep_versions)
        )
        await asyncio.to_thread(self.store.database.erase_deleted)
        return done

    async def versions(self) -> list[MemoryVersion]:
        """Return the kept versions, oldest first; the last is active."""
        return await self._read(sqlite_versions.versions)

    async def stats(self, *, now: str) -> MemoryStats:
        """Count the tenant's items by kind and state."""

        def counted(db: sqlite3.Connection, space: Space) -> MemoryStats:
            pages = number(db, "PRAGMA page_count")
            size = pages * number(db, "PRAGMA page_size")
            facts = {"exact": True, "bytes": size, "sqlite": sqlite3.sqlite_version}
            numbers = retention.counted(db, space, now)
            return MemoryStats(store="sqlite", tenant=self.tenant, facts=facts, **numbers)

        return await self._read(counted)

    def all_items(self, version: int | None = None, *, requester: Requester | None = None) -> list[Item]:
        """Do the same as `items`, from sync code."""

        def found(db: sqlite3.Connection, space: Space) -> list[Item]:
            asked = version_asked(db, space, version)
            seen, bound = tables.readable(requester)
            bound = space.bound | bound | {"version": asked}
            return tables.items_where(db, space, f"{IN_VERSION} AND {seen}", bound, vectors=True)

        return self._reading(found)

    def forget_now(self, what: Selector, *, now: str = "", dry_run: bool = False) -> Forgotten:
        """Do the same as `forget`, from sync code."""
        checks.check_selector(what, now=now)
        transaction = self._reading if dry_run else self._writing
        done = transaction(lambda db, space: retention.forget(db, space, what, now=now, dry_run=dry_run))
        if not dry_run:
            self.store.database.erase_deleted()
        return done

    def load(self, items: Iterable[Item], *, version: int) -> None:
        """Fill an empty tenant with documents, active as `version`, and episodic items."""
        given = list(items)
        documents = checks.checked_items((item for item in given if item.kind == KNOWLEDGE), knowledge=True)
        others = checks.checked_items((item for item in given if item.kind != KNOWLEDGE), knowledge=False)
        self._writing(lambda db, space: sqlite_versions.load(db, space, documents, others, version))

    def _found(self, db: sqlite3.Connection, space: Space, query: Query) -> list[Hit]:
        version = version_asked(db, space, query.version)
        vectors = self.store.vectors(db, space)
        if not vectors.ids:
            return []
        permitted = self.store.permitted(db, space, vectors, query.where)
        seen = vectors.seen(query, version, permitted)
        depth = max(query.k, query.candidates)
        rankings: dict[str, list[str]] = {}
        if query.mode != "words":
            checks.check_dimensions(query, space.dimensions)
            rankings["vector"] = vectors.nearest(query, seen, depth)
        if query.mode != "vector":
            words, key = self.store.words(db, space, version)
            ranked = keywords.ranking(words, key, query.text, vectors=vectors, seen=seen, depth=depth)
            rankings["words"] = ranked
        best = ranking.fuse(list(rankings.values()), k=query.k)
        ranks = ranking.places(rankings, [name for name, _ in best])
        bound = space.bound | {"version": version, "values": listed(name for name, _ in best)}
        found = tables.items_where(db, space, NAMED_IN_VERSION, bound, vectors=False)
        items = {item.id: item for item in found}
        return [
            rules.hit(
                items[name], query, score=score, memory=self.store.name, version=version,
                tenant=self.tenant, ranks=ranks[name],
            )
            for name, score in best
        ]  # fmt: skip

    async def _read(self, work: Callable[[sqlite3.Connection, Space], T]) -> T:
        return await asyncio.to_thread(self._reading, work)

    async def _write(self, work: Callable[[sqlite3.Connection, Space], T]) -> T:
        return await asyncio.to_thread(self._writing, work)

    def _reading(self, work: Callable[[sqlite3.Connection, Space], T]) -> T:
        with self.store.database.reading() as db:
            return work(db, find(db, self.tenant))

    def _writing(self, work: Callable[[sqlite3.Connection, Space], T]) -> T:
        with self.store.database.writing() as db:
            return work(db, make(db, self.tenant))
