"""Gates: rules fixed before a run and judged on intervals as pass, fail or undecided.

docs/design/gates.md explains the levels and the multiplicity adjustment.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from workbench.display import (
    Card,
    Row,
    Shown,
    degraded_note,
    fallback_note,
    number,
    percent,
    span,
    truncated_note,
    verdict_text,
)
from workbench.errors import GateFailedError
from workbench.experiments.compare import check_pair
from workbench.experiments.gate_lines import (
    Bound,
    GateLine,
    WorstSlice,
    contaminated_line,
    joined,
    step_down,
)
from workbench.experiments.gate_spec import CONTAMINATED, GateSpec, Rule, check_spec, check_tightens
from workbench.experiments.metrics import (
    ALWAYS,
    Sample,
    by_tenant,
    sample,
    tenants_text,
)
from workbench.experiments.pairs import Pairs
from workbench.experiments.runs import Run, counted
from workbench.experiments.slices import SliceBound, Slicing, measured, slices_text
from workbench.experiments.synthetic import Synthetic
from workbench.types import Verdict

if TYPE_CHECKING:
    from workbench.experiments.intervals import Interval

__all__ = ["GateLine", "GateReport", "GateSpec", "Rule", "check_spec", "check_tightens", "judge"]
#: Why a line has no interval although cases have a value.
_OPEN = "no interval: too few values differ, and the scale is not 0 to 1; divide the score by its maximum"
EXIT_CODES: Mapping[Verdict, int] = {"pass": 0, "fail": 1, "undecided": 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class GateReport(Shown):
    """A gate's verdict on a run. `stated_before` is true when the run carries this gate's digest.

    `n_degraded` counts the searches answered from the last snapshot, `n_truncated` the rows with a cut
    answer, `n_fallback` the answers by a fall-back, `fallback_reasons` and `unscored` those and the unscored
    rows by reason. An `explored` run cannot pass, because the notebook that made it chose its cases and
    scorers. `loosened` names the stricter texts that judged the same cases before. `note` is the caller's
    remark on the run, shown on the card. `synthetic` counts the cases that were made up, and `contaminated`
    names those that stand in examples. `selected` says how quality rules changed the cases.
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
    n_fallback: int = 0
    fallback_reasons: Mapping[str, int] = field(default_factory=dict)
    unscored: Mapping[str, int] = field(default_factory=dict)
    explored: bool = False
    loosened: str = ""
    note: str = ""
    synthetic: Synthetic | None = None
    contaminated: str = ""
    selected: str = ""

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
        other = (*ALWAYS, CONTAMINATED)
        scored = [line.n for line in self.lines if line.metric == "cases" or line.metric not in other]
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
            for name in (
                "n_degraded",
                "n_truncated",
                "n_fallback",
                "fallback_reasons",
                "unscored",
                "explored",
                "loosened",
                "note",
                "contaminated",
                "selected",
            )
        }
        names = set(self.__dataclass_fields__) - {"lines", "synthetic", *rare}
        plain = {name: getattr(self, name) for name in names} | {k: v for k, v in rare.items() if v}
        plain |= {"synthetic": self.synthetic.to_json()} if self.synthetic else {}
        return plain | {"verdict": self.verdict, "lines": [line.to_json() for line in self.lines]}

    def raise_if_not_passed(self) -> None:
        """Raise GateFailedError unless the verdict is pass; its exit code is 1 for fail, 4 for undecided."""
        if self.verdict == "pass":
            return
        lines = [line.title for line in self.lines if line.verdict == self.verdict]
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
                *fallback_note(self.n_fallback, self.fallback_reasons),
                *truncated_note(self.n_truncated),
                *_slice_notes(self.lines),
                f"{self.n_cases} cases, {self.n_unscored} rows unscored"
                + (f": {counted(self.unscored)}" if self.unscored else ""),
                f"judged on intervals at {sure}, all tenants pooled",
                f"gate {self.gate_digest[:12]}, {stated}",
                *([self.synthetic.text] if self.synthetic else []),
                *([self.selected] if self.selected else []),
                *([self.contaminated] if self.contaminated else []),
                *([self.loosened] if self.loosened else []),
                *([self.note] if self.note else []),
            ],
            command=_after_gate(self),
        )


