"""What the benchmarks of memory put in: seeded items that need no model, and the use case's own chunks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

import workbench as wb
from benchmarks.measuring import ROOT
from benchmarks.memory_places import CLEARANCE, GROUPS, seconds
from workbench import _sync
from workbench.ports import Memory, Query
from workbench.retrieval.port import TEXTS, embed, indexed
from workbench.types import Item

DIMENSIONS = 256
NOW, DAY = "2026-11-24T06:00:00Z", "2026-11-24"
_WORDS, _LENGTH, _ASKED = 5_000, 25, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """Items of Gaussian vectors and of words as frequent as in a language; nine of ten may be seen.

    Every condition of a search is one that some item could fail: group, level, days and expiry.
    """

    seed: int
    matrix: np.ndarray
    words: np.ndarray
    seen: np.ndarray

    @classmethod
    def of(cls, count: int, *, seed: int) -> Made:
        """`count` items, the same ones for the same seed."""
        rng = np.random.default_rng(seed)
        words = rng.choice(_WORDS, size=(count, _LENGTH), p=_frequencies())
        return cls(seed=seed, matrix=_unit(rng, count), words=words, seen=np.arange(count) % 10 != 0)

    def __len__(self) -> int:
        return len(self.matrix)

    def ids(self) -> list[str]:
        """Their ids, in order."""
        return [f"{self.seed}-{place:06}" for place in range(len(self))]

    def item(self, place: int) -> Item:
        """One of them."""
        return Item(
            id=f"{self.seed}-{place:06}",
            text=_text(self.words[place]),
            title=f"page {place // 10}",
            vector=tuple(self.matrix[place].tolist()),
            source=f"{self.seed}/{place // 10}.md",
            source_digest=f"{place // 10:064}",
            position=place % 10,
            access=("everyone",) if self.seen[place] else ("board",),
            classification=place % 3,
            valid_from="2025-01-01" if place % 2 else None,
            valid_to="2030-01-01" if place % 7 == 0 else None,
            expires="2031-01-01T00:00:00Z" if place % 11 == 0 else None,
            embedding="wordllama-256",
        )

    def batches(self) -> Iterator[list[Item]]:
        """All of them as an ingest stages them; one batch is held at a time."""
        for start in range(0, len(self), TEXTS):
            yield [self.item(place) for place in range(start, min(start + TEXTS, len(self)))]

    def best(self, query: Query, k: int) -> set[str]:
        """Ids of the `k` nearest that may be seen, by exact inner products."""
        scores = np.where(self.seen, self.matrix @ np.asarray(query.vector, np.float32), -np.inf)
        return {f"{self.seed}-{place:06}" for place in np.argpartition(-scores, k)[:k]}


def queries(count: int, *, seed: int) -> list[Query]:
    """Gaussian queries of five words, asked by somebody with two groups and a clearance."""
    rng = np.random.default_rng(seed)
    words, vectors = rng.choice(_WORDS, size=(count, _ASKED), p=_frequencies()), _unit(rng, count)
    return [asked(_text(words[place]), tuple(vectors[place].tolist())) for place in range(count)]


def asked(text: str, vector: tuple[float, ...]) -> Query:
    """A query as the handle makes it."""
    return Query(
        text=text, vector=vector, k=10, groups=GROUPS, clearance=CLEARANCE, as_of=DAY, now=NOW, candidates=100
    )


async def ingest(view: Memory, made: Made) -> float:
    """Stage and publish, as `memory ingest` does once it has the vectors; the seconds of these alone."""
    spent = 0.0
    for some in made.batches():
        spent += await seconds(view.stage(some))
    return spent + await seconds(view.publish(made.ids(), now=NOW))


def chunks(ws: wb.Workspace) -> tuple[list[Item], list[Query]]:
    """All chunks of the handbook and the language reference with their vectors, and their questions."""
    items: dict[str, Item] = {}
    questions: list[str] = []
    for name in ("handbook", "python-reference"):
        spec = ws.memory(name).spec
        for page in wb.load(spec.source, root=ROOT):
            handle = ws.bind(tenant=page.tenant).memory(name)
            items |= {item.id: item for item in handle.items_of(page)}
        questions += [str(case.inputs["question"]) for case in ws.cases(name)]
    handle = ws.memory("handbook")
    given = list(items.values())
    vectors = _sync.run(embed(handle, [indexed(item) for item in given]))
    asking = _sync.run(embed(handle, questions))
    everyone = [
        dataclasses.replace(item, vector=vector, access=("everyone",), valid_from=None, valid_to=None)
        for item, vector in zip(given, vectors, strict=True)
    ]
    return everyone, [asked(*pair) for pair in zip(questions, asking, strict=True)]


def _unit(rng: np.random.Generator, count: int) -> np.ndarray:
    vectors = rng.standard_normal((count, DIMENSIONS), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _frequencies() -> np.ndarray:
    weights = 1 / (np.arange(_WORDS) + 10.0)
    return weights / weights.sum()


def _text(words: np.ndarray) -> str:
    return " ".join(f"w{word}x" for word in words)
