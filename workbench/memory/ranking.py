"""Fuse rankings, with the rounding of scores and the order of ties that every store shares."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T", bound=Hashable)
#: The constant of reciprocal-rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009).
RRF_K = 60
#: Decimals of a score. Float sums differ in the seventh digit between processors.
DECIMALS = 4
#: Scores that round to the same value differ by less than half of this; float32 sums err by far less.
MARGIN = 2 * 10**-DECIMALS


def fuse(rankings: Sequence[Sequence[T]], *, k: int, name: Callable[[T], str] = str) -> list[tuple[T, float]]:
    """Return the best `k` entries of several rankings with their scores, by reciprocal-rank fusion.

    score = sum over rankings of 1 / (60 + rank), scaled so that an entry first in every ranking has 1,
    rounded to 4 decimals. Equal scores are ordered by `name(entry)`.
    """
    scores: dict[T, float] = {}
    for ranking in rankings:
        for place, entry in enumerate(ranking, start=RRF_K + 1):
            scores[entry] = scores.get(entry, 0.0) + 1 / place
    best = (RRF_K + 1) / len(rankings)
    if len(scores) > k:  # skip scores too low to round to the k-th
        enough = min(heapq.nlargest(k, scores.values())) - MARGIN / best
        scores = {entry: score for entry, score in scores.items() if score >= enough}
    rounded = ((entry, round(score * best, DECIMALS)) for entry, score in scores.items())
    return sorted(rounded, key=lambda pair: (-pair[1], name(pair[0])))[:k]


def places(rankings: Mapping[str, Sequence[T]], entries: Collection[T]) -> dict[T, dict[str, int]]:
    """Return the place, from 1, of each of these entries in each named ranking that lists it."""
    found: dict[T, dict[str, int]] = {entry: {} for entry in entries}
    for name, ranking in rankings.items():
        for place, entry in enumerate(ranking, start=1):
            if entry in found:
                found[entry][name] = place
    return found
