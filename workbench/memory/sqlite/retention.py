"""Retention in the embedded store: eviction, forgetting, legal holds, expiry and old versions."""
# ruff: noqa: S608 - only names of tables and columns are put in; values are bound

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from workbench.memory import rules
from workbench.memory.sqlite import keywords
from workbench.memory.sqlite.escaping import escaped, listed, unescaped
from workbench.memory.sqlite.space import Space, fitted, number, touch
from workbench.memory.sqlite.tables import AMONG, insert, items_where, remove, stored
from workbench.memory.sqlite.versions import recount
from workbench.ports import Budget, Forgotten, Purged, Remembered, Selector
from workbench.types import Item

_NAMED = "IN (SELECT name FROM holds WHERE tenant = :key AND what ="
_HELD = f"(id {_NAMED} 'id') OR subject {_NAMED} 'subject') OR source {_NAMED} 'source'))"


def remember(
    db: sqlite3.Connection, space: Space, batch: Sequence[Item], *, budget: Budget, now: str
) -> Remembered:
    """Write the new items of the batch, then evict items until the budget holds."""
    new: list[Item] = []
    if batch:
        space = fitted(db, space, batch[0])
        known = stored(db, space, batch, among="TRUE")
        new = [item for item in batch if item.id not in known]
        insert(db, space, new, since=0)
    written_by_use = "tenant = :key AND kind <> 'document'"
    episodic = items_where(db, space, written_by_use, space.bound, vectors=False)
    rows = db.execute(f"SELECT id FROM items WHERE {written_by_use} AND {_HELD}", space.bound)
    held = {unescaped(row[0]) for row in rows}
    gone = [item.id for item in rules.evicted(episodic, budget, held=held, now=now)]
    remove(db, space, _numbers(db, space, map(escaped, gone)))
    if new or gone:
        touch(db, space)
    return Remembered(added=len(new), unchanged=len(batch) - len(new), evicted=tuple(gone))


def forget(db: sqlite3.Connection, space: Space, what: Selector, *, now: str, dry_run: bool) -> Forgotten:
    """Delete all rows of the selected items and of items derived from them; with `dry_run` only count."""
    chosen = _held_or_not(db, space, _condition(what), _values(what, now))
    going = {name for name, held in chosen.items() if not held}
    kept = chosen.keys() - going
    derived: set[str] = set()
    parents = going
    while parents:
        children = _children(db, space, parents)
        fresh = children.keys() - going - derived - kept
        parents = {name for name in fresh if not children[name]}
        derived |= parents
        kept |= fresh - parents
    gone = going | derived
    if not dry_run:
        remove(db, space, _numbers(db, space, gone))
        recount(db, space)
        keywords.rewrite(db, space.key)
        touch(db, space)
    ids, stay = (tuple(sorted(map(unescaped, some))) for some in (gone, kept))
    return Forgotten(items=len(gone), derived=len(derived), ids=ids, kept=stay)


def hold(db: sqlite3.Connection, space: Space, what: Selector) -> int:
    """Store the hold; return the number of items it covers now."""
    named = _named(what)
    name = hold_name(named)
    db.executemany(
        "INSERT OR IGNORE INTO holds (tenant, hold, what, name) VALUES (?, ?, ?, ?)",
        [(space.key, name, column, value) for column, value in named],
    )
    return len(_held_or_not(db, space, _condition(what), _values(what, "")))


def release(db: sqlite3.Connection, space: Space, what: Selector) -> int:
    """Delete the hold; return the number of items it covered, 0 for an unknown hold."""
    query = "DELETE FROM holds WHERE tenant = ? AND hold = ?"
    if not db.execute(query, (space.key, hold_name(_named(what)))).rowcount:
        return 0
    return len(_held_or_not(db, space, _condition(what), _values(what, "")))


