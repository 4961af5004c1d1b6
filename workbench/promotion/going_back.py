"""Find the versions that a rollback leaves and goes back to, also for one that was interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from workbench import registry
from workbench.errors import ConfigError, NotFoundError
from workbench.promotion import release
from workbench.registry import Asset
from workbench.repository.git import Repository


def target_of(root: Path, kind: str, name: str, label: str, to: int | Literal["none"] | None) -> int | None:
    """Return the version that a rollback names: NO_VERSION for "none", None for the version before.

    A rollback of a trial ends it, because no trial precedes a trial. NotFoundError for an unknown version.
    """
    if to == "none" or (to is None and label in registry.TRIALS):
        return registry.NO_VERSION
    return to if to is None else registry.resolve(root, kind, f"{name}@{to}").number


def versions_of(root: Path, asset: Asset, label: str, target: int | None, *, commit: bool) -> tuple[int, int]:
    """Return the version that a label leaves and the one that it goes back to.

    Those of an interrupted rollback, if there is one. NotFoundError when the label has no version, or none
    before, and ConfigError when it is on the target already or no version is left to what is not a job.
    """
    what, begun = f"{asset.kind}/{asset.name}", _begun(root, asset, label, target, commit=commit)
    if begun is None and label not in asset.labels:
        raise NotFoundError(
            f"{what} has no version in {label}", hint=f"workbench promote {what} --to {label}"
        )
    now, back = begun or (asset.labels[label], asset.before(label) if target is None else target)
    known = f"workbench rollback {what} --to VERSION; there are {sorted(asset.versions)}"
    if back is None:
        off = "; --to none switches the job off" if asset.kind == "job" else ""
        raise NotFoundError(
            f"{what} has never had another version in {label} before {now}", hint=f"{known}{off}"
        )
    if back == registry.NO_VERSION and asset.kind != "job":
        raise ConfigError(
            f"{what} cannot be without a version in {label}; only a job can be switched off", hint=known
        )
    if back == now:
        raise ConfigError(f"{what}@{back} is in {label} already", hint="workbench jobs list")
    return now, back


def _begun(root: Path, asset: Asset, label: str, to: int | None, *, commit: bool) -> tuple[int, int] | None:
    """Return the source and target versions of an interrupted rollback; None when none was interrupted."""
    past = [move.version for move in asset.moves if move.label == label]
    # After a promotion, `before` is the label's previous version; after a rollback it is an older version.
    went_back = len(past) > 1 and asset.before(label) != past[-2] and to in {None, past[-1]}
    return (past[-2], past[-1]) if went_back and is_cut_off(root, asset, commit=commit) else None


def is_cut_off(root: Path, asset: Asset, *, commit: bool) -> bool:
    """Whether a written move is unstaged, or uncommitted under `commit`: its command was interrupted."""
    page = release.page_of(root, asset).relative_to(root).as_posix()
    return bool(Repository(root=root).changed(below=[page], staged=commit))
