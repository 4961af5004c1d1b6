"""`promote` and `rollback` for jobs, prompts, models and memories."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from workbench import config, files, registry
from workbench.attestations.folder import EVIDENCE
from workbench.audit import Act, audited
from workbench.config import UseCase
from workbench.config.operations import load_operations
from workbench.config.rollout import DEFAULT_SHARE
from workbench.context import Clock, SystemClock
from workbench.errors import ConfigError, UnavailableError, WorkbenchError
from workbench.experiments.gates import GateReport
from workbench.experiments.loosening import loosened
from workbench.forking import kept
from workbench.jobs import runner, versions
from workbench.jobs import spec as jobspec
from workbench.jobs.answered_models import compare_models, models_of
from workbench.jobs.ledger import open_ledger
from workbench.jobs.spec import JobSpec
from workbench.layout import judge_tape_of
from workbench.promotion import diff as differences
from workbench.promotion import evidence, freezing, going_back, release, requirements, verdicts
from workbench.promotion.assured import check_authenticated, mover
from workbench.promotion.judgement import judged, run_of, spec_of, verdicted
from workbench.promotion.justification import justified
from workbench.promotion.release import Released
from workbench.promotion.release_rights import (
    ReleaseRequest,
    Verb,
    missing_for_production,
    release_rights,
)
from workbench.promotion.requirements import Blocker, Draft
from workbench.promotion.self_trusted import notes_on_keys
from workbench.registry import Asset, VersionEntry
from workbench.repository import dvc
from workbench.repository.git import Repository


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseOptions:
    """Options of a release: its label and reason, a dry run, and whether to commit.

    `show` writes progress to standard error. `share` is the share of rows or tenants of a canary.
    """

    label: str = "production"
    reason: str = ""
    share: float | None = None
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
        share = "" if self.share is None else f" --share {self.share:.6g}"
        return f"workbench promote {reference} --to {self.label}{share}{reason}"

    def request(self, verb: Verb, kind: str, name: str, version: int | None) -> ReleaseRequest:
        """Return what the policies are asked about this release of a version; None is one yet to be made."""
        return ReleaseRequest(
            verb=verb, kind=kind, name=name, version=version or 0, label=self.label, dry=self.dry_run,
            clock=self.clock,
        )  # fmt: skip

    def move_to(self, version: int, *, reason: str, run: str | None) -> release.LabelMove:
        """Return the move of the label to a version, for the stated reason or else this one."""
        return release.LabelMove(
            label=self.label, version=version, reason=self.reason or reason, run=run, share=self.share
        )


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
    rights = release_rights(root, order.request("promote", kind, ref.name, ref.version))
    facts["decision"] = rights.decision
    if order.label == "production" and not order.dry_run:
        check_authenticated(root, kind, ref.name, verb="promote")
    _, _, named = reference.partition("/")
    if kind != "job":
        return _promote_spec(root, kind, named, order)
    promoted = _promote_job if named == ref.name else _promote_version
    return promoted(root, named, order, rights.blockers)


def rollback(
    root: Path, reference: str, order: ReleaseOptions, *, to: int | Literal["none"] | None = None
) -> Released:
    """Move the label back to the version before, or to `to`; a dirty working tree is allowed.

    With "none" a job is left without a version, and its runs are refused. A trial (shadow or canary) ends.
    ConfigError when the label is on that version already, NotFoundError when no version precedes it.
    """
    with _audited(root, "rollback", reference, order) as facts:
        done = _rolled_back(root, reference, order, to, facts)
        facts |= {"version": done.version, "before": done.before}
    return done


def _rolled_back(
    root: Path,
    reference: str,
    order: ReleaseOptions,
    to: int | Literal["none"] | None,
    facts: dict[str, Any],
) -> Released:
    kind, ref = release.parse(reference)
    release.check_label(kind, order.label)
    if not reference.endswith(f"/{ref.name}"):
        raise ConfigError(
            f"{reference!r} names a version; a rollback takes its target version from --to",
            hint=f"workbench rollback {kind}/{ref.name} --to {ref.version or 'VERSION'}",
        )
    target = going_back.target_of(root, kind, ref.name, order.label, to)
    rights = release_rights(root, order.request("rollback", kind, ref.name, target))
    requirements.checked([*rights.blockers], ref.name, verb="rolled back")
    facts["decision"] = rights.decision
    if order.label == "production" and not order.dry_run:
        check_authenticated(root, kind, ref.name, verb="roll back")
    asset = registry.load(root, kind, ref.name)
    now, back = going_back.versions_of(root, asset, order.label, target, commit=order.commit)
    rows = _back_rows(root, asset, now, back)
    done = Released(
        what=f"{kind}/{ref.name}", label=order.label, version=back, before=now, rows=tuple(rows),
        notes=_back_notes(root, asset, back, order), dry=order.dry_run,
        command=f"workbench rollback {kind}/{ref.name} --to {back or 'none'}",
    )  # fmt: skip
    run = asset.versions[back].run if back != registry.NO_VERSION else None
    return _release(root, asset, done, order, verb="Roll back", run=run, after="dvc repro")


def _notes_to_come(
    root: Path, spec: JobSpec, case: UseCase, version: int, order: ReleaseOptions
) -> tuple[str, ...]:
    """Return notes on what phase mlvp and production will refuse of a draft."""
    unapproved = missing_for_production(root, order.request("promote", "job", spec.job, version))
    return (*requirements.not_assessed_yet(root, spec, case), *unapproved)


def _back_notes(root: Path, asset: Asset, number: int, order: ReleaseOptions) -> tuple[str, ...]:
    """Return notes on the environment and the approvals that the target of a rollback lacks."""
    if asset.kind != "job" or number == registry.NO_VERSION:
        return ()
    unapproved = missing_for_production(root, order.request("rollback", "job", asset.name, number))
    return (*_environment_note(root, asset, number), *unapproved)


def _environment_note(root: Path, asset: Asset, number: int) -> tuple[str, ...]:
    """Return a note when the version's environment is missing; the release installs it first."""
    if asset.kind != "job" or number == registry.NO_VERSION:
        return ()
    if versions.has_environment(root, jobspec.load(root, asset.name, number)[0]):
        return ()
    reference = f"{asset.name}@{number}"
    note = f"the environment of {reference} is not installed here, and is installed before the label moves"
    return (f"{note} (workbench jobs install {reference})",)


