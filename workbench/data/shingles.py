"""Find sets of word shingles that are similar, by an index that leaves most pairs uncompared.

The index applies a prefix filter and a positional filter (Xiao et al. 2008, Efficient similarity joins for
near duplicate detection).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

Shingle = tuple[str, ...]
Token = TypeVar("Token")
#: Words of a shingle.
WORDS = 3
#: What rounding adds to a product of floats.
_NOISE = 1e-9


def shingles_of(words: Sequence[str]) -> frozenset[Shingle]:
    """Return the runs of three words; fewer words are one run, and no words have none."""
    if len(words) <= WORDS:
        return frozenset([tuple(words)] if words else [])
    return frozenset(zip(*(words[start:] for start in range(WORDS)), strict=False))


class SimilarityIndex(Generic[Token]):
    """Sets that can be searched by their Jaccard similarity, `threshold` or more.

    Each set is given as a sequence. All sequences have one order of tokens; the index is fast when rare
    tokens come first.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._sets: dict[int, frozenset[Token]] = {}
        self._led_by: dict[Token, list[tuple[int, int]]] = defaultdict(list)

    def add(self, number: int, ordered: Sequence[Token]) -> None:
        """Add a set under a number of its own."""
        self._sets[number] = frozenset(ordered)
        for position, token in enumerate(ordered[: self._prefix(len(ordered))]):
            self._led_by[token].append((number, position))

    def similar(self, ordered: Sequence[Token]) -> Iterator[tuple[int, float]]:
        """Yield the number and the similarity of each set at the threshold or above."""
        size, own, tried = len(ordered), frozenset(ordered), set[int]()
        for place, token in enumerate(ordered[: self._prefix(size)]):
            for number, position in self._led_by.get(token, ()):
                if number in tried:
                    continue
                tried.add(number)
                other = self._sets[number]
                # The first common token: what follows it bounds the number of common ones.
                most, both = min(size - place, len(other) - position), size + len(other)
                if most * (1 + self._threshold) < self._threshold * both - _NOISE:
                    continue
                common = len(own & other)
                similarity = common / (both - common)
                if similarity >= self._threshold - _NOISE:
                    yield number, similarity

    def _prefix(self, size: int) -> int:
        """Return how many first tokens of a set hold one of every set that is similar enough.

        Such a set has `ceil(threshold * size)` of the tokens, so it lacks fewer than the number returned.
        """
        return size - math.ceil(self._threshold * size - _NOISE) + 1
