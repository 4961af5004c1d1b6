"""Inputs of a job: the rows of a file, each as the task's type or broken with a reason."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from workbench import files
from workbench.errors import ConfigError, NotFoundError, WorkbenchError, nearest

#: Returns a workspace bound to the tenant of a row.
Bind = Callable[[str], Any]
FORMATS = (".parquet", ".jsonl")


@dataclass(frozen=True, slots=True, kw_only=True)
class InputRow:
    """One row of a file: its number from 1 and its columns; or its text and the fault that it has."""

    number: int
    columns: Mapping[str, Any]
    fault: str = ""
    text: str = ""

    @property
    def id(self) -> str:
        """The id; empty when it is missing or not text."""
        found = self.columns.get("id")
        return found if isinstance(found, str) else ""

    @property
    def tenant(self) -> str:
        """The tenant; empty when it is missing or not text."""
        found = self.columns.get("tenant")
        return found if isinstance(found, str) else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A row without an answer. `kind` is "input" when the row is at fault, "task" when its answer is."""

    row: InputRow
    reason: str
    kind: str = "input"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Rows for `task.map`. `bind` returns a workspace for a row's tenant, which is one of `tenants`.

    `most_broken` is the largest share of broken rows with which a batch runs. `progress` is a file for the
    progress, in place of a bar.
    """

    name: str
    rows: tuple[InputRow, ...] = field(repr=False)
    tenants: tuple[str, ...]
    bind: Bind = field(repr=False)
    concurrency: int = 4
    most_broken: float = 1.0
    progress: Path | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def fitted(self, takes: Any, *, task: str) -> tuple[list[tuple[InputRow, Any]], list[Broken]]:
        """Return rows as the type of a task, and broken rows; ConfigError when a column is missing."""
        if not is_dataclass(takes):
            raise ConfigError(
                f"task {task}: its second parameter is {takes!r} and not a dataclass",
                hint=f"def {task}(ws, case: wb.Question) -> wb.Answer",
            )
        wanted = [item.name for item in fields(takes)]
        needed = [item.name for item in fields(takes) if item.default is item.default_factory is MISSING]
        self._check_columns(["id", *(name for name in needed if name not in {"id", "tenant"})])
        good: list[tuple[InputRow, Any]] = []
        broken: list[Broken] = []
        seen: set[str] = set()
        for row in self.rows:
            try:
                good.append((row, self._fit(row, takes, wanted, seen)))
            except WorkbenchError as error:
                broken.append(Broken(row=row, reason=error.message.removeprefix("row: ")))
        return good, broken

    def _check_columns(self, wanted: Sequence[str]) -> None:
        known = {name for row in self.rows for name in row.columns}
        for name in wanted:
            if self.rows and name not in known and not all(row.fault for row in self.rows):
                raise ConfigError(
                    f"{self.name} has no column {name!r} ({nearest(name, known)})",
                    hint=f"it needs the columns {', '.join(wanted)}",
                )

    def _fit(self, row: InputRow, takes: Any, wanted: Sequence[str], seen: set[str]) -> Any:
        if row.fault:
            raise ConfigError(row.fault)
        if not row.id.strip():
            raise ConfigError("'id' is missing or not text")
        tenant = self._tenant(row)
        if row.id in seen:
            raise ConfigError("its id is the id of an earlier row")
        given = {**row.columns, "tenant": tenant}
        raw = {name: given[name] for name in wanted if given.get(name) is not None}
        value = files.parse(takes, raw, where="row")
        seen.add(row.id)
        return value

    def _tenant(self, row: InputRow) -> str:
        if row.columns.get("tenant") is None and len(self.tenants) == 1:
            return self.tenants[0]
        if row.tenant not in self.tenants:
            raise ConfigError("'tenant' is missing or not one this use case serves")
        return row.tenant

    def workspace(self, row: InputRow) -> Any:
        """Return the workspace for a row that fits."""
        return self.bind(self._tenant(row))


def read(path: Path, *, tenant: str | None = None) -> tuple[InputRow, ...]:
    """Return the rows of a Parquet or JSON lines file; ConfigError when the file is not a table.

    A line that is not a JSON object is a row with a fault. With `tenant`, rows of other tenants are left
    out.
    """
    if path.suffix not in FORMATS:
        raise ConfigError(f"{path}: inputs are {' or '.join(FORMATS)} files", hint=_HINT)
    if path.suffix == ".jsonl":
        # Not `splitlines`: JSON may hold characters that Unicode counts as the end of a line.
        lines = [line for line in files.read_text(path, hint=_HINT).split("\n") if line.strip()]
        rows = tuple(_parsed(number, line) for number, line in enumerate(lines, start=1))
    else:
        rows = _table(path)
    rows = tuple(row for row in rows if tenant is None or row.tenant in {"", tenant})
    if not rows:
        owner = f" of tenant {tenant!r}" if tenant else ""
        raise ConfigError(f"{path} has no rows{owner}", hint="name a file with one row or more: --input FILE")
    return rows


_HINT = "workbench jobs run NAME --input FILE; FILE is .parquet or .jsonl"


def _parsed(number: int, line: str) -> InputRow:
    try:
        found = files.parse_json(line, where="row")
    except ConfigError as error:
        return InputRow(number=number, columns={}, fault=error.message.removeprefix("row: "), text=line)
    if not isinstance(found, dict):
        return InputRow(number=number, columns={}, fault="not a JSON object", text=line)
    return InputRow(number=number, columns=found)


def _table(path: Path) -> tuple[InputRow, ...]:
    import polars as pl

    try:
        frame = pl.read_parquet(io.BytesIO(files.read_bytes(path)))
    except FileNotFoundError:
        raise NotFoundError(f"there is no file {path}", hint=_HINT) from None
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = (str(error).splitlines() or ["cannot be read"])[0]
        raise ConfigError(f"{path} is not a whole Parquet file: {reason}") from None
    return tuple(
        InputRow(number=n, columns=row) for n, row in enumerate(frame.iter_rows(named=True), start=1)
    )
