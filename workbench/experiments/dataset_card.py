"""The card of a dataset: how many cases, of whom, their columns, and the first of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from workbench.display import Card, harmless
from workbench.widgets.cutting import shortened

#: The cases and columns that a card shows, and the characters of each value.
_FIRST, _COLUMNS, _TEXT = 5, 5, 60
#: The values and names that a note lists, and the most values of a column that makes slices.
_LISTED, _MOST_SLICES = 6, 50


class ListedCase(Protocol):
    """What a card shows of a case."""

    @property
    def id(self) -> str:
        """Return the id."""

    @property
    def tenant(self) -> str:
        """Return the tenant."""

    @property
    def inputs(self) -> Mapping[str, Any]:
        """Return the inputs of the task."""

    @property
    def expected(self) -> Mapping[str, Any]:
        """Return the expected values."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Return where the case is from."""


def card_of(name: str, cases: Sequence[ListedCase]) -> Card:
    """Return the card of cases that are sorted by id."""
    first = cases[:_FIRST]
    inputs, expected = (_keys(getattr(case, part) for case in cases) for part in ("inputs", "expected"))
    shown = [*inputs, *expected][:_COLUMNS]
    rows = [
        [_short(case.id), _short(case.tenant), *(_value(_row(case).get(key)) for key in shown)]
        for case in first
    ]
    tenants = Counter(case.tenant for case in cases)
    notes = [f"tenants: {_counted(tenants)}", f"inputs: {_named(inputs)}; expected: {_named(expected)}"]
    if sliced := _slices(cases, [*inputs, *expected]):
        notes.append(f"columns that make slices: {_named(sliced)}")
    if made := sum(bool(case.provenance.get("synthetic")) for case in cases):
        notes.append(f"{made} of {len(cases)} cases are synthetic")
    if len(cases) > len(first):
        notes.append(f"the first {len(first)} of {len(cases)} by id; .to_frame() has all")
    return Card(
        title=f"{_short(name)} · {len(cases)} cases",
        head=["id", "tenant", *map(_short, shown)],
        rows=rows,
        notes=notes if cases else [],
        command="ws.experiment().compare(TASK, cases, scorers=[…], arms={…})" if cases else "",
    )


def _row(case: ListedCase) -> Mapping[str, Any]:
    return {**case.inputs, **case.expected}


def _keys(parts: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for part in parts for key in part))


def _slices(cases: Sequence[ListedCase], columns: Sequence[str]) -> list[str]:
    """Return the columns with few enough values to measure a score by, each with their number."""
    found = []
    for name in ("tenant", *columns):
        values = [case.tenant if name == "tenant" else _row(case).get(name) for case in cases]
        if any(isinstance(value, list | tuple | dict) for value in values):
            continue
        distinct = len(set(map(str, values)))
        if 2 <= distinct <= min(_MOST_SLICES, len(cases) // 2):
            found.append(f"{name} ({distinct} values)")
    return found


def _counted(counts: Counter[str]) -> str:
    listed = [f"{_short(name)} {count}" for name, count in sorted(counts.items())[:_LISTED]]
    return ", ".join(listed) + _more(len(counts))


def _named(names: Sequence[str]) -> str:
    return (", ".join(map(_short, names[:_LISTED])) or "none") + _more(len(names))


def _more(count: int) -> str:
    return f" and {count - _LISTED} more" if count > _LISTED else ""


def _value(value: Any) -> str:
    """Return an input or an expected value in one short line; the texts of a list are alternatives."""
    if value is None:
        return ""
    return _short(" or ".join(map(str, value)) if isinstance(value, list | tuple) else str(value))


def _short(text: str) -> str:
    return shortened(harmless(" ".join(text[:1_000].split())), _TEXT)
