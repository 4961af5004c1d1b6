"""Bounds of a new use case's gate, chosen so that its number of cases can pass and fail them."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence

from workbench.experiments.intervals import proportion_interval

#: The level of a new gate's intervals.
CONFIDENCE = 0.90
#: Bounds of a rate, and of the share of unscored cases: the first that a perfect run reaches is taken.
_LEAST = ("0.95", "0.90", "0.80", "0.70", "0.60", "0.50", "0.40", "0.30", "0.20", "0.10", "0.05", "0.02")
_MOST = ("0.02", "0.05", "0.10", "0.20", "0.40", "0.60", "0.80", "0.96")
#: More cases than this are not demanded: a dataset may lose some and still be judged.
_CASES = 100


def bounds(cases: int, *, above: float = 0.0) -> dict[str, object]:
    """Return the values of a gate's lines for a number of cases, with notes on what decides them.

    The bound of accuracy is the lowest usual one, 0.30, or the first one above the rate `above` that needs
    no model, as far as a perfect run reaches it.
    """
    wanted = min(
        (bound for bound in map(float, _LEAST) if bound > max(above, 0.25)), default=float(_LEAST[0])
    )
    least = [bound for bound in _LEAST if float(bound) <= wanted]
    accuracy = _first(least, lambda bound: _interval(cases, cases)[0] >= float(bound))
    unscored = _first(_MOST, lambda bound: _interval(0, cases)[1] <= float(bound))
    return {
        "accuracy": accuracy,
        "recall": accuracy,
        "unscored": unscored,
        "cases": str(min(cases, _CASES)),
        "gate_notes": _notes(cases, float(accuracy)),
    }


def _notes(cases: int, bound: float) -> list[str]:
    """Return the comment of a new gate: from which number of right answers it passes and fails."""
    numbers = range(cases + 1)  # the ends of the intervals grow with the number of right answers
    passes = bisect.bisect_left(numbers, bound, key=lambda right: _interval(right, cases)[0])
    fails = bisect.bisect_left(numbers, bound, key=lambda right: _interval(right, cases)[1]) - 1
    below = f"fails with up to {fails}" if fails >= 0 else "cannot fail with so few cases"
    return [
        "No model was tried when these bounds were chosen: they are low, and no promise. Raise them before",
        f"a promotion. With {cases} cases, {bound:g} passes from {passes} right answers on and {below}.",
    ]


def _interval(right: int, cases: int) -> tuple[float, float]:
    found = proportion_interval(float(right), cases, level=CONFIDENCE)
    return found.low, found.high


def _first(found: Sequence[str], reached: Callable[[str], bool]) -> str:
    """Return the first bound that is reached, or the last."""
    return next((bound for bound in found if reached(bound)), found[-1])
