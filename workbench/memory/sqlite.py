"""The embedded store: one SQLite file a memory, FTS5 keyword search and exact vectors, fused.

Every tenant has rows of its own, a keyword index of its own (so that no other tenant's words weigh in
its scores) and a matrix of its own, kept in memory until the tenant's change counter moves.
"""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.memory import rules
from workbench.memory.database import Database
from workbench.memory.rows import vector_bytes, write_tenant
from workbench.memory.vectors import Vectors
from workbench.ports import Added, Query
from workbench.types import JSON, Hit, Item

_SCALARS = (
    "id", "text", "source", "source_digest", "position", "title", "version", "valid_from", "expires", "owner",
)  # fmt: skip
_COLUMNS = ", ".join(_SCALARS)
_MOST_WORDS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """One tenant's row: `changes` counts its committed writes, over all processes."""

    key: int
    changes: int
    embedding: str
    dimensions: int


class SQLiteStore:
    """One memory in one file, for all its tenants. `path` None keeps it in this process's memory."""

    def __init__(self, path: Path | None, *, name: str) -> None:
        self.name = name
        self.database = Database(path)
        self._matrices: dict[str, tuple[_State, Vectors]] = {}
        self._matrices_lock = threading.Lock()

    def tenant(self, tenant: str) -> SQLiteMemory:
        """One tenant's view. The tenant cannot be changed afterwards."""
        rules.check_tenant(tenant)
        return SQLiteMemory(store=self, tenant=tenant)

    def tenants(self) -> list[str]:
        """Tenants that have items, sorted."""
        query = "SELECT DISTINCT t.tenant FROM tenants t JOIN items i ON i.tenant = t.key ORDER BY t.tenant"
        with self.database.reading() as db:
            return [row[0] for row in db.execute(query)]

    def close(self) -> None:
        """Close the file."""
        self.database.close()

    def vectors(self, db: sqlite3.Connection, tenant: str, state: _State) -> Vectors:
        """The tenant's matrix as of this transaction."""
        with self._matrices_lock:
            held = self._matrices.get(tenant)
        if held and held[0] == state:
            return held[1]
        rows = db.execute(
            "SELECT id, access, valid_from, expires, source, vector FROM items WHERE tenant = ? ORDER BY id",
            (state.key,),
        )
        decoded = ((one, json.loads(access), *rest) for one, access, *rest in rows)
        vectors = Vectors.build(decoded, dimensions=state.dimensions)
        with self._matrices_lock:
            self._matrices[tenant] = (state, vectors)
        return vectors


