"""Find near-duplicate texts by the share of their word shingles."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from workbench.experiments.distributions import NOISE

#: Words of a shingle.
WORDS = 3
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two similar texts: the index of the later, of the earlier, and their Jaccard similarity."""

    index: int
    earlier: int
    similarity: float


def shingles(text: str) -> frozenset[tuple[str, ...]]:
    """Return the runs of three words in a text, without case; a shorter text is one run."""
    words = _WORD.findall(text.casefold())
    if len(words) <= WORDS:
        return frozenset([tuple(words)] if words else [])
    return frozenset(zip(words, words[1:], words[2:], strict=False))


def near_duplicates(texts: Sequence[str | None], *, threshold: float = 0.9) -> list[Pair]:
    """Return each text that shares `threshold` of its word shingles with an earlier one, with that one.

    The remaining texts are pairwise below the threshold. Only texts that share one of their rarest shingles
    at a fitting position are compared (prefix and positional filter: Xiao et al. 2008, Efficient similarity
    joins for near duplicate detection).
    """
    sets = _by_rarity([shingles(text or "") for text in texts])
    found, index_of = [], defaultdict[int, list[tuple[int, int]]](list)
    first: dict[tuple[int, ...], int] = {}
    for number, item in enumerate(sets):
        if not item:
            continue
        if item in first:
            found.append(Pair(index=number, earlier=first[item], similarity=1.0))
            continue
        prefix = item[: len(item) - math.ceil(threshold * len(item) - NOISE) + 1]
        pair = _similar(number, prefix, index_of, sets, threshold)
        first[item] = number if pair is None else pair.earlier
        if pair is not None:
            found.append(pair)
            continue
        for position, shingle in enumerate(prefix):
            index_of[shingle].append((number, position))
    return found


def _by_rarity(sets: Sequence[frozenset[tuple[str, ...]]]) -> list[tuple[int, ...]]:
    """Return each set as numbers in ascending order; the rarest shingle has the smallest number."""
    count = Counter(shingle for item in sets for shingle in item)
    rank = {shingle: n for n, shingle in enumerate(sorted(count, key=lambda item: (count[item], item)))}
    return [tuple(sorted(rank[shingle] for shingle in item)) for item in sets]


def _similar(
    index: int,
    prefix: Sequence[int],
    index_of: Mapping[int, Sequence[tuple[int, int]]],
    sets: Sequence[tuple[int, ...]],
    threshold: float,
) -> Pair | None:
    """Return the text with the first earlier one that is similar enough, or None."""
    tried: set[int] = set()
    size, own = len(sets[index]), frozenset(sets[index])
    for position, shingle in enumerate(prefix):
        for earlier, place in index_of.get(shingle, ()):
            if earlier in tried:
                continue
            tried.add(earlier)
            other = sets[earlier]
            # The first common shingle: what follows it bounds the number of common ones.
            most = min(size - position, len(other) - place)
            if most * (1 + threshold) < threshold * (size + len(other)) - NOISE:
                continue
            common = len(own.intersection(other))
            similarity = common / (size + len(other) - common)
            if similarity >= threshold - NOISE:
                return Pair(index=index, earlier=earlier, similarity=similarity)
    return None
