"""Read, write, change and remove one tenant's rows, in pieces that the server accepts."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.memory.weaviate import errors, filters
from workbench.memory.weaviate.connection import Connection
from workbench.memory.weaviate.schema import ALL, BRIEF, WHOLE

if TYPE_CHECKING:
    from weaviate.collections.classes.filters import FilterReturn

#: The most rows that the server returns for one query (QUERY_MAXIMUM_RESULTS).
MOST = 10_000
_PAGE, _FULL_PAGE = 4_000, 500
_NAMES, _CHANGED = 1_000, 250
#: Objects and bytes of one insertion, and insertions in flight. An ingest stages 256 items: one half is
#: prepared while the other is in flight.
BATCH, _BATCH_BYTES, _AHEAD = 128, 4 << 20, 2
_ATTEMPTS, _PAUSE_S = 4, 0.05
#: Errors that a repetition does not fix.
_FINAL = frozenset({"key", "refused", "dimensions", "read-only", "collection"})
Properties = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRow:
    """One object of the server, with the requested properties."""

    uuid: uuid.UUID
    properties: Properties
    vector: Sequence[float] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantTable:
    """The rows of one tenant, by its encrypted name, in a collection; `used` is called at each request."""

    connection: Connection
    collection: str
    tenant: str
    used: Callable[[str], None] = lambda _: None

    def use(self, client: Any) -> Any:
        """Return the client's handle of this tenant's part of the collection."""
        self.used(self.tenant)
        return self.connection.part(client, self.collection, self.tenant)

    async def rows(
        self,
        where: FilterReturn | None = None,
        keep: Callable[[Properties], bool] = lambda _: True,
        *,
        properties: Sequence[str] = BRIEF,
        vectors: bool = False,
    ) -> list[StoredRow]:
        """Return the rows that the filter admits; `keep` applies the same filter to a row's properties.

        When the server cannot return them at once, the whole table is read in pages, and each row once.
        """
        if where is not None:
            limit = _FULL_PAGE if vectors or len(properties) > len(BRIEF) else MOST
            found = await self._page(properties, vectors=vectors, filters=where, limit=limit)
            if len(found) < limit:
                return found
        return [row for row in await self._scan(properties, vectors=vectors) if keep(row.properties)]

    async def named(
        self, name: str, values: Iterable[str], *, properties: Sequence[str] = BRIEF
    ) -> list[StoredRow]:
        """Return each row of which a property is, or contains, one of `values`."""
        found: dict[uuid.UUID, StoredRow] = {}
        for part in pieces(sorted(set(values)), _NAMES):
            chosen = frozenset(part)
            rows = await self.rows(
                filters.among(name, part),
                lambda p, chosen=chosen: _has(p[name], chosen),  # type: ignore[misc]
                properties=(*properties, *({name} - set(properties))),
            )
            found |= {row.uuid: row for row in rows}
        return list(found.values())

    async def by_uuid(
        self, ids: Sequence[uuid.UUID], *, properties: Sequence[str] | None = None, vectors: bool = False
    ) -> list[StoredRow]:
        """Return the rows of these UUIDs that exist, by default with all that an item, or a writer, needs."""
        wanted = properties or (WHOLE if vectors else ALL)
        found: list[StoredRow] = []
        for part in pieces(ids, _CHANGED):
            answer = await self.connection.ask(
                lambda client, part=part: self.use(client).query.fetch_objects_by_ids(  # type: ignore[misc]
                    part,
                    limit=len(part),
                    include_vector=vectors,
                    return_properties=list(wanted),
                )
            )
            found += map(_row, answer.objects)
        return found

    async def count(self, where: FilterReturn | None = None) -> int:
        """Return the number of rows that the filter admits."""
        answer = await self.connection.ask(
            lambda client: self.use(client).aggregate.over_all(filters=where, total_count=True)
        )
        return int(answer.total_count or 0)

    async def put(self, rows: Iterable[StoredRow]) -> None:
        """Write rows durably, each in place of an older one of its UUID.

        Few insertions are in flight at once, so that a slow server slows its writer.
        """
        going: set[asyncio.Task[None]] = set()
        try:
            batches = _batches(rows)
            # In a thread, because stemming and encryption of names take CPU time.
            while part := await asyncio.to_thread(next, batches, None):
                if len(going) >= _AHEAD:
                    done, going = await asyncio.wait(going, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        task.result()
                going.add(asyncio.ensure_future(self._insert(part)))
            for task in list(going):
                await task
        finally:
            for task in going:
                task.cancel()
            await asyncio.gather(*going, return_exceptions=True)

    async def change(self, ids: Sequence[uuid.UUID], new: Callable[[Properties], Properties]) -> None:
        """Write rows again with the properties that `new` returns; a property that is None is removed."""
        for part in pieces(ids, _CHANGED):
            rows = await self.by_uuid(part, vectors=True)
            changed = [({**row.properties, **new(row.properties)}, row) for row in rows]
            await self.put(
                StoredRow(
                    uuid=row.uuid,
                    vector=row.vector,
                    properties={name: value for name, value in properties.items() if value is not None},
                )
                for properties, row in changed
            )

    async def remove(self, ids: Sequence[uuid.UUID]) -> None:
        """Delete rows; missing ones are ignored."""
        from weaviate.classes.query import Filter

        for part in pieces(ids, _NAMES):
            for _ in range(_ATTEMPTS):
                answer = await self.connection.ask(
                    lambda client, part=part: self.use(client).data.delete_many(  # type: ignore[misc]
                        where=Filter.by_id().contains_any(part)
                    )
                )
                if not answer.failed:
                    break
            else:
                raise errors.named("partly", self.connection.address.where, number=answer.failed)

    async def _scan(self, properties: Sequence[str], *, vectors: bool) -> list[StoredRow]:
        limit = _FULL_PAGE if vectors or len(properties) > len(BRIEF) else _PAGE
        found: list[StoredRow] = []
        after: uuid.UUID | None = None
        while True:
            page = await self._page(properties, vectors=vectors, limit=limit, after=after)
            found += page
            if len(page) < limit:
                return found
            after = page[-1].uuid

    async def _page(self, properties: Sequence[str], *, vectors: bool, **how: Any) -> list[StoredRow]:
        answer = await self.connection.ask(
            lambda client: self.use(client).query.fetch_objects(
                include_vector=vectors, return_properties=list(properties), **how
            )
        )
        return list(map(_row, answer.objects))

    async def _insert(self, rows: Sequence[StoredRow]) -> None:
        left = list(rows)
        for attempt in range(_ATTEMPTS):
            if attempt:
                await asyncio.sleep(_PAUSE_S * 4**attempt)
            failed = await self.connection.ask(lambda client, left=left: self._once(client, left))  # type: ignore[misc]
            if not failed:
                return
            for said in failed.values():
                if errors.meaning(said) in _FINAL:
                    raise errors.named(errors.meaning(said), self.connection.address.where)
            left = [left[place] for place in failed]
        raise errors.named("partly", self.connection.address.where, number=len(left))

    async def _once(self, client: Any, rows: Sequence[StoredRow]) -> dict[int, str]:
        """Insert rows once; return the positions of the refused ones with the server's messages."""
        from weaviate.classes.data import DataObject
        from weaviate.exceptions import WeaviateInsertManyAllFailedError

        objects = [
            DataObject(uuid=row.uuid, properties=dict(row.properties), vector=list(row.vector) or None)
            for row in rows
        ]
        try:
            answer = await self.use(client).data.insert_many(objects)
        except WeaviateInsertManyAllFailedError as error:
            return dict.fromkeys(range(len(rows)), str(error))
        return {place: str(error.message) for place, error in answer.errors.items()}


def _row(found: Any) -> StoredRow:
    return StoredRow(
        uuid=uuid.UUID(int=found.uuid.int),
        properties=found.properties,
        vector=found.vector.get("default", ()) if found.vector else (),
    )


def _has(value: Any, chosen: frozenset[str]) -> bool:
    return value in chosen if isinstance(value, str) else not chosen.isdisjoint(value or ())


def pieces(values: Sequence[Any], size: int) -> Iterator[list[Any]]:
    """Yield consecutive parts of at most `size` values."""
    for start in range(0, len(values), size):
        yield list(values[start : start + size])


def _batches(rows: Iterable[StoredRow]) -> Iterator[list[StoredRow]]:
    """Yield pieces of at most `BATCH` rows and about `_BATCH_BYTES` bytes."""
    waiting: list[StoredRow] = []
    size = 0
    for row in rows:
        weight = 4 * len(row.vector) + len(row.properties.get("text", "")) + 1_000
        if waiting and (len(waiting) >= BATCH or size + weight > _BATCH_BYTES):
            yield waiting
            waiting, size = [], 0
        waiting.append(row)
        size += weight
    if waiting:
        yield waiting
