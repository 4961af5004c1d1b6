"""Freeze a notebook into a job's version: the draft, its clean run and its folder.

A job applies exactly the task that the gate judged: the digests of notebook, assets, data, code and lock
equal those of the judged run. A clean run of the frozen notebook checks the requirements that no file shows.
"""

from __future__ import annotations

import dataclasses
import html
import json
import secrets
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench import files, layout, registry
from workbench.config import Job, UseCase
from workbench.data.rules import read_rules
from workbench.errors import NotFoundError, WorkbenchError
from workbench.experiments.batch import QUARANTINE
from workbench.experiments.gates import GateReport
from workbench.experiments.runs import Run, load_runs, save_runs
from workbench.files import folders
from workbench.jobs import runner
from workbench.jobs import spec as jobspec
from workbench.jobs.parity import environment_here
from workbench.jobs.runner import Request, RunPaths, WorkerResult
from workbench.jobs.spec import JobSpec, Parameter
from workbench.layout import CACHE, LOCK, PARAMS, QUALITY, Results
from workbench.notebooks import inspection
from workbench.notebooks.inspection import Notebook
from workbench.promotion import handed_over, requirements
from workbench.promotion.confinement_level import confinement_level
from workbench.promotion.judgement import prepared_cases, scorers_of
from workbench.promotion.requirements import Blocker, Draft, read_bytes
from workbench.promotion.scoring import scored
from workbench.records.tape import Tape
from workbench.repository import environments
from workbench.repository.git import Repository

#: Seconds that the clean run on the sample may take.
CLEAN_S = 600
#: The report of a run's connections around the boundary, in the run's folder.
CONNECTIONS = "connections.jsonl"
#: The logical digest of a snapshot without tenants, which a worker gets when the version has no memory.
_EMPTY_SNAPSHOT = files.digest({})
#: Paths of the repository that a run reads, beside the use case's notebook and data.
CODE = ("workbench", LOCK, str(PARAMS), "pipelines/models", "pipelines/prompts", "pipelines/memories")


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanRun:
    """The result of the frozen notebook on the sample: SHA-256 of each output, the tape and the counts."""

    outputs: Mapping[str, str]
    tape: bytes
    counts: Mapping[str, Any]


def judged_run(root: Path, use_case: str, case: UseCase, *, results: Results | None = None) -> Run:
    """Return the run that the stage `judge` made; NotFoundError when there is none of this candidate."""
    folder = (results or Results(use_case=use_case)).judged
    run = next((run for run in load_runs(root / folder) if run.arm == case.candidate), None)
    if run is None:
        raise NotFoundError(
            f"{folder} holds no run of the candidate {case.candidate!r} of {case.notebook}", hint="dvc repro"
        )
    return run


def draft(root: Path, name: str, job: Job, case: UseCase, gate: GateReport, run: Run) -> Draft:
    """Return the version that promoting `name` would write; WorkbenchError when a source is unreadable."""
    repository = Repository(root=root)
    notebook = inspection.read(root / case.notebook)
    commit = repository.head()
    sample = read_bytes(root / job.sample)
    lists = case.moderation.files if case.moderation else ()
    reads = (*CODE, case.notebook, case.data, *([QUALITY] if case.quality else []), *lists)
    kinds: tuple[str, ...] = ("prompt", "memory", "model")
    pins = {kind: str(run.settings[kind]) for kind in kinds if kind in run.settings}
    pins |= _fallback_pins(run)
    page = JobSpec(
        format=jobspec.FORMAT,
        job=name,
        version=max(registry.load_or_new(root, "job", name).versions, default=0) + 1,
        use_case=job.use_case,
        phase=case.phase,
        notebook=case.notebook,
        commit=commit,
        code=repository.object_ids(commit, dict.fromkeys(reads)),
        task_digest=notebook.digest(notebook.typed(case.parameters)),
        gate_digest=gate.gate_digest,
        dataset_digest=run.dataset_digest,
        run=run.id,
        pins=pins,
        digests=_digests(root, run, pins, sample),
        parameters=_parameters(notebook, case),
        arm={},
        sample=f"sample{Path(job.sample).suffix}",
        sample_outputs={},
        limits=job.limits.of_version,
        schedule=job.schedule,
        input=job.input,
        files={},
    )
    task = notebook.frozen().encode()
    copies = {**_copies(root, pins), **_rules(root, case), **_environment(root, job, case)}
    return Draft(spec=page, run=run, gate=gate, task=task, sample=sample, copies=copies)


