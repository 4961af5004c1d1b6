"""The reranker's place: passages found are put into another order before the best are taken.

None by default. A memory's spec names one with `rerank: lexical`.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Awaitable, Sequence
from typing import Protocol

from workbench.errors import ConfigError, UnavailableError, nearest
from workbench.retrieval.hits import Hits
from workbench.types import Hit

_DECIMALS = 4
#: BM25's usual settings: how soon repetition stops to count, how much a passage's length does.
_K1, _B = 1.2, 0.75


class Reranker(Protocol):
    """Says how well passages answer a question. Deterministic, or its order is no evidence."""

    def scores(self, query: str, hits: Sequence[Hit]) -> Sequence[float] | Awaitable[Sequence[float]]:
        """One number for each hit, in their order; higher is better. May be async."""


class Lexical:
    """BM25 of the question's words over title and text, with the hits as the whole collection.

    A score is a share of the most that these words could have: 0 without any of them. The formula is
    that of Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009),
    with one added inside the logarithm, so that no word counts against a passage.
    """

    def scores(self, query: str, hits: Sequence[Hit]) -> list[float]:
        """One number from 0 to 1 for each hit."""
        wanted = sorted(set(_words(query)))
        texts = [Counter(_words(f"{hit.title}\n{hit.text}")) for hit in hits]
        lengths = [text.total() for text in texts]
        mean = sum(lengths) / len(lengths) if any(lengths) else 1.0
        weights = {word: _rarity(sum(word in text for text in texts), len(texts)) for word in wanted}
        most = sum(weights.values()) * (_K1 + 1)
        return [
            sum(weights[word] * _saturated(text[word], length / mean) for word in wanted) / most
            if most
            else 0.0
            for text, length in zip(texts, lengths, strict=True)
        ]


#: What a memory's spec may name.
RERANKERS: dict[str, Reranker] = {"lexical": Lexical()}


def reranker(name: str | None) -> Reranker | None:
    """The reranker that a spec names; ConfigError when there is none of that name."""
    if name is None:
        return None
    if name not in RERANKERS:
        raise ConfigError(
            f"there is no reranker {name!r} ({nearest(name, RERANKERS)})",
            hint="rerank: lexical, or leave the key out",
        )
    return RERANKERS[name]


async def reranked(chosen: Reranker | None, query: str, hits: Sequence[Hit], *, k: int) -> Hits:
    """The best `k` hits by the reranker's scores, which they carry from then on; without one, the first `k`.

    Scores are rounded to 4 decimals; equal ones are ordered by `id`. UnavailableError unless there is
    one finite score for each hit.
    """
    if chosen is None:
        return Hits(hits[:k])
    given = chosen.scores(query, hits)
    scores = list(await given if inspect.isawaitable(given) else given)
    if len(scores) != len(hits) or not all(map(math.isfinite, scores)):
        raise UnavailableError(
            f"the reranker gave {len(scores)} scores for {len(hits)} passages, or one that is no number",
            hint="take the key rerank out of the memory's spec, or name another",
        )
    scored = [
        dataclasses.replace(hit, score=round(float(score), _DECIMALS))
        for hit, score in zip(hits, scores, strict=True)
    ]
    return Hits(sorted(scored, key=lambda hit: (-hit.score, hit.id))[:k])


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())


def _rarity(having: int, hits: int) -> float:
    return math.log1p((hits - having + 0.5) / (having + 0.5))


def _saturated(times: int, length: float) -> float:
    """What a word's repetitions count in a passage of `length` times the mean."""
    return times * (_K1 + 1) / (times + _K1 * (1 - _B + _B * length)) if times else 0.0
