"""The quality report of a dataset: what was rejected, repaired and suspicious, rule by rule."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from workbench import files
from workbench.data.detector_rules import Severity
from workbench.data.drift import ColumnDrift
from workbench.display import Card, Shown, number
from workbench.errors import ConfigError

#: The file of the report, beside the prepared cases.
FILE = "quality.json"
#: Rows that a report names for each rule; the others are counted.
NAMED = 10
_ORDER = {"stop": 0, "quarantine": 1, "note": 2}
#: Rows of a rule in one cell of the card.
_IN_CELL = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedRow:
    """A row that breaks a rule: its number in the file, from 1, its id or "", and the reason."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    row: int
    id: str
    reason: str

    def __str__(self) -> str:
        return f"row {self.row}" + (f" ({files.shortened(self.id)})" if self.id else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenRule:
    """A rule that rows break: its severity, the number of rows, and the first ten of them."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    rule: str
    severity: Severity
    count: int
    first: tuple[NamedRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A cleaning step that changed texts of a column, and their number."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    column: str
    step: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityReport(Shown):
    """The quality of a dataset: of `rows`, `kept` go on and `rejected` are set aside.

    `repaired` rows are kept with a cleaned text; `suspicious` rows are kept and break rules of severity note.
    `stopped` names the rules of severity stop that were broken. `drift` is empty without a profile, and
    `synthetic` without synthetic rows.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    name: str
    rows: int
    kept: int
    rejected: int
    repaired: int
    suspicious: int
    broken: tuple[BrokenRule, ...] = ()
    changes: tuple[Change, ...] = ()
    drift: tuple[ColumnDrift, ...] = ()
    stopped: tuple[str, ...] = ()
    synthetic: dict[str, Any] = field(default_factory=dict)

    @property
    def is_clean(self) -> bool:
        """Whether no rule is broken and no column drifts; repaired texts are allowed."""
        return not self.broken and not any(item.state == "drift" for item in self.drift)

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any], *, where: str) -> QualityReport:
        """Return the report of `to_json`; raise ConfigError when the values are no report."""
        return files.parse(cls, raw, where=where, hint="dvc repro")

    @classmethod
    def of_file(cls, path: Path) -> QualityReport | None:
        """Return the report that the stage `prepare` wrote to `path`; None when the file does not exist."""
        if not path.is_file():
            return None
        raw = files.parse_json(files.read_text(path), where=str(path))
        if not isinstance(raw, dict):
            raise ConfigError(f"{path} holds no report", hint="dvc repro")
        return cls.from_json(raw.get("report", {}), where=str(path))

    def effect(self, expected: Collection[str]) -> str:
        """Return how the rules changed the cases that a gate judges, in one sentence; "" when they did not.

        These are rows set aside, texts with another spelling, and changed values of the columns `expected`.
        """
        aside = f"{self.rejected} of {self.rows} rows are set aside by quality rules"
        if rules := [item for item in self.broken if item.severity != "note"]:
            first = sorted(rules, key=lambda item: (-item.count, item.rule))
            more = f"; {len(first) - _IN_CELL} more" if len(first) > _IN_CELL else ""
            aside += f" ({'; '.join(f'{item.rule} {item.count}' for item in first[:_IN_CELL])}{more})"
        found = [c for c in self.changes if c.step == "map" or c.column in expected]
        changed = ", ".join(f"{item.column} {item.count} by {item.step}" for item in found)
        said = [aside] * bool(self.rejected) + [f"cleaning changes what is judged: {changed}"] * bool(found)
        return "; ".join(said)

    def check_stopped(self, *, hint: str) -> None:
        """Raise ConfigError, which names the rules of severity stop that are broken and their rows."""
        if not self.stopped:
            return
        told = []
        for name in self.stopped:
            rule = next((item for item in self.broken if item.rule == name), None)
            if rule is None:
                told.append(name)
                continue
            more = f" and {rule.count - _IN_CELL} more" if rule.count > _IN_CELL else ""
            told.append(f"{name}: {', '.join(map(str, rule.first[:_IN_CELL]))}{more}")
        raise ConfigError(f"{self.name}: stopped by {'; '.join(told)}", hint=hint)

    def card(self) -> Card:
        """Return the display card: one row for each broken rule, the severest first."""
        rows = [
            (item.rule, item.severity, str(item.count), _cell(item))
            for item in sorted(self.broken, key=lambda item: (_ORDER[item.severity], item.rule))
        ]
        return Card(
            title=f"Quality of {self.name}: {self.kept} of {self.rows} rows kept",
            head=("rule", "severity", "rows", "about it"),
            rows=rows or [("every rule", "", "0", "")],
            notes=self.notes(),
            command="workbench check"
            if self.is_clean
            else "fix the rows or the rules, then: workbench check",
        )

    def notes(self) -> list[str]:
        """Return the sentences below the table."""
        found = [f"{self.rejected} rejected, {self.repaired} repaired, {self.suspicious} suspicious"]
        if self.changes:
            steps = ", ".join(f"{item.step} of {item.column} {item.count}" for item in self.changes)
            found.append(f"repaired: {steps}")
        found += self._synthetic_notes()
        found += self.drift_notes()
        if any(item.state == "undecided" for item in self.drift):
            names = ", ".join(item.column for item in self.drift if item.state == "undecided")
            found.append(f"drift of {names} is undecided: too few rows, or a profile of other rules")
        elif self.drift and not any(item.state == "drift" for item in self.drift):
            found.append(f"no drift in {len(self.drift)} columns")
        return found

    def _synthetic_notes(self) -> list[str]:
        """Return one sentence about synthetic rows, no sentence without them."""
        if not self.synthetic:
            return []
        made, real = self.synthetic["rows"], self.synthetic["real"]
        if not real:
            return [f"{made} of {made} rows are synthetic: there is no real row to compare them with"]
        shares = ", ".join(
            f"{name} {share:.0%}" for name, share in sorted(self.synthetic["coverage"].items())
        )
        return [f"{made} of {made + real} rows are synthetic and cover of the real ones: {shares}"]

    def drift_notes(self) -> list[str]:
        """Return one sentence for each column that drifts."""
        return [
            f"drift of {item.column} ({item.kind}): distance {number(item.distance)}, p {number(item.p)}; "
            f"{item.moved}"
            for item in self.drift
            if item.state == "drift"
        ]


def _cell(rule: BrokenRule) -> str:
    shown = "; ".join(f"{row}: {row.reason}" for row in rule.first[:_IN_CELL])
    return shown + (f"; {rule.count - _IN_CELL} more" if rule.count > _IN_CELL else "")