def _fallback_pins(run: Run) -> dict[str, str]:
    """Return the references of the fall-backs of the model, as `model.1`, `model.2` and so on."""
    named = [item for item in run.settings.get("model_fallback", ()) if isinstance(item, str)]
    return {f"model.{number}": reference for number, reference in enumerate(named, start=1)}


def _digests(root: Path, run: Run, pins: Mapping[str, str], sample: bytes) -> dict[str, str]:
    # The digest of the model covers its fall-backs.
    used = {kind: str(run.settings[f"{kind}_digest"]) for kind in pins if "." not in kind}
    own = {"lock": files.digest(read_bytes(root / LOCK)), "sample": files.digest(sample)}
    return {"memory": _EMPTY_SNAPSHOT, **used, **own}


def _parameters(notebook: Notebook, case: UseCase) -> dict[str, Parameter]:
    values = notebook.values(notebook.typed(case.parameters))
    return {name: Parameter(type=notebook.parameters[name].type, value=v) for name, v in values.items()}


def _copies(root: Path, pins: Mapping[str, str]) -> dict[str, bytes]:
    """Return the pinned specs by their path in the version's folder; an unsaved spec is left out."""
    found = {}
    for pin, reference in pins.items():
        kind = pin.partition(".")[0]
        try:
            version = registry.resolve(root, kind, reference)
        except WorkbenchError:
            continue  # `requirements.missing` reports it
        place = f"{registry.FOLDERS[kind]}/{version.name}/{version.number}{registry.SUFFIXES[kind]}"
        found[place] = version.path.read_bytes()
    return found


def _environment(root: Path, job: Job, case: UseCase) -> dict[str, bytes]:
    """Return the fingerprint of the environment of the promotion by its path in the folder of a version."""
    return environment_here(root, confinement=confinement_level(job.execution.over(case.execution)))


def _rules(root: Path, case: UseCase) -> dict[str, bytes]:
    """Return the quality rules and their profile by their path in the folder of a version."""
    if case.quality is None:
        return {}
    rules = read_rules(root / case.quality, where=case.quality)
    paths = [path for path in (case.quality, rules.profile) if path is not None and (root / path).is_file()]
    return {f"quality/{Path(path).name}": read_bytes(root / path) for path in paths}


def clean_run(
    root: Path, pending: Draft, case: UseCase, *, show: bool
) -> tuple[CleanRun | None, list[Blocker]]:
    """Run the frozen notebook on the committed code; return its result (None on failure) and the blockers."""
    spec, run_id = pending.spec, secrets.token_hex(8)
    work = root / CACHE / "promoting" / run_id
    code = Repository(root=root).export(spec.commit, root / CACHE / "code" / spec.commit)
    try:
        request = _request(root, pending, work, code, run_id, show=show)
        python = environments.python_of(root, read_bytes(root / LOCK), install_hint="make repro")
        try:
            result = runner.run(request, python=python, folder=work, seconds=CLEAN_S)
        except WorkbenchError as error:
            what = f"the frozen notebook does not run clean alone: {error.message}"
            return None, [Blocker(what=what, fix=error.hint or "fix the cell, then: dvc repro")]
        try:
            _forget_input(Path(result.notebook), request.inputs)
            found = _seen(root / case.notebook, Path(result.notebook), root / LOCK)
        finally:  # its outputs are not masked
            Path(result.notebook).unlink(missing_ok=True)
        found += _reached(work)
        found += _fell_short(spec, result, work / "out")
        outputs = _digests_in(work / "out")
        otherwise = _answers_otherwise(
            root, pending, case, RunPaths(home=root, code=code, work=work / "judged"), python, show=show
        )
        found += [blocker for blocker in otherwise if blocker not in found]
        tape = (work / jobspec.TAPE).read_bytes() if (work / jobspec.TAPE).is_file() else b""
        return CleanRun(outputs=outputs, tape=tape, counts=result.counts), found
    finally:
        folders.remove(work)


