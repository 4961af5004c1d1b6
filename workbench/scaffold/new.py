"""Lay a new repository into an empty folder and commit it, as `workbench new` does.

The files are written to `.workbench-laying` inside the folder. It is then renamed to `.workbench-laid`, and
each of its entries is moved up. After a kill the same command continues: it writes an incomplete copy anew,
and moves what is left of a complete one.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench import files, locking
from workbench.errors import ConfigError, WorkbenchError
from workbench.repository.git import Repository
from workbench.scaffold.contents import Contents, contents

_LAYING, _LAID = ".workbench-laying", ".workbench-laid"
_MESSAGE = "Start from workbench new"
#: Characters of a path that make, the shell's PATH or a generated script cannot hold.
_UNFIT = re.compile(r"[\x00-\x1f\x7f:;$`\"\\#%]")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRepository:
    """A laid repository; `commit` is "" when nothing is committed, and `problem` says why.

    `tops` are the entries at its top with their number of files, and folders end with a slash; `size` is in
    bytes. A `planned` one is not written.
    """

    folder: Path
    tops: dict[str, int]
    size: int
    empty: bool = False
    planned: bool = False
    commit: str = ""
    problem: str = ""

    @property
    def next_commands(self) -> list[str]:
        """The commands to type next."""
        if self.planned:
            return [f"workbench new {_quoted(self.folder)}" + (" --empty" if self.empty else "")]
        commands = [f"cd {_quoted(self.folder)}"]
        if not self.commit:
            commands += [
                'git config user.name "Your Name" && git config user.email YOUR-ADDRESS',
                f'git add --all && git commit -m "{_MESSAGE}"',
            ]
        if self.empty:
            init = "workbench init NAME --docs DIR --questions FILE"
            return [*commands, f"make env && . .venv/bin/activate && {init}", "make repro"]
        return [*commands, "make repro", "make test"]

    def to_json(self) -> dict[str, Any]:
        """Return the value that `--json` prints."""
        return {**dataclasses.asdict(self), "folder": str(self.folder), "next": self.next_commands}

    def __str__(self) -> str:
        count, size = sum(self.tops.values()), self.size / 1e6
        verb = "would lay" if self.planned else "laid"
        lines = [f"{verb} {count} files ({size:.1f} MB) in {self.folder}"]
        width = max(map(len, self.tops)) + 1
        lines += [
            f"  {name:{width}} {number} files" if name.endswith("/") else f"  {name}"
            for name, number in self.tops.items()
        ]
        if self.commit:
            lines.append(f"committed as {self.commit[:12]}: {_MESSAGE}")
        elif not self.planned:
            lines.append(f"nothing is committed: {self.problem}")
        lines += [f"next: {self.next_commands[0]}", *(f"      {text}" for text in self.next_commands[1:])]
        return "\n".join(lines)


def lay(folder: Path, *, empty: bool = False, dry_run: bool = False) -> NewRepository:
    """Lay a new repository into a folder that is absent, empty, or a git repository without files.

    With `empty` the example use case is left out; with `dry_run` nothing is written. ConfigError when the
    folder holds anything else or lies in another git repository; UnavailableError when it cannot be written.
    The folder is committed when git knows in whose name.
    """
    folder = folder.absolute()
    _check_path(folder)
    found = contents(empty=empty)
    _check_free(folder, found)
    size = sum(len(found.read(name)) for name in found.files)
    made = NewRepository(folder=folder, tops=_counted(found), size=size, empty=empty, planned=dry_run)
    if dry_run:
        return made
    with files.writing(folder):
        absent = not folder.exists()
        files.make_folder(folder)
        try:
            with locking.locked(folder):
                _check_free(folder, found)
                _write(folder, found)
                commit, problem = _committed(folder)
                (folder / _LAID).rmdir()
        except BaseException:
            if absent and not any(folder.iterdir()):
                folder.rmdir()
            raise
    return dataclasses.replace(made, commit=commit, problem=problem)


def _check_path(folder: Path) -> None:
    unfit = _UNFIT.search(str(folder))
    if unfit:
        raise ConfigError(
            f"{str(folder)!r} has the character {unfit[0]!r}, which make or the shell's PATH cannot hold",
            hint="name a folder without it: workbench new FOLDER",
        )
    file = next((path for path in (folder, *folder.parents) if path.exists() and not path.is_dir()), None)
    if file is not None:
        raise ConfigError(f"{file} is a file", hint="name a folder: workbench new FOLDER")
    Repository(root=_existing(folder)).version()
    outer = next((parent for parent in folder.resolve().parents if (parent / ".git").exists()), None)
    if outer is not None and not (folder / ".git").exists():
        raise ConfigError(
            f"{folder} lies in the git repository {outer}, and a new repository is one of its own",
            hint=f"name a folder outside of it, or first type: git init {_quoted(folder)}",
        )


def _check_free(folder: Path, found: Contents) -> None:
    """Raise ConfigError unless the folder is absent or holds no more than git and what `lay` began."""
    present = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    ours = {".git", _LAYING, _LAID} | (found.tops if _LAID in present else set())
    others = sorted(present - ours)
    if not others and ".git" in present and _LAID not in present:
        # Files that are deleted but committed are the user's too.
        others = Repository(root=folder).changed(besides=[_LAYING])
    if others:
        shown = ", ".join(map(files.shortened, others[:3])) + (" …" if len(others) > 3 else "")
        raise ConfigError(
            f"{folder} is not empty: it holds {shown}",
            hint="name a new or empty folder: workbench new FOLDER",
        )


def _write(folder: Path, found: Contents) -> None:
    """Write all files beside their places, then move them there; a later call continues."""
    laying, laid = folder / _LAYING, folder / _LAID
    if not laid.is_dir():
        shutil.rmtree(laying, ignore_errors=True)
        try:
            for name in found.files:
                path = laying / name
                files.make_folder(path.parent)
                path.write_bytes(found.read(name))
            laying.rename(laid)
        finally:
            shutil.rmtree(laying, ignore_errors=True)
    for path in sorted(laid.iterdir()):
        place = folder / path.name
        if os.path.lexists(place):
            raise ConfigError(
                f"{place} exists, and so does {path}", hint=f"remove one of them: rm -r {_quoted(place)}"
            )
        path.rename(place)
    files.sync_folder(folder)


def _committed(folder: Path) -> tuple[str, str]:
    """Return the id of the first commit, or "" and the reason why git made none."""
    try:
        return Repository(root=folder).begin(_MESSAGE), ""
    except WorkbenchError as error:
        return "", error.message


def _counted(found: Contents) -> dict[str, int]:
    return dict(Counter("".join(name.partition("/")[:2]) for name in found.files))


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.is_dir())


def _quoted(folder: Path) -> str:
    return shlex.quote(str(folder))
