"""The data that DVC shows: the gate's numbers, the arms with intervals, recall by number of hits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import files, layout
from workbench.experiments.dataset import Case, Dataset
from workbench.experiments.gates import GateReport
from workbench.experiments.runs import Run, load_runs
from workbench.experiments.scorers import Outcome, recall_at
from workbench.layout import Results

if TYPE_CHECKING:
    from workbench.workspace.workspace import Workspace

#: The longest list of hits whose recall is drawn.
MOST_HITS = 10


def numbers(report: GateReport) -> dict[str, Any]:
    """Return the gate's values by metric, for `dvc metrics`, without the metrics that have no value."""
    found: dict[str, Any] = {"verdict": report.verdict}
    for line in report.to_json()["lines"]:
        versus = "_versus_" + line["rule"].rsplit(" ", 1)[1] if " versus " in line["rule"] else ""
        versus = "_worst_slice" if line["rule"].startswith("worst slice ") else versus
        if line["value"] is not None:
            found[line["metric"] + versus] = line["value"]
    return found


def write(root: Path, name: str) -> None:
    """Write the data that `dvc plots` draws: `arms.json` and `recall.json`."""
    # The stage gate imports this module for its numbers alone.
    from workbench.memory.stores import StoreLocation
    from workbench.pipeline.build import replaying
    from workbench.pipeline.evidence import comparable
    from workbench.promotion.judgement import prepared_cases

    results = Results(use_case=name)
    snapshot = StoreLocation(state=root / layout.STATE, pinned=root / results.memory)
    with closing(replaying(root, name, snapshot, purpose="report")) as ws:
        level = ws.gate_spec().confidence
        cases = prepared_cases(root, ws.use_case, results)
        judged = load_runs(root / results.judged)[0]
        explored = comparable(judged, load_runs(root / results.runs))
        drawn = {"arms": arms(judged, explored, level), "recall": recall(ws, cases, level)}
    for stem, rows in drawn.items():
        files.write_atomic(root / results.plots / f"{stem}.json", files.pretty(rows))


def arms(judged: Run, explored: Sequence[Run], level: float) -> list[dict[str, Any]]:
    """Return the judged run's first score for it and for each explored arm, with the interval."""
    rows = []
    for run in (judged, *explored):
        metric = run.metric(judged.score_names[0], level)
        made_by = "judged" if run is judged else "explored"
        rows.append(
            {"arm": run.arm, "made_by": made_by, "metric": metric.name, **_measured(metric.to_json())}
        )
    return rows


def recall(ws: Workspace, cases: Dataset, level: float) -> list[dict[str, Any]]:
    """Return the score `recall_at_k` of the use case's memory for each k, with its interval.

    There are no rows without a memory, and none for cases without the columns `question` and `page`.
    """
    from workbench.experiments.intervals import rounded, score_interval

    fitting = [case for case in cases if "question" in case.inputs and "page" in case.expected]
    searched = [_searched(ws, case) for case in fitting if ws.use_case.memory]
    rows = []
    for k in range(1, MOST_HITS + 1):
        scores = [score for outcome in searched if (score := recall_at(k)(outcome)) is not None]
        if scores:
            measured = {
                "value": rounded(sum(scores) / len(scores)),
                "n": len(scores),
                "interval": score_interval(scores, level=level).to_json(),
            }
            rows.append({"k": k, "metric": "recall", **_measured(measured)})
    return rows


def _searched(ws: Workspace, case: Case) -> Outcome:
    """Return the hits for a case's question, as a scorer sees them."""
    hits = ws.bind(tenant=case.tenant).memory().search(str(case.inputs["question"]), k=MOST_HITS)
    found = [{"source": hit.source} for hit in hits]
    return Outcome(case=case, output=None, records=[{"operation": "search", "hits": found}])


def _measured(metric: Mapping[str, Any]) -> dict[str, Any]:
    interval = metric.get("interval") or {}
    ends = {end: interval.get(end) for end in ("low", "high")}
    return {"value": metric["value"], **ends, "n": metric["n"]}
