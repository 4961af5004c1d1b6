"""The stage `judge`: run the frozen notebook on the cases' inputs, and score its answers in this process.

The kernel runs what a job runs, with the settings of a job. It is given the inputs of each case and never
what is expected; the scorers of params.yaml and the expected values stay here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import importlib.machinery
import os
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from workbench import config, files, layout, retrieval
from workbench.config import Execution, UseCase
from workbench.context import SystemClock
from workbench.errors import ConfigError, CorruptError, NotebookError, RefusedError
from workbench.experiments.attempts import frame_of, told_row
from workbench.experiments.batch import ATTEMPTS, QUARANTINE
from workbench.experiments.dataset import Case, Dataset
from workbench.experiments.experiment import check_cases
from workbench.experiments.gate_spec import stated_digest
from workbench.experiments.runs import Run, save_runs
from workbench.experiments.scorer_spec import ScorerSet
from workbench.experiments.scorers import Outcome, judged_output
from workbench.files import folders
from workbench.layout import Results
from workbench.memory.stores import StoreLocation
from workbench.notebooks import execution as notebooks
from workbench.notebooks import inspection
from workbench.pipeline.build import replaying
from workbench.promotion.judgement import gate_of, scorers_of
from workbench.records import egress
from workbench.records.confirmed import Confirmed, answers_of
from workbench.records.journal import Journal, extend
from workbench.types import Hit
from workbench.workspace import boundary
from workbench.workspace.use_case import prepared_cases, stated_dataset

#: The name of the judged run's experiment.
EXPERIMENT = "judge"
#: Most bytes of the file in which a kernel hands over its attempts.
_MOST_TOLD = 1 << 30
#: Seconds in which the processes that a kernel left behind are ended.
_GRACE_S = 3.0
#: Most openings that a refusal names.
_MOST_NAMED = 20
#: Paths that a frozen notebook has no use for, and that git, the Lab and other runs open at any time.
_BUSY = (Path(".git"), layout.LAB_OUTPUTS, layout.CONFIRMED)
#: Folders of the same kind in which other runs write new files at any time.
_GROWING = (layout.RUNS, layout.EXECUTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class _ToldRecord:
    """The record of one call of a task, as the kernel tells it."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    port: str
    operation: str
    hits: tuple[dict[str, Any], ...] = ()
    degraded: bool | None = None
    recorded_latency_s: float | None = None
    cost_usd: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """One line of the kernel's attempts: an output as JSON text with its sources, or an error."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    task: str
    case: str
    tenant: str
    output: str | None = None
    sources: tuple[str, ...] = ()
    error: str | None = None
    records: tuple[_ToldRecord, ...]
    passages: tuple[dict[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stage:
    """One execution of the stage: its use case, cases and scorers, and its own folder `work`."""

    root: Path
    results: Results
    case: UseCase
    cases: Dataset
    scorers: ScorerSet
    work: Path

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
    stage = _Stage(
        root=root,
        results=results,
        case=case,
        cases=prepared_cases(root, case, results),
        scorers=scorers_of(root, name, case),
        work=root / layout.CACHE / "judging" / secrets.token_hex(8),
    )
    check_cases(stage.cases, stage.scorers.scorers)
    try:
        digest = _executed(stage, show=show, fields=fields)
        run = _scored(stage, digest)
        with folders.written(root / results.answered) as new:
            for path in sorted((stage.work / "out").iterdir()):
                files.write_atomic(new / path.name, files.read_bytes(path))
        save_runs([run], root / results.judged)
    finally:
        shutil.rmtree(stage.work, ignore_errors=True)
    return run


def _executed(stage: _Stage, *, show: bool, fields: Mapping[str, Any]) -> str:
    """Execute the frozen notebook as a job does, and extend the judge's tape; return the task's digest."""
    root, results, case, work = stage.root, stage.results, stage.case, stage.work
    notebook = inspection.read(root / case.notebook)
    if inspection.INPUTS not in notebook.parameters:
        raise ConfigError(
            f"{case.notebook} declares no parameter {inspection.INPUTS!r}, which names the cases to answer",
            hint=f'add {inspection.INPUTS} = "" to its cell tagged `parameters`, and end it with '
            'ws.publish(TASK.map(ws.inputs(inputs)), "answers")',
        )
    frozen, inputs = work / "task.ipynb", work / "input" / "cases.parquet"
    files.write_atomic(frozen, notebook.frozen().encode())
    files.write_atomic(inputs, files.read_bytes(root / results.prepared / "inputs.parquet"))
    execution = Execution(
        notebook=str(frozen),
        use_case=stage.name,
        tape=str(results.judge_tape),
        memory=str(results.memory),
        job=stage.name,
        run=work.name,
        publish=str(work / "out"),
        home=str(root),
        journal=str(stage.journal),
        **fields,
    )
    journal = Journal(root / stage.journal)
    kept = journal.keys()  # the answers of an interrupted stage, which this one does not ask for
    executed = _run(stage, frozen, {**case.parameters, inspection.INPUTS: str(inputs)}, execution, show=show)
    held = boundary.open_tape(root / results.judge_tape)
    extend(held, executed.used, journal, path=root / results.judge_tape)
    taped = boundary.open_tape(root / results.judge_tape).entries()
    asked = {key for key, source in executed.used.items() if source == "cache" and key not in kept}
    fresh = answers_of(entry for entry in taped if entry.key in asked)
    Confirmed(root / layout.CONFIRMED).note(fresh, how="asked", at=SystemClock().now())
    (root / stage.journal).unlink(missing_ok=True)
    return executed.task_digest


def _run(
    stage: _Stage, frozen: Path, parameters: Mapping[str, Any], execution: Execution, *, show: bool
) -> notebooks.Executed:
    """Execute the frozen notebook in its source's folder; refuse one that read what is expected."""
    watch, source = stage.work / "opened.jsonl", stage.root / stage.case.notebook
    _check_modules(source)
    try:
        with _alone(stage):
            executed = notebooks.execute(
                frozen,
                root=stage.root,
                parameters=parameters,
                execution=execution,
                cwd=source.parent,
                watch=notebooks.Watched(report=watch, guarded=_guarded(stage)),
                show=show,
            )
    except NotebookError as error:
        undefined = (
            f"remove the tag `explore` from cells that the others need, then: dvc repro judge@{stage.name}"
        )
        failure = NotebookError(
            f"{stage.case.notebook} without its `explore` cells: {error.message}",
            hint=undefined if error.hint.startswith("workbench run ") else error.hint,
        )
        failure.exit_code = error.exit_code
        raise failure from None
    executed.notebook.unlink(missing_ok=True)
    _check_reports(stage, egress.reported(watch))
    return executed


