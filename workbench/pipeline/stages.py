"""Run one stage of dvc.yaml: `python -m workbench.pipeline.stages STAGE USE_CASE`.

A stage is a function of files: its outputs depend on its dependencies alone, never on a clock, a host, a
path or the number of cores.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import config, files, layout, processes
from workbench.config import Execution, UseCase
from workbench.errors import ConfigError, WorkbenchError
from workbench.files import folders
from workbench.layout import Results
from workbench.notebooks import inspection

if TYPE_CHECKING:
    from workbench.experiments.gates import GateReport
    from workbench.experiments.runs import Run
    from workbench.pipeline.kernels import KernelSettings, Ran

# A stage is a process of its own: it imports what it needs, because all of them together take half a second.

#: The variable that names the file of a stage's exit code, for `workbench repro`.
EXIT_VARIABLE = "WORKBENCH_STAGE_EXIT"


def prepare(root: Path, name: str, *, results: Results | None = None) -> None:
    """Read documents and questions, check that each question's page has its answer, write the cases.

    Cases whose text stands in the prompt or in solved examples are written beside them.
    """
    from workbench.data import contamination
    from workbench.workspace import quality
    from workbench.workspace.examples import contaminated
    from workbench.workspace.use_case import check_data, stated_dataset

    case = config.use_case(config.load_params(root), name)
    cases, pages = check_data(root, name, case)
    folder = root / (results or Results(use_case=name)).prepared
    quality.write(root, name, case, folder, stated_dataset(root, case))
    files.write_atomic(folder / "cases.parquet", cases.to_parquet())
    files.write_atomic(
        folder / "inputs.parquet", cases.inputs_parquet()
    )  # all that the judge's kernel is given
    summary = {
        "cases": dict(sorted(Counter(case.tenant for case in cases).items())),
        "pages": dict(sorted(Counter(page.tenant for page in pages).items())),
        "dataset_digest": cases.digest,
    }
    files.write_atomic(folder / "summary.json", files.pretty(summary))
    found = contaminated(root, case, cases, pages)
    files.write_atomic(folder / contamination.FILE, files.pretty(found.to_json()))


def remember(root: Path, name: str) -> None:
    """Build the use case's memory from its documents, and write its snapshot."""
    from workbench.pipeline import build

    case = config.use_case(config.load_params(root), name)
    build.build(root, name, case, root / Results(use_case=name).memory)


def judge(root: Path, name: str, *, show: bool = True) -> Run:
    """Judge the notebook as `workbench.pipeline.judge.judge` does; return the run."""
    from workbench.pipeline import judge as stage

    return stage.judge(root, name, show=show)


def experiment(root: Path, name: str, *, show: bool = True) -> None:
    """Execute the notebook: replay the tape, ask the model for missing answers, then extend the tape."""
    from workbench.experiments.runs import MANIFEST, save_runs

    results = Results(use_case=name)
    execute(root, results, show=show)
    if not (root / results.runs / MANIFEST).is_file():  # a notebook may explore without an experiment
        save_runs([], root / results.runs)


def execute(root: Path, results: Results, *, show: bool = True, **fields: Any) -> None:
    """Execute a use case's notebook over prepared cases and the memory's snapshot.

    `fields` holds further fields of the kernel's `Execution`.
    """
    case = config.use_case(config.load_params(root), results.use_case)
    execution = Execution(
        notebook=case.notebook,
        use_case=results.use_case,
        tape=str(results.tape),
        judge_tape=str(results.judge_tape),
        memory=str(results.memory),
        cases=str(results.prepared / "cases.parquet"),
        out=str(root / results.runs),
        **fields,
    )
    notebook, tape = root / case.notebook, root / results.tape
    run_notebook(root, notebook, case.parameters, execution=execution, tape=tape, show=show)


def run_notebook(
    root: Path,
    path: Path,
    parameters: Mapping[str, Any],
    *,
    execution: Execution,
    tape: Path | None = None,
    settings: KernelSettings | None = None,
    **options: Any,
) -> Ran:
    """Execute a notebook of a use case; write the recordings that it used to `tape`, when `tape` is given.

    Its kernel asks a gateway in this process, and is confined as `settings` says, by default not at all. A
    failed or interrupted execution changes no tape: its answers stay in the cache and are not asked again.
    `options` holds further arguments of `notebooks.execute`: `cwd`, `watch`, `show`.
    """
    from workbench.pipeline import kernels
    from workbench.privacy.repository import redaction_of

    clean, settings = redaction_of(root).text, settings or kernels.KernelSettings()
    ran = kernels.run_kernel(
        root, path, parameters, execution=execution, settings=settings, clean=clean, **options
    )
    if tape is not None:
        from workbench.records.journal import Journal, extend
        from workbench.workspace import boundary

        name = execution.use_case
        held = boundary.tape_of_execution(root, name, execution) if name else boundary.open_tape(tape)
        journal = Journal(root / (execution.journal or layout.JOURNAL))
        extend(held, ran.used, journal, path=tape, apart=execution.judge_tape is not None)
    return ran


