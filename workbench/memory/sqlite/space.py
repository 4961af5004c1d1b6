"""Read and write the row of a tenant: its active version, its embedding and its counter of changes."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, replace
from typing import Any

from workbench.memory import checks
from workbench.memory.sqlite import keywords
from workbench.types import Item


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """One tenant's row as of one transaction: its active version and the space of its vectors.

    `changes` counts its committed writes, over all processes.
    """

    tenant: str
    key: int
    changes: int
    version: int
    embedding: str
    dimensions: int

    @property
    def bound(self) -> dict[str, Any]:
        """The parameters of `IN_VERSION` for the active version."""
        return {"key": self.key, "version": self.version}


def find(db: sqlite3.Connection, tenant: str) -> Space:
    """Read the tenant's row; its key is 0, which no row has, before the first write."""
    query = "SELECT key, changes, version, embedding, dimensions FROM tenants WHERE tenant = ?"
    row = db.execute(query, (tenant,)).fetchone() or (0, 0, 0, "", 0)
    return Space(
        tenant=tenant, key=row[0], changes=row[1], version=row[2], embedding=row[3], dimensions=row[4]
    )


def make(db: sqlite3.Connection, tenant: str) -> Space:
    """Read the tenant's row, or insert it."""
    space = find(db, tenant)
    if space.key:
        return space
    key = number(db, "INSERT INTO tenants VALUES (NULL, ?, 0, 0, '', 0) RETURNING key", (tenant,))
    keywords.create(db, key)
    return replace(space, key=key)


def fitted(db: sqlite3.Connection, space: Space, item: Item) -> Space:
    """Return the space for `item`; ConfigError when the tenant's items have another embedding."""
    if number(db, "SELECT EXISTS (SELECT 1 FROM items WHERE tenant = ?)", (space.key,)):
        checks.check_embedding(item, embedding=space.embedding, dimensions=space.dimensions)
        return space
    # An empty tenant accepts any embedding.
    dimensions = len(item.vector)
    db.execute(
        "UPDATE tenants SET embedding = ?, dimensions = ? WHERE key = ?",
        (item.embedding, dimensions, space.key),
    )
    return replace(space, embedding=item.embedding, dimensions=dimensions)


def touch(db: sqlite3.Connection, space: Space) -> None:
    """Increment the change counter, so that every process reloads the tenant's matrix."""
    db.execute("UPDATE tenants SET changes = changes + 1 WHERE key = ?", (space.key,))


def version_asked(db: sqlite3.Connection, space: Space, version: int | None) -> int:
    """Return the number of the version to read; NotFoundError when it is not kept."""
    if version is None or version == space.version:
        return space.version
    query = "SELECT number FROM versions WHERE tenant = ?"
    checks.check_kept(version, [row[0] for row in db.execute(query, (space.key,))])
    return version


def number(db: sqlite3.Connection, query: str, values: Any = ()) -> int:
    """Return the integer that a query selects."""
    return int(db.execute(query, values).fetchone()[0])
