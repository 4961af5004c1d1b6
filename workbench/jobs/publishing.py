"""Publish a job's output with one rename of a staged folder, and verify it by its manifest.

    published/<job>/<tenant or "all">/<logical time>/      the output of one slot, and manifest.json
                                     .<time>.staging-<run>  the output that a run is writing

A reader finds either the old output or the new output, complete. A killed publisher leaves folders whose
names start with a dot (see `folders.replace`); `recover` restores or removes them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from workbench import files, locking
from workbench.errors import CorruptError, NotFoundError, RefusedError, UnavailableError
from workbench.files import folders
from workbench.jobs.ledger.runs import Slot
from workbench.layout import PUBLISHED

FORMAT = 1
MANIFEST = "manifest.json"
_STAGED = re.compile(r"\..+\.staging-(?P<run>.+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedManifest:
    """The manifest of a published output: its run, inputs, files, counts and cost.

    `at` is the logical time, in ISO 8601 and UTC. `outputs` maps the relative path of every file to its
    SHA-256; `publish` fills it. `settings` are the resolved references of the task. `canary` names the
    version on trial that answered a share of the rows, with their number; it is left out without one.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    job: str
    version: int
    tenant: str
    at: str
    run: str
    use_case: str
    input_digest: str
    task_digest: str
    outputs: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    cost_usd: float | None = None
    tokens: dict[str, int | None] = field(default_factory=dict)
    verdict: str = ""
    settings: dict[str, str] = field(default_factory=dict)
    canary: dict[str, Any] = field(default_factory=dict)


def target_of(root: Path, slot: Slot) -> Path:
    """Return the folder in which the output of a slot is published."""
    return root / PUBLISHED / slot.key


def staging_of(target: Path, run: str) -> Path:
    """Return the folder in which a run stages its output: next to `target`, on the same disk."""
    return target.with_name(f".{target.name}.staging-{run}")


def publish(staged: Path, target: Path, manifest: PublishedManifest, *, replace: bool = False) -> Path:
    """Rename the folder `staged` to `target` in one step; return `target`.

    RefusedError when an output is published already and `replace` is not set. On failure `target` and
    `staged` stay as they were.
    """
    if not staged.is_dir():
        raise NotFoundError(f"there is no output {staged} to publish", hint="run the job again")
    with files.writing(target):
        _seal(staged, manifest)
        files.make_folder(target.parent)
        with locking.locked(target.parent):
            folders.repair(target)
            if os.path.lexists(target) and not replace:
                again = "to replace it, run the job again with --replace"
                raise RefusedError(f"{target} is published already", hint=again)
            folders.replace(staged, target)
    return target


def _seal(staged: Path, manifest: PublishedManifest) -> None:
    """Write the manifest into the folder and sync every file to the disk."""
    outputs = {}
    for path in sorted(staged.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise RefusedError(f"{path} is neither a file nor a folder", hint="write its content instead")
        if path.is_dir():
            files.sync_folder(path)
        elif path != staged / MANIFEST:
            outputs[path.relative_to(staged).as_posix()] = _digest(path, sync=True)
    if not outputs:
        raise RefusedError(f"{staged} has no file to publish", hint="let the job's task write its output")
    body = {"format": FORMAT, **dataclasses.asdict(dataclasses.replace(manifest, outputs=outputs))}
    if not manifest.canary:
        del body["canary"]
    files.write_atomic(staged / MANIFEST, files.pretty({**body, "sha256": files.digest(body)}))


def _digest(path: Path, *, sync: bool = False) -> str:
    with open(files.open_regular(path), "rb") as file:  # noqa: PTH123  of a descriptor
        if sync:
            os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def recover(folder: Path, *, alive: Callable[[str], bool]) -> list[Path]:
    """Clean up after killed publishers in one job's folder; return the restored and removed paths.

    A replaced output is restored unless the new output is in place. A staged output is removed unless
    its run is `alive`. Repeated and concurrent calls are safe.
    """
    done = []
    with files.writing(folder):
        for parent in sorted({path.parent for path in folder.glob("*/.*")}):
            with locking.locked(parent):
                for target in folders.interrupted(parent):
                    done += folders.repair(target)
                for path in sorted(parent.iterdir()):
                    found = _STAGED.fullmatch(path.name)
                    if found and not alive(found["run"]):
                        shutil.rmtree(path)
                        done.append(path)
    return done


def read(target: Path) -> PublishedManifest:
    """Return the manifest of a published output, after checking every byte of its files.

    NotFoundError without an output; CorruptError names a missing, changed or additional file.
    """
    absent = NotFoundError(f"nothing is published at {target}", hint="workbench jobs list")
    if not target.parent.is_dir():
        raise absent
    try:
        with locking.locked(target.parent, shared=True):
            if not target.is_dir():
                raise absent
            manifest = _manifest(target / MANIFEST)
            _check(target, manifest.outputs)
    except OSError as error:
        raise UnavailableError(f"cannot read {error.filename or target}: {error.strerror}") from error
    return manifest


def published_by(target: Path, run: str) -> PublishedManifest | None:
    """Return the manifest of an output that a run published, after a killed replacement is completed.

    None when another run published it, or nothing is there, or a byte of it differs.
    """
    if not target.parent.is_dir():
        return None
    with files.writing(target), locking.locked(target.parent):
        folders.repair(target)
    try:
        found = read(target)
    except (NotFoundError, CorruptError):
        return None
    return found if found.run == run else None


def _manifest(path: Path) -> PublishedManifest:
    import orjson

    if not path.is_file():
        raise _corrupt(path, "it is missing")
    try:
        body = orjson.loads(files.read_bytes(path))
        own = body.pop("sha256")
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError):
        raise _corrupt(path, "it is not a complete manifest") from None
    if files.digest(body) != own:
        raise _corrupt(path, "it was changed after it was published")
    if (found := body.pop("format", None)) != FORMAT:
        raise _corrupt(path, f"it has format {found!r}, this workbench reads format {FORMAT}")
    return files.parse(PublishedManifest, body, where=str(path))


def _check(target: Path, outputs: Mapping[str, str]) -> None:
    found = (path for path in target.rglob("*") if path.is_symlink() or not path.is_dir())
    paths = {path.relative_to(target).as_posix() for path in found}
    wanted = {MANIFEST, *outputs}
    for name in sorted(wanted ^ paths):
        raise _corrupt(target / name, "it is missing" if name in wanted else "it was not published")
    for name, digest in sorted(outputs.items()):
        if _digest(target / name) != digest:
            raise _corrupt(target / name, "it was changed after it was published")


def _corrupt(path: Path, what: str) -> CorruptError:
    return CorruptError(f"{path}: {what}", hint="run the job for this time again with --replace")
