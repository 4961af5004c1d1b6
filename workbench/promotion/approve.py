"""Approve a model: note who allows a card with its assessment, in which role, why and until when."""

from __future__ import annotations

import dataclasses
import datetime as dt
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench import registry
from workbench.audit.acts import Act, audited
from workbench.context import Clock, SystemClock, instant
from workbench.display import Card, Shown
from workbench.errors import ConfigError, NotFoundError, RefusedError
from workbench.layout import ASSESSMENTS
from workbench.models.approval import Approval, read_approvals, write_approvals
from workbench.models.assessment import Assessment, path_of, read_assessment
from workbench.policy import authorise
from workbench.promotion import assessed, release
from workbench.promotion.assured import check_authenticated, mover
from workbench.registry import Version
from workbench.repository.git import Repository

_MOST_TEXT = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalOptions:
    """Options of an approval: role, reason, its end (default: the assessment's), and whether to commit."""

    role: str
    reason: str
    until: dt.date | None = None
    commit: bool = False
    clock: Clock = field(default_factory=SystemClock)


@dataclass(frozen=True, slots=True, kw_only=True)
class Approved(Shown):
    """An approval that was written. `committed` is the id of the commit, "" without one."""

    approval: Approval
    data_classes: tuple[str, ...]
    path: str
    committed: str = ""
    command: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the value that `--json` prints."""
        raw = dataclasses.asdict(self)
        raw["approval"]["until"] = str(self.approval.until)
        return raw

    def card(self) -> Card:
        """Return what was approved, by whom and until when."""
        item = self.approval
        rows = [
            ("card", f"{item.card} ({item.digest[:12]})"),
            ("assessment", f"{path_of(item.card.partition('@')[0])} ({item.assessment[:12]})"),
            ("data classes", ", ".join(self.data_classes)),
            ("by", f"{item.by}, {item.role}"),
            ("until", str(item.until)),
            ("reason", item.reason),
        ]
        title = f"model/{item.card} is approved"
        return Card(title=title, head=("what", ""), rows=rows, command=self.command)


def approve(root: Path, reference: str, order: ApprovalOptions) -> Approved:
    """Approve the card `model/NAME` or `model/NAME@2` with its assessment as it is; return the approval.

    Raise PolicyError when no policy permits it, RefusedError when the person wrote the card or the assessment
    or is not authenticated where a use case of the model demands it, and ConfigError for an incomplete or
    expired assessment, a missing role, reason or name in git, and a wrong day. Nothing is approved then. The
    audit log has the beginning and the end.
    """
    version = _version(root, reference)
    context = authorise.system_context(root, found=mover(root))
    act = Act(
        activity="approve", principal=context.principal, type="Model", name=str(version), reason=order.reason
    )
    with audited(root, act) as facts:
        about = authorise.asset("model", version.name, version=version.number)
        facts["decision"] = authorise.authorise(root, context, "approve", about).to_json()
        check_authenticated(root, "model", version.name, verb="approve")
        done = _approve(root, version, order)
        facts |= {
            "card": done.approval.digest,
            "assessment": done.approval.assessment,
            "until": str(done.approval.until),
        }
    return done


def _approve(root: Path, version: Version, order: ApprovalOptions) -> Approved:
    assessment = read_assessment(root, version.name)
    if assessment is None:
        raise NotFoundError(
            f"the model {version.name} is unassessed: there is no {path_of(version.name)}",
            hint=f"workbench assess {version.name}",
        )
    approval = _approval(root, version, assessment, order)
    with registry.locked(root / ASSESSMENTS):
        known = read_approvals(root, version.name)
        if any(_repeats(approval, item) for item in known):
            raise ConfigError(
                f"{approval.by} has approved model/{version} with this assessment until {approval.until}",
                hint="workbench check",
            )
        written = write_approvals(root, version.name, [*known, approval])
    committed, command = release.settle(
        root,
        [written, root / path_of(version.name)],
        message=f"Approve model/{version} until {approval.until}",
        commit=order.commit,
        after="workbench check",
    )
    return Approved(
        approval=approval,
        data_classes=assessment.data_classes,
        path=written.relative_to(root).as_posix(),
        committed=committed,
        command=command,
    )


def _version(root: Path, reference: str) -> Version:
    kind, ref = release.parse(reference)
    if kind != "model":
        raise ConfigError(
            f"{reference!r} is no model, and only models and versions of jobs are approved",
            hint=f"workbench promote {kind}/{ref.name}",
        )
    return registry.resolve(root, "model", reference.partition("/")[2])


def _approval(root: Path, version: Version, assessment: Assessment, order: ApprovalOptions) -> Approval:
    """Return the approval after every check."""
    now = order.clock.now()
    again = f'workbench approve model/{version} --role "…" --reason "…"'
    for key in ("role", "reason"):
        value = getattr(order, key)
        if not value.strip() or len(value) > _MOST_TEXT:
            raise ConfigError(f"an approval needs a {key} of 1 to {_MOST_TEXT:,} characters", hint=again)
    place = path_of(version.name)
    if gaps := assessment.gaps(now.date()):
        raise ConfigError(
            f"{place} cannot be approved: {'; '.join(gaps)}",
            hint=f"edit {place}, then: workbench assess {version.name}",
        )
    by = Repository(root=root).signer()
    author = registry.load(root, "model", version.name).versions[version.number].author
    if assessed.own_work(by, assessment, author):
        refused = RefusedError(
            f"{by} wrote the card or the assessment of {version}, and another person must approve it",
            hint=f"another person runs: {again}",
        )
        refused.exit_code = ConfigError.exit_code  # as what blocks a promotion; 3 is a fault
        raise refused
    return Approval(
        card=str(version), digest=version.digest, assessment=assessment.digest, by=by,
        role=order.role.strip(), at=instant(now), until=_until(assessment, order, now.date()),
        reason=order.reason.strip(),
    )  # fmt: skip


def _until(assessment: Assessment, order: ApprovalOptions, today: dt.date) -> dt.date:
    """Return the day on which the approval ends, at the latest that of the assessment."""
    latest = assessment.expires
    assert latest is not None  # noqa: S101  `gaps` names a missing day
    until = order.until or latest
    if not today < until <= latest:
        raise ConfigError(
            f"--until {until} is not between tomorrow and {latest}, when the assessment expires",
            hint=f"--until {latest}, or a later `expires` in {shlex.quote(str(path_of(assessment.model)))}",
        )
    return until


def _repeats(approval: Approval, known: Approval) -> bool:
    """Whether a known approval says the same, at another time or in other words."""
    same = ("digest", "assessment", "by", "until")
    return all(getattr(approval, key) == getattr(known, key) for key in same)
