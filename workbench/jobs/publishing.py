"""Publishing a job's output: written aside, put in place by one rename, with a manifest that proves it.

    published/<job>/<tenant or "all">/<logical time>/      the output of one slot, and manifest.json
                                     .<time>.staging-<run>  an output still being made
                                     .<time>.before-<run>   an output being replaced, for a moment

A reader finds the old output or the new one, whole. Who is killed in between leaves folders with a dot,
which `recover` clears up.
"""

from __future__ import annotations

import contextlib
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
from workbench.jobs.ledger import Slot
from workbench.layout import PUBLISHED

FORMAT = 1
MANIFEST = "manifest.json"
_ASIDE = re.compile(r"\.(?P<name>.+)\.(?P<what>staging|before)-(?P<run>.+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedManifest:
    """What was published, made of what, by which run, and what it cost.

    `at` is the logical time, in ISO 8601 and UTC. `outputs` has the SHA-256 of every file, by its path
    in the folder; `publish` fills it. `settings` are the references that the task resolved to.
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


def target_of(root: Path, slot: Slot) -> Path:
    """Where the output of a slot is published."""
    return root / PUBLISHED / slot.key


def staging_of(target: Path, run: str) -> Path:
    """Where a run writes what will be published at `target`: beside it, on the same disk."""
    return target.with_name(f".{target.name}.staging-{run}")


def publish(staged: Path, target: Path, manifest: PublishedManifest, *, replace: bool = False) -> Path:
    """Put the folder `staged` in place as `target`, whole or not at all; where it is.

    RefusedError when an output is there already, unless told to `replace` it. What cannot be put in
    place leaves `target` as it was, and `staged` where it was.
    """
    if not staged.is_dir():
        raise NotFoundError(f"there is no output {staged} to publish", hint="run the job again")
    try:
        _seal(staged, manifest)
        files.make_folder(target.parent)
        with locking.locked(target.parent):
            _mend(target)
            if os.path.lexists(target) and not replace:
                raise _taken(target)
            _put(staged, target, manifest.run)
    except OSError as error:
        raise files.unwritable(target, error) from error
    return target


def _taken(target: Path) -> RefusedError:
    hint = "to publish in its place, run it again with --replace"
    return RefusedError(f"{target} is published already", hint=hint)


def _seal(staged: Path, manifest: PublishedManifest) -> None:
    """Write the manifest into the folder and see that all of it is on the disk."""
    outputs = {}
    for path in sorted(staged.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise RefusedError(f"{path} is neither a file nor a folder", hint="write its content instead")
        if path.is_dir():
            files.sync_folder(path)
        elif path != staged / MANIFEST:
            outputs[path.relative_to(staged).as_posix()] = _digest(path, sync=True)
    if not outputs:
        raise RefusedError(f"{staged} holds no file to publish", hint="let the job's task write its output")
    body = {"format": FORMAT, **dataclasses.asdict(dataclasses.replace(manifest, outputs=outputs))}
    files.write_atomic(staged / MANIFEST, files.pretty({**body, "sha256": files.digest(body)}))


def _digest(path: Path, *, sync: bool = False) -> str:
    with open(files.open_regular(path), "rb") as file:  # noqa: PTH123  of a descriptor
        if sync:
            os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def _put(staged: Path, target: Path, run: str) -> None:
    before = target.with_name(f".{target.name}.before-{run}")
    try:
        if os.path.lexists(target):
            target.rename(before)
        staged.rename(target)
    except BaseException:
        with contextlib.suppress(OSError):  # `recover` tries again
            before.rename(target)
        raise
    files.sync_folder(target.parent)
    # It is published: an old file that cannot be removed now is no failure, and `recover` tries again.
    shutil.rmtree(before, ignore_errors=True)


def recover(folder: Path, *, alive: Callable[[str], bool]) -> list[Path]:
    """Clear up after publishers that were killed, in one job's folder; what was put back or removed.

    An output that was being replaced comes back unless the new one is in place. Of what is still being
    made, only that of runs which are not `alive` is removed. Doing it twice, or two at once, is fine.
    """
    done = []
    try:
        for place in sorted({path.parent for path in folder.glob("*/.*") if _ASIDE.fullmatch(path.name)}):
            with locking.locked(place):
                for path in sorted(place.iterdir()):
                    found = _ASIDE.fullmatch(path.name)
                    if found and found["what"] == "before":
                        done += _mend(place / found["name"])
                    elif found and not alive(found["run"]):
                        shutil.rmtree(path)
                        done.append(path)
    except OSError as error:
        raise files.unwritable(folder, error) from error
    return done


def _mend(target: Path) -> list[Path]:
    """Undo a replacement that was cut off, or end it. Under the lock: nobody is in the middle of one."""
    done = []
    for path in sorted(target.parent.iterdir()):
        found = _ASIDE.fullmatch(path.name)
        if not found or (found["name"], found["what"]) != (target.name, "before"):
            continue
        if os.path.lexists(target):
            shutil.rmtree(path)
            done.append(path)
        else:
            path.rename(target)
            files.sync_folder(target.parent)
            done.append(target)
    return done


def read(target: Path) -> PublishedManifest:
    """What is published there, every byte checked; CorruptError names the file that is not as published."""
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


def _manifest(path: Path) -> PublishedManifest:
    import orjson

    if not path.is_file():
        raise _corrupt(path, "it is missing")
    try:
        body = orjson.loads(path.read_bytes())
        own = body.pop("sha256")
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError):
        raise _corrupt(path, "this is not a whole manifest") from None
    if files.digest(body) != own:
        raise _corrupt(path, "it was changed after it was published")
    if (found := body.pop("format", None)) != FORMAT:
        raise _corrupt(path, f"format {found!r}, this version reads {FORMAT}")
    return files.parse(PublishedManifest, body, where=str(path))


def _check(target: Path, outputs: Mapping[str, str]) -> None:
    found = (path for path in target.rglob("*") if path.is_symlink() or not path.is_dir())
    there = {path.relative_to(target).as_posix() for path in found}
    wanted = {MANIFEST, *outputs}
    for name in sorted(wanted ^ there):
        raise _corrupt(target / name, "it is missing" if name in wanted else "it was not published")
    for name, digest in sorted(outputs.items()):
        if _digest(target / name) != digest:
            raise _corrupt(target / name, "it was changed after it was published")


def _corrupt(path: Path, what: str) -> CorruptError:
    return CorruptError(f"{path}: {what}", hint="run the job for this time again with --replace")
