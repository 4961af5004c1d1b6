"""Validate the columns of a dataset against its rules: a `dataframely` schema made from the rules file."""

from __future__ import annotations

import datetime as dt
import functools
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench import files
from workbench.data.detector_rules import Severity
from workbench.data.rules import Check, ColumnRule, QualityRules, full
from workbench.errors import nearest
from workbench.imports import without

if TYPE_CHECKING:
    import polars as pl

    Expression = Callable[[pl.Expr], pl.Expr]

#: A text without a letter, a digit, a punctuation mark or a symbol is empty.
_VISIBLE = r"[\p{L}\p{N}\p{P}\p{S}]"
_QUOTED = 40
_NUMBER = "#row"


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A row that breaks a rule: the row's index from 0, the rule's name, its severity and the reason.

    `rule` is `COLUMN: CHECK`, or the name of a rule of whole rows. A reason quotes no free text.
    """

    index: int
    rule: str
    severity: Severity
    reason: str


def typed(value: Any, rule: ColumnRule) -> tuple[Any, bool]:
    """Return a value as the column's type holds it, and whether it has that type; None is of every type."""
    if value is None or value == "" or rule.type == "any":  # an empty text counts as missing
        return (None if value in (None, "", [], {}) else True), True
    if rule.type in {"integer", "number"}:
        fits = isinstance(value, int if rule.type == "integer" else int | float)
        fits = fits and not isinstance(value, bool) and math.isfinite(value) and abs(value) < 2**63
        exact = float(value) if fits and rule.type == "number" else value
        return (exact, True) if fits else (None, False)
    if rule.type == "boolean":
        return (value, True) if isinstance(value, bool) else (None, False)
    if rule.type == "texts":
        fits = isinstance(value, list) and all(isinstance(item, str) for item in value)
        return (value, True) if fits else (None, False)
    if isinstance(value, str):
        return (value, True) if rule.type != "day" or _is_day(value) else (None, False)
    return None, False


def violations(rows: Sequence[Mapping[str, Any]], rules: QualityRules) -> Iterator[Violation]:
    """Yield each violation of a column's rules but `language`, which is a detector of anomalies."""
    columns: dict[str, list[Any]] = {}
    for name, rule in rules.columns.items():
        columns[name] = []
        for index, row in enumerate(rows):
            value, fits = typed(row.get(name), rule)
            columns[name].append(value)
            if not fits:
                found = type(row[name]).__name__
                reason = f"{name!r} must be of type {rule.type}, found {found}"
                yield _violation(index, name, rule, "type", reason)
    fields = {name: _field(rule, dict(_checks(rule))) for name, rule in rules.columns.items()}
    for index, name, check in _broken(columns, fields, {}):
        rule = rules.columns[name]
        if check != "required" or typed(rows[index].get(name), rule)[1]:  # else the type is wrong
            yield _violation(index, name, rule, check, _reason(name, rule, check, columns[name][index]))


def repeats(rows: Sequence[Mapping[str, Any]], rules: QualityRules) -> Iterator[Violation]:
    """Yield each row that repeats the values of an earlier row in columns that are unique together."""
    named = dict.fromkeys(name for unique in rules.unique for name in unique.columns)
    columns = {name: [typed(row.get(name), rules.columns[name])[0] for row in rows] for name in named}
    fields = {name: _field(rules.columns[name], {}) for name in named}
    by_key = {unique.columns: unique for unique in rules.unique}
    for index, key, _ in _broken(columns, fields, by_key):
        names = ", ".join(map(repr, key))
        reason = f"{names} repeats the value of an earlier row"
        severity = by_key[key].severity
        yield Violation(index=index, rule=f"{', '.join(key)}: unique", severity=severity, reason=reason)


def _violation(index: int, name: str, rule: ColumnRule, check: Any, reason: str) -> Violation:
    severity = rule.severity_of(check)
    return Violation(index=index, rule=f"{name}: {check}", severity=severity, reason=reason)


def _reason(name: str, rule: ColumnRule, check: str, value: Any) -> str:
    if check == "required":
        return f"{name!r} is missing or empty"
    if check == "allowed":
        known = [str(item) for item in rule.allowed or ()]
        wrong = (
            next((item for item in value if item not in (rule.allowed or ())), "")
            if rule.type == "texts"
            else value
        )
        quoted = files.shortened(str(wrong)[:_QUOTED])
        return f"{name!r} is {quoted!r}, which is not allowed ({nearest(str(wrong)[:200], known)})"
    if check == "pattern":
        return f"{name!r} does not match the pattern {files.shortened(rule.pattern or '')!r}"
    bounds = rule.range if check == "range" else rule.length
    found = value if check == "range" else _length(value)
    ends = [
        f"{word} {end:g}"
        for word, end in (("at least", bounds and bounds.min), ("at most", bounds and bounds.max))
        if end is not None
    ]
    unit = " characters" if check == "length" else ""
    return f"{name!r} is {found:g}{unit}, and must be {' and '.join(ends)}"


