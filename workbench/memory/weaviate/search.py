"""Search one tenant: fetch a ranking by vector and one by words at once, and fuse them as every store does.

Ties are broken by ids, which a server holds encrypted. To fetch them with all scores costs milliseconds, and
few of them decide which hits are best. So ranks are compared first, as a span for rows that tie.
"""

from __future__ import annotations

import asyncio
import heapq
import uuid
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeVar

from workbench.memory import ranking, rules
from workbench.memory.ranking import DECIMALS, MARGIN, RRF_K
from workbench.memory.stemming import stems, words_of
from workbench.memory.vectors import inner_products
from workbench.memory.weaviate import filters, schema
from workbench.memory.weaviate.space import TenantSpace, is_active
from workbench.memory.weaviate.table import MOST, Properties, StoredRow
from workbench.ports import Query
from workbench.types import Item

if TYPE_CHECKING:
    from weaviate.collections.classes.filters import FilterReturn

T = TypeVar("T", bound=Hashable)
#: Rows that are fetched beyond the depth at first, for those that tie with the last.
_BEYOND = 32
#: Rows by the numbers of their UUIDs, which are quicker to look up, best first; each group has one score.
Ranking = list[list[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """One query in one version of one tenant."""

    space: TenantSpace
    query: Query
    version: int

    async def rankings(self) -> list[Ranking]:
        """Return the rankings of the query's mode; none when the requester may see nothing."""
        where = filters.visible(self.query, version=self.version, encrypt=self.space.encrypt)
        if where is None:
            return []
        wanted = []
        if self.query.mode != "words":
            wanted.append(self._exact(where) if self.query.exact else self._nearest(where))
        if self.query.mode != "vector":
            wanted.append(self._words(where))
        return await asyncio.gather(*wanted)

    async def best(
        self, rankings: Sequence[Ranking], *, duplicates: int = 0
    ) -> list[tuple[StoredRow, Item, float, Mapping[str, int]]]:
        """Return the best rows that are still there, with items, scores and ranks and without vectors.

        `duplicates` is how many of the deciding rows are known to repeat an item, as during a repair.
        """
        k, table = self.query.k, self.space.table
        chosen, others = (_uuids(numbers) for numbers in deciding(rankings, k=k + duplicates))
        tied, found = await asyncio.gather(table.by_uuid(others, properties=["item"]), table.by_uuid(chosen))
        rows = {row.uuid.int: row for row in found}
        names = {row.uuid.int: self.space.decrypt(row.properties["item"]) for row in (*tied, *found)}
        if (repeated := len(names) - len(set(names.values()))) > duplicates:
            return await self.best(rankings, duplicates=repeated)
        best = settled(rankings, names, k=k)
        kinds = ("vector", "words") if self.query.mode == "hybrid" else (self.query.mode,)
        ordered = dict(zip(kinds, _ordered(rankings, names), strict=False))  # no ranking: it may see nothing
        ranks = ranking.places(ordered, [one for one, _ in best])
        return [
            (rows[one], self.space.item(rows[one]), score, ranks[one]) for one, score in best if one in rows
        ]

    @property
    def _depth(self) -> int:
        return min(max(self.query.k, self.query.candidates), MOST)

    async def _near(self, where: FilterReturn, limit: int, *, vectors: bool = False) -> Any:
        from weaviate.classes.query import MetadataQuery

        table, vector = self.space.table, list(self.query.vector)
        return await table.connection.ask(
            lambda client: table.use(client).query.near_vector(
                vector, limit=limit, filters=where, include_vector=vectors,
                return_properties=["item"] if vectors else [], return_metadata=MetadataQuery(distance=True),
            )
        )  # fmt: skip

    async def _nearest(self, where: FilterReturn) -> Ranking:
        answer = await self._near(where, self._depth)
        return grouped((found.uuid.int, -found.metadata.distance) for found in answer.objects)

    async def _words(self, where: FilterReturn) -> Ranking:
        from weaviate.classes.query import MetadataQuery

        # The server takes words, not its own syntax, and refuses an empty query.
        words = " ".join(dict.fromkeys(stems([" ".join(words_of(self.query.text))])[0].split()))
        if not words:
            return []
        table = self.space.table
        answer = await table.connection.ask(
            lambda client: table.use(client).query.bm25(
                words, query_properties=["words"], limit=self._depth, filters=where,
                return_properties=[], return_metadata=MetadataQuery(score=True),
            )
        )  # fmt: skip
        return grouped((found.uuid.int, found.metadata.score) for found in answer.objects)

    async def _exact(self, where: FilterReturn) -> Ranking:
        """Rank by inner products computed here, of as many candidates as could tie with the last one.

        The server compares every visible row while there are at most `flat_cutoff` of them. Beyond that its
        candidates come from an approximate index, so all rows are read instead.
        """
        limit = self._depth + _BEYOND
        cutoff = self.space.store.index.flat_cutoff
        if await self.space.table.count(where) <= cutoff:
            while limit <= MOST:
                answer = await self._near(where, limit, vectors=True)
                rows = [
                    StoredRow(uuid=found.uuid, properties=found.properties, vector=found.vector["default"])
                    for found in answer.objects
                ]
                scores = _products(rows, self.query)
                if len(rows) < limit or _is_complete(
                    scores, self._depth, -answer.objects[-1].metadata.distance
                ):
                    return self._cut(rows, scores)
                limit *= 4
        everything = await self.space.table.rows(properties=schema.ALL, vectors=True)
        rows = [row for row in everything if self._sees(row.properties)]
        return self._cut(rows, _products(rows, self.query))

    def _cut(self, rows: Sequence[StoredRow], scores: Sequence[float]) -> Ranking:
        """Return the rows of the highest scores, as many as a ranking is deep, ties in the order of ids."""
        named = (
            (-score, self.space.decrypt(row.properties["item"]), row.uuid.int)
            for score, row in zip(scores, rows, strict=True)
        )
        return [[number] for _, _, number in sorted(named)[: self._depth]]

    def _sees(self, properties: Properties) -> bool:
        item = self.space.item(StoredRow(uuid=uuid.UUID(int=0), properties=properties))
        return is_active(properties, self.version) and rules.visible(item, self.query)


def grouped(scored: Iterable[tuple[T, float]]) -> list[list[T]]:
    """Rank (row, score) pairs, the highest score first; rows whose rounded scores are equal form a group."""
    rounded = {row: round(score, DECIMALS) for row, score in scored}
    ordered = sorted(rounded, key=rounded.__getitem__, reverse=True)
    return [list(group) for _, group in groupby(ordered, key=rounded.__getitem__)]


def deciding(rankings: Sequence[Sequence[Sequence[T]]], *, k: int) -> tuple[list[T], list[T]]:
    """Return the rows that could be among the best `k`, and the other rows that tie with one of these."""
    most: dict[T, float] = {}
    least: dict[T, float] = {}
    for groups in rankings:
        rank = RRF_K
        for group in groups:
            first, last = 1 / (rank + 1), 1 / (rank + len(group))
            for row in group:
                most[row] = most.get(row, 0.0) + first
                least[row] = least.get(row, 0.0) + last
            rank += len(group)
    enough = 0.0
    if len(least) > k:  # fused scores that round to the same are ties too
        enough = min(heapq.nlargest(k, least.values())) - MARGIN * len(rankings) / (RRF_K + 1)
    chosen = {row for row, score in most.items() if score >= enough}
    tied = (group for groups in rankings for group in groups if len(group) > 1)
    others = {row for group in tied if not chosen.isdisjoint(group) for row in group} - chosen
    return list(chosen), list(others)


def settled(
    rankings: Sequence[Sequence[Sequence[T]]], names: Mapping[T, str], *, k: int
) -> list[tuple[T, float]]:
    """Return the best `k` with their scores as `ranking.fuse` does, given the names of `deciding` rows.

    Rows of one name count as the last of them in `names`.
    """
    ordered = _ordered(rankings, names)
    return ranking.fuse(ordered, k=k, name=lambda row: names.get(row, "")) if ordered else []


def _ordered(rankings: Sequence[Sequence[Sequence[T]]], names: Mapping[T, str]) -> list[list[T]]:
    """Return each ranking as rows, those that tie in the order of their names, one row for each name."""
    by_name = {name: row for row, name in names.items()}

    def named(row: T) -> str:
        return names.get(row, "")

    def ranked(groups: Sequence[Sequence[T]]) -> list[T]:
        flat = (row for group in groups for row in (sorted(group, key=named) if len(group) > 1 else group))
        return list(dict.fromkeys(by_name.get(named(row), row) for row in flat))

    return [ranked(groups) for groups in rankings]


def _uuids(numbers: Iterable[int]) -> list[uuid.UUID]:
    return [uuid.UUID(int=number) for number in numbers]


def _products(rows: Sequence[StoredRow], query: Query) -> list[float]:
    import numpy as np

    if not rows:
        return []
    vectors = np.asarray([row.vector for row in rows], np.float32)
    return [float(score) for score in inner_products(vectors, query.vector)]


def _is_complete(scores: Sequence[float], depth: int, last: float) -> bool:
    """Return whether no row beyond the last one fetched could reach the first `depth`."""
    return len(scores) >= depth and last < sorted(scores, reverse=True)[depth - 1] - MARGIN
