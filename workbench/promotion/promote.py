"""`promote` and `rollback` for jobs, prompts, models and memories."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench import config, files, registry
from workbench.audit import Act, audited
from workbench.config import UseCase
from workbench.context import Clock, SystemClock
from workbench.errors import ConfigError, NotFoundError, UnavailableError, WorkbenchError
from workbench.experiments.gates import GateReport
from workbench.experiments.loosening import loosened
from workbench.jobs import runner, versions
from workbench.jobs import spec as jobspec
from workbench.jobs.spec import JobSpec
from workbench.policy import authorise
from workbench.promotion import diff as differences
from workbench.promotion import freezing, release, requirements, verdicts
from workbench.promotion.assured import check_authenticated, mover
from workbench.promotion.judgement import judged, run_of, spec_of, verdicted
from workbench.promotion.release import Released
from workbench.promotion.requirements import Blocker, Draft
from workbench.registry import Asset, VersionEntry
from workbench.repository import dvc
from workbench.repository.git import Repository


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseOptions:
    """Options of a release: its label and reason, a dry run, and whether to commit.

    `show` writes progress to standard error.
    """

    label: str = "production"
    reason: str = ""
    dry_run: bool = False
    commit: bool = False
    show: bool = True
    clock: Clock = field(default_factory=SystemClock)

    def say(self, text: str) -> None:
        """Write a line of progress to standard error when `show` is set."""
        if self.show:
            sys.stderr.write(f"{text}\n")

    def command(self, reference: str) -> str:
        """Return the command that promotes `reference` with this label and reason."""
        reason = f" --reason {shlex.quote(self.reason)}" if self.reason else ""
        return f"workbench promote {reference} --to {self.label}{reason}"


def promote(root: Path, reference: str, order: ReleaseOptions) -> Released:
    """Freeze a job's notebook as its next version and move the label to it.

    A reference that names a version moves the label to that version. One ConfigError lists every
    blocker; with `dry_run` the card lists them and nothing is written.
    """
    with _audited(root, "promote", reference, order) as facts:
        done = _promoted(root, reference, order, facts)
        facts |= {"version": done.version, "before": done.before}
    return done


def _audited(
    root: Path, verb: str, reference: str, order: ReleaseOptions
) -> AbstractContextManager[dict[str, Any]]:
    """Return the block whose beginning and end the audit log has; of a dry run it has nothing."""
    if order.dry_run:
        return contextlib.nullcontext({})
    kind, _, name = reference.partition("/")
    return audited(
        root,
        Act(
            activity=verb, principal=mover(root).principal, type=kind.capitalize(), name=name,
            reason=order.reason, facts={"label": order.label},
        ),
    )  # fmt: skip


def _promoted(root: Path, reference: str, order: ReleaseOptions, facts: dict[str, Any]) -> Released:
    kind, ref = release.parse(reference)
    release.check_label(kind, order.label)
    facts["decision"] = _authorise(root, "promote", kind, ref, order)
    if order.label == "production" and not order.dry_run:
        check_authenticated(root, kind, ref.name, verb="promote")
    _, _, named = reference.partition("/")
    if kind != "job":
        return _promote_spec(root, kind, named, order)
    return _promote_job(root, named, order) if named == ref.name else _promote_version(root, named, order)


def rollback(root: Path, reference: str, order: ReleaseOptions, *, to: int | None = None) -> Released:
    """Move the label back to the version before, or to `to`; a dirty working tree is allowed.

    ConfigError when the label is on that version already, NotFoundError when no version precedes it.
    """
    with _audited(root, "rollback", reference, order) as facts:
        done = _rolled_back(root, reference, order, to, facts)
        facts |= {"version": done.version, "before": done.before}
    return done


def _rolled_back(
    root: Path, reference: str, order: ReleaseOptions, to: int | None, facts: dict[str, Any]
) -> Released:
    kind, ref = release.parse(reference)
    release.check_label(kind, order.label)
    if not reference.endswith(f"/{ref.name}"):
        raise ConfigError(
            f"{reference!r} names a version; a rollback takes its target version from --to",
            hint=f"workbench rollback {kind}/{ref.name} --to {ref.version or 'VERSION'}",
        )
    facts["decision"] = _authorise(
        root, "rollback", kind, registry.Reference(name=ref.name, version=to), order
    )
    if order.label == "production" and not order.dry_run:
        check_authenticated(root, kind, ref.name, verb="roll back")
    asset = registry.load(root, kind, ref.name)
    if order.label not in asset.labels:
        raise NotFoundError(
            f"{kind}/{ref.name} has no version in {order.label}",
            hint=f"workbench promote {kind}/{ref.name} --to {order.label}",
        )
    now, back = _begun(root, asset, order, to) or (
        asset.labels[order.label], asset.before(order.label) if to is None else to
    )  # fmt: skip
    if back is None:
        raise NotFoundError(
            f"{kind}/{ref.name} has never had another version in {order.label} before {now}",
            hint=f"workbench rollback {kind}/{ref.name} --to VERSION; there are {sorted(asset.versions)}",
        )
    if back == now:
        raise ConfigError(f"{kind}/{ref.name}@{back} is in {order.label} already", hint="workbench jobs list")
    rows = _back_rows(root, asset, now, back)
    done = Released(
        what=f"{kind}/{ref.name}", label=order.label, version=back, before=now, rows=tuple(rows),
        notes=_environment_note(root, asset, back), dry=order.dry_run,
        command=f"workbench rollback {kind}/{ref.name} --to {back}",
    )  # fmt: skip
    run = asset.versions[back].run
    return _release(root, asset, done, order, verb="Roll back", run=run, after="dvc repro")


def _authorise(
    root: Path, action: str, kind: str, reference: registry.Reference, order: ReleaseOptions
) -> dict[str, Any]:
    """Return the decision on moving the label; PolicyError unless it permits the user of this process."""
    version = reference.version if isinstance(reference.version, int) else 0
    about = authorise.asset(kind, reference.name, version=version, label=order.label)
    context = authorise.system_context(root, _use_case_of(root, kind, reference.name), found=mover(root))
    return authorise.authorise(root, context, action, about, dry=order.dry_run).to_json()


def _use_case_of(root: Path, kind: str, name: str) -> str:
    """Return the use case of a job of params.yaml, "" for other assets and unknown jobs."""
    try:
        declared = config.load_params(root).jobs.get(name) if kind == "job" else None
    except WorkbenchError:
        return ""
    return declared.use_case if declared else ""


def _environment_note(root: Path, asset: Asset, number: int) -> tuple[str, ...]:
    """Return a note when the version's environment is missing; the release installs it first."""
    if asset.kind != "job" or versions.has_environment(root, jobspec.load(root, asset.name, number)[0]):
        return ()
    reference = f"{asset.name}@{number}"
    note = f"the environment of {reference} is not installed here, and is installed before the label moves"
    return (f"{note} (workbench jobs install {reference})",)


