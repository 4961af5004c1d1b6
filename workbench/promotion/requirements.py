"""Check the requirements of a promotion; each blocker has the command that fixes it.

The checks run no notebook. Every check is made, so that a card lists all blockers at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from workbench import config, files, registry
from workbench.attestations.folder import EVIDENCE
from workbench.config import UseCase
from workbench.errors import ConfigError, NotFoundError, UnavailableError, WorkbenchError
from workbench.experiments.gates import GateReport
from workbench.experiments.runs import Run
from workbench.jobs.schedule import Schedule
from workbench.jobs.spec import JobSpec
from workbench.layout import LOCK
from workbench.notebooks import inspection
from workbench.notebooks.inspection import INPUTS, Notebook
from workbench.promotion import assessed
from workbench.promotion.enforced import unenforced
from workbench.repository import dvc, environments
from workbench.repository.git import Repository

if TYPE_CHECKING:
    from workbench.notebooks.screening import ScreeningFinding

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


def missing(root: Path, draft: Draft, case: UseCase) -> list[Blocker]:
    """Return every blocker that shows without a clean run, the most serious first."""
    from workbench.notebooks import screening  # its patterns take long to compile; most importers judge runs

    notebook = inspection.read(root / case.notebook)
    return [
        *_not_reproduced(root, draft, case),
        *_not_judged(draft, case),
        *_not_saved(root, draft),
        *_not_priced(draft),
        *not_enforced(draft.spec.use_case, case),
        *not_assessed(root, draft.spec, case),
        *_not_runnable(notebook, draft),
        *screened(screening.screen(notebook, lock=read_bytes(root / LOCK))),
    ]


def _not_reproduced(root: Path, draft: Draft, case: UseCase) -> Iterator[Blocker]:
    """Yield blockers for uncommitted changes, stale results and another environment."""
    results = [*RESULTS, f"{case.report}.md", f"{EVIDENCE}/{draft.spec.job}"]  # left by a cut off promotion
    if left := Repository(root=root).changed(besides=results):
        shown = ", ".join(left[:5]) + (f" and {len(left) - 5} more" if len(left) > 5 else "")
        yield Blocker(what=f"uncommitted: {shown}", fix='git add --all && git commit -m "…"')
    if stale := stale_stages(root, draft.spec.use_case):
        what = f"the results are not of what is committed: {', '.join(stale)}"
        yield Blocker(what=what, fix="make repro")
    try:
        environments.python_of(root, read_bytes(root / LOCK), install_hint="make repro")
    except UnavailableError:
        yield Blocker(what=f"this environment is not the one of {LOCK}", fix="make repro")


def stale_stages(root: Path, use_case: str) -> list[str]:
    """Return the stages up to the judged run that `dvc status` reports as changed."""
    stages = [f"{stage}@{use_case}" for stage in ("settings", "prepare", "remember", "judge")]
    return sorted(dvc.status(root, *stages))


def _not_judged(draft: Draft, case: UseCase) -> Iterator[Blocker]:
    """Yield blockers for another task than the judged one and for a gate that did not pass."""
    gate = draft.gate
    if draft.spec.task_digest != draft.run.task_digest:
        task, judged = draft.spec.task_digest[:12], draft.run.task_digest[:12]
        yield Blocker(what=f"{case.notebook} holds task {task}, the gate judged {judged}", fix="dvc repro")
    if not gate.stated_before:
        what = "the gate's text is not the one the run was made under"
        yield Blocker(what=what, fix="dvc repro", exit_code=1)
    elif gate.verdict != "pass":
        lines = "; ".join(line.title for line in gate.lines if line.verdict == gate.verdict)
        what = f"the {gate.phase} gate says {gate.verdict}: {lines}"
        yield Blocker(what=what, fix=f"workbench gate {gate.use_case}/{gate.arm}", exit_code=gate.exit_code)


def _not_saved(root: Path, draft: Draft) -> Iterator[Blocker]:
    """Yield blockers for drafts and for a prompt that changed since the judged run."""
    for pin, reference in draft.spec.pins.items():
        kind = pin.partition(".")[0]  # `model.1` is the first fall-back
        try:
            version = registry.resolve(root, kind, reference)
        except WorkbenchError:
            fix = f"{_how_to_save(kind, reference)}, name the version in params.yaml, then: dvc repro"
            yield Blocker(what=f"the judged run used {kind} {reference}, which is not saved", fix=fix)
            continue
        if kind == "prompt" and version.digest != draft.spec.digests["prompt"]:
            what = f"the judged run used another {reference} than the saved version"
            yield Blocker(what=what, fix="dvc repro")


def _not_priced(draft: Draft) -> Iterator[Blocker]:
    """Yield a blocker for each model whose price is unknown: nothing would say what the job costs."""
    for reference, source in draft.run.settings.get("model_price", {}).items():
        if not source:
            what = f"the price of the model {reference} is unknown, and a job states what it costs"
            fix = (
                "write price_per_million into the next version of its card, or beside base_url where "
                "params.yaml names the endpoint (docs/models.md), then: dvc repro"
            )
            yield Blocker(what=what, fix=fix)


def not_enforced(name: str, case: UseCase) -> Iterator[Blocker]:
    """Yield a blocker for rules that are only observed in phase mlvp."""
    if problem := unenforced(name, case):
        what, _, fix = problem.partition("\n  -> ")
        yield Blocker(what=what, fix=fix)


def not_assessed(root: Path, spec: JobSpec, case: UseCase) -> list[Blocker]:
    """Return a blocker for each model of a version that phase mlvp does not allow; none in another phase."""
    if not assessed.demanded(case):
        return []
    found = assessed.problems(root, spec.use_case, case, assessed.models_of(root, case, spec.pins))
    return [Blocker(what=problem.text, fix=problem.fix, exit_code=1) for problem in found]


def not_assessed_yet(root: Path, spec: JobSpec, case: UseCase) -> list[str]:
    """Return one note on the models that phase mlvp would refuse; none in that phase, which refuses them."""
    if assessed.demanded(case):
        return []
    found = assessed.problems(root, spec.use_case, case, assessed.models_of(root, case, spec.pins))
    names = sorted({problem.model or "handles is not stated" for problem in found})
    return [f"phase mlvp will refuse: {', '.join(names)} (workbench check)"] if names else []


def model_not_assessed(root: Path, version: registry.Version) -> list[Blocker]:
    """Return a blocker for each problem of a model's version in a use case that names it in phase mlvp."""
    found: dict[str, Blocker] = {}
    for name, case in config.load_params(root).use_cases.items():
        named = {reference.partition("@")[0] for reference in assessed.models_of(root, case)}
        if assessed.demanded(case) and version.name in named:
            for problem in assessed.problems(root, name, case, [str(version)]):
                found[problem.text] = Blocker(what=problem.text, fix=problem.fix, exit_code=1)
    return list(found.values())


