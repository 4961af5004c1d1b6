"""Put the staged files of a new use case in place, finish after a kill, and take them away again.

The journal `.workbench/init/NAME.json` is written before the first file is moved. params.yaml is replaced
last, so a use case exists when all of its files do. After a kill the next command takes the moved files
back, or notes that everything was in place.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from workbench import files, locking
from workbench.errors import ConfigError, UnavailableError
from workbench.layout import INIT, PARAMS
from workbench.scaffold import params_text
from workbench.scaffold.params_text import Block

#: Bytes of a journal, which holds the paths of all documents and params.yaml twice.
_MOST_JOURNAL = 256 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class InitJournal:
    """What `workbench init` puts in place: files with their SHA-256, new folders, and params.yaml.

    `before` and `after` are the texts of params.yaml. A journal is "removing" while `--undo` works;
    `removing` are then the paths that it removes, `before` is the text with the use case, and `after` the
    text without it.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    name: str
    state: Literal["placing", "done", "removing"]
    files: dict[str, str]
    folders: tuple[str, ...]
    blocks: tuple[Block, ...]
    before: str
    after: str
    removing: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """The journal's own path, relative to the repository."""
        return journal_of(self.name)


def journal_of(name: str) -> Path:
    """Return the path of the journal of a use case, relative to the repository."""
    return INIT / f"{name}.json"


def stage_of(name: str) -> Path:
    """Return the folder in which the files of a use case are staged, relative to the repository."""
    return INIT / f"{name}.new"


@contextlib.contextmanager
def alone(root: Path) -> Iterator[None]:
    """Exclude other commands that add or remove use cases, and settle what killed ones left."""
    folder = root / INIT
    with files.writing(folder):
        files.make_folder(folder)
        with locking.locked(folder):
            for path in sorted(folder.glob("*.json")):
                _settle(root, read(root, path.stem))
            for path in folder.glob("*.new"):
                shutil.rmtree(path)
            yield


def read(root: Path, name: str) -> InitJournal | None:
    """Return the journal of a use case, or None; ConfigError for a damaged one."""
    path = root / journal_of(name)
    if not path.is_file():
        return None
    text = files.read_text(path, limit=_MOST_JOURNAL)
    hint = f"rm {journal_of(name)}   # then remove the files of {name} by hand"
    return files.parse(InitJournal, files.parse_json(text, where=str(path)), where=str(path), hint=hint)


def read_params(root: Path) -> str:
    """Return the text of params.yaml with its own line ends."""
    try:
        return files.read_bytes(root / PARAMS).decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{PARAMS} is not UTF-8 text (byte {error.start})") from None


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return files.digest(files.read_bytes(path))


def place(root: Path, name: str, blocks: list[Block]) -> InitJournal:
    """Move the staged files to their places and insert the blocks into params.yaml; return the journal.

    After an error nothing is in place. Raise ConfigError when one of the files exists already.
    """
    stage, before = root / stage_of(name), read_params(root)
    paths = staged(stage)
    check_free(root, paths)
    journal = InitJournal(
        name=name,
        state="placing",
        files={path.as_posix(): digest_of(stage / path) for path in paths},
        folders=tuple(_missing_folders(root, paths)),
        blocks=tuple(blocks),
        before=before,
        after=params_text.inserted(before, blocks),
    )
    _write(root, journal)
    try:
        _move(root, stage, journal)
    except BaseException:
        take_back(root, journal)
        raise
    shutil.rmtree(stage, ignore_errors=True)
    return _done(root, journal)


def staged(stage: Path) -> list[Path]:
    """Return the files in a staging folder, relative to it, in order and without params.yaml."""
    found = sorted(path.relative_to(stage) for path in stage.rglob("*") if path.is_file())
    return [path for path in found if path != PARAMS]


def check_free(root: Path, paths: list[Path]) -> None:
    """Raise ConfigError when a file to be written exists already."""
    taken = [path for path in paths if os.path.lexists(root / path)]
    if taken:
        more = f" and {len(taken) - 1} more" if len(taken) > 1 else ""
        raise ConfigError(
            f"{taken[0]}{more} would be overwritten",
            hint="choose another name for the use case, or move it away",
        )


def _done(root: Path, journal: InitJournal) -> InitJournal:
    """Note that everything is in place."""
    journal = dataclasses.replace(journal, state="done")
    _write(root, journal)
    return journal


def take_back(root: Path, journal: InitJournal) -> None:
    """Remove the files of an interrupted journal that are in place, and the journal itself."""
    for path, digest in journal.files.items():
        target = root / path
        if target.is_file() and digest_of(target) == digest:
            target.unlink()
    _remove_folders(root, journal)
    shutil.rmtree(root / stage_of(journal.name), ignore_errors=True)
    (root / journal.path).unlink(missing_ok=True)


def remove(root: Path, journal: InitJournal, *, paths: tuple[str, ...], after: str) -> None:
    """Take a use case away, params.yaml first, then `paths`; after a kill the next command finishes it."""
    before = read_params(root)
    journal = dataclasses.replace(journal, state="removing", removing=paths, before=before, after=after)
    _write(root, journal)
    _finish_removal(root, journal)


def _finish_removal(root: Path, journal: InitJournal) -> None:
    text = read_params(root)
    if text == journal.before:
        files.write_atomic(root / PARAMS, journal.after.encode())
    elif text != journal.after:  # a person changed it after a kill
        files.write_atomic(root / PARAMS, params_text.cut(text, list(journal.blocks)).encode())
    for name in journal.removing:
        path = root / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    _remove_folders(root, journal)
    (root / journal.path).unlink(missing_ok=True)


def _settle(root: Path, journal: InitJournal | None) -> None:
    """Finish or take back what a killed command left."""
    if journal is None or journal.state == "done":
        return
    if journal.state == "removing":
        _finish_removal(root, journal)
    elif (text := read_params(root)) == journal.after or params_text.has(text, journal.blocks):
        _done(root, journal)
    else:
        take_back(root, journal)


def _move(root: Path, stage: Path, journal: InitJournal) -> None:
    with files.writing(root):
        for path in map(Path, journal.files):
            files.make_folder((root / path).parent)
            (stage / path).rename(root / path)
        for folder in {(root / path).parent for path in journal.files}:
            files.sync_folder(folder)
    if read_params(root) != journal.before:
        raise UnavailableError(f"{PARAMS} was changed meanwhile", hint="run the same command again")
    files.write_atomic(root / PARAMS, journal.after.encode())


def _missing_folders(root: Path, paths: list[Path]) -> list[str]:
    """Return the folders that the paths need and that do not exist, parents first."""
    parents = {parent for path in paths for parent in path.parents if not (root / parent).is_dir()}
    return sorted(parent.as_posix() for parent in parents)


def _remove_folders(root: Path, journal: InitJournal) -> None:
    """Remove the folders that the journal made, if they are empty."""
    for folder in sorted(journal.folders, reverse=True):
        with contextlib.suppress(OSError):
            (root / folder).rmdir()


def _write(root: Path, journal: InitJournal) -> None:
    files.write_atomic(root / journal.path, files.pretty(dataclasses.asdict(journal)))