def judge(
    run: Run,
    spec: GateSpec,
    *,
    phase: str,
    baseline: Run | None = None,
    stated: str | None = None,
    explored: bool = False,
    slicing: Slicing | None = None,
) -> GateReport:
    """Judge every line of `spec` on `run`, with all tenants pooled and each tenant's interval reported.

    "pass" requires every line, an intersection-union test: each line is judged at the full level without
    adjustment. "fail" requires one line, a union-intersection test: Holm's step-down over the statistical
    lines limits false fails. A line beyond its bound only without the adjustment is undecided. `count`
    and `cases` are judged on the count itself.

    `stated` is the digest that a run carries when this gate was stated before it, by default that of the
    text alone. `baseline` is the run of the version that `versus` names; without a baseline, the line's own
    bound decides. `slicing` gives the slices of the cases; without it, a line on the worst slice is
    undecided. Raises ConfigError for an unknown metric and for a baseline over other cases.
    """
    if baseline is not None:
        check_pair(run, baseline)
    found: list[GateLine | Bound | WorstSlice] = []
    for rule in spec.rules:
        found += _lines(run, rule, spec.confidence, baseline, slicing)
        found += _worst_slice(run, rule, slicing, spec.confidence)
    reasons = run.unscored_reasons
    lines = step_down(found, spec.confidence)
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
        n_fallback=run.n_fallback,
        fallback_reasons=run.fallback_reasons,
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
    note = joined(line.note, f"the scorer returned infinity for {faults} rows: repair it, then run again")
    return replace(line, verdict="undecided", note=note)


def _lines(
    run: Run, rule: Rule, level: float, baseline: Run | None, slicing: Slicing | None
) -> list[GateLine | Bound]:
    if rule.metric == CONTAMINATED:  # `promotion.judgement` counts it
        return [contaminated_line(rule, None)]
    values = sample(run.cases, rule.metric)
    if rule.comparator == "count":
        return [_counted(run, rule, values, level)]
    if values.kind == "number":
        return [_enough(run, rule, values)]
    own = _own_bound(run, rule, values, level, slicing)
    if rule.versus is None:
        return [own]
    if baseline is None:
        note = joined(own.line.note, f"no baseline: the {rule.comparator} decides")
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
        note=joined(note, _without(run, values)),
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


def _own_bound(run: Run, rule: Rule, values: Sample, level: float, slicing: Slicing | None) -> Bound:
    upward = rule.comparator == "min"
    sliced = slicing is not None and rule.metric not in ALWAYS and rule.of_slice is None
    at = functools.cache(functools.partial(values.interval, bound=rule.value))
    line = GateLine(
        metric=rule.metric,
        rule=rule.text,
        value=values.value,
        interval=at(level),
        n=values.n,
        verdict="undecided",
        note=joined(_without(run, values), _OPEN if values.n and at(level) is None else ""),
        tenants=by_tenant(run.cases, rule.metric, level=level),
        slices=measured(slicing, run.cases, rule.metric, level=level, upward=upward)
        if slicing and sliced
        else (),
    )
    return Bound(
        line=line,
        at=at,
        threshold=rule.value,
        upward=upward,
        missing=lambda at: values.needed(rule.value, at),
    )


def _versus_bound(rule: Rule, pairs: Pairs, level: float) -> Bound:
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
        note=joined(
            f"{pairs.left_out} cases without a pair" if pairs.left_out else "",
            _OPEN if pairs.n and at(level) is None else "",
        ),
    )
    return Bound(
        line=line,
        at=at,
        threshold=threshold,
        upward=upward,
        missing=lambda wanted: pairs.needed(threshold, wanted),
    )


def _worst_slice(run: Run, rule: Rule, slicing: Slicing | None, level: float) -> list[GateLine | WorstSlice]:
    """Return the line on the worst slice, if the rule states one; undecided when its slices are unknown."""
    demand = rule.of_slice
    if demand is None:
        return []
    text = f"worst slice {demand.text}"
    known = slicing is not None and set(rule.by) <= set(slicing.names)
    missing = slicing.missing(run.case_ids) if slicing is not None else run.n_cases
    if slicing is None or not known or missing or not run.n_cases:
        note = f"the slices of {missing} of {run.n_cases} cases are unknown"
        return [
            GateLine(
                metric=rule.metric, rule=text, value=None, interval=None, n=0, verdict="undecided", note=note
            )
        ]
    bound = SliceBound.of(
        slicing,
        run.cases,
        rule.metric,
        [name for name in slicing.names if name in rule.by],
        threshold=demand.value,
        upward=demand.comparator == "min",
    )
    return [WorstSlice(metric=rule.metric, rule=text, bound=bound, confidence=level)]


def _slice_notes(lines: Sequence[GateLine]) -> list[str]:
    """Return a note for each column of the lines on a worst slice, and of the first other line."""
    sliced = [line for line in lines if line.slices]
    plain = [line for line in sliced if line.slices[0].verdict is None]
    return [
        f"{line.metric} by {name}, worst first: {slices_text(slices)}"
        for line in sliced
        if line in plain[:1] or line not in plain
        for name, slices in line.by.items()
    ]


def _without(run: Run, values: Sample) -> str:
    missing = run.n_cases - values.n
    return f"{missing} of {run.n_cases} cases without a value" if missing else ""


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
    undecided = [line for line in report.lines if line.verdict == "undecided"]
    like = "of that slice" if all(any(s.verdict for s in line.slices) for line in undecided) else "like these"
    return f"dvc repro   # after adding {more} {like}"
