"""How long a tenant's rows stay in Weaviate: eviction, forgetting, legal holds, expiry, old versions."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from workbench import files
from workbench.context import instant
from workbench.memory import rules
from workbench.memory.weaviate import filters, schema, versions
from workbench.memory.weaviate.search import of_version
from workbench.memory.weaviate.table import Properties, Row
from workbench.memory.weaviate.tenant_record import Control, Cover, Holder
from workbench.ports import Budget, Forgotten, Purged, Remembered, Selector
from workbench.types import Item

if TYPE_CHECKING:
    from workbench.memory.weaviate.memory import WeaviateMemory


async def remember(
    memory: WeaviateMemory, record: Control, batch: Sequence[Item], *, budget: Budget, now: str
) -> Remembered:
    """Write what is not there, and delete what is more than the budget allows.

    What would be written and evicted at once is not written.
    """
    known: set[str] = set()
    if batch:
        record = await versions.fitted(memory, record, batch)
        known = {row.properties["item"] for row in await versions.there(memory, batch)}
    new = [item for item in batch if memory.encrypt(item.id) not in known]
    gone: list[str] = []
    rows: dict[str, Row] = {}
    if budget.items is not None or budget.tokens is not None:
        found = await memory.table.rows(
            filters.written_by_use(), lambda p: not p["since"], properties=schema.ALL
        )
        old = [memory.item(row) for row in found]
        rows = {item.id: row for item, row in zip(old, found, strict=True)}
        held = _held(memory, record, new, rows)
        gone = [item.id for item in rules.evicted([*old, *new], budget, held=held, now=now)]
    await versions.write(memory, record, [item for item in new if item.id not in gone], since=0)
    await memory.table.remove([rows[one].uuid for one in gone if one in rows])
    return Remembered(added=len(new), unchanged=len(batch) - len(new), evicted=tuple(gone))


async def forget(
    memory: WeaviateMemory, record: Control, what: Selector, *, now: str, dry_run: bool
) -> Forgotten:
    """Delete all rows of what is chosen and of what was derived from it; nothing when `dry_run`."""
    holder = record.holder()
    chosen = _by_item(await _chosen(memory, what, now), holder)
    going = {one for one, held in chosen.items() if not held}
    kept = chosen.keys() - going
    derived: set[str] = set()
    generations = [parents := going]
    while parents:
        children = _by_item(await memory.table.named("parents", parents), holder)
        fresh = children.keys() - going - derived - kept
        generations.append(parents := {one for one in fresh if not children[one]})
        derived |= parents
        kept |= fresh - parents
    gone = going | derived
    if not dry_run:
        # What was derived goes first: killed in between, the same verb still finds it by its parents.
        for some in reversed(generations):
            await memory.table.remove([row.uuid for row in await memory.table.named("item", some)])
        # Also when nothing went: one that was killed, or the server's clock, may have removed rows before.
        await versions.recount(memory, record)
    ids, stay = (tuple(sorted(map(memory.decrypt, some))) for some in (gone, kept))
    return Forgotten(items=len(gone), derived=len(derived), ids=ids, kept=stay)


async def hold(memory: WeaviateMemory, record: Control, what: Selector) -> int:
    """Remember the hold, so that it covers what comes later too; how many items it means now."""
    cover = _cover(memory, what)
    record = await memory.save(record, holds={**record.holds, _name_of(cover): cover})
    rows = await _chosen(memory, what, "")
    await _time(memory, record, rows)
    return len({row.properties["item"] for row in rows})


async def release(memory: WeaviateMemory, record: Control, what: Selector) -> int:
    """Drop the hold of that name; how many items it meant, 0 when there is none."""
    name = _name_of(_cover(memory, what))
    if name not in record.holds:
        return 0
    rest = {key: cover for key, cover in record.holds.items() if key != name}
    record = await memory.save(record, holds=rest)
    rows = await _chosen(memory, what, "")
    await _time(memory, record, rows)
    return len({row.properties["item"] for row in rows})


async def purge(memory: WeaviateMemory, record: Control, *, now: str, keep_versions: int) -> Purged:
    """Delete what has expired and what no kept version holds, but for what is held."""
    first = record.versions[0].number if record.versions else 0
    oldest = max(record.version - max(keep_versions, 1) + 1, first)
    listed = tuple(one for one in record.versions if one.number >= oldest)
    if listed != record.versions:
        record = await memory.save(record, versions=listed)
    holder, second = record.holder(), schema.second_number(now)
    ended = await memory.table.rows(
        filters.expired(now), lambda p: bool(p["expires"] <= second), properties=(*schema.BRIEF, "expires")
    )
    left = await memory.table.rows(filters.outdated(oldest), lambda p: bool(p["until"] <= oldest))
    expired = _by_item(ended, holder)
    living = {
        row.properties["item"]
        for row in await memory.table.named("item", (row.properties["item"] for row in left))
        if row.properties["until"] > oldest
    }
    outdated = {
        one: held for one, held in _by_item(left, holder).items() if one not in living and one not in expired
    }
    going = {row.uuid for row in (*ended, *left) if not holder.holds(row.properties)}
    await memory.table.remove(sorted(going))
    await versions.recount(memory, record)
    held = sum(expired.values()) + sum(outdated.values())
    return Purged(
        expired=len(expired) - sum(expired.values()),
        outdated=len(outdated) - sum(outdated.values()),
        held=held,
    )


async def counted(memory: WeaviateMemory, record: Control, now: str) -> dict[str, Any]:
    """What `MemoryStats` says of the tenant."""
    found = await memory.table.rows(properties=(*schema.BRIEF, "expires"))
    rows = [row.properties for row in found]
    current = [row.properties for row in of_version(found, record.version).values()]
    holder, second = record.holder(), schema.second_number(now)
    return {
        "version": record.version,
        "items": len(current),
        "stored": len({row["item"] for row in rows if row["since"] <= record.version}),
        "staged": len({row["item"] for row in rows if row["since"] > record.version}),
        "expired": sum(row["expires"] <= second for row in current),
        "held": len({row["item"] for row in rows if holder.holds(row)}),
        "by_kind": dict(sorted(Counter(row["kind"] for row in current).items())),
        "embedding": record.embedding if rows else None,
        "dimensions": record.dimensions if rows else None,
    }


async def _chosen(memory: WeaviateMemory, what: Selector, now: str) -> list[Row]:
    """Rows the selector means, of all versions and staged."""
    if what.ids is not None:
        return await memory.table.named("item", map(memory.encrypt, what.ids))
    if what.subject:
        return await memory.table.named("subject", [memory.encrypt(what.subject)])
    if what.source:
        return await memory.table.named("source", [schema.wrapped(what.source)])
    second = schema.second_number(now)
    return await memory.table.rows(
        filters.expired(now), lambda p: bool(p["expires"] <= second), properties=(*schema.BRIEF, "expires")
    )


async def _time(memory: WeaviateMemory, record: Control, rows: Sequence[Row]) -> None:
    """Let the server's own clock remove these rows when they have expired, unless they are held."""
    holder = record.holder()
    full = await memory.table.by_uuid([row.uuid for row in rows])

    def wanted(properties: Properties) -> str | None:
        return schema.ttl_of(properties, held=holder.holds(properties))

    changed = [row.uuid for row in full if _ttl(row) != wanted(row.properties)]
    await memory.table.change(changed, lambda properties: {"ttl": wanted(properties)})


