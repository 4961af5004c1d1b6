"""Shares of texts with the Wilson interval, for the benchmarks of detectors and checks."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import NormalDist


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A number of texts out of some, with the Wilson interval of their share at 95 %."""

    count: int
    of: int
    level: float = field(default=0.95)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.count}/{self.of} ({self.count / self.of:.2f}, {low:.2f} to {high:.2f})"

    @property
    def interval(self) -> tuple[float, float]:
        z = NormalDist().inv_cdf(0.5 + self.level / 2)
        share, n = self.count / self.of, self.of
        centre, spread = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
        return max(0.0, (centre - spread) / (1 + z * z / n)), min(1.0, (centre + spread) / (1 + z * z / n))
