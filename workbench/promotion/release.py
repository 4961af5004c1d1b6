"""Releasing: moving a label to a version, of a job or of what jobs are made of, and back again.

A label's move is a diff of `asset.yaml`, so it takes effect with the commit and a rollback is as quick.
Everything is written first and staged in git last; a death in between leaves files that the same command
writes again.
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
from workbench.layout import PROMOTED
from workbench.registry import Asset, Move
from workbench.repository.git import Repository

#: Which job versions have a stage: written by every move of a job's label, read by dvc.yaml.
KINDS = tuple(registry.FOLDERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Released(Shown):
    """A move of a label, done or proposed (`dry`). `rows` is what changes in production, as a table.

    `missing` is what forbids it. `committed` is the commit's id when it was made.
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
        """As `--json` prints it."""
        return dataclasses.asdict(self)

    def card(self) -> Card:
        """The changes in production, and what forbids them."""
        done = "would be" if self.dry else "is"
        forbidden = [f"missing: {what}\n         {mend}" for what, mend in self.missing]
        before = "none" if self.before is None else f"@{self.before}"
        return Card(
            title=f"{self.what}@{self.version} {done} {self.label} (before: {before})",
            verdict="fail" if self.missing else None,
            head=["what", "live", "new"],
            rows=self.rows,
            notes=[*self.notes, *forbidden],
            command=self.command,
        )


def parse(reference: str) -> tuple[str, registry.Reference]:
    """`job/answers` or `prompt/answer@2` as a kind and a reference; ConfigError lists the kinds."""
    kind, slash, rest = reference.partition("/")
    if not slash or kind not in KINDS:
        raise ConfigError(
            f"{reference!r} names no asset ({nearest(kind, KINDS)})",
            hint="write KIND/NAME, for example job/answers or prompt/answer@2",
        )
    return kind, registry.Reference.parse(rest)


def check_label(label: str) -> None:
    """NotFoundError unless it is one of the two labels there are."""
    if label not in registry.LABELS:
        raise NotFoundError(
            f"there is no label {label!r} ({nearest(label, registry.LABELS)})",
            hint="workbench promote --help",
        )


def move(
    root: Path, asset: Asset, *, label: str, version: int, reason: str, run: str | None, clock: Clock
) -> list[Path]:
    """Write `asset` with its label moved, and for a job the list of stages; the files written.

    A label that is there is not moved again. The caller holds the asset's lock.
    """
    if asset.labels.get(label) != version:
        by = Repository(root=root).author()
        at = clock.now().astimezone(dt.UTC).isoformat(timespec="seconds")
        step = Move(label=label, version=version, by=by, at=at, reason=reason, run=run)
        asset = registry.moved(asset, step)
    files.purge(page_of(root, asset))
    written = [registry.write(root, asset)]
    return [*written, write_stages(root)] if asset.kind == "job" else written


def page_of(root: Path, asset: Asset) -> Path:
    """The file that its labels and moves are in."""
    return registry.folder_of(root, asset.kind, asset.name) / "asset.yaml"


def write_stages(root: Path) -> Path:
    """Write which job versions have a stage: those that a label points to; where."""
    path = root / PROMOTED
    with registry.locked(path.parent):  # of all jobs: another one's move must not be lost
        files.purge(path)
        files.write_atomic(path, _stages(root))
    return path


def check_stages(root: Path) -> None:
    """ConfigError unless the list of stages is what the labels say."""
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
    """A path to commit; of an asset the whole folder, so that the command stays short."""
    parts = path.parts
    return "/".join(parts[:3]) if parts[0] == "pipelines" and len(parts) > 3 else path.as_posix()


def settle(root: Path, paths: Sequence[Path], *, message: str, commit: bool, after: str) -> tuple[str, str]:
    """Stage what was written; commit it when told to. The commit's id, and the command that is next."""
    repository = Repository(root=root)
    places = sorted({_place(path.relative_to(root)) for path in paths})
    repository.stage(places)
    if commit:
        return repository.commit(places, message), after
    return "", f"git commit -m {shlex.quote(message)} -- {shlex.join(places)}"
