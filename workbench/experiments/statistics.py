"""The formulas behind every verdict: intervals, tests, multiplicity.

Same numbers in, same numbers out: resampling has a fixed seed, data is taken in the order given (by case
id), and comparisons of resampled means tolerate float noise. Rounding happens only where a result is
rendered or stored. An interval of `level` is two-sided: each side may miss with (1 - level) / 2.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

SEED = 7
RESAMPLES = 5_000
#: Below so many cases that differ from the rest a bootstrap cannot know its own tails.
FEW = 10
_LARGE = 5_000
_NOISE = 1e-9
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A two-sided confidence interval. An end may be infinite where the data bound nothing."""

    low: float
    high: float
    level: float
    method: str

    def mirrored(self) -> Interval:
        """The interval of the negated quantity."""
        return Interval(low=-self.high, high=-self.low, level=self.level, method=self.method)

    def to_json(self) -> dict[str, Any]:
        """Ends rounded to 6 decimals; an infinite end is null."""
        return {
            "low": rounded(self.low),
            "high": rounded(self.high),
            "level": self.level,
            "method": self.method,
        }


def rounded(value: float | None) -> float | None:
    """`value` to 6 decimals for storing; None for what is not a finite number."""
    if value is None or not math.isfinite(value):
        return None
    return round(value, 6) + 0.0  # + 0.0 turns -0.0 into 0.0


def z_value(side: float) -> float:
    """The standard normal quantile that leaves `side` above it."""
    return NormalDist().inv_cdf(1 - side)


# Proportions


def binomial_cdf(k: int, n: int, p: float) -> float:
    """P(X <= k) for X ~ Binomial(n, p), summed away from the mode; relative error below 1e-10."""
    if k < 0:
        return 0.0
    if k >= n or p <= 0:
        return 1.0
    if p >= 1:
        return 0.0
    if k > n * p:
        return 1.0 - _tail(n - k - 1, n, 1 - p)
    return _tail(k, n, p)


def binomial_sf(k: int, n: int, p: float) -> float:
    """P(X >= k) for X ~ Binomial(n, p), exact also where it is tiny."""
    return binomial_cdf(n - k, n, 1 - p)


def _log_pmf(k: int, n: int, p: float) -> float:
    exact = n <= 1_000
    choose = (
        math.log(math.comb(n, k))
        if exact
        else math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    )
    return choose + k * math.log(p) + (n - k) * math.log1p(-p)


def _tail(k: int, n: int, p: float) -> float:
    """P(X <= k) for k below the mean: terms shrink from k downwards."""
    term = total = math.exp(_log_pmf(k, n, p))
    odds = (1 - p) / p
    for i in range(k, 0, -1):
        term *= i * odds / (n - i + 1)
        total += term
        if term < total * 1e-17:
            break
    return min(1.0, total)


def proportion_interval(
    count: float, n: int, *, level: float, method: Literal["exact", "wilson"] = "exact"
) -> Interval:
    """Interval of a rate of which `count` of `n` were seen.

    "exact" is Clopper & Pearson (1934), Biometrika 26: it misses at most 1 - level of the time whatever
    the rate, and so is what gates use. "wilson" is the score interval of Wilson (1927), JASA 22: shorter,
    right on average only. A fractional `count`, the sum of `n` scores from 0 to 1, is widened to the
    whole counts around it, since a right/wrong score varies more than any other of the same mean.
    """
    if method == "wilson":
        return _wilson(count, n, level)
    side = (1 - level) / 2
    low = _lower(math.floor(count + _NOISE), n, side)
    high = _upper(math.ceil(count - _NOISE), n, side)
    return Interval(low=low, high=high, level=level, method="exact")


def _wilson(count: float, n: int, level: float) -> Interval:
    z, rate = z_value((1 - level) / 2), count / n
    scale = 1 + z * z / n
    centre = (rate + z * z / (2 * n)) / scale
    half = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n)) / scale
    return Interval(low=max(0.0, centre - half), high=min(1.0, centre + half), level=level, method="wilson")


def _upper(count: int, n: int, side: float) -> float:
    """The rate at which `count` or fewer of `n` would be seen with probability `side`."""
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


def count_bound(count: int, n: int, *, level: float) -> float:
    """One-sided upper bound of the rate of which `count` of `n` were seen (Clopper & Pearson)."""
    return zero_count_bound(n, level=level) if count == 0 else _upper(count, n, 1 - level)


