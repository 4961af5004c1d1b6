"""Confidence intervals of rates, means, quantiles and paired differences.

The same numbers give the same interval: resampling has a fixed seed, data is in the order of case ids, and
comparisons of resampled means tolerate float noise. Only displayed and stored numbers are rounded. An
interval of `level` is two-sided: each side misses with probability (1 - level) / 2 at most.
"""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workbench.experiments.distributions import LARGE, NOISE, binomial_cdf, binomial_sf, is_binary

SEED = 7
#: With fewer cases that differ from the rest, a bootstrap underestimates its own tails.
FEW = 10
_RESAMPLES = 5_000
#: With at most this many distinct values, resamples are drawn as counts of the values.
_FEW_DISTINCT = 64
_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A two-sided confidence interval. An end may be infinite where the data bound nothing."""

    low: float
    high: float
    level: float
    method: str

    @property
    def is_open(self) -> bool:
        """Whether both ends are infinite: the data bound nothing."""
        return math.isinf(self.low) and math.isinf(self.high)

    def against(self, bound: float, *, upward: bool) -> Literal["pass", "fail", "undecided"]:
        """Return pass when the interval keeps the bound, fail when it lies beyond it, else undecided.

        `upward` is true for a lower bound.
        """
        if self.low >= bound if upward else self.high <= bound:
            return "pass"
        return "fail" if (self.high < bound if upward else self.low > bound) else "undecided"

    def mirrored(self) -> Interval:
        """Return the interval of the negated quantity."""
        return Interval(low=-self.high, high=-self.low, level=self.level, method=self.method)

    def to_json(self) -> dict[str, Any]:
        """Return the ends rounded to 6 decimals; an infinite end is null."""
        return {
            "low": rounded(self.low),
            "high": rounded(self.high),
            "level": self.level,
            "method": self.method,
        }


def rounded(value: float | None) -> float | None:
    """Return `value` to 6 decimals, as stored; None when it is not a finite number."""
    if value is None or not math.isfinite(value):
        return None
    return round(value, 6) + 0.0  # + 0.0 turns -0.0 into 0.0


def proportion_interval(count: float, n: int, *, level: float) -> Interval:
    """Return the exact interval of a rate that was observed in `count` of `n` cases.

    Clopper & Pearson (1934), Biometrika 26: the interval misses any rate with probability 1 - level at
    most. A fractional `count`, the sum of `n` scores from 0 to 1, is widened to the integers around it,
    because a score of 0 or 1 varies more than any other score of the same mean.
    """
    side = (1 - level) / 2
    low = _lower(math.floor(count + NOISE), n, side)
    high = _upper(math.ceil(count - NOISE), n, side)
    return Interval(low=low, high=high, level=level, method="exact")


def count_bound(count: int, n: int, *, level: float) -> float:
    """Return the one-sided upper bound of a rate observed in `count` of `n` cases (Clopper & Pearson).

    For 0 of `n`, the bound is about 3 / n at 95 % (Hanley 1983).
    """
    return _upper(count, n, 1 - level)


def _upper(count: int, n: int, side: float) -> float:
    """Return the rate at which `count` or fewer of `n` are observed with probability `side`."""
    return 1.0 if count >= n else _root(lambda p: binomial_cdf(count, n, p) > side)


def _lower(count: int, n: int, side: float) -> float:
    return 0.0 if count <= 0 else _root(lambda p: binomial_sf(count, n, p) < side)


def _root(holds: Callable[[float], bool]) -> float:
    """Return the largest p for which `holds`, by bisection to 1e-13."""
    low, high = 0.0, 1.0
    while high - low > 1e-13:
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return (low + high) / 2


def score_interval(scores: ArrayLike, *, level: float, seed: int = SEED) -> Interval:
    """Return the interval of the mean of scores, one per case.

    Scores of 0 and 1: exact. Others: bootstrap, but a bootstrap of nearly equal values is too narrow. If
    fewer than 10 scores differ from the commonest, scores from 0 to 1 have the exact interval of their sum,
    and the interval of scores on another scale, whose ends are unknown, is open.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.min() >= 0 and values.max() <= 1 and (is_binary(values) or _differing(values) < FEW):
        return proportion_interval(float(values.sum()), len(values), level=level)
    return mean_interval(values, level=level, seed=seed, least=FEW)


