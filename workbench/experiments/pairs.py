"""Paired values of two runs, matched by case id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.errors import ConfigError
from workbench.experiments.metrics import plain_name, sample
from workbench.experiments.runs import Run

if TYPE_CHECKING:
    import numpy as np
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
    """One metric's values in two runs, over the cases with a value in both."""

    metric: str
    cases: tuple[str, ...]
    ours: NDArray[np.float64]
    theirs: NDArray[np.float64]
    left_out: int

    @classmethod
    def of(cls, run: Run, baseline: Run, metric: str) -> Pairs:
        """Pair two runs by case id."""
        import numpy as np

        ours, theirs = sample(run.cases, metric), sample(baseline.cases, metric)
        both = sorted(set(ours.cases) & set(theirs.cases))
        first = dict(zip(ours.cases, ours.values, strict=True))
        second = dict(zip(theirs.cases, theirs.values, strict=True))
        return cls(
            metric=plain_name(metric),
            cases=tuple(both),
            ours=np.array([first[case] for case in both], dtype=np.float64),
            theirs=np.array([second[case] for case in both], dtype=np.float64),
            left_out=run.n_cases - len(both),
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

        if self.effect is None:
            return None
        spread = float(np.std(self.ours - self.theirs))
        total = sample_size.for_mean(spread, self.effect - threshold, level=level, power=power)
        return None if total is None else max(1, total - self.n)

    def is_binary(self) -> bool:
        """Return whether every value is 0 or 1."""
        import numpy as np

        return bool(np.isin(self.ours, (0.0, 1.0)).all() and np.isin(self.theirs, (0.0, 1.0)).all())

    def interval(self, *, level: float, seed: int = 7, bounded: bool = True) -> Interval:
        """Return the interval of the mean difference, ours minus theirs."""
        from workbench.experiments.intervals import paired_interval

        return paired_interval(self.ours - self.theirs, level=level, bounded=bounded, seed=seed)
