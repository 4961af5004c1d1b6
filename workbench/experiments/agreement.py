"""Agreement of two raters on the same things: Cohen's kappa with its interval, and its table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workbench.experiments.intervals import Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Kappa:
    """Cohen's kappa of two raters over `n` things, of which they rated `agreed` alike.

    `value` and `interval` are None where kappa is undefined: without a thing that both rated, and where both
    used one and the same category alone, so that they had to agree.
    """

    value: float | None
    interval: Interval | None
    n: int
    agreed: int


def cross_table(pairs: Iterable[tuple[str, str]], categories: Sequence[str]) -> NDArray[np.int64]:
    """Return how often each pair of categories occurs; rows are the first rater's, columns the second's."""
    place = {category: i for i, category in enumerate(categories)}
    table = np.zeros((len(categories), len(categories)), dtype=np.int64)
    for first, second in pairs:
        table[place[first], place[second]] += 1
    return table


def cohens_kappa(table: ArrayLike, *, level: float = 0.95) -> Kappa:
    """Return kappa of a square table of counts, with its asymptotic interval at `level`.

    kappa = (p_o - p_e) / (1 - p_e), where p_o is the share of agreement and p_e = sum_i r_i c_i the one that
    the raters' own shares r and c give by chance (Cohen 1960, Educational and Psychological Measurement 20).
    Its large-sample variance is that of Fleiss, Cohen & Everitt (1969), Psychological Bulletin 72:
    (sum_i p_ii (1 - (r_i + c_i)(1 - kappa))^2 + (1 - kappa)^2 sum_{i != j} p_ij (c_i + r_j)^2
    - (kappa - p_e (1 - kappa))^2) / (n (1 - p_e)^2). The interval is cut at -1 and 1. It is rough for fewer
    than about 30 things, and has no width for raters who agree on all.
    """
    counts = np.asarray(table, dtype=np.float64)
    n, agreed = float(counts.sum()), float(np.trace(counts))
    shares = counts / n if n else counts
    rows, columns = shares.sum(axis=1), shares.sum(axis=0)
    by_chance = float(rows @ columns)
    if not n or math.isclose(by_chance, 1.0):
        return Kappa(value=None, interval=None, n=int(n), agreed=int(agreed))
    kappa = (agreed / n - by_chance) / (1 - by_chance)
    alike = float((np.diag(shares) * (1 - (rows + columns) * (1 - kappa)) ** 2).sum())
    other = shares * (columns[:, None] + rows[None, :]) ** 2
    unlike = (1 - kappa) ** 2 * float(other.sum() - np.trace(other))
    variance = alike + unlike - (kappa - by_chance * (1 - kappa)) ** 2
    half = NormalDist().inv_cdf((1 + level) / 2) * math.sqrt(max(0.0, variance) / n) / (1 - by_chance)
    interval = Interval(
        low=max(-1.0, kappa - half), high=min(1.0, kappa + half), level=level, method="asymptotic"
    )
    return Kappa(value=kappa, interval=interval, n=int(n), agreed=int(agreed))
