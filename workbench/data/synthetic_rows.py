"""Judge synthetic rows by real ones: how near they come to one, and how many of them they cover."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.data.profile import profile_of, values_of
from workbench.data.rules import QualityRules

#: Characters of a gram: a copied name or number shares several of them.
GRAM = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest:
    """The real text nearest to a synthetic one: both indexes, and their Jaccard similarity of grams.

    The privacy distance is 1 - `similarity`: 0 is a copy.
    """

    index: int
    real: int
    similarity: float


def grams(text: str) -> frozenset[str]:
    """Return the runs of four characters of a text, without case and repeated white space."""
    plain = " ".join(text.casefold().split())
    if len(plain) <= GRAM:
        return frozenset([plain] if plain else [])
    return frozenset(plain[start : start + GRAM] for start in range(len(plain) - GRAM + 1))


def nearest_real(synthetic: Sequence[str | None], real: Sequence[str | None]) -> list[Nearest]:
    """Return for each synthetic text the nearest real one; texts that are missing have none.

    Every pair is compared, by the real texts that hold each gram.
    """
    sets = [grams(text or "") for text in real]
    holders: dict[str, list[int]] = defaultdict(list)
    for number, found in enumerate(sets):
        for gram in found:
            holders[gram].append(number)
    places = {gram: np.asarray(numbers) for gram, numbers in holders.items()}
    sizes = np.asarray([len(found) for found in sets], dtype=np.int64)
    result = []
    for index, text in enumerate(synthetic):
        own = grams(text or "")
        similarity = _similarities(own, places, sizes)
        if own and len(similarity):
            best = int(similarity.argmax())
            result.append(Nearest(index=index, real=best, similarity=float(similarity[best])))
    return result


def _similarities(
    own: frozenset[str], places: Mapping[str, NDArray[np.int64]], sizes: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the Jaccard similarity of a set of grams and each real text."""
    common = np.zeros(len(sizes), dtype=np.int64)
    held = [places[gram] for gram in own if gram in places]
    if held:
        common += np.bincount(np.concatenate(held), minlength=len(sizes))
    similarity: NDArray[np.float64] = common / np.maximum(len(own) + sizes - common, 1)
    return similarity


def coverage(
    synthetic: Sequence[Mapping[str, Any]], real: Sequence[Mapping[str, Any]], rules: QualityRules
) -> dict[str, float]:
    """Return for each column the share of the real rows that lie in a bin with a synthetic row.

    Bins are categories, tenths of numbers and tenths of lengths of texts, as in a profile of the real rows.
    """
    found = {}
    for name, column in profile_of(real, rules).columns.items():
        own = column.counted(values_of(synthetic, name, rules, column.kind))
        counts = (*column.counts, column.missing)
        total = sum(counts)
        held = sum(count for count, mine in zip(counts, own, strict=True) if mine)
        found[name] = held / total if total else 0.0
    return found
