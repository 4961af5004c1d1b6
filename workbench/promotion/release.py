"""Release an asset: move a label to a version of a job, prompt, model or memory.

A move is a diff of `asset.yaml`, so it takes effect with the commit. A release writes its files first and
stages them in git last; after an interruption the same command writes them again.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench import files, registry
from workbench.context import Clock
from workbench.display import Card, Shown
from workbench.errors import ConfigError, NotFoundError, nearest
from workbench.files import folders
from workbench.layout import PROMOTED
from workbench.registry import Asset, Move
from workbench.repository.git import Repository

#: The kinds of assets.
KINDS = tuple(registry.FOLDERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Released(Shown):
    """A move of a label, done or proposed (`dry`).

    `rows` are the changes in production and `missing` the blockers, each with its fix. `committed` is
    the id of the commit, "" without a commit.
    """

    what: str
    label: str
    version: int
    before: int | None
    rows: tuple[tuple[str, str, str], ...] = ()
    notes: tuple[str, ...] = ()
    missing: tuple[tuple[str, str], ...] = ()
    dry: bool = False
    committed: str = ""
    command: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the value that `--json` prints."""
        return dataclasses.asdict(self)

    def card(self) -> Card:
        """Return the changes in production and the blockers."""
        done = "would be" if self.dry else "is"
        forbidden = [f"missing: {what}\n         {fix}" for what, fix in self.missing]
        before = "none" if self.before is None else f"@{self.before}"
        what = f"{self.what}@{self.version} {done} {self.label}"
        if self.version == registry.NO_VERSION:
            what = f"{self.what} {'would have' if self.dry else 'has'} no version in {self.label}"
        blocked = f": not yet, {len(self.missing)} missing" if self.missing else ""  # no verdict of a gate
        return Card(
            title=f"{what} (before: {before}){blocked}",
            head=["what", "live", "new"],
            rows=self.rows,
            notes=[*self.notes, *forbidden],
            command=self.command,
        )


def parse(reference: str) -> tuple[str, registry.Reference]:
    """Split `job/answers` or `prompt/answer@2` into kind and reference; ConfigError lists the kinds."""
    kind, slash, rest = reference.partition("/")
    if not slash or kind not in KINDS:
        raise ConfigError(
            f"{reference!r} names no asset ({nearest(kind, KINDS)})",
            hint="write KIND/NAME, for example job/answers or prompt/answer@2",
        )
    return kind, registry.Reference.parse(rest)


def check_label(kind: str, label: str) -> None:
    """Raise ConfigError for a kind without labels, and NotFoundError for an unknown label."""
    if kind == "generator":  # rows name the version that made them, and no run or job resolves one
        raise ConfigError(
            "a generator has no labels: each row names the version that made it",
            hint="workbench save generator/NAME   # a change is the next version",
        )
    if label not in registry.LABELS:
        raise NotFoundError(
            f"there is no label {label!r} ({nearest(label, registry.LABELS)})",
            hint="workbench promote --help",
        )
    if label in registry.TRIALS and kind != "job":
        raise ConfigError(
            f"a {kind} has no label {label!r}: only jobs run beside production",
            hint=f"workbench promote job/NAME@VERSION --to {label}",
        )


