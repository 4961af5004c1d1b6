"""The objective of a job: whether its slots keep it, what is left of the error budget, and how fast it goes.

The objective of pipelines/operations.yaml is one sentence: the share `success` of the slots of the last
`days` is published within `seconds` of its time. A slot that is not is *bad*. The error budget is the number
of bad slots that the window may hold; the objective is missed when it is overdrawn. That is a count of what
happened. The interval of a share says what it lets expect.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from workbench.display import number, percent
from workbench.experiments.intervals import Interval, proportion_interval

#: The level of every interval of a job's health.
LEVEL = 0.9
Verdict = Literal["pass", "fail", "undecided"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GoodSlots:
    """How many of `n` slots are `good`."""

    good: int
    n: int

    @property
    def value(self) -> float | None:
        """The share, or None of no slots."""
        return self.good / self.n if self.n else None

    @property
    def interval(self) -> Interval | None:
        """The exact interval of the share, or None of no slots."""
        return proportion_interval(self.good, self.n, level=LEVEL) if self.n else None

    def against(self, least: float) -> Verdict:
        """Return whether the share is at least `least`, judged on its interval."""
        return self.interval.against(least, upward=True) if self.interval else "undecided"


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorBudget:
    """The bad slots of a window of `expected` slots, of which the share `success` must be good.

    `recent` are the good slots of the window's last quarter.
    """

    success: float
    expected: int
    bad: int
    recent: GoodSlots

    @property
    def allowed(self) -> float:
        """The number of bad slots that the window may hold."""
        return self.expected * (1 - self.success)

    @property
    def left(self) -> float | None:
        """The share of the budget that is left, below 0 when it is overdrawn; None of no slots."""
        return 1 - self.bad / self.allowed if self.expected else None

    @property
    def burn(self) -> float | None:
        """The rate at which the last quarter uses the budget; None without slots in it.

        At 1 the budget is used exactly when the window ends, at 4 in a quarter of the window.
        """
        share = self.recent.value
        return None if share is None else (1 - share) / (1 - self.success)

    @property
    def used_up(self) -> bool:
        """Whether there are more bad slots than the window may hold."""
        return self.bad > self.allowed

    def __str__(self) -> str:
        if self.left is None:
            return "no runs yet"
        allowed = f"{self.bad} of {number(round(self.allowed, 2))} bad slots"
        if self.used_up:
            return f"used up: {allowed}"
        return f"{percent(round(self.left, 2))} left: {allowed}"
