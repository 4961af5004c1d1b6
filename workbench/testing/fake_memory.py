"""Implement the memory port in plain dictionaries, as the reference for other stores."""

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
    """One tenant's knowledge by version, staged documents, episodic items and holds.

    `archived` has the items of versions that are no longer kept, which only holds keep.
    """

    def __init__(self) -> None:
        self.version = 0
        self.knowledge: dict[int, dict[str, Item]] = {}
        self.at: dict[int, str] = {}
        self.staged: dict[str, Item] = {}
        self.episodic: dict[str, Item] = {}
        self.archived: dict[str, Item] = {}
        self.holds: set[Selector] = set()

    def shelves(self) -> Iterator[dict[str, Item]]:
        """Yield every dictionary of items."""
        yield from (*self.knowledge.values(), self.staged, self.episodic, self.archived)

    def stored(self) -> dict[str, Item]:
        """Return all items by id."""
        return {key: item for shelf in self.shelves() for key, item in shelf.items()}

    def documents(self, version: int | None = None) -> dict[str, Item]:
        """Return the documents of a version, by default the active one."""
        if version in {None, self.version}:
            return self.knowledge.get(self.version, {})
        checks.check_kept(version, self.knowledge)
        return self.knowledge[version]

    def active(self, version: int | None = None) -> dict[str, Item]:
        """Return the documents of a version and the episodic items."""
        return self.documents(version) | self.episodic

    def held(self, item: Item) -> bool:
        """Return whether a hold covers the item."""
        return any(rules.chosen(item, what, now="") for what in self.holds)

    def remove(self, ids: Collection[str]) -> None:
        """Remove items from every dictionary."""
        for shelf in self.shelves():
            for key in shelf.keys() & set(ids):
                del shelf[key]

    def check(self, batch: Sequence[Item]) -> None:
        """Raise ConfigError unless the items fit the stored ones."""
        stored = self.stored()
        for item in batch:
            known = next(iter(stored.values()), None)
            if known is not None:
                checks.check_embedding(item, embedding=known.embedding, dimensions=len(known.vector))
            if item.id in stored:
                checks.check_stored(item, source=stored[item.id].source, kind=stored[item.id].kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeStore:
    """A memory in this process, for all its tenants; implements `ports.MemoryStore`."""

    name: str
    by_tenant: dict[str, _Tenant] = field(default_factory=dict)

    def tenant(self, tenant: str) -> FakeMemory:
        """Return one tenant's view."""
        config.check_tenant(tenant)
        return FakeMemory(store=self, tenant=tenant)

    async def tenants(self) -> list[str]:
        """Return the tenants that have items, sorted."""
        return sorted(name for name, state in self.by_tenant.items() if state.stored())

    async def aclose(self) -> None:
        """Close nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeMemory:
    """One tenant's view of a `FakeStore`; implements `ports.Memory`.

    No verb awaits, so each is atomic on its event loop.
    """

    store: FakeStore
    tenant: str

    @property
    def _state(self) -> _Tenant:
        return self.store.by_tenant.setdefault(self.tenant, _Tenant())

    async def add(self, items: Iterable[Item], *, now: str = "") -> Added:
        """Replace the active documents of the items' sources."""
        batch = checks.checked_items(items, knowledge=True)
        sources = {item.source for item in batch}
        others = [key for key, item in self._state.documents().items() if item.source not in sources]
        await self.stage(batch)
        return await self.publish([*others, *(item.id for item in batch)], now=now)

    async def missing(self, ids: Sequence[str]) -> list[str]:
        """Return those of `ids` that are neither active nor staged, in the order given."""
        known = self._state.active() | self._state.staged
        return [key for key in ids if key not in known]

    async def stage(self, items: Iterable[Item]) -> int:
        """Stage documents for the next version; return the number of new ones."""
        batch, state = checks.checked_items(items, knowledge=True), self._state
        state.check(batch)
        known = state.active() | state.staged
        new = {item.id: item for item in batch if item.id not in known}
        state.staged.update(new)
        return len(new)

    async def publish(self, ids: Sequence[str], *, now: str = "") -> Added:
        """Make exactly these documents the active version; remove other staged ones."""
        state = self._state
        before = state.documents()
        known = state.staged | before
        checks.check_published(len(set(ids) - known.keys()), len(set(ids)))
        after = {key: known[key] for key in sorted(set(ids))}
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
        checks.check_there(len(wanted - state.active().keys()), len(wanted))
        state.check(batch)
        new = {item.id: item for item in batch if item.id not in state.episodic}
        after = state.episodic | new
        held = {key for key, item in after.items() if state.held(item)}
        evicted = [item.id for item in rules.evicted(list(after.values()), budget, held=held, now=now)]
        state.episodic = {key: item for key, item in after.items() if key not in evicted}
        return Remembered(added=len(new), unchanged=len(batch) - len(new), evicted=tuple(evicted))

    async def search(self, query: Query) -> list[Hit]:
        """Return at most `k` valid hits that the requester may see, best first."""
        checks.check_query(query)
        state = self._state
        items = state.active(query.version)
        if rules.sees_nothing(query) or not items:
            return []
        checks.check_dimensions(query, len(next(iter(items.values())).vector))
        seen = [item for item in items.values() if rules.visible(item, query)]
        depth = max(query.k, query.candidates)
        near = {item.id: _product(item.vector, query.vector) for item in seen}
        rankings = {"vector": _ranked(near, depth), "words": _ranked(_bm25(seen, query.text), depth)}
        names = ["vector", "words"] if query.mode == "hybrid" else [query.mode]
        wanted = {name: rankings[name] for name in names}
        best = ranking.fuse(list(wanted.values()), k=query.k)
        ranks = ranking.places(wanted, [key for key, _ in best])
        version = state.version if query.version is None else query.version
        return [
            rules.hit(
                items[key], query, score=score, memory=self.store.name, version=version,
                tenant=self.tenant, ranks=ranks[key],
            )
            for key, score in best
        ]  # fmt: skip

    async def count(self, ids: Sequence[str] | None = None, *, requester: Requester | None = None) -> int:
        """Count the active items, or those of `ids`, that the requester may see."""
        seen = {item.id for item in await self.items(requester=requester)}
        return len(seen if ids is None else seen & set(ids))

    async def items(self, version: int | None = None, *, requester: Requester | None = None) -> list[Item]:
        """Return the items of a version that the requester may see, in id order."""
        active = self._state.active(version)
        return [active[key] for key in sorted(active) if rules.readable(active[key], requester)]

    async def forget(self, what: Selector, *, now: str = "", dry_run: bool = False) -> Forgotten:
        """Remove items, and the items derived from them, from every version at once."""
        checks.check_selector(what, now=now)
        state = self._state
        stored = state.stored()
        chosen = {key for key, item in stored.items() if rules.chosen(item, what, now=now)}
        held = {key for key in chosen if state.held(stored[key])}
        removed = chosen - held
        derived, kept = _derived(stored, removed, state)
        if not dry_run:
            state.remove(removed | derived)
        return Forgotten(
            items=len(removed | derived),
            derived=len(derived),
            ids=tuple(sorted(removed | derived)),
            kept=tuple(sorted(held | kept)),
        )

    async def hold(self, what: Selector) -> int:
        """Put ids, a subject or a source under legal hold; return the number covered now."""
        checks.check_selector(what, now="", hold=True)
        self._state.holds.add(_named(what))
        return self._meant(what)

    async def release(self, what: Selector) -> int:
        """End the hold made with the same selector; return the number of items it covered."""
        checks.check_selector(what, now="", hold=True)
        if _named(what) not in self._state.holds:
            return 0
        self._state.holds.remove(_named(what))
        return self._meant(what)

    async def purge(self, *, now: str, keep_versions: int) -> Purged:
        """Remove expired items, and items that no kept version holds."""
        checks.check_selector(Selector(expired=True), now=now)
        state = self._state
        old = [number for number in state.knowledge if number <= state.version - max(keep_versions, 1)]
        for number in old:
            state.archived |= state.knowledge.pop(number)
            del state.at[number]
        everything = state.stored()
        expired = {key for key, item in everything.items() if item.expires and item.expires <= now}
        living = {key for shelf in state.shelves() if shelf is not state.archived for key in shelf}
        outdated = state.archived.keys() - living - expired
        held = {key for key in expired | outdated if state.held(everything[key])}
        state.remove((expired | outdated) - held)
        # Items that are staged again too: the next version may leave them out.
        state.archived = {key: item for key, item in state.archived.items() if state.held(item)}
        return Purged(expired=len(expired - held), outdated=len(outdated - held), held=len(held))

    async def versions(self) -> list[MemoryVersion]:
        """Return the kept versions, oldest first; the last is active."""
        state = self._state
        return [
            MemoryVersion(
                number=number, at=state.at[number], items=len(items), content=files.digest(sorted(items))
            )
            for number, items in sorted(state.knowledge.items())
        ]

    async def stats(self, *, now: str) -> MemoryStats:
        """Count the tenant's items by kind and state."""
        state = self._state
        active, stored = state.active(), state.stored()
        first = next(iter(stored.values()), None)
        return MemoryStats(
            store="fake",
            tenant=self.tenant,
            version=state.version,
            items=len(active),
            stored=len({key for shelf in state.shelves() if shelf is not state.staged for key in shelf}),
            staged=len(state.staged),
            expired=sum(1 for item in active.values() if item.expires and item.expires <= now),
            held=sum(1 for item in stored.values() if state.held(item)),
            by_kind=dict(Counter(item.kind for item in active.values())),
            embedding=first.embedding if first else None,
            dimensions=len(first.vector) if first else None,
        )

    def _meant(self, what: Selector) -> int:
        return sum(1 for item in self._state.stored().values() if rules.chosen(item, what, now=""))


def _named(what: Selector) -> Selector:
    """Return the hold with its ids in one order."""
    return what if what.ids is None else replace(what, ids=tuple(sorted(set(what.ids))))


def _derived(stored: Mapping[str, Item], removed: set[str], state: _Tenant) -> tuple[set[str], set[str]]:
    """Return the derived items to remove, and those that holds keep; children of kept items stay."""
    derived: set[str] = set()
    kept: set[str] = set()
    while True:
        children = {
            key
            for key, item in stored.items()
            if not (removed | derived).isdisjoint(item.parents) and key not in removed | derived | kept
        }
        if not children:
            return derived, kept
        kept |= {key for key in children if state.held(stored[key])}
        derived |= children - kept


def _ranked(scores: Mapping[str, float], depth: int) -> list[str]:
    return sorted(scores, key=lambda key: (-round(scores[key], ranking.DECIMALS), key))[:depth]


def _product(left: Sequence[float], right: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _bm25(items: Sequence[Item], text: str) -> dict[str, float]:
    """Score titles and texts by BM25 with k1 = 1.2, b = 0.75 (Robertson and Zaragoza, 2009)."""
    bags = {item.id: Counter(_words(f"{item.title} {item.text}")) for item in items}
    mean = sum(map(Counter.total, bags.values())) / len(bags) if bags else 0.0
    scores: dict[str, float] = {}
    for word in set(_words(text)):
        having = [key for key, bag in bags.items() if word in bag]
        idf = max(1e-6, math.log((len(bags) - len(having) + 0.5) / (len(having) + 0.5)))
        for key in having:
            often, length = bags[key][word], bags[key].total()
            weight = often * 2.2 / (often + 1.2 * (0.25 + 0.75 * length / mean))
            scores[key] = scores.get(key, 0.0) + idf * weight
    return scores
