"""Replace a folder in one step, repair an interrupted replacement, remove unfinished copies."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from workbench.files.atomic import aside_of, make_folder, sync_folder, writing

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_REPLACED = re.compile(r"\.(?P<name>.+)\.(?P<what>before|removed)-.+")


def replace(new: Path, folder: Path) -> None:
    """Rename `new` to `folder`, in the same parent; an existing folder is removed.

    The caller excludes other writers and has synced the files of `new`. A process that is killed

    - before the first rename leaves the old folder and `new`;
    - between the renames leaves `new`, and the old folder as `.NAME.before-ID`, which `repair` renames back;
    - after the second rename leaves the new folder, and the old one as `.NAME.before-ID` or, half removed,
      as `.NAME.removed-ID`, which `repair` removes.

    The next `replace` repairs first. A failed rename is undone and raises OSError.
    """
    repair(folder)
    before = _beside(folder, "before")
    try:
        if os.path.lexists(folder):
            folder.rename(before)
        new.rename(folder)
    except BaseException:
        with contextlib.suppress(OSError):  # `repair` retries it
            before.rename(folder)
        raise
    sync_folder(folder.parent)
    with contextlib.suppress(OSError):  # the new folder is in place; `repair` retries the removal
        _remove(folder, before)


@contextlib.contextmanager
def written(folder: Path, *, new: Path | None = None) -> Iterator[Path]:
    """Yield an empty folder, and replace `folder` with it after the block; after an error remove it.

    `new` is the path of the empty folder, by default a temporary name beside `folder`. A leftover of a
    killed process at that path is removed. UnavailableError when the system refuses a write.
    """
    new = new or aside_of(folder)
    try:
        with writing(folder):
            shutil.rmtree(new, ignore_errors=True)
            make_folder(new)
            yield new
            replace(new, folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def interrupted(parent: Path) -> list[Path]:
    """Return the folders in `parent` whose replacement was interrupted or is under way."""
    return sorted({parent / match["name"] for match in _replaced(parent)})


def repair(folder: Path) -> list[Path]:
    """Undo or complete an interrupted replacement; return the restored and removed paths.

    The caller excludes other writers. OSError when the folder cannot be restored; the next `repair` retries a
    removal that fails, as on a read-only disk.
    """
    done = []
    for match in _replaced(folder.parent):
        path = folder.with_name(match.string)
        if match["name"] != folder.name:
            continue
        if match["what"] == "before" and not os.path.lexists(folder):
            path.rename(folder)
            sync_folder(folder.parent)
            done.append(folder)
            continue
        with contextlib.suppress(OSError):
            _remove(folder, path)
            done.append(path)
    return done


def purge(path: Path) -> None:
    """Remove the unfinished copies beside a file or folder. The caller is its only writer."""
    aside = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}")
    with writing(path.parent):
        for copy in path.parent.iterdir() if path.parent.is_dir() else ():
            if aside.fullmatch(copy.name):
                _delete(copy)


def remove(path: Path) -> None:
    """Remove a folder that another program has filled; what the system refuses to remove stays.

    The folder may be of any depth, and its folders may have any mode. No link is followed.
    """
    with contextlib.suppress(OSError):
        top = os.open(path, _FOLDER)
        try:
            _empty(top)
        finally:
            os.close(top)
        path.rmdir()


def _empty(top: int) -> None:
    """Remove what an open folder holds: each folder in it gives up its own folders to `top` first.

    Neither recursion nor paths end at the depth of the folder.
    """
    moved = 0
    while names := os.listdir(top):
        for name in names:
            if not _is_folder(name, top):
                os.unlink(name, dir_fd=top)
                continue
            os.chmod(name, 0o700, dir_fd=top)
            folder = os.open(name, _FOLDER, dir_fd=top)
            try:
                for child in os.listdir(folder):  # noqa: PTH208  of a descriptor
                    if not _is_folder(child, folder):
                        os.unlink(child, dir_fd=folder)
                        continue
                    moved += 1
                    os.chmod(child, 0o700, dir_fd=folder)  # a folder that is moved is written
                    aside = f"{secrets.token_hex(8)}-{moved}"
                    os.rename(child, aside, src_dir_fd=folder, dst_dir_fd=top)
            finally:
                os.close(folder)
            os.rmdir(name, dir_fd=top)


def _is_folder(name: str, parent: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)


def _beside(folder: Path, what: str) -> Path:
    return folder.with_name(f".{folder.name}.{what}-{secrets.token_hex(4)}")


def _replaced(parent: Path) -> list[re.Match[str]]:
    paths = sorted(parent.iterdir()) if parent.is_dir() else ()
    return [match for path in paths if (match := _REPLACED.fullmatch(path.name))]


def _remove(folder: Path, before: Path) -> None:
    """Remove a replaced folder under a second name, which `repair` never restores."""
    removed = _beside(folder, "removed")
    before.rename(removed)
    _delete(removed)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