def check_share(asset: Asset, label: str, version: int, share: float | None) -> None:
    """Raise ConfigError for a share out of range or of another label, and for a canary beside no production.

    A canary needs another version in production, which answers the rest.
    """
    if share is not None and label != "canary":
        raise ConfigError(
            f"--share is for canaries, and {label} answers every row",
            hint=f"workbench promote job/{asset.name}@{version} --to canary --share 10%",
        )
    if share is not None and not 0 < share < 1:
        raise ConfigError(
            f"--share {share:g} is not between 0% and 100%",
            hint=f"workbench promote job/{asset.name}@{version} --to canary --share 10%",
        )
    live = asset.labels.get("production")
    if label in registry.TRIALS and live == version:
        raise ConfigError(
            f"job/{asset.name}@{version} is in production, and cannot be tried beside itself",
            hint=f"workbench promote job/{asset.name} --to {label}   # freezes the next version",
        )
    if label == "canary" and live is None:
        raise ConfigError(
            f"job/{asset.name} has no version in production that answers the rest",
            hint=f"workbench promote job/{asset.name}@{version} --to production",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelMove:
    """A move of a label that is to be written: to a version, or to NO_VERSION, for a reason."""

    label: str
    version: int
    reason: str
    run: str | None = None
    share: float | None = None


def move(
    root: Path, asset: Asset, *, label: str, version: int, reason: str, run: str | None, clock: Clock
) -> list[Path]:
    """Write `asset` with its label moved, as `write_move` does."""
    return write_move(
        root, asset, LabelMove(label=label, version=version, reason=reason, run=run), clock=clock
    )


def write_move(root: Path, asset: Asset, step: LabelMove, *, clock: Clock) -> list[Path]:
    """Write `asset` with its label moved, and for a job the list of stages; return the written files.

    A label that is on the version already gets no second move, unless its share changes. A version has one
    trial at a time, forward or back, and none in production. The caller holds the asset's lock.
    """
    for item in (step, *_ended_trials(asset, step)):
        asset = _moved(root, asset, item, clock)
    folders.purge(page_of(root, asset))
    written = [registry.write(root, asset)]
    return [*written, write_stages(root)] if asset.kind == "job" else written


def _ended_trials(asset: Asset, step: LabelMove) -> list[LabelMove]:
    """Return the moves that end the other trials of a version that is put on trial or into production."""
    others = set(registry.TRIALS) - {step.label} if step.label in {*registry.TRIALS, "production"} else ()
    return [
        LabelMove(
            label=label, version=registry.NO_VERSION, reason=f"{asset.name}@{step.version} is {step.label}"
        )
        for label in registry.TRIALS
        if label in others and asset.labels.get(label) == step.version
    ]


def _moved(root: Path, asset: Asset, step: LabelMove, clock: Clock) -> Asset:
    last = asset.last_move(step.label)
    same = asset.labels.get(step.label, registry.NO_VERSION) == step.version
    if same and (last is None or last.share == step.share):
        return asset
    by = Repository(root=root).author()
    at = clock.now().astimezone(dt.UTC).isoformat(timespec="seconds")
    return registry.moved(asset, Move(by=by, at=at, **dataclasses.asdict(step)))


def page_of(root: Path, asset: Asset) -> Path:
    """Return the path of an asset's `asset.yaml`, which holds its labels and moves."""
    return registry.folder_of(root, asset.kind, asset.name) / "asset.yaml"


def write_stages(root: Path) -> Path:
    """Write the list of labelled job versions, which have a stage in dvc.yaml; return its path."""
    path = root / PROMOTED
    with registry.locked(path.parent):  # the list covers all jobs: keep concurrent moves
        folders.purge(path)
        files.write_atomic(path, _stages(root))
    return path


def check_stages(root: Path) -> None:
    """Raise ConfigError unless the list of stages matches the labels."""
    path = root / PROMOTED
    if not path.is_file() or path.read_bytes() != _stages(root):
        raise ConfigError(
            f"{PROMOTED} does not list the versions that labels point to",
            hint=f"git checkout -- {PROMOTED}, or promote or roll back again, which writes it",
        )


def _stages(root: Path) -> bytes:
    labelled = {
        f"{name}-{number}": (name, number)
        for name in registry.names(root, "job")
        for number in sorted(set(registry.load(root, "job", name).labels.values()))
    }
    lines = [
        "# The versions that have a stage in dvc.yaml. Written by `workbench promote` and `rollback` alone.",
        "promoted:" if labelled else "promoted: {}",
    ]
    lines += [
        f"  {key}: {{name: {json.dumps(name)}, version: {number}}}"
        for key, (name, number) in sorted(labelled.items())
    ]
    return ("\n".join(lines) + "\n").encode()


def _place(path: Path) -> str:
    """Return a path to commit; an asset's folder stands for its files, which shortens the command."""
    parts = path.parts
    return "/".join(parts[:3]) if parts[0] == "pipelines" and len(parts) > 3 else path.as_posix()


def settle(
    root: Path, paths: Sequence[Path], *, message: str, commit: bool, after: str, exact: bool = False
) -> tuple[str, str]:
    """Stage the written files and commit them under `commit`; return the commit's id and the next command.

    With `exact` the commit holds these files alone, else everything in the folders of the assets.
    """
    repository = Repository(root=root)
    named = (path.relative_to(root) for path in paths)
    places = sorted({path.as_posix() if exact else _place(path) for path in named})
    repository.stage(places)
    if commit:
        return repository.commit(places, message), after
    return "", f"git commit -m {shlex.quote(message)} -- {shlex.join(places)}"
