"""Compare two versions while results arrive, with a verdict that stays valid however often it is looked at.

The test bets on bounded differences (Waudby-Smith & Ramdas, "Estimating means of bounded random variables by
betting", JRSS B 86, 2024). While the mean difference is `bound` or above, the capital of a gambler who bets
against it is a non-negative supermartingale. By Ville's inequality it ever reaches 1 / alpha with probability
alpha at most. The capital is the mean over a fixed set of bets, so the order of the differences does not
matter: results of several hosts are added.

Differences are kept as weights of 41 values from -1 to 1. A difference between two values adds to both. The
logarithm of a bet is concave, so this lowers the capital and never raises the error.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from workbench.errors import CorruptError
from workbench.experiments.intervals import Interval, rounded

Verdict = Literal["better", "worse", "undecided"]
_PARTS = 20
#: The values that differences are counted at.
_VALUES = np.arange(-_PARTS, _PARTS + 1) / _PARTS
#: The bets, as shares of the largest one that cannot lose more than the whole capital.
_BETS = 0.95 * 0.75 ** np.arange(14)
#: The bounds that an interval is made of, closer than the margins that people state.
_BOUNDS = np.linspace(-1, 1, 401)
_MOST_WEIGHT = 1e12
_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedDifferences:
    """Counted differences in [-1, 1] of a metric: new minus old, where more is better.

    `weights` has one number for each of 41 values. Its size does not grow with the number of differences.
    """

    weights: tuple[float, ...] = (0.0,) * len(_VALUES)

    @classmethod
    def of(cls, differences: Iterable[float]) -> CountedDifferences:
        """Count differences; raise ValueError for one that is not in [-1, 1]."""
        data = np.asarray(list(differences), dtype=np.float64)
        if not np.all(np.abs(data) <= 1):  # false for NaN too
            raise ValueError("a difference is not in [-1, 1]")
        places = (data + 1) * _PARTS
        below = np.minimum(np.floor(places), 2 * _PARTS - 1).astype(np.int64)
        weights = np.zeros(len(_VALUES))
        np.add.at(weights, below, 1 - (places - below))
        np.add.at(weights, below + 1, places - below)
        return cls(weights=tuple(weights.tolist()))

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> CountedDifferences:
        """Return the differences that `to_json` wrote; raise CorruptError for another form."""
        weights = [0.0] * len(_VALUES)
        for key, weight in raw.items():
            place = int(key) if key.isascii() and key.isdigit() and len(key) < 3 else len(weights)
            number = type(weight) in {int, float} and 0 <= weight <= _MOST_WEIGHT
            if place >= len(weights) or not number:
                raise CorruptError(
                    "the counted differences of a run are unreadable", hint="workbench jobs history NAME"
                )
            weights[place] = float(weight)
        return cls(weights=tuple(weights))

    def to_json(self) -> dict[str, float]:
        """Return the weights that are not 0, by the number of their value."""
        return {str(place): round(weight, 6) for place, weight in enumerate(self.weights) if weight}

    @property
    def n(self) -> float:
        """The number of differences."""
        return math.fsum(self.weights)

    @property
    def mean(self) -> float | None:
        """The mean difference, or None without any."""
        return float(np.dot(self.weights, _VALUES)) / self.n if self.n else None

    def __add__(self, other: CountedDifferences) -> CountedDifferences:
        pairs = zip(self.weights, other.weights, strict=True)
        return CountedDifferences(weights=tuple(ours + theirs for ours, theirs in pairs))

    def mirrored(self) -> CountedDifferences:
        """Return the negated differences."""
        return CountedDifferences(weights=self.weights[::-1])

    def evidence_above(self, bound: float) -> float:
        """Return the logarithm of the capital won against a mean difference of `bound` or less.

        With probability alpha at most it ever reaches log(1 / alpha) while that is the mean.
        """
        return float(_capital(np.asarray(self.weights), np.asarray([bound]))[0])

    def evidence_below(self, bound: float) -> float:
        """Return the logarithm of the capital won against a mean difference of `bound` or more."""
        return self.mirrored().evidence_above(-bound)

    def interval(self, alpha: float) -> Interval:
        """Return the interval that holds the mean difference at all times with probability 1 - alpha."""
        needed = math.log(2 / alpha)
        weights = np.asarray(self.weights)
        above = _BOUNDS[_capital(weights, _BOUNDS) < needed]
        below = -_BOUNDS[_capital(weights[::-1], _BOUNDS) < needed]
        step = float(_BOUNDS[1] - _BOUNDS[0])  # outwards: the bounds between two were not tried
        low = max(-1.0, float(above.min()) - step) if len(above) else 1.0
        high = min(1.0, float(below.max()) + step) if len(below) else -1.0
        return Interval(low=low, high=high, level=1 - alpha, method="betting, valid at any time")


def _capital(weights: _Floats, bounds: _Floats) -> _Floats:
    """Return the log capital against a mean of each bound or less, the mean over all bets."""
    # A bet b multiplies the capital by 1 + b * (difference - bound); the smallest difference is -1.
    largest = 1 / np.maximum(1 + bounds, 1e-9)
    bets = np.minimum(largest[:, None] * _BETS, 1e6)
    steps = np.log1p(bets[:, :, None] * (_VALUES - bounds[:, None, None]).clip(-2, 2))
    logs = steps @ weights
    top = logs.max(axis=1, keepdims=True)
    found: _Floats = top[:, 0] + np.log(np.exp(logs - top).mean(axis=1))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardComparison:
    """The verdict on one guard metric: how the new version differs from the old one.

    `worse` says that the mean difference is below -`margin`, `better` that it is above: the new version
    is better, or as good within the margin. Each is wrong with probability `alpha` at
    most, at all looks together.
    """

    metric: str
    margin: float
    alpha: float
    verdict: Verdict
    n: float
    mean: float | None
    interval: Interval

    def to_json(self) -> dict[str, Any]:
        """Return the comparison with numbers rounded as stored."""
        raw = dataclasses.asdict(self)
        return {**raw, "n": rounded(self.n), "mean": rounded(self.mean), "interval": self.interval.to_json()}


def compare_guards(
    found: Mapping[str, CountedDifferences], margins: Mapping[str, float], *, alpha: float
) -> tuple[GuardComparison, ...]:
    """Compare each guard metric of `margins`; a metric without differences is undecided.

    `worse` of any guard is a false alarm with probability `alpha` at most: each guard gets its share. For
    `better` each guard has `alpha`, because all of them must hold.
    """
    share = alpha / max(1, len(margins))
    return tuple(
        _compared(metric, found.get(metric, CountedDifferences()), margin, alpha, share)
        for metric, margin in margins.items()
    )


def _compared(
    metric: str, found: CountedDifferences, margin: float, alpha: float, share: float
) -> GuardComparison:
    verdict: Verdict = "undecided"
    if found.evidence_below(-margin) >= math.log(1 / share):
        verdict = "worse"
    elif found.evidence_above(-margin) >= math.log(1 / alpha):
        verdict = "better"
    return GuardComparison(
        metric=metric, margin=margin, alpha=share if verdict == "worse" else alpha, verdict=verdict,
        n=found.n, mean=found.mean, interval=found.interval(alpha),
    )  # fmt: skip


def verdict_of(comparisons: Sequence[GuardComparison]) -> Verdict:
    """Return worse when any guard is worse, better when every guard is better, else undecided."""
    verdicts = {item.verdict for item in comparisons}
    if "worse" in verdicts:
        return "worse"
    return "better" if verdicts == {"better"} else "undecided"


def group_differences(new: Sequence[float], old: Sequence[float]) -> list[float]:
    """Return one difference for each independent group of two unpaired samples of scores in [0, 1].

    The larger sample is divided: each value of the smaller one is compared with the mean of a group of its
    own. CountedDifferences that shared a mean would not be independent.
    """
    groups = min(len(new), len(old))
    return [_group(new, place, groups) - _group(old, place, groups) for place in range(groups)]


def _group(scores: Sequence[float], place: int, groups: int) -> float:
    part = scores[place::groups]
    return math.fsum(part) / len(part)


def relative_saving(new: float, old: float) -> float:
    """Return by what share `new` seconds or USD are below `old`, from -1 to 1; 0 when both are 0."""
    top = max(new, old)
    return (old - new) / top if top > 0 else 0.0
