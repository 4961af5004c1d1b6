"""Check the requirements of a promotion; each blocker has the command that fixes it.

The checks run no notebook. Every check is made, so that a card lists all blockers at once.
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

#: Outputs of the pipeline and of earlier promotions: a change in them does not affect the judged run.
RESULTS = ("pipelines/jobs", "published", "results", "dvc.lock")


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocker:
    """A reason against a promotion: its description, its fix and its exit code."""

    what: str
    fix: str
    exit_code: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A proposed version: its page, without the digests of files, and the contents of its folder."""

    spec: JobSpec
    run: Run
    gate: GateReport
    task: bytes
    sample: bytes
    copies: Mapping[str, bytes]


def missing(root: Path, one: Draft, case: UseCase) -> list[Blocker]:
    """Return every blocker that shows without a clean run, the most serious first."""
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
    found = [blocker for look in looks for blocker in look(root, one, case)]
    notebook = inspection.read(root / case.notebook)
    return found + screened(screening.screen(notebook, lock=read_bytes(root / LOCK)))


def _uncommitted(root: Path, draft: Draft, case: UseCase) -> list[Blocker]:
    del draft
    left = Repository(root=root).changed(besides=[*RESULTS, f"{case.report}.md"])
    if not left:
        return []
    shown = ", ".join(left[:5]) + (f" and {len(left) - 5} more" if len(left) > 5 else "")
    return [Blocker(what=f"uncommitted: {shown}", fix='git add --all && git commit -m "…"')]


def _unreproduced(root: Path, draft: Draft, case: UseCase) -> list[Blocker]:
    del case
    stale = stale_stages(root, draft.spec.use_case)
    if not stale:
        return []
    return [Blocker(what=f"the results are not of what is committed: {', '.join(stale)}", fix="make repro")]


def stale_stages(root: Path, use_case: str) -> list[str]:
    """Return the stages up to the judged run that `dvc status` reports as changed."""
    stages = [f"{stage}@{use_case}" for stage in ("settings", "prepare", "remember", "experiment")]
    return sorted(dvc.status(root, *stages))


def _other_lock(root: Path, draft: Draft, case: UseCase) -> list[Blocker]:
    del draft, case
    lock = read_bytes(root / LOCK)
    try:
        environments.python_of(root, lock, install_hint="make repro")
    except WorkbenchError:
        return [Blocker(what=f"this environment is not the one of {LOCK}", fix="make repro")]
    return []


def _other_task(root: Path, draft: Draft, case: UseCase) -> list[Blocker]:
    del root
    if draft.spec.task_digest == draft.run.task_digest:
        return []
    task, judged = draft.spec.task_digest[:12], draft.run.task_digest[:12]
    what = f"{case.notebook} holds task {task}, the gate judged {judged}"
    return [Blocker(what=what, fix="dvc repro")]


def _not_passed(root: Path, draft: Draft, case: UseCase) -> list[Blocker]:
    del root, case
    gate = draft.gate
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


def _drafts(root: Path, draft: Draft, case: UseCase) -> list[Blocker]:
    del case
    found = []
    for kind, reference in draft.spec.pins.items():
        try:
            version = registry.resolve(root, kind, reference)
        except WorkbenchError:
            fix = 'draft.save(reason="…"), name the number in params.yaml, then: dvc repro'
            found.append(Blocker(what=f"the judged run used {kind} {reference}, which is not saved", fix=fix))
            continue
        if kind == "prompt" and version.digest != draft.spec.digests["prompt"]:
            what = f"the judged run used another {reference} than the saved version"
            found.append(Blocker(what=what, fix="dvc repro"))
    return found


def _untyped(root: Path, draft: Draft, case: UseCase) -> list[Blocker]:
    notebook = inspection.read(root / case.notebook)
    found = [
        Blocker(
            what=f"parameter {name!r} of {case.notebook} has no type",
            fix=f"give it a default that is not None, or write {name}: TYPE = None",
        )
        for name, parameter in draft.spec.parameters.items()
        if not parameter.type
    ]
    if INPUTS not in notebook.parameters:
        what = f"{case.notebook} declares no parameter {INPUTS!r}, which names a job's input rows"
        found.append(Blocker(what=what, fix=f'add {INPUTS} = "" to its cell tagged `parameters`'))
    return found


def _never_due(root: Path, draft: Draft, case: UseCase) -> list[Blocker]:
    del root, case
    timing = draft.spec.schedule
    if timing is not None:
        try:
            Schedule.parse(timing.cron, timing.timezone, where=f"jobs.{draft.spec.job}.schedule")
        except ConfigError as error:
            return [Blocker(what=error.message, fix=f"in params.yaml {error.hint}")]
    return []


def screened(found: Sequence[screening.ScreeningFinding]) -> list[Blocker]:
    """Convert the screening's findings into blockers."""
    return [Blocker(what=f"{finding.where}: {finding.what}", fix=finding.fix) for finding in found]


def read_bytes(path: Path) -> bytes:
    """Return a file's bytes; an unreadable file raises NotFoundError."""
    try:
        return files.read_bytes(path)
    except OSError as error:
        raise NotFoundError(
            f"cannot read {path}: {error.strerror}",
            hint="correct its path in params.yaml, or restore it with git checkout",
        ) from None


def checked(found: list[Blocker], name: str) -> None:
    """Raise one ConfigError that lists all blockers, if any."""
    if not found:
        return
    lines = "\n".join(f"  - {blocker.what}\n    {blocker.fix}" for blocker in found)
    error = ConfigError(f"job/{name} cannot be promoted:\n{lines}", hint=found[0].fix)
    error.exit_code = found[0].exit_code
    raise error
