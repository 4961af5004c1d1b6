"""Evict, forget, hold, expire and purge a tenant's rows."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from workbench import files
from workbench.context import instant
from workbench.memory import rules
from workbench.memory.weaviate import filters, objects, schema, versions
from workbench.memory.weaviate.space import TenantSpace, of_version
from workbench.memory.weaviate.table import Properties, StoredRow
from workbench.memory.weaviate.tenant_record import Cover, Holder, TenantRecord
from workbench.ports import Budget, Forgotten, Purged, Remembered, Selector
from workbench.types import Item


async def remember(
    space: TenantSpace, record: TenantRecord, batch: Sequence[Item], *, budget: Budget, now: str
) -> Remembered:
    """Write new items, and delete what exceeds the budget.

    An item that its own write would evict is not written.
    """
    known: set[str] = set()
    if batch:
        record = await versions.with_embedding(space, record, batch)
        known = {row.properties["item"] for row in await versions.stored(space, batch)}
    new = [item for item in batch if space.encrypt(item.id) not in known]
    gone: list[str] = []
    rows: dict[str, StoredRow] = {}
    if budget.items is not None or budget.tokens is not None:
        found = await space.table.rows(
            filters.written_by_use(), lambda p: not p["since"], properties=schema.ALL
        )
        old = [space.item(row) for row in found]
        rows = {item.id: row for item, row in zip(old, found, strict=True)}
        held = _held(space, record, new, rows)
        gone = [item.id for item in rules.evicted([*old, *new], budget, held=held, now=now)]
    await versions.write(space, record, [item for item in new if item.id not in gone], since=0)
    await space.table.remove([rows[name].uuid for name in gone if name in rows])
    return Remembered(added=len(new), unchanged=len(batch) - len(new), evicted=tuple(gone))


async def forget(
    space: TenantSpace, record: TenantRecord, what: Selector, *, now: str, dry_run: bool
) -> Forgotten:
    """Delete all rows of the selected items and of what was derived from them; nothing when `dry_run`."""
    is_held = record.holder()
    selected = _by_item(await _selected(space, what, now), is_held)
    leaving = {item for item, held in selected.items() if not held}
    kept = selected.keys() - leaving
    derived: set[str] = set()
    generations = [parents := leaving]
    while parents:
        children = _by_item(await space.table.named("parents", parents), is_held)
        new = children.keys() - leaving - derived - kept
        generations.append(parents := {item for item in new if not children[item]})
        derived |= parents
        kept |= new - parents
    gone = leaving | derived
    if not dry_run:
        # Derived items are removed first: after an interruption the same verb still finds them by parents.
        for items in reversed(generations):
            await space.table.remove([row.uuid for row in await space.table.named("item", items)])
        # Without rows too: an interrupted verb or the server's clock may have removed some before.
        await versions.recount(space, record)
    ids, kept_ids = (tuple(sorted(map(space.decrypt, items))) for items in (gone, kept))
    return Forgotten(items=len(gone), derived=len(derived), ids=ids, kept=kept_ids)


async def hold(space: TenantSpace, record: TenantRecord, what: Selector) -> int:
    """Record the hold, which covers later items too; return how many items it covers now."""
    cover = _cover(space, what)
    return await _set_holds(space, record, record.holds | {_name_of(cover): cover}, cover)


async def release(space: TenantSpace, record: TenantRecord, what: Selector) -> int:
    """Remove the hold; return how many items it covered, 0 when there is none."""
    cover = _cover(space, what)
    name = _name_of(cover)
    if name not in record.holds:
        return 0
    others = {key: other for key, other in record.holds.items() if key != name}
    return await _set_holds(space, record, others, cover)


async def _set_holds(
    space: TenantSpace, record: TenantRecord, holds: dict[str, Cover], changed: Cover
) -> int:
    """Replace the holds of a tenant; return the number of items that `changed` covers.

    The server's clock removes these items when they expire, unless a hold still covers them.
    """
    is_held = (await space.save(record, holds=holds)).holder()
    rows = await _covered(space, changed)
    full = await space.table.by_uuid([row.uuid for row in rows])

    def ttl(properties: Properties) -> str | None:
        return objects.ttl_of(properties, held=is_held(properties))

    moments = [(row, row.properties["ttl"]) for row in full]
    different = [row.uuid for row, moment in moments if (moment and instant(moment)) != ttl(row.properties)]
    await space.table.change(different, lambda properties: {"ttl": ttl(properties)})
    return len({row.properties["item"] for row in rows})


async def purge(space: TenantSpace, record: TenantRecord, *, now: str, keep_versions: int) -> Purged:
    """Delete what has expired and what no kept version holds, except what is under hold."""
    first = record.versions[0].number if record.versions else 0
    oldest = max(record.version - max(keep_versions, 1) + 1, first)
    listed = tuple(version for version in record.versions if version.number >= oldest)
    if listed != record.versions:
        record = await space.save(record, versions=listed)
    is_held, ended = record.holder(), await _expired(space, now)
    left = await space.table.rows(filters.outdated(oldest), lambda p: bool(p["until"] <= oldest))
    expired = _by_item(ended, is_held)
    living = {
        row.properties["item"]
        for row in await space.table.named("item", (row.properties["item"] for row in left))
        if row.properties["until"] > oldest
    }
    outdated = {
        item: held
        for item, held in _by_item(left, is_held).items()
        if item not in living and item not in expired
    }
    leaving = {row.uuid for row in (*ended, *left) if not is_held(row.properties)}
    await space.table.remove(sorted(leaving))
    await versions.recount(space, record)
    return rules.purged(expired, outdated)


async def counted(space: TenantSpace, record: TenantRecord, now: str) -> dict[str, Any]:
    """Count what `MemoryStats` reports of the tenant."""
    found = await space.table.rows(properties=(*schema.BRIEF, "expires"))
    rows = [row.properties for row in found]
    current = [row.properties for row in of_version(found, record.version).values()]
    is_held, second = record.holder(), objects.second_number(now)
    return {
        "version": record.version,
        "items": len(current),
        "stored": len({row["item"] for row in rows if row["since"] <= record.version}),
        "staged": len({row["item"] for row in rows if row["since"] > record.version}),
        "expired": sum(row["expires"] <= second for row in current),
        "held": len({row["item"] for row in rows if is_held(row)}),
        "by_kind": dict(sorted(Counter(row["kind"] for row in current).items())),
        "embedding": record.embedding if rows else None,
        "dimensions": record.dimensions if rows else None,
    }


async def _selected(space: TenantSpace, what: Selector, now: str) -> list[StoredRow]:
    """Return the selected rows, of all versions and staged."""
    return await (_expired(space, now) if what.expired else _covered(space, _cover(space, what)))


async def _covered(space: TenantSpace, cover: Cover) -> list[StoredRow]:
    return await space.table.named(cover[0][0], [name for _, name in cover]) if cover else []


async def _expired(space: TenantSpace, now: str) -> list[StoredRow]:
    second = objects.second_number(now)
    return await space.table.rows(
        filters.expired(now), lambda p: bool(p["expires"] <= second), properties=(*schema.BRIEF, "expires")
    )


def _held(
    space: TenantSpace, record: TenantRecord, new: Sequence[Item], rows: dict[str, StoredRow]
) -> set[str]:
    """Return the ids under hold among rows and among items not yet written."""
    is_held = record.holder()
    unwritten = {
        item.id
        for item in new
        if is_held(
            {
                "item": space.encrypt(item.id),
                "subject": space.encrypt(item.subject),
                "source": objects.wrapped(item.source),
            }
        )
    }
    return unwritten | {name for name, row in rows.items() if is_held(row.properties)}


def _by_item(rows: Iterable[StoredRow], is_held: Holder) -> dict[str, bool]:
    """Return the encrypted ids of rows, and whether a hold covers a row of each."""
    found: dict[str, bool] = {}
    for row in rows:
        item = row.properties["item"]
        found[item] = found.get(item, False) or is_held(row.properties)
    return found


def _cover(space: TenantSpace, what: Selector) -> Cover:
    """Return what a hold covers, in the names of rows."""
    if what.ids is not None:
        return tuple(("item", space.encrypt(name)) for name in sorted(set(what.ids)))
    if what.subject:
        return (("subject", space.encrypt(what.subject)),)
    return (("source", objects.wrapped(what.source or "")),)


def _name_of(cover: Cover) -> str:
    return hashlib.sha256(files.canonical(cover)).hexdigest()
