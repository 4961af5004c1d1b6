"""Stage, activate and list versions of a tenant's knowledge.

One write of the tenant's record activates a version. Every step before it leaves the active version as it
was, and can be repeated.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from workbench import files
from workbench.memory import checks
from workbench.memory.weaviate import errors, filters, objects
from workbench.memory.weaviate.objects import OPEN
from workbench.memory.weaviate.space import TenantSpace, is_active
from workbench.memory.weaviate.table import BATCH, MOST, Properties, StoredRow, pieces
from workbench.memory.weaviate.tenant_record import CONDITIONS, RecordedVersion, TenantRecord
from workbench.ports import Added, MemoryVersion
from workbench.types import Item

#: The properties that say to which versions a row belongs.
_PLACE = ("item", "since", "until")


@dataclass(frozen=True, slots=True, kw_only=True)
class KnowledgeRows:
    """The active and the staged rows of a tenant's knowledge, by encrypted id."""

    active: dict[str, StoredRow]
    staged: dict[str, list[StoredRow]]

    @classmethod
    async def of(cls, space: TenantSpace, record: TenantRecord) -> KnowledgeRows:
        """Read them from the server."""
        active: dict[str, StoredRow] = {}
        staged: dict[str, list[StoredRow]] = {}
        for row in await _knowledge(space, (*_PLACE, "source")):
            if is_active(row.properties, record.version):
                active[row.properties["item"]] = row
            elif row.properties["since"] > record.version:
                staged.setdefault(row.properties["item"], []).append(row)
        return cls(active=active, staged=staged)


async def missing(space: TenantSpace, record: TenantRecord, ids: Sequence[str]) -> list[str]:
    """Return the ids that are neither active nor staged, in the order given."""
    encrypted = {space.encrypt(name): name for name in ids}
    rows = await space.table.named("item", encrypted)
    known = {encrypted[row.properties["item"]] for row in rows if row.properties["until"] > record.version}
    return [name for name in ids if name not in known]


async def stage(space: TenantSpace, record: TenantRecord, batch: Sequence[Item]) -> tuple[TenantRecord, int]:
    """Write what is neither active nor staged as rows of the next version; return how many."""
    if not batch:
        return record, 0
    record = await with_embedding(space, record, batch)
    rows = await stored(space, batch)
    known = {row.properties["item"] for row in rows if row.properties["until"] > record.version}
    new = [item for item in batch if space.encrypt(item.id) not in known]
    record = await write(space, record, new, since=record.version + 1)
    return record, len(new)


async def write(space: TenantSpace, record: TenantRecord, new: Sequence[Item], *, since: int) -> TenantRecord:
    """Write items as rows that are active from version `since` on."""
    if new and record.conditions != CONDITIONS:  # an earlier workbench wrote the record
        record = await space.save(record, conditions=CONDITIONS)
    is_held, names, tenant = record.holder(), space.store.names, space.tenant

    def row(item: Item, words: str) -> StoredRow:
        given = objects.properties_of(item, words=words, tenant=tenant, names=names, since=since)
        ttl = objects.ttl_of(given, held=is_held(given))
        return StoredRow(
            uuid=names.uuid(tenant, item.id, str(since)),
            properties=given | ({"ttl": ttl} if ttl else {}),
            vector=item.vector,
        )

    await space.table.put(
        row(item, words)
        for part in pieces(new, BATCH)
        for item, words in zip(part, objects.words_of(part), strict=True)
    )
    return record


async def add(space: TenantSpace, record: TenantRecord, batch: Sequence[Item], now: str) -> Added:
    """Activate the batch in place of what its sources had."""
    record, _ = await stage(space, record, batch)
    rows = await KnowledgeRows.of(space, record)
    sources = {objects.wrapped(item.source) for item in batch}
    others = [item for item, row in rows.active.items() if row.properties["source"] not in sources]
    return await _publish(space, record, rows, [*others, *(space.encrypt(item.id) for item in batch)], now)


async def publish(space: TenantSpace, record: TenantRecord, ids: Collection[str], now: str) -> Added:
    """Activate a version that holds exactly `ids`, unless the active version does."""
    rows = await KnowledgeRows.of(space, record)
    return await _publish(space, record, rows, [space.encrypt(name) for name in ids], now)


