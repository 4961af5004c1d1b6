"""Repair a tenant's vector index after a crash of the server.

A Weaviate that is killed has every row it acknowledged, and may have lost the vectors of the latest rows from
its index, whose log it writes late: such a row is counted and read, and no search by vector finds it. The
term of the server's elections tells a restart; each tenant is checked once after one.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from workbench.memory.weaviate.space import TenantSpace
from workbench.memory.weaviate.table import StoredRow, pieces
from workbench.memory.weaviate.tenant_record import TenantRecord

_PIECE = 1_000


async def repair_index(space: TenantSpace, record: TenantRecord, term: int) -> TenantRecord:
    """Write again each row that no vector finds; the caller has the tenant alone.

    An interrupted repair is repeated as a whole: until then a row may exist under two UUIDs.
    """
    if record.dimensions:
        rows = await space.table.rows(properties=("item", "since"))
        found = await _indexed(space, record, [row.uuid for row in rows])
        same: dict[tuple[str, int], list[StoredRow]] = defaultdict(list)
        for row in rows:
            same[row.properties["item"], row.properties["since"]].append(row)
        kept = [max(group, key=lambda row: (row.uuid in found, row.uuid)) for group in same.values()]
        lost = [row.uuid for row in kept if row.uuid not in found]
        await _write_again(space, lost)
        staying = {row.uuid for row in kept} - set(lost)
        await space.table.remove([row.uuid for row in rows if row.uuid not in staying])
    return await space.save(record, term=term)


async def _write_again(space: TenantSpace, lost: Sequence[uuid.UUID]) -> None:
    """Write rows under new UUIDs: under its own, a row with an unchanged vector stays out of the index."""
    for part in pieces(lost, _PIECE):
        rows = await space.table.by_uuid(part, vectors=True)
        await space.table.put(
            replace(
                row,
                uuid=space.store.names.uuid(space.tenant, "again", str(row.uuid)),
                properties={name: value for name, value in row.properties.items() if value is not None},
            )
            for row in rows
        )


async def _indexed(
    space: TenantSpace, record: TenantRecord, ids: Sequence[uuid.UUID]
) -> frozenset[uuid.UUID]:
    """Return the rows that a search by vector finds, in pieces so small that the server compares each row."""
    from weaviate.classes.query import Filter

    table, found = space.table, set()
    for part in pieces(ids, min(_PIECE, space.store.index.flat_cutoff)):
        answer = await table.connection.ask(
            lambda client, part=part: table.use(client).query.near_vector(  # type: ignore[misc]
                [0.0] * record.dimensions,
                limit=len(part),
                filters=Filter.by_id().contains_any(part),
                return_properties=[],
            )
        )
        found |= {uuid.UUID(int=row.uuid.int) for row in answer.objects}
    return frozenset(found)
