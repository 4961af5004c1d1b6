"""The best of several rankings in which equal scores stand together, before names are known and after.

Ties are broken by logical ids, which a server sends sealed if it sends them at all. Few of them decide
who the best are; so places are compared first, as a span for those that tie, and names of the rest are
never asked for.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import TypeVar

from workbench.memory.rules import DECIMALS, MARGIN, RRF_K, fuse

T = TypeVar("T", bound=Hashable)
#: A ranking, best first: each group holds those of one score.
Groups = Sequence[Sequence[T]]


def grouped(scored: Iterable[tuple[T, float]]) -> list[list[T]]:
    """A ranking of (who, score): the highest first, those that round to the same together, each once."""
    rounded = {one: round(score, DECIMALS) for one, score in scored}
    ordered = sorted(rounded, key=rounded.__getitem__, reverse=True)
    return [list(group) for _, group in groupby(ordered, key=rounded.__getitem__)]


def deciding(rankings: Sequence[Groups[T]], *, k: int) -> tuple[list[T], list[T]]:
    """All that could be among the best `k`, and others that tie with these: their names decide who is."""
    most: dict[T, float] = {}
    least: dict[T, float] = {}
    for groups in rankings:
        place = RRF_K
        for group in groups:
            first, last = 1 / (place + 1), 1 / (place + len(group))
            for one in group:
                most[one] = most.get(one, 0.0) + first
                least[one] = least.get(one, 0.0) + last
            place += len(group)
    enough = 0.0
    if len(least) > k:  # fused scores that round to the same are ties too
        enough = min(heapq.nlargest(k, least.values())) - MARGIN * len(rankings) / (RRF_K + 1)
    chosen = {one for one, score in most.items() if score >= enough}
    tied = (group for groups in rankings for group in groups if len(group) > 1)
    others = {one for group in tied if not chosen.isdisjoint(group) for one in group} - chosen
    return list(chosen), list(others)


def settled(rankings: Sequence[Groups[T]], names: Mapping[T, str], *, k: int) -> list[tuple[T, float]]:
    """The best `k` with their scores as `rules.fuse` gives them, once the names of `deciding` are known.

    Several of one name count as the last of them in `names`.
    """
    by_name = {name: one for one, name in names.items()}

    def named(one: T) -> str:
        return names.get(one, "")

    def ranked(groups: Groups[T]) -> list[T]:
        flat = (one for group in groups for one in (sorted(group, key=named) if len(group) > 1 else group))
        return list(dict.fromkeys(by_name.get(named(one), one) for one in flat))

    return fuse([ranked(groups) for groups in rankings], k=k, name=named)
