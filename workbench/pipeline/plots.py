"""What DVC shows of a use case: the gate's numbers, the arms with intervals, recall by number of hits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from workbench import files, layout
from workbench.experiments.dataset import Case, Dataset
from workbench.experiments.gates import GateReport
from workbench.experiments.runs import Run, load_runs
from workbench.experiments.scorers import Outcome, recall_at
from workbench.layout import Results
from workbench.memory.stores import StoreLocation
from workbench.workspace import boundary, workspace
from workbench.workspace.workspace import Workspace

#: The longest list of hits whose recall is drawn.
MOST_HITS = 10


def numbers(report: GateReport) -> dict[str, Any]:
    """The gate's values by metric, for `dvc metrics`; a metric without a value is left out."""
    found: dict[str, Any] = {"verdict": report.verdict}
    for line in report.to_json()["lines"]:
        versus = "_versus_" + line["rule"].rsplit(" ", 1)[1] if " versus " in line["rule"] else ""
        if line["value"] is not None:
            found[line["metric"] + versus] = line["value"]
    return found


def write(root: Path, name: str) -> None:
    """Write the data that `dvc plots` draws: `arms.json` and `recall.json`."""
    results = Results(use_case=name)
    places = boundary.StatePaths(
        home=root, memories=StoreLocation(state=root / layout.STATE, pinned=root / results.memory)
    )
    tape = boundary.open_tape(root / results.tape)
    snapshot = boundary.Boundary(root, mode="replay", tape=tape, places=places)
    ws = workspace.connect(name, root=root, purpose="report", through=snapshot)
    level = ws.gate_spec().confidence
    cases = Dataset.from_file(root / results.prepared / "cases.parquet")
    files.write_atomic(
        root / results.plots / "arms.json", files.pretty(arms(load_runs(root / results.runs), level))
    )
    files.write_atomic(root / results.plots / "recall.json", files.pretty(recall(ws, cases, level)))
    ws.close()


def arms(runs: Iterable[Run], level: float) -> list[dict[str, Any]]:
    """Each arm's first score with its interval."""
    rows = []
    for run in runs:
        metric = run.metric(run.score_names[0], level)
        rows.append({"arm": run.arm, "metric": metric.name, **_measured(metric.to_json())})
    return rows


def recall(ws: Workspace, cases: Dataset, level: float) -> list[dict[str, Any]]:
    """The score `recall_at_k` of the use case's memory for each k, with its interval."""
    from workbench.experiments.intervals import rounded, score_interval

    searched = [_searched(ws, case) for case in cases]
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
    """What the memory finds for a case's question, as a scorer sees it."""
    hits = ws.bind(tenant=case.tenant).memory().search(str(case.inputs["question"]), k=MOST_HITS)
    found = [{"source": hit.source} for hit in hits]
    return Outcome(case=case, output=None, records=[{"operation": "search", "hits": found}])


def _measured(metric: Mapping[str, Any]) -> dict[str, Any]:
    interval = metric.get("interval") or {}
    ends = {end: interval.get(end) for end in ("low", "high")}
    return {"value": metric["value"], **ends, "n": metric["n"]}
