"""Ask the policies whether a job's version may run and publish, with the approvals that it has today.

Each run imports this file, so the verification of approvals is loaded only where a version has some.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from workbench import config, registry
from workbench.context import Clock, SystemClock
from workbench.errors import NotFoundError, PolicyError, WorkbenchError
from workbench.jobs import spec as jobspec
from workbench.jobs.ledger import Role, open_ledger
from workbench.jobs.roles import roles_of, version_in_role, withdrawn_in
from workbench.jobs.spec import JobSpec
from workbench.policy import authorise
from workbench.ports.policy import Decision
from workbench.promotion.assured import phase_of
from workbench.registry import Reference

#: The most approvals that a policy is tried with, to tell whether more of them would permit a request.
_MOST_APPROVALS: Final = 9
#: The statements that may be approvals, as `job_approvals` finds them. Its import takes a tenth of a second.
APPROVALS: Final = "pipelines/evidence/{job}/{version}/approval-*.dsse.json"


class UnapprovedError(PolicyError):
    """The policies refuse a run that more approvals of its version would permit."""


def authorise_run(
    root: Path,
    reference: str,
    tenant: str | None,
    *,
    role: Role = "production",
    clock: Clock | None = None,
    dry: bool = False,
) -> Decision:
    """Return the decision on a job that runs a version and publishes its output; a `dry` one is not recorded.

    A run in the role shadow publishes nothing. The approvals of the version count as they are today; a run of
    the version in production also answers by the one in canary, which needs them too. For a denial, raise
    PolicyError, and UnapprovedError with the missing approvals.
    """
    name, clock = reference.partition("@")[0], clock or SystemClock()
    label, versions = _run_by(root, reference, role, clock)
    counts = [_counts(root, name, number, label, clock) for number in versions] or [(0, 0)]
    stated = {
        "label": label,
        "approvals": min(count for count, _ in counts),
        "independent": min(count for _, count in counts),
        **stated_phase(root, use_case_of(root, "job", name), *versions_of(root, name, versions)),
    }

    def decide(*, more: int, dry: bool) -> Decision:
        given = with_more(stated, more)
        return authorise.authorise_publication(root, name, tenant, circumstances=given, dry=dry)

    try:
        return decide(more=0, dry=dry)
    except PolicyError as error:
        lacking = missing_approvals(lambda more: decide(more=more, dry=True)) if versions else 0
        if not lacking:
            raise
        version = versions[counts.index(min(counts))]
        raise _unapproved(root, f"{name}@{version}", label, lacking, clock, error) from None


def use_case_of(root: Path, kind: str, name: str) -> str:
    """Return the use case of a job of params.yaml, "" for other assets and unknown jobs."""
    try:
        declared = config.load_params(root).jobs.get(name) if kind == "job" else None
    except WorkbenchError:
        return ""
    return declared.use_case if declared else ""


def stated_phase(root: Path, use_case: str, *versions: JobSpec) -> dict[str, str]:
    """Return the phase for the context of a request, as params.yaml is or is committed; {} when unknown.

    The use case of a version counts too, so that a job keeps its phase when params.yaml gives it to another
    one. A version's use case that params.yaml does not have counts as one in phase mlvp.
    """
    frozen = {spec.use_case for spec in versions}
    # Once for each name, because it may take a tenth of a second.
    found = {name: phase_of(root, name) for name in {use_case, *frozen} - {""}}
    phases = {phase or ("mlvp" if name in frozen else "") for name, phase in found.items()}
    phase = "mlvp" if "mlvp" in phases else "".join(phases - {""})
    return {"phase": phase} if phase else {}


def versions_of(root: Path, name: str, numbers: Iterable[int]) -> list[JobSpec]:
    """Return the pages of a job's versions that can be read; the run or release reports the others."""
    found = []
    for number in numbers:
        with suppress(WorkbenchError):
            found.append(jobspec.read(registry.resolve(root, "job", f"{name}@{number}").path))
    return found


def with_more(stated: dict[str, Any], more: int) -> dict[str, Any]:
    """Return the context of a request with so many more approvals, by persons who are independent."""
    more_of = {name: stated[name] + more for name in ("approvals", "independent")}
    return {**stated, **more_of}


def missing_approvals(decide: Callable[[int], Decision]) -> int:
    """Return how many more approvals would permit a request, 0 when none would."""
    for more in range(1, _MOST_APPROVALS + 1):
        try:
            decide(more)
        except PolicyError:
            continue
        return more
    return 0


def _counts(root: Path, name: str, version: int, label: str, clock: Clock) -> tuple[int, int]:
    """Return how many approvals of a version count, and how many of them are independent."""
    if not any(root.glob(APPROVALS.format(job=name, version=version))):
        return 0, 0
    from workbench.promotion.job_approvals import approvals_of

    found = approvals_of(root, name, version, label, now=clock.now())
    return len(found.counted), found.independent


def _unapproved(
    root: Path, reference: str, label: str, lacking: int, clock: Clock, denied: PolicyError
) -> UnapprovedError:
    from workbench.promotion.job_approvals import approvals_of, command_of

    name, _, number = reference.partition("@")
    found = approvals_of(root, name, int(number), label, now=clock.now())
    return UnapprovedError(
        f"{denied.message}\n{found.lacks(reference, lacking)}",
        hint=command_of(reference, label),
        policies=denied.policies,
        decision=denied.decision,
    )


def _run_by(root: Path, reference: str, role: Role, clock: Clock) -> tuple[str, list[int]]:
    """Return the label by which a reference is run, and the versions that answer; none for an unknown one.

    Raise RefusedError for a withdrawn version and for a job that is switched off.
    """
    ref = Reference.parse(reference)
    try:
        withdrawn = withdrawn_in(open_ledger(root, clock), ref.name)
        _, number = version_in_role(root, reference, role, withdrawn)
    except NotFoundError:  # the run reports it
        return role, []
    if role == "shadow":
        return role, [number]
    found = roles_of(root, ref.name, withdrawn=withdrawn)
    trial = [found.canary] if number == found.production and found.canary is not None else []
    label = role if ref.version is None and ref.label is None else ref.label or ""
    # A run that publishes is none of a shadow, whatever label names its version.
    return "" if label == "shadow" else label, [number, *trial]