def _request(root: Path, pending: Draft, work: Path, code: Path, run_id: str, *, show: bool) -> Request:
    spec = pending.spec
    files.write_atomic(work / spec.sample, pending.sample)
    return runner.request_of(
        spec,
        pending.task,
        RunPaths(home=root, code=code, work=work),
        run=run_id,
        inputs=spec.sample,
        mode="auto",
        tape=str(root / layout.judge_tape_of(spec.use_case)),
        tape_out=str(work / jobspec.TAPE),
        watch=str(work / CONNECTIONS),
        show=show,
    )


def _answers_otherwise(
    root: Path, pending: Draft, case: UseCase, place: RunPaths, python: Path, *, show: bool
) -> list[Blocker]:
    """Return blockers unless the job gives the judged answers to the judged cases, and the judged scores.

    The worker runs the frozen notebook as a scheduled run does, on the inputs of the cases and with the
    judge's tape alone. The published bytes are compared, and the answers are scored once more.
    """
    spec, work, results = pending.spec, place.work, Results(use_case=pending.spec.use_case)
    fix = f"remove what behaves otherwise in a job from {spec.notebook}, then: dvc repro"
    try:
        inputs = work / "inputs.parquet"
        files.write_atomic(inputs, read_bytes(root / results.prepared / inputs.name))
        request = runner.request_of(
            dataclasses.replace(spec, limits=dataclasses.replace(spec.limits, broken=1.0)),
            pending.task,
            place,
            run=secrets.token_hex(8),
            inputs=inputs.name,
            mode="replay",
            tape=str(root / results.judge_tape),
            watch=str(work / CONNECTIONS),
            show=show,
        )
        try:
            result = runner.run(request, python=python, folder=work, seconds=CLEAN_S)
        except WorkbenchError as error:
            return [Blocker(what=f"the job does not answer the judged cases: {error.message}", fix=fix)]
        Path(result.notebook).unlink(missing_ok=True)
        found = _reached(work)
        other = _digests_in(work / "out").items() ^ _digests_in(root / results.answered).items()
        if other:
            names = ", ".join(sorted({name for name, _ in other}))
            what = f"the job publishes other answers to the judged cases: {names}"
            found.append(Blocker(what=what, fix=fix))
        elif what := _scored_otherwise(root, case, pending.run, work):
            found.append(Blocker(what=what, fix=f"dvc repro --force judge@{spec.use_case}"))
    finally:
        folders.remove(work)
    return found


def _scored_otherwise(root: Path, case: UseCase, run: Run, work: Path) -> str:
    """Return why the answers in `work` do not give the rows of the judged run, "" when they do."""
    results = Results(use_case=run.use_case)
    try:
        cases = prepared_cases(root, case, results)
        told = handed_over.attempts(work, cases, notebook=case.notebook)
        entries = Tape.read(root / results.judge_tape).entries()
        scorers = scorers_of(root, run.use_case, case)
        rows = scored(told, entries, cases, scorers, memory=root / results.memory)
    except WorkbenchError as error:
        return f"the job's answers to the judged cases cannot be scored: {error.message}"
    return "" if rows.equals(run.cases) else f"run {run.id} holds other scores than its answers get"


def _digests_in(folder: Path) -> dict[str, str]:
    return {path.name: files.digest(files.read_bytes(path)) for path in sorted(folder.iterdir())}


def _fell_short(spec: JobSpec, result: WorkerResult, out: Path) -> list[Blocker]:
    """Return blockers for a task other than the judged one and for an unanswered sample."""
    found, counts = [], result.counts
    if result.task_digest != spec.task_digest:
        what = (
            f"the frozen notebook holds task {result.task_digest[:12]}, not {spec.task_digest[:12]} as judged"
        )
        found.append(Blocker(what=what, fix="dvc repro"))
    if number := counts.get("fallback"):
        what = f"{number} answers to the sample were given by a fall-back, because the first model failed"
        found.append(Blocker(what=what, fix="promote again when the model answers: workbench doctor"))
    if counts.get("held") or not counts.get("answered"):
        what = f"of the sample's {counts.get('rows')} rows {counts.get('answered')} were answered"
        what += _reasons(out)
        found.append(Blocker(what=what, fix=f"fix {spec.sample}, or the task"))
    return found


