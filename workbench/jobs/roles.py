"""Find which version of a job runs in which role: by its labels, without the versions that were withdrawn.

A version in production answers and is published. A shadow answers the same slots, and its output is kept and
not published. A canary answers a share of the rows of production's runs.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from workbench import registry
from workbench.config.operations import load_operations
from workbench.config.rollout import DEFAULT_SHARE
from workbench.errors import NotFoundError, RefusedError
from workbench.jobs.shares import Share
from workbench.layout import STATE
from workbench.registry import Asset, Reference

if TYPE_CHECKING:
    from workbench.jobs.ledger import JobLedger, JobRun, Role

#: The orders to take a version back that are not finished, one file for each version.
WITHDRAWALS = STATE / "withdrawals"
#: The newest runs among which one whose output was rolled back is looked for: those of all tenants.
_LOOKED_AT = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRoles:
    """The versions of a job by their roles, None where there is none; `share` is the canary's."""

    production: int | None = None
    shadow: int | None = None
    canary: int | None = None
    share: Share | None = None

    def started(self) -> dict[Role, int]:
        """Return the roles that a schedule starts runs in, with their versions.

        A canary has no runs of its own: it answers rows of production's runs.
        """
        found: dict[Role, int] = {}
        if self.production is not None:
            found["production"] = self.production
        if self.shadow is not None:
            found["shadow"] = self.shadow
        return found


def roles_of(root: Path, job: str, *, withdrawn: Collection[int] = ()) -> JobRoles:
    """Return the versions of a job by their roles, without those that are withdrawn.

    For a withdrawn version in production, the version before it runs.
    """
    asset = registry.load(root, "job", job)
    production = asset.labels.get("production")
    if production in withdrawn:
        production = version_before(asset, "production", withdrawn) or None
    trials = {
        label: number
        for label in registry.TRIALS
        if (number := asset.labels.get(label)) is not None and number not in {*withdrawn, production}
    }
    canary = trials.get("canary") if production is not None else None
    return JobRoles(
        production=production, shadow=trials.get("shadow"), canary=canary,
        share=_share(root, asset, canary) if canary is not None else None,
    )  # fmt: skip


def _share(root: Path, asset: Asset, version: int) -> Share:
    move = asset.last_move("canary")
    stated = move.share if move is not None else None
    unit = load_operations(root).of(asset.name).rollout.unit
    return Share(salt=f"{asset.name}@{version}", share=DEFAULT_SHARE if stated is None else stated, unit=unit)


def version_before(asset: Asset, label: str, withdrawn: Collection[int]) -> int:
    """Return the version to which a label goes back: the latest that is not withdrawn, NO_VERSION for none.

    No version precedes a trial.
    """
    past = [] if label in registry.TRIALS else asset.past(label)[:-1]
    return next((number for number in reversed(past) if number not in withdrawn), registry.NO_VERSION)


def withdrawn_in(ledger: JobLedger, job: str) -> frozenset[int]:
    """Return the versions of a job that are withdrawn."""
    return frozenset(item.version for item in ledger.withdrawals(job))


def version_in_role(root: Path, reference: str, role: Role, withdrawn: Collection[int]) -> tuple[str, int]:
    """Return the job and version that runs for a reference: `answers`, `answers@2`, `answers@candidate`.

    A bare name is the version of the role. Raise NotFoundError for a role without a version, and RefusedError
    for a job that was switched off and for a version that is withdrawn.
    """
    ref = Reference.parse(reference)
    if ref.version is None and ref.label is None:
        found = roles_of(root, ref.name, withdrawn=withdrawn)
        number = found.production if role == "production" else getattr(found, role)
        if number is None:
            raise _without(root, ref.name, role, withdrawn)
        return ref.name, number
    number = registry.resolve(root, "job", reference).number
    if number in withdrawn:
        raise RefusedError(
            f"{ref.name}@{number} is withdrawn, and is not run",
            hint=f"workbench jobs rollout {ref.name}   # says why",
        )
    return ref.name, number


def _without(root: Path, job: str, role: str, withdrawn: Collection[int]) -> NotFoundError | RefusedError:
    """Return the error for a job that has no version in a role."""
    asset = registry.load(root, "job", job)
    known = [number for number in sorted(asset.versions) if number not in withdrawn]
    version = f"job/{job}@{known[-1]}" if known else f"job/{job}"
    hint = f"workbench promote {version} --to {role}"
    if role != "production":
        return NotFoundError(f"job {job!r} has no version in {role}", hint=hint)
    labelled = asset.labels.get("production")
    if labelled is not None:
        return RefusedError(
            f"{job}@{labelled} is withdrawn, and no version in production precedes it",
            hint=f"{hint}   # after the fix, as the next version: workbench promote job/{job}",
        )
    last = asset.last_move("production")
    if last is not None and last.version == registry.NO_VERSION:
        return RefusedError(
            f"job {job!r} was switched off at {last.at} by {last.by}: {shlex.quote(last.reason)}",
            hint=hint,
        )
    return NotFoundError(
        f"job {job!r} has no version in production", hint=f"workbench promote job/{job} --to production"
    )


def is_to_be_decided(root: Path, ledger: JobLedger, job: str) -> bool:
    """Return whether a decision about the job's versions may be due: a trial, a check that failed, or a kill.

    It costs a file and a query, so that runs of jobs without a trial do not load the comparison.
    """
    if any((root / WITHDRAWALS).glob("*.json")):
        return True
    if last_rolled_back(ledger, job) is not None:
        return True
    return bool(registry.load(root, "job", job).labels.keys() & {*registry.TRIALS})


def last_rolled_back(ledger: JobLedger, job: str) -> JobRun | None:
    """Return the newest run of production whose output a check rolled back, of the latest runs."""
    runs = ledger.history(job, role="production", limit=_LOOKED_AT)
    return next((run for run in runs if run.outcome == "rolled_back"), None)
