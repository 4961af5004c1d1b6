"""Exact binomial tails and normal quantiles, without scipy; docs/design/gates.md has the reasons."""

from __future__ import annotations

import math
from statistics import NormalDist

#: Differences below it are float noise.
NOISE = 1e-9


def z_value(side: float) -> float:
    """Return the standard normal quantile above which a share `side` lies."""
    return NormalDist().inv_cdf(1 - side)


def binomial_cdf(k: int, n: int, p: float) -> float:
    """Return P(X <= k) for X ~ Binomial(n, p), summed away from the mode; relative error below 1e-10."""
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
    """P(X <= k) for k below the mean: terms shrink from k downwards."""
    term = total = math.exp(_log_pmf(k, n, p))
    odds = (1 - p) / p
    for i in range(k, 0, -1):
        term *= i * odds / (n - i + 1)
        total += term
        if term < total * 1e-17:
            break
    return min(1.0, total)
