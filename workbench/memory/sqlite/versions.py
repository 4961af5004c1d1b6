"""Versions of a tenant's knowledge in the embedded store: staged, then put in force as a whole."""
# ruff: noqa: S608 - only names of tables and columns are put in; values are bound

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import replace

from workbench import files
from workbench.errors import ConfigError
from workbench.memory.sqlite import keywords
from workbench.memory.sqlite.tables import (
    AMONG,
    IN_VERSION,
    OPEN,
    Space,
    escaped,
    fitted,
    insert,
    listed,
    remove,
    there,
    touch,
    unescaped,
)
from workbench.ports import Added, MemoryVersion
from workbench.types import Item

#: Rows of the knowledge that are in force or staged; bind `key`.
_CURRENT = f"tenant = :key AND kind = 'document' AND until = {OPEN}"


def missing(db: sqlite3.Connection, space: Space, ids: Sequence[str]) -> list[str]:
    """Those of `ids` that are neither in force nor staged, in the order given."""
    query = f"SELECT id FROM items WHERE tenant = :key AND +until = {OPEN} AND id IN {AMONG}"
    known = {row[0] for row in db.execute(query, space.bound | {"values": listed(ids)})}
    return [name for name in ids if escaped(name) not in known]


def stage(db: sqlite3.Connection, space: Space, batch: Sequence[Item]) -> int:
    """Write what is neither in force nor staged as rows of the next version; how many."""
    space = fitted(db, space, batch[0])
    known = there(db, space, batch, among=f"until = {OPEN}")
    new = [item for item in batch if item.id not in known]
    if new:
        insert(db, space, new, since=space.version + 1)
        touch(db, space)
    return len(new)


def add(db: sqlite3.Connection, space: Space, batch: Sequence[Item], now: str) -> Added:
    """Put the batch in force in place of what its sources had."""
    if batch:
        stage(db, space, batch)
    sources = json.dumps(sorted({item.source.encode().hex() for item in batch}))
    # As digits, because a source may hold a NUL.
    among = "(SELECT whole(value) FROM json_each(:values))"
    query = f"SELECT id FROM items WHERE {IN_VERSION} AND kind = 'document' AND source NOT IN {among}"
    others = [unescaped(row[0]) for row in db.execute(query, space.bound | {"values": sources})]
    return publish(db, space, [*others, *(item.id for item in batch)], now)


def publish(db: sqlite3.Connection, space: Space, ids: Collection[str], now: str) -> Added:
    """Move the tenant's version to one that holds exactly `ids`; nothing when that is what is in force."""
    wanted = {escaped(one): one for one in ids}
    in_force: dict[str, int] = {}
    staged: dict[str, int] = {}
    for number, one, since in db.execute(
        f"SELECT number, id, since FROM items WHERE {_CURRENT}", space.bound
    ):
        (in_force if since <= space.version else staged)[one] = number
    missing = len(wanted.keys() - in_force.keys() - staged.keys())
    if missing:
        raise ConfigError(
            f"{missing} of {len(wanted)} items are neither in force nor staged",
            hint="stage what `missing` names, then publish again",
        )
    remove(db, space, [number for one, number in staged.items() if one not in wanted])
    both = len(wanted.keys() & in_force.keys())
    version = space.version
    if wanted.keys() != in_force.keys():
        version += 1
        _leave(db, space, [number for one, number in in_force.items() if one not in wanted])
        keywords.index(db, space.key, [number for one, number in staged.items() if one in wanted])
        _record(db, space, version, list(wanted.values()), now)
    if staged or version != space.version:
        touch(db, space)
    return Added(added=len(wanted) - both, unchanged=both, replaced=len(in_force) - both, version=version)


def _leave(db: sqlite3.Connection, space: Space, numbers: Sequence[int]) -> None:
    """End rows with the version in force."""
    keywords.unindex(db, space.key, numbers)
    db.execute(
        f"UPDATE items SET until = :version + 1 WHERE +tenant = :key AND number IN {AMONG}",
        space.bound | {"values": json.dumps(numbers)},
    )


def _record(db: sqlite3.Connection, space: Space, version: int, ids: Collection[str], now: str) -> None:
    db.execute(
        "INSERT INTO versions (tenant, number, at, items, content) VALUES (?, ?, ?, ?, ?)",
        (space.key, version, now, len(ids), files.digest(sorted(ids))),
    )
    db.execute("UPDATE tenants SET version = ? WHERE key = ?", (version, space.key))


def load(
    db: sqlite3.Connection, space: Space, documents: Sequence[Item], others: Sequence[Item], version: int
) -> None:
    """Fill an empty tenant with documents in force as `version`, and with what was written by use."""
    if version:
        _record(db, space, version, [item.id for item in documents], "")
    space = replace(space, version=version)
    for batch, since in ((documents, version), (others, 0)):
        if batch:
            space = fitted(db, space, batch[0])
            insert(db, space, batch, since=since)
    touch(db, space)


def versions(db: sqlite3.Connection, space: Space) -> list[MemoryVersion]:
    """Versions that are kept, oldest first."""
    query = "SELECT number, at, items, content FROM versions WHERE tenant = ? ORDER BY number"
    return [
        MemoryVersion(number=number, at=at, items=items, content=content)
        for number, at, items, content in db.execute(query, (space.key,))
    ]


def recount(db: sqlite3.Connection, space: Space) -> None:
    """Let the record of each version say what is left in it, after items were removed."""
    query = f"SELECT id FROM items WHERE {IN_VERSION} AND kind = 'document'"
    for one in versions(db, space):
        rows = db.execute(query, space.bound | {"version": one.number})
        ids = sorted(unescaped(row[0]) for row in rows)
        if len(ids) != one.items:
            db.execute(
                "UPDATE versions SET items = ?, content = ? WHERE tenant = ? AND number = ?",
                (len(ids), files.digest(ids), space.key, one.number),
            )
