"""Items and queries for tests of memories, and an embedding that needs no model."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence

from workbench.ports import Query
from workbench.types import Item

DIMENSIONS = 16
EVERYONE = ("everyone",)


def hash_vector(text: str, *, dimensions: int = DIMENSIONS) -> tuple[float, ...]:
    """An L2-normalised bag of hashed words: texts that share words are near. The same on every machine."""
    sums = [0.0] * dimensions
    for word in re.findall(r"\w+", text.lower()) or [text]:
        digest = hashlib.sha256(word.encode(errors="replace")).digest()
        sums[digest[0] % dimensions] += 1.0 if digest[1] % 2 else -1.0
    length = math.sqrt(sum(x * x for x in sums))
    return tuple(x / length for x in sums) if length else (1.0, *[0.0] * (dimensions - 1))


def make_item(
    text: str,
    *,
    source: str = "page",
    position: int = 0,
    access: Sequence[str] = EVERYONE,
    valid: tuple[str | None, str | None] = (None, None),
    vector: Sequence[float] | None = None,
    embedding: str = "hash",
) -> Item:
    """An item as a handle would make it; `valid` is (valid_from, expires)."""
    name = hashlib.sha256(repr((source, position, text)).encode(errors="replace")).hexdigest()
    return Item(
        id=name,
        text=text,
        vector=tuple(vector) if vector is not None else hash_vector(text),
        source=source,
        source_digest=hashlib.sha256(text.encode(errors="replace")).hexdigest(),
        position=position,
        title=f"Title of {source}",
        version=2,
        access=tuple(access),
        valid_from=valid[0],
        expires=valid[1],
        owner="an owner",
        embedding=embedding,
    )


def make_query(
    text: str,
    *,
    k: int = 5,
    groups: Sequence[str] = EVERYONE,
    as_of: str = "2025-06-15",
    sources: Sequence[str] = (),
    vector: Sequence[float] | None = None,
) -> Query:
    """A query as a handle would make it."""
    return Query(
        text=text,
        vector=hash_vector(text) if vector is None else tuple(vector),
        k=k,
        groups=tuple(groups),
        as_of=as_of,
        sources=tuple(sources),
    )
