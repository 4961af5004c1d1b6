"""The embedded store's tables: how a tenant and its items become rows, and rows become items again.

A row is an item and the versions between which it is in force: from `since` until before `until`.
Staged rows begin with the next version; what is written by use begins with 0 and stays open.
"""
# ruff: noqa: S608 - only names of tables and columns are put in; values are bound

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from workbench.errors import ConfigError, NotFoundError
from workbench.memory import rules
from workbench.memory.parquet import vector_bytes
from workbench.memory.sqlite import keywords
from workbench.ports import Requester
from workbench.types import KNOWLEDGE, Item

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: The `until` of what is in force or staged.
OPEN = 2**62
#: Rows of a tenant in a version; bind `key` and `version`.
IN_VERSION = "tenant = :key AND since <= :version AND until > :version"
AMONG = "(SELECT value FROM json_each(:values))"
#: The few of them with these ids. A plus sign keeps SQLite from walking through all of the version (here,
#: and before `tenant` where numbers are given, through all of the tenant).
NAMED_IN_VERSION = f"tenant = :key AND id IN {AMONG} AND +since <= :version AND +until > :version"
_AS_THEY_ARE = (
    "text", "source", "source_digest", "kind", "position", "title", "version", "classification", "owner",
    "trust", "created", "valid_from", "valid_to", "expires",
)  # fmt: skip
_COLUMNS = ("id", "subject", "access", "parents", *_AS_THEY_ARE)
_SELECTED = ", ".join(_COLUMNS)
_ESCAPED = re.compile(r"\\([0\\])")


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
        """What `IN_VERSION` is bound to for the active version."""
        return {"key": self.key, "version": self.version}


def escaped(name: str) -> str:
    """An id or a subject as the file holds it, without NUL, at which SQLite's functions end a text."""
    return name.replace("\\", "\\\\").replace("\0", "\\0")


def unescaped(name: str) -> str:
    """An id or a subject as it was given."""
    return _ESCAPED.sub(lambda found: "\0" if found[1] == "0" else "\\", name) if "\\" in name else name


def listed(names: Iterable[str]) -> str:
    """Ids as JSON to bind to `AMONG`."""
    return json.dumps(list(map(escaped, names)))


def find(db: sqlite3.Connection, tenant: str) -> Space:
    """Read the tenant's row; its key is 0, which no row has, when nothing was ever written."""
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
    """The space `item` may be put in; ConfigError when the tenant holds vectors of another one."""
    if number(db, "SELECT EXISTS (SELECT 1 FROM items WHERE tenant = ?)", (space.key,)):
        rules.check_embedding(item, embedding=space.embedding, dimensions=space.dimensions)
        return space
    # When all was forgotten, the next space may be another one.
    dimensions = len(item.vector)
    db.execute(
        "UPDATE tenants SET embedding = ?, dimensions = ? WHERE key = ?",
        (item.embedding, dimensions, space.key),
    )
    return replace(space, embedding=item.embedding, dimensions=dimensions)


def touch(db: sqlite3.Connection, space: Space) -> None:
    """Count a write, so that every process reads the tenant's matrix again."""
    db.execute("UPDATE tenants SET changes = changes + 1 WHERE key = ?", (space.key,))


def number(db: sqlite3.Connection, query: str, values: Any = ()) -> int:
    """The one number that a query answers."""
    return int(db.execute(query, values).fetchone()[0])


def readable(requester: Requester | None) -> tuple[str, dict[str, Any]]:
    """An SQL condition for rows that the requester sees, as `rules.readable`, and what it is bound to."""
    if requester is None:
        return "TRUE", {}
    groups = "(SELECT value FROM json_each(:groups))"
    listed = f"EXISTS (SELECT 1 FROM json_each(access) AS one WHERE one.value IN {groups})"
    condition = f"{listed} AND classification <= :clearance AND (expires IS NULL OR expires > :now)"
    bound = {"groups": json.dumps(requester.groups), "clearance": requester.clearance, "now": requester.now}
    return condition, bound


def in_force(
    db: sqlite3.Connection, space: Space, ids: Iterable[str], *, requester: Requester | None = None
) -> int:
    """How many of `ids` are in force, and the requester sees."""
    seen, bound = readable(requester)
    query = f"SELECT count(*) FROM items WHERE {NAMED_IN_VERSION} AND {seen}"
    return number(db, query, space.bound | bound | {"values": listed(ids)})


def version_asked(db: sqlite3.Connection, space: Space, version: int | None) -> int:
    """The version to read; NotFoundError when it is none that can still be asked for."""
    if version is None or version == space.version:
        return space.version
    kept = [
        row[0] for row in db.execute("SELECT number FROM versions WHERE tenant = ? ORDER BY 1", (space.key,))
    ]
    if version not in kept:
        raise no_version(version, kept)
    return version