def gate(root: Path, name: str, *, results: Results | None = None) -> GateReport:
    """Judge the candidate's run by the gate of the use case's phase; write the verdict and its numbers."""
    from workbench.pipeline import plots
    from workbench.promotion.freezing import judged_run
    from workbench.promotion.judgement import judged, note

    results = results or Results(use_case=name)
    case = config.use_case(config.load_params(root), name)
    run = judged_run(root, name, case, results=results)
    check_task(root, case, run)
    check_cases_of(root, results, run)
    verdict = judged(root, name, case, run, results=results)
    if results.base == layout.RESULTS:
        verdict = note(root, name, case, run, verdict)
    files.write_atomic(root / results.metrics, files.pretty(plots.numbers(verdict)))
    files.write_atomic(root / results.gate, files.pretty(verdict.to_json()))
    return verdict


def check_task(root: Path, case: UseCase, run: Run) -> None:
    """Raise ConfigError unless the run's task is the one that the notebook holds now."""
    notebook = inspection.read(root / case.notebook)
    digest = notebook.digest(notebook.typed(case.parameters))
    if run.task_digest != digest:
        raise ConfigError(
            f"run {run.id} is of task {run.task_digest[:12]}, {case.notebook} holds {digest[:12]}",
            hint="dvc repro",
        )


def check_cases_of(root: Path, results: Results, run: Run) -> None:
    """Raise ConfigError unless the run answered the prepared cases."""
    path = root / results.prepared / "summary.json"
    summary = files.parse_json(files.read_text(path), where=str(path))
    if run.dataset_digest != summary["dataset_digest"]:
        raise ConfigError(f"run {run.id} answered other cases than the dataset holds now", hint="dvc repro")


def report(
    root: Path, name: str, *, results: Results | None = None, page: str | None = None
) -> tuple[Path, Path]:
    """Write the readiness page as HTML and as Markdown; return both paths.

    `page` is a path without an ending, used instead of the use case's own.
    """
    from workbench.pipeline import evidence
    from workbench.pipeline import report as readiness
    from workbench.promotion.freezing import judged_run

    case = config.use_case(config.load_params(root), name)
    results = results or Results(use_case=name)
    run = judged_run(root, name, case, results=results)
    return readiness.write(evidence.collect(root, case, run, results), root / (page or case.report))


def _settings(root: Path, name: str) -> None:
    from workbench.pipeline import settings

    settings.write(root, name)


def _plots(root: Path, name: str) -> None:
    from workbench.pipeline import plots

    plots.write(root, name)


def _job(root: Path, reference: str) -> None:
    """Reproduce the sample of a promoted job's version, in its own code and environment."""
    from workbench.jobs import run as jobs
    from workbench.jobs.ready import reproduce

    name, number = jobs.number_of(root, reference)
    reproduce(root, name, number, root / "results" / "jobs" / f"{name}-{number}")


def _purge(root: Path, name: str) -> None:
    """Remove the half-written files that killed stages of a use case left beside their outputs."""
    case, results = config.use_case(config.load_params(root), name), Results(use_case=name)
    outs = [results.settings, results.prepared, results.memory, results.answered, results.judged]
    outs += [results.runs, results.plots]
    pages = (Path(case.report).with_suffix(ending) for ending in (".html", ".md"))
    for path in (*outs, results.metrics, results.gate, results.tape, results.judge_tape, *pages):
        folders.purge(root / path)


def main(arguments: list[str]) -> int:
    """Run one stage and return its exit code; a file keeps the code, because DVC returns its own."""
    _note_exit(WorkbenchError.exit_code)  # the code of a stage that is killed
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
        "settings": _settings,
        "prepare": prepare,
        "remember": remember,
        "judge": judge,
        "experiment": experiment,
        "gate": gate,
        "plots": _plots,
        "report": report,
        "job": _job,
    }
    try:
        if len(arguments) != 2 or arguments[0] not in stages:
            raise ConfigError(
                f"expected STAGE and USE_CASE or JOB@VERSION, found {' '.join(arguments) or 'nothing'}; "
                f"the stages are {', '.join(stages)}",
                hint="dvc repro",
            )
        stage, name = arguments
        root = config.find_root()
        if stage != "job":
            _purge(root, name)
        stages[stage](root, name)
    except WorkbenchError as error:
        from workbench.privacy.repository import masked_output

        sys.stderr.write(f"error: {masked_output(str(error))}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted; the answers so far are kept\n  -> dvc repro\n")
        return 130
    return 0


if __name__ == "__main__":
    processes.collect_rarely()
    sys.exit(main(sys.argv[1:]))
