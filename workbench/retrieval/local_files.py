"""Find the files of a source on this machine: a folder, one file or a pattern, with bounds on them."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from workbench import config, files
from workbench.errors import ConfigError, NotFoundError, WorkbenchError, nearest
from workbench.retrieval import patterns
from workbench.retrieval.formats.document import UnreadableError

#: The most files of one source, be they documents or not, and of folders within folders.
MOST_FILES, MOST_DEPTH = 20_000, 100
#: A file of a DVC cache, to which DVC may link a tracked page.
_CACHED = re.compile(r".*/files/md5/[0-9a-f]{2}/[0-9a-f]{30}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFile:
    """A file of a source: its path relative to the source, its name in errors, and its bytes.

    `read` takes the most bytes that it may return, and raises UnreadableError with a reason.
    """

    name: str
    where: str
    read: Callable[[int], bytes]
    path: Path | None = None


def find(uri: str, root: Path | None) -> list[FoundFile]:
    """Return the files at a path, or below it, or that match a pattern, in the order of their names.

    Hidden files are left out, and so are Office's lock files. ConfigError for too many files or an unreadable
    folder, NotFoundError for nothing there.
    """
    top, pattern = place_of(uri, root)
    if top.is_file():
        return [_file(top, top.name)]
    found = names(top, pattern)
    if pattern and not found:
        raise NotFoundError(f"no file matches {uri}", hint=f"ls {top}")
    return [_file(top / name, name, top) for name in found]


def names(top: Path, pattern: str = "", *, of: str = "") -> list[str]:
    """Return the relative paths of a folder's files in order, those that match a pattern if there is one.

    `of` names a first-level folder to search only.
    """
    depth = MOST_DEPTH if not pattern or "**" in pattern else pattern.count("/")
    found = []
    for number, name in enumerate(_walk(top, of, depth), start=1):
        if number > MOST_FILES:
            raise ConfigError(
                f"{top} has more than {MOST_FILES:,} files",
                hint=f"name a folder in it, or a pattern, such as {str(top / '**/*.pdf')!r}",
            )
        if not pattern or patterns.matches(pattern, name):
            found.append(name)
    return sorted(found)


def place_of(uri: str, root: Path | None) -> tuple[Path, str]:
    """Return the file or folder at a path, and the pattern below it, if the path has one."""
    if patterns.is_pattern(uri):
        try:
            return located(Path(uri), root), ""
        except NotFoundError:
            folder, pattern = patterns.split(uri)
            return located(Path(folder), root), pattern
    return located(Path(uri), root), ""


def located(path: Path, root: Path | None) -> Path:
    """Return the path in the current folder or below the repository; NotFoundError when it is in neither."""
    try:
        root = root or config.find_root()
    except NotFoundError:
        root = Path()
    for place in (path, root / path):
        try:
            if place.exists():
                return place
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise ConfigError(f"cannot read {files.shortened(ascii(str(path)))}: {why}") from None
        if place.is_symlink():
            check_link(place, place.parent)
    near = [str(p) for p in path.parent.iterdir()] if path.parent.is_dir() else []
    raise NotFoundError(
        f"there is nothing at {path} ({nearest(str(path), [*near, 'pydoc:topics'])})",
        hint=f"ls {path.parent}",
    )


def entries(folder: Path) -> list[Path]:
    """Return the entries of a folder without hidden ones, in order; ConfigError when it is unreadable."""
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise _unreadable(error) from None


def check_link(path: Path, top: Path) -> None:
    """Raise ConfigError for a link to a folder, to nothing, or to a file outside of the folder `top`."""
    if not path.is_symlink():
        return
    target, hint = path.readlink(), f"ls -l {path}   # replace the link by the file itself"
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError):  # RuntimeError: it leads to itself
        hint = f"dvc checkout, or rm {path}"
        raise ConfigError(f"{path} is a link to {target}, which leads nowhere", hint=hint) from None
    if real.is_dir():
        raise ConfigError(f"{path} is a link to the folder {target}; pages are not searched there", hint=hint)
    if not real.is_relative_to(top.resolve()) and not _CACHED.fullmatch(real.as_posix()):
        raise ConfigError(f"{path} is a link to {target}, which is outside of {top}", hint=hint)


def _unreadable(error: OSError) -> ConfigError:
    return ConfigError(f"cannot read {error.filename}: {error.strerror}", hint=f"ls -ld {error.filename}")


def _walk(top: Path, of: str, depth: int) -> Iterator[str]:
    """Yield the relative paths of files at any depth; a link to a folder is a file that cannot be read.

    The paths are texts, because each search of a memory compares its hits with all files.
    """
    folders = [(f"{of}/" if of else "", 1 if of else 0)]
    while folders:
        prefix, level = folders.pop()
        folder = os.path.join(top, prefix)  # noqa: PTH118 - a Path for each file would take most of the time
        if level > MOST_DEPTH:
            raise ConfigError(f"{files.shortened(folder)} is deeper than {MOST_DEPTH} folders")
        try:
            with os.scandir(folder) as scan:
                listed = [entry for entry in scan if not entry.name.startswith((".", "~$"))]
        except FileNotFoundError:
            continue
        except OSError as error:
            raise _unreadable(error) from None
        for entry in listed:
            if not entry.is_dir(follow_symlinks=False):
                yield prefix + entry.name
            elif level < depth or depth == MOST_DEPTH:
                folders.append((f"{prefix}{entry.name}/", level + 1))


def _file(path: Path, name: str, top: Path | None = None) -> FoundFile:
    return FoundFile(name=name, where=str(path), read=lambda most: _bytes(path, top, most), path=path)


def _bytes(path: Path, top: Path | None, most: int) -> bytes:
    """Return the bytes of a file; UnreadableError with the reason why it is not read."""
    try:
        if top is not None:
            check_link(path, top)
        state = path.stat()
        if stat.S_ISREG(state.st_mode) and state.st_size > most:
            raise UnreadableError(f"it has {state.st_size:,} bytes, more than {most:,}")
        return files.read_bytes(path, limit=most)
    except WorkbenchError as error:
        raise UnreadableError(error.message.replace(str(path), "it", 1)) from None
    except OSError as error:
        raise UnreadableError(f"it cannot be read: {error.strerror}") from None