def _ensure_environment(root: Path, asset: Asset, number: int, order: ReleaseOptions) -> None:
    """Install a job version's environment; the version cannot run without it."""
    if asset.kind != "job" or number == registry.NO_VERSION:
        return
    spec, _ = jobspec.load(root, asset.name, number)
    try:
        versions.install(root, spec, say=order.say)
    except WorkbenchError as error:
        message = f"{spec.reference} cannot run here, and {order.label} was not moved: {error.message}"
        failure = type(error)(message, hint=error.hint or f"workbench jobs install {spec.reference}")
        raise failure from error


def _back_rows(root: Path, asset: Asset, now: int, back: int) -> differences.Rows:
    """Return the changes of a rollback, after checking the target version's files and code."""
    if back == registry.NO_VERSION:
        return [("version", str(now), "none: runs are refused")]
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


def _promote_job(
    root: Path, name: str, order: ReleaseOptions, unapproved: Sequence[Blocker] = ()
) -> Released:
    job = config.job(config.load_params(root), name)
    case = config.use_case(config.load_params(root), job.use_case)
    asset = registry.load_or_new(root, "job", name)
    release.check_share(asset, order.label, max(asset.versions, default=0) + 1, order.share)
    order.say("checking commits, results and verdict (git, dvc status and the gate)")
    run = freezing.judged_run(root, job.use_case, case)
    gate = judged(root, job.use_case, case, run)
    draft = freezing.draft(root, name, job, case, gate, run)
    missing = [*unapproved, *_missing(root, draft, case, order)]
    with kept.kept_templates():  # the clean run, that on the cases, and the stage of the version
        return _promote_draft(root, asset, draft, case, order, missing)