@dataclass(frozen=True, slots=True, kw_only=True)
class SQLiteMemory:
    """One tenant's view of a `SQLiteStore`; implements `ports.Memory`."""

    store: SQLiteStore
    tenant: str

    def add(self, items: Iterable[Item]) -> Added:
        """Add what is new and drop older items of the same sources, in one transaction."""
        batch = rules.checked_items(items)
        if not batch:
            return Added(added=0, unchanged=0, replaced=0)
        with self.store.database.writing() as db:
            state = _space_for(db, self.tenant, batch[0])
            given = {item.id: item for item in batch}
            there = _places(db, state, given)
            older = [number for one, number in there.items() if one not in given]
            new = [item for item in batch if item.id not in there]
            if older or new:
                _delete(db, state, older)
                _insert(db, state, new)
                _touch(db, state)
        return Added(added=len(new), unchanged=len(batch) - len(new), replaced=len(older))

    def search(self, query: Query) -> list[Hit]:
        """At most `k` hits the groups may see and that are valid, best first."""
        rules.check_query(query)
        depth = max(query.k, query.candidates)
        with self.store.database.reading() as db:
            state = _state(db, self.tenant)
            if state is None or not _any(db, state):
                return []
            rules.check_dimensions(query, state.dimensions)
            vectors = self.store.vectors(db, self.tenant, state)
            rankings = [vectors.nearest(query, depth), _by_words(db, state, vectors, query, depth)]
            best = rules.fuse(rankings, k=query.k)
            rows = _items_of(db, state, [one for one, _ in best])
        return [self._hit(rows[one], score, query.as_of) for one, score in best]

    def count(self, ids: Sequence[str] | None = None) -> int:
        """Items of this tenant, or how many of `ids` there are."""
        with self.store.database.reading() as db:
            if (state := _state(db, self.tenant)) is None:
                return 0
            if ids is None:
                return _number(db, "SELECT count(*) FROM items WHERE tenant = ?", state.key)
            query = "SELECT count(*) FROM items WHERE tenant = ? AND id IN (SELECT value FROM json_each(?))"
            return _number(db, query, state.key, json.dumps(list(ids)))

    def forget(self, ids: Sequence[str]) -> int:
        """Remove items from the file to the byte; how many there were.

        Freed pages are overwritten (`secure_delete`), the keyword index is rewritten and the log
        emptied. Forgetting the same ids again repeats the last two.
        """
        with self.store.database.writing() as db:
            state = _state(db, self.tenant)
            if state is None:
                return 0
            query = "SELECT number FROM items WHERE tenant = ? AND id IN (SELECT value FROM json_each(?))"
            numbers = [row[0] for row in db.execute(query, (state.key, json.dumps(list(ids))))]
            _delete(db, state, numbers)
            db.execute(f"INSERT INTO words_{state.key} (words_{state.key}) VALUES ('optimize')")
            _touch(db, state)
        self.store.database.truncate_log()
        return len(numbers)

    def snapshot(self, folder: Path) -> JSON:
        """Write this tenant's items as Parquet; the manifest's entry with the logical digest."""
        return write_tenant(folder, self.tenant, self.items())

    def items(self) -> list[Item]:
        """All items of this tenant, in the order of their ids."""
        import numpy as np

        with self.store.database.reading() as db:
            if (state := _state(db, self.tenant)) is None:
                return []
            query = f"SELECT {_COLUMNS}, access, vector FROM items WHERE tenant = ? ORDER BY id"
            rows = db.execute(query, (state.key,)).fetchall()
        return [
            Item(
                **dict(zip(_SCALARS, scalars, strict=True)),
                access=tuple(json.loads(access)),
                vector=tuple(np.frombuffer(blob, "<f4").tolist()),
                embedding=state.embedding,
            )
            for *scalars, access, blob in rows
        ]

    def _hit(self, row: dict[str, Any], score: float, as_of: str) -> Hit:
        return Hit(
            id=row["id"],
            text=row["text"],
            source=row["source"],
            title=row["title"],
            version=row["version"],
            score=score,
            tenant=self.tenant,
            as_of=as_of,
            stale=False,
            digest=row["source_digest"],
            memory=self.store.name,
        )


def _number(db: sqlite3.Connection, query: str, *values: Any) -> int:
    return int(db.execute(query, values).fetchone()[0])


def _state(db: sqlite3.Connection, tenant: str) -> _State | None:
    query = "SELECT key, changes, embedding, dimensions FROM tenants WHERE tenant = ?"
    row = db.execute(query, (tenant,)).fetchone()
    return _State(key=row[0], changes=row[1], embedding=row[2], dimensions=row[3]) if row else None


def _any(db: sqlite3.Connection, state: _State) -> bool:
    return bool(_number(db, "SELECT EXISTS (SELECT 1 FROM items WHERE tenant = ?)", state.key))


def _touch(db: sqlite3.Connection, state: _State) -> None:
    db.execute("UPDATE tenants SET changes = changes + 1 WHERE key = ?", (state.key,))


def _space_for(db: sqlite3.Connection, tenant: str, item: Item) -> _State:
    """The tenant's row, made when missing; ConfigError when it holds vectors of another space."""
    state = _state(db, tenant)
    if state is not None and _any(db, state):
        rules.check_embedding(item, embedding=state.embedding, dimensions=state.dimensions)
        return state
    # When all was forgotten, the next space may be another one.
    key = _number(
        db,
        "INSERT INTO tenants (tenant, changes, embedding, dimensions) VALUES (?1, 0, ?2, ?3) "
        "ON CONFLICT (tenant) DO UPDATE SET embedding = ?2, dimensions = ?3 RETURNING key",
        tenant, item.embedding, len(item.vector),
    )  # fmt: skip
    db.execute(
        f"CREATE VIRTUAL TABLE IF NOT EXISTS words_{key} USING fts5 "
        "(title, text, content = '', tokenize = 'porter unicode61 remove_diacritics 2')"
    )
    changes = state.changes if state else 0
    return _State(key=key, changes=changes, embedding=item.embedding, dimensions=len(item.vector))


