"""Search in one tenant: two rankings fetched apart, at once, and fused as every store does."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.memory import rules
from workbench.memory.stems import stems, words_of
from workbench.memory.vectors import inner_products
from workbench.memory.weaviate import filters, schema
from workbench.memory.weaviate.table import MOST, Properties, Row
from workbench.ports import Query
from workbench.types import Item

if TYPE_CHECKING:
    from weaviate.collections.classes.filters import FilterReturn

    from workbench.memory.weaviate.memory import WeaviateMemory

#: Two scores that round to the same differ by less than 1e-4; float32 sums err by far less than the rest.
_MARGIN = 2e-4
#: What is fetched beyond the depth at first, for those that tie with the last.
_BEYOND = 32
Ranking = list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """One query in one version of one tenant, with the conditions that its rows may fail."""

    memory: WeaviateMemory
    query: Query
    version: int
    conditions: frozenset[str]

    async def best(self) -> list[tuple[uuid.UUID, float]]:
        """Keys and scores of the best rows, best first."""
        where = filters.visible(self.query, version=self.version, conditions=self.conditions)
        if where is None:
            return []
        places: dict[str, uuid.UUID] = {}
        wanted = []
        if self.query.mode != "words":
            wanted.append(self._exact(where, places) if self.query.exact else self._nearest(where, places))
        if self.query.mode != "vector":
            wanted.append(self._words(where, places))
        rankings = await asyncio.gather(*wanted)
        # Opening a sealed name takes longer than fusing: only the names of those that tie are opened.
        fused = rules.fuse(rankings, k=max(1, sum(map(len, rankings))))
        last = fused[self.query.k - 1][1] if len(fused) >= self.query.k else 0.0
        ordered = sorted((-score, self._open(one), one) for one, score in fused if score >= last)
        return [(places[one], -score) for score, _, one in ordered[: self.query.k]]

    async def rows(self, best: Sequence[tuple[uuid.UUID, float]]) -> list[tuple[Row, Item, float]]:
        """Those rows with their items and scores, as far as they are still there; without vectors."""
        rows = {row.uuid: row for row in await self.memory.table.by_uuid([place for place, _ in best])}
        return [(rows[place], self._item(rows[place]), score) for place, score in best if place in rows]

    @property
    def _depth(self) -> int:
        return min(max(self.query.k, self.query.candidates), MOST)

    def _item(self, row: Row) -> Item:
        names = self.memory.store.names
        return schema.item_of(row.properties, (), tenant=self.memory.tenant, names=names)

    def _open(self, sealed: str) -> str:
        return self.memory.store.names.unseal(self.memory.tenant, sealed)

    def _ranked(self, ids: Sequence[str], scores: Sequence[float]) -> Ranking:
        """The sealed ids of the highest scores; those that round to the same in the order of their names."""
        together: dict[float, dict[str, None]] = {}
        for score, one in sorted(
            ((round(score, rules.DECIMALS), one) for score, one in zip(scores, ids, strict=True)),
            reverse=True,
        ):
            together.setdefault(score, {})[one] = None
        groups = (sorted(group, key=self._open) if len(group) > 1 else group for group in together.values())
        return list(dict.fromkeys(one for group in groups for one in group))[: self._depth]

    def _ids(self, rows: Sequence[Any], places: dict[str, uuid.UUID]) -> list[str]:
        ids = [row.properties["item"] for row in rows]
        places |= {one: row.uuid for one, row in zip(ids, rows, strict=True)}
        return ids

    async def _near(self, where: FilterReturn, limit: int, *, vectors: bool = False) -> Any:
        from weaviate.classes.query import MetadataQuery

        table, vector = self.memory.table, list(self.query.vector)
        return await table.connection.ask(
            lambda client: table.use(client).query.near_vector(
                vector, limit=limit, filters=where, include_vector=vectors,
                return_properties=["item"], return_metadata=MetadataQuery(distance=True),
            )
        )  # fmt: skip

    async def _nearest(self, where: FilterReturn, places: dict[str, uuid.UUID]) -> Ranking:
        answer = await self._near(where, self._depth)
        scores = [-float(one.metadata.distance) for one in answer.objects]
        return self._ranked(self._ids(answer.objects, places), scores)

    async def _words(self, where: FilterReturn, places: dict[str, uuid.UUID]) -> Ranking:
        from weaviate.classes.query import MetadataQuery

        # The server's own syntax is none: it takes words, and refuses to be given nothing.
        asked = " ".join(dict.fromkeys(stems([" ".join(words_of(self.query.text))])[0].split()))
        if not asked:
            return []
        table = self.memory.table
        answer = await table.connection.ask(
            lambda client: table.use(client).query.bm25(
                asked, query_properties=["words"], limit=self._depth, filters=where,
                return_properties=["item"], return_metadata=MetadataQuery(score=True),
            )
        )  # fmt: skip
        scores = [float(one.metadata.score) for one in answer.objects]
        return self._ranked(self._ids(answer.objects, places), scores)

    async def _exact(self, where: FilterReturn, places: dict[str, uuid.UUID]) -> Ranking:
        """By inner products computed here, of as many candidates as could tie with the last one.

        The server looks at every visible row while there are at most `flat_cutoff` of them. When
        there are more, its candidates come from an approximate index, so all rows are read instead.
        """
        limit = self._depth + _BEYOND
        cutoff = self.memory.store.index.flat_cutoff
        if await self.memory.table.count(where) <= cutoff:
            while limit <= MOST:
                answer = await self._near(where, limit, vectors=True)
                vectors = [one.vector["default"] for one in answer.objects]
                ids = self._ids(answer.objects, places)
                scores = _products(vectors, self.query)
                if len(ids) < limit or _settled(scores, self._depth, -answer.objects[-1].metadata.distance):
                    return self._ranked(ids, scores)
                limit *= 4
        rows = [row for row in await self._all() if self._sees(row.properties)]
        scores = _products([row.vector for row in rows], self.query)
        return self._ranked(self._ids(rows, places), scores)

    async def _all(self) -> list[Row]:
        return await self.memory.table.rows(properties=schema.ALL, vectors=True)

    def _sees(self, properties: Properties) -> bool:
        item = self._item(Row(uuid=uuid.UUID(int=0), properties=properties))
        return in_force(properties, self.version) and rules.visible(item, self.query)


def in_force(properties: Properties, version: int) -> bool:
    """Whether a row belongs to a version, as what is written by use does to all of them."""
    return bool(properties["since"] <= version < properties["until"])


def of_version(rows: Iterable[Row], version: int) -> dict[str, Row]:
    """The rows of a version by sealed id: each item once, though what is being mended is there twice."""
    return {row.properties["item"]: row for row in rows if in_force(row.properties, version)}


def _products(vectors: Sequence[Sequence[float]], query: Query) -> list[float]:
    import numpy as np

    if not vectors:
        return []
    return [float(score) for score in inner_products(np.asarray(vectors, np.float32), query.vector)]


def _settled(scores: Sequence[float], depth: int, last: float) -> bool:
    """Whether nothing beyond the last row fetched could reach the first `depth`."""
    return len(scores) >= depth and last < sorted(scores, reverse=True)[depth - 1] - _MARGIN
