"""Sample sizes: the number of cases that a verdict needs, before a run or after an undecided verdict."""

from __future__ import annotations

import math

from workbench.experiments.distributions import LARGE, NOISE, binomial_cdf, binomial_sf, z_value


def for_proportion(rate: float, threshold: float, *, level: float) -> int | None:
    """Return the total cases at which the exact interval of `rate` clears `threshold`; None if equal.

    The search counts up from the score test's n. Above 5,000 cases, the continuity-corrected formula
    (Fleiss, Levin & Paik 2003, section 2.7) replaces the search.
    """
    distance = abs(rate - threshold)
    if distance < NOISE:
        return None
    side = (1 - level) / 2
    start = z_value(side) ** 2 * threshold * (1 - threshold) / distance**2
    if start > LARGE:
        return math.ceil(start + 1 / distance)
    n = max(1, int(start * 0.9) - 10)
    while not _clears(rate, threshold, n, side):
        n += 1
    return n


def _clears(rate: float, threshold: float, n: int, side: float) -> bool:
    if rate > threshold:
        return binomial_sf(math.floor(rate * n + NOISE), n, threshold) <= side
    return binomial_cdf(math.ceil(rate * n - NOISE), n, threshold) <= side


def for_mean(deviation: float, distance: float, *, level: float, power: float = 0.5) -> int | None:
    """Return the total cases for a mean at `distance` from its bound; None at distance 0.

    The formula is ((z_level + z_power) sd / distance)^2. At `power` 0.5, the interval of data with the
    same mean and spread just clears the bound.
    """
    if abs(distance) < NOISE:
        return None
    z = z_value((1 - level) / 2) + z_value(1 - power)
    return max(2, math.ceil((z * deviation / distance) ** 2))


def for_pairs(improved: float, worsened: float, *, level: float = 0.95, power: float = 0.8) -> int | None:
    """Return the total pairs for McNemar's test at these flip shares (Connor 1987, Biometrics 43)."""
    flips, effect = improved + worsened, abs(improved - worsened)
    if effect < NOISE:
        return None
    spread = z_value((1 - level) / 2) * math.sqrt(flips)
    spread += z_value(1 - power) * math.sqrt(max(0.0, flips - effect**2))
    return math.ceil((spread / effect) ** 2 - NOISE)
