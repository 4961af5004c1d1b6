"""Stage, publish and list the versions of a tenant's knowledge in the embedded store."""
# ruff: noqa: S608 - only names of tables and columns are put in; values are bound

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import replace

from workbench import files
from workbench.memory import checks
from workbench.memory.sqlite import keywords
from workbench.memory.sqlite.escaping import escaped, listed, unescaped
from workbench.memory.sqlite.space import Space, fitted, touch
from workbench.memory.sqlite.tables import AMONG, IN_VERSION, OPEN, insert, remove, stored
from workbench.ports import Added, MemoryVersion
from workbench.types import Item

#: Active and staged rows of the knowledge; bind `key`.
_CURRENT = f"tenant = :key AND kind = 'document' AND until = {OPEN}"


def missing(db: sqlite3.Connection, space: Space, ids: Sequence[str]) -> list[str]:
    """Return those of `ids` that are neither active nor staged, in the order given."""
    query = f"SELECT id FROM items WHERE tenant = :key AND +until = {OPEN} AND id IN {AMONG}"
    known = {row[0] for row in db.execute(query, space.bound | {"values": listed(ids)})}
    return [name for name in ids if escaped(name) not in known]


def stage(db: sqlite3.Connection, space: Space, batch: Sequence[Item]) -> int:
    """Write the items that are neither active nor staged as rows of the next version; return their number."""
    space = fitted(db, space, batch[0])
    known = stored(db, space, batch, among=f"until = {OPEN}")
    new = [item for item in batch if item.id not in known]
    if new:
        insert(db, space, new, since=space.version + 1)
        touch(db, space)
    return len(new)


def add(db: sqlite3.Connection, space: Space, batch: Sequence[Item], now: str) -> Added:
    """Replace the active documents of the batch's sources with the batch."""
    if batch:
        stage(db, space, batch)
    sources = json.dumps(sorted({item.source.encode().hex() for item in batch}))
    # In hexadecimal digits, because a source may contain NUL.
    among = "(SELECT whole(value) FROM json_each(:values))"
    query = f"SELECT id FROM items WHERE {IN_VERSION} AND kind = 'document' AND source NOT IN {among}"
    others = [unescaped(row[0]) for row in db.execute(query, space.bound | {"values": sources})]
    return publish(db, space, [*others, *(item.id for item in batch)], now)


def publish(db: sqlite3.Connection, space: Space, ids: Collection[str], now: str) -> Added:
    """Make exactly `ids` a new active version; change nothing when they already are the active one."""
    wanted = {escaped(item): item for item in ids}
    active: dict[str, int] = {}
    staged: dict[str, int] = {}
    for number, item, since in db.execute(
        f"SELECT number, id, since FROM items WHERE {_CURRENT}", space.bound
    ):
        (active if since <= space.version else staged)[item] = number
    checks.check_published(len(wanted.keys() - active.keys() - staged.keys()), len(wanted))
    remove(db, space, [number for item, number in staged.items() if item not in wanted])
    both = len(wanted.keys() & active.keys())
    version = space.version
    if wanted.keys() != active.keys():
        version += 1
        _leave(db, space, [number for item, number in active.items() if item not in wanted])
        keywords.index(db, space.key, [number for item, number in staged.items() if item in wanted])
        _record(db, space, version, list(wanted.values()), now)
    if staged or version != space.version:
        touch(db, space)
    return Added(added=len(wanted) - both, unchanged=both, replaced=len(active) - both, version=version)


def _leave(db: sqlite3.Connection, space: Space, numbers: Sequence[int]) -> None:
    """End rows with the active version."""
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
    """Fill an empty tenant with documents, active as `version`, and episodic items."""
    if version:
        _record(db, space, version, [item.id for item in documents], "")
    space = replace(space, version=version)
    for batch, since in ((documents, version), (others, 0)):
        if batch:
            space = fitted(db, space, batch[0])
            insert(db, space, batch, since=since)
    touch(db, space)


def versions(db: sqlite3.Connection, space: Space) -> list[MemoryVersion]:
    """Return the kept versions, oldest first."""
    query = "SELECT number, at, items, content FROM versions WHERE tenant = ? ORDER BY number"
    return [
        MemoryVersion(number=number, at=at, items=items, content=content)
        for number, at, items, content in db.execute(query, (space.key,))
    ]


def recount(db: sqlite3.Connection, space: Space) -> None:
    """Update the number of items and the digest of each version after items were removed."""
    query = f"SELECT id FROM items WHERE {IN_VERSION} AND kind = 'document'"
    for version in versions(db, space):
        rows = db.execute(query, space.bound | {"version": version.number})
        ids = sorted(unescaped(row[0]) for row in rows)
        if len(ids) != version.items:
            db.execute(
                "UPDATE versions SET items = ?, content = ? WHERE tenant = ? AND number = ?",
                (len(ids), files.digest(ids), space.key, version.number),
            )
