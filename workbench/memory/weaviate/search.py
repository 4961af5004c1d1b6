"""Search in one tenant: two rankings fetched apart, at once, and fused as every store does."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.memory import rules
from workbench.memory.stemming import stems, words_of
from workbench.memory.vectors import inner_products
from workbench.memory.weaviate import filters, schema, ties
from workbench.memory.weaviate.table import MOST, Properties, Row
from workbench.ports import Query
from workbench.types import Item

if TYPE_CHECKING:
    from weaviate.collections.classes.filters import FilterReturn

    from workbench.memory.weaviate.memory import WeaviateMemory

#: What is fetched beyond the depth at first, for those that tie with the last.
_BEYOND = 32
#: Rows by the numbers that their UUIDs are, which are quicker to look up.
Ranking = list[list[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """One query in one version of one tenant, with the conditions that its rows may fail."""

    memory: WeaviateMemory
    query: Query
    version: int
    conditions: frozenset[str]

    async def rankings(self) -> list[Ranking]:
        """The rankings that the query's mode asks for; none when nothing may be seen."""
        where = filters.visible(self.query, version=self.version, conditions=self.conditions)
        if where is None:
            return []
        wanted = []
        if self.query.mode != "words":
            wanted.append(self._exact(where) if self.query.exact else self._nearest(where))
        if self.query.mode != "vector":
            wanted.append(self._words(where))
        return await asyncio.gather(*wanted)

    async def best(self, rankings: Sequence[Ranking], *, twice: int = 0) -> list[tuple[Row, Item, float]]:
        """Rows of the best with their items and scores, as far as they are still there; without vectors.

        `twice` is how many of those that decide are known to be there twice, as while an index is mended.
        """
        if not rankings:
            return []
        table, k = self.memory.table, self.query.k
        chosen, others = ties.deciding(rankings, k=k + twice)
        tied, found = await asyncio.gather(
            table.by_uuid(_uuids(others), properties=["item"]), table.by_uuid(_uuids(chosen))
        )
        names = {row.uuid.int: self._open(row.properties["item"]) for row in (*tied, *found)}
        if (again := len(names) - len(set(names.values()))) > twice:
            return await self.best(rankings, twice=again)
        best, rows = ties.settled(rankings, names, k=k), {row.uuid.int: row for row in found}
        return [(rows[one], self._item(rows[one]), score) for one, score in best if one in rows]

    @property
    def _depth(self) -> int:
        return min(max(self.query.k, self.query.candidates), MOST)

    def _item(self, row: Row) -> Item:
        names = self.memory.store.names
        return schema.item_of(row.properties, (), tenant=self.memory.tenant, names=names)

    def _open(self, encrypted: str) -> str:
        return self.memory.store.names.decrypt(self.memory.tenant, encrypted)

    async def _near(self, where: FilterReturn, limit: int, *, vectors: bool = False) -> Any:
        from weaviate.classes.query import MetadataQuery

        table, vector = self.memory.table, list(self.query.vector)
        return await table.connection.ask(
            lambda client: table.use(client).query.near_vector(
                vector, limit=limit, filters=where, include_vector=vectors,
                return_properties=["item"] if vectors else [], return_metadata=MetadataQuery(distance=True),
            )
        )  # fmt: skip

    async def _nearest(self, where: FilterReturn) -> Ranking:
        answer = await self._near(where, self._depth)
        return ties.grouped((one.uuid.int, -one.metadata.distance) for one in answer.objects)

    async def _words(self, where: FilterReturn) -> Ranking:
        from weaviate.classes.query import MetadataQuery

        # The server's own syntax is none: it takes words, and refuses to be given nothing.
        asked = " ".join(dict.fromkeys(stems([" ".join(words_of(self.query.text))])[0].split()))
        if not asked:
            return []
        table = self.memory.table
        answer = await table.connection.ask(
            lambda client: table.use(client).query.bm25(
                asked, query_properties=["words"], limit=self._depth, filters=where,
                return_properties=[], return_metadata=MetadataQuery(score=True),
            )
        )  # fmt: skip
        return ties.grouped((one.uuid.int, one.metadata.score) for one in answer.objects)

    async def _exact(self, where: FilterReturn) -> Ranking:
        """By inner products computed here, of as many candidates as could tie with the last one.

        The server looks at every visible row while there are at most `flat_cutoff` of them. When
        there are more, its candidates come from an approximate index, so all rows are read instead.
        """
        limit = self._depth + _BEYOND
        cutoff = self.memory.store.index.flat_cutoff
        if await self.memory.table.count(where) <= cutoff:
            while limit <= MOST:
                answer = await self._near(where, limit, vectors=True)
                rows = [
                    Row(uuid=one.uuid, properties=one.properties, vector=one.vector["default"])
                    for one in answer.objects
                ]
                scores = _products(rows, self.query)
                if len(rows) < limit or _settled(scores, self._depth, -answer.objects[-1].metadata.distance):
                    return self._cut(rows, scores)
                limit *= 4
        rows = [row for row in await self._all() if self._sees(row.properties)]
        return self._cut(rows, _products(rows, self.query))

    def _cut(self, rows: Sequence[Row], scores: Sequence[float]) -> Ranking:
        """The rows of the highest scores, as many as a ranking is deep; ties in the order of their names."""
        named = (
            (-score, self._open(row.properties["item"]), row) for score, row in zip(scores, rows, strict=True)
        )
        return [[row.uuid.int] for _, _, row in sorted(named, key=lambda one: one[:2])[: self._depth]]

    async def _all(self) -> list[Row]:
        return await self.memory.table.rows(properties=schema.ALL, vectors=True)

    def _sees(self, properties: Properties) -> bool:
        item = self._item(Row(uuid=uuid.UUID(int=0), properties=properties))
        return in_force(properties, self.version) and rules.visible(item, self.query)


def _uuids(numbers: Sequence[int]) -> list[uuid.UUID]:
    return [uuid.UUID(int=number) for number in numbers]


def in_force(properties: Properties, version: int) -> bool:
    """Whether a row belongs to a version, as what is written by use does to all of them."""
    return bool(properties["since"] <= version < properties["until"])


def of_version(rows: Iterable[Row], version: int) -> dict[str, Row]:
    """The rows of a version by sealed id: each item once, though what is being mended is there twice."""
    return {row.properties["item"]: row for row in rows if in_force(row.properties, version)}


def _products(rows: Sequence[Row], query: Query) -> list[float]:
    import numpy as np

    if not rows:
        return []
    vectors = np.asarray([row.vector for row in rows], np.float32)
    return [float(score) for score in inner_products(vectors, query.vector)]


def _settled(scores: Sequence[float], depth: int, last: float) -> bool:
    """Whether nothing beyond the last row fetched could reach the first `depth`."""
    return len(scores) >= depth and last < sorted(scores, reverse=True)[depth - 1] - rules.MARGIN
