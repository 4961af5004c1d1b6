"""Stem texts as the embedded store's keyword index does, for stores without a stemmer.

FTS5's own tokenizer makes the words, so that every store searches for the same ones: lower case, without
accents, and stemmed (Porter, "An algorithm for suffix stripping", 1980).
"""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Sequence

#: The FTS5 tokenizer of both stores.
TOKENIZER = "porter unicode61 remove_diacritics 2"
_MOST_WORDS = 256
_thread = threading.local()


def words_of(question: str) -> list[str]:
    """Return the distinct words of a question in their order, at most 256."""
    return list(dict.fromkeys(re.findall(r"\w+", question)))[:_MOST_WORDS]


def stems(texts: Sequence[str]) -> list[str]:
    """Return the stems of each text in their order, separated by spaces."""
    db = _index()
    found: list[list[str]] = [[] for _ in texts]
    db.execute("BEGIN")  # one transaction for all texts; it is rolled back
    try:
        db.executemany("INSERT INTO words (rowid, text) VALUES (?, ?)", enumerate(texts))
        for row, word in db.execute("SELECT doc, term FROM found ORDER BY doc, offset"):
            found[row].append(word)
    finally:
        db.execute("ROLLBACK")
    return [" ".join(words) for words in found]


def _index() -> sqlite3.Connection:
    """Return the thread's own empty index, in memory: creating it takes longer than a query."""
    db: sqlite3.Connection | None = getattr(_thread, "db", None)
    if db is None:
        db = sqlite3.connect(":memory:", isolation_level=None)
        db.execute(f"CREATE VIRTUAL TABLE words USING fts5 (text, content = '', tokenize = '{TOKENIZER}')")
        db.execute("CREATE VIRTUAL TABLE found USING fts5vocab (words, instance)")
        _thread.db = db
    return db
