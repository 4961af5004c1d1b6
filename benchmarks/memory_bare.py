"""The other arm of the benchmarks of memory: the server's own client, and SQLite with NumPy, bare."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import weaviate
from weaviate.classes.data import DataObject
from weaviate.classes.query import HybridFusion, MetadataQuery

from benchmarks.memory_made import Made
from workbench.memory.cipher import IdCipher
from workbench.memory.ranking import DECIMALS
from workbench.memory.stemming import stems
from workbench.memory.weaviate import filters, objects, schema
from workbench.memory.weaviate.connection import Address
from workbench.memory.weaviate.schema import IndexSettings
from workbench.ports import Query
from workbench.types import Item

BATCH = 250

_ALL = list(schema.ALL)
_SCORE, _DISTANCE = MetadataQuery(score=True), MetadataQuery(distance=True)


class Client:
    """The asynchronous client of a server, asked as somebody without the workbench would."""

    def __init__(self, address: Address) -> None:
        self.inner = weaviate.use_async_with_custom(
            http_host=address.host, http_port=address.port, http_secure=False, grpc_host=address.host,
            grpc_port=address.grpc_port, grpc_secure=False, skip_init_checks=True,
        )  # fmt: skip
        self._asked: Any = None
        self._filled: Any = None

    async def look_at(self, collection: str, tenant: str) -> None:
        """Ask this tenant from here on: the rows that the workbench wrote, by their sealed names."""
        await self.inner.connect()
        self._asked = self.inner.collections.use(collection).with_tenant(tenant)

    async def near(self, query: Query) -> Any:
        """The single nearest-neighbour query: ten rows with all they hold."""
        return await self._near(query, limit=query.k, properties=_ALL)

    async def same(self, query: Query) -> Any:
        """Both rankings with the ids that break ties, fused, and then the ten best with all they hold."""
        answers = await self._both(query, ["item"])
        names = {row.uuid: row.properties["item"] for answer in answers for row in answer.objects}
        return await self._best(query, answers, names)

    async def keys(self, query: Query) -> Any:
        """Both rankings by keys alone, fused with ties as they come, and then the ten best."""
        return await self._best(query, await self._both(query, []), {})

    async def both_whole(self, query: Query) -> Any:
        """Both rankings with all that the rows hold, not fused."""
        return await self._both(query, _ALL)

    async def hybrid(self, query: Query) -> Any:
        """The server's own fusion: ten rows with all they hold."""
        return await self._asked.query.hybrid(
            stems([query.text])[0], vector=list(query.vector), query_properties=["words"], limit=query.k,
            fusion_type=HybridFusion.RANKED, filters=_filter(query), return_properties=_ALL,
            return_metadata=_SCORE,
        )  # fmt: skip

    async def make(self, name: str) -> None:
        """A collection like the workbench's."""
        await self.inner.connect()
        await self.inner.collections.create_from_dict(schema.items_collection(name, "bare", IndexSettings()))
        self._filled = self.inner.collections.use(name)

    async def fill(self, tenant: str, rows: list[tuple[str, dict[str, Any], tuple[float, ...]]]) -> None:
        """Insert rows into a tenant of it, a batch after the other."""
        await self._filled.tenants.create([tenant])
        mine = self._filled.with_tenant(tenant)
        for start in range(0, len(rows), BATCH):
            some = [
                DataObject(uuid=one, properties=about, vector=list(vector))
                for one, about, vector in rows[start : start + BATCH]
            ]
            answer = await mine.data.insert_many(some)
            assert not answer.has_errors

    async def _both(self, query: Query, properties: list[str]) -> list[Any]:
        return await asyncio.gather(
            self._near(query, limit=query.candidates, properties=properties),
            self._words(query, properties=properties),
        )

    async def _best(self, query: Query, answers: list[Any], names: dict[Any, str]) -> Any:
        best: dict[Any, float] = {}
        for answer in answers:
            scores = {row.uuid: _score(row.metadata) for row in answer.objects}
            ranked = sorted(scores, key=lambda one: (-scores[one], names.get(one, ""))) if names else scores
            for place, one in enumerate(ranked, start=61):
                best[one] = best.get(one, 0.0) + 1 / place
        ids = sorted(best, key=best.__getitem__, reverse=True)[: query.k]
        return await self._asked.query.fetch_objects_by_ids(ids, limit=query.k, return_properties=_ALL)

    async def _near(self, query: Query, *, limit: int, properties: list[str]) -> Any:
        return await self._asked.query.near_vector(
            list(query.vector), limit=limit, filters=_filter(query), return_properties=properties,
            return_metadata=_DISTANCE,
        )  # fmt: skip

    async def _words(self, query: Query, *, properties: list[str]) -> Any:
        return await self._asked.query.bm25(
            stems([query.text])[0], query_properties=["words"], limit=query.candidates,
            filters=_filter(query), return_properties=properties, return_metadata=_SCORE,
        )  # fmt: skip


def rows_of(items: list[Item]) -> list[tuple[str, dict[str, Any], tuple[float, ...]]]:
    """Items as rows, names as they are, made before the clock runs."""
    names = IdCipher()
    return [
        (
            str(names.uuid("bare", item.id)),
            objects.properties_of(item, words=words, tenant="bare", names=names, since=1),
            item.vector,
        )
        for item, words in zip(items, objects.words_of(items), strict=True)
    ]


def _score(about: Any) -> float:
    """To the decimals at which the workbench takes two scores for equal."""
    return round(about.score if about.distance is None else -about.distance, DECIMALS)


def _filter(query: Query) -> Any:
    return filters.visible(query, version=1, encrypt=str)


class Bare:
    """SQLite's keyword search and one matrix product, fused; in one thread and with no tenant."""

    def __init__(self, path: Path, made: Made) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._made = made
        self._db.execute("CREATE VIRTUAL TABLE words USING fts5 (title, text, tokenize = 'porter')")
        self._db.execute("BEGIN")
        items = (item for some in made.batches() for item in some)
        rows = ((place, item.title, item.text) for place, item in enumerate(items))
        self._db.executemany("INSERT INTO words (rowid, title, text) VALUES (?, ?, ?)", rows)
        self._db.execute("COMMIT")

    async def search(self, query: Query) -> list[str]:
        """The texts of the ten best."""
        made, depth = self._made, query.candidates
        scores = np.where(made.seen, made.matrix @ np.asarray(query.vector, np.float32), -np.inf)
        top = np.argpartition(-scores, depth)[:depth]
        near = top[np.argsort(-scores[top])].tolist()
        words = " OR ".join(f'"{word}"' for word in query.text.split())
        found = self._db.execute(
            "SELECT rowid FROM words WHERE words MATCH ? AND rowid % 10 != 0 ORDER BY rank LIMIT ?",
            (words, depth),
        ).fetchall()
        fused: dict[int, float] = {}
        for ranking in (near, [row[0] for row in found]):
            for rank, place in enumerate(ranking, start=1):
                fused[place] = fused.get(place, 0.0) + 1 / (60 + rank)
        best = sorted(fused, key=lambda place: (-fused[place], place))[: query.k]
        texts = "SELECT text FROM words WHERE rowid = ?"
        return [self._db.execute(texts, (place,)).fetchone()[0] for place in best]

    def close(self) -> None:
        """Close the file."""
        self._db.close()