def _reasons(out: Path) -> str:
    """Return why the first rows were set aside, "" where the published files do not tell."""
    import polars as pl

    try:
        rows = pl.read_parquet(out / QUARANTINE, columns=["row", "reason"]).head(2).rows()
    except (OSError, pl.exceptions.PolarsError):
        return ""
    return "".join(f"; row {row}: {str(reason)[:200]}" for row, reason in rows)


def _forget_input(executed: Path, inputs: str) -> None:
    """Shorten the input's path in the executed copy to its name: the path is not the notebook's own.

    Links may lead to the path. Python, JSON, HTML and addresses escape its letters, spaces and quotes.
    """
    text, name = files.read_text(executed), Path(inputs).name
    forms: list[Callable[[str], str]] = [
        str,
        lambda path: path.encode("unicode_escape").decode().replace('"', r"\""),  # papermill's
        lambda path: repr(path)[1:-1],
        lambda path: json.dumps(path)[1:-1],
        html.escape,
        urllib.parse.quote,
    ]
    for path in dict.fromkeys([inputs, str(Path(inputs).resolve())]):
        for form in forms:
            for escaped in (False, True):
                old, new = (json.dumps(form(part), ensure_ascii=escaped)[1:-1] for part in (path, name))
                text = text.replace(old, new)
    files.write_atomic(executed, text.encode())


def _seen(source: Path, executed: Path, lock: Path) -> list[Blocker]:
    """Return blockers for the contents of the executed notebook's outputs."""
    from workbench.notebooks import screening  # its patterns take long to compile; most importers judge runs

    known = screening.screen(inspection.read(source), lock=read_bytes(lock))
    outputs = [
        finding
        for finding in screening.screen(inspection.read(executed), lock=read_bytes(lock), executed=executed)
        if finding not in known
    ]
    return requirements.screened(outputs)


def _reached(work: Path) -> list[Blocker]:
    """Return blockers for the connections around the boundary of the run in `work`."""
    from workbench.records import egress

    return [
        Blocker(
            what=f"{line['where']}: {line['event']} {line['address']}, which the boundary did not open",
            fix="ask through ws.model(), ws.openai() or ws.memory()",
        )
        for line in egress.reported(work / CONNECTIONS)
    ]


def finished(pending: Draft, clean: CleanRun) -> Draft:
    """Return the draft with the digests of the clean run's outputs and of every file of the folder."""
    contents = _contents(pending, clean)
    spec = dataclasses.replace(
        pending.spec,
        sample_outputs=dict(clean.outputs),
        digests={**pending.spec.digests, "tape": files.digest(clean.tape)},
        files={name: files.digest(data) for name, data in sorted(contents.items())},
    )
    return dataclasses.replace(pending, spec=spec, copies=contents)


def _contents(pending: Draft, clean: CleanRun) -> dict[str, bytes]:
    return {
        jobspec.TASK: pending.task,
        pending.spec.sample: pending.sample,
        jobspec.TAPE: clean.tape,
        **pending.copies,
        "evidence/gate.json": files.pretty(pending.gate.to_json()),
        "evidence/clean_run.json": files.pretty(dict(clean.counts)),
        **_judged(pending.run),
    }


def _judged(run: Run) -> dict[str, bytes]:
    """Return the judged run's files as `load_runs` reads them; the next version is compared with them."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="workbench-") as folder:
        save_runs([run], Path(folder))
        return {f"{jobspec.JUDGED}/{p.name}": p.read_bytes() for p in sorted(Path(folder).iterdir())}


def write(root: Path, pending: Draft) -> Path:
    """Write the version's folder atomically and return it; a folder that no `asset.yaml` lists is replaced.

    The caller holds the asset's lock.
    """
    spec = pending.spec
    folder = registry.path_of(root, "job", spec.job, spec.version).parent
    folders.purge(folder)
    with folders.written(folder) as new:
        for name, data in pending.copies.items():
            files.write_atomic(new / name, data)
        files.write_atomic(new / jobspec.PAGE, spec.text())
    return folder
