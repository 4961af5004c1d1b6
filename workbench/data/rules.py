"""Quality rules of a dataset: the file `pipelines/quality/NAME.yaml`, read strictly."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from workbench import files
from workbench.data.detector_rules import Anomalies, Severity
from workbench.errors import ConfigError, nearest

#: A rule of one column.
Check = Literal["type", "required", "allowed", "pattern", "range", "length", "language"]
Step = Literal["line_ends", "control_characters", "nfc", "trim"]
_NUMBERS = frozenset({"integer", "number"})
_TEXTS = frozenset({"text", "category", "texts", "day"})
#: Shortest and longest code of a language, as in ISO 639.
_CODE = (2, 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The least and the greatest accepted number, both included."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    min: float | None = None
    max: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnRule:
    """The rules of one column; docs/quality.md describes every key.

    `severity` applies to every rule of the column, unless `severities` names another one for it.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    type: Literal["text", "category", "texts", "integer", "number", "boolean", "day", "any"] = "text"
    required: bool = False
    allowed: tuple[str | int | float, ...] | None = None
    pattern: str | None = None
    range: Bounds | None = None
    length: Bounds | None = None
    language: tuple[str, ...] | None = None
    severity: Severity = "quarantine"
    severities: dict[Check, Severity] = field(default_factory=dict)

    @property
    def is_category(self) -> bool:
        """Whether the column has few values, which a profile may store."""
        return self.type in {"category", "boolean"} or (self.type == "text" and self.allowed is not None)

    def severity_of(self, check: Check) -> Severity:
        """Return the severity of one rule of the column."""
        return self.severities.get(check, self.severity)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unique:
    """Columns whose values together occur once; the first row with them is kept."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    columns: tuple[str, ...]
    severity: Severity = "quarantine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaning:
    """Repairs of texts before the rules are checked; each one is recorded in the ledger.

    `map` replaces the spellings of a column's values. Without `columns` the steps apply to every text column.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    steps: tuple[Step, ...] = ()
    columns: tuple[str, ...] | None = None
    map: dict[str, dict[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityRules:
    """The rules of one dataset.

    `unreadable`, `unknown_tenant` and `unfit` are the severities of rules that always apply. `profile` is the
    path of the stored profile.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    columns: dict[str, ColumnRule]
    unique: tuple[Unique, ...] = ()
    anomalies: Anomalies = field(default_factory=Anomalies)
    cleaning: Cleaning = field(default_factory=Cleaning)
    unreadable: Severity = "quarantine"
    unknown_tenant: Severity = "quarantine"
    unfit: Severity = "quarantine"
    profile: str | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        """The columns that hold texts."""
        return tuple(name for name, rule in self.columns.items() if rule.type in _TEXTS)

    def requiring(self, columns: Collection[str]) -> QualityRules:
        """Return the rules with `columns` required, and with unique ids."""
        found = dict(self.columns)
        for name in columns:
            kind: Any = "text" if name in {"id", "tenant"} else "any"
            found[name] = dataclasses.replace(found.get(name, ColumnRule(type=kind)), required=True)
        ids = () if any(item.columns == ("id",) for item in self.unique) else (Unique(columns=("id",)),)
        return dataclasses.replace(self, columns=found, unique=(*self.unique, *ids))

    def without_required(self, column: str) -> QualityRules:
        """Return the rules with an optional `column`."""
        if column not in self.columns:
            return self
        optional = dataclasses.replace(self.columns[column], required=False)
        return dataclasses.replace(self, columns={**self.columns, column: optional})

    def of_columns(self, columns: Collection[str]) -> QualityRules:
        """Return the rules without those that need another column than `columns`."""
        detectors = {}
        for item in dataclasses.fields(Anomalies):
            stated = getattr(self.anomalies, item.name)
            if stated is not None and hasattr(stated, "columns"):
                kept = tuple(name for name in stated.columns if name in columns)
                stated = dataclasses.replace(stated, columns=kept) if kept else None
            detectors[item.name] = stated
        cleaned = self.cleaning.columns
        cleaning = dataclasses.replace(
            self.cleaning,
            columns=None if cleaned is None else tuple(name for name in cleaned if name in columns),
            map={name: found for name, found in self.cleaning.map.items() if name in columns},
        )
        return dataclasses.replace(
            self,
            columns={name: rule for name, rule in self.columns.items() if name in columns},
            unique=tuple(item for item in self.unique if set(item.columns) <= set(columns)),
            anomalies=Anomalies(**detectors),
            cleaning=cleaning,
        )


def read_rules(path: Path, *, where: str = "") -> QualityRules:
    """Return the rules of a file; raise ConfigError, which names file and key, for rules that contradict."""
    where = where or str(path)
    rules = files.parse(QualityRules, files.read_yaml(path, hint=_HINT), where=where, hint=_HINT)
    for name, rule in rules.columns.items():
        _check_column(rule, f"{where}: columns.{name}")
    for place, names in _named(rules):
        for name in names:
            _check_known(name, rules, f"{where}: {place}")
    _check_map(rules, where)
    _check_numbers(rules, where)
    return rules


_HINT = "see docs/quality.md for every key"


def _named(rules: QualityRules) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each list of columns outside of `columns`, with its place in the file."""
    for number, unique in enumerate(rules.unique):
        yield f"unique.{number}.columns", unique.columns
    for kind in ("range", "length", "category", "encoding", "near_duplicate", "near_real"):
        if (found := getattr(rules.anomalies, kind)) is not None:
            yield f"anomalies.{kind}.columns", found.columns
    yield "cleaning.columns", rules.cleaning.columns or ()
    yield "cleaning.map", tuple(rules.cleaning.map)


def _check_known(name: str, rules: QualityRules, where: str) -> None:
    if name not in rules.columns:
        raise ConfigError(
            f"{where}: there is no column {files.shortened(name)!r} ({nearest(name, rules.columns)})",
            hint=f"declare it: columns: {{{name}: {{type: text}}}}",
        )
    kind, text = rules.columns[name].type, where.partition(": ")[2]
    wrong = text.startswith("anomalies.range") and kind not in _NUMBERS
    wrong |= (
        text.startswith(("anomalies.length", "anomalies.encoding", "anomalies.near")) and kind not in _TEXTS
    )
    wrong |= text.startswith("unique") and kind in {"any", "texts"}
    wrong |= text.startswith("cleaning") and kind not in _TEXTS
    wrong |= text.startswith("anomalies.category") and not rules.columns[name].is_category
    if wrong:
        raise ConfigError(
            f"{where}: the column {name!r} is of type {kind}, which this does not apply to",
            hint=_HINT,
        )


def _check_column(rule: ColumnRule, where: str) -> None:
    """Raise ConfigError for a rule that the column's type does not have, or that accepts nothing."""
    numbers, texts = rule.type in _NUMBERS, rule.type in _TEXTS
    stated: Mapping[str, tuple[Any, bool]] = {
        "allowed": (rule.allowed, numbers or (texts and rule.type != "day")),
        "pattern": (rule.pattern, texts and rule.type != "texts"),
        "range": (rule.range, numbers),
        "length": (rule.length, texts),
        "language": (rule.language, rule.type == "text"),
    }
    for key, (value, fits) in stated.items():
        if value is not None and not fits:
            raise ConfigError(f"{where}.{key}: a column of type {rule.type} has no {key}", hint=_HINT)
    for key in ("allowed", "language"):
        if getattr(rule, key) == ():
            raise ConfigError(f"{where}.{key} is empty: it accepts no value", hint=f"remove {key}")
    for value in rule.allowed or ():
        if isinstance(value, str) == numbers:
            raise ConfigError(f"{where}.allowed: {value!r} is not of type {rule.type}", hint=_HINT)
    for key, bounds in (("range", rule.range), ("length", rule.length)):
        ends = [] if bounds is None else [end for end in (bounds.min, bounds.max) if end is not None]
        if bounds is not None and (not ends or ends != sorted(ends)):
            raise ConfigError(f"{where}.{key} accepts no value, or every value", hint="min: 1, max: 5")
    _check_pattern(rule, where)


def _check_pattern(rule: ColumnRule, where: str) -> None:
    for code in rule.language or ():
        if not (_CODE[0] <= len(code) <= _CODE[1] and code.isascii() and code.islower()):
            raise ConfigError(f"{where}.language: {code!r} is not a language code", hint="language: [en, de]")
    if rule.pattern is None:
        return
    import polars as pl

    try:
        pl.Series([""]).str.contains(full(rule.pattern))
    except pl.exceptions.PolarsError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ConfigError(
            f"{where}.pattern: {files.shortened(rule.pattern)!r} is not a regular expression: {reason}",
            hint="the syntax is that of Rust's crate regex, without look-around",
        ) from None


def full(pattern: str) -> str:
    """Return the pattern that matches only a whole text."""
    return f"^(?:{pattern})$"


def _check_map(rules: QualityRules, where: str) -> None:
    """Raise ConfigError for a mapping that changes what it produced, or produces what is not allowed."""
    for column, spellings in rules.cleaning.map.items():
        place, allowed = f"{where}: cleaning.map.{column}", rules.columns[column].allowed
        for old, new in spellings.items():
            if new in spellings and spellings[new] != new:
                raise ConfigError(
                    f"{place}: {old!r} becomes {new!r}, which becomes {spellings[new]!r}",
                    hint=f"map {old!r} to {spellings[new]!r}",
                )
            if allowed is not None and old in allowed and old != new:
                raise ConfigError(
                    f"{place}: {old!r} is an allowed value and no other spelling of {new!r}",
                    hint=f"remove {old!r} from allowed, or correct the rows of the dataset",
                )
            if allowed is not None and new not in allowed:
                known = nearest(new, map(str, allowed))
                raise ConfigError(f"{place}: {new!r} is not allowed ({known})", hint=_HINT)


def _check_numbers(rules: QualityRules, where: str) -> None:
    found = rules.anomalies
    where = f"{where}: anomalies"
    for key in ("near_duplicate", "near_real"):
        if (similar := getattr(found, key)) is not None:
            _check_share(similar.threshold, 0.1, f"{where}.{key}.threshold")
    if found.drift is not None:
        _check_share(found.drift.false_alarms, 0.001, f"{where}.drift.false_alarms")
        _check_share(found.drift.distance, 0.001, f"{where}.drift.distance")
    for key in ("range", "length"):
        outliers = getattr(found, key)
        if outliers is not None and outliers.spread < 1:
            raise ConfigError(f"{where}.{key}.spread must be 1 or more, found {outliers.spread:g}")
    if rules.profile is None and (found.category is not None or found.drift is not None):
        name = "category" if found.category is not None else "drift"
        raise ConfigError(
            f"{where}.{name} compares with a profile, and the key profile is missing",
            hint="profile: pipelines/quality/NAME.profile.json, made by: workbench data profile NAME",
        )


def _check_share(share: float, least: float, where: str) -> None:
    if not least <= share <= 1:
        raise ConfigError(f"{where} must be {least:g} to 1, found {share:g}")
