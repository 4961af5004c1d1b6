"""The lines of a gate: each with its interval and verdict, and Holm's step-down over all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from workbench.experiments.gate_spec import SMALL, Rule
from workbench.experiments.metrics import Metric
from workbench.experiments.slices import Slice, SliceBound
from workbench.types import Verdict

if TYPE_CHECKING:
    from workbench.experiments.intervals import Interval

#: The further slices with the worst verdict that a line names.
_ALIKE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class GateLine:
    """The verdict on one rule. `needed` is the number of further cases to decide it at the observed value.

    `slices` has the metric of each slice, the worst first. Of a line on the worst slice, value, interval, n
    and `needed` are those of the first.
    """

    metric: str
    rule: str
    value: float | None
    interval: Interval | None
    n: int
    verdict: Verdict
    needed: int | None = None
    note: str = ""
    tenants: Mapping[str, Metric] = field(default_factory=dict)
    slices: tuple[Slice, ...] = ()

    @property
    def title(self) -> str:
        """The metric and the rule; of a line on the worst slice, its name too."""
        worst = f" ({self.slices[0].name})" if self.slices and self.slices[0].verdict else ""
        return f"{self.metric} {self.rule}{worst}"

    @property
    def by(self) -> dict[str, tuple[Slice, ...]]:
        """The slices of each column, the worst first."""
        names = {item.by: None for item in self.slices}
        return {name: tuple(item for item in self.slices if item.by == name) for name in names}

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, with numbers rounded to 6 decimals."""
        from workbench.experiments.intervals import rounded

        plain = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "slices"} | {
            "value": rounded(self.value),
            "interval": self.interval.to_json() if self.interval else None,
            "tenants": {name: metric.to_json() for name, metric in self.tenants.items()},
        }
        return plain | ({"slices": [item.to_json() for item in self.slices]} if self.slices else {})


def contaminated_line(rule: Rule, found: int | None, *, n: int = 0) -> GateLine:
    """Return the verdict on the number `found` of the `n` cases that stand in examples; None is undecided."""
    verdict: Verdict = "undecided" if found is None else "fail" if found > rule.value else "pass"
    return GateLine(
        metric=rule.metric,
        rule=f"count {rule.text}",
        value=None if found is None else float(found),
        interval=None,
        n=n,
        verdict=verdict,
        note="the cases were not compared with examples: dvc repro" if found is None else "",
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bound:
    """A statistical line without a verdict: its interval at any level, and its threshold."""

    line: GateLine
    at: Callable[[float], Interval | None]
    threshold: float
    upward: bool
    missing: Callable[[float], int | None]

    def says(self, level: float) -> Verdict:
        """Return the verdict of the interval at `level`."""
        found = self.at(level)
        return found.against(self.threshold, upward=self.upward) if found else "undecided"

    def failed(self, _level: float) -> GateLine:
        """Return the line as failed."""
        return replace(self.line, verdict="fail")

    def decided(self, confidence: float, family: int) -> GateLine:
        """Return a line that did not fail: pass at the full level, or undecided with the cases needed."""
        verdict = self.says(confidence)
        if verdict == "pass":
            return replace(self.line, verdict="pass")
        value, note = self.line.value, self.line.note
        failing = value is not None and (value < self.threshold) == self.upward and value != self.threshold
        strict = 1 - (1 - confidence) / max(1, family)
        needed = self.missing(strict if failing else confidence)
        if verdict == "fail":
            note = joined(note, f"beyond its bound, but not surely as one of {family} lines (Holm)")
        if self.line.interval is not None and needed is None:
            note = joined(note, "the value is the bound itself: no number of cases decides")
        return replace(self.line, needed=needed, note=note)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WorstSlice:
    """A line on the worst slice without a verdict; it counts once in the family of lines."""

    metric: str
    rule: str
    bound: SliceBound
    confidence: float

    def says(self, level: float) -> Verdict:
        """Return the verdict of all slices at `level`."""
        return self.bound.says(level)

    def failed(self, level: float) -> GateLine:
        """Return the line as failed at `level`, which the family of lines leaves it."""
        return self._line("fail", self.bound.slices(self.confidence, level, failed=True))

    def decided(self, confidence: float, family: int) -> GateLine:
        """Return a line that did not fail: pass at the full level, or undecided with the cases needed."""
        verdict = self.says(confidence)
        note = f"beyond it, but not surely as one of {family} lines (Holm)" if verdict == "fail" else ""
        slices = self.bound.slices(confidence, 1 - (1 - confidence) / max(1, family), failed=False)
        return self._line("pass" if verdict == "pass" else "undecided", slices, note)

    def _line(self, verdict: Verdict, slices: tuple[Slice, ...], *notes: str) -> GateLine:
        worst = slices[0]
        alike = [item.name for item in slices[1:] if item.verdict == worst.verdict != "pass"]
        return GateLine(
            metric=self.metric,
            rule=self.rule,
            value=worst.value,
            interval=worst.interval,
            n=worst.n,
            verdict=verdict,
            needed=worst.needed,
            note=joined(
                f"{worst.name} of {len(slices)} slices",
                f"{worst.verdict} too: {', '.join(alike[:_ALIKE])}" if alike else "",
                f"{len(alike) - _ALIKE} more" if len(alike) > _ALIKE else "",
                f"fewer than {SMALL} cases never pass" if worst.n < SMALL and verdict != "fail" else "",
                *notes,
            ),
            slices=slices,
        )


def step_down(found: list[GateLine | Bound | WorstSlice], confidence: float) -> tuple[GateLine, ...]:
    """Return all lines with verdicts; fails follow Holm's step-down.

    With m statistical lines left, a line fails when its interval at 1 - (1 - confidence) / m lies wholly
    beyond its bound. The step repeats until no line fails. This is Holm with the intervals' p-values.
    """
    bounds = [line for line in found if not isinstance(line, GateLine)]
    left, failed = bounds, dict[Bound | WorstSlice, float]()
    while True:
        level = 1 - (1 - confidence) / max(1, len(left))
        beyond = {bound for bound in left if bound.says(level) == "fail"}
        if not beyond:
            break
        failed |= dict.fromkeys(beyond, level)
        left = [bound for bound in left if bound not in beyond]

    def conclude(line: GateLine | Bound | WorstSlice) -> GateLine:
        if isinstance(line, GateLine):
            return line
        if line in failed:
            return line.failed(failed[line])
        return line.decided(confidence, len(bounds))

    return tuple(map(conclude, found))


def joined(*notes: str) -> str:
    """Return the notes that are not empty as one line."""
    return "; ".join(note for note in notes if note)
