"""Approve a version of a job, and revoke the approval: signed statements in the version's evidence."""

from __future__ import annotations

import dataclasses
import datetime as dt
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from workbench import registry
from workbench.attestations import Envelope, Statement, folder_of, signed, store
from workbench.attestations.folder import SUFFIX, read
from workbench.attestations.trust import KEYS, person
from workbench.audit.acts import Act, audited
from workbench.context import Clock, SystemClock, instant, new_id
from workbench.display import Card, Shown
from workbench.errors import ConfigError, NotFoundError, RefusedError, WorkbenchError
from workbench.identity import Principal
from workbench.jobs import spec as jobspec
from workbench.policy import authorise
from workbench.promotion import release
from workbench.promotion.assured import check_authenticated, mover
from workbench.promotion.job_approvals import (
    REVOCATION,
    ApprovalRules,
    JobApproval,
    approvals_of,
    by_themselves,
    statement_about,
)
from workbench.promotion.run_rights import stated_phase, use_case_of
from workbench.registry import Version
from workbench.repository.git import Repository

_MOST_TEXT: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class JobApprovalOptions:
    """Options of an approval: its label, role, reason and end (default: in a year), and whether to commit.

    With `revoke`, the approvals that the same person gave are revoked instead.
    """

    label: str = "production"
    role: str = ""
    reason: str = ""
    until: dt.date | None = None
    revoke: bool = False
    commit: bool = False
    clock: Clock = field(default_factory=SystemClock)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobApproved(Shown):
    """The approvals of a version that one person gave or, when `revoked`, revoked, and their files.

    `committed` is the id of the commit, "" without one.
    """

    reference: str
    approvals: tuple[JobApproval, ...]
    paths: tuple[str, ...]
    revoked: bool = False
    committed: str = ""
    command: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the value that `--json` prints."""
        return dataclasses.asdict(self)

    def card(self) -> Card:
        """Return what was approved or revoked, by whom, for which label and until when."""
        rows = []
        for item, path in zip(self.approvals, self.paths, strict=True):
            rows += [
                ("label", item.label),
                ("by", f"{person(item.principal)} ({item.assurance})"),
                *([("role", item.role)] if item.role else []),
                ("until", item.until),
                *([("reason", item.reason)] if item.reason else []),
                ("statement", path),
            ]
        done = "no longer approved" if self.revoked else "approved"
        title = f"job/{self.reference} is {done} by {person(self.approvals[0].principal)}"
        return Card(title=title, head=("what", ""), rows=rows, command=self.command)


def approve_version(root: Path, reference: str, order: JobApprovalOptions) -> JobApproved:
    """Write a signed approval of the version `job/NAME@2`, or revoke the person's own.

    Raise PolicyError when no policy permits it; RefusedError for the author of the version, for a key that is
    not trusted, for a version that is not committed, and for a person who is not authenticated where the use
    case demands it; ConfigError for a reference without a version, a wrong label, day or text. Nothing is
    written then. The audit log has the beginning and the end.
    """
    version = _version(root, reference, order)
    who = mover(root).principal
    act = Act(
        activity="revoke" if order.revoke else "approve",
        principal=who, type="Job", name=str(version), use_case=use_case_of(root, "job", version.name),
        reason=order.reason, facts={"label": order.label},
    )  # fmt: skip
    with audited(root, act) as facts:
        facts["decision"] = _authorised(root, version, order)
        check_authenticated(root, "job", version.name, verb="approve")
        done = (_revoke if order.revoke else _approve)(root, version, who, order)
        facts |= {"job": version.digest, "nonces": [item.nonce for item in done.approvals]}
    return done


def _version(root: Path, reference: str, order: JobApprovalOptions) -> Version:
    """Return the version after checking the reference, the label, the texts and every byte of its files."""
    kind, ref = release.parse(reference)
    release.check_label(kind, order.label)
    if ref.version is None and ref.label is None:
        newest = max(registry.load(root, kind, ref.name).versions, default=1)
        raise ConfigError(
            f"{reference!r} names no version, and an approval is of one version",
            hint=f"workbench approve job/{ref.name}@{newest}",
        )
    for key in ("role", "reason"):
        if len(getattr(order, key)) > _MOST_TEXT:
            raise ConfigError(f"an approval has a {key} of at most {_MOST_TEXT:,} characters")
    version = registry.resolve(root, kind, reference.partition("/")[2])
    jobspec.load(root, version.name, version.number)
    place = version.path.parent.relative_to(root).as_posix()
    if left := Repository(root=root).changed(below=[place]):
        raise RefusedError(
            f"job/{version} is not committed ({left[0]}), and another person could not see what is approved",
            hint=f"git commit -- {place}",
        )
    return version


def _authorised(root: Path, version: Version, order: JobApprovalOptions) -> dict[str, Any]:
    """Return the decision of the policies on the approval; raise PolicyError for a denial."""
    use_case = use_case_of(root, "job", version.name)
    context = authorise.system_context(root, use_case, found=mover(root))
    about = authorise.asset("job", version.name, version=version.number, label=order.label)
    stated = {"label": order.label} | stated_phase(root, use_case)
    return authorise.authorise(root, context, "approve", about, circumstances=stated).to_json()


def _approve(root: Path, version: Version, who: Principal, order: JobApprovalOptions) -> JobApproved:
    now = order.clock.now()
    approval = JobApproval(
        job=version.name, version=version.number, label=order.label, principal=who.name,
        assurance=who.assurance, author=Repository(root=root).signer(), role=order.role.strip(),
        reason=order.reason.strip(), at=instant(now), until=str(_until(version, order, now.date())),
        nonce=new_id(),
    )  # fmt: skip
    rules = ApprovalRules.load(root, version.name, version.number, order.label, now=now)
    if author := by_themselves(approval, rules.authors):
        raise _blocked(
            f"{person(who.name)} is the author of job/{version} ({person(author)}), "
            "which another person approves",
            f'another person runs: workbench approve job/{version} --reason "…"',
        )
    known = approvals_of(root, version.name, version.number, order.label, now=now).counted
    if any(item.principal == who.name and item.until >= approval.until for item in known):
        raise ConfigError(
            f"{person(who.name)} has approved job/{version} for {order.label} until {approval.until}",
            hint=f"workbench promote job/{version} --to {order.label} --dry-run",
        )
    approval = _begun(root, version, approval)
    envelope = signed(root, approval.statement(version.digest), who.name)
    _check_counts(rules, envelope, approval)
    path = store(root, version.name, version.number, f"approval-{approval.nonce}", envelope)
    return _settled(root, version, [approval], [path], order)


def _begun(root: Path, version: Version, approval: JobApproval) -> JobApproval:
    """Return the same approval of a command that was interrupted before its commit, else this one."""
    unsettled = _unsettled(root, version)
    for item in _named(root, version, approval.principal):
        same = dataclasses.replace(item, at=approval.at, nonce=approval.nonce) == approval
        if same and _place(version, "approval", item) in unsettled:
            return item
    return approval


def _check_counts(rules: ApprovalRules, envelope: Envelope, approval: JobApproval) -> None:
    """Raise RefusedError unless the approval will count: a key that nobody trusts approves nothing."""
    try:
        rules.checked(envelope, approval.nonce)
    except WorkbenchError as error:
        raise _blocked(
            f"the approval of {person(approval.principal)} would not count: {error.message}",
            error.hint or "workbench evidence trust --role approver   # then commit it",
        ) from None


def _revoke(root: Path, version: Version, who: Principal, order: JobApprovalOptions) -> JobApproved:
    """Revoke every approval of the version that names the person and has no committed revocation."""
    unsettled = _unsettled(root, version)
    found, paths = [], []
    for approval in _named(root, version, who.name):
        place = _place(version, "revocation", approval)
        if (root / place).exists() and place not in unsettled:
            continue
        found.append(approval)
        paths.append(root / place)
        if place not in unsettled:  # else it is that of a command that was interrupted
            _store_revocation(root, version, approval, order)
    if not found:
        raise NotFoundError(
            f"{person(who.name)} has given job/{version} no approval that is not revoked",
            hint=f"ls {folder_of(version.name, version.number)}, or revoke a key in {KEYS}",
        )
    return _settled(root, version, found, paths, order)


def _store_revocation(root: Path, version: Version, approval: JobApproval, order: JobApprovalOptions) -> None:
    predicate = {
        "job": version.name, "version": version.number, "nonce": approval.nonce,
        "principal": approval.principal, "reason": order.reason.strip(), "at": instant(order.clock.now()),
    }  # fmt: skip
    statement = statement_about(version.name, version.number, version.digest, REVOCATION, predicate)
    envelope = signed(root, statement, approval.principal)
    store(root, version.name, version.number, f"revocation-{approval.nonce}", envelope)


def _named(root: Path, version: Version, principal: str) -> list[JobApproval]:
    """Return the approvals that name a person; unreadable ones count for nobody."""
    found = []
    for path in sorted((root / folder_of(version.name, version.number)).glob(f"approval-*{SUFFIX}")):
        try:
            approval = JobApproval.of(Statement.parse(read(path).payload, where=path.name))
        except WorkbenchError:
            continue
        if approval.principal == principal:
            found.append(approval)
    return found


def _place(version: Version, kind: str, approval: JobApproval) -> str:
    """Return the path of the statement of an approval or of its revocation, relative to the repository."""
    return (folder_of(version.name, version.number) / f"{kind}-{approval.nonce}{SUFFIX}").as_posix()


def _unsettled(root: Path, version: Version) -> list[str]:
    """Return the paths of the statements about a version that are not committed."""
    place = folder_of(version.name, version.number).as_posix()
    return Repository(root=root).changed(below=[place])


def _settled(
    root: Path, version: Version, approvals: list[JobApproval], paths: list[Path], order: JobApprovalOptions
) -> JobApproved:
    """Stage the statements and no other file, and commit them under `order.commit`."""
    places = [path.relative_to(root).as_posix() for path in paths]
    message = f"{'Revoke the approval of' if order.revoke else 'Approve'} job/{version} for {order.label}"
    repository, committed = Repository(root=root), ""
    repository.stage(places)
    command = f"git commit -m {shlex.quote(message)} -- {shlex.join(places)}"
    if order.commit:
        committed = repository.commit(places, message)
        command = "workbench check" if order.revoke else f"workbench promote job/{version} --to {order.label}"
    return JobApproved(
        reference=str(version), approvals=tuple(approvals), paths=tuple(places), revoked=order.revoke,
        committed=committed, command=command,
    )  # fmt: skip


def _until(version: Version, order: JobApprovalOptions, today: dt.date) -> dt.date:
    """Return the day on which the approval ends; ConfigError for one that is not in the next year."""
    latest = today + dt.timedelta(days=JobApproval.MOST_DAYS)
    until = order.until or latest
    if not today < until <= latest:
        raise ConfigError(
            f"--until {until} is not between tomorrow and {latest}",
            hint=f"workbench approve job/{version} --until {latest}",
        )
    return until


def _blocked(message: str, hint: str) -> RefusedError:
    error = RefusedError(message, hint=hint)
    error.exit_code = ConfigError.exit_code  # as what blocks a promotion; 3 is a fault
    return error
