"""Add a case to a dataset file: one JSON line, written atomically, and the same case not twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench import files, locking
from workbench.display import Card, Shown
from workbench.errors import ConfigError
from workbench.experiments.dataset import PROVENANCE, Case
from workbench.experiments.stated_path import inside
from workbench.files import folders, tables

#: Bytes of a dataset file that cases are added to; a larger one is no list of hard cases.
_MOST_BYTES = 256_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedCase(Shown):
    """The file that a case was added to; `new` is false when the file had the case already."""

    path: Path
    case: str
    new: bool
    n: int

    def card(self) -> Card:
        """Return a card that says what the file holds, and how to read it."""
        what = "added" if self.new else "was there already"
        return Card(
            title=f"{self.case} {what}: {self.path} has {self.n} cases", head=(), rows=(),
            command=f'wb.Dataset.from_file("{self.path}")',
        )  # fmt: skip


def add_case(root: Path, file: str, case: Case) -> AddedCase:
    """Add a case to a JSON lines file below `root`, which is created if missing.

    ConfigError for a path outside the repository, for a file with another row of the same id or with other
    columns, and for a damaged file; nothing is written then.
    """
    example = "data/hard-cases.jsonl"
    path = inside(root, file, where="the dataset file", example=example)
    if path.suffix != ".jsonl":
        raise ConfigError(f"{files.shortened(file)!r} is not a .jsonl file", hint=f"for example {example}")
    row = {"id": case.id, "tenant": case.tenant, **case.inputs, **case.expected, **case.provenance}
    where = root / path
    with files.writing(where):
        files.make_folder(where.parent)
        with locking.locked(where.parent):
            folders.purge(where)  # what a killed writer left
            text = files.read_text(where, limit=_MOST_BYTES) if where.exists() else ""
            rows = [known for _, known in tables.json_lines(text, where=str(path))]
            new = _is_new(row, rows, path)
            if new:
                end = "" if not text or text.endswith("\n") else "\n"
                files.write_atomic(where, f"{text}{end}".encode() + files.canonical(row) + b"\n")
    return AddedCase(path=path, case=case.id, new=new, n=len(rows) + new)


def _is_new(row: Mapping[str, Any], rows: list[dict[str, Any]], path: Path) -> bool:
    """Return whether no row has the case; ConfigError for its id with another content, or other columns."""
    ours = set(row).difference(PROVENANCE)
    for number, known in enumerate(rows, start=1):
        if known.get("id") == row["id"]:
            if files.canonical(known) == files.canonical(row):
                return False
            raise ConfigError(
                f"{path}: the case {row['id']!r} is there with another content",
                hint="correct that row, or add the case to another file",
            )
        theirs = set(known).difference(PROVENANCE)
        if theirs != ours:
            raise ConfigError(
                f"{path}, row {number}: its columns are {', '.join(sorted(theirs))}, those of the case "
                f"{', '.join(sorted(ours))}",
                hint="add the case to a file of the same columns",
            )
    return True
