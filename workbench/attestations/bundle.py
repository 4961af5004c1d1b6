"""The files of a bundle: a version, the statements about it, and the trusted keys, each by its name.

The folder of an export holds:

    export.dsse.json        signed by who exported the folder: the SHA-256 of every other file
    keys.yaml               the keys that the repository trusts
    statements/NAME.dsse.json
    version/                the files of the version
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from workbench import files
from workbench.attestations.dsse import MOST_BYTES
from workbench.attestations.folder import SUFFIX
from workbench.errors import ConfigError, CorruptError, WorkbenchError

EXPORT: Final = f"export{SUFFIX}"
KEYS_FILE: Final = "keys.yaml"
STATEMENTS, VERSION = "statements/", "version/"
#: The statement that lists the others of a promotion, and the page of a version.
INDEX: Final = f"{STATEMENTS}evidence{SUFFIX}"
PAGE: Final = f"{VERSION}job.yaml"
_MOST_FILES: Final = 50_000
#: Most bytes of all statements, which are kept in memory while they are verified.
_MOST_KEPT: Final = 256 << 20
#: Most bytes of a file of a version.
_MOST_BYTES: Final = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A file that is not as it was signed, and why."""

    file: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """The files of a bundle as they were read, once: the SHA-256 of each, and the bytes of what is parsed."""

    what: str
    digests: Mapping[str, str]
    contents: Mapping[str, bytes]
    faults: tuple[Fault, ...] = ()

    @classmethod
    def of(cls, what: str, places: Mapping[str, Path]) -> Bundle:
        """Return the files at these paths, by their names in the bundle; an unreadable file is a fault."""
        digests: dict[str, str] = {}
        contents: dict[str, bytes] = {}
        faults: list[Fault] = []
        kept = 0
        for name, path in sorted(places.items()):
            try:
                digests[name], data = _read(path, keep=_is_parsed(name))
                kept += len(data or b"")
                if kept > _MOST_KEPT:
                    raise CorruptError(f"the statements have more than {_MOST_KEPT >> 20} MB together")
            except (WorkbenchError, OSError) as error:
                faults.append(Fault(file=name, what=fault_text(name, error)))
                continue
            if data is not None:
                contents[name] = data
        return cls(what=what, digests=digests, contents=contents, faults=tuple(faults))

    @classmethod
    def of_folder(cls, folder: Path) -> Bundle:
        """Return the files below an exported folder; ConfigError when it is none."""
        if not folder.is_dir():
            raise ConfigError(f"{folder} is no folder", hint="workbench evidence export job/NAME@N DIR")
        places = dict(entries_below(folder))
        if EXPORT not in places:
            raise ConfigError(
                f"{folder} holds no {EXPORT}, and is no export of evidence",
                hint="workbench evidence export job/NAME@N DIR",
            )
        return cls.of(str(folder), places)


def _is_parsed(name: str) -> bool:
    return name in {EXPORT, KEYS_FILE} or name.startswith(STATEMENTS)


def _read(path: Path, *, keep: bool) -> tuple[str, bytes | None]:
    """Return the SHA-256 of a regular file, and its bytes when they are kept."""
    if path.is_symlink():
        raise CorruptError("is a link, and evidence consists of files")
    if keep:
        data = files.read_bytes(path, limit=MOST_BYTES)
        return files.digest(data), data
    with open(files.open_regular(path), "rb") as file:  # noqa: PTH123  of a descriptor
        if os.fstat(file.fileno()).st_size > _MOST_BYTES:
            raise CorruptError(f"has more than {_MOST_BYTES >> 30} GB")
        return hashlib.file_digest(file, "sha256").hexdigest(), None


def entries_below(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield every entry below a folder that is no folder, by its relative path; links are not followed.

    A folder that cannot be listed is yielded too: nobody knows what it holds.
    """
    if not folder.exists():
        return
    number = 0
    unlisted: list[OSError] = []
    for top, names, others in os.walk(folder, onerror=unlisted.append):
        links = [name for name in names if stat.S_ISLNK((Path(top) / name).lstat().st_mode)]
        for name in [*others, *links]:
            number += 1
            if number > _MOST_FILES:
                raise ConfigError(f"{folder} holds more than {_MOST_FILES:,} files", hint=f"ls {folder}")
            path = Path(top) / name
            yield path.relative_to(folder).as_posix(), path
    for error in unlisted:
        path = Path(error.filename)
        yield path.relative_to(folder).as_posix(), path


def fault_text(name: str, error: Exception) -> str:
    """Return what is wrong with a file, without its name in front."""
    text = error.message if isinstance(error, WorkbenchError) else str(getattr(error, "strerror", error))
    return text.removeprefix(f"{name}: ")
