"""Find out whether an opened file is guarded, by whatever name it is opened.

The audit events of `open`, `os.open`, `sqlite3.connect`, hard links and renaming tell what is opened.
`pathlib`, `io.open_code`, `mmap`, `numpy.fromfile`, `numpy.load` and `shutil` are built on these. No event
comes from polars and pyarrow, which read files in Rust and C++, from the `ATTACH` of SQLite, and from
C functions that ctypes calls; on Linux, `file_openings` finds these.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from workbench.layout import PARAMS

#: The path of an opened file, and the descriptor at which a relative one begins; see `Guard.address_of`.
Opening = tuple[Any, int | None]
#: Most files of a guarded folder that are known by inode; further ones are known by path alone.
_MOST_INODES: Final = 20_000
#: The descriptor of an event that does not tell it.
_HIDDEN: Final = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """The guarded files and folders: their addresses by real path, and by device and inode.

    An inode finds a file under each of its hard links, in one `stat`; a path finds a file that was made in
    a guarded folder later. `parents` holds the real path of each folder in which a file was opened, by
    device and inode, and "" when nothing in that folder is guarded.
    """

    paths: Mapping[str, str]
    inodes: Mapping[tuple[int, int], str]
    parents: dict[tuple[int, int], str] = field(default_factory=dict)

    @classmethod
    def of(cls, guarded: Sequence[str]) -> Guard:
        """Return the guard of absolute paths, which need not exist.

        The folders that links inside a guarded folder lead to are not guarded; the files are.
        """
        paths = {os.path.realpath(path): _in_repository(path) for path in guarded}
        inodes: dict[tuple[int, int], str] = {}
        for real, address in paths.items():
            for path in itertools.islice(_with_contents(real), _MOST_INODES):
                with contextlib.suppress(OSError):
                    inodes.setdefault(_inode(path), address + path[len(real) :])
        return cls(paths=paths, inodes=inodes)

    def address_of(self, path: Any, folder: int | None = None) -> str | None:
        """Return the path in the repository of an opened file, None when the file is not guarded.

        A relative path begins at the descriptor `folder`, at the current folder when it is None, and at
        the current or any open folder when it is -1.
        """
        name = os.fsdecode(path)
        if folder != _HIDDEN:
            return self._address(name, folder)
        starts = () if name.startswith("/") else _open_folders()
        return next(filter(None, (self._address(name, start) for start in (None, *starts))), None)

    def _address(self, name: str, folder: int | None) -> str | None:
        real = None
        try:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                status = os.stat(name, dir_fd=folder)
                real = os.path.realpath(_from(folder, name))
        except OSError:
            pass
        else:
            if (address := self.inodes.get((status.st_dev, status.st_ino))) is not None:
                return address
        if real is not None:
            return self._by_path(real)
        above, slash, last = name.rpartition("/")
        parent = self._parent(above or slash or ".", folder)
        return self._by_path(f"{parent}/{last}") if parent else None

    def _parent(self, above: str, folder: int | None) -> str:
        """Return the real path of a folder, "" when nothing in it is guarded or there is none."""
        try:
            inode = _inode(above, folder)
        except OSError:
            return ""
        if (known := self.parents.get(inode)) is None:
            real = os.path.realpath(_from(folder, above))
            holds = self._by_path(real) is not None or real in {p.rpartition("/")[0] for p in self.paths}
            known = self.parents[inode] = real if holds else ""
        return known

    def _by_path(self, real: str) -> str | None:
        above = real
        while above not in self.paths:
            above, slash, _ = above.rpartition("/")
            if not slash:
                return None
        return self.paths[above] + real[len(above) :]


def _inode(path: str, folder: int | None = None) -> tuple[int, int]:
    status = os.stat(path, dir_fd=folder)
    return status.st_dev, status.st_ino


def _from(folder: int | None, path: str) -> str:
    return path if folder is None else f"/proc/self/fd/{folder}/{path}"


def _with_contents(real: str) -> Iterator[str]:
    """Yield a path and the paths of everything below it."""
    yield real
    for folder, folders, names in os.walk(real):
        yield from (f"{folder}/{name}" for name in (*folders, *names))


def _in_repository(path: str) -> str:
    """Return an absolute path as seen from the repository's root, unchanged outside of a repository."""
    for folder in Path(path).parents:
        if (folder / PARAMS).exists():
            return Path(path).relative_to(folder).as_posix()
    return path


def _open_folders() -> Iterator[int]:
    """Yield the descriptors of the folders that this process has open, where the system lists them."""
    with contextlib.suppress(OSError):
        for path in Path("/dev/fd").iterdir():
            with contextlib.suppress(OSError):
                if stat.S_ISDIR(os.fstat(int(path.name)).st_mode):
                    yield int(path.name)


def _opened(path: Any, mode: Any, *_: Any) -> Iterator[Opening]:
    """Yield the file of `open`, and of `os.open`, whose event has no mode and hides its `dir_fd`."""
    if not isinstance(path, int):
        yield path, _HIDDEN if mode is None else None


def _database(path: Any, *_: Any) -> Iterator[Opening]:
    """Yield the file of a SQLite database, which may be named by a URI."""
    yield path, None
    if (uri := os.fsdecode(path)).startswith("file:"):
        yield urllib.parse.unquote(urllib.parse.urlsplit(uri).path), None


def _moved(path: Any, to: Any, folder: int = -1, into: int = -1, *_: Any) -> Iterator[Opening]:
    """Yield the two paths of a hard link or of a renaming."""
    yield path, None if folder == -1 else folder
    yield to, None if into == -1 else into


#: The audit events by which a file is opened or gets another name, each with the files of its arguments.
OPENINGS: Final[Mapping[str, Callable[..., Iterator[Opening]]]] = {
    "open": _opened,
    "sqlite3.connect": _database,
    "os.link": _moved,
    "os.rename": _moved,
}