def _differing(values: _Floats) -> int:
    """Return the number of values that differ from the commonest value, or a lower bound above `FEW`."""
    distinct = _few_distinct(values)
    return len(values) - int(distinct[1].max()) if distinct else _FEW_DISTINCT


def _few_distinct(data: _Floats) -> tuple[_Floats, NDArray[np.intp]] | None:
    """Return the distinct values, ascending, and their counts; None when there are more than 64."""
    distinct, counts = np.unique(data[:LARGE], return_counts=True)
    if len(data) > LARGE and len(distinct) <= _FEW_DISTINCT:  # counting few values is faster than sorting
        counts = np.array([np.count_nonzero(data == value) for value in distinct])
        if counts.sum() < len(data):
            distinct, counts = np.unique(data, return_counts=True)
    return (distinct, counts) if len(distinct) <= _FEW_DISTINCT else None


def mean_interval(values: ArrayLike, *, level: float, seed: int = SEED, least: int = 0) -> Interval:
    """Return the interval of a mean by the BCa bootstrap (Efron 1987, JASA 82), one value per case.

    If fewer than `least` values differ from the commonest, the interval is open. With `least` 0, equal
    values are taken as known, such as the price of a local model.

    With repeats, a value is the mean of its case, so the resampled unit is the case (a cluster bootstrap).
    The interval of the negated values is the negated interval. Above 5,000 values that are not few and
    distinct, the bootstrap's limit for large samples replaces the resampling.
    """
    data = np.asarray(values, dtype=np.float64)
    mean = float(data.mean())
    if least and _differing(data) < least:
        return Interval(low=-math.inf, high=math.inf, level=level, method="open")
    if float(np.ptp(data)) <= NOISE * max(1.0, abs(mean)):
        return Interval(low=mean, high=mean, level=level, method="constant")
    if mean < 0:
        return mean_interval(-data, level=level, seed=seed, least=least).mirrored()
    distinct = _few_distinct(data)
    if len(data) > LARGE and not distinct:
        low, high = _bca_limit(data, (1 - level) / 2)
    else:
        means = _resampled_means(data, distinct, seed)
        weighted = distinct if distinct and len(data) > LARGE else (data, np.ones(1))
        low, high = _bca(means, weighted, mean, (1 - level) / 2)
    return Interval(low=low, high=high, level=level, method="bootstrap")


def _resampled_means(data: _Floats, distinct: tuple[_Floats, NDArray[np.intp]] | None, seed: int) -> _Floats:
    """Return the means of `_RESAMPLES` resamples of `data`.

    Few distinct values are drawn as multinomial counts, which is the same distribution.
    """
    if distinct:
        random = np.random.Generator(np.random.PCG64(seed))
        drawn = random.multinomial(len(data), distinct[1] / len(data), size=_RESAMPLES)
        means: _Floats = drawn @ distinct[0] / len(data)
        return means
    return _drawn_means(data.tobytes(), seed)


