"""How many cases a decision needs: asked before a run is made, and when a verdict is undecided."""

from __future__ import annotations

import math

from workbench.experiments.distributions import NOISE, binomial_cdf, binomial_sf, z_value

_LARGE = 5_000


def for_proportion(rate: float, threshold: float, *, level: float) -> int | None:
    """Cases in all at which the exact interval of an unchanged `rate` clears `threshold`; None if never.

    Counted up from the score test's n; beyond 5,000 the continuity-corrected formula (Fleiss, Levin &
    Paik 2003, section 2.7) is exact enough and at once there.
    """
    distance = abs(rate - threshold)
    if distance < NOISE:
        return None
    side = (1 - level) / 2
    start = z_value(side) ** 2 * threshold * (1 - threshold) / distance**2
    if start > _LARGE:
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
    """Cases in all for a mean `distance` away from its bound: ((z_level + z_power) sd / distance)^2.

    At `power` 0.5 the interval of unchanged data would just clear the bound. None at distance 0.
    """
    if abs(distance) < NOISE:
        return None
    z = z_value((1 - level) / 2) + z_value(1 - power)
    return max(2, math.ceil((z * deviation / distance) ** 2))


def for_pairs(improved: float, worsened: float, *, level: float = 0.95, power: float = 0.8) -> int | None:
    """Pairs in all for McNemar's test to see these shares of flips (Connor 1987, Biometrics 43)."""
    flips, effect = improved + worsened, abs(improved - worsened)
    if effect < NOISE:
        return None
    spread = z_value((1 - level) / 2) * math.sqrt(flips)
    spread += z_value(1 - power) * math.sqrt(max(0.0, flips - effect**2))
    return math.ceil((spread / effect) ** 2 - NOISE)
