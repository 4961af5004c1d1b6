"""A memory without a store: plain dictionaries, the truth that stores are compared with."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from workbench import config, files
from workbench.memory import checks, ranking, rules
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


class _Tenant:
    """All of one tenant: knowledge by version, what is staged, what was written by use, what holds keep.

    `archive` is what only versions that are no longer kept would hold, were it not under a hold.
    """

    def __init__(self) -> None:
        self.version = 0
        self.knowledge: dict[int, dict[str, Item]] = {}
        self.at: dict[int, str] = {}
        self.staged: dict[str, Item] = {}
        self.episodic: dict[str, Item] = {}
        self.snapshot_store: dict[str, Item] = {}
        self.holds: set[Selector] = set()

    def shelves(self) -> Iterator[dict[str, Item]]:
        """Every dictionary that holds items."""
        yield from (*self.knowledge.values(), self.staged, self.episodic, self.snapshot_store)

    def stored(self) -> dict[str, Item]:
        """All items there are, by id."""
        return {one: item for shelf in self.shelves() for one, item in shelf.items()}

    def documents(self, version: int | None = None) -> dict[str, Item]:
        """The knowledge of a version, or of the one in force."""
        if version in {None, self.version}:
            return self.knowledge.get(self.version, {})
        checks.check_kept(version, self.knowledge)
        return self.knowledge[version]

    def in_force(self, version: int | None = None) -> dict[str, Item]:
        """What can be found: the knowledge of a version, and what was written by use."""
        return self.documents(version) | self.episodic

    def held(self, item: Item) -> bool:
        """Whether any hold covers the item."""
        return any(rules.chosen(item, what, now="") for what in self.holds)

    def remove(self, ids: Collection[str]) -> None:
        """Take items away from everywhere."""
        for shelf in self.shelves():
            for one in shelf.keys() & set(ids):
                del shelf[one]

    def check(self, batch: Sequence[Item]) -> None:
        """ConfigError when the items do not fit those that are there."""
        there = self.stored()
        for item in batch:
            known = next(iter(there.values()), None)
            if known is not None:
                checks.check_embedding(item, embedding=known.embedding, dimensions=len(known.vector))
            if item.id in there:
                checks.check_stored(item, source=there[item.id].source, kind=there[item.id].kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeStore:
    """A memory in this process, for all its tenants; implements `ports.MemoryStore`."""

    name: str
    by_tenant: dict[str, _Tenant] = field(default_factory=dict)

    def tenant(self, tenant: str) -> FakeMemory:
        """One tenant's view."""
        config.check_tenant(tenant)
        return FakeMemory(store=self, tenant=tenant)

    async def tenants(self) -> list[str]:
        """Tenants that have items, sorted."""
        return sorted(name for name, state in self.by_tenant.items() if state.stored())

    async def aclose(self) -> None:
        """Nothing to give back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeMemory:
    """One tenant's view of a `FakeStore`; implements `ports.Memory`.

    No verb awaits anything, so that each happens whole on the loop it runs on.
    """

    store: FakeStore
    tenant: str

    @property
    def _state(self) -> _Tenant:
        return self.store.by_tenant.setdefault(self.tenant, _Tenant())

    async def add(self, items: Iterable[Item], *, now: str = "") -> Added:
        """Stage what is given and publish it with the documents in force of other sources."""
        batch = checks.checked_items(items, knowledge=True)
        sources = {item.source for item in batch}
        others = [one for one, item in self._state.documents().items() if item.source not in sources]
        await self.stage(batch)
        return await self.publish([*others, *(item.id for item in batch)], now=now)

    async def missing(self, ids: Sequence[str]) -> list[str]:
        """Those of `ids` that are neither in force nor staged, in the order given."""
        there = self._state.in_force() | self._state.staged
        return [one for one in ids if one not in there]

    async def stage(self, items: Iterable[Item]) -> int:
        """Keep documents aside for the next version; how many were new."""
        batch, state = checks.checked_items(items, knowledge=True), self._state
        state.check(batch)
        there = state.in_force() | state.staged
        new = {item.id: item for item in batch if item.id not in there}
        state.staged.update(new)
        return len(new)

    async def publish(self, ids: Sequence[str], *, now: str = "") -> Added:
        """Put the version in force that holds exactly these documents; what else was staged goes."""
        state = self._state
        before = state.documents()
        there = state.staged | before
        checks.check_published(len(set(ids) - there.keys()), len(set(ids)))
        after = {one: there[one] for one in sorted(set(ids))}
        state.staged = {}
        if after.keys() != before.keys():
            state.version += 1
            state.knowledge[state.version] = after
            state.at[state.version] = now
        both = len(after.keys() & before.keys())
        return Added(
            added=len(after) - both, unchanged=both, replaced=len(before) - both, version=state.version
        )

    async def remember(
        self, items: Iterable[Item], *, budget: Budget, now: str, while_there: Sequence[str] = ()
    ) -> Remembered:
        """Write episodic items, then evict until the budget holds."""
        batch, state = checks.checked_items(items, knowledge=False), self._state
        wanted = set(while_there)
        checks.check_there(len(wanted - state.in_force().keys()), len(wanted))
        state.check(batch)
        new = {item.id: item for item in batch if item.id not in state.episodic}
        after = state.episodic | new
        held = {one for one, item in after.items() if state.held(item)}
        evicted = [item.id for item in rules.evicted(list(after.values()), budget, held=held, now=now)]
        state.episodic = {one: item for one, item in after.items() if one not in evicted}
        return Remembered(added=len(new), unchanged=len(batch) - len(new), evicted=tuple(evicted))

    async def search(self, query: Query) -> list[Hit]:
        """At most `k` hits that the requester may see and that are valid, best first."""
        checks.check_query(query)
        state = self._state
        items = state.in_force(query.version)
        if not query.groups or not items:
            return []
        checks.check_dimensions(query, len(next(iter(items.values())).vector))
        seen = [item for item in items.values() if rules.visible(item, query)]
        depth = max(query.k, query.candidates)
        near = {item.id: _product(item.vector, query.vector) for item in seen}
        rankings = {"vector": _ranked(near, depth), "words": _ranked(_bm25(seen, query.text), depth)}
        asked = list(rankings.values()) if query.mode == "hybrid" else [rankings[query.mode]]
        version = state.version if query.version is None else query.version
        return [
            rules.hit(
                items[one], query, score=score, memory=self.store.name, version=version, tenant=self.tenant
            )
            for one, score in ranking.fuse(asked, k=query.k)
        ]

    async def count(self, ids: Sequence[str] | None = None, *, requester: Requester | None = None) -> int:
        """Items in force that the requester sees, or how many of `ids` are."""
        there = {item.id for item in await self.items(requester=requester)}
        return len(there if ids is None else there & set(ids))

    async def items(self, version: int | None = None, *, requester: Requester | None = None) -> list[Item]:
        """Items in force, or in an earlier version, that the requester sees, in the order of their ids."""
        there = self._state.in_force(version)
        return [there[one] for one in sorted(there) if rules.readable(there[one], requester)]

    async def forget(self, what: Selector, *, now: str = "", dry_run: bool = False) -> Forgotten:
        """Remove items, and what was derived from them, from every version at once."""
        checks.check_selector(what, now=now)
        state = self._state
        stored = state.stored()
        chosen = {one for one, item in stored.items() if rules.chosen(item, what, now=now)}
        held = {one for one in chosen if state.held(stored[one])}
        gone = chosen - held
        derived, kept = _derived(stored, gone, state)
        if not dry_run:
            state.remove(gone | derived)
        return Forgotten(
            items=len(gone | derived),
            derived=len(derived),
            ids=tuple(sorted(gone | derived)),
            kept=tuple(sorted(held | kept)),
        )

    async def hold(self, what: Selector) -> int:
        """Put ids, a subject or a source under legal hold, later items too; how many there are now."""
        checks.check_selector(what, now="", hold=True)
        self._state.holds.add(_named(what))
        return self._meant(what)

    async def release(self, what: Selector) -> int:
        """End a hold, named as it was made; how many items it held."""
        checks.check_selector(what, now="", hold=True)
        if _named(what) not in self._state.holds:
            return 0
        self._state.holds.remove(_named(what))
        return self._meant(what)

    async def purge(self, *, now: str, keep_versions: int) -> Purged:
        """Remove what has expired, and what only versions that are no longer kept hold."""
        checks.check_selector(Selector(expired=True), now=now)
        state = self._state
        old = [number for number in state.knowledge if number <= state.version - max(keep_versions, 1)]
        for number in old:
            state.snapshot_store |= state.knowledge.pop(number)
            del state.at[number]
        everything = state.stored()
        expired = {one for one, item in everything.items() if item.expires and item.expires <= now}
        living = {one for shelf in state.shelves() if shelf is not state.snapshot_store for one in shelf}
        outdated = state.snapshot_store.keys() - living - expired
        held = {one for one in expired | outdated if state.held(everything[one])}
        state.remove((expired | outdated) - held)
        # Also what is staged again: the next version need not want it.
        state.snapshot_store = {one: item for one, item in state.snapshot_store.items() if state.held(item)}
        return Purged(expired=len(expired - held), outdated=len(outdated - held), held=len(held))

    async def versions(self) -> list[MemoryVersion]:
        """Versions that can still be asked for, oldest first; the last is in force."""
        state = self._state
        return [
            MemoryVersion(
                number=number, at=state.at[number], items=len(items), content=files.digest(sorted(items))
            )
            for number, items in sorted(state.knowledge.items())
        ]

    async def stats(self, *, now: str) -> MemoryStats:
        """What there is, counted."""
        state = self._state
        there, stored = state.in_force(), state.stored()
        one = next(iter(stored.values()), None)
        return MemoryStats(
            store="fake",
            tenant=self.tenant,
            version=state.version,
            items=len(there),
            stored=len({each for shelf in state.shelves() if shelf is not state.staged for each in shelf}),
            staged=len(state.staged),
            expired=sum(1 for item in there.values() if item.expires and item.expires <= now),
            held=sum(1 for item in stored.values() if state.held(item)),
            by_kind=dict(Counter(item.kind for item in there.values())),
            embedding=one.embedding if one else None,
            dimensions=len(one.vector) if one else None,
        )

    def _meant(self, what: Selector) -> int:
        return sum(1 for item in self._state.stored().values() if rules.chosen(item, what, now=""))


def _named(what: Selector) -> Selector:
    """A hold is the same whatever the order of its ids."""
    return what if what.ids is None else replace(what, ids=tuple(sorted(set(what.ids))))


def _derived(stored: Mapping[str, Item], gone: set[str], state: _Tenant) -> tuple[set[str], set[str]]:
    """What goes only because a parent goes, and what holds keep of it; what is kept lets nothing go."""
    derived: set[str] = set()
    kept: set[str] = set()
    while True:
        children = {
            one
            for one, item in stored.items()
            if not (gone | derived).isdisjoint(item.parents) and one not in gone | derived | kept
        }
        if not children:
            return derived, kept
        kept |= {one for one in children if state.held(stored[one])}
        derived |= children - kept


def _ranked(scores: Mapping[str, float], depth: int) -> list[str]:
    return sorted(scores, key=lambda one: (-round(scores[one], ranking.DECIMALS), one))[:depth]


def _product(left: Sequence[float], right: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _bm25(items: Sequence[Item], text: str) -> dict[str, float]:
    """BM25 with k1 = 1.2, b = 0.75 (Robertson and Zaragoza, 2009) over titles and texts."""
    bags = {item.id: Counter(_words(f"{item.title} {item.text}")) for item in items}
    mean = sum(map(Counter.total, bags.values())) / len(bags) if bags else 0.0
    scores: dict[str, float] = {}
    for word in set(_words(text)):
        having = [one for one, bag in bags.items() if word in bag]
        idf = max(1e-6, math.log((len(bags) - len(having) + 0.5) / (len(having) + 0.5)))
        for one in having:
            often, length = bags[one][word], bags[one].total()
            weight = often * 2.2 / (often + 1.2 * (0.25 + 0.75 * length / mean))
            scores[one] = scores.get(one, 0.0) + idf * weight
    return scores
