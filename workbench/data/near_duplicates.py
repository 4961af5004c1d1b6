"""Find near-duplicate texts by the share of their word shingles."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from workbench.data.shingles import Shingle, SimilarityIndex, shingles_of

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two similar texts: the index of the later, of the earlier, and their Jaccard similarity."""

    index: int
    earlier: int
    similarity: float


def shingles(text: str) -> frozenset[Shingle]:
    """Return the runs of three words in a text, without case; a shorter text is one run."""
    return shingles_of(_WORD.findall(text.casefold()))


def near_duplicates(texts: Sequence[str | None], *, threshold: float = 0.9) -> list[Pair]:
    """Return each text with an earlier one to which its Jaccard similarity is `threshold` or more.

    The remaining texts are pairwise below the threshold.
    """
    index: SimilarityIndex[int] = SimilarityIndex(threshold)
    found, first = [], dict[tuple[int, ...], int]()
    for number, item in enumerate(_by_rarity([shingles(text or "") for text in texts])):
        if not item:
            continue
        if item in first:
            found.append(Pair(index=number, earlier=first[item], similarity=1.0))
            continue
        earlier, similarity = next(index.similar(item), (number, 0.0))
        first[item] = earlier
        if earlier == number:
            index.add(number, item)
        else:
            found.append(Pair(index=number, earlier=earlier, similarity=similarity))
    return found


def _by_rarity(sets: Sequence[frozenset[Shingle]]) -> list[tuple[int, ...]]:
    """Return each set as numbers in ascending order; the rarest shingle has the smallest number."""
    count = Counter(shingle for item in sets for shingle in item)
    rank = {shingle: n for n, shingle in enumerate(sorted(count, key=lambda item: (count[item], item)))}
    return [tuple(sorted(rank[shingle] for shingle in item)) for item in sets]
