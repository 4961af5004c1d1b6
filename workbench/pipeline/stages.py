"""The stages of dvc.yaml, and running a notebook as they do: `python -m workbench.stages STAGE USE_CASE`.

A stage is a function of files: whatever it writes depends on its dependencies alone, never on a clock,
a host, a path or the number of cores.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench import config, files, layout, registry
from workbench.config import Execution, UseCase
from workbench.errors import ConfigError, WorkbenchError, nearest
from workbench.experiments.compare import ComparisonSet, compare_all
from workbench.experiments.gates import GateReport
from workbench.experiments.runs import Run, load_runs
from workbench.layout import Results
from workbench.notebooks import execution as notebooks
from workbench.notebooks import inspection
from workbench.pipeline import build as knowledge
from workbench.pipeline.report import AssetUse
from workbench.promotion.freezing import judged_run
from workbench.promotion.judgement import judged
from workbench.prompts import prompt as prompts
from workbench.records.journal import Journal, extend
from workbench.records.tape import Tape
from workbench.workspace import boundary, workspace
from workbench.workspace.use_case import check_data
from workbench.workspace.workspace import Workspace

#: Names the file in which a stage notes its exit code for `workbench repro`.
EXIT_VARIABLE = "WORKBENCH_STAGE_EXIT"


def prepare(root: Path, name: str, *, results: Results | None = None) -> None:
    """Read documents and questions strictly; write the cases, each with the page that answers it checked."""
    case = config.use_case(config.load_params(root), name)
    cases, pages = check_data(root, name, case)
    folder = root / (results or Results(use_case=name)).prepared
    files.write_atomic(folder / "cases.parquet", cases.to_parquet())
    summary = {
        "cases": dict(sorted(Counter(one.tenant for one in cases).items())),
        "pages": dict(sorted(Counter(page.tenant for page in pages).items())),
        "dataset_digest": cases.digest,
    }
    files.write_atomic(folder / "summary.json", files.pretty(summary))


def remember(root: Path, name: str) -> None:
    """Build the use case's memory from its documents alone, and write its snapshot."""
    case = config.use_case(config.load_params(root), name)
    knowledge.build(root, name, case, root / Results(use_case=name).memory)


def experiment(root: Path, name: str, *, show: bool = True) -> None:
    """Execute the notebook; replay what the tape holds, ask for what it lacks, then extend the tape."""
    results = Results(use_case=name)
    case = execute(root, results, show=show)
    candidate_of(root, name, case)


def execute(root: Path, results: Results, *, show: bool = True, **told: Any) -> UseCase:
    """Execute a use case's notebook over prepared cases and pinned memory; `told` goes to the kernel."""
    case = config.use_case(config.load_params(root), results.use_case)
    execution = Execution(
        notebook=case.notebook,
        use_case=results.use_case,
        tape=str(results.tape),
        memory=str(results.memory),
        cases=str(results.prepared / "cases.parquet"),
        out=str(root / results.runs),
        **told,
    )
    notebook, tape = root / case.notebook, root / results.tape
    run_notebook(root, notebook, case.parameters, execution=execution, tape=tape, show=show)
    return case


def run_notebook(
    root: Path,
    path: Path,
    parameters: Mapping[str, Any],
    *,
    execution: Execution,
    tape: Path | None = None,
    **where: Any,
) -> notebooks.Executed:
    """Execute a notebook; when `tape` is given and it succeeded, write there exactly what it used.

    An interrupted or failed one changes no tape: its answers are in the cache and not asked again.
    `where` is what `notebooks.execute` takes beside: `cwd`, `watch`, `show`.
    """
    executed = notebooks.execute(path, root=root, parameters=parameters, execution=execution, **where)
    if tape is not None:
        read = execution.tape or (layout.tape_of(execution.use_case) if execution.use_case else tape)
        held = boundary.open_tape(root / read)  # the one the kernel read, which need not be the one written
        extend(held, executed.used, Journal(root / (execution.journal or layout.JOURNAL)), path=tape)
    return executed


def gate(root: Path, name: str, *, results: Results | None = None) -> GateReport:
    """Judge the candidate's run by the gate of the use case's phase; write the verdict, whatever it is."""
    results = results or Results(use_case=name)
    ws = workspace.connect(name, root=root, mode="replay", purpose="gate")
    run = candidate_of(root, name, ws.use_case, results=results)
    check_task(root, ws, run)
    verdict = judged(root, name, ws.use_case, run)
    files.write_atomic(root / results.gate, files.pretty(verdict.to_json()))
    return verdict


def candidate_of(root: Path, name: str, case: UseCase, *, results: Results | None = None) -> Run:
    """The run of the arm that the gate judges; NotFoundError names the arms there are."""
    return judged_run(root, name, case, runs=(results or Results(use_case=name)).runs)


def check_task(root: Path, ws: Workspace, run: Run) -> None:
    """ConfigError unless the run was made of the task that the notebook holds now."""
    notebook = inspection.read(root / ws.use_case.notebook)
    digest = notebook.digest(notebook.typed(ws.use_case.parameters))
    if run.task_digest != digest:
        raise ConfigError(
            f"run {run.id} is of task {run.task_digest[:12]}, {ws.use_case.notebook} holds {digest[:12]}",
            hint="dvc repro",
        )


