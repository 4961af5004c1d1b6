"""Inputs of a job: the rows of a file, each as the task's type or broken with a reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from workbench import files
from workbench.errors import ConfigError, NotFoundError, RefusedError, WorkbenchError, nearest
from workbench.files import tables

#: Return a workspace bound to the tenant of a row.
Bind = Callable[[str], Any]
FORMATS = (".parquet", ".jsonl")
#: Columns of a memory's items that no input of a task has together.
_ITEM = frozenset({"access", "classification", "source_digest", "text"})


@dataclass(frozen=True, slots=True, kw_only=True)
class InputRow:
    """One row of a file: its number, from 1, with its columns, or with its text and its fault."""

    number: int
    columns: Mapping[str, Any]
    fault: str = ""
    text: str = ""

    @property
    def id(self) -> str:
        """The id; empty when it is missing or not text."""
        value = self.columns.get("id")
        return value if isinstance(value, str) else ""

    @property
    def tenant(self) -> str:
        """The tenant; empty when it is missing or not text."""
        value = self.columns.get("tenant")
        return value if isinstance(value, str) else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A row without an answer. `kind` is "input" for an invalid row and "task" for an invalid answer."""

    row: InputRow
    reason: str
    kind: str = "input"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Rows for `task.map`. `bind` returns a workspace for a row's tenant, which is one of `tenants`.

    `most_broken` is the largest share of broken rows with which a batch runs. `progress` is a file that
    receives the progress; without it, a bar is shown.
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

    def exceeded_by(self, broken: Sequence[Broken]) -> bool:
        """Return whether the share of broken rows is above `most_broken`."""
        return len(broken) > self.most_broken * len(self.rows)

    def fitted(self, takes: Any, *, task: str) -> tuple[list[tuple[InputRow, Any]], list[Broken]]:
        """Return the rows as the type `takes`, and the broken rows.

        Raises ConfigError when `takes` is not a dataclass or a column is missing.
        """
        check_takes(takes, task)
        wanted = {item.name: item.type for item in fields(takes)}
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
                    hint=f"the task needs the columns {', '.join(wanted)}",
                )

    def _fit(self, row: InputRow, takes: Any, wanted: Mapping[str, Any], seen: set[str]) -> Any:
        if row.fault:
            raise ConfigError(row.fault)
        if not row.id.strip():
            raise ConfigError("'id' is missing or not text")
        tenant = self._tenant(row)
        if row.id in seen:
            raise ConfigError("'id' is the id of an earlier row")
        given = {**row.columns, "tenant": tenant}
        raw = {name: given[name] for name in wanted if given.get(name) is not None}
        for name, value in raw.items():
            if isinstance(value, Decimal) and "Decimal" in str(wanted[name]):
                raw[name] = str(value)  # its exact form in JSON
        value = files.parse(takes, raw, where="row")
        seen.add(row.id)
        return value

    def _tenant(self, row: InputRow) -> str:
        if row.columns.get("tenant") is None and len(self.tenants) == 1:
            return self.tenants[0]
        if row.tenant not in self.tenants:
            raise ConfigError("'tenant' is missing or not a tenant of this use case")
        return row.tenant

    def workspace(self, row: InputRow) -> Any:
        """Return the workspace for a row that fits."""
        return self.bind(self._tenant(row))


def read(path: Path, *, tenant: str | None = None) -> tuple[InputRow, ...]:
    """Return the rows of a Parquet or JSON lines file, without rows of tenants other than `tenant`.

    A line that is not a JSON object is a row with a fault. Raises NotFoundError for a missing file,
    ConfigError for a file that is not a table or has no rows, and RefusedError for a memory's items.
    """
    if path.suffix not in FORMATS:
        raise ConfigError(f"{path}: inputs are {' or '.join(FORMATS)} files", hint=_HINT)
    if path.suffix == ".jsonl":
        # Not `splitlines`: JSON may hold characters that Unicode counts as the end of a line.
        lines = [line for line in files.read_text(path, hint=_HINT).split("\n") if line.strip()]
        rows = tuple(_parsed(number, line) for number, line in enumerate(lines, start=1))
    else:
        rows = _table(path)
    if rows and rows[0].columns.keys() >= _ITEM:  # read as rows, they would pass by their access lists
        raise RefusedError(
            f"{path} holds the items of a memory, which its access lists guard",
            hint="search the memory: ws.memory().search(…)",
        )
    rows = tuple(row for row in rows if tenant is None or row.tenant in {"", tenant})
    if not rows:
        owner = f" of tenant {tenant!r}" if tenant else ""
        raise ConfigError(f"{path} has no rows{owner}", hint="name a file with one row or more: --input FILE")
    return rows


def check_takes(takes: Any, task: str) -> None:
    """Raise ConfigError unless `takes`, the type of a task's case, is a dataclass."""
    if not is_dataclass(takes):
        raise ConfigError(
            f"task {task}: the type of its second parameter is {takes!r}, which is not a dataclass",
            hint=f"def {task}(ws, case: wb.Question) -> wb.Answer",
        )


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
    try:
        data = files.read_bytes(path)
    except FileNotFoundError:
        raise NotFoundError(f"there is no file {path}", hint=_HINT) from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", hint=_HINT) from None
    frame = tables.read_parquet(data, where=str(path))
    return tuple(
        InputRow(number=n, columns=row) for n, row in enumerate(frame.iter_rows(named=True), start=1)
    )
