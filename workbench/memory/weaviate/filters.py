"""Build the server's filter for what a requester may see: the same conditions as `rules.visible`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from workbench.memory.rules import requester_of
from workbench.memory.weaviate.schema import day_number, second_number, wrapped
from workbench.ports import Query, Requester

if TYPE_CHECKING:
    from weaviate.collections.classes.filters import FilterReturn


def visible(query: Query, *, version: int) -> FilterReturn | None:
    """Return the filter for what the requester may see in a version; None when that is nothing."""
    from weaviate.classes.query import Filter

    groups, sources = _sendable(query.groups), _sendable(query.sources)
    if not groups or (query.sources and not sources):
        return None
    by, day = Filter.by_property, day_number(query.as_of, otherwise=0)
    parts = [
        *_readable(requester_of(query), groups),
        by("starts").less_or_equal(day),
        by("ends").greater_than(day),
        *_of_version(version),
    ]
    if sources:
        parts.append(by("source").contains_any([wrapped(source) for source in sources]))
    if query.kinds:
        parts.append(by("kind").contains_any(list(query.kinds)))
    return Filter.all_of(parts)


def readable(requester: Requester | None, *, version: int) -> FilterReturn | None:
    """Return the filter for rows of a version that the requester sees; None when there are none.

    Without a requester these are all rows of the version.
    """
    from weaviate.classes.query import Filter

    if requester is None:
        return Filter.all_of(_of_version(version))
    groups = _sendable(requester.groups)
    return Filter.all_of([*_readable(requester, groups), *_of_version(version)]) if groups else None


def _readable(requester: Requester, groups: Iterable[str]) -> list[Any]:
    """Return the conditions for rows that the requester's groups and clearance open before they expire."""
    from weaviate.classes.query import Filter

    by = Filter.by_property
    return [
        by("access").contains_any([wrapped(group) for group in groups]),
        by("classification").less_or_equal(requester.clearance),
        by("expires").greater_than(second_number(requester.now)),
    ]


def _of_version(version: int) -> list[Any]:
    """Return the conditions for rows that are active in a version.

    A row whose `until` is being written has none for a moment (1.39), and a condition that demands one
    misses the row. So rows that have ended are excluded instead.
    """
    from weaviate.classes.query import Filter

    by = Filter.by_property
    return [by("since").less_or_equal(version), Filter.not_(by("until").less_or_equal(version))]


def written_by_use() -> FilterReturn:
    """Return the filter for rows that belong to no version."""
    from weaviate.classes.query import Filter

    return Filter.by_property("since").equal(0)


def knowledge(version: int | None = None) -> FilterReturn:
    """Return the filter for documents of one version, or of every version and staged."""
    from weaviate.classes.query import Filter

    of_documents = Filter.by_property("since").greater_than(0)
    return of_documents if version is None else Filter.all_of([of_documents, *_of_version(version)])


def among(name: str, values: Iterable[str]) -> FilterReturn:
    """Return the filter for rows of which a property is, or contains, one of these values."""
    from weaviate.classes.query import Filter

    return Filter.by_property(name).contains_any(list(values))


def expired(now: str) -> FilterReturn:
    """Return the filter for rows that have expired."""
    from weaviate.classes.query import Filter

    return Filter.by_property("expires").less_or_equal(second_number(now))


def outdated(oldest: int) -> FilterReturn:
    """Return the filter for rows that only versions before `oldest` hold."""
    from weaviate.classes.query import Filter

    return Filter.by_property("until").less_or_equal(oldest)


def _sendable(names: Iterable[str]) -> list[str]:
    """Return the names that are valid Unicode: no item has any other."""
    return [name for name in names if not any("\ud800" <= character <= "\udfff" for character in name)]
