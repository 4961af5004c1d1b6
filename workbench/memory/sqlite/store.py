"""The embedded store: one SQLite file a memory, FTS5 keyword search and exact vectors, fused.

Every tenant has rows of its own, a keyword index of its own (so that no other tenant's words weigh in
its scores) and a matrix of its own, kept in memory until the tenant's change counter moves. A verb's whole
work is one transaction, done in a thread.
"""

from __future__ import annotations

import asyncio
import functools
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from workbench.memory import rules
from workbench.memory.cipher import IdCipher
from workbench.memory.sqlite import keywords, migration, retention, tables
from workbench.memory.sqlite import versions as sqlite_versions
from workbench.memory.sqlite.database import Database
from workbench.memory.sqlite.tables import IN_VERSION, NAMED_IN_VERSION, Space
from workbench.memory.vectors import Vectors
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
from workbench.types import KNOWLEDGE, Hit, Item

T = TypeVar("T")


class SQLiteStore:
    """One memory in one file, for all its tenants; implements `ports.MemoryStore`.

    `path` None keeps it in this process's memory. `cipher` gives the key for a file of schema 2, whose ids
    are encrypted: it is decrypted once, when it is opened.
    """

    def __init__(self, path: Path | None, *, name: str, cipher: Callable[[], IdCipher] | None = None) -> None:
        self.name = name
        upgrade = functools.partial(migration.decrypt_ids, cipher=cipher) if cipher else None
        self.database = Database(path, upgrade=upgrade)
        # Used inside transactions alone, which the database lets happen one at a time.
        self._matrices: dict[str, tuple[Space, Vectors]] = {}
        self._earlier: dict[str, tuple[Space, int, sqlite3.Connection]] = {}

    def tenant(self, tenant: str) -> SQLiteMemory:
        """One tenant's view. The tenant cannot be changed afterwards."""
        rules.check_tenant(tenant)
        return SQLiteMemory(store=self, tenant=tenant)

    async def tenants(self) -> list[str]:
        """Tenants that have items, sorted."""
        return await asyncio.to_thread(self._tenants)

    async def aclose(self) -> None:
        """Close the file; closing twice is fine."""
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Close the file, from sync code."""
        self.database.close()
        for _, _, words in self._earlier.values():
            words.close()
        self._earlier, self._matrices = {}, {}

    def vectors(self, db: sqlite3.Connection, space: Space) -> Vectors:
        """The tenant's matrix as of this transaction."""
        before, held = self._matrices.get(space.tenant, (None, None))
        if held is not None and before == space:
            return held
        if held is None or before is None or before.dimensions != space.dimensions:
            held = Vectors.build([], dimensions=space.dimensions)
        # A row never changes but for its end, and its number is never given again.
        last = int(held.numbers[-1]) if held.ids else 0
        kept = held.kept(*tables.ends(db, space, last))
        vectors = kept.with_rows(tables.rows_after(db, space, last))
        self._matrices[space.tenant] = (space, vectors)
        return vectors

    def words(self, db: sqlite3.Connection, space: Space, version: int) -> tuple[sqlite3.Connection, int]:
        """The keyword index of a version: its connection and its key there."""
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
        """Put documents in force in place of what their sources had, in one transaction."""
        batch = rules.checked_items(items, knowledge=True)
        return await self._write(lambda db, space: sqlite_versions.add(db, space, batch, now))

    async def missing(self, ids: Sequence[str]) -> list[str]:
        """Those of `ids` that are neither in force nor staged, in the order given."""
        return await self._read(lambda db, space: sqlite_versions.missing(db, space, ids))

    async def stage(self, items: Iterable[Item]) -> int:
        """Make documents a part of the next version, in one transaction; how many were new."""
        batch = rules.checked_items(items, knowledge=True)
        if not batch:
            return 0
        return await self._write(lambda db, space: sqlite_versions.stage(db, space, batch))

    async def publish(self, ids: Sequence[str], *, now: str = "") -> Added:
        """Put the version in force that holds exactly these documents, in one transaction."""
        return await self._write(lambda db, space: sqlite_versions.publish(db, space, ids, now))

    async def remember(
        self, items: Iterable[Item], *, budget: Budget, now: str, while_there: Sequence[str] = ()
    ) -> Remembered:
        """Write episodic items and evict until the budget holds, in one transaction."""
        batch, wanted = rules.checked_items(items, knowledge=False), set(while_there)

        def written(db: sqlite3.Connection, space: Space) -> Remembered:
            rules.check_there(len(wanted) - tables.in_force(db, space, wanted), len(wanted))
            return retention.remember(db, space, batch, budget=budget, now=now)

        return await self._write(written)

    async def search(self, query: Query) -> list[Hit]:
        """At most `k` hits that the requester may see and that are valid, best first."""
        rules.check_query(query)
        if not query.groups:
            return []
        return await self._read(lambda db, space: self._found(db, space, query))

    async def count(self, ids: Sequence[str] | None = None, *, requester: Requester | None = None) -> int:
        """Items in force that the requester sees, or how many of `ids` are."""

        def counted(db: sqlite3.Connection, space: Space) -> int:
            if ids is None:
                seen, bound = tables.readable(requester)
                query = f"SELECT count(*) FROM items WHERE {IN_VERSION} AND {seen}"
                return tables.number(db, query, space.bound | bound)
            return tables.in_force(db, space, ids, requester=requester)

        return await self._read(counted)

    async def items(self, version: int | None = None, *, requester: Requester | None = None) -> list[Item]:
        """Items in force, or in an earlier version, that the requester sees, in the order of their ids."""
        return await asyncio.to_thread(self.all_items, version, requester=requester)

    async def forget(self, what: Selector, *, now: str = "", dry_run: bool = False) -> Forgotten:
        """Remove items, and what was derived from them, from the file to the byte.

        Freed pages are overwritten (`secure_delete`), the keyword index is rewritten and the log
        emptied. Forgetting the same again repeats the last two.
        """
        return await asyncio.to_thread(self.forget_now, what, now=now, dry_run=dry_run)

    async def hold(self, what: Selector) -> int:
        """Put ids, a subject or a source under legal hold; how many items there are now."""
        rules.check_selector(what, now="", hold=True)
        return await self._write(lambda db, space: retention.hold(db, space, what))

    async def release(self, what: Selector) -> int:
        """End a hold, named as it was made; how many items it held."""
        rules.check_selector(what, now="", hold=True)
        return await self._write(lambda db, space: retention.release(db, space, what))

    async def purge(self, *, now: str, keep_versions: int) -> Purged:
        """Remove what has expired, and what only older versions hold, from the file to the byte."""
        rules.check_selector(Selector(expired=True), now=now)
        done = await self._write(
            lambda db, space: retention.purge(db, space, now=now, keep_versions=keep_versions)
        )
        await asyncio.to_thread(self.store.database.erase_deleted)
        return done

    async def versions(self) -> list[MemoryVersion]:
        """Versions that can still be asked for, oldest first; the last is in force."""
        return await self._read(sqlite_versions.versions)

    async def stats(self, *, now: str) -> MemoryStats:
        """What there is, counted."""

        def counted(db: sqlite3.Connection, space: Space) -> MemoryStats:
            pages = tables.number(db, "PRAGMA page_count")
            size = pages * tables.number(db, "PRAGMA page_size")
            facts = {"exact": True, "bytes": size, "sqlite": sqlite3.sqlite_version}
            numbers = retention.counted(db, space, now)
            return MemoryStats(store="sqlite", tenant=self.tenant, facts=facts, **numbers)

        return await self._read(counted)

    def all_items(self, version: int | None = None, *, requester: Requester | None = None) -> list[Item]:
        """`items`, from sync code."""

        def found(db: sqlite3.Connection, space: Space) -> list[Item]:
            asked = tables.version_asked(db, space, version)
            seen, bound = tables.readable(requester)
            bound = space.bound | bound | {"version": asked}
            return tables.items_where(db, space, f"{IN_VERSION} AND {seen}", bound, vectors=True)

        return self._reading(found)

    def forget_now(self, what: Selector, *, now: str = "", dry_run: bool = False) -> Forgotten:
        """`forget`, from sync code."""
        rules.check_selector(what, now=now)
        transaction = self._reading if dry_run else self._writing
        done = transaction(lambda db, space: retention.forget(db, space, what, now=now, dry_run=dry_run))
        if not dry_run:
            self.store.database.erase_deleted()
        return done

    def load(self, items: Iterable[Item], *, version: int) -> None:
        """Fill an empty tenant: its documents are in force as `version`, the rest was written by use."""
        given = list(items)
        documents = rules.checked_items((one for one in given if one.kind == KNOWLEDGE), knowledge=True)
        others = rules.checked_items((one for one in given if one.kind != KNOWLEDGE), knowledge=False)
        self._writing(lambda db, space: sqlite_versions.load(db, space, documents, others, version))

    def _found(self, db: sqlite3.Connection, space: Space, query: Query) -> list[Hit]:
        version = tables.version_asked(db, space, query.version)
        vectors = self.store.vectors(db, space)
        if not vectors.ids:
            return []
        seen = vectors.seen(query, version)
        depth = max(query.k, query.candidates)
        rankings: list[list[str]] = []
        if query.mode != "words":
            rules.check_dimensions(query, space.dimensions)
            rankings.append(vectors.nearest(query, seen, depth))
        if query.mode != "vector":
            words, key = self.store.words(db, space, version)
            ranked = keywords.ranking(words, key, query.text, vectors=vectors, seen=seen, depth=depth)
            rankings.append(ranked)
        best = rules.fuse(rankings, k=query.k)
        bound = space.bound | {"version": version, "values": tables.listed(one for one, _ in best)}
        found = tables.items_where(db, space, NAMED_IN_VERSION, bound, vectors=False)
        items = {item.id: item for item in found}
        return [
            rules.hit(
                items[one], query, score=score, memory=self.store.name, version=version, tenant=self.tenant
            )
            for one, score in best
        ]

    async def _read(self, work: Callable[[sqlite3.Connection, Space], T]) -> T:
        return await asyncio.to_thread(self._reading, work)

    async def _write(self, work: Callable[[sqlite3.Connection, Space], T]) -> T:
        return await asyncio.to_thread(self._writing, work)

    def _reading(self, work: Callable[[sqlite3.Connection, Space], T]) -> T:
        with self.store.database.reading() as db:
            return work(db, tables.find(db, self.tenant))

    def _writing(self, work: Callable[[sqlite3.Connection, Space], T]) -> T:
        with self.store.database.writing() as db:
            return work(db, tables.make(db, self.tenant))
