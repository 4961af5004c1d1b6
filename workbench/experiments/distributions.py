"""Exact binomial tails and normal quantiles, without scipy; docs/design/gates.md has the reasons."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

#: Smaller differences are float noise.
NOISE = 1e-9
#: Above this number of values, each method takes its form for large samples; docs/design/gates.md lists them.
LARGE = 5_000


def is_binary(values: NDArray[np.float64]) -> bool:
    """Return whether every value is 0 or 1."""
    return bool(((values == 0) | (values == 1)).all())


def z_value(side: float) -> float:
    """Return the standard normal quantile above which a share `side` lies."""
    return NormalDist().inv_cdf(1 - side)


def binomial_cdf(k: int, n: int, p: float) -> float:
    """Return P(X <= k) for X ~ Binomial(n, p), summed away from the mode.

    The relative error is below 1e-10 up to n = 1,000 and below 1e-7 up to n = 1,000,000.
    """
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
    """Return P(X >= k) for X ~ Binomial(n, p), exact also where it is tiny."""
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
    """Return P(X <= k) for k below the mean, where the terms shrink from k downwards."""
    term = total = math.exp(_log_pmf(k, n, p))
    odds = (1 - p) / p
    if n > LARGE:  # the terms within 10 standard deviations: the next one is below 1e-21 of the first
        steps = np.arange(k, max(0, k - 100 - math.ceil(10 * math.sqrt(n * p * (1 - p)))), -1.0)
        return min(1.0, term * (1 + float(np.cumprod(steps * odds / (n - steps + 1)).sum())))
    for i in range(k, 0, -1):
        term *= i * odds / (n - i + 1)
        total += term
        if term < total * 1e-17:
            break
    return min(1.0, total)
