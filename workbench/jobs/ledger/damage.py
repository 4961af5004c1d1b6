"""A row of the ledger that cannot be read: what is wrong with it, which job it stops, and what to type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from workbench import files
from workbench.errors import ConfigError, CorruptError

#: The tables whose rows are read as values, with the columns that identify a row.
KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "runs": ("number",),
    "fired": ("job", "tenant", "role", "at", "attempt"),
    "pauses": ("job", "tenant", "version"),
    "withdrawals": ("job", "version"),
    "notices": ("number",),
}
T = TypeVar("T")
_ENDED: Final = frozenset({"finished", "lost"})
_HINT: Final = "workbench jobs repair --dry-run"


@dataclass(frozen=True, slots=True, kw_only=True)
class DamagedRow:
    """A row of a table that no workbench wrote: its key, its job, and why it cannot be read."""

    table: str
    key: tuple[str | int, ...]
    job: str
    why: str
    values: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def name(self) -> str:
        """The row in messages, such as `row 12 of runs`."""
        return f"row {'/'.join(map(str, self.key))} of {self.table}"

    @property
    def stops(self) -> bool:
        """Whether no run of its job may start: a run that has not ended may hold any of its slots."""
        return self.table == "runs" and self.values.get("state") not in _ENDED

    @classmethod
    def of(cls, table: str, row: Any, why: str) -> DamagedRow:
        """Return the damage of a row."""
        values = values_of(row)
        key = tuple(values[name] for name in KEYS[table])
        return cls(table=table, key=key, job=str(values["job"]), why=why, values=values)


class DamagedRowError(CorruptError):
    """A row of the ledger cannot be read; `row` says which."""

    def __init__(self, row: DamagedRow) -> None:
        run = f", run {row.values['run']}" if row.table == "runs" else ""
        said = f"the job ledger's {row.name} cannot be read (job {row.job}{run}): {row.why}"
        # A notice has the message alone.
        super().__init__(f"{said}; workbench jobs repair sets it aside", hint=_HINT)
        self.row = row


def values_of(row: Any) -> dict[str, Any]:
    """Return a row of any store as a mapping: SQLite compares a name with those of all columns."""
    return row if isinstance(row, dict) else dict(zip(row.keys(), row, strict=True))


def read_row(table: str, row: Any, read: Callable[[Any], T]) -> T:
    """Return what `read` makes of a row; DamagedRowError where it raises."""
    try:
        return read(row)
    except (ConfigError, ValueError, TypeError, OverflowError) as error:
        why = error.message if isinstance(error, ConfigError) else str(error)
        raise DamagedRowError(DamagedRow.of(table, row, files.shortened(why))) from None