def _ensure_environment(root: Path, asset: Asset, number: int, order: ReleaseOptions) -> None:
    """Install a job version's environment; the version cannot run without it."""
    if asset.kind != "job":
        return
    spec, _ = jobspec.load(root, asset.name, number)
    try:
        versions.install(root, spec, say=order.say)
    except WorkbenchError as error:
        message = f"{spec.reference} cannot run here, and {order.label} was not moved: {error.message}"
        failure = type(error)(message, hint=error.hint or f"workbench jobs install {spec.reference}")
        raise failure from error


def _begun(root: Path, asset: Asset, order: ReleaseOptions, to: int | None) -> tuple[int, int] | None:
    """Return the source and target versions of an interrupted rollback; None when none was interrupted."""
    past = [move.version for move in asset.moves if move.label == order.label]
    # After a promotion, `before` is the label's previous version; after a rollback it is an older version.
    went_back = len(past) > 1 and asset.before(order.label) != past[-2] and to in {None, past[-1]}
    return (past[-2], past[-1]) if went_back and _cut_off(root, asset, order) else None


def _cut_off(root: Path, asset: Asset, order: ReleaseOptions) -> bool:
    """Whether a written move is unstaged, or uncommitted under `commit`: its command was interrupted."""
    page = release.page_of(root, asset).relative_to(root).as_posix()
    return bool(Repository(root=root).changed(below=[page], staged=order.commit))


