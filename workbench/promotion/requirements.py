"""Checks what a promotion requires, and returns each blocker with the command that fixes it.

Nothing is run. Every check is made, so that a card lists all blockers at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench import files, registry
from workbench.config import UseCase
from workbench.errors import ConfigError, NotFoundError, WorkbenchError
from workbench.experiments.gates import GateReport
from workbench.experiments.runs import Run
from workbench.jobs.schedule import Schedule
from workbench.jobs.spec import JobSpec
from workbench.layout import LOCK
from workbench.notebooks import inspection, screening
from workbench.notebooks.inspection import INPUTS
from workbench.repository import dvc, environments
from workbench.repository.git import Repository

#: What the pipeline writes, and what an earlier promotion left behind: no change of what was judged.
RESULTS = ("pipelines/jobs", "published", "results", "dvc.lock")


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocker:
    """One thing that forbids the promotion: what it is, how to fix it, and the exit code of its kind."""

    what: str
    fix: str
    exit_code: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A version as it would be: its page (numbers of files still open), and what goes into its folder."""

    spec: JobSpec
    run: Run
    gate: GateReport
    task: bytes
    sample: bytes
    copies: Mapping[str, bytes]


def missing(root: Path, one: Draft, case: UseCase) -> list[Blocker]:
    """All that forbids the promotion and can be told without running anything, the gravest first."""
    looks: tuple[Callable[[Path, Draft, UseCase], list[Blocker]], ...] = (
        _uncommitted,
        _unreproduced,
        _other_lock,
        _other_task,
        _not_passed,
        _drafts,
        _untyped,
        _never_due,
    )
    found = [miss for look in looks for miss in look(root, one, case)]
    notebook = inspection.read(root / case.notebook)
    return found + screened(screening.screen(notebook, lock=read_bytes(root / LOCK)))


def _uncommitted(root: Path, one: Draft, case: UseCase) -> list[Blocker]:
    del one
    left = Repository(root=root).changed(besides=[*RESULTS, f"{case.report}.md"])
    if not left:
        return []
    shown = ", ".join(left[:5]) + (f" and {len(left) - 5} more" if len(left) > 5 else "")
    return [Blocker(what=f"uncommitted: {shown}", fix='git add --all && git commit -m "…"')]


def _unreproduced(root: Path, one: Draft, case: UseCase) -> list[Blocker]:
    del case
    stale = stale_stages(root, one.spec.use_case)
    if not stale:
        return []
    return [Blocker(what=f"the results are not of what is committed: {', '.join(stale)}", fix="make repro")]


def stale_stages(root: Path, use_case: str) -> list[str]:
    """The stages up to the judged run that `dvc status` calls changed."""
    stages = [f"{stage}@{use_case}" for stage in ("settings", "prepare", "remember", "experiment")]
    return sorted(dvc.status(root, *stages))


def _other_lock(root: Path, one: Draft, case: UseCase) -> list[Blocker]:
    del one, case
    lock = read_bytes(root / LOCK)
    try:
        environments.python_of(root, lock, install_hint="make repro")
    except WorkbenchError:
        return [Blocker(what=f"this environment is not the one of {LOCK}", fix="make repro")]
    return []


def _other_task(root: Path, one: Draft, case: UseCase) -> list[Blocker]:
    del root
    if one.spec.task_digest == one.run.task_digest:
        return []
    what = (
        f"{case.notebook} holds task {one.spec.task_digest[:12]}, the gate judged {one.run.task_digest[:12]}"
    )
    return [Blocker(what=what, fix="dvc repro")]


def _not_passed(root: Path, one: Draft, case: UseCase) -> list[Blocker]:
    del root, case
    gate = one.gate
    if not gate.stated_before:
        return [
            Blocker(
                what="the gate's text is not the one the run was made under", fix="dvc repro", exit_code=1
            )
        ]
    if gate.verdict == "pass":
        return []
    lines = "; ".join(f"{line.metric} {line.rule}" for line in gate.lines if line.verdict == gate.verdict)
    fix = f"workbench gate {gate.use_case}/{gate.arm}"
    return [
        Blocker(what=f"the {gate.phase} gate says {gate.verdict}: {lines}", fix=fix, exit_code=gate.exit_code)
    ]


def _drafts(root: Path, one: Draft, case: UseCase) -> list[Blocker]:
    del case
    found = []
    for kind, reference in one.spec.pins.items():
        try:
            version = registry.resolve(root, kind, reference)
        except WorkbenchError:
            fix = 'draft.save(reason="…"), name the number in params.yaml, then: dvc repro'
            found.append(Blocker(what=f"the judged run used {kind} {reference}, which is not saved", fix=fix))
            continue
        if kind == "prompt" and version.digest != one.spec.digests["prompt"]:
            what = f"the judged run used another {reference} than the one that is saved now"
            found.append(Blocker(what=what, fix="dvc repro"))
    return found


def _untyped(root: Path, one: Draft, case: UseCase) -> list[Blocker]:
    notebook = inspection.read(root / case.notebook)
    found = [
        Blocker(
            what=f"parameter {name!r} of {case.notebook} has no type",
            fix=f"give it a default that is not None, or write {name}: TYPE = None",
        )
        for name, parameter in one.spec.parameters.items()
        if not parameter.type
    ]
    if INPUTS not in notebook.parameters:
        what = f"{case.notebook} declares no parameter {INPUTS!r}, which a job is given its rows by"
        found.append(Blocker(what=what, fix=f'add {INPUTS} = "" to its cell tagged `parameters`'))
    return found


def _never_due(root: Path, one: Draft, case: UseCase) -> list[Blocker]:
    del root, case
    timing = one.spec.schedule
    if timing is not None:
        try:
            Schedule.parse(timing.cron, timing.timezone, where=f"jobs.{one.spec.job}.schedule")
        except ConfigError as error:
            return [Blocker(what=error.message, fix=f"in params.yaml {error.hint}")]
    return []


def screened(found: Sequence[screening.ScreeningFinding]) -> list[Blocker]:
    """The screening's findings as blockers."""
    return [Blocker(what=f"{finding.where}: {finding.what}", fix=finding.mend) for finding in found]


def read_bytes(path: Path) -> bytes:
    """A file's bytes; NotFoundError says which one is not there."""
    try:
        return files.read_bytes(path)
    except OSError as error:
        raise NotFoundError(
            f"cannot read {path}: {error.strerror}",
            hint="params.yaml names it, or git checkout brings it back",
        ) from None


def checked(found: list[Blocker], name: str) -> None:
    """ConfigError that lists all blockers, if there are any."""
    if not found:
        return
    lines = "\n".join(f"  - {one.what}\n    {one.fix}" for one in found)
    error = ConfigError(f"job/{name} cannot be promoted:\n{lines}", hint=found[0].fix)
    error.exit_code = found[0].exit_code
    raise error