def zero_count_bound(n: int, *, level: float) -> float:
    """The rate that 0 of `n` rules out: 1 - (1 - level)^(1/n); about 3/n at 95 % (Hanley 1983)."""
    return 1 - (1 - level) ** (1 / n) if n else 1.0


# Means and quantiles


def score_interval(scores: ArrayLike, *, level: float, seed: int = SEED) -> Interval:
    """Interval of the mean of scores, one per case.

    Right/wrong scores: exact. Scores from 0 to 1 of which nearly all are equal: the binomial interval of
    their sum, as a bootstrap of nearly equal values is far too sure. All others: bootstrap.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.min() >= 0 and values.max() <= 1:
        right_or_wrong = bool(np.isin(values, (0.0, 1.0)).all())
        if right_or_wrong or _differing(values) < FEW:
            return proportion_interval(float(values.sum()), len(values), level=level)
    return mean_interval(values, level=level, seed=seed)


def _differing(values: Floats) -> int:
    """How many values are not the commonest one."""
    return int(len(values) - np.unique(values, return_counts=True)[1].max())


def mean_interval(values: ArrayLike, *, level: float, seed: int = SEED) -> Interval:
    """Interval of a mean by the BCa bootstrap (Efron 1987, JASA 82), one value per case.

    With repeats the value is the case's mean, so that cases are resampled whole (a cluster bootstrap).
    The interval of the negated values is the negated interval.
    """
    data = np.asarray(values, dtype=np.float64)
    mean = float(data.mean())
    if float(np.ptp(data)) <= _NOISE * max(1.0, abs(mean)):
        return Interval(low=mean, high=mean, level=level, method="constant")
    if mean < 0:
        return mean_interval(-data, level=level, seed=seed).mirrored()
    low, high = _bca(_resampled_means(data, seed), data, (1 - level) / 2)
    return Interval(low=low, high=high, level=level, method="bootstrap")


def _resampled_means(data: Floats, seed: int) -> Floats:
    """Means of `RESAMPLES` resamples of `data`.

    Few distinct values: drawn as multinomial counts, which is the same distribution. Very many cases:
    means of random blocks of cases stand for the cases, or a million of them would take minutes.
    """
    random = np.random.Generator(np.random.PCG64(seed))
    distinct, counts = np.unique(data, return_counts=True)
    if len(distinct) <= 64:
        drawn = random.multinomial(len(data), counts / len(data), size=RESAMPLES)
        means: Floats = drawn @ distinct / len(data)
        return means
    if len(data) > _LARGE:
        shuffled = random.permutation(data)
        data = np.array([block.mean() for block in np.array_split(shuffled, 1_000)])
    rows = max(1, 1_000_000 // len(data))
    parts = []
    for start in range(0, RESAMPLES, rows):
        size = (min(rows, RESAMPLES - start), len(data))
        parts.append(data[random.integers(0, len(data), size=size)].mean(axis=1))
    return np.concatenate(parts)


def _bca(means: Floats, data: Floats, side: float) -> tuple[float, float]:
    """Bias-corrected and accelerated ends; the acceleration of a mean is its skewness / (6 sqrt n)."""
    mean = float(data.mean())
    centred = data - mean
    acceleration = float((centred**3).sum() / (6 * (centred**2).sum() ** 1.5))
    noise = _NOISE * float(np.abs(data).max())
    below = float(np.mean(means < mean - noise) + np.mean(np.abs(means - mean) <= noise) / 2)
    normal = NormalDist()
    bias = normal.inv_cdf(min(max(below, 1 / (RESAMPLES + 1)), RESAMPLES / (RESAMPLES + 1)))

    def end(z: float) -> float:
        moved = bias + z
        return float(np.quantile(means, normal.cdf(bias + moved / (1 - acceleration * moved))))

    return end(normal.inv_cdf(side)), end(normal.inv_cdf(1 - side))


def quantile(values: ArrayLike, q: float) -> float:
    """The smallest value that at least a share `q` of the values does not exceed."""
    data = np.sort(np.asarray(values, dtype=np.float64))
    return float(data[max(0, math.ceil(q * len(data) - _NOISE) - 1)])


def quantile_interval(values: ArrayLike, q: float, *, level: float, clusters: int | None = None) -> Interval:
    """Interval of a quantile by order statistics (Conover 1999, section 3.2): no shape is assumed.

    Too few values leave an end open: 0 is below every duration, infinity above. `clusters` is the number
    of cases when each has several values: ranks are taken as if the values of a case were one.
    """
    data = np.sort(np.asarray(values, dtype=np.float64))
    n, side = clusters or len(data), (1 - level) / 2
    ranks, below = range(n + 1), lambda rank: binomial_cdf(rank - 1, n, q)
    first = bisect.bisect_right(ranks, side, key=below) - 1
    last = bisect.bisect_left(ranks, 1 - side, key=below)
    low = float(data[(first - 1) * len(data) // n]) if first else -math.inf
    high = float(data[-(-last * len(data) // n) - 1]) if last <= n else math.inf
    return Interval(low=low, high=high, level=level, method="order statistics")


# Pairs


def mcnemar(improved: int, worsened: int, *, mid_p: bool = False) -> float:
    """Two-sided p of McNemar's exact test: would as uneven a split of the flips come from a fair coin?

    `mid_p` counts half of the observed split (Fagerland et al. 2013, BMC Med Res Methodol 13:91): less
    conservative, no longer guaranteed.
    """
    n, fewer = improved + worsened, min(improved, worsened)
    if n == 0:
        return 1.0
    p = 2 * binomial_cdf(fewer, n, 0.5)
    if mid_p:
        p -= math.exp(_log_pmf(fewer, n, 0.5))
    return min(1.0, p)


def paired_interval(
    differences: ArrayLike, *, level: float, bounded: bool = True, seed: int = SEED
) -> Interval:
    """Interval of the mean of paired differences, one per case.

    Bootstrap; but when scores are from 0 to 1 (`bounded`) and fewer than 10 cases differ, gains and losses
    are each bounded exactly at half the error (Bonferroni): nothing different in 10 cases is not certainty.
    """
    values = np.asarray(differences, dtype=np.float64)
    differing = int((np.abs(values) > _NOISE).sum())
    if not bounded or differing >= FEW or float(np.abs(values).max()) > 1:
        return mean_interval(values, level=level, seed=seed)
    half = (1 + level) / 2
    gains = proportion_interval(float(values.clip(min=0).sum()), len(values), level=half)
    losses = proportion_interval(float((-values).clip(min=0).sum()), len(values), level=half)
    return Interval(
        low=gains.low - losses.high, high=gains.high - losses.low, level=level, method="exact bounds"
    )


def sign_flip_p(differences: ArrayLike, *, seed: int = SEED) -> float:
    """Two-sided p of the paired permutation test: under no effect every difference may change its sign.

    Up to 12 differences: all sign patterns. Up to 5,000: 9,999 random ones, the observed one counted in
    (Phipson & Smyth 2010), so that p is never 0. More: their normal limit.
    """
    data = np.abs(np.asarray(differences, dtype=np.float64))
    observed = abs(float(np.asarray(differences, dtype=np.float64).sum()))
    data = data[data > _NOISE]
    if not len(data):
        return 1.0
    if len(data) > _LARGE:
        return 2 * (1 - NormalDist().cdf(observed / math.sqrt(float((data**2).sum()))))
    least = observed - _NOISE * float(data.sum())
    if len(data) <= 12:
        bits = (np.arange(2 ** len(data))[:, None] >> np.arange(len(data))) & 1
        return float(np.mean(np.abs((1 - 2 * bits) @ data) >= least))
    random = np.random.Generator(np.random.PCG64(seed))
    hits, left = 0, 9_999
    while left:
        rows = min(left, max(1, 1_000_000 // len(data)))
        signs = 1.0 - 2.0 * random.integers(0, 2, size=(rows, len(data)))
        hits += int((np.abs(signs @ data) >= least).sum())
        left -= rows
    return (hits + 1) / 10_000


def holm(p_values: Sequence[float]) -> list[float]:
    """Step-down adjusted p-values (Holm 1979, Scand J Stat 6): below alpha rejects, family-wise."""
    adjusted, worst = [0.0] * len(p_values), 0.0
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    for step, index in enumerate(order):
        worst = max(worst, min(1.0, p_values[index] * (len(p_values) - step)))
        adjusted[index] = worst
    return adjusted


def non_inferior(interval: Interval, margin: float) -> Literal["pass", "fail", "undecided"]:
    """Whether a difference (higher is better) is surely not below -margin, surely below it, or neither."""
    if interval.low >= -margin:
        return "pass"
    return "fail" if interval.high < -margin else "undecided"