async def _publish(
    space: TenantSpace, record: TenantRecord, rows: KnowledgeRows, encrypted: Collection[str], now: str
) -> Added:
    wanted, active = set(encrypted), rows.active.keys()
    checks.check_published(len(wanted - active - rows.staged.keys()), len(wanted))
    leaving = [row for item, row in rows.active.items() if item not in wanted]
    staying = [row for item, row in rows.active.items() if item in wanted]
    # A killed writer may have ended rows that stay, and staged rows that nobody wants.
    await space.table.change(
        [row.uuid for row in staying if row.properties["until"] != OPEN], lambda _: {"until": OPEN}
    )
    unwanted = [
        row.uuid
        for item, staged in rows.staged.items()
        for row in (staged if item not in wanted or item in active else staged[1:])
    ]
    await space.table.remove(unwanted)
    if wanted != active:
        after = record.version + 1
        await space.table.change([row.uuid for row in leaving], lambda _: {"until": after})
        await _check_next(space, record, wanted)
        version = _version(space, after, wanted, now)
        record = await space.save(record, version=after, versions=(*record.versions, version))
    both = len(staying)
    return Added(added=len(wanted) - both, unchanged=both, replaced=len(leaving), version=record.version)


async def _check_next(space: TenantSpace, record: TenantRecord, wanted: Collection[str]) -> None:
    """UnavailableError unless the next version holds exactly what is wanted."""
    following = record.version + 1
    rows = await _knowledge(space, _PLACE)
    found = sorted(row.properties["item"] for row in rows if is_active(row.properties, following))
    if found != sorted(wanted):
        raise errors.named("overtaken", space.store.address.where)


async def _knowledge(space: TenantSpace, properties: Sequence[str]) -> list[StoredRow]:
    """Read the rows of documents, of every version and staged."""
    where = filters.knowledge()
    many = await space.table.count(where) >= MOST  # the filter alone would get no complete answer
    return await space.table.rows(None if many else where, _is_knowledge, properties=properties)


def _is_knowledge(properties: Properties) -> bool:
    return bool(properties["since"] > 0)


def _version(space: TenantSpace, number: int, encrypted: Collection[str], now: str) -> RecordedVersion:
    ids = sorted(map(space.decrypt, encrypted))
    return RecordedVersion(number=number, at=now, items=len(ids), content=files.digest(ids))


async def recount(space: TenantSpace, record: TenantRecord) -> TenantRecord:
    """Correct the record of each version to what is left in it, after items were removed."""
    for version in record.versions:  # a count costs the server less than its rows
        if await space.table.count(filters.knowledge(version.number)) != version.items:
            break
    else:
        return record
    rows = await _knowledge(space, _PLACE)
    corrected = []
    for version in record.versions:
        left = {row.properties["item"] for row in rows if is_active(row.properties, version.number)}
        same = len(left) == version.items
        corrected.append(version if same else _version(space, version.number, left, version.at))
    if tuple(corrected) == record.versions:
        return record
    return await space.save(record, versions=tuple(corrected))


def listed(record: TenantRecord) -> list[MemoryVersion]:
    """Return the versions that are kept, oldest first."""
    return [
        MemoryVersion(number=version.number, at=version.at, items=version.items, content=version.content)
        for version in record.versions
    ]


async def with_embedding(space: TenantSpace, record: TenantRecord, batch: Sequence[Item]) -> TenantRecord:
    """Record the batch's embedding; ConfigError when the tenant holds vectors of another one."""
    item = batch[0]
    if (record.embedding, record.dimensions) == (item.embedding, len(item.vector)):
        return record
    if record.embedding and await space.table.count():
        checks.check_embedding(item, embedding=record.embedding, dimensions=record.dimensions)
    # The server's index keeps its dimensions until the tenant is removed.
    anew = record.dimensions not in {0, len(item.vector)}
    if anew and record.embedding:
        record = await space.save(record, embedding="")  # no search until the tenant is made again
    if record.dimensions:  # the tenant of a record without any was made before its record
        await space.store.make_tenant(space.table.tenant, anew=anew)
    return await space.save(record, embedding=item.embedding, dimensions=len(item.vector))


async def stored(space: TenantSpace, batch: Sequence[Item]) -> list[StoredRow]:
    """Return the rows that have an id of the batch.

    ConfigError when an id belongs to an item of another source, or one is a document and the other is not.
    """
    given = {space.encrypt(item.id): item for item in batch}
    rows = await space.table.named("item", given)
    for row in rows:
        source, kind = objects.unwrapped(row.properties["source"]), row.properties["kind"]
        checks.check_stored(given[row.properties["item"]], source=source, kind=kind)
    return rows


def is_kept(record: TenantRecord | None, version: int | None) -> bool:
    """Return whether the tenant keeps a version, by its record."""
    if record is None:
        return version in {None, 0}
    return version in {None, record.version} or version in {kept.number for kept in record.versions}


def kept_version(record: TenantRecord | None, version: int | None) -> int:
    """Return the version to read; NotFoundError when the tenant does not keep it."""
    if version is not None and not is_kept(record, version):
        checks.check_kept(version, [kept.number for kept in record.versions] if record else [])
    current = record.version if record else 0
    return current if version is None else version