def report(
    root: Path, name: str, *, results: Results | None = None, page: str | None = None
) -> tuple[Path, Path]:
    """Write the readiness page, as HTML and as Markdown, from the results alone; where they are.

    `page` is its path without an ending, if not the use case's own.
    """
    from workbench.memory.snapshot import read_manifest
    from workbench.pipeline import report as readiness

    ws = workspace.connect(name, root=root, mode="replay", purpose="report")
    case, results = ws.use_case, results or Results(use_case=name)
    run = candidate_of(root, name, case, results=results)
    runs = tuple(load_runs(root / results.runs))
    later = next((phase for phase in case.gates if phase != case.phase), None)
    others = [one for one in runs if one.arm != run.arm]
    tape = boundary.open_tape(root / results.tape)
    evidence = readiness.Evidence(
        name=name,
        use_case=case,
        runs=runs,
        gate=judged(root, name, case, run),
        other=judged(root, name, case, run, phase=later) if later else None,
        comparison=_compared(name, case, run, others),
        memory=dataclasses.asdict(read_manifest(root / results.memory)),
        versions=_versions(root, case, runs),
        tape=_tape_facts(tape),
    )
    return readiness.write(evidence, root / (page or case.report))


def job(root: Path, reference: str) -> None:
    """Reproduce the sample of a promoted job's version, in its own code and environment."""
    from workbench.jobs import run as jobs

    name, number = jobs.number_of(root, reference)
    jobs.reproduce(root, name, number, root / "results" / "jobs" / f"{name}-{number}")


def _compared(name: str, case: UseCase, run: Run, others: Sequence[Run]) -> ComparisonSet | None:
    """The candidate against the use case's baseline, or against the first other arm if it names none."""
    named = {other.arm: other for other in others}
    if case.baseline is not None and case.baseline not in named:
        raise ConfigError(
            f"{case.notebook} kept no run of baseline {case.baseline!r} ({nearest(case.baseline, named)})",
            hint=f'name the arm in ws.experiment("{name}").compare(…), or set use_cases.{name}.baseline',
        )
    baseline = named[case.baseline] if case.baseline else next(iter(others), None)
    return compare_all([run], baseline=baseline) if baseline else None


def _versions(root: Path, case: UseCase, runs: Sequence[Run]) -> tuple[AssetUse, ...]:
    """Every prompt any arm used, the memory and the model, each with its digest."""
    used = {str(case.prompt): ""} | {run.settings["prompt"]: run.settings["prompt_digest"] for run in runs}
    found = {}
    for reference, digest in sorted(used.items()):
        if prompts.is_draft(reference):
            found[reference] = AssetUse(
                kind="prompt", reference=reference, digest=digest, reason="a draft, not saved", author=""
            )
        else:
            found[reference] = _use(root, "prompt", registry.resolve(root, "prompt", reference))
    found[str(case.memory)] = _use(root, "memory", registry.resolve(root, "memory", str(case.memory)))
    settings = runs[0].settings
    model = AssetUse(
        kind="model", reference=settings["model"], digest=settings["model_digest"], reason="", author=""
    )
    return (*found.values(), model)


def _use(root: Path, kind: str, version: registry.Version) -> AssetUse:
    entry = registry.load(root, kind, version.name).versions[version.number]
    return AssetUse(
        kind=kind, reference=str(version), digest=version.digest, reason=entry.reason, author=entry.author
    )


def purge(root: Path, name: str) -> None:
    """Remove what stages of a use case that were killed left beside what they write."""
    case, results = config.use_case(config.load_params(root), name), Results(use_case=name)
    report = Path(case.report)
    pages = report.with_suffix(".html"), report.with_suffix(".md")
    for path in (results.prepared, results.memory, results.runs, results.gate, layout.tape_of(name), *pages):
        files.purge(root / path)


def _tape_facts(tape: Tape) -> dict[str, Any]:
    """How many recorded answers there are, and on which types of processor they were made."""
    processors = {files.canonical(entry.processor): dict(entry.processor) for entry in tape.entries()}
    return {"entries": len(tape), "processors": [processors[key] for key in sorted(processors)]}


def main(arguments: list[str]) -> int:
    """Run one stage; the exit code, which is noted as well, because DVC has only its own."""
    _note_exit(WorkbenchError.exit_code)  # what stands there if this process is killed
    code = _run(arguments)
    _note_exit(code)
    return code


def _note_exit(code: int) -> None:
    path = os.environ.get(EXIT_VARIABLE)
    if path:
        with contextlib.suppress(OSError):
            Path(path).write_text(str(code), encoding="ascii")


def _run(arguments: list[str]) -> int:
    stages: dict[str, Callable[[Path, str], object]] = {
        "prepare": prepare,
        "remember": remember,
        "experiment": experiment,
        "gate": gate,
        "report": report,
        "job": job,
    }
    try:
        if len(arguments) != 2 or arguments[0] not in stages:
            raise ConfigError(
                f"expected STAGE and USE_CASE or JOB@VERSION; stages are {', '.join(stages)}",
                hint="dvc repro",
            )
        stage, name = arguments
        root = config.find_root()
        if stage != "job":
            purge(root, name)
        stages[stage](root, name)
    except WorkbenchError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; answers so far are kept: dvc repro\n")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