def _guarded(stage: _Stage) -> tuple[Path, ...]:
    """Return the files and folders with expected values or scores of cases, and where copies of them are."""
    root, results, case = stage.root, stage.results, stage.case
    questions = retrieval.load_spec(root, str(case.memory)).questions
    found = [root / path for path in (stated_dataset(root, case)[0], questions) if path]
    found += [root / Path(case.report).with_suffix(ending) for ending in (".html", ".md")]
    found += [root / "pipelines/jobs", *(root / folder for folder in (*_BUSY, *_GROWING))]
    for part in (results.prepared, results.judged, results.runs):
        found += [root / part, *sorted((root / layout.RESULTS).glob(f"*/{part.name}"))]
    snapshot = [path.lstat() for path in (root / results.memory).glob("*")]
    if all(stat.S_ISREG(status.st_mode) and status.st_nlink == 1 for status in snapshot):
        found.append(root / ".dvc" / "cache")  # the snapshot is no link into it
    return (*dict.fromkeys(found), Path(f"/proc/{os.getpid()}/mem"))


def _check_reports(stage: _Stage, reports: Sequence[Mapping[str, str]]) -> None:
    """Raise RefusedError for openings of guarded files, and for programs and connections."""
    found = [line for line in reports if line["event"] != "open" or _is_of_kernel(stage, line)]
    if not found:
        return
    said = [
        f"{line['where']}: the judged notebook opened {line['address']}, where expected values are"
        if line["event"] == "open"
        else f"{line['where']}: {line['event']} {line['address']}, which the boundary did not open"
        for line in found[:_MOST_NAMED]
    ]
    more = [f"and {len(found) - _MOST_NAMED} more"] if len(found) > _MOST_NAMED else []
    raise RefusedError(
        "\n  ".join([*said, *more]),
        hint="answer from ws.memory() and ws.model() alone; tag a cell that needs more `explore`",
    )


def _is_of_kernel(stage: _Stage, line: Mapping[str, str]) -> bool:
    """Whether the kernel opened a guarded file by itself, or may have, as far as the system tells."""
    path = Path(line["address"])
    if path.parent == layout.EXECUTED and path.stem == f"task-{stage.work.name}":
        return False  # this run's own
    if line["where"] != egress.ELSEWHERE:
        return True
    if any(path.is_relative_to(folder) for folder in _GROWING):
        with contextlib.suppress(OSError):
            return (stage.root / path).stat().st_mtime < (stage.work / "task.ipynb").stat().st_mtime
        return False
    return not any(path.is_relative_to(folder) for folder in _BUSY)