def _places(db: sqlite3.Connection, state: _State, given: dict[str, Item]) -> dict[str, int]:
    """Id and number of all items there that have an id or a source of `given`."""
    sources = json.dumps(sorted({item.source for item in given.values()}))
    columns = "SELECT id, number, source FROM items WHERE tenant = ?1 AND"
    query = (
        f"{columns} source IN (SELECT value FROM json_each(?2)) "
        f"UNION {columns} id IN (SELECT value FROM json_each(?3))"
    )
    there = {}
    for one, number, source in db.execute(query, (state.key, sources, json.dumps(list(given)))):
        if one in given:
            rules.check_source(given[one], source)
        there[one] = number
    return there


def _insert(db: sqlite3.Connection, state: _State, items: Sequence[Item]) -> None:
    names = f"tenant, {_COLUMNS}, access, vector"
    marks = ", ".join("?" * (len(_SCALARS) + 3))
    for item in items:
        values = [getattr(item, name) for name in _SCALARS]
        access = json.dumps(item.access)
        row = (state.key, *values, access, vector_bytes(item.vector))
        cursor = db.execute(f"INSERT INTO items ({names}) VALUES ({marks})", row)
        db.execute(
            f"INSERT INTO words_{state.key} (rowid, title, text) VALUES (?, ?, ?)",
            (cursor.lastrowid, item.title, item.text),
        )


def _delete(db: sqlite3.Connection, state: _State, numbers: Sequence[int]) -> None:
    chosen = "SELECT value FROM json_each(?)"
    words = f"words_{state.key}"
    db.execute(
        f"INSERT INTO {words} ({words}, rowid, title, text) SELECT 'delete', number, title, text "
        f"FROM items WHERE tenant = ? AND number IN ({chosen})",
        (state.key, json.dumps(numbers)),
    )
    db.execute(
        f"DELETE FROM items WHERE tenant = ? AND number IN ({chosen})", (state.key, json.dumps(numbers))
    )


def _by_words(db: sqlite3.Connection, state: _State, vectors: Vectors, query: Query, depth: int) -> list[str]:
    """Ids of the `depth` visible items of the best BM25; ties in order of id."""
    # Each word is quoted, so that nothing in a question is read as FTS5 syntax.
    words = list(dict.fromkeys(re.findall(r"\w+", query.text)))[:_MOST_WORDS]
    if not words:
        return []
    table = f"words_{state.key}"
    lists = [json.dumps(sorted(g)) for g in vectors.access_lists if not g.isdisjoint(query.groups)]
    sql = (
        f"SELECT i.id FROM {table} JOIN items AS i ON i.number = {table}.rowid "
        f"WHERE {table} MATCH ? AND i.tenant = ? AND i.access IN (SELECT value FROM json_each(?)) "
        "AND (i.valid_from IS NULL OR i.valid_from <= ?) AND (i.expires IS NULL OR i.expires > ?) "
        "AND (? OR i.source IN (SELECT value FROM json_each(?))) "
        f"ORDER BY round(bm25({table}), {rules.DECIMALS}), i.id LIMIT ?"
    )
    values = (
        " OR ".join(f'"{word}"' for word in words), state.key, json.dumps(lists), query.as_of,
        query.as_of, not query.sources, json.dumps(query.sources), depth,
    )  # fmt: skip
    return [row[0] for row in db.execute(sql, values)]


def _items_of(db: sqlite3.Connection, state: _State, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    query = f"SELECT {_COLUMNS} FROM items WHERE tenant = ? AND id IN (SELECT value FROM json_each(?))"
    rows = db.execute(query, (state.key, json.dumps(list(ids))))
    return {row[0]: dict(zip(_SCALARS, row, strict=True)) for row in rows}