def _back_rows(root: Path, asset: Asset, now: int, back: int) -> differences.Rows:
    """Return the changes of a rollback, after checking the target version's files and code."""
    registry.resolve(root, asset.kind, f"{asset.name}@{back}")
    if asset.kind != "job":
        return differences.entry_rows(asset, now, back)
    spec, _ = jobspec.load(root, asset.name, back)
    jobspec.code_of(root, spec)
    try:
        live, _ = jobspec.load(root, asset.name, now)
    except ConfigError:  # a damaged live version must not prevent its rollback
        return differences.entry_rows(asset, now, back)
    return differences.spec_rows(live, spec)


# -- jobs -----------------------------------------------------------------------------------------


def _promote_job(root: Path, name: str, order: ReleaseOptions) -> Released:
    job = config.job(config.load_params(root), name)
    case = config.use_case(config.load_params(root), job.use_case)
    asset = registry.load_or_new(root, "job", name)
    live = spec_of(root, name, asset.labels.get("production"))
    order.say("checking commits, results and verdict (git, dvc status and the gate)")
    run = freezing.judged_run(root, job.use_case, case)
    gate = judged(root, job.use_case, case, run)
    draft = freezing.draft(root, name, job, case, gate, run)
    missing, counts = _missing(root, draft, case, order), {}
    if not missing:
        limit = f"about a minute, at most {freezing.CLEAN_S} s"
        order.say(f"running the frozen notebook alone on its sample ({limit})")
        clean, missing = freezing.clean_run(root, draft, case, show=order.show)
        if clean is not None:
            draft, counts = freezing.finished(draft, clean), dict(clean.counts)
    version = _same(root, asset, draft.spec) or draft.spec.version
    card = Released(
        what=f"job/{name}",
        label=order.label,
        version=version,
        before=asset.labels.get(order.label),
        rows=(
            *differences.spec_rows(live, draft.spec),
            *differences.gate_rows(gate, run, run_of(root, live) if live else None),
        ),
        notes=(*differences.freezes(draft, counts), *requirements.not_assessed_yet(root, draft.spec, case)),
        missing=tuple((miss.what, miss.fix) for miss in missing),
        dry=order.dry_run,
        command=missing[0].fix if missing else order.command(f"job/{name}"),
    )
    if order.dry_run:
        return card
    requirements.checked(missing, name)
    return _write_job(root, asset, draft, card, order)


def _missing(root: Path, draft: Draft, case: UseCase, order: ReleaseOptions) -> list[Blocker]:
    """Return every blocker that shows without a clean run."""
    name, gate = draft.spec.use_case, draft.gate
    found = loosened(verdicted(root, name, case, draft.run, gate), verdicts.recorded(root, name))
    return [
        *requirements.missing(root, draft, case),
        *verdicts.blockers(root, name, found, order.reason, job=draft.spec.job, label=order.label),
    ]


