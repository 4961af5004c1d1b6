"""Make items and queries for tests of memories, with an embedding that needs no model."""

from __future__ import annotations

import hashlib
import math
import random
import re
import struct
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from workbench.memory.parquet import logical_digest
from workbench.ports import Query
from workbench.testing.sync_memory import SyncMemory
from workbench.types import Item

DIMENSIONS = 16
EVERYONE = ("everyone",)
#: A day a hundred years ahead, so that a server whose clock removes expired items removes none of these.
DAY, NOW = "2125-06-15", "2125-06-15T12:00:00Z"


def unit_vector(numbers: Sequence[float]) -> tuple[float, ...]:
    """Return `numbers` at length 1 in float32, so that every store returns the same bits."""
    length = math.sqrt(math.fsum(x * x for x in numbers))
    shape = f"<{len(numbers)}f"
    return struct.unpack(shape, struct.pack(shape, *(x / length for x in numbers)))


def hash_vector(text: str, *, dimensions: int = DIMENSIONS) -> tuple[float, ...]:
    """Return a normalised bag of hashed words, equal on every machine; texts with common words are near."""
    sums = [0.0] * dimensions
    for word in re.findall(r"\w+", text.lower()) or [text]:
        digest = hashlib.sha256(word.encode(errors="replace")).digest()
        sums[digest[0] % dimensions] += 1.0 if digest[1] % 2 else -1.0
    return unit_vector(sums) if any(sums) else (1.0, *[0.0] * (dimensions - 1))


def random_vector(seed: int) -> tuple[float, ...]:
    """Return a uniformly random unit vector; equal seeds give equal vectors."""
    drawn = random.Random(seed)  # noqa: S311  a fixture, guards nothing
    return unit_vector([drawn.gauss(0, 1) for _ in range(DIMENSIONS)])


def make_item(
    text: str,
    *,
    source: str = "page",
    position: int = 0,
    access: Sequence[str] = EVERYONE,
    valid: tuple[str | None, str | None] = (None, None),
    vector: Sequence[float] | None = None,
    **changes: Any,
) -> Item:
    """Return an item as a handle makes it; `valid` is (valid_from, valid_to)."""
    name = hashlib.sha256(repr((source, position, text)).encode(errors="replace")).hexdigest()
    fields: dict[str, Any] = {
        "id": name,
        "text": text,
        "vector": tuple(vector) if vector is not None else hash_vector(text),
        "source": source,
        "source_digest": hashlib.sha256(text.encode(errors="replace")).hexdigest(),
        "position": position,
        "title": f"Title of {source}",
        "version": 2,
        "access": tuple(access),
        "valid_from": valid[0],
        "valid_to": valid[1],
        "owner": "an owner",
        "embedding": "hash",
    }
    return Item(**fields | changes)


def make_episode(text: str, *, created: str = NOW, source: str = "talk", **changes: Any) -> Item:
    """Return an episodic item, by default of kind `episode`."""
    return make_item(text, source=source, **{"kind": "episode", "created": created, **changes})


def make_query(text: str, *, vector: Sequence[float] | None = None, **changes: Any) -> Query:
    """Return a query as a handle makes it: by default five hits for `everyone` on 15 June 2125."""
    fields: dict[str, Any] = {"k": 5, "groups": EVERYONE, "as_of": DAY}
    given = hash_vector(text) if vector is None else tuple(vector)
    fields |= {name: tuple(value) if isinstance(value, list) else value for name, value in changes.items()}
    return Query(text=text, vector=given, **fields)


WORDS = ("taxi", "hotel", "rope", "salary", "badge", "train", "invoice", "holiday")
HOSTILE = (
    "", " ", '"', '""', "*", "taxi*", "NEAR(taxi hotel)", "taxi AND", "NOT taxi", "title:taxi", "^taxi",
    "(", "{}",    "taxi' OR 1=1 --", "; DROP TABLE items", "\x00", "a\x00b", "_", "-", "+", "%", "\\",
    "😀", "\u017f", "\ud800",
    "taxi " * 5000, "x" * 100_000, " OR ".join(map(str, range(2000))),
)  # fmt: skip
#: Names that a store could read as a part of its own query language.
HOSTILE_NAMES = (
    "*", "%", "_", "a%", ".*", "[^x]", "' OR '1'='1", '" OR ""="', "'; DROP TABLE items; --",
    "x' UNION SELECT 1",
    '{"operator": "Or", "operands": []}', "{path: [], operator: Like}", "$where", "null", "None", "0", "true",
    "a,b", "a\nb", "a\x00b", "\\", "../acme", "ACME", "acme ", "😀", "principal:", "name with spaces",
    "n" * 300,
)  # fmt: skip

texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join)
days = st.sampled_from([None, "2125-06-14", "2125-06-15", "2125-06-16", "2124-02-29"])
instants = st.sampled_from(
    [None, "2125-06-14T23:59:59Z", "2125-06-15T00:00:00Z", "2125-06-15T12:00:01Z", "2126-01-01T00:00:00Z"]
)
groups = st.lists(st.sampled_from(["everyone", "finance", "people"]), max_size=3)
levels = st.integers(0, 3)
kinds = st.sampled_from(["episode", "fact", "summary"])
modes = st.sampled_from(["hybrid", "vector", "words"])


@st.composite
def item_lists(draw: st.DrawFn, *, most: int = 8) -> list[Item]:
    """Draw different documents of a few sources with access lists, levels, validity and expiry."""
    return [
        make_item(
            draw(texts),
            source=draw(st.sampled_from(["one", "two", "three"])),
            position=position,
            access=draw(groups),
            valid=(draw(days), draw(days)),
            classification=draw(levels),
            expires=draw(instants),
            subject=draw(st.sampled_from(["", "cust-1", "cust-2"])),
        )
        for position in range(draw(st.integers(0, most)))
    ]


@st.composite
def episode_lists(draw: st.DrawFn, *, most: int = 8) -> list[Item]:
    """Draw different episodic items of a few moments and levels of trust."""
    return [
        make_episode(
            draw(texts),
            source="talk",
            position=1000 + position,
            kind=draw(kinds),
            trust=draw(levels),
            created=f"2125-06-{10 + draw(st.integers(0, 3))}T00:00:00Z",
            expires=draw(instants),
            subject=draw(st.sampled_from(["", "cust-1", "cust-2"])),
        )
        for position in range(draw(st.integers(0, most)))
    ]


def circle(n: int, **changes: Any) -> list[Item]:
    """Return `n` items in the order of their distance from the first axis."""
    angles = [step * 1.5 / n for step in range(n)]
    rest = [0.0] * (DIMENSIONS - 2)
    return [
        make_item(f"w{i}", source=f"s{i}", vector=unit_vector((math.cos(a), math.sin(a), *rest)), **changes)
        for i, a in enumerate(angles)
    ]


AXIS = (1.0, *[0.0] * (DIMENSIONS - 1))


def contents(memory: SyncMemory, version: int | None = None) -> str:
    """Return the logical digest of the items of a version, by default the active one."""
    return logical_digest(memory.tenant, memory.items(version))


def ids_of(items: Sequence[Any]) -> list[str]:
    """Return the ids of items or hits, in their order."""
    return [item.id for item in items]
