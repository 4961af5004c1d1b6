"""What a crash of the server took out of its vector index, put back.

A Weaviate that is killed has every row it acknowledged, and may have lost the vectors of the latest
ones from its index, whose log it writes late: such a row is counted and read, and no vector finds it.
A restart is told by the term of the server's elections; each tenant is looked through once after one.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from workbench.memory.weaviate.table import Row
from workbench.memory.weaviate.tenant_record import Control

if TYPE_CHECKING:
    from workbench.memory.weaviate.memory import WeaviateMemory

_ABREAST = 1_000


async def mend(memory: WeaviateMemory, record: Control, term: int) -> Control:
    """Put back what no vector finds; for who is alone with the tenant. Interrupted, it is done again."""
    if record.dimensions:
        rows = await memory.table.rows(properties=("item", "since"))
        found = await _indexed(memory, record, [row.uuid for row in rows])
        same: dict[tuple[str, int], list[Row]] = defaultdict(list)
        for row in rows:
            same[row.properties["item"], row.properties["since"]].append(row)
        kept = [max(group, key=lambda row: (row.uuid in found, row.uuid)) for group in same.values()]
        lost = [row.uuid for row in kept if row.uuid not in found]
        await _write_again(memory, lost)
        staying = {row.uuid for row in kept} - set(lost)
        await memory.table.remove([row.uuid for row in rows if row.uuid not in staying])
    return await memory.save(record, term=term)


async def _write_again(memory: WeaviateMemory, lost: Sequence[uuid.UUID]) -> None:
    """Write rows under other UUIDs: under its own, a row whose vector is unchanged stays out of the index."""
    for part in _pieces(lost, _ABREAST):
        rows = await memory.table.by_uuid(part, vectors=True)
        await memory.table.put(
            replace(
                row,
                uuid=memory.store.names.uuid(memory.tenant, "again", str(row.uuid)),
                properties={name: value for name, value in row.properties.items() if value is not None},
            )
            for row in rows
        )


async def _indexed(memory: WeaviateMemory, record: Control, ids: Sequence[uuid.UUID]) -> frozenset[uuid.UUID]:
    """Those rows that a search by vector finds, so few asked at once that the server looks at each."""
    from weaviate.classes.query import Filter

    table, found = memory.table, set()
    for part in _pieces(ids, min(_ABREAST, memory.store.index.flat_cutoff)):
        answer = await table.connection.ask(
            lambda client, part=part: table.use(client).query.near_vector(  # type: ignore[misc]
                [0.0] * record.dimensions,
                limit=len(part),
                filters=Filter.by_id().contains_any(part),
                return_properties=[],
            )
        )
        found |= {uuid.UUID(int=one.uuid.int) for one in answer.objects}
    return frozenset(found)


def _pieces(ids: Sequence[uuid.UUID], size: int) -> Iterator[Sequence[uuid.UUID]]:
    return (ids[start : start + size] for start in range(0, len(ids), size))
