"""The stage `judge`: run the frozen notebook on the cases' inputs, and score its answers in this process.

The kernel runs what a job runs, with the settings of a job. It is given the inputs of each case and never
what is expected; the scorers of params.yaml and the expected values stay here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import secrets
import shutil
import stat
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from workbench import config, files, layout
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
from workbench.pipeline import guarding
from workbench.pipeline.build import replaying
from workbench.promotion.judgement import gate_of, scorers_of
from workbench.records import egress
from workbench.records.confirmed import Confirmed, answers_of
from workbench.records.journal import Journal, extend
from workbench.types import Hit
from workbench.workspace import boundary
from workbench.workspace.use_case import prepared_cases

#: The name of the judged run's experiment.
EXPERIMENT = "judge"
#: Most bytes of the file in which a kernel hands over its attempts.
_MOST_TOLD = 1 << 30
#: Values that Parquet does not tell from each other in a mapping.
_EMPTY: tuple[Any, ...] = (None, {}, [])


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
    guarding.check_modules(source)
    try:
        with guarding.alone(stage.work):
            executed = notebooks.execute(
                frozen,
                root=stage.root,
                parameters=parameters,
                execution=execution,
                cwd=source.parent,
                watch=notebooks.Watched(
                    report=watch, guarded=guarding.guarded(stage.root, stage.case, stage.results)
                ),
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
    guarding.check_reports(egress.reported(watch), root=stage.root, work=stage.work)
    return executed


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
        if line["output"] is None:
            continue
        told, fields = _json(line["output"], case), published.get(case, {})
        if not _alike(told, fields) and not (set(fields) == {"output"} and _alike(told, fields["output"])):
            raise RefusedError(
                f"{stage.case.notebook} published another answer to case {case} than it gave to be scored",
                hint="publish TASK.map(ws.inputs(inputs)) as it is, and write no file of the run by hand",
            )


def _published(stage: _Stage) -> dict[str, dict[str, Any]]:
    """Return the fields of each published answer, by case."""
    import polars as pl

    found: dict[str, dict[str, Any]] = {}
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
                found[row["id"]] = {name: row[name] for name in row if name not in {"id", "tenant"}}
        except (OSError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
            raise CorruptError(
                f"{stage.case.notebook}: what it published as {path.name} is not readable: {error}",
                hint="publish TASK.map(ws.inputs(inputs)) as it is",
            ) from None
    return found


def _alike(told: Any, published: Any) -> bool:
    """Whether a value of JSON and one of Parquet are the same.

    Parquet adds missing fields to a mapping and has instants in UTC.
    """
    if isinstance(published, str):
        return told == published or _is_text_of(told, published)
    if isinstance(told, Mapping) and isinstance(published, Mapping):
        return all(_alike(told.get(name), published.get(name)) for name in {*told, *published})
    if isinstance(told, list) and isinstance(published, list):
        return len(told) == len(published) and all(map(_alike, told, published))
    if isinstance(published, dt.date | dt.time):
        return isinstance(told, str) and _moment(told) == _moment(published.isoformat())
    if isinstance(told, int) and isinstance(published, float):
        return float(told) == published
    return bool(told == published) or (told in _EMPTY and published in _EMPTY)


def _is_text_of(told: Any, published: str) -> bool:
    """Whether a text of a column of mixed types is the JSON text of a value."""
    try:
        return bool(_json(published, "") == told)
    except CorruptError:
        return not isinstance(told, str) and str(told) == published


def _moment(text: str) -> Any:
    """Return an instant as seconds, so that time zones do not count; another text as it is."""
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
