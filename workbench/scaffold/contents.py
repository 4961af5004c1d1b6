"""The files of a new repository: where the installed package holds each, and what is left out."""

from __future__ import annotations

import importlib.metadata
import os
import re
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from workbench import files
from workbench.errors import ConfigError
from workbench.layout import ASSESSMENTS, PARAMS, PROMOTED
from workbench.policy.source import BUILTIN, FOLDER

PACKAGE = Path(__file__).resolve().parents[1]
#: In a wheel: copies of the project's files, which the build hook in wheel.py adds.
CARRIED = PACKAGE / "scaffold" / "carried"
#: The files of a new repository that the project has otherwise.
LAID = PACKAGE / "scaffold" / "laid"
#: The use case and the job of params.yaml that a new repository shows as an example.
EXAMPLE = "answers"
_REINSTALL = "pip install --force-reinstall workbench"
_LEFT_BEHIND = re.compile(r"__pycache__|\.ipynb_checkpoints|.+\.pyc|\..+\.[0-9a-f]{8}")
_TOO_LARGE = 64_000_000
#: What a repository decides itself: its approvals of models, and its policies.
_DECIDED = re.compile(rf"{re.escape(f'{ASSESSMENTS}/')}.+\.approvals\.yaml|{re.escape(f'{FOLDER}/')}.+")
#: The section of params.yaml that names a list of words.
_TERMS = re.compile(r"^privacy:.*?(?=^\S|\Z)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The files of a new repository by their paths in it; each is a file to copy, or bytes."""

    files: Mapping[str, Path | bytes]

    @property
    def tops(self) -> set[str]:
        """The names at the top of the repository."""
        return {name.partition("/")[0] for name in self.files}

    def read(self, name: str) -> bytes:
        """Return the bytes of a file; ConfigError when the installation has lost it."""
        source = self.files[name]
        if isinstance(source, bytes):
            return source
        try:
            return files.read_bytes(source, limit=_TOO_LARGE)
        except FileNotFoundError:
            raise _broken(str(source)) from None


def contents(*, empty: bool = False) -> Contents:
    """Return the files of a new repository, without the example use case when `empty`.

    It begins with the built-in policies, without approvals and without lists of words, whatever the
    project's own are. Raise ConfigError when the installed package lacks some of them.
    """
    _check_installed()
    base, example = _carried()
    code = {f"workbench/{name}": path for name, path in _below(PACKAGE) if not path.is_relative_to(CARRIED)}
    policies = {f"{FOLDER}/{name}": path for name, path in _below(BUILTIN)}
    found: dict[str, Path | bytes] = {**code, **base, **policies, **dict(_below(LAID))}
    if empty:
        found["notebooks/.gitkeep"] = b""
    else:
        found |= example
    for name in map(str, (PARAMS, PROMOTED)):
        if name not in base:
            raise _broken(name)
        kept = {EXAMPLE} if name == str(PARAMS) and not empty else set()
        found[name] = _with_blocks(_TERMS.sub("", files.read_text(base[name])), kept).encode()
    return Contents(files=dict(sorted(found.items())))


def _check_installed() -> None:
    """Raise ConfigError when a file is missing that the installer recorded for this package."""
    try:
        recorded = importlib.metadata.files("workbench") or []
    except importlib.metadata.PackageNotFoundError:
        return
    for item in recorded:
        path = Path(str(item.locate()))
        # Compiled modules may be deleted; another copy of the package may shadow the installed one.
        if item.suffix != ".pyc" and path.is_relative_to(PACKAGE) and not path.is_file():
            raise _broken(str(item))


def _carried() -> tuple[dict[str, Path], dict[str, Path]]:
    """Return the files of every repository and those of the example, from the wheel or the project."""
    if CARRIED.is_dir():
        return _undecided(_below(CARRIED / "base")), dict(_below(CARRIED / "example"))
    root = PACKAGE.parent
    project = root / "pyproject.toml"
    if not project.is_file():
        raise _broken(f"{CARRIED.relative_to(root)}/")
    hook = tomllib.loads(files.read_text(project))["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]
    groups = (hook["custom"][group] for group in ("base", "example"))
    base, example = (
        _undecided(file for path in group if path != FOLDER for file in _listed(root, path))
        for group in groups
    )
    return base, example


def _undecided(found: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    """Return the files without what the project decided for itself."""
    return {name: path for name, path in found if not _DECIDED.fullmatch(name)}


def _listed(root: Path, name: str) -> Iterator[tuple[str, Path]]:
    """Yield the file of the project with this name, or all files of the folder."""
    path = root / name
    if path.is_dir():
        yield from ((f"{name}/{below}", file) for below, file in _below(path))
    elif path.is_file():
        yield name, path
    else:
        raise ConfigError(
            f"{path} is missing, and a new repository begins with it",
            hint="pip install workbench in another environment, and use its `workbench new`",
        )


def _below(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files below a folder with their paths in it, without what programs leave behind."""
    for top, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _LEFT_BEHIND.fullmatch(name))
        inside = Path(top).relative_to(folder)
        for name in sorted(names):
            path = Path(top, name)
            if not _LEFT_BEHIND.fullmatch(name) and path.is_file():
                yield (inside / name).as_posix(), path


def _with_blocks(text: str, names: Collection[str]) -> str:
    """Return a YAML file of sections of named blocks with only these blocks; comments stay."""
    kept: list[str] = []
    chosen = spaced = True
    for line in text.splitlines(keepends=True):
        block = re.match(r"  ([^\s#:]+):", line)
        top = line[0] not in " \n"
        chosen = top or (block[1] in names if block else chosen)
        if chosen:
            kept += ["\n"] if top and not spaced else []
            kept.append(line)
        spaced = (
            chosen or line != "\n"
        )  # a blank line after a block that is left out separates the next section
    return re.sub(r"(?m)^(\w+):[ \t]*(?:#.*)?\n(?=\n|\S|\Z)", r"\1: {}\n", "".join(kept))


def _broken(name: str) -> ConfigError:
    return ConfigError(f"this installation of workbench lacks {name}", hint=_REINSTALL)
