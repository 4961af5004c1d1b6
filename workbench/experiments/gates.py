"""Gates: rules fixed before a run and judged on intervals as pass, fail or undecided.

docs/design/gates.md explains the levels and the multiplicity adjustment.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from workbench.display import (
    Card,
    Row,
    Shown,
    degraded_note,
    number,
    percent,
    span,
    truncated_note,
    verdict_text,
)
from workbench.errors import GateFailedError
from workbench.experiments.compare import check_pair
from workbench.experiments.gate_spec import GateSpec, Rule, check_spec, check_tightens
from workbench.experiments.metrics import ALWAYS, Metric, Sample, by_tenant, sample, tenants_text
from workbench.experiments.pairs import Pairs
from workbench.experiments.runs import Run, counted
from workbench.types import Verdict

if TYPE_CHECKING:
    from workbench.experiments.intervals import Interval

__all__ = ["GateLine", "GateReport", "GateSpec", "Rule", "check_spec", "check_tightens", "judge"]
#: Why a line has no interval although cases have a value.
_OPEN = "no interval: too few values differ, and the scale is not 0 to 1; divide the score by its maximum"
EXIT_CODES: Mapping[Verdict, int] = {"pass": 0, "fail": 1, "undecided": 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class GateLine:
    """The verdict on one rule. `needed` is the number of further cases to decide it at the observed value."""

    metric: str
    rule: str
    value: float | None
    interval: Interval | None
    n: int
    verdict: Verdict
    needed: int | None = None
    note: str = ""
    tenants: Mapping[str, Metric] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, with numbers rounded to 6 decimals."""
        from workbench.experiments.intervals import rounded

        return {name: getattr(self, name) for name in self.__dataclass_fields__} | {
            "value": rounded(self.value),
            "interval": self.interval.to_json() if self.interval else None,
            "tenants": {name: metric.to_json() for name, metric in self.tenants.items()},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class GateReport(Shown):
    """A gate's verdict on a run. `stated_before` is true when the run carries this gate's digest.

    `n_degraded` counts the searches answered from the last snapshot, `n_truncated` the rows with a cut
    answer, and `unscored` the unscored rows by reason. An `explored` run cannot pass, because the notebook
    that made it chose its cases and scorers. `loosened` names the stricter texts that judged the same cases
    before. `note` is the caller's remark on the run, shown on the card.
    """

    use_case: str
    phase: str
    run: str
    arm: str
    baseline: str | None
    task_digest: str
    dataset_digest: str
    gate_digest: str
    stated_before: bool
    confidence: float
    n_cases: int
    n_unscored: int
    lines: tuple[GateLine, ...]
    n_degraded: int = 0
    n_truncated: int = 0
    unscored: Mapping[str, int] = field(default_factory=dict)
    explored: bool = False
    loosened: str = ""
    note: str = ""

    @property
    def provisional_verdict(self) -> Verdict:
        """The verdict of the lines: fail if any fails, else undecided if any is undecided, else pass."""
        verdicts = {line.verdict for line in self.lines}
        return "fail" if "fail" in verdicts else "undecided" if "undecided" in verdicts else "pass"

    @property
    def verdict(self) -> Verdict:
        """The provisional verdict; a pass is undecided when the gate was not stated before the run.

        It is undecided for an explored run, too.
        """
        believed = self.stated_before and not self.explored
        return (
            "undecided" if self.provisional_verdict == "pass" and not believed else self.provisional_verdict
        )

    @property
    def exit_code(self) -> int:
        """The process exit code: 0 for pass, 1 for fail, 4 for undecided."""
        return EXIT_CODES[self.verdict]

    @property
    def all_unscored(self) -> bool:
        """Whether cases were answered and no line found a scored one, so that more cases decide nothing."""
        scored = [line.n for line in self.lines if line.metric == "cases" or line.metric not in ALWAYS]
        return self.n_unscored >= max(1, self.n_cases) and not any(scored)

    @property
    def needed(self) -> int | None:
        """The largest `needed` of the undecided lines; None when it is unknown for any of them."""
        needs = [line.needed for line in self.lines if line.verdict == "undecided"]
        return max((n for n in needs if n is not None), default=None) if None not in needs else None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; equal reports give equal bytes through `files.canonical`."""
        rare = {
            name: getattr(self, name)
            for name in ("n_degraded", "n_truncated", "unscored", "explored", "loosened", "note")
        }
        names = set(self.__dataclass_fields__) - {"lines", *rare}
        plain = {name: getattr(self, name) for name in names} | {k: v for k, v in rare.items() if v}
        return plain | {"verdict": self.verdict, "lines": [line.to_json() for line in self.lines]}

    def raise_if_not_passed(self) -> None:
        """Raise GateFailedError unless the verdict is pass; its exit code is 1 for fail, 4 for undecided."""
        if self.verdict == "pass":
            return
        lines = [f"{line.metric} {line.rule}" for line in self.lines if line.verdict == self.verdict]
        unstated = "it is explored, not judged" if self.explored else "its text was not stated before the run"
        why = "; ".join(lines) or unstated
        error = GateFailedError(
            f"{self.use_case}: the {self.phase} gate says {self.verdict} of {self.arm}: {why}",
            hint=f"workbench gate {self.run}",
        )
        error.exit_code = self.exit_code
        raise error

    def card(self) -> Card:
        """Return the display card: each line with its interval."""
        stated = "stated before the run" if self.stated_before else "NOT stated before this run: cannot pass"
        if self.explored:
            stated = "explored, so it cannot pass: the stage judge of `dvc repro` decides"
        sure = percent(self.confidence)
        return Card(
            title=f"{self.use_case} · {self.phase} gate · {self.arm} · run {self.run}",
            verdict=self.verdict,
            head=["metric", "rule", "value", "interval", "n", "verdict", "note", "by tenant"],
            rows=[_gate_row(line) for line in self.lines],
            notes=[
                *degraded_note(self.n_degraded),
                *truncated_note(self.n_truncated),
                f"{self.n_cases} cases, {self.n_unscored} rows unscored"
                + (f": {counted(self.unscored)}" if self.unscored else ""),
                f"judged on intervals at {sure}, all tenants pooled",
                f"gate {self.gate_digest[:12]}, {stated}",
                *([self.loosened] if self.loosened else []),
                *([self.note] if self.note else []),
            ],
            command=_after_gate(self),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Bound:
    """A statistical line without a verdict: its interval at any level, and its threshold."""

    line: GateLine
    at: Callable[[float], Interval | None]
    threshold: float
    upward: bool
    missing: Callable[[float], int | None]

    def says(self, level: float) -> Verdict:
        """Return the verdict of the interval at `level`."""
        found = self.at(level)
        if found is None:
            return "undecided"
        if found.low >= self.threshold if self.upward else found.high <= self.threshold:
            return "pass"
        beyond = found.high < self.threshold if self.upward else found.low > self.threshold
        return "fail" if beyond else "undecided"


def judge(
    run: Run,
    spec: GateSpec,
    *,
    phase: str,
    baseline: Run | None = None,
    stated: str | None = None,
    explored: bool = False,
) -> GateReport:
    """Judge every line of `spec` on `run`, with all tenants pooled and each tenant's interval reported.

    "pass" requires every line, an intersection-union test: each line is judged at the full level without
    adjustment. "fail" requires one line, a union-intersection test: Holm's step-down over the statistical
    lines limits false fails. A line beyond its bound only without the adjustment is undecided. `count`
    and `cases` are judged on the count itself.

    `stated` is the digest that a run carries when this gate was stated before it, by default that of the
    text alone. `baseline` is the run of the version that `versus` names; without a baseline, the line's own
    bound decides. Raises ConfigError for an unknown metric and for a baseline over other cases.
    """
    if baseline is not None:
        check_pair(run, baseline)
    found: list[GateLine | _Bound] = []
    for rule in spec.rules:
        found += _lines(run, rule, spec.confidence, baseline)
    reasons = run.unscored_reasons
    lines = _step_down(found, spec.confidence)
    return GateReport(
        use_case=run.use_case,
        phase=phase,
        run=run.id,
        arm=run.arm,
        baseline=baseline.id if baseline is not None else None,
        task_digest=run.task_digest,
        dataset_digest=run.dataset_digest,
        gate_digest=stated or spec.digest,
        stated_before=run.gate_digest == (stated or spec.digest),
        confidence=spec.confidence,
        n_cases=run.n_cases,
        n_unscored=run.n_unscored,
        n_degraded=run.n_degraded,
        n_truncated=run.n_truncated,
        unscored=reasons,
        explored=explored,
        lines=tuple(_faultless(run, line) for line in lines) if "infinite" in reasons else lines,
    )


def _faultless(run: Run, line: GateLine) -> GateLine:
    """Return the line, undecided in place of pass when its scorer returned infinity: it has a fault."""
    faults = int(run.cases["error"].str.starts_with(f"infinite: scorer {line.metric} returned").sum())
    if line.verdict != "pass" or not faults:
        return line
    note = _joined(line.note, f"the scorer returned infinity for {faults} rows: repair it, then run again")
    return replace(line, verdict="undecided", note=note)


def _lines(run: Run, rule: Rule, level: float, baseline: Run | None) -> list[GateLine | _Bound]:
    values = sample(run.cases, rule.metric)
    if rule.comparator == "count":
        return [_counted(run, rule, values, level)]
    if values.kind == "number":
        return [_enough(run, rule, values)]
    own = _own_bound(run, rule, values, level)
    if rule.versus is None:
        return [own]
    if baseline is None:
        note = _joined(own.line.note, f"no baseline: the {rule.comparator} decides")
        return [replace(own, line=replace(own.line, note=note))]
    return [own, _versus_bound(rule, Pairs.of(run, baseline, rule.metric), level)]


def _counted(run: Run, rule: Rule, values: Sample, level: float) -> GateLine:
    """Judge a `count` rule and note the upper bound on the rate."""
    from workbench.experiments.intervals import count_bound

    total, cases = float(values.rows.sum()), int((values.values > 0).sum())
    verdict: Verdict = "fail" if total > rule.value else "pass" if values.n else "undecided"
    # Rounding up keeps "below" true.
    bound = math.ceil(count_bound(cases, values.n, level=level) * 1000) / 10
    seen = f"{cases} of {values.n}" if values.n else "no case has this score"
    note = f"{seen}: below {bound:.1f} % at {level * 100:g} %" if values.n else seen
    return GateLine(
        metric=rule.metric,
        rule=f"count {rule.text}",
        value=total,
        interval=None,
        n=values.n,
        verdict=verdict,
        note=_joined(note, _without(run, values)),
    )


def _enough(run: Run, rule: Rule, values: Sample) -> GateLine:
    """Judge a `cases` rule: too few scored cases are undecided, never a fail."""
    scored = int(values.value or 0)
    short = max(0, math.ceil(rule.value) - scored)
    needed, note = short or None, f"{run.n_unscored} unscored" if run.n_unscored else ""
    if run.n_unscored and not scored:
        reasons = counted(run.unscored_reasons)
        needed, note = None, f"every case is unscored ({reasons}): more cases decide nothing"
    return GateLine(
        metric=rule.metric,
        rule=rule.text,
        value=float(scored),
        interval=None,
        n=scored,
        verdict="undecided" if short else "pass",
        needed=needed,
        note=note,
    )


def _own_bound(run: Run, rule: Rule, values: Sample, level: float) -> _Bound:
    at = functools.cache(functools.partial(values.interval, bound=rule.value))
    line = GateLine(
        metric=rule.metric,
        rule=rule.text,
        value=values.value,
        interval=at(level),
        n=values.n,
        verdict="undecided",
        note=_joined(_without(run, values), _OPEN if values.n and at(level) is None else ""),
        tenants=by_tenant(run.cases, rule.metric, level=level),
    )
    return _Bound(
        line=line,
        at=at,
        threshold=rule.value,
        upward=rule.comparator == "min",
        missing=lambda at: values.needed(rule.value, at),
    )


def _versus_bound(rule: Rule, pairs: Pairs, level: float) -> _Bound:
    """Return the non-inferiority line: the run is worse than the baseline by at most the margin."""
    upward = rule.comparator == "min"
    threshold = -rule.margin if upward else rule.margin

    @functools.cache
    def at(wanted: float) -> Interval | None:
        interval = pairs.interval(level=wanted) if pairs.n else None
        return None if interval is None or interval.is_open else interval

    line = GateLine(
        metric=rule.metric,
        rule=f"{'>=' if upward else '<='} {threshold:+g} versus {rule.versus}",
        value=pairs.effect,
        interval=at(level),
        n=pairs.n,
        verdict="undecided",
        note=_joined(
            f"{pairs.left_out} cases without a pair" if pairs.left_out else "",
            _OPEN if pairs.n and at(level) is None else "",
        ),
    )
    return _Bound(
        line=line,
        at=at,
        threshold=threshold,
        upward=upward,
        missing=lambda wanted: pairs.needed(threshold, wanted),
    )


def _step_down(found: list[GateLine | _Bound], confidence: float) -> tuple[GateLine, ...]:
    """Return all lines with verdicts; fails follow Holm's step-down.

    With m statistical lines left, a line fails when its interval at 1 - (1 - confidence) / m lies wholly
    beyond its bound. The step repeats until no line fails. This is Holm with the intervals' p-values.
    """
    bounds = [line for line in found if isinstance(line, _Bound)]
    left, failed = bounds, set[_Bound]()
    while True:
        level = 1 - (1 - confidence) / max(1, len(left))
        beyond = {bound for bound in left if bound.says(level) == "fail"}
        if not beyond:
            break
        failed |= beyond
        left = [bound for bound in left if bound not in beyond]
    strict = 1 - (1 - confidence) / max(1, len(bounds))

    def conclude(line: GateLine | _Bound) -> GateLine:
        if isinstance(line, GateLine):
            return line
        if line in failed:
            return replace(line.line, verdict="fail")
        return _concluded(line, confidence, strict, len(bounds))

    return tuple(map(conclude, found))


def _concluded(bound: _Bound, confidence: float, strict: float, family: int) -> GateLine:
    """Return a line outside the failed set: pass at the full level, or undecided with the cases needed."""
    verdict = bound.says(confidence)
    if verdict == "pass":
        return replace(bound.line, verdict="pass")
    value = bound.line.value
    failing = value is not None and (value < bound.threshold) == bound.upward and value != bound.threshold
    needed = bound.missing(strict if failing else confidence)
    note = bound.line.note
    if verdict == "fail":
        note = _joined(note, f"beyond its bound, but not surely as one of {family} lines (Holm)")
    if bound.line.interval is not None and needed is None:
        note = _joined(note, "the value is the bound itself: no number of cases decides")
    return replace(bound.line, needed=needed, note=note)


def _without(run: Run, values: Sample) -> str:
    missing = run.n_cases - values.n
    return f"{missing} of {run.n_cases} cases without a value" if missing else ""


def _joined(*notes: str) -> str:
    return "; ".join(note for note in notes if note)


def _gate_row(line: GateLine) -> Row:
    return [
        line.metric,
        line.rule,
        number(line.value),
        span(line.interval),
        str(line.n),
        verdict_text(line.verdict, line.needed),
        line.note,
        tenants_text(line.tenants),
    ]


def _after_gate(report: GateReport) -> str:
    if report.verdict == "pass":
        return "workbench report"
    if report.all_unscored:
        return f"dvc repro   # after a repair of what leaves every case unscored: {counted(report.unscored)}"
    if report.verdict == "fail":
        return f"workbench compare {report.run} BASELINE   # which cases got worse"
    if report.explored:
        return "dvc repro   # its stage judge decides"
    if report.provisional_verdict == "pass":
        return "dvc repro   # when params.yaml states this gate for its phase"
    more = f"about {report.needed} cases" if report.needed else "cases"
    return f"dvc repro   # after adding {more} like these"
