"""Translate the policies' conditions on items into the server's filters."""

from __future__ import annotations

import datetime as dt
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from workbench.memory.weaviate.objects import DAY_S, MARKED, OPEN, marked, wrapped
from workbench.ports import ItemFilter
from workbench.ports.item_filter import NO_END, all_of, any_of, at_most, number_of, one_of
from workbench.types import MOST_CLASSIFIED, MOST_TRUSTED

if TYPE_CHECKING:
    from weaviate.classes.query import Filter

#: The attributes that rows have as entries of `access`, and the greatest numbers of two others.
_MARKED: Final = frozenset({"owner", "trust"})
_GREATEST: Final = {"trust": MOST_TRUSTED, "classification": MOST_CLASSIFIED}
_DAYS: Final = range(1, dt.date.max.toordinal() + 1)
_NUMBERS: Final = {"valid_from": "starts", "valid_to": "ends", "expires": "expires"}


def parts_of(where: ItemFilter, encrypt: Callable[[str], str]) -> list[Any] | None:
    """Return the server's filters for a condition, which all must hold; None for one that never holds.

    `encrypt` encrypts a subject as the tenant's rows have it. Rows of workbenches that wrote no entries for
    owner and trust are not found by a condition that compares these, nor by one on an empty subject.
    """
    where = _resolved(where)
    if where == any_of([]):
        return None
    compares = where.attributes & _MARKED or _compares_empty(where)
    parts = [_by("access").contains_any([MARKED])] if compares else []
    return parts if where == all_of([]) else [*parts, _sent(where, encrypt)]


def _resolved(where: ItemFilter) -> ItemFilter:
    """Return an equal condition of comparisons that the server has."""
    if where.op in {"and", "or"}:
        combine = all_of if where.op == "and" else any_of
        return combine(map(_resolved, where.parts))
    if where.op in {"not in", ">"}:
        return _positive(where.negated()).negated()
    return _positive(where)


def _positive(where: ItemFilter) -> ItemFilter:
    """Return an equal condition for one with `in` or `<=`."""
    name = where.attribute
    if name in _GREATEST:
        known = range(_GREATEST[name] + 1)
        if where.op == "in":
            return one_of(name, [number for number in known if number in where.values])
        if name == "trust":
            return one_of(name, [number for number in known if number <= int(where.values[0])])
        return where
    if name not in _NUMBERS:  # a text, and no item has one that is not Unicode
        return one_of(name, sendable(map(str, where.values)))
    if where.op == "in":
        numbers = [int(value) for value in where.values]
        return any_of(all_of([at_most(name, n), at_most(name, n - 1).negated()]) for n in numbers)
    return where


def _sent(where: ItemFilter, encrypt: Callable[[str], str]) -> Any:
    if where.op in {"and", "or"}:
        parts = [_sent(part, encrypt) for part in where.parts]
        return _filter().all_of(parts) if where.op == "and" else _filter().any_of(parts)
    if where.op in {"not in", ">"} and where.attribute not in _NUMBERS:
        return _filter().not_(_sent(where.negated(), encrypt))
    if where.op in {"<=", ">"}:
        name, bound = _bound(where.attribute, int(where.values[0]))
        compared = _by(name)
        return compared.less_or_equal(bound) if where.op == "<=" else compared.greater_than(bound)
    return _among(where.attribute, where.values, encrypt)


def _among(attribute: str, values: Sequence[Any], encrypt: Callable[[str], str]) -> Any:
    """Return the filter for rows of which the attribute is one of `values`."""
    if attribute == "acl":
        return _by("access").contains_any(list(map(wrapped, values)))
    if attribute in _MARKED:
        return _by("access").contains_any([marked(attribute, value) for value in values])
    if attribute == "subject":
        named = [encrypt(value) for value in values if value]
        parts = [_by("subject").contains_any(named)] if named else []
        if "" in values:
            parts.append(_by("access").contains_any([marked("subject", "")]))
        return _filter().any_of(parts)
    sent = list(map(wrapped, values)) if attribute == "source" else list(values)
    return _by(attribute).contains_any(sent)


def _compares_empty(where: ItemFilter) -> bool:
    """Return whether a condition compares the subject with the empty text."""
    own = where.attribute == "subject" and "" in where.values
    return own or any(map(_compares_empty, where.parts))


def _bound(attribute: str, number: int) -> tuple[str, int]:
    """Return the property of a number, and its greatest value of which the number is at most `number`."""
    name = _NUMBERS.get(attribute, attribute)
    if attribute not in _NUMBERS:
        return name, min(max(number, -1), MOST_CLASSIFIED)
    if attribute in NO_END and number >= number_of(NO_END[attribute]):
        return name, OPEN
    if number < 0:
        return name, -1
    if attribute != "expires":
        return name, _last_day(number)
    day, time = divmod(number, 10**6)
    last = _last_day(day)
    if not last or _of_day(last) < day:
        return name, (last + 1) * DAY_S - 1
    return name, last * DAY_S + bisect_right(range(DAY_S), time, key=_of_second) - 1


def _last_day(number: int) -> int:
    """Return the ordinal of the last day of which the number is at most `number`, 0 for none."""
    return bisect_right(_DAYS, number, key=_of_day)


def _of_day(ordinal: int) -> int:
    return number_of(dt.date.fromordinal(ordinal).isoformat())


def _of_second(second: int) -> int:
    return second // 3600 * 10_000 + second // 60 % 60 * 100 + second % 60


def sendable(names: Iterable[str]) -> list[str]:
    """Return the names that are valid Unicode: no item has any other."""
    return [name for name in names if not any("\ud800" <= character <= "\udfff" for character in name)]


def _filter() -> type[Filter]:
    """Return the client's filters, which are imported on first use only."""
    from weaviate.classes.query import Filter

    return Filter


def _by(name: str) -> Any:
    return _filter().by_property(name)
