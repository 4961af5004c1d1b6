"""Items and queries for tests of memories, and an embedding that needs no model."""

from __future__ import annotations

import hashlib
import math
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from workbench.ports import Memory, Query
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


WORDS = ("taxi", "hotel", "rope", "salary", "badge", "train", "invoice", "holiday")
HOSTILE = (
    "", " ", '"', '""', "*", "taxi*", "NEAR(taxi hotel)", "taxi AND", "NOT taxi", "title:taxi", "^taxi",
    "(", "{}",    "taxi' OR 1=1 --", "; DROP TABLE items", "\x00", "a\x00b", "_", "-", "+", "%", "\\",
    "😀", "\u017f", "\ud800",
    "taxi " * 5000, "x" * 100_000, " OR ".join(map(str, range(2000))),
)  # fmt: skip

texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join)
days = st.sampled_from([None, "2025-06-14", "2025-06-15", "2025-06-16", "2024-02-29"])
groups = st.lists(st.sampled_from(["everyone", "finance", "people"]), max_size=3)
#: A sentence is inherited by the suite of every store: that is what a contract is.
few = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.differing_executors])


class Store(Protocol):
    """All tenants of one memory."""

    def tenant(self, tenant: str, /) -> Memory:
        """One tenant's view."""

    def close(self) -> None:
        """Give back what is held."""


@st.composite
def item_lists(draw: st.DrawFn, *, most: int = 8) -> list[Item]:
    """Items of a few sources with access lists and validity, no two the same."""
    return [
        make_item(
            draw(texts),
            source=draw(st.sampled_from(["one", "two", "three"])),
            position=position,
            access=draw(groups),
            valid=(draw(days), draw(days)),
        )
        for position in range(draw(st.integers(0, most)))
    ]


def circle(n: int, **changes: Any) -> list[Item]:
    """`n` items, each a little farther from the first axis than the one before."""
    angles = [step * 1.5 / n for step in range(n)]
    rest = [0.0] * (DIMENSIONS - 2)
    return [
        make_item(f"w{i}", source=f"s{i}", vector=(math.cos(a), math.sin(a), *rest), **changes)
        for i, a in enumerate(angles)
    ]


AXIS = (1.0, *[0.0] * (DIMENSIONS - 1))


def contents(memory: Memory) -> Any:
    """All a memory holds, as the digest of its snapshot."""
    with tempfile.TemporaryDirectory() as folder:
        return memory.snapshot(Path(folder))
