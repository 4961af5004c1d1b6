"""Confidence intervals of rates, means, quantiles and paired differences.

The same numbers give the same interval: resampling has a fixed seed, data is taken in the order given (by
case id), and comparisons of resampled means tolerate float noise. A number is rounded only where a result
is shown or stored. An interval of `level` is two-sided: each side may miss with (1 - level) / 2.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workbench.experiments.distributions import NOISE, binomial_cdf, binomial_sf

SEED = 7
#: With fewer cases that differ from the rest, a bootstrap underestimates its own tails.
FEW = 10
_RESAMPLES = 5_000
_LARGE = 5_000
_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A two-sided confidence interval. An end may be infinite where the data bound nothing."""

    low: float
    high: float
    level: float
    method: str

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
    """Return the exact interval of a rate, of which `count` of `n` cases are seen.

    Clopper & Pearson (1934), Biometrika 26: whatever the rate, it misses with 1 - level at most. A
    fractional `count`, the sum of `n` scores from 0 to 1, is widened to the whole counts around it,
    because a right/wrong score varies more than any other score of the same mean.
    """
    side = (1 - level) / 2
    low = _lower(math.floor(count + NOISE), n, side)
    high = _upper(math.ceil(count - NOISE), n, side)
    return Interval(low=low, high=high, level=level, method="exact")


def count_bound(count: int, n: int, *, level: float) -> float:
    """Return the one-sided upper bound of a rate, of which `count` of `n` are seen (Clopper & Pearson).

    0 of `n` rules out about 3 / n at 95 % (Hanley 1983).
    """
    return _upper(count, n, 1 - level)


def _upper(count: int, n: int, side: float) -> float:
    """The rate at which `count` or fewer of `n` are seen with probability `side`."""
    return 1.0 if count >= n else _root(lambda p: binomial_cdf(count, n, p) > side)


def _lower(count: int, n: int, side: float) -> float:
    return 0.0 if count <= 0 else _root(lambda p: binomial_sf(count, n, p) < side)


def _root(holds: Callable[[float], bool]) -> float:
    """The largest p for which `holds`, by bisection to 1e-13."""
    low, high = 0.0, 1.0
    while high - low > 1e-13:
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return (low + high) / 2


def score_interval(scores: ArrayLike, *, level: float, seed: int = SEED) -> Interval:
    """Return the interval of the mean of scores, one per case.

    Right/wrong scores: exact. Scores from 0 to 1, of which fewer than 10 differ from the commonest: the
    exact interval of their sum, because a bootstrap of nearly equal values is too narrow. Others: bootstrap.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.min() >= 0 and values.max() <= 1:
        right_or_wrong = bool(np.isin(values, (0.0, 1.0)).all())
        if right_or_wrong or _differing(values) < FEW:
            return proportion_interval(float(values.sum()), len(values), level=level)
    return mean_interval(values, level=level, seed=seed)


def _differing(values: _Floats) -> int:
    """The number of values that are not the commonest value."""
    return int(len(values) - np.unique(values, return_counts=True)[1].max())


def mean_interval(values: ArrayLike, *, level: float, seed: int = SEED) -> Interval:
    """Return the interval of a mean by the BCa bootstrap (Efron 1987, JASA 82), one value per case.

    With repeats the value is the case's mean, so that cases are resampled whole (a cluster bootstrap).
    The interval of the negated values is the negated interval.
    """
    data = np.asarray(values, dtype=np.float64)
    mean = float(data.mean())
    if float(np.ptp(data)) <= NOISE * max(1.0, abs(mean)):
        return Interval(low=mean, high=mean, level=level, method="constant")
    if mean < 0:
        return mean_interval(-data, level=level, seed=seed).mirrored()
    low, high = _bca(_resampled_means(data, seed), data, (1 - level) / 2)
    return Interval(low=low, high=high, level=level, method="bootstrap")


def _resampled_means(data: _Floats, seed: int) -> _Floats:
    """Means of `_RESAMPLES` resamples of `data`.

    Few distinct values are drawn as multinomial counts, which is the same distribution. Of more than
    5,000 cases the means of 1,000 random blocks are resampled, because a million cases take minutes.
    """
    random = np.random.Generator(np.random.PCG64(seed))
    distinct, counts = np.unique(data, return_counts=True)
    if len(distinct) <= 64:
        drawn = random.multinomial(len(data), counts / len(data), size=_RESAMPLES)
        means: _Floats = drawn @ distinct / len(data)
        return means
    if len(data) > _LARGE:
        shuffled = random.permutation(data)
        data = np.array([block.mean() for block in np.array_split(shuffled, 1_000)])
    rows = max(1, 1_000_000 // len(data))
    parts = []
    for start in range(0, _RESAMPLES, rows):
        size = (min(rows, _RESAMPLES - start), len(data))
        parts.append(data[random.integers(0, len(data), size=size)].mean(axis=1))
    return np.concatenate(parts)


def _bca(means: _Floats, data: _Floats, side: float) -> tuple[float, float]:
    """Bias-corrected and accelerated ends; the acceleration of a mean is its skewness / (6 sqrt n)."""
    mean = float(data.mean())
    centred = data - mean
    acceleration = float((centred**3).sum() / (6 * (centred**2).sum() ** 1.5))
    noise = NOISE * float(np.abs(data).max())
    below = float(np.mean(means < mean - noise) + np.mean(np.abs(means - mean) <= noise) / 2)
    normal = NormalDist()
    bias = normal.inv_cdf(min(max(below, 1 / (_RESAMPLES + 1)), _RESAMPLES / (_RESAMPLES + 1)))

    def end(z: float) -> float:
        moved = bias + z
        return float(np.quantile(means, normal.cdf(bias + moved / (1 - acceleration * moved))))

    return end(normal.inv_cdf(side)), end(normal.inv_cdf(1 - side))


def quantile(values: ArrayLike, q: float) -> float:
    """Return the smallest value that at least a share `q` of the values does not exceed."""
    data = np.sort(np.asarray(values, dtype=np.float64))
    return float(data[max(0, math.ceil(q * len(data) - NOISE) - 1)])


def quantile_interval(values: ArrayLike, q: float, *, level: float, clusters: int | None = None) -> Interval:
    """Return the interval of a quantile by order statistics (Conover 1999, section 3.2).

    No shape is assumed; with too few values an end is infinite. `clusters` is the number of cases when
    each case has several values: ranks then count the values of a case as one.
    """
    data = np.sort(np.asarray(values, dtype=np.float64))
    n, side = clusters or len(data), (1 - level) / 2
    ranks, below = range(n + 1), lambda rank: binomial_cdf(rank - 1, n, q)
    first = bisect.bisect_right(ranks, side, key=below) - 1
    last = bisect.bisect_left(ranks, 1 - side, key=below)
    low = float(data[(first - 1) * len(data) // n]) if first else -math.inf
    high = float(data[-(-last * len(data) // n) - 1]) if last <= n else math.inf
    return Interval(low=low, high=high, level=level, method="order statistics")


def paired_interval(
    differences: ArrayLike, *, level: float, bounded: bool = True, seed: int = SEED
) -> Interval:
    """Return the interval of the mean of paired differences, one per case.

    Bootstrap; but with scores from 0 to 1 (`bounded`) and fewer than 10 differing cases, gains and losses
    each have an exact bound at half the error (Bonferroni), because equal answers in 10 cases prove little.
    """
    values = np.asarray(differences, dtype=np.float64)
    differing = int((np.abs(values) > NOISE).sum())
    if not bounded or differing >= FEW or float(np.abs(values).max()) > 1:
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
