"""Paired values of two runs, matched by case id."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from workbench.errors import ConfigError
from workbench.experiments.metrics import AMOUNTS, plain_name, sample
from workbench.experiments.runs import Run

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from workbench.experiments.intervals import Interval


def paired(run: Run, baseline: Run, metric: str | None) -> list[Pairs]:
    """Return the pairs of `metric`, or of every common score; raise ConfigError when no case has a pair."""
    names = [metric] if metric else [name for name in run.score_names if name in baseline.score_names]
    found = [pairs for pairs in (Pairs.of(run, baseline, name) for name in names) if pairs.n]
    if not found:
        what = metric or "a common score"
        raise ConfigError(
            f"nothing to compare: no case has {what} in both {run.arm} and {baseline.arm}",
            hint=f"scores are {run.score_names} and {baseline.score_names}",
        )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """The values of one metric in two runs, over the cases with a value in both, sorted by case id.

    `left_out` counts the other cases, and `one_sided` those of them with a value in one of the runs.
    `rescaled` is true for a part of pairs whose scores are not all from 0 to 1.
    """

    metric: str
    cases: pl.Series
    ours: NDArray[np.float64]
    theirs: NDArray[np.float64]
    left_out: int
    one_sided: int = 0
    rescaled: bool = False

    @classmethod
    def of(cls, run: Run, baseline: Run, metric: str) -> Pairs:
        """Return the pairs of two runs over the same cases, as `check_pair` requires."""
        ours, theirs = sample(run.cases, metric).by_case, sample(baseline.cases, metric).by_case
        both = ours.is_not_null() & theirs.is_not_null()
        return cls(
            metric=plain_name(metric),
            cases=run.case_ids.filter(both),
            ours=ours.filter(both).to_numpy(),
            theirs=theirs.filter(both).to_numpy(),
            left_out=run.n_cases - int(both.sum()),
            one_sided=int((ours.is_not_null() != theirs.is_not_null()).sum()),
        )

    def of_cases(self, chosen: pl.Series) -> Pairs:
        """Return the pairs where `chosen`, one truth value for each pair, is true."""
        mask = chosen.to_numpy()
        return replace(
            self,
            cases=self.cases.filter(chosen),
            ours=self.ours[mask],
            theirs=self.theirs[mask],
            left_out=0,
            one_sided=0,
            rescaled=self._has_other_scale(),
        )

    @property
    def n(self) -> int:
        """The number of pairs."""
        return len(self.cases)

    @property
    def effect(self) -> float | None:
        """The mean difference, ours minus theirs; None without pairs."""
        return float((self.ours - self.theirs).mean()) if self.n else None

    def needed(self, threshold: float, level: float, *, power: float = 0.5) -> int | None:
        """Return the further pairs needed for the mean difference to clear `threshold`; None if unknown."""
        import numpy as np

        from workbench.experiments import sample_size

        if self.effect is None or (self._has_other_scale() and self.interval(level=level).is_open):
            return None
        spread = float(np.std(self.ours - self.theirs))
        total = sample_size.for_mean(spread, self.effect - threshold, level=level, power=power)
        return None if total is None else max(1, total - self.n)

    def is_binary(self) -> bool:
        """Return whether every value is 0 or 1."""
        from workbench.experiments.distributions import is_binary

        return is_binary(self.ours) and is_binary(self.theirs)

    def interval(self, *, level: float, seed: int = 7) -> Interval:
        """Return the interval of the mean difference, ours minus theirs.

        It is open for scores on another scale than 0 to 1 when fewer than 10 differences differ.
        """
        from workbench.experiments.intervals import FEW, mean_interval, paired_interval

        differences = self.ours - self.theirs
        if self._has_other_scale():
            return mean_interval(differences, level=level, seed=seed, least=FEW)
        return paired_interval(differences, level=level, bounded=self.metric not in AMOUNTS, seed=seed)

    def _has_other_scale(self) -> bool:
        """Return whether these are scores that are not all from 0 to 1."""
        if self.metric in AMOUNTS or self.rescaled:
            return self.rescaled
        ends = ((values.min(), values.max()) for values in (self.ours, self.theirs))
        return any(low < 0 or high > 1 for low, high in ends)