def _write_job(root: Path, asset: Asset, draft: Draft, card: Released, order: ReleaseOptions) -> Released:
    folder = registry.folder_of(root, "job", asset.name)
    with registry.locked(folder):
        asset = registry.load_or_new(root, "job", asset.name)
        again = _same(root, asset, draft.spec)
        labelled = again is not None and asset.labels.get(order.label) == again
        if labelled and not Repository(root=root).changed(below=["pipelines/jobs"]):
            raise ConfigError(
                f"nothing to promote: job/{asset.name}@{again} is in {order.label} with the same content",
                hint=f"workbench jobs run {asset.name}",
            )
        if again is None:
            asset = _with_version(root, asset, draft, order)
        version = again or max(asset.versions)
        release.move(
            root,
            asset,
            label=order.label,
            version=version,
            reason=order.reason or f"{draft.gate.phase} gate passed on run {draft.run.id}",
            run=draft.run.id,
            clock=order.clock,
        )
    order.say("reproducing the pipeline with the new version (dvc repro)")
    _reproduce(root, show=order.show)
    # The tree was clean before, except for files of an interrupted promotion: this release owns all changes.
    changed = [root / place for place in Repository(root=root).changed(besides=["published"])]
    message = f"Promote job/{asset.name}@{version} to {order.label}"
    committed, command = release.settle(
        root, changed, message=message, commit=order.commit, after=f"workbench jobs run {asset.name}"
    )
    return dataclasses.replace(card, version=version, committed=committed, command=command)


def _with_version(root: Path, asset: Asset, draft: Draft, order: ReleaseOptions) -> Asset:
    """Write the draft's folder and return the asset with it as the next version."""
    number = max(asset.versions, default=0) + 1  # the draft's own, unless another promotion was faster
    folder = freezing.write(
        root, dataclasses.replace(draft, spec=dataclasses.replace(draft.spec, version=number))
    )
    entry = VersionEntry(
        digest=files.digest(files.read_bytes(folder / jobspec.PAGE)),
        author=Repository(root=root).author(),
        reason=order.reason or f"{draft.gate.phase} gate passed on run {draft.run.id}",
        parent=asset.labels.get("production"),
        run=draft.run.id,
    )
    return dataclasses.replace(asset, versions={**asset.versions, number: entry})


def _same(root: Path, asset: Asset, spec: JobSpec) -> int | None:
    """Return the newest version that differs in its evidence only, or None."""
    for version in sorted(asset.versions, reverse=True):
        known = jobspec.read(registry.path_of(root, "job", asset.name, version))
        if known.content() == spec.content():
            return version
    return None


def _promote_version(root: Path, named: str, order: ReleaseOptions) -> Released:
    """Move a label to an existing version, for example from candidate to production."""
    found = registry.resolve(root, "job", named)
    asset, run_it = registry.load(root, "job", found.name), f"workbench jobs run {found.name}"
    now = asset.labels.get(order.label)
    if now == found.number and not _cut_off(root, asset, order):
        raise ConfigError(f"job/{found} is in {order.label} already", hint=run_it)
    spec, _ = jobspec.load(root, found.name, found.number)
    jobspec.code_of(root, spec)
    live = spec_of(root, found.name, asset.labels.get("production"))
    missing = _unassessed(root, spec)
    card = Released(
        what=f"job/{found.name}", label=order.label, version=found.number, before=now,
        rows=tuple(differences.spec_rows(live, spec)), dry=order.dry_run,
        notes=_environment_note(root, asset, found.number),
        missing=tuple((miss.what, miss.fix) for miss in missing),
        command=missing[0].fix if missing else f"workbench promote job/{found} --to {order.label}",
    )  # fmt: skip
    if not order.dry_run:
        requirements.checked(missing, str(found))
    return _release(root, asset, card, order, verb="Promote", run=spec.run, after=run_it)


def _unassessed(root: Path, spec: JobSpec) -> list[Blocker]:
    """Return what phase mlvp refuses about policies and models of a version whose use case is in it now."""
    case = config.load_params(root).use_cases.get(spec.use_case)
    if case is None:
        return []
    return [*requirements.not_enforced(spec.use_case, case), *requirements.not_assessed(root, spec, case)]