# One sample has an interval at several levels, all of them from the same resamples.
@functools.lru_cache(maxsize=128)
def _drawn_means(values: bytes, seed: int) -> _Floats:
    """Return the means of `_RESAMPLES` resamples of up to 5,000 values, given as their bytes."""
    data = np.frombuffer(values)
    random = np.random.Generator(np.random.PCG64(seed))
    rows = max(1, 1_000_000 // len(data))
    parts = []
    for start in range(0, _RESAMPLES, rows):
        size = (min(rows, _RESAMPLES - start), len(data))
        parts.append(data[random.integers(0, len(data), size=size)].mean(axis=1))
    return np.concatenate(parts)


def _bca(means: _Floats, data: tuple[_Floats, NDArray[Any]], mean: float, side: float) -> tuple[float, float]:
    """Return the bias-corrected and accelerated ends; `data` are values and how often each occurs.

    The acceleration of a mean is its skewness / (6 sqrt n).
    """
    values, counts = data
    centred = values - mean
    acceleration = float((counts * centred**3).sum() / (6 * (counts * centred**2).sum() ** 1.5))
    noise = NOISE * float(np.abs(values).max())
    below = float(np.mean(means < mean - noise) + np.mean(np.abs(means - mean) <= noise) / 2)
    normal = NormalDist()
    bias = normal.inv_cdf(min(max(below, 1 / (_RESAMPLES + 1)), _RESAMPLES / (_RESAMPLES + 1)))

    def end(z: float) -> float:
        moved = bias + z
        return float(np.quantile(means, normal.cdf(bias + moved / (1 - acceleration * moved))))

    return end(normal.inv_cdf(side)), end(normal.inv_cdf(1 - side))


def _bca_limit(data: _Floats, side: float) -> tuple[float, float]:
    """Return the BCa ends for many values, without resampling.

    The distribution of resampled means is normal but for a skewness of `skew`, the sample's / sqrt(n). Its
    quantiles are those of the Cornish-Fisher expansion (Hall 1992, The Bootstrap and Edgeworth Expansion,
    section 2.5). The neglected terms are of order 1 / n.
    """
    n, mean = len(data), float(data.mean())
    centred = data - mean
    square = centred * centred
    variance = float(square.mean())
    skew = float((square * centred).mean()) / variance**1.5 / math.sqrt(n)

    def end(z: float) -> float:
        moved = skew / 6 + z
        at = skew / 6 + moved / (1 - skew / 6 * moved)
        return mean + math.sqrt(variance / n) * float(at + skew * (at * at - 1) / 6)

    normal = NormalDist()
    return end(normal.inv_cdf(side)), end(normal.inv_cdf(1 - side))


def quantile(values: ArrayLike, q: float) -> float:
    """Return the smallest value that a share `q` of the values, or more, does not exceed."""
    data = np.asarray(values, dtype=np.float64)
    return _ranked(data, max(0, math.ceil(q * len(data) - NOISE) - 1))


def _ranked(data: _Floats, rank: int) -> float:
    """Return the value at `rank`, from 0, in ascending order."""
    return float(np.partition(data, rank)[rank])


def quantile_interval(values: ArrayLike, q: float, *, level: float, clusters: int | None = None) -> Interval:
    """Return the interval of a quantile by order statistics (Conover 1999, section 3.2).

    The interval assumes no distribution. With too few values, an end is infinite. `clusters` is the number
    of cases when a case has several values; ranks then count the values of a case as one.
    """
    data = np.asarray(values, dtype=np.float64)
    n, side = clusters or len(data), (1 - level) / 2
    ranks, below = range(n + 1), lambda rank: binomial_cdf(rank - 1, n, q)
    first = bisect.bisect_right(ranks, side, key=below) - 1
    last = bisect.bisect_left(ranks, 1 - side, key=below)
    low = _ranked(data, (first - 1) * len(data) // n) if first else -math.inf
    high = _ranked(data, -(-last * len(data) // n) - 1) if last <= n else math.inf
    return Interval(low=low, high=high, level=level, method="order statistics")


def paired_interval(
    differences: ArrayLike, *, level: float, bounded: bool = True, seed: int = SEED
) -> Interval:
    """Return the interval of the mean of paired differences of scores from 0 to 1, one per case.

    Bootstrap; but with fewer than 10 differing cases, gains and losses each have an exact bound at half the
    error (Bonferroni), because a bootstrap of nearly equal values is too narrow. Without `bounded`, for
    amounts, always bootstrap.
    """
    values = np.asarray(differences, dtype=np.float64)
    differing = int((np.abs(values) > NOISE).sum())
    if not bounded or differing >= FEW:
        return mean_interval(values, level=level, seed=seed)
    half = (1 + level) / 2
    gains = proportion_interval(float(values.clip(min=0).sum()), len(values), level=half)
    losses = proportion_interval(float((-values).clip(min=0).sum()), len(values), level=half)
    return Interval(
        low=gains.low - losses.high, high=gains.high - losses.low, level=level, method="exact bounds"
    )


def non_inferior(interval: Interval, margin: float) -> Literal["pass", "fail", "undecided"]:
    """Return whether the whole interval of a difference (higher is better) is above -margin."""
    if interval.low >= -margin:
        return "pass"
    return "fail" if interval.high < -margin else "undecided"
