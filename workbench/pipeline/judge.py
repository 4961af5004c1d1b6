"""The stage `judge`: run the frozen notebook on the cases' inputs, and score its answers in this process.

The kernel runs what a job runs, with the settings of a job, and is confined where the machine can. It is
given the inputs of each case and never what is expected: the scorers of params.yaml, the expected values and
the boundary stay here.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench import config, files, layout
from workbench.config import Execution, UseCase
from workbench.context import SystemClock
from workbench.errors import ConfigError, NotebookError
from workbench.experiments.dataset import Dataset
from workbench.experiments.experiment import check_cases
from workbench.experiments.gate_spec import stated_digest
from workbench.experiments.runs import Run, save_runs
from workbench.experiments.scorer_spec import ScorerSet
from workbench.files import folders
from workbench.layout import Results
from workbench.memory.stores import StoreLocation
from workbench.notebooks import canonical, inspection
from workbench.notebooks import execution as notebooks
from workbench.pipeline import guarding, kernels
from workbench.pipeline.build import replaying
from workbench.privacy.repository import redaction_of
from workbench.promotion.handed_over import attempts, take
from workbench.promotion.judgement import gate_of, prepared_cases, scorers_of, slicing_of
from workbench.promotion.scoring import scored
from workbench.records import egress
from workbench.records.confirmed import Confirmed, answers_of
from workbench.records.journal import Journal, recorded
from workbench.records.keys import Entry
from workbench.records.tape import write
from workbench.workspace import boundary
from workbench.workspace.privacy import protected_run

#: The name of the judged run's experiment.
EXPERIMENT = "judge"
#: Executions of which each but the last is repeated when another program may have opened a guarded file.
_TRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stage:
    """One execution of the stage: its use case, cases and scorers."""

    root: Path
    results: Results
    case: UseCase
    cases: Dataset
    scorers: ScorerSet

    @property
    def name(self) -> str:
        return self.results.use_case

    @property
    def journal(self) -> Path:
        """The answers of an interrupted stage, relative to the repository."""
        folder = layout.JUDGE_JOURNALS if self.results.base == layout.RESULTS else self.results.folder
        return folder / f"{self.name}.answers.jsonl"


def judge(root: Path, name: str, *, results: Results | None = None, show: bool = True, **fields: Any) -> Run:
    """Run and score the frozen notebook of a use case; write what it published and the judged run.

    `fields` holds further fields of the kernel's `Execution`. Raise RefusedError when the notebook reads
    what is expected or hands over other rows than the cases, NotebookError when one of its cells fails.
    """
    results = results or Results(use_case=name)
    case = config.use_case(config.load_params(root), name)
    cases, scorers = prepared_cases(root, case, results), scorers_of(root, name, case)
    check_cases(cases, scorers.scorers)
    stage = _Stage(root=root, results=results, case=case, cases=cases, scorers=scorers)
    for left in reversed(range(_TRIES)):
        work = root / layout.CACHE / "judging" / secrets.token_hex(8)
        try:
            return _judged(stage, work, show=show, fields=fields)
        except guarding.DisturbedError as error:  # the answers so far are in the journal
            if not left:
                raise
            sys.stderr.write(f"{error.message}\njudging again, in case another program opened it\n")
        finally:
            folders.remove(work)
    raise AssertionError("unreachable")


def _judged(stage: _Stage, work: Path, *, show: bool, fields: Mapping[str, Any]) -> Run:
    """Execute and score; write the tape and the results only when everything that was handed over fits."""
    root, results = stage.root, stage.results
    journal = Journal(root / stage.journal)
    kept = journal.keys()  # the answers of an interrupted stage, which this one does not ask for
    ran = _ran(stage, work, show=show, fields=fields)
    told = attempts(work, stage.cases, notebook=stage.case.notebook)
    lines = recorded(boundary.open_tape(root / results.judge_tape), ran.used, journal)
    entries = list(map(Entry.parse, lines))
    run = _scored(stage, told, entries, ran.executed.task_digest)
    write(root / results.judge_tape, lines)
    asked = {key for key, source in ran.used.items() if source == "cache" and key not in kept}
    fresh = answers_of(entry for entry in entries if entry.key in asked)
    Confirmed(root / layout.CONFIRMED).note(fresh, how="asked", at=SystemClock().now())
    with folders.written(root / results.answered) as new:
        for path in sorted((work / "out").iterdir()):
            files.write_atomic(new / path.name, files.read_bytes(path))
    save_runs([run], root / results.judged)
    journal.path.unlink(missing_ok=True)
    return run


def _ran(stage: _Stage, work: Path, *, show: bool, fields: Mapping[str, Any]) -> kernels.Ran:
    """Execute the frozen notebook as a job does, on the inputs of the cases."""
    case, results = stage.case, stage.results
    notebook = inspection.read(stage.root / case.notebook)
    if inspection.INPUTS not in notebook.parameters:
        raise ConfigError(
            f"{case.notebook} declares no parameter {inspection.INPUTS!r}, which names the cases to answer",
            hint=f'add {inspection.INPUTS} = "" to its cell tagged `parameters`, and end it with '
            'ws.publish(TASK.map(ws.inputs(inputs)), "answers")',
        )
    frozen, inputs = work / "task.ipynb", work / "input" / "cases.parquet"
    files.write_atomic(frozen, notebook.frozen().encode())
    files.write_atomic(inputs, files.read_bytes(stage.root / results.prepared / "inputs.parquet"))
    parameters = {**case.parameters, inspection.INPUTS: str(inputs)}
    guarding.check_modules(stage.root / case.notebook)
    guarded = guarding.guarded(stage.root, case, results)
    watch = notebooks.Watched(report=work / kernels.KERNEL / "opened.jsonl", guarded=guarded)
    with guarding.alone(work), _said_of(stage):
        ran = kernels.run_kernel(
            stage.root,
            frozen,
            parameters,
            execution=_execution(stage, frozen, fields),
            settings=_settings(stage, inputs, work, hidden=guarded),
            cwd=(stage.root / case.notebook).parent,
            watch=watch,
            show=show,
            clean=redaction_of(stage.root).text,
        )
    ran.executed.notebook.unlink(missing_ok=True)
    guarding.check_reports(egress.reported(watch.report), root=stage.root, work=work)
    take(work / kernels.KERNEL, work, ran.records, notebook=case.notebook)
    return ran


def _settings(stage: _Stage, inputs: Path, work: Path, *, hidden: tuple[Path, ...]) -> kernels.KernelSettings:
    """Return how the judge's kernel is confined: it reads its inputs and writes into its own folder."""
    stated = config.run_settings(config.load_params(stage.root), stage.case, stage.name)
    kernel = work / kernels.KERNEL
    files.make_folder(kernel)
    return kernels.settings_of(stage.root, stated, read=(inputs,), write=(kernel,), hidden=hidden)