def _check_modules(notebook: Path) -> None:
    """Raise RefusedError for a module beside the notebook that a cell would import in place of a library."""
    libraries = [path for path in sys.path if path.endswith("-packages")]
    for path in sorted(notebook.parent.iterdir()):
        name = path.name.partition(".")[0]
        if path.suffix not in {".py", ".pyc", ".so"} and not (path / "__init__.py").exists():
            continue
        if name in {*sys.stdlib_module_names, "workbench"} or (
            importlib.machinery.PathFinder.find_spec(name, libraries)
        ):
            raise RefusedError(
                f"{path.name} beside {notebook.name} takes the place of the library {name}",
                hint=f"git mv {path.name} to another name",
            )


@contextlib.contextmanager
def _alone(stage: _Stage) -> Iterator[None]:
    """Give the kernel an IPython folder without files of the user, and end what it leaves running."""
    before = os.environ.get("IPYTHONDIR")
    os.environ["IPYTHONDIR"] = str(stage.work / "ipython")
    try:
        yield
    finally:
        os.environ.pop("IPYTHONDIR")
        if before is not None:
            os.environ["IPYTHONDIR"] = before
        until = time.monotonic() + _GRACE_S
        while _kill_left(stage.work.name) and time.monotonic() < until:  # a dying process may start another
            time.sleep(0.02)


def _kill_left(run: str) -> int:
    """Kill the processes that inherited the settings of a kernel; return their number."""
    import psutil

    killed = 0
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            settings = process.environ().get(config.EXECUTION_VARIABLE, "")
            if run in settings and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                process.kill()
                killed += 1
    return killed


def _scored(stage: _Stage, task_digest: str) -> Run:
    """Return the run of the attempts that the kernel handed over; a case without one is unscored."""
    told = _told(stage)
    _check_published(stage, told)
    known = _passages(stage)
    rows = []
    for case in stage.cases:
        line = told.get(case.id)
        if line is None:
            line = {"error": "unanswered: the notebook handed over no answer", "records": []}
        rows.append(told_row(case, line, _outcome(case, line, known), stage.scorers.scorers))
    snapshot = StoreLocation(state=stage.root / layout.STATE, pinned=stage.root / stage.results.memory)
    with closing(replaying(stage.root, stage.name, snapshot, purpose="judge")) as ws:
        described = ws.describe()
    task = next((line["task"] for line in told.values()), "")
    spec = gate_of(stage.root, stage.name, stage.case)
    return Run(
        use_case=stage.name,
        experiment=EXPERIMENT,
        arm=stage.case.candidate,
        task_digest=task_digest,
        gate_digest=stated_digest(spec, dataset=stage.cases.digest, scorers=stage.scorers.identity()),
        settings={**described, "task": task},
        dataset_digest=stage.cases.digest,
        cases=frame_of(rows, stage.scorers.scorers),
    )


def _told(stage: _Stage) -> dict[str, dict[str, Any]]:
    """Return the attempts by case; raise RefusedError for a row that is no case."""
    path = stage.work / ATTEMPTS
    if not path.is_file():
        raise ConfigError(
            f"{stage.case.notebook}: its cells without `explore` published nothing",
            hint='end it with a cell like ws.publish(answer.map(ws.inputs(inputs)), "answers")',
        )
    tenants = {case.id: case.tenant for case in stage.cases}
    found: dict[str, dict[str, Any]] = {}
    lines = files.read_text(path, limit=_MOST_TOLD).removesuffix("\n").split("\n")
    for number, line in enumerate(lines if lines != [""] else (), start=1):
        where = f"{stage.case.notebook}: attempt {number}"
        told = files.parse(_Told, _json(line, where), where=where)
        if tenants.get(told.case) != told.tenant or told.case in found:
            raise RefusedError(
                f"{where}: row {files.shortened(told.case)!r} of tenant {files.shortened(told.tenant)!r} "
                "is no case, or is there twice",
                hint="publish TASK.map(ws.inputs(inputs)) as it is: the rows of inputs are the cases",
            )
        if (told.output is None) == (told.error is None):
            raise CorruptError(f"{where}: it needs either an output or an error")
        _check_amounts(told, where)
        found[told.case] = dataclasses.asdict(told)
    return found


def _check_amounts(told: _Told, where: str) -> None:
    """Raise CorruptError for an amount of a call below zero."""
    for record in told.records:
        for name in ("recorded_latency_s", "cost_usd", "input_tokens", "output_tokens"):
            if (getattr(record, name) or 0) < 0:
                raise CorruptError(f"{where}: {name} of a call is {getattr(record, name)}", hint="dvc repro")


