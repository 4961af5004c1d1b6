"""Tests of a difference between two runs: McNemar's exact test, the sign-flip test, Holm's adjustment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from workbench.experiments.distributions import LARGE, NOISE, binomial_cdf
from workbench.experiments.intervals import SEED


def mcnemar(improved: int, worsened: int) -> float:
    """Return the two-sided p of McNemar's exact test: the chance that a fair coin splits as unevenly."""
    return min(1.0, 2 * binomial_cdf(min(improved, worsened), improved + worsened, 0.5))


def sign_flip_p(differences: ArrayLike, *, seed: int = SEED) -> float:
    """Return the two-sided p of the paired permutation test, in which any difference may change its sign.

    Up to 12 differences: all sign patterns. Up to 5,000: 9,999 random patterns and the observed pattern
    (Phipson & Smyth 2010), so that p is never 0. More: the normal limit.
    """
    data = np.abs(np.asarray(differences, dtype=np.float64))
    observed = abs(float(np.asarray(differences, dtype=np.float64).sum()))
    data = data[data > NOISE]
    if not len(data):
        return 1.0
    if len(data) > LARGE:
        return 2 * (1 - NormalDist().cdf(observed / math.sqrt(float((data**2).sum()))))
    least = observed - NOISE * float(data.sum())
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
    """Return p-values adjusted for their family by Holm's step-down (1979, Scand J Stat 6)."""
    adjusted, worst = [0.0] * len(p_values), 0.0
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    for step, index in enumerate(order):
        worst = max(worst, min(1.0, p_values[index] * (len(p_values) - step)))
        adjusted[index] = worst
    return adjusted