def _execution(stage: _Stage, frozen: Path, fields: Mapping[str, Any]) -> Execution:
    """Return the settings of the kernel, which are those of a job."""
    return Execution(
        notebook=str(frozen),
        use_case=stage.name,
        tape=str(stage.results.judge_tape),
        memory=str(stage.results.memory),
        job=stage.name,
        run=frozen.parent.name,
        publish=str(frozen.with_name(kernels.KERNEL) / "out"),
        home=str(stage.root),
        journal=str(stage.journal),
        copies=str(frozen.with_name(layout.COPIES)),
        **fields,
    )


@contextlib.contextmanager
def _said_of(stage: _Stage) -> Iterator[None]:
    """Raise the error of a cell with its place in the source notebook, and what to do there."""
    try:
        yield
    except NotebookError as error:
        path, again = stage.root / stage.case.notebook, f"then: dvc repro judge@{stage.name}"
        cells = canonical.read(path)["cells"]
        kept = [n for n, cell in enumerate(cells, 1) if inspection.EXPLORE_TAG not in canonical.tags_of(cell)]
        found = re.match(r".*?task\.ipynb(?:, cell (\d+))?", error.message)
        place = f", cell {kept[int(found[1]) - 1]}" if found and found[1] else ""
        said = stage.case.notebook + place + error.message[found.end() if found else 0 :]
        hint = f"correct the cell, {again}"
        if not place:
            hint = f"dvc repro judge@{stage.name}   # the answers so far are kept"
        elif ": NameError: " in said:
            hint = f"remove the tag `explore` from the cell that defines the name, {again}"
        elif ": PermissionError: " in said:
            hint = f"name what the kernel may read under execution.read in params.yaml, {again}"
        failure = NotebookError(
            f"without its `explore` cells, as the judge and a job run it: {said}",
            hint=hint if error.hint.startswith("workbench run ") else error.hint,
        )
        failure.exit_code = error.exit_code
        raise failure from None


def _scored(
    stage: _Stage, told: Mapping[str, Mapping[str, Any]], entries: Sequence[Entry], task_digest: str
) -> Run:
    """Return the run of the attempts that the kernel handed over."""
    memory = stage.root / stage.results.memory
    rows = scored(told, entries, stage.cases, stage.scorers, memory=memory)
    snapshot = StoreLocation(state=stage.root / layout.STATE, pinned=memory)
    with closing(replaying(stage.root, stage.name, snapshot, purpose="judge")) as ws:
        described = ws.describe()
    task = next((line["task"] for line in told.values()), "")
    spec = gate_of(stage.root, stage.name, stage.case)
    slicing = slicing_of(stage.root, stage.name, stage.case, stage.cases)
    stated = stated_digest(
        spec,
        dataset=stage.cases.digest,
        scorers=stage.scorers.identity(),
        slices=slicing.digest_beyond(spec) if slicing else None,
    )
    return Run(
        use_case=stage.name,
        experiment=EXPERIMENT,
        arm=stage.case.candidate,
        task_digest=task_digest,
        gate_digest=stated,
        settings={**described, "task": task},
        dataset_digest=stage.cases.digest,
        cases=protected_run(stage.root, rows),
    )
