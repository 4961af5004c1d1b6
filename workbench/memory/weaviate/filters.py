"""Who sees what, as a filter inside the server's search: the same sentence as `rules.visible`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from workbench.memory.rules import requester_of
from workbench.memory.weaviate.schema import OPEN, day_number, second_number, wrapped
from workbench.ports import Query, Requester
from workbench.types import Item

if TYPE_CHECKING:
    from weaviate.collections.classes.filters import FilterReturn

#: Conditions that a tenant may not need: none of its rows could fail them.
CONDITIONS = frozenset({"classification", "starts", "ends", "expires", "versions"})


def needed_by(items: Iterable[Item]) -> frozenset[str]:
    """Conditions that some search must state once these items are there."""
    needed: set[str] = set()
    for item in items:
        needed |= {"classification"} if item.classification else set()
        needed |= {"starts"} if item.valid_from else set()
        needed |= {"ends"} if item.valid_to else set()
        needed |= {"expires"} if item.expires else set()
    return frozenset(needed)


def visible(query: Query, *, version: int, conditions: frozenset[str]) -> FilterReturn | None:
    """The filter for what the asker may see in a version; None when that is nothing.

    `conditions` are those that a row of this tenant could fail: each one stated costs the server about
    half a millisecond for 10,000 rows.
    """
    from weaviate.classes.query import Filter

    groups, sources = _sendable(query.groups), _sendable(query.sources)
    if not groups or (query.sources and not sources):
        return None
    by = Filter.by_property
    parts = _opened(requester_of(query), groups, conditions)
    day = day_number(query.as_of, otherwise=0)
    if "starts" in conditions:
        parts.append(by("starts").less_or_equal(day))
    if "ends" in conditions:
        parts.append(by("ends").greater_than(day))
    if "versions" in conditions:
        parts += _of_version(version)
    if sources:
        parts.append(by("source").contains_any([wrapped(source) for source in sources]))
    if query.kinds:
        parts.append(by("kind").contains_any(list(query.kinds)))
    return _all(parts)


def readable(requester: Requester | None, *, version: int) -> FilterReturn | None:
    """Rows of a version that the asker sees, or all of it; None when that is nothing."""
    if requester is None:
        return _all(_of_version(version))
    groups = _sendable(requester.groups)
    return _all(_opened(requester, groups, CONDITIONS) + _of_version(version)) if groups else None


def _opened(requester: Requester, groups: Iterable[str], conditions: frozenset[str]) -> list[Any]:
    """What these groups and the asker's clearance open, and has not ended."""
    from weaviate.classes.query import Filter

    by = Filter.by_property
    parts: list[Any] = [by("access").contains_any([wrapped(group) for group in groups])]
    if "classification" in conditions:
        parts.append(by("classification").less_or_equal(requester.clearance))
    if "expires" in conditions:
        parts.append(by("expires").greater_than(second_number(requester.now)))
    return parts


def _of_version(version: int) -> list[Any]:
    """What is in force in a version.

    A row whose `until` is being written has none for a moment (1.39), and would be missed by a condition
    that asks for one: so what has ended is left out, rather than what has not ended taken.
    """
    from weaviate.classes.query import Filter

    by = Filter.by_property
    return [by("since").less_or_equal(version), Filter.not_(by("until").less_or_equal(version))]


def written_by_use() -> FilterReturn:
    """Rows that belong to no version."""
    from weaviate.classes.query import Filter

    return Filter.by_property("since").equal(0)


def knowledge(version: int | None = None) -> FilterReturn:
    """Rows of documents, of one version, or of every version and staged."""
    from weaviate.classes.query import Filter

    of_documents = Filter.by_property("since").greater_than(0)
    return of_documents if version is None else _all([of_documents, *_of_version(version)])


def among(name: str, values: Iterable[str]) -> FilterReturn:
    """Rows of which a property is one of these, or has one of them."""
    from weaviate.classes.query import Filter

    return Filter.by_property(name).contains_any(list(values))


def expired(now: str) -> FilterReturn:
    """Rows that may not be used any more."""
    from weaviate.classes.query import Filter

    return Filter.by_property("expires").less_or_equal(second_number(now))


def outdated(oldest: int) -> FilterReturn:
    """Rows that only versions before `oldest` hold."""
    from weaviate.classes.query import Filter

    return Filter.by_property("until").less_or_equal(oldest)


def expiring() -> FilterReturn:
    """Rows that have an end."""
    from weaviate.classes.query import Filter

    return Filter.by_property("expires").less_than(OPEN)


def _all(parts: list[Any]) -> FilterReturn:
    from weaviate.classes.query import Filter

    return parts[0] if len(parts) == 1 else Filter.all_of(parts)


def _sendable(names: Iterable[str]) -> list[str]:
    """Names that are Unicode: no item can have another."""
    return [name for name in names if not any("\ud800" <= character <= "\udfff" for character in name)]
