"""Find out which of two arms pays for itself: the decided approach, or the one that it is compared with.

The rule is stated before the run. The costlier approach pays for itself when its first score is higher by
more than the margin, with the whole interval of the paired difference. It does not when the whole interval
is at or below the margin. In between neither is shown, and the simpler approach costs less.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from workbench.config import Approach, UseCase
from workbench.display import number, percent, span
from workbench.errors import ConfigError, nearest
from workbench.experiments.compare import Comparison, compare
from workbench.experiments.dataset import Dataset
from workbench.experiments.intervals import Interval
from workbench.experiments.runs import Run
from workbench.experiments.slices import MOST, Slicing

#: The level of the intervals of the difference.
LEVEL = 0.95
Pays = Literal["costlier", "simpler", "undecided"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredApproach:
    """The recorded approach of a use case beside what was measured.

    `judged` is the name of the judged run. `comparison` is the costlier arm against the simpler one, or None
    when nothing can be compared; `problem` then says why, unless params.yaml names no other arm.
    """

    recorded: Approach
    judged: str
    comparison: Comparison | None = None
    problem: str = ""

    @property
    def pays(self) -> Pays | None:
        """Which of the two arms pays for itself; None when nothing was compared."""
        return self.pays_by(self.comparison.lines[0].interval) if self.comparison else None

    def pays_by(self, interval: Interval) -> Pays:
        """Return which arm pays for itself by the interval of its difference, costlier minus simpler."""
        if interval.low > self.recorded.margin:
            return "costlier"
        return "simpler" if interval.high <= self.recorded.margin else "undecided"

    @property
    def rule(self) -> str:
        """The rule in one sentence, with its margin."""
        margin = number(self.recorded.margin)
        return (
            f"The costlier approach pays for itself when its score is higher by more than {margin}, with the "
            f"whole {percent(LEVEL)} interval of the difference paired by case. It does not when the whole "
            f"interval is at most {margin}."
        )

    @property
    def sentence(self) -> str:
        """Which approach pays for itself, in one sentence."""
        if self.comparison is None:
            unnamed = "no other arm is named, so nothing is compared"
            return f"Recorded as {self.recorded.decision}; {self.problem or unnamed}."
        line, ours, theirs = self.comparison.lines[0], self.comparison.run, self.comparison.baseline
        effect = f"{line.effect:+.3g} {span(line.interval, signed=True)} over {line.n} cases"
        against = f"{line.metric} of {ours.arm} against {theirs.arm} is {effect}"
        spent = f"{ours.arm} {_spends(ours)}, {theirs.arm} {_spends(theirs)}"
        if self.pays == "undecided":
            shown = (
                f"Neither is shown to pay for itself, so {theirs.arm}, the simpler one, is enough until it is"
            )
        else:
            shown = f"{ours.arm if self.pays == 'costlier' else theirs.arm} pays for itself"
        return f"{shown}: {against}; {spent}."

    @property
    def contradiction(self) -> str:
        """How the recorded decision contradicts what was measured; "" when it does not."""
        simple = self.recorded.decision == "deterministic"
        if self.comparison is None or self.pays != ("costlier" if simple else "simpler"):
            return ""
        better = (self.comparison.run if simple else self.comparison.baseline).arm
        return f"the recorded approach is {self.recorded.decision}, but {better} pays for itself"

    @property
    def note(self) -> str:
        """That the judged run does not answer in the decided way; "" when it does."""
        chosen = self.recorded.arm or self.judged
        return "" if chosen == self.judged else f"The decision is {chosen}; what is judged is {self.judged}."


def measured(
    case: UseCase, run: Run, explored: Sequence[Run], cases: Dataset | None
) -> MeasuredApproach | None:
    """Compare the two arms that the use case names under `approach`; None without the key.

    `cases` are the judged cases, whose tenants and expected texts make the slices.
    """
    recorded = case.approach
    if recorded is None:
        return None
    found = MeasuredApproach(recorded=recorded, judged=run.arm)
    if recorded.instead_of is None:
        return found
    arms = {**{arm.arm: arm for arm in explored}, run.arm: run}
    pair = recorded.arm or run.arm, recorded.instead_of
    if missing := [arm for arm in pair if arm not in arms]:
        said = f"the notebook explored no arm {missing[0]!r} ({nearest(missing[0], arms)})"
        return dataclasses.replace(found, problem=said)
    costlier, simpler = reversed(pair) if recorded.decision == "deterministic" else pair
    try:
        comparison = compare(arms[costlier], arms[simpler], metric=run.score_names[0], level=LEVEL)
    except ConfigError as error:
        return dataclasses.replace(found, problem=error.message)
    if cases is not None:
        comparison = comparison.by_slice(Slicing.of(cases, ["tenant", *_labels(cases)]))
    return dataclasses.replace(found, comparison=comparison)


def _labels(cases: Dataset) -> list[str]:
    """Return the expected columns that hold one text in each case, and few different ones."""
    columns = dict.fromkeys(name for case in cases for name in case.expected)
    values = {name: [case.expected.get(name) for case in cases] for name in columns}
    return [
        name
        for name, found in values.items()
        if all(isinstance(value, str) for value in found)
        and len(set(map(str, found))) <= min(MOST, len(found) // 2)
    ]


def _spends(run: Run) -> str:
    """Return what an arm spends for a case: calls, seconds and dollars."""
    if not run.cases["calls"].sum():
        return "asks no model"
    seconds = run.metric("latency_mean_s", LEVEL).value
    cost = run.metric("cost_usd_per_case", LEVEL).value
    took = "an unknown time" if seconds is None else f"{number(seconds)} s"
    return f"takes {took} and {'an unknown cost' if cost is None else f'{number(cost)} USD'} a case"
