"""Profiles of columns, and the distance between two: how far inputs or answers have moved.

A profile counts the values of each column in fixed bins: numbers and the lengths of texts by their magnitude,
short texts by a bin of their digest. It holds no value, so that a ledger may keep it. The distance is
Kolmogorov's, the largest difference of the cumulated shares; its bounds are those of Dvoretzky, Kiefer and
Wolfowitz with Massart's constant (Annals of Probability 18(3), 1990), at 95 % over all columns together.
"""

from __future__ import annotations

import collections
import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

#: Counts of bins by column.
Profile = Mapping[str, Mapping[str, int]]
_ALPHA = 0.05
_FEWEST = 30
_MOST_COLUMNS, _MOST_BYTES, _MOST_ROWS = 12, 2_500, 100_000
_BINS = 16
_SHORT = 32
_LEFT_OUT = frozenset({"id", "tenant"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Distance:
    """The largest distance of a column, with the bounds that hold for the sources of both samples."""

    column: str
    value: float
    low: float
    high: float


def profile_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Return the profile of rows; of many rows of the first 100,000, and of many columns of the first 12."""
    found: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for number, row in enumerate(rows):
        if number >= _MOST_ROWS:
            break
        for name in sorted(row.keys() - _LEFT_OUT)[:_MOST_COLUMNS]:
            for kind, place in _bins(row[name]):
                found[f"{name[:60]}{kind}"][place] += 1
    profile = {name: dict(sorted(counts.items())) for name, counts in sorted(found.items())}
    while len(orjson.dumps(profile)) > _MOST_BYTES:
        profile.popitem()
    return profile


def merged(profiles: Iterable[Profile]) -> dict[str, dict[str, int]]:
    """Return the sum of profiles."""
    found: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for profile in profiles:
        for name, counts in profile.items():
            found[name].update(counts)
    return {name: dict(counts) for name, counts in found.items()}


def distance(profile: Profile, reference: Profile) -> Distance | None:
    """Return the distance of the column that has most surely moved; None when no column has 30 rows in both.

    A column that only one of them has is at distance 1 when both have rows enough in other columns.
    """
    rows, known = rows_of(profile), rows_of(reference)
    if min(rows, known) < _FEWEST:
        return None
    names = sorted({*profile, *reference})
    alpha = _ALPHA / len(names)
    found = [_distance(name, profile.get(name, {}), reference.get(name, {}), alpha) for name in names]
    return max(found, key=lambda item: (item.low, item.value))


def rows_of(profile: Profile) -> int:
    """Return the largest number of rows that a column of a profile has."""
    return max((sum(counts.values()) for counts in profile.values()), default=0)


def _distance(name: str, counts: Mapping[str, int], other: Mapping[str, int], alpha: float) -> Distance:
    n, m = sum(counts.values()), sum(other.values())
    if not n or not m:
        return Distance(column=name, value=1.0, low=1.0 - _slack(max(n, m), alpha), high=1.0)
    most = share = other_share = 0.0
    for place in sorted({*counts, *other}):
        share += counts.get(place, 0) / n
        other_share += other.get(place, 0) / m
        most = max(most, abs(share - other_share))
    slack = _slack(n, alpha) + _slack(m, alpha)
    return Distance(
        column=name, value=round(most, 6), low=max(0.0, most - slack), high=min(1.0, most + slack)
    )


def _slack(rows: int, alpha: float) -> float:
    """Return how far shares of this many rows may be from those of their source, at level alpha / 2."""
    return math.sqrt(math.log(4 / alpha) / (2 * rows))


def _bins(value: Any) -> list[tuple[str, str]]:
    """Return the kinds of bins of a value and its place in each."""
    if value is None:
        return [("", "none")]
    if isinstance(value, bool):
        return [("", str(value).lower())]
    if isinstance(value, int | float):
        return [("", _magnitude(float(value)))]
    if not isinstance(value, str):
        return [(" (length)", _magnitude(len(str(value))))]
    place = hashlib.sha256(value.encode(errors="replace")).digest()[0] % _BINS
    short = f"t{place:02}" if len(value) <= _SHORT else "long"
    return [(" (length)", _magnitude(len(value))), (" (value)", short)]


def _magnitude(number: float) -> str:
    """Return the bin of a number, in steps of the root of two; its names sort as the numbers do."""
    if not math.isfinite(number):
        return "nan"
    step = min(round(2 * math.log2(1 + abs(number))), 499)
    return f"n{500 + (step if number >= 0 else -step):03}"
