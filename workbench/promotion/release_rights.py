"""Ask the policies for a release, with the approvals of the job's version.

What only approvals keep from being permitted is a blocker, which says how many are missing, of whom, and what
to type.
"""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from workbench import registry
from workbench.context import Clock, SystemClock
from workbench.errors import PolicyError, WorkbenchError
from workbench.policy import authorise
from workbench.ports.policy import Decision
from workbench.promotion.assured import mover
from workbench.promotion.job_approvals import VersionApprovals, approvals_of, approvers_of, command_of
from workbench.promotion.requirements import Blocker
from workbench.promotion.run_rights import (
    missing_approvals,
    stated_phase,
    use_case_of,
    versions_of,
    with_more,
)

Verb = Literal["promote", "rollback"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseRequest:
    """A move of a label that the policies are asked for.

    `version` is 0 where a promotion makes the next version. Nothing is recorded of a `dry` run.
    """

    verb: Verb
    kind: str
    name: str
    version: int
    label: str
    dry: bool = False
    clock: Clock = field(default_factory=SystemClock)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseRights:
    """The decision on a release as JSON, and the blockers: none, or that approvals are missing."""

    decision: dict[str, Any]
    blockers: tuple[Blocker, ...] = ()


def release_rights(root: Path, request: ReleaseRequest) -> ReleaseRights:
    """Return the decision of the policies on a release by the user of this process.

    Raise PolicyError for a denial that no approval would change.
    """
    use_case = use_case_of(root, request.kind, request.name)
    context = authorise.system_context(root, use_case, found=mover(root))
    about = authorise.asset(request.kind, request.name, version=request.version, label=request.label)
    approvals = _approvals(root, request)
    versions = versions_of(root, request.name, [request.version]) if request.kind == "job" else []
    stated = approvals.circumstances() | stated_phase(root, use_case, *versions)

    def decide(*, more: int, dry: bool) -> Decision:
        given = with_more(stated, more)
        return authorise.authorise(root, context, request.verb, about, dry=dry, circumstances=given)

    try:
        return ReleaseRights(decision=decide(more=0, dry=request.dry).to_json())
    except PolicyError as error:
        lacking = missing_approvals(lambda more: decide(more=more, dry=True)) if request.kind == "job" else 0
        if not lacking:
            raise
        denied = {"id": error.decision, "allowed": False, "policies": list(error.policies)}
        return ReleaseRights(decision=denied, blockers=(_blocker(request, approvals, lacking, error),))


def missing_for_production(root: Path, request: ReleaseRequest) -> tuple[str, ...]:
    """Return a note on the approvals that a job's version lacks for production, () when it lacks none.

    A promotion to production has no note, because its blockers say the same.
    """
    if (request.verb, request.label) == ("promote", "production"):
        return ()
    asked = dataclasses.replace(request, verb="promote", label="production", dry=True)
    try:
        found = release_rights(root, asked)
    except WorkbenchError:  # another problem than approvals
        return ()
    return tuple(f"production needs more: {blocker.what} ({blocker.fix})" for blocker in found.blockers)


def _approvals(root: Path, request: ReleaseRequest) -> VersionApprovals:
    """Return the approvals of the version that a label moves to.

    None count for a rollback that cannot read them: a damaged file must not prevent the way back.
    """
    if request.kind != "job":
        return VersionApprovals(label=request.label)
    if request.verb == "rollback":
        with contextlib.suppress(WorkbenchError):
            before = registry.load(root, "job", request.name).before(request.label)
            return _known(root, request, request.version or before or 0)
        return VersionApprovals(label=request.label)
    return _known(root, request, request.version)


def _known(root: Path, request: ReleaseRequest, version: int) -> VersionApprovals:
    """Return the approvals of a version, none of one that is yet to be made."""
    if version not in registry.load_or_new(root, "job", request.name).versions:
        return VersionApprovals(label=request.label, approvers=approvers_of(root, ()))
    return approvals_of(root, request.name, version, request.label, now=request.clock.now())


def _blocker(
    request: ReleaseRequest, approvals: VersionApprovals, lacking: int, error: PolicyError
) -> Blocker:
    if not request.version:
        by = f" [{', '.join(error.policies)}]" if error.policies else ""
        return Blocker(
            what=f"a new version goes to {request.label} once another person has approved it{by}",
            fix=f"workbench promote job/{request.name} --to candidate",
            exit_code=1,
        )
    reference = f"{request.name}@{request.version}"
    return Blocker(
        what=approvals.lacks(reference, lacking), fix=command_of(reference, request.label), exit_code=1
    )