def _promote_draft(
    root: Path, asset: Asset, draft: Draft, case: UseCase, order: ReleaseOptions, missing: list[Blocker]
) -> Released:
    """Run a draft without known blockers alone, then write it as a version."""
    name, counts = asset.name, dict[str, Any]()
    live = spec_of(root, name, asset.labels.get("production"))
    if not missing:
        order.say(f"running the frozen notebook alone on its sample (at most {freezing.CLEAN_S} s)")
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
            *differences.gate_rows(draft.gate, draft.run, run_of(root, live) if live else None),
        ),
        notes=(*differences.freezes(draft, counts), *_notes_to_come(root, draft.spec, case, version, order)),
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
    evidence.check_possible(root)
    with registry.locked(folder):
        asset = registry.load_or_new(root, "job", asset.name)
        again = _same(root, asset, draft.spec)
        labelled = again is not None and asset.labels.get(order.label) == again
        if labelled and not Repository(root=root).changed(
            below=["pipelines/jobs", f"{EVIDENCE}/{asset.name}"]
        ):
            raise ConfigError(
                f"nothing to promote: job/{asset.name}@{again} is in {order.label} with the same content",
                hint=f"workbench jobs run {asset.name}",
            )
        if again is None:
            asset = _with_version(root, asset, draft, order)
        version = again or max(asset.versions)
        step = order.move_to(
            version, reason=f"{draft.gate.phase} gate passed on run {draft.run.id}", run=draft.run.id
        )
        release.write_move(root, asset, step, clock=order.clock)
    order.say("reproducing the pipeline with the new version (dvc repro)")
    _reproduce(root, show=order.show)
    card = evidence.added(root, asset.name, version, card, order.clock)
    # The tree was clean before, except for files of an interrupted promotion: this release owns all changes.
    changed = [root / place for place in Repository(root=root).changed(besides=["published"])]
    message = f"Promote job/{asset.name}@{version} to {order.label}"
    committed, command = release.settle(
        root, changed, message=message, commit=order.commit, after=_next_of(asset.name, order.label)
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
    """Return the newest version that differs in its evidence only, or None.

    A version that was judged on the answers of another model differs, also where these are the same.
    """
    for version in sorted(asset.versions, reverse=True):
        path = registry.path_of(root, "job", asset.name, version)
        known = jobspec.read(path)
        if known.content() == spec.content():
            return None if _is_judged_anew(root, known, path.parent) else version
    return None


def _is_judged_anew(root: Path, known: JobSpec, folder: Path) -> bool:
    """Whether the judge's tape names a model that neither a version's tape nor its judge's tape names."""
    tape = judge_tape_of(known.use_case)
    before = Repository(root=root).read(known.commit, str(tape)) or b""
    return bool(compare_models(models_of(folder / jobspec.TAPE, before), models_of(root / tape)).changed)


def _promote_version(
    root: Path, named: str, order: ReleaseOptions, unapproved: Sequence[Blocker] = ()
) -> Released:
    """Move a label to an existing version, for example from candidate to production."""
    found = registry.resolve(root, "job", named)
    asset, run_it = registry.load(root, "job", found.name), f"workbench jobs run {found.name}"
    release.check_share(asset, order.label, found.number, order.share)
    now, last = asset.labels.get(order.label), asset.last_move(order.label)
    same = now == found.number and last is not None and last.share == order.share
    if same and not going_back.is_cut_off(root, asset, commit=order.commit):
        raise ConfigError(f"job/{found} is in {order.label} already", hint=run_it)
    spec, _ = jobspec.load(root, found.name, found.number)
    jobspec.code_of(root, spec)
    live = spec_of(root, found.name, asset.labels.get("production"))
    missing = [*_withdrawn(root, found, order), *unapproved, *_unassessed(root, spec)]
    card = Released(
        what=f"job/{found.name}", label=order.label, version=found.number, before=now,
        rows=tuple(differences.spec_rows(live, spec)), dry=order.dry_run,
        notes=(
            *_environment_note(root, asset, found.number),
            *_share_note(root, asset.name, order),
            *missing_for_production(root, order.request("promote", "job", found.name, found.number)),
            *notes_on_keys(root, found.name, found.number, order.label, now=order.clock.now()),
        ),
        missing=tuple((miss.what, miss.fix) for miss in missing),
        command=missing[0].fix if missing else f"workbench promote job/{found} --to {order.label}",
    )  # fmt: skip
    if not order.dry_run:
        requirements.checked(missing, str(found))
    return _release(
        root, asset, card, order, verb="Promote", run=spec.run, after=_next_of(found.name, order.label)
    )


def _share_note(root: Path, job: str, order: ReleaseOptions) -> list[str]:
    """Say how many rows or tenants a canary answers."""
    if order.label != "canary":
        return []
    share = DEFAULT_SHARE if order.share is None else order.share
    return [f"answers {100 * share:.6g}% of the {load_operations(root).of(job).rollout.unit}s"]


def _next_of(job: str, label: str) -> str:
    """Return the command after a promotion: how a trial goes, or the first run."""
    return f"workbench jobs {'rollout' if label in registry.TRIALS else 'run'} {job}"


def _withdrawn(root: Path, version: registry.Version, order: ReleaseOptions) -> list[Blocker]:
    """Return a blocker for a version that was taken back, which no label runs."""
    known = open_ledger(root, order.clock).withdrawals(version.name)
    return [
        Blocker(
            what=f"{version} was withdrawn at {item.at:%Y-%m-%d %H:%MZ}: {item.reason}",
            fix=f'workbench jobs restore {version} --reason "…"',
            exit_code=1,
        )
        for item in known
        if item.version == version.number
    ]


def _unassessed(root: Path, spec: JobSpec) -> list[Blocker]:
    """Return what phase mlvp refuses about policies and models of a version whose use case is in it now."""
    case = config.load_params(root).use_cases.get(spec.use_case)
    if case is None:
        return []
    return [*requirements.not_enforced(spec.use_case, case), *requirements.not_assessed(root, spec, case)]


def _reproduce(root: Path, *, show: bool) -> None:
    """Run `dvc repro`, so that the new version's stage and results are in the same commit."""
    words = runner.shown(show=show)
    code, interrupted = dvc.repro(root, stdout=words, stderr=words, variables=kept.variables())
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
    if now == found.number and not going_back.is_cut_off(root, asset, commit=order.commit):
        raise ConfigError(f"{kind}/{found} is in {order.label} already", hint="workbench check")
    gate = justified(root, kind, found, order.reason)
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
        step = order.move_to(card.version, reason=verb, run=run)
        written = release.write_move(root, asset, step, clock=order.clock)
    target = card.version or "none"
    message = f"{verb} {card.what} {'to' if verb == 'Roll back' else 'version'} {target}: {card.label}"
    committed, command = release.settle(root, written, message=message, commit=order.commit, after=after)
    return dataclasses.replace(card, committed=committed, command=command)
