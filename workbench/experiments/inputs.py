"""Inputs of a job: rows of a file, each fitted to the task's type or set aside with a reason."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from workbench import files
from workbench.errors import ConfigError, NotFoundError, WorkbenchError, nearest

#: Gives a task its workspace, bound to a row's tenant.
Bind = Callable[[str], Any]
FORMATS = (".parquet", ".jsonl")


@dataclass(frozen=True, slots=True, kw_only=True)
class InputRow:
    """One row as it was read: its number from 1, and its columns, or why it could not be read."""

    number: int
    columns: Mapping[str, Any]
    fault: str = ""

    @property
    def id(self) -> str:
        """Its id, when it has one that is text."""
        found = self.columns.get("id")
        return found if isinstance(found, str) else ""

    @property
    def tenant(self) -> str:
        """Whose row it is, when it says."""
        found = self.columns.get("tenant")
        return found if isinstance(found, str) else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A row that is set aside. `kind` is "input" when the row is at fault, "task" when its answer is."""

    row: InputRow
    reason: str
    kind: str = "input"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Rows for `task.map`. `bind` gives a workspace for a row's tenant, one of `tenants`.

    `most_broken` is the share of broken rows above which nothing is asked. `progress` is a file
    that progress is told to, instead of a bar.
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
        """Rows as the type a task takes, and the broken ones; ConfigError when no row has a column."""
        if not is_dataclass(takes):
            raise ConfigError(f"task {task}: a row must be taken as a dataclass, such as wb.Question")
        wanted = [one.name for one in fields(takes)]
        needed = [one.name for one in fields(takes) if one.default is one.default_factory is MISSING]
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
            raise ConfigError("'id' is missing or no text")
        tenant = self._tenant(row)
        if row.id in seen:
            raise ConfigError("its id is there twice; the first row counts")
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
        """The workspace for a fitted row."""
        return self.bind(self._tenant(row))


def read(path: Path, *, tenant: str | None = None) -> tuple[InputRow, ...]:
    """The rows of a Parquet or JSON lines file; one that cannot be read as a table is a ConfigError.

    A line of JSON lines that is no object is a row at fault, not a fault of the file. With `tenant`,
    rows that say they are of another one are left out.
    """
    if path.suffix not in FORMATS:
        raise ConfigError(f"{path}: inputs are {' or '.join(FORMATS)} files", hint=_HINT)
    if path.suffix == ".jsonl":
        # Not `splitlines`: JSON may hold signs that Unicode counts as the end of a line.
        lines = [line for line in files.read_text(path, hint=_HINT).split("\n") if line.strip()]
        rows = tuple(_parsed(number, line) for number, line in enumerate(lines, start=1))
    else:
        rows = _table(path)
    rows = tuple(row for row in rows if tenant is None or row.tenant in {"", tenant})
    if not rows:
        whose = f" of tenant {tenant!r}" if tenant else ""
        raise ConfigError(f"{path} has no rows{whose}", hint="name a file with at least one row")
    return rows


_HINT = "workbench jobs run NAME --input FILE; FILE is .parquet or .jsonl"


def _parsed(number: int, line: str) -> InputRow:
    import orjson

    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        return InputRow(number=number, columns={}, fault="not JSON")
    if not isinstance(found, dict):
        return InputRow(number=number, columns={}, fault="not a JSON object")
    return InputRow(number=number, columns=found)


def _table(path: Path) -> tuple[InputRow, ...]:
    import polars as pl

    try:
        frame = pl.read_parquet(io.BytesIO(files.read_bytes(path)))
    except FileNotFoundError:
        raise NotFoundError(f"there is no file {path}", hint=_HINT) from None
    except (OSError, pl.exceptions.PolarsError) as error:
        said = (str(error).splitlines() or ["cannot be read"])[0]
        raise ConfigError(f"{path} is not a whole Parquet file: {said}") from None
    return tuple(
        InputRow(number=n, columns=row) for n, row in enumerate(frame.iter_rows(named=True), start=1)
    )
