"""The embedded store's keyword index: FTS5 with BM25, one index of active items for each tenant.

Scores depend on how often a word occurs in the index. So the index has no staged items, no earlier versions
and no other tenant's items. A search in an earlier version builds an index of its own in memory.
"""
# ruff: noqa: S608 - only names of tables and columns are put in; values are bound

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from workbench.memory.ranking import DECIMALS
from workbench.memory.stemming import TOKENIZER, words_of
from workbench.memory.vectors import Vectors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_FTS5 = f"fts5 (title, text, content = '', tokenize = '{TOKENIZER}')"


def create(db: sqlite3.Connection, key: int) -> None:
    """Create the empty index of a tenant."""
    db.execute(f"CREATE VIRTUAL TABLE words_{key} USING {_FTS5}")


def index(db: sqlite3.Connection, key: int, numbers: Sequence[int | None]) -> None:
    """Add rows of the items' table to the tenant's index."""
    db.execute(
        f"INSERT INTO words_{key} (rowid, title, text) SELECT number, title, text FROM items "
        "WHERE +tenant = ? AND number IN (SELECT value FROM json_each(?)) ORDER BY number",
        (key, json.dumps(numbers)),
    )


def unindex(db: sqlite3.Connection, key: int, numbers: Sequence[int]) -> None:
    """Remove rows from the tenant's index, while the items' table still holds them."""
    db.execute(
        f"INSERT INTO words_{key} (words_{key}, rowid, title, text) SELECT 'delete', number, title, text "
        "FROM items WHERE +tenant = ? AND number IN (SELECT value FROM json_each(?))",
        (key, json.dumps(numbers)),
    )


def rewrite(db: sqlite3.Connection, key: int) -> None:
    """Merge the index into one segment, so that no removed word stays in it."""
    db.execute(f"INSERT INTO words_{key} (words_{key}) VALUES ('optimize')")


def aside(rows: Iterable[tuple[int, str, str]]) -> sqlite3.Connection:
    """Build an index `words_0` of (number, title, text) in memory; the caller closes it."""
    db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    create(db, 0)
    db.execute("BEGIN")
    db.executemany("INSERT INTO words_0 (rowid, title, text) VALUES (?, ?, ?)", rows)
    db.execute("COMMIT")
    return db


def ranking(
    db: sqlite3.Connection, key: int, text: str, *, vectors: Vectors, seen: NDArray[np.bool_], depth: int
) -> list[str]:
    """Return the ids of the `depth` seen rows of the best BM25; ties in the order of ids.

    A word in more than half of the items weighs 0 after rounding. Such words only fill the places that the
    other words leave free, so that a stop word does not cost the scoring of every item.
    """
    import numpy as np

    rare, frequent = _split(db, key, text)
    numbers, scores = _scored(db, key, rare) if rare else (np.empty(0, np.int64), np.empty(0))
    rows = vectors.rows_of(numbers)
    shown = seen[rows]
    found = vectors.ids_of(rows[shown], scores[shown], depth)
    if frequent and len(found) < depth:
        more = np.zeros(len(seen), np.bool_)
        more[vectors.rows_of(_having(db, key, frequent))] = True
        more[rows] = False
        left = np.flatnonzero(more & seen)[: depth - len(found)]
        found += [vectors.ids[row] for row in left]
    return found


def _split(db: sqlite3.Connection, key: int, text: str) -> tuple[list[str], list[str]]:
    """Return the text's words as FTS5 strings: those in at most half of the items, and the others."""
    # Each word is quoted, so that a question contains no FTS5 syntax.
    words = [f'"{word}"' for word in words_of(text)]
    table = f"words_{key}"
    size = db.execute(f"SELECT count(*) FROM {table}_docsize").fetchone()[0] if words else 0
    counting = f"SELECT count(*) FROM {table} WHERE {table} MATCH ?"
    counts = {word: db.execute(counting, (word,)).fetchone()[0] for word in words}
    rare = [word for word, n in counts.items() if 0 < n <= size / 2]
    return rare, [word for word, n in counts.items() if n > size / 2]


def _scored(
    db: sqlite3.Connection, key: int, words: Sequence[str]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the numbers of the rows that have any of the words, and their scores; less is better."""
    import numpy as np
    import orjson

    table = f"words_{key}"
    # The limit keeps SQLite from flattening the query: bm25() is not allowed inside an aggregate.
    query = (
        "SELECT json_group_array(number), json_group_array(score) FROM ("
        f"SELECT rowid AS number, CAST(bm25({table}) * {10**DECIMALS} - 0.5 AS INTEGER) AS score "
        f"FROM {table} WHERE {table} MATCH ? LIMIT -1)"
    )
    numbers, scores = db.execute(query, (" OR ".join(words),)).fetchone()
    return np.asarray(orjson.loads(numbers), np.int64), np.asarray(orjson.loads(scores), np.float64)


def _having(db: sqlite3.Connection, key: int, words: Sequence[str]) -> NDArray[np.int64]:
    import numpy as np
    import orjson

    table = f"words_{key}"
    query = f"SELECT json_group_array(rowid) FROM {table} WHERE {table} MATCH ?"
    (numbers,) = db.execute(query, (" OR ".join(words),)).fetchone()
    return np.asarray(orjson.loads(numbers), np.int64)