def _reproduce(root: Path, *, show: bool) -> None:
    """Run `dvc repro`, so that the new version's stage and results are in the same commit."""
    words = runner.shown(show=show)
    code, interrupted = dvc.repro(root, stdout=words, stderr=words)
    if interrupted:
        raise KeyboardInterrupt
    if code:
        try:
            files.read_yaml(root / "dvc.lock")
        except ConfigError as error:  # DVC writes it in place: a killed DVC leaves a partial file
            raise ConfigError(
                f"the version is written, but dvc.lock is damaged: {error.message}",
                hint="git checkout -- dvc.lock, then run the same command again",
            ) from None
        raise UnavailableError(
            "the version is written, but `dvc repro` stopped; its output above names the stage",
            hint="fix what it names, then run the same command again",
        )


# -- prompts, models, memories ----------------------------------------------------------------------


def _promote_spec(root: Path, kind: str, named: str, order: ReleaseOptions) -> Released:
    found = registry.resolve(root, kind, named)
    asset = registry.load(root, kind, found.name)
    now = asset.labels.get(order.label)
    if now == found.number and not _cut_off(root, asset, order):
        raise ConfigError(f"{kind}/{found} is in {order.label} already", hint="workbench check")
    gate = _justified(root, kind, found, order.reason)
    missing = [gate] if isinstance(gate, Blocker) and order.label == "production" else []
    if kind == "model" and order.label == "production":
        missing += requirements.model_not_assessed(root, found)
    card = Released(
        what=f"{kind}/{found.name}", label=order.label, version=found.number, before=now,
        rows=tuple(differences.entry_rows(asset, now, found.number)),
        notes=tuple(differences.lines_of(root, asset, now, found.number)),
        missing=tuple((miss.what, miss.fix) for miss in missing), dry=order.dry_run,
        command=missing[0].fix if missing else order.command(f"{kind}/{found}"),
    )  # fmt: skip
    if missing and not order.dry_run:
        what = "; ".join(miss.what for miss in missing)
        error = ConfigError(f"{kind}/{found} cannot be promoted: {what}", hint=missing[0].fix)
        error.exit_code = missing[0].exit_code
        raise error
    run = gate.run if isinstance(gate, GateReport) else None
    return _release(root, asset, card, order, verb="Promote", run=run, after="workbench check")


def _justified(root: Path, kind: str, version: registry.Version, reason: str | None) -> GateReport | Blocker:
    """Return the passing gate report of a judged run that used this version, or else the blocker.

    A pass under a loosened text justifies nothing without a `reason`.
    """
    fix = f"name version {version.number} in params.yaml, then: dvc repro"
    what = f"no judged run used {kind}/{version} and passed its gate"
    blocker = Blocker(what=what, fix=fix, exit_code=1)
    for name, case in config.load_params(root).use_cases.items():
        try:
            run = freezing.judged_run(root, name, case)
        except NotFoundError:
            continue  # that use case has not been reproduced here
        if run.settings.get(kind) != str(version):
            continue
        report = judged(root, name, case, run)
        if report.verdict != "pass":
            continue
        found = loosened(verdicted(root, name, case, run, report), verdicts.recorded(root, name))
        unexcused = verdicts.unexcused(name, found, reason, asset=f"{kind}/{version}", label="production")
        if unexcused is None:
            return report
        blocker = unexcused
    return blocker


def _release(
    root: Path, asset: Asset, card: Released, order: ReleaseOptions, *, verb: str, run: str | None, after: str
) -> Released:
    """Move the label as the card says, stage the files, and commit them under `order.commit`.

    A dry run returns the card alone. A job version's environment is installed first.
    """
    if order.dry_run:
        return card
    _ensure_environment(root, asset, card.version, order)
    with registry.locked(registry.folder_of(root, asset.kind, asset.name)):
        asset = registry.load(root, asset.kind, asset.name)
        written = release.move(
            root,
            asset,
            label=card.label,
            version=card.version,
            reason=order.reason or verb,
            run=run,
            clock=order.clock,
        )
    message = f"{verb} {card.what} {'to' if verb == 'Roll back' else 'version'} {card.version}: {card.label}"
    committed, command = release.settle(root, written, message=message, commit=order.commit, after=after)
    return dataclasses.replace(card, committed=committed, command=command)
