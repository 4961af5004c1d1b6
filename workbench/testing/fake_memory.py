"""A memory without a store: plain dictionaries, the truth that stores are compared with."""

from __future__ import annotations

import math
import re
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from workbench.memory import rules
from workbench.memory.rows import write_tenant
from workbench.ports import Added, Query
from workbench.types import JSON, Hit, Item


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeStore:
    """A memory in this process, for all its tenants."""

    name: str
    by_tenant: dict[str, dict[str, Item]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def tenant(self, tenant: str) -> FakeMemory:
        """One tenant's view."""
        rules.check_tenant(tenant)
        return FakeMemory(store=self, tenant=tenant)

    def close(self) -> None:
        """Nothing to give back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeMemory:
    """One tenant's view of a `FakeStore`; implements `ports.Memory`."""

    store: FakeStore
    tenant: str

    def _there(self) -> dict[str, Item]:
        return self.store.by_tenant.get(self.tenant, {})

    def add(self, items: Iterable[Item]) -> Added:
        """Add what is new and drop older items of the same sources."""
        batch = rules.checked_items(items)
        given, sources = {item.id: item for item in batch}, {item.source for item in batch}
        with self.store.lock:
            there = self._there()
            if batch and there:
                one = next(iter(there.values()))
                rules.check_embedding(batch[0], embedding=one.embedding, dimensions=len(one.vector))
            for known in given.keys() & there.keys():
                rules.check_source(given[known], there[known].source)
            older = [one for one, item in there.items() if item.source in sources and one not in given]
            new = {one: item for one, item in given.items() if one not in there}
            kept = {one: item for one, item in there.items() if one not in older}
            self.store.by_tenant[self.tenant] = kept | new
        return Added(added=len(new), unchanged=len(given) - len(new), replaced=len(older))

    def search(self, query: Query) -> list[Hit]:
        """At most `k` hits the groups may see and that are valid, best first."""
        rules.check_query(query)
        items = self._there()
        if not items:
            return []
        rules.check_dimensions(query, len(next(iter(items.values())).vector))
        seen = [item for item in items.values() if rules.visible(item, query)]
        depth = max(query.k, query.candidates)
        near = {item.id: _cosine(item.vector, query.vector) for item in seen}
        words = _bm25(seen, query.text)
        best = rules.fuse([_ranked(near, depth), _ranked(words, depth)], k=query.k)
        return [self._hit(items[one], score, query.as_of) for one, score in best]

    def count(self, ids: Sequence[str] | None = None) -> int:
        """Items of this tenant, or how many of `ids` there are."""
        there = self._there()
        return len(there) if ids is None else len(there.keys() & set(ids))

    def forget(self, ids: Sequence[str]) -> int:
        """Remove items; how many there were."""
        with self.store.lock:
            there = self._there()
            kept = {one: item for one, item in there.items() if one not in set(ids)}
            self.store.by_tenant[self.tenant] = kept
        return len(there) - len(kept)

    def snapshot(self, folder: Path) -> JSON:
        """Write this tenant's items as Parquet; the manifest's entry with the logical digest."""
        return write_tenant(folder, self.tenant, list(self._there().values()))

    def _hit(self, item: Item, score: float, as_of: str) -> Hit:
        return Hit(
            id=item.id, text=item.text, source=item.source, title=item.title, version=item.version,
            score=score, tenant=self.tenant, as_of=as_of, stale=False, digest=item.source_digest,
            memory=self.store.name,
        )  # fmt: skip


def _ranked(scores: dict[str, float], depth: int) -> list[str]:
    return sorted(scores, key=lambda one: (-round(scores[one], rules.DECIMALS), one))[:depth]


def _cosine(left: Sequence[float], right: Sequence[float]) -> float:
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