def _how_to_save(kind: str, reference: str) -> str:
    """Return what saves a version of an asset; an endpoint's name of a model may be no name of a card."""
    if kind == "prompt":
        return 'draft.save(reason="…")'
    if kind == "memory":
        return f'workbench save memory/{reference.partition("@")[0]} --reason "…"'
    name = re.sub(r"[^a-z0-9]+", "-", reference.rpartition("/")[2].lower()).strip("-") or "NAME"
    place = f"pipelines/models/{name}/1.yaml"
    return f'write the card {place} (docs/models.md), workbench save model/{name} --reason "…"'


def _not_runnable(notebook: Notebook, draft: Draft) -> Iterator[Blocker]:
    """Yield blockers for untyped parameters, a missing parameter `inputs`, and a wrong schedule."""
    path, timing = draft.spec.notebook, draft.spec.schedule
    for name, parameter in draft.spec.parameters.items():
        if not parameter.type:
            fix = f"give it a default that is not None, or write {name}: TYPE = None"
            yield Blocker(what=f"parameter {name!r} of {path} has no type", fix=fix)
    if INPUTS not in notebook.parameters:
        what = f"{path} declares no parameter {INPUTS!r}, which names a job's input rows"
        yield Blocker(what=what, fix=f'add {INPUTS} = "" to its cell tagged `parameters`')
    if timing is not None:
        try:
            Schedule.parse(timing.cron, timing.timezone, where=f"jobs.{draft.spec.job}.schedule")
        except ConfigError as error:
            yield Blocker(what=error.message, fix=f"in params.yaml {error.hint}")


def screened(found: Sequence[ScreeningFinding]) -> list[Blocker]:
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


def checked(found: list[Blocker], name: str, *, verb: str = "promoted") -> None:
    """Raise one ConfigError that lists all blockers, if any."""
    if not found:
        return
    lines = "\n".join(f"  - {blocker.what}\n    {blocker.fix}" for blocker in found)
    error = ConfigError(f"job/{name} cannot be {verb}:\n{lines}", hint=found[0].fix)
    error.exit_code = found[0].exit_code
    raise error
