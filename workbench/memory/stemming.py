"""The words of a text as the embedded store's keyword index has them, for stores that have no stemmer.

They come from FTS5's own tokenizer, so that every store looks for the same words: lower case, without
accents, and stemmed (Porter, "An algorithm for suffix stripping", 1980).
"""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Sequence

#: What both stores cut texts into words with.
TOKENIZER = "porter unicode61 remove_diacritics 2"
_MOST_WORDS = 256
_thread = threading.local()


def words_of(question: str) -> list[str]:
    """The different words of a question in their order, as many as are looked for."""
    return list(dict.fromkeys(re.findall(r"\w+", question)))[:_MOST_WORDS]


def stems(texts: Sequence[str]) -> list[str]:
    """Each text's words in their order, with a space between two."""
    db = _index()
    found: list[list[str]] = [[] for _ in texts]
    db.execute("BEGIN")  # once for all texts: each on its own would be written out
    try:
        db.executemany("INSERT INTO words (rowid, text) VALUES (?, ?)", enumerate(texts))
        for row, word in db.execute("SELECT doc, term FROM found ORDER BY doc, offset"):
            found[row].append(word)
    finally:
        db.execute("ROLLBACK")
    return [" ".join(words) for words in found]


def _index() -> sqlite3.Connection:
    """The thread's own empty index, in memory: making one takes longer than asking it."""
    db: sqlite3.Connection | None = getattr(_thread, "db", None)
    if db is None:
        db = sqlite3.connect(":memory:", isolation_level=None)
        db.execute(f"CREATE VIRTUAL TABLE words USING fts5 (text, content = '', tokenize = '{TOKENIZER}')")
        db.execute("CREATE VIRTUAL TABLE found USING fts5vocab (words, instance)")
        _thread.db = db
    return db