def _length(value: Any) -> int:
    return len(value) if isinstance(value, str) else max(map(len, value), default=0)


def _is_day(text: str) -> bool:
    try:
        return dt.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


# -- the schema of dataframely ---------------------------------------------------------------


@functools.cache  # once, because another thread may import meanwhile what is hidden
def _dataframely() -> Any:
    """Return the module; outside of notebooks without its way to SQLAlchemy, whose import takes longer."""
    with without(*([] if "ipykernel" in sys.modules else ["sqlalchemy"])):
        import dataframely
    return dataframely


def _broken(
    columns: Mapping[str, Sequence[Any]], fields: Mapping[str, Any], keys: Mapping[tuple[str, ...], Any]
) -> Iterator[tuple[int, Any, Any]]:
    """Yield index, column and check of each violation; of a key, its columns and an empty check.

    Columns have positions for names in the frame, so that any name of a column is possible.
    """
    import polars as pl

    dy = _dataframely()

    if not columns or not next(iter(columns.values())):
        return
    places = {name: f"c{number}" for number, name in enumerate(columns)}
    members: dict[str, Any] = {_NUMBER: dy.Int64(alias=_NUMBER)}
    members |= {places[name]: field for name, field in fields.items()}
    told: dict[str, Any] = {}
    for number, key in enumerate(keys):
        told[f"unique{number}"] = key
        members[f"unique{number}"] = dy.rule()(_first_of([pl.col(places[name]) for name in key]))
    schema: Any = type("Rules", (dy.Schema,), members)
    numbers = {_NUMBER: range(len(next(iter(columns.values()))))}
    values = {places[name]: column for name, column in columns.items()}
    frame = pl.DataFrame({**numbers, **values}, schema=schema.create_empty().schema, strict=True)
    details = schema.filter(frame)[1].details()
    told |= {place: name for name, place in places.items()}
    for column in details.columns:
        if column in values or column == _NUMBER:
            continue
        place, _, rule_name = column.partition("|")
        for index in details.filter(pl.col(column) == "invalid")[_NUMBER]:
            yield index, told[place], rule_name.removeprefix("check__")


def _first_of(keys: Sequence[pl.Expr]) -> Any:
    import polars as pl

    missing = pl.any_horizontal(*[key.is_null() for key in keys])
    return lambda _schema: missing | pl.struct(*keys).is_first_distinct()


def _field(rule: ColumnRule, checks: Mapping[Check, Expression]) -> Any:
    """Return the column of dataframely for a rule; a missing value breaks only the check `required`."""
    dy = _dataframely()
    given: dict[str, Any] = {"nullable": True, "check": dict(checks) or None}
    if rule.type == "number":
        return dy.Float64(**given)
    if rule.type == "integer":
        return dy.Int64(**given)
    if rule.type in {"boolean", "any"}:
        return dy.Bool(**given)
    if rule.type == "texts":
        return dy.List(dy.String(nullable=True), **given)
    return dy.String(**given)


def _checks(rule: ColumnRule) -> Iterator[tuple[Check, Expression]]:
    import polars as pl

    many = rule.type == "texts"
    if rule.required:
        yield "required", _present(rule)
    if rule.allowed is not None:
        accepted = list(rule.allowed)
        yield (
            "allowed",
            (
                (lambda e: e.list.eval(pl.element().is_in(accepted)).list.all())
                if many
                else (lambda e: e.is_in(accepted))
            ),
        )
    if rule.pattern is not None:
        pattern = full(rule.pattern)
        yield "pattern", lambda e: e.str.contains(pattern)
    for check, bounds in (("range", rule.range), ("length", rule.length)):
        if bounds is not None:
            low = -math.inf if bounds.min is None else bounds.min
            high = math.inf if bounds.max is None else bounds.max
            yield check, _between(check, low, high, many=many)  # type: ignore[misc]


def _present(rule: ColumnRule) -> Expression:
    import polars as pl

    if rule.type == "texts":
        visible = pl.element().str.contains(_VISIBLE)
        return lambda e: e.is_not_null() & e.list.eval(visible).list.any().fill_null(value=False)
    if rule.type in {"text", "category"}:
        return lambda e: e.is_not_null() & e.str.contains(_VISIBLE).fill_null(value=False)
    return lambda e: e.is_not_null()


def _between(check: str, low: float, high: float, *, many: bool) -> Expression:
    import polars as pl

    if check == "range":
        return lambda e: e.is_between(low, high)
    if many:
        fits = pl.element().str.len_chars().is_between(low, high)
        return lambda e: e.list.eval(fits).list.all()
    return lambda e: e.str.len_chars().is_between(low, high)