def _ttl(row: Row) -> str | None:
    moment = row.properties["ttl"]
    return None if moment is None else instant(moment)


def _held(memory: WeaviateMemory, record: Control, new: Sequence[Item], rows: dict[str, Row]) -> set[str]:
    """Ids of what is held among rows and among items not yet written."""
    holder = record.holder()
    fresh = {
        item.id
        for item in new
        if holder.holds(
            {
                "item": memory.encrypt(item.id),
                "subject": memory.encrypt(item.subject),
                "source": schema.wrapped(item.source),
            }
        )
    }
    return fresh | {one for one, row in rows.items() if holder.holds(row.properties)}


def _by_item(rows: Iterable[Row], holder: Holder) -> dict[str, bool]:
    """Sealed ids of rows, and whether a hold covers one of theirs."""
    found: dict[str, bool] = {}
    for row in rows:
        one = row.properties["item"]
        found[one] = found.get(one, False) or holder.holds(row.properties)
    return found


def _cover(memory: WeaviateMemory, what: Selector) -> Cover:
    """What a hold covers, as rows name it."""
    if what.ids is not None:
        return tuple(("item", memory.encrypt(one)) for one in sorted(set(what.ids)))
    if what.subject:
        return (("subject", memory.encrypt(what.subject)),)
    return (("source", schema.wrapped(what.source or "")),)


def _name_of(cover: Cover) -> str:
    return hashlib.sha256(files.canonical(cover)).hexdigest()
