"""Run a notebook by hand; find and judge runs, as `workbench run` and `workbench gate` do."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench import config, layout
from workbench.config import Execution
from workbench.errors import ConfigError
from workbench.experiments.compare import Comparison, ComparisonSet, compare, compare_all
from workbench.experiments.gates import GateReport
from workbench.experiments.runs import MANIFEST, Run, find_run, load_runs
from workbench.layout import Results
from workbench.pipeline.stages import check_cases_of, check_task, run_notebook
from workbench.promotion import judgement
from workbench.records.confirmed import Confirmed, answers_of
from workbench.workspace import boundary


@dataclass(frozen=True, slots=True, kw_only=True)
class Explored:
    """The result of running a notebook by hand: the executed copy, its runs and their comparison."""

    notebook: str
    runs: tuple[Run, ...]
    comparison: ComparisonSet | None

    def to_json(self) -> dict[str, Any]:
        """Return the value that `--json` prints."""
        return {
            "notebook": self.notebook,
            "runs": {
                run.arm: {
                    **run.identity(),
                    "id": run.id,
                    "n_degraded": run.n_degraded,
                    "metrics": {m.name: m.to_json() for m in run.metrics()},
                    "answers": _answers(run, 3),
                }
                for run in self.runs
            },
            "comparisons": [comparison.to_json() for comparison in self.comparison or ()],
        }

    def __str__(self) -> str:
        parts = [f"{run}\n{_shown(run)}" for run in self.runs]
        parts += [str(self.comparison)] if self.comparison else []
        return "\n\n".join([*parts, f"executed: {self.notebook}"])


def explore(
    root: Path,
    path: Path,
    *,
    given: Mapping[str, Any],
    use_case: str | None = None,
    tape: Path | None = None,
    show: bool = True,
) -> Explored:
    """Run a notebook with the `given` parameters; without any, with those of its use case.

    The tape answers first, then the cache, then the model. Only the file `tape` is written, when given.
    """
    params = config.load_params(root)
    name = use_case or _use_case_of(root, params, path)
    case = config.use_case(params, name)
    out = root / layout.CACHE / "runs" / secrets.token_hex(4)
    parameters = {**({} if given else case.parameters), **given}
    execution = Execution(notebook=str(path), use_case=name, out=str(out))
    executed = run_notebook(root, path, parameters, execution=execution, tape=tape, show=show).executed
    runs = tuple(load_runs(out)) if (out / MANIFEST).is_file() else ()
    compared = compare_all(runs[1:], baseline=runs[0]) if len(runs) > 1 else None
    return Explored(notebook=str(executed.notebook), runs=runs, comparison=compared)


def find(root: Path, reference: str) -> Run:
    """Return the run that a reference names: the judged ones first, then the pipeline's, then the explored.

    `use_case/arm` names a run of the pipeline; an explored run is found by its id alone.
    """
    pipeline = [*sorted(root.glob("results/*/judged")), *sorted(root.glob("results/*/runs"))]
    return find_run(reference, pipeline, explored=sorted((root / layout.RUNS).glob("*")))


def compared(root: Path, run: Run, baseline: Run, **options: Any) -> Comparison:
    """Compare two runs, with the effect in each slice that the run's use case declares.

    `options` holds further arguments of `compare`.
    """
    found = compare(run, baseline, **options)
    case = config.load_params(root).use_cases.get(run.use_case)
    slicing = judgement.prepared_slicing(root, run.use_case, case) if case else None
    return found.by_slice(slicing) if slicing else found


def judged(root: Path, run: Run, *, phase: str | None = None) -> GateReport:
    """Judge a run by its use case's gate, as params.yaml states it now.

    Raise ConfigError for a judged run of another task than the notebook's or of other cases. An explored run
    cannot pass; it may have another task, and a note in the report says so.
    """
    case, results = config.use_case(config.load_params(root), run.use_case), Results(use_case=run.use_case)
    explored = not _is_judged(root / results.judged, run)
    note = "" if explored else _confirmed(root, results)
    try:
        check_task(root, case, run)
        if not explored:
            check_cases_of(root, results, run)
    except ConfigError:
        if not explored:
            raise
        note = f"explored: of another task than {case.notebook} and params.yaml hold now"
    report = judgement.judged(root, run.use_case, case, run, phase=phase, explored=explored)
    return dataclasses.replace(report, note=note)


def _confirmed(root: Path, results: Results) -> str:
    """Return how many of the judged answers this machine asked live, and when."""
    answers = answers_of(boundary.open_tape(root / results.judge_tape).entries())
    return Confirmed(root / layout.CONFIRMED).of(answers).text(len(answers))


def _is_judged(folder: Path, run: Run) -> bool:
    return (folder / MANIFEST).is_file() and run.id in {known.id for known in load_runs(folder)}


def _use_case_of(root: Path, params: config.Params, path: Path) -> str:
    """Return the use case whose `notebook` is this path."""
    names = [n for n, case in params.use_cases.items() if (root / case.notebook).resolve() == path.resolve()]
    if not names and len(params.use_cases) > 1:
        raise ConfigError(
            f"no use case of params.yaml names {path}",
            hint=f"name the use case: --use-case {next(iter(params.use_cases))}",
        )
    return (names or list(params.use_cases))[0]


def _answers(run: Run, most: int) -> list[dict[str, Any]]:
    rows = run.cases.select("case", "output", "sources").drop_nulls("output").head(most)
    return rows.to_dicts()


def _shown(run: Run) -> str:
    import orjson

    lines = []
    for row in _answers(run, 3):
        output = orjson.loads(row["output"])
        text = str(output.get("text", output) if isinstance(output, dict) else output)
        sources = ", ".join(row["sources"]) or "no source"
        lines.append(f"  {row['case']}: {' '.join(text.split())[:100]}  (from {sources})")
    return "\n".join(lines)
