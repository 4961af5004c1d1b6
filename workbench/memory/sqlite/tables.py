"""Write items as rows of the embedded store's table, and read rows as items.

A row is an item and its active versions: from `since` until before `until`. Staged rows begin with the next
version; episodic rows begin with 0 and have no end.
"""
# ruff: noqa: S608 - only names of tables and columns are put in; values are bound

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from workbench.memory import checks
from workbench.memory.parquet import vector_bytes
from workbench.memory.sqlite import keywords
from workbench.memory.sqlite.escaping import escaped, listed, unescaped
from workbench.memory.sqlite.filtering import Condition
from workbench.memory.sqlite.space import Space, number
from workbench.ports import Requester
from workbench.ports.item_filter import by_lists
from workbench.types import Item

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: The `until` of active and staged rows.
OPEN = 2**62
#: Rows of a tenant in a version; bind `key` and `version`.
IN_VERSION = "tenant = :key AND since <= :version AND until > :version"
AMONG = "(SELECT value FROM json_each(:values))"
#: Those of them with the bound ids. A plus sign keeps SQLite from scanning all of the version here, and all
#: of the tenant before `tenant` where row numbers are given.
NAMED_IN_VERSION = f"tenant = :key AND id IN {AMONG} AND +since <= :version AND +until > :version"
_AS_THEY_ARE = (
    "text", "source", "source_digest", "kind", "position", "title", "version", "classification", "owner",
    "trust", "created", "valid_from", "valid_to", "expires",
)  # fmt: skip
_COLUMNS = ("id", "subject", "access", "parents", *_AS_THEY_ARE)
_SELECTED = ", ".join(_COLUMNS)


def readable(requester: Requester | None) -> tuple[str, dict[str, Any]]:
    """Return `rules.readable` as an SQL condition, and its parameters."""
    if requester is None:
        return "TRUE", {}
    condition = Condition(requester.where or by_lists(requester.groups, requester.clearance))
    return f"{condition.text} AND (expires IS NULL OR expires > :now)", condition.bound | {
        "now": requester.now
    }


def count_active(
    db: sqlite3.Connection, space: Space, ids: Iterable[str], *, requester: Requester | None = None
) -> int:
    """Count those of `ids` that are active and that the requester may see."""
    seen, bound = readable(requester)
    query = f"SELECT count(*) FROM items WHERE {NAMED_IN_VERSION} AND {seen}"
    return number(db, query, space.bound | bound | {"values": listed(ids)})


def stored(db: sqlite3.Connection, space: Space, items: Sequence[Item], *, among: str) -> set[str]:
    """Return the ids of `items` that have a row for which the SQL condition `among` holds.

    ConfigError when the stored item of an id has another source, or only one of the two is a document.
    """
    given = {escaped(item.id): item for item in items}
    query = f"SELECT id, source, kind, {among} FROM items WHERE tenant = :key AND id IN {AMONG}"
    found = set()
    for name, source, kind, fits in db.execute(query, space.bound | {"values": json.dumps(list(given))}):
        checks.check_stored(item := given[name], source=source, kind=kind)
        if fits:
            found.add(item.id)
    return found


def insert(db: sqlite3.Connection, space: Space, items: Sequence[Item], *, since: int) -> None:
    """Write rows that are active from version `since` on; index the words of those active now."""
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
    """Delete rows by their numbers, from the keyword index too."""
    values = json.dumps(list(numbers))
    bound = space.bound | {"values": values}
    active = "+tenant = :key AND +since <= :version AND +until > :version"
    query = f"SELECT number FROM items WHERE number IN {AMONG} AND {active}"
    keywords.unindex(db, space.key, [row[0] for row in db.execute(query, bound)])
    db.execute(
        "DELETE FROM items WHERE +tenant = ? AND number IN (SELECT value FROM json_each(?))",
        (space.key, values),
    )


def items_where(
    db: sqlite3.Connection, space: Space, condition: str, values: Mapping[str, Any], *, vectors: bool
) -> list[Item]:
    """Return the items of the rows for which `condition` holds, in the order of their logical ids.

    Without `vectors` the items' vectors are empty, which saves decoding them.
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
    """Return the numbers of the rows up to `last`, sorted, and each row's `until`."""
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
    """Return the rows with a number above `last`, as `Vectors.build` takes them."""
    query = (
        "SELECT id, number, since, until, classification, valid_from, valid_to, expires, access, source, "
        "kind, vector FROM items WHERE tenant = ? AND number > ?"
    )
    rows = [(unescaped(row[0]), *row[1:]) for row in db.execute(query, (space.key, last))]
    rows.sort(key=lambda row: row[:2])
    return ((*row[:8], json.loads(row[8]), *row[9:]) for row in rows)