def no_version(version: int, kept: Sequence[int]) -> NotFoundError:
    """What is raised when a version is asked for that is not kept."""
    known = f"{kept[0]} to {kept[-1]}" if kept else "none"
    return NotFoundError(
        f"version {version} of this memory is not kept (kept: {known})",
        hint="workbench memory versions lists those that can be asked for",
    )


def there(db: sqlite3.Connection, space: Space, items: Sequence[Item], *, among: str) -> set[str]:
    """Ids of `items` that have a row for which the SQL condition `among` holds.

    ConfigError when an id is that of an item of another source, or of the other of the two kinds.
    """
    given = {escaped(item.id): item for item in items}
    query = f"SELECT id, source, kind, {among} FROM items WHERE tenant = :key AND id IN {AMONG}"
    found = set()
    for name, source, kind, fits in db.execute(query, space.bound | {"values": json.dumps(list(given))}):
        item = given[name]
        rules.check_source(item, source)
        if (kind == KNOWLEDGE) != (item.kind == KNOWLEDGE):
            raise ConfigError(
                f"item {item.id!r} is there as {kind!r}, not as {item.kind!r}",
                hint="make the kind a part of what the id is the digest of",
            )
        if fits:
            found.add(item.id)
    return found


def insert(db: sqlite3.Connection, space: Space, items: Sequence[Item], *, since: int) -> None:
    """Write rows in force from version `since` on; those in force already can be found by their words."""
    names = f"tenant, since, until, vector, {_SELECTED}"
    marks = ", ".join("?" * (len(_COLUMNS) + 4))
    written = []
    for item in items:
        row = (
            space.key, since, OPEN, vector_bytes(item.vector), escaped(item.id),
            escaped(item.subject), json.dumps(item.access), listed(item.parents),
            *(getattr(item, n) for n in _AS_THEY_ARE),
        )  # fmt: skip
        written.append(db.execute(f"INSERT INTO items ({names}) VALUES ({marks})", row).lastrowid)
    if since <= space.version:
        keywords.index(db, space.key, written)


def remove(db: sqlite3.Connection, space: Space, numbers: Collection[int]) -> None:
    """Delete rows, from the keyword index too."""
    values = json.dumps(list(numbers))
    bound = space.bound | {"values": values}
    in_force = "+tenant = :key AND +since <= :version AND +until > :version"
    query = f"SELECT number FROM items WHERE number IN {AMONG} AND {in_force}"
    keywords.unindex(db, space.key, [row[0] for row in db.execute(query, bound)])
    db.execute(
        "DELETE FROM items WHERE +tenant = ? AND number IN (SELECT value FROM json_each(?))",
        (space.key, values),
    )


def items_where(
    db: sqlite3.Connection, space: Space, condition: str, values: Mapping[str, Any], *, vectors: bool
) -> list[Item]:
    """Items of the rows for which `condition` holds, in the order of their logical ids.

    Without `vectors` theirs are empty: who looks at texts need not decode them.
    """
    import numpy as np

    query = f"SELECT {'vector' if vectors else 'NULL'}, {_SELECTED} FROM items WHERE {condition}"
    found = []
    for blob, name, subject, access, parents, *rest in db.execute(query, dict(values)):
        found.append(
            Item(
                id=unescaped(name),
                subject=unescaped(subject),
                access=tuple(json.loads(access)),
                parents=tuple(map(unescaped, json.loads(parents))),
                vector=tuple(np.frombuffer(blob, "<f4").tolist()) if blob is not None else (),
                embedding=space.embedding,
                **dict(zip(_AS_THEY_ARE, rest, strict=True)),
            )
        )
    return sorted(found, key=lambda item: item.id)


def ends(db: sqlite3.Connection, space: Space, last: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of the rows up to number `last`, sorted, and the version each one ends with."""
    import numpy as np
    import orjson

    query = (
        "SELECT json_group_array(number), json_group_array(until) FROM items WHERE tenant = ? AND number <= ?"
    )
    columns = db.execute(query, (space.key, last)).fetchone()
    numbers, until = (np.asarray(orjson.loads(column), np.int64) for column in columns)
    order = np.argsort(numbers)
    return numbers[order], until[order]


def rows_after(db: sqlite3.Connection, space: Space, last: int) -> Iterator[tuple[Any, ...]]:
    """Rows with a larger number than `last`, as `Vectors.build` takes them."""
    query = (
        "SELECT id, number, since, until, classification, valid_from, valid_to, expires, access, source, "
        "kind, vector FROM items WHERE tenant = ? AND number > ?"
    )
    rows = [(unescaped(row[0]), *row[1:]) for row in db.execute(query, (space.key, last))]
    rows.sort(key=lambda row: row[:2])
    return ((*row[:8], json.loads(row[8]), *row[9:]) for row in rows)