def _check_published(stage: _Stage, attempts: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise RefusedError unless the outputs that are scored are those that were published."""
    published = _published(stage)
    for case, line in attempts.items():
        told = line["output"]
        if told is not None and published.get(case, []) != list(_leaves(_json(told, case))):
            raise RefusedError(
                f"{stage.case.notebook} published another answer to case {case} than it gave to be scored",
                hint="publish TASK.map(ws.inputs(inputs)) as it is, and write no file of the run by hand",
            )


def _published(stage: _Stage) -> dict[str, list[str | float]]:
    """Return the values inside each published answer, by case."""
    import polars as pl

    found: dict[str, list[str | float]] = {}
    for path in sorted((stage.work / "out").iterdir()):
        if not stat.S_ISREG(path.lstat().st_mode) or path.suffix != ".parquet":
            raise RefusedError(
                f"{stage.case.notebook} published {path.name}, which is no Parquet file",
                hint="publish TASK.map(ws.inputs(inputs)) as it is, and write no file of the run by hand",
            )
        try:
            rows = pl.read_parquet(path).to_dicts() if path.name != QUARANTINE else []
            for row in rows:
                if row["id"] in found:
                    raise RefusedError(
                        f"{stage.case.notebook} published two answers to case {row['id']}",
                        hint="publish TASK.map(ws.inputs(inputs)) as it is",
                    )
                fields = {name: value for name, value in row.items() if name not in {"id", "tenant"}}
                found[row["id"]] = list(_leaves(fields))
        except (OSError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
            raise CorruptError(
                f"{stage.case.notebook}: what it published as {path.name} is not readable: {error}",
                hint="publish TASK.map(ws.inputs(inputs)) as it is",
            ) from None
    return found


def _leaves(value: Any) -> Iterator[str | float]:
    """Yield the values inside a value in the form that JSON and Parquet share.

    Parquet adds missing fields to a mapping, and turns a number into text, an instant into UTC and a column
    of mixed types into JSON texts.
    """
    if isinstance(value, Mapping):
        for name in sorted(value):
            yield from _leaves(value[name])
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, str) and value[:1] in {"[", "{"}:
        with contextlib.suppress(CorruptError):
            value = list(_leaves(_json(value, "")))
        yield from value if isinstance(value, list) else [value]
    elif value is not None:
        yield _scalar(value)


def _scalar(value: Any) -> str | float:
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        return float(value)
    text = value.isoformat() if isinstance(value, dt.date | dt.time) else str(value)
    with contextlib.suppress(ValueError):
        moment = dt.datetime.fromisoformat(text)
        return moment.timestamp() if moment.tzinfo else moment.isoformat()
    return text


def _json(line: str, where: str) -> Any:
    """Return the value of a line that the kernel wrote as canonical JSON."""
    import orjson

    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise CorruptError(f"{where} is not JSON: {error}", hint="dvc repro") from None


def _passages(stage: _Stage) -> dict[tuple[str, str], tuple[str, str]]:
    """Return source and text of each item of the judged memory, by tenant and id."""
    import polars as pl

    found = {}
    for path in sorted((stage.root / stage.results.memory).glob("*.parquet")):
        frame = pl.read_parquet(path, columns=["id", "source", "text"])
        found.update({(path.stem, item): (source, text) for item, source, text in frame.iter_rows()})
    return found


def _outcome(
    case: Case, line: Mapping[str, Any], known: Mapping[tuple[str, str], tuple[str, str]]
) -> Outcome | None:
    """Return what a scorer is given. Sources and texts of passages are those of the judged memory.

    A hit that this memory does not hold keeps its tenant and counts for no page.
    """
    if line.get("output") is None:
        return None

    def passage(raw: Mapping[str, Any], tenant: str) -> dict[str, Any]:
        source, text = known.get((tenant, str(raw.get("id"))), ("", ""))
        return {**raw, "tenant": tenant, "source": source, "text": text}

    records = [
        {**record, "hits": [passage(hit, str(hit.get("tenant"))) for hit in record["hits"]]}
        for record in line["records"]
    ]
    passages = [passage(raw, case.tenant) for raw in line["passages"]]
    output = judged_output(files.parse_json(line["output"], where=f"case {case.id}"))
    return Outcome(case=case, output=output, records=records, passages=[_hit(raw) for raw in passages])


def _hit(raw: Mapping[str, Any]) -> Hit:
    """Return a passage as a scorer takes it; only id, source, text and tenant are known."""
    return Hit(
        id=str(raw.get("id")), text=raw["text"], source=raw["source"], tenant=raw["tenant"],
        title="", version=0, score=0.0, as_of="", stale=False, digest="", memory="",
    )  # fmt: skip
