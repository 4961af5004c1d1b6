"""Write files atomically, and create folders with private modes for state and published output.

A file is written under a temporary name, synced and renamed: a reader finds the old content or the new
content, never a part.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from workbench.errors import UnavailableError
from workbench.files.reading import read_bytes
from workbench.layout import PARAMS

_ASIDE = re.compile(r"\..+\.[0-9a-f]{8}")


def write_atomic(path: Path, data: bytes, *, private: bool = False) -> bool:
    """Write `data` atomically and return True; return False when the file holds these bytes already.

    Only the owner may read a `private` file, and any file in `.workbench` and `published`.
    """
    with writing(path):
        if path.is_file() and path.read_bytes() == data:
            return False
        with _synced(path, data, 0o600 if private or _private_top(path) else 0o666) as aside:
            os.replace(aside, path)
    return True


def write_once(path: Path, data: bytes) -> bytes:
    """Write `data`, readable by the owner only, unless the file exists; return the file's bytes."""
    with writing(path):
        if not path.exists():
            with _synced(path, data, 0o600) as aside, contextlib.suppress(FileExistsError):
                os.link(aside, path)
        return read_bytes(path)


@contextlib.contextmanager
def _synced(path: Path, data: bytes, mode: int) -> Iterator[Path]:
    """Yield a file beside `path` that holds `data` on the disk; the block gives it its name."""
    make_folder(path.parent)
    aside = aside_of(path)
    try:
        with os.fdopen(os.open(aside, os.O_CREAT | os.O_WRONLY | os.O_EXCL, mode), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield aside
    finally:
        aside.unlink(missing_ok=True)
    sync_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Create a folder and its parents; only the owner may enter `.workbench`, `published` and all below."""
    top = _private_top(folder)
    if top is not None and top.is_dir() and top.stat().st_mode & 0o077:  # created by an earlier version
        with contextlib.suppress(OSError):  # another user owns it, or the disk is read-only
            top.chmod(0o700)
    missing = itertools.takewhile(lambda path: not path.is_dir(), (folder, *folder.parents))
    for path in reversed(list(missing)):
        path.mkdir(0o700 if top is not None and path.is_relative_to(top) else 0o777, exist_ok=True)


def _private_top(path: Path) -> Path | None:
    """Return the repository's `.workbench` or `published` folder that is `path` or contains it."""
    for folder in (path, *path.parents):
        of_repository = folder.name == "published" and (folder.parent / PARAMS).is_file()
        if folder.name == ".workbench" or of_repository:
            return folder
    return None


def aside_of(path: Path) -> Path:
    """Return a temporary path beside `path`, for content that is renamed to it when complete."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}")


def is_aside(name: str) -> bool:
    """Return whether a name is that of `aside_of`: content that was never complete, or soon has its name."""
    return _ASIDE.fullmatch(name) is not None


def sync_folder(folder: Path) -> None:
    """Sync the entries of `folder`, so that renames in it survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def writing(path: Path) -> AbstractContextManager[None]:
    """Raise an OSError of the block as UnavailableError, which names `path` and what to do."""
    return _Writing(path)


class _Writing:
    """The block that writes a file. Not a generator: every call of a model or a memory writes its record."""

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, OSError):
            raise _unwritable(self._path, error) from error


def _unwritable(path: Path, error: OSError) -> UnavailableError:
    """Return the error for a file that cannot be written, with a hint for the system's error number."""
    hints = {
        errno.ENOSPC: "free some space on this disk, then run the same command again",
        errno.EROFS: "the disk is mounted read-only; work in a copy on a writable one",
        errno.EACCES: "check who owns the folder: ls -ld FOLDER",
    }
    hint = hints.get(error.errno or 0, "nothing was changed; run the same command again")
    return UnavailableError(f"cannot write {path}: {error.strerror}", hint=hint)
