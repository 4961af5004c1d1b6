"""Build the server's filter for what a requester may see: the same conditions as `rules.visible`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from workbench.memory.rules import requester_of, sees_nothing
from workbench.memory.weaviate.conditions import parts_of, sendable
from workbench.memory.weaviate.objects import day_number, second_number, wrapped
from workbench.ports import Query, Requester

if TYPE_CHECKING:
    from weaviate.classes.query import Filter
    from weaviate.collections.classes.filters import FilterReturn, _FilterByProperty

Encrypt = Callable[[str], str]


def visible(query: Query, *, version: int, encrypt: Encrypt) -> FilterReturn | None:
    """Return the filter for what the requester may see in a version; None when that is nothing.

    `encrypt` encrypts a subject as the tenant's rows have it.
    """
    sources = sendable(query.sources)
    seen = _readable(requester_of(query), encrypt)
    if seen is None or (query.sources and not sources):
        return None
    day = day_number(query.as_of, otherwise=0)
    parts = [
        *seen,
        _by("starts").less_or_equal(day),
        _by("ends").greater_than(day),
        *_of_version(version),
    ]
    if sources:
        parts.append(_by("source").contains_any([wrapped(source) for source in sources]))
    if query.kinds:
        parts.append(_by("kind").contains_any(list(query.kinds)))
    return _filter().all_of(parts)


def readable(requester: Requester | None, *, version: int, encrypt: Encrypt) -> FilterReturn | None:
    """Return the filter for rows of a version that the requester sees; None when there are none.

    Without a requester these are all rows of the version.
    """
    if requester is None:
        return _filter().all_of(_of_version(version))
    seen = _readable(requester, encrypt)
    return None if seen is None else _filter().all_of([*seen, *_of_version(version)])


def _readable(requester: Requester, encrypt: Encrypt) -> list[Any] | None:
    """Return the conditions for unexpired rows that the requester may see; None when there are none."""
    if sees_nothing(requester):
        return None
    unexpired = _by("expires").greater_than(second_number(requester.now))
    if requester.where is not None:
        permitted = parts_of(requester.where, encrypt)
        return None if permitted is None else [*permitted, unexpired]
    groups = sendable(requester.groups)
    if not groups:
        return None
    return [
        _by("access").contains_any([wrapped(group) for group in groups]),
        _by("classification").less_or_equal(requester.clearance),
        unexpired,
    ]


def _of_version(version: int) -> list[Any]:
    """Return the conditions for rows that are active in a version.

    A row whose `until` is being written has none for a moment (1.39), and a condition that demands one
    misses the row. So rows that have ended are excluded instead.
    """
    return [_by("since").less_or_equal(version), _filter().not_(_by("until").less_or_equal(version))]


def written_by_use() -> FilterReturn:
    """Return the filter for rows that belong to no version."""
    return _by("since").equal(0)


def knowledge(version: int | None = None) -> FilterReturn:
    """Return the filter for documents of one version, or of every version and staged."""
    of_documents = _by("since").greater_than(0)
    return of_documents if version is None else _filter().all_of([of_documents, *_of_version(version)])


def among(name: str, values: Iterable[str]) -> FilterReturn:
    """Return the filter for rows of which a property is, or contains, one of these values."""
    return _by(name).contains_any(list(values))


def expired(now: str) -> FilterReturn:
    """Return the filter for rows that have expired."""
    return _by("expires").less_or_equal(second_number(now))


def outdated(oldest: int) -> FilterReturn:
    """Return the filter for rows that only versions before `oldest` hold."""
    return _by("until").less_or_equal(oldest)


def _filter() -> type[Filter]:
    """Return the client's filters, which are imported on first use only."""
    from weaviate.classes.query import Filter

    return Filter


def _by(name: str) -> _FilterByProperty:
    return _filter().by_property(name)
