"""Read the documents and questions that a new use case begins with."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench import retrieval
from workbench.errors import ConfigError, NotFoundError
from workbench.experiments.dataset import Dataset
from workbench.types import Page

#: Above this many bytes of documents, the command says that git keeps each version of them.
LARGE = 50 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Documents:
    """The documents of a folder: its files, relative to it, and the pages that were read from them."""

    folder: Path
    files: tuple[Path, ...] = field(repr=False)
    pages: tuple[Page, ...] = field(repr=False)
    size: int

    @property
    def tenants(self) -> tuple[str, ...]:
        """The tenants of the pages, sorted."""
        return tuple(sorted({page.tenant for page in self.pages}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """The rows of a table of questions, each with id, tenant, inputs and expected values.

    `page` says that every row names the page that answers it. `notes` tell of rows that were changed or are
    suspicious.
    """

    rows: tuple[dict[str, Any], ...] = field(repr=False)
    page: bool
    notes: tuple[str, ...] = ()

    @property
    def tenants(self) -> tuple[str, ...]:
        """The tenants of the rows, sorted."""
        return tuple(sorted({row["tenant"] for row in self.rows}))

    def lines(self, keys: tuple[str, ...] | None = None, *, most: int | None = None) -> bytes:
        """Return the rows as JSON lines, with these keys only when given, and at most `most` rows."""
        kept = [{k: v for k, v in row.items() if keys is None or k in keys} for row in self.rows[:most]]
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept).encode()


def documents(folder: Path, *, root: Path) -> Documents:
    """Return the documents of a folder; ConfigError names the first invalid one."""
    if not folder.is_dir():
        raise NotFoundError(f"--docs: there is no folder {folder}", hint=f"ls -ld {folder.parent}")
    pages = retrieval.load(folder.resolve(), root=root)
    found = _files(folder)
    return Documents(folder=folder, files=tuple(found), pages=tuple(pages), size=_size(folder, found))


def _files(folder: Path) -> list[Path]:
    """Return the regular files at any depth without hidden ones; the loader has refused links that leave."""
    found = []
    for parent, names, entries in os.walk(folder):
        names[:] = sorted(name for name in names if not name.startswith("."))
        paths = [Path(parent) / name for name in sorted(entries) if not name.startswith(".")]
        found += [path.relative_to(folder) for path in paths if stat.S_ISREG(path.stat().st_mode)]
    return found


def _size(folder: Path, found: list[Path]) -> int:
    return sum((folder / path).stat().st_size for path in found)


def questions(path: Path) -> Questions:
    """Return the questions of a table file; ConfigError names the line of an invalid row."""
    if not path.is_file():
        raise NotFoundError(f"--questions: there is no file {path}", hint=f"ls -l {path.parent}")
    made = Dataset.from_file(path)
    if not made.cases:
        raise ConfigError(f"{path} has no questions", hint="write one question a row")
    rows = tuple({"id": c.id, "tenant": c.tenant, **c.inputs, **c.expected, **c.provenance} for c in made)
    return Questions(rows=rows, page=True)
