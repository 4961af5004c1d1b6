"""The first paragraph of a readiness page, for who decides: what was asked, the result, what it means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.config import UseCase
from workbench.display import number, percent, span
from workbench.experiments.gates import GateReport
from workbench.experiments.runs import Run

#: What each verdict of the gate of a phase means for who decides.
_MEANS: Mapping[str, str] = {
    "pass": "every line that was stated beforehand holds, so the version may be promoted",
    "fail": "at least one line that was stated beforehand is surely missed, so it should not go on as it is",
    "undecided": "nothing is missed for sure, and not everything is shown to hold, so it is not ready yet",
}
#: The scorers that say right or wrong.
_RIGHT_OR_WRONG = frozenset({"contains", "exact"})


def summary(case: UseCase, run: Run, gate: GateReport, scorer: Mapping[str, Any]) -> list[str]:
    """Return the sentences for who decides. `scorer` is the identity of the run's first score."""
    tenants = run.cases["tenant"].unique().sort().to_list()
    model, repeats = run.settings.get("model", case.model_name), run.repeats
    of_tenants = f" of {len(tenants)} tenants ({', '.join(tenants)})" if len(tenants) > 1 else ""
    times = "" if repeats == 1 else f", each {repeats} times"
    asked = f"The model {model} answered {run.n_cases} cases{of_tenants}{times}."
    return [asked, _result(run, gate, scorer), f"The verdict is {gate.verdict}: {_meaning(gate)}."]


def _result(run: Run, gate: GateReport, scorer: Mapping[str, Any]) -> str:
    name = run.score_names[0]
    metric = run.metric(name, gate.confidence)
    unscored = f" {run.n_unscored} have no score." if run.n_unscored else ""
    if metric.value is None:
        return f"No answer has a score.{unscored}"
    if next(iter(scorer), "") not in _RIGHT_OR_WRONG or metric.interval is None or run.repeats > 1:
        return (
            f"The mean of {name} is {number(metric.value)} {span(metric.interval)}".rstrip() + f".{unscored}"
        )
    right = round(metric.value * metric.n)
    low, high = (percent(round(end, 2)) for end in (metric.interval.low, metric.interval.high))
    sure = percent(gate.confidence)
    share = f"of such cases, {low} to {high} would be (with {sure} confidence)"
    return f"{right} of {metric.n} answers are right; {share}.{unscored}"


def _meaning(gate: GateReport) -> str:
    if gate.verdict == "undecided" and gate.provisional_verdict == "pass":
        return "every line holds, but the lines were not stated before the run"
    lines = [line.title for line in gate.lines if line.verdict == gate.verdict]
    named = f" ({'; '.join(lines)})" if gate.verdict != "pass" and lines else ""
    return _MEANS[gate.verdict] + named