def purge(db: sqlite3.Connection, space: Space, *, now: str, keep_versions: int) -> Purged:
    """Delete expired items and items of no kept version, except items under legal hold."""
    query = "SELECT coalesce(min(number), 0) FROM versions WHERE tenant = ?"
    ((listed,),) = db.execute(query, (space.key,))
    oldest = max(space.version - max(keep_versions, 1) + 1, listed)
    bound = {"now": now, "oldest": oldest}
    outdated_row = "since > 0 AND until <= :oldest"
    expired = _held_or_not(db, space, "expires <= :now", bound)
    rows = _held_or_not(db, space, outdated_row, bound)
    living = _held_or_not(db, space, f"NOT ({outdated_row})", bound)
    outdated = {item: held for item, held in rows.items() if item not in living and item not in expired}
    query = (
        f"SELECT number FROM items WHERE tenant = :key AND NOT {_HELD} "
        f"AND (expires IS NOT NULL AND expires <= :now OR {outdated_row})"
    )
    numbers = [row[0] for row in db.execute(query, space.bound | bound)]
    remove(db, space, numbers)
    db.execute("DELETE FROM versions WHERE tenant = :key AND number < :oldest", space.bound | bound)
    if numbers:
        recount(db, space)
        keywords.rewrite(db, space.key)
        touch(db, space)
    return rules.purged(expired, outdated)


def counted(db: sqlite3.Connection, space: Space, now: str) -> dict[str, Any]:
    """Return the tenant's fields of `MemoryStats`."""
    active = "since <= :version AND until > :version"
    kinds = f"SELECT kind, count(*) FROM items WHERE tenant = :key AND {active} GROUP BY kind ORDER BY kind"
    by_kind = dict(db.execute(kinds, space.bound).fetchall())

    def distinct(condition: str) -> int:
        query = f"SELECT count(DISTINCT id) FROM items WHERE tenant = :key AND {condition}"
        return number(db, query, space.bound | {"now": now})

    anything = distinct("TRUE") > 0
    return {
        "version": space.version,
        "items": sum(by_kind.values()),
        "stored": distinct("since <= :version"),
        "staged": distinct("since > :version"),
        "expired": distinct(f"{active} AND expires <= :now"),
        "held": distinct(_HELD),
        "by_kind": by_kind,
        "embedding": space.embedding if anything else None,
        "dimensions": space.dimensions if anything else None,
    }


def _condition(what: Selector) -> str:
    if what.ids is not None:
        return f"id IN {AMONG}"
    if what.subject:
        return "subject <> '' AND subject = :value"  # the first half selects the partial index
    return "source = :value" if what.source else "expires <= :now"


def _values(what: Selector, now: str) -> dict[str, Any]:
    name = escaped(what.subject) if what.subject else what.source
    return {"values": listed(what.ids or ()), "value": name, "now": now}


def _named(what: Selector) -> list[tuple[str, str]]:
    """Return the (column, name) pairs that a hold covers."""
    if what.ids is not None:
        return [("id", escaped(name)) for name in sorted(set(what.ids))]
    return [("subject", escaped(what.subject))] if what.subject else [("source", what.source or "")]


def hold_name(named: Sequence[tuple[str, str]]) -> str:
    """Return the name of the hold that covers these (column, value) pairs."""
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()


def _held_or_not(
    db: sqlite3.Connection, space: Space, condition: str, values: dict[str, Any]
) -> dict[str, bool]:
    """Return the escaped ids of items with a row that meets `condition`, and whether a hold covers each."""
    query = f"SELECT id, max({_HELD}) FROM items WHERE tenant = :key AND ({condition}) GROUP BY +id"
    return {name: bool(held) for name, held in db.execute(query, space.bound | values)}


def _children(db: sqlite3.Connection, space: Space, parents: Iterable[str]) -> dict[str, bool]:
    condition = f"parents <> '[]' AND EXISTS (SELECT 1 FROM json_each(parents) AS p WHERE p.value IN {AMONG})"
    return _held_or_not(db, space, condition, {"values": json.dumps(sorted(parents))})


def _numbers(db: sqlite3.Connection, space: Space, escaped_ids: Iterable[str]) -> list[int]:
    query = f"SELECT number FROM items WHERE tenant = :key AND id IN {AMONG}"
    return [row[0] for row in db.execute(query, space.bound | {"values": json.dumps(list(escaped_ids))})]
