"""Versions of a tenant's knowledge in Weaviate: staged, then put in force by one write of its record.

Every step before that write leaves the version in force as it was, and can be done again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench import files
from workbench.errors import ConfigError, NotFoundError
from workbench.memory import rules
from workbench.memory.weaviate import errors, filters, schema, tenant_record
from workbench.memory.weaviate.schema import OPEN
from workbench.memory.weaviate.search import in_force
from workbench.memory.weaviate.table import BATCH, MOST, Properties, Row
from workbench.memory.weaviate.tenant_record import Control, Version
from workbench.ports import Added, MemoryVersion
from workbench.types import KNOWLEDGE, Item

if TYPE_CHECKING:
    from workbench.memory.weaviate.memory import WeaviateMemory


#: What says of which versions a row is.
_PLACE = ("item", "since", "until")


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The rows of a tenant's knowledge by sealed id: in force, staged, and of what has gone."""

    in_force: dict[str, Row]
    staged: dict[str, list[Row]]
    past: list[Row]

    @classmethod
    async def of(cls, memory: WeaviateMemory, record: Control) -> Standing:
        """As the server has it now."""
        current: dict[str, Row] = {}
        staged: dict[str, list[Row]] = {}
        past: list[Row] = []
        for row in await _knowledge(memory, (*_PLACE, "source")):
            if in_force(row.properties, record.version):
                current[row.properties["item"]] = row
            elif row.properties["since"] > record.version:
                staged.setdefault(row.properties["item"], []).append(row)
            else:
                past.append(row)
        return cls(in_force=current, staged=staged, past=past)


async def missing(memory: WeaviateMemory, record: Control, ids: Sequence[str]) -> list[str]:
    """Those of `ids` that are neither in force nor staged, in the order given."""
    encrypted = {memory.encrypt(one): one for one in ids}
    rows = await memory.table.named("item", encrypted)
    known = {encrypted[row.properties["item"]] for row in rows if row.properties["until"] > record.version}
    return [one for one in ids if one not in known]


async def stage(memory: WeaviateMemory, record: Control, batch: Sequence[Item]) -> tuple[Control, int]:
    """Write what is neither in force nor staged as rows of the next version; how many."""
    if not batch:
        return record, 0
    record = await fitted(memory, record, batch)
    rows = await there(memory, batch)
    known = {row.properties["item"] for row in rows if row.properties["until"] > record.version}
    new = [item for item in batch if memory.encrypt(item.id) not in known]
    record = await write(memory, record, new, since=record.version + 1)
    return record, len(new)


async def write(memory: WeaviateMemory, record: Control, new: Sequence[Item], *, since: int) -> Control:
    """Write rows, after the record says what searches must state once they are there."""
    if not new:
        return record
    stated = filters.needed_by(new) | ({"versions"} if since else set())
    wanted = tenant_record.conditions(record.conditions, stated)
    if wanted != record.conditions:
        record = await memory.save(record, conditions=wanted)
    holder, names, tenant = record.holder(), memory.store.names, memory.tenant

    def row(item: Item, words: str) -> Row:
        given = schema.properties_of(item, words=words, tenant=tenant, names=names, since=since)
        ttl = schema.ttl_of(given, held=holder.holds(given))
        return Row(
            uuid=names.uuid(tenant, item.id, str(since)),
            properties=given | ({"ttl": ttl} if ttl else {}),
            vector=item.vector,
        )

    parts = (new[start : start + BATCH] for start in range(0, len(new), BATCH))
    await memory.table.put(
        row(*one) for part in parts for one in zip(part, schema.words_of(part), strict=True)
    )
    return record


async def add(memory: WeaviateMemory, record: Control, batch: Sequence[Item], now: str) -> Added:
    """Put the batch in force in place of what its sources had."""
    record, _ = await stage(memory, record, batch)
    standing = await Standing.of(memory, record)
    sources = {schema.wrapped(item.source) for item in batch}
    others = [one for one, row in standing.in_force.items() if row.properties["source"] not in sources]
    return await _publish(
        memory, record, standing, [*others, *(memory.encrypt(item.id) for item in batch)], now
    )


async def publish(memory: WeaviateMemory, record: Control, ids: Collection[str], now: str) -> Added:
    """Move the tenant's version to one that holds exactly `ids`; nothing when that is what is in force."""
    standing = await Standing.of(memory, record)
    return await _publish(memory, record, standing, [memory.encrypt(one) for one in ids], now)


async def _publish(
    memory: WeaviateMemory, record: Control, standing: Standing, encrypted: Collection[str], now: str
) -> Added:
    wanted, there_now = set(encrypted), standing.in_force.keys()
    missing = len(wanted - there_now - standing.staged.keys())
    if missing:
        raise ConfigError(
            f"{missing} of {len(wanted)} items are neither in force nor staged",
            hint="stage what `missing` names, then publish again",
        )
    leaving = [row for one, row in standing.in_force.items() if one not in wanted]
    staying = [row for one, row in standing.in_force.items() if one in wanted]
    # What a killed writer had taken out stays; what it had staged and nobody wants goes.
    await memory.table.change(
        [row.uuid for row in staying if row.properties["until"] != OPEN], lambda _: {"until": OPEN}
    )
    idle = [
        row.uuid
        for one, rows in standing.staged.items()
        for row in (rows if one not in wanted or one in there_now else rows[1:])
    ]
    await memory.table.remove(idle)
    if wanted != there_now:
        after = record.version + 1
        await memory.table.change([row.uuid for row in leaving], lambda _: {"until": after})
        await _check_next(memory, record, wanted)
        record = await memory.save(
            record,
            version=after,
            versions=(*record.versions, _version(memory, after, wanted, now)),
            conditions=_after(record, past=bool(leaving or standing.past)),
        )
    elif _after(record, past=bool(standing.past)) != record.conditions:
        record = await memory.save(record, conditions=_after(record, past=bool(standing.past)))
    both = len(staying)
    return Added(added=len(wanted) - both, unchanged=both, replaced=len(leaving), version=record.version)


