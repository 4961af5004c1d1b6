"""The folder of a version's statements: pipelines/evidence/JOB/N/NAME.dsse.json.

A writer that is killed leaves an incomplete file, whose name begins with a dot. No reader sees it, git
ignores it, and the next writer of a statement about the job removes it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from workbench import files, locking
from workbench.attestations.dsse import MOST_BYTES, Envelope
from workbench.errors import ConfigError, CorruptError, NotFoundError

#: The folder of all statements, relative to the repository.
EVIDENCE: Final = Path("pipelines/evidence")
SUFFIX: Final = ".dsse.json"
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,99}")
_JOB = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
#: Most statements about one version.
MOST_STATEMENTS: Final = 10_000


def folder_of(job: str, version: int) -> Path:
    """Return the folder of the statements about a version, relative to the repository."""
    if not _JOB.fullmatch(job) or version < 1:
        raise ConfigError(
            f"{files.shortened(f'{job}@{version}')!r} is no version of a job", hint="workbench jobs list"
        )
    return EVIDENCE / job / str(version)


def path_of(job: str, version: int, name: str) -> Path:
    """Return the path of a statement about a version, relative to the repository.

    Raise ConfigError for a name that is none.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{files.shortened(name)!r} is no name of a statement: use a-z, 0-9, -, _ and .")
    return folder_of(job, version) / f"{name}{SUFFIX}"


def store(
    root: Path, job: str, version: int, name: str, envelope: Envelope, *, replace: bool = False
) -> Path:
    """Write an envelope atomically as the statement `name` about a version; return its path.

    The same envelope may be stored again. What killed writers left is removed. Raise ConfigError for a name
    that is none, and, without `replace`, for a name that another statement has.
    """
    path = root / path_of(job, version, name)
    data = envelope.to_bytes()
    if len(data) > MOST_BYTES:
        raise ConfigError(f"the statement {name} has more than {MOST_BYTES >> 20} MB")
    if not replace and path.exists() and files.read_bytes(path, limit=MOST_BYTES) != data:
        raise ConfigError(
            f"{path} holds another statement, and a statement is never overwritten",
            hint="store the new one under another name",
        )
    remove_leftovers(root, job)
    with locking.locked(_place(root, job), shared=True):
        files.write_atomic(path, data)
    return path


def remove_leftovers(root: Path, job: str) -> None:
    """Remove the incomplete files of killed writers of statements about a job, unless one writes now."""
    place = _place(root, job)
    descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if locking.acquire(descriptor, wait=False):
            for path in place.glob("*/.*"):
                if files.is_aside(path.name):
                    path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _place(root: Path, job: str) -> Path:
    """Return the folder of the statements about a job, which their writers lock; create it when missing."""
    place = root / EVIDENCE / job
    with files.writing(place):
        files.make_folder(place)
    return place


def paths_in(folder: Path) -> list[Path]:
    """Return what is in a folder of statements, without what killed writers left; [] without the folder."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not files.is_aside(path.name))


def read(path: Path, *, where: str = "") -> Envelope:
    """Return the envelope in a file; CorruptError for a link and for bytes that are no envelope.

    `where` names the file in messages. NotFoundError without the file.
    """
    place = where or str(path)
    if path.is_symlink():
        raise CorruptError(f"{place} is a link, and a statement is a file", hint=f"rm {path}")
    try:
        data = files.read_bytes(path, limit=MOST_BYTES)
    except FileNotFoundError:
        raise NotFoundError(f"there is no statement {place}", hint="workbench evidence show") from None
    return Envelope.parse(data, where=place)


def stored(root: Path, job: str, version: int) -> Iterator[tuple[str, Envelope]]:
    """Yield the name and the envelope of each statement about a version, by name.

    Raise CorruptError for a file that is no statement.
    """
    folder = root / folder_of(job, version)
    paths = paths_in(folder)
    if len(paths) > MOST_STATEMENTS:
        raise CorruptError(f"{folder} holds more than {MOST_STATEMENTS:,} files", hint=f"ls {folder}")
    for path in paths:
        name = path.name.removesuffix(SUFFIX)
        if name == path.name or not _NAME.fullmatch(name):
            raise CorruptError(f"{path} does not belong to the statements about a version", hint=f"rm {path}")
        yield name, read(path)