async def _check_next(memory: WeaviateMemory, record: Control, wanted: Collection[str]) -> None:
    """UnavailableError unless the next version holds what is wanted."""
    following = record.version + 1
    rows = await _knowledge(memory, _PLACE)
    found = sorted(row.properties["item"] for row in rows if in_force(row.properties, following))
    if found != sorted(wanted):
        raise errors.overtaken(memory.store.address.where)


async def _knowledge(memory: WeaviateMemory, properties: Sequence[str]) -> list[Row]:
    """Rows of documents: of every version, and staged."""
    where = filters.knowledge()
    many = await memory.table.count(where) >= MOST  # then an answer to the filter alone would be in vain
    return await memory.table.rows(None if many else where, _is_knowledge, properties=properties)


def _is_knowledge(properties: Properties) -> bool:
    return bool(properties["since"] > 0)


def _after(record: Control, *, past: bool) -> tuple[str, ...]:
    """The conditions when nothing is staged any more."""
    rest = record.stated - {"versions"}
    return tenant_record.conditions(rest, {"versions"} if past else set())


def _version(memory: WeaviateMemory, number: int, encrypted: Collection[str], now: str) -> Version:
    ids = sorted(map(memory.decrypt, encrypted))
    return Version(number=number, at=now, items=len(ids), content=files.digest(ids))


async def recount(memory: WeaviateMemory, record: Control) -> Control:
    """Let the record of each version say what is left in it, after items were removed."""
    for one in record.versions:  # counting costs the server less than sending its rows
        if await memory.table.count(filters.knowledge(one.number)) != one.items:
            break
    else:
        return record
    rows = await _knowledge(memory, _PLACE)
    fresh = []
    for one in record.versions:
        left = {row.properties["item"] for row in rows if in_force(row.properties, one.number)}
        same = len(left) == one.items
        fresh.append(one if same else _version(memory, one.number, left, one.at))
    return record if tuple(fresh) == record.versions else await memory.save(record, versions=tuple(fresh))


def listed(record: Control) -> list[MemoryVersion]:
    """Versions that are kept, oldest first."""
    return [
        MemoryVersion(number=one.number, at=one.at, items=one.items, content=one.content)
        for one in record.versions
    ]


async def fitted(memory: WeaviateMemory, record: Control, batch: Sequence[Item]) -> Control:
    """The record with the space of the batch; ConfigError when the tenant holds vectors of another one."""
    item = batch[0]
    if (record.embedding, record.dimensions) == (item.embedding, len(item.vector)):
        return record
    if record.embedding and await memory.table.count():
        rules.check_embedding(item, embedding=record.embedding, dimensions=record.dimensions)
    # The server's index keeps the dimensions of what was in it until its tenant goes.
    anew = record.dimensions not in {0, len(item.vector)}
    if anew and record.embedding:
        record = await memory.save(record, embedding="")  # until it is made again nothing is looked for
    await memory.store.make_tenant(memory.table.tenant, anew=anew)
    return await memory.save(record, embedding=item.embedding, dimensions=len(item.vector))


async def there(memory: WeaviateMemory, batch: Sequence[Item]) -> list[Row]:
    """Rows with an id of the batch.

    ConfigError when an id is that of an item of another source, or of the other of the two kinds.
    """
    given = {memory.encrypt(item.id): item for item in batch}
    rows = await memory.table.named("item", given)
    for row in rows:
        item, kind = given[row.properties["item"]], row.properties["kind"]
        rules.check_source(item, schema.unwrapped(row.properties["source"]))
        if (kind == KNOWLEDGE) != (item.kind == KNOWLEDGE):
            raise ConfigError(
                f"item {item.id!r} is there as {kind!r}, not as {item.kind!r}",
                hint="make the kind a part of what the id is the digest of",
            )
    return rows


def is_kept(record: Control | None, version: int | None) -> bool:
    """Whether a version can be asked for, by this record of the tenant."""
    if record is None:
        return version in {None, 0}
    return version in {None, record.version} or version in {one.number for one in record.versions}


def kept(record: Control | None, version: int | None) -> int:
    """The version to read; NotFoundError when it is none that can still be asked for."""
    if is_kept(record, version):
        current = record.version if record else 0
        return current if version is None else version
    numbers = [one.number for one in record.versions] if record else []
    known = f"{numbers[0]} to {numbers[-1]}" if numbers else "none"
    raise NotFoundError(
        f"version {version} of this memory is not kept (kept: {known})",
        hint="workbench memory versions lists those that can be asked for",
    )
