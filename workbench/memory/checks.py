"""Check items, queries, selectors and versions in the same way for every store."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import get_args

from workbench.context import is_instant
from workbench.errors import ConfigError, NotFoundError, items_gone, nearest
from workbench.ports import Query, SearchMode, Selector
from workbench.types import KNOWLEDGE, MOST_CLASSIFIED, MOST_TRUSTED, Item, ItemKind


def is_day(text: str) -> bool:
    """Return whether `text` is an ISO day in canonical form, so that days compare as texts."""
    try:
        return dt.date.fromisoformat(text).isoformat() == text
    except (TypeError, ValueError):
        return False


def checked_items(items: Iterable[Item], *, knowledge: bool) -> list[Item]:
    """Return `items` in canonical form; ConfigError when a store could not return one unchanged.

    With `knowledge` every item must be a document, without it none.
    """
    batch = [
        replace(item, access=tuple(sorted(set(item.access))), parents=tuple(sorted(set(item.parents))))
        for item in items
    ]
    seen: set[str] = set()
    for item in batch:
        where = f"item {item.id!r} of source {item.source!r}"
        if item.id in seen:
            raise ConfigError(f"{where} is given twice", hint="give each chunk its own position")
        seen.add(item.id)
        _check_item(item, where)
        if (item.kind == KNOWLEDGE) != knowledge:
            raise ConfigError(
                f"{where} is of kind {item.kind!r}",
                hint="documents are added and published, everything else is remembered",
            )
    if len({(item.embedding, len(item.vector)) for item in batch}) > 1:
        raise ConfigError(
            "items of two embeddings were given at once", hint="embed all of them with one model"
        )
    return batch


def _check_item(item: Item, where: str) -> None:
    for name in ("valid_from", "valid_to"):
        day = getattr(item, name)
        if day is not None and not is_day(day):
            raise ConfigError(f"{where}: {name} is {day!r}", hint="write a day as YYYY-MM-DD")
    for name in ("created", "expires"):
        moment = getattr(item, name)
        if moment is not None and not is_instant(moment):
            raise ConfigError(
                f"{where}: {name} is {moment!r}", hint="write an instant as 2026-11-25T06:00:00Z"
            )
    if item.kind not in get_args(ItemKind):
        raise ConfigError(f"{where}: kind is {item.kind!r} ({nearest(item.kind, get_args(ItemKind))})")
    if not 0 <= item.classification <= MOST_CLASSIFIED or not 0 <= item.trust <= MOST_TRUSTED:
        raise ConfigError(
            f"{where}: classification is {item.classification} and trust {item.trust}",
            hint=f"classification is 0 to {MOST_CLASSIFIED}, trust 0 to {MOST_TRUSTED}",
        )
    if not item.vector or not all(map(math.isfinite, item.vector)):
        raise ConfigError(f"{where} has no usable vector", hint="embed its text before adding it")
    words = (
        item.id, item.text, item.source, item.title, item.owner, item.subject, item.embedding,
        *item.access, *item.parents,
    )  # fmt: skip
    try:
        "".join(words).encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{where} holds text that is not Unicode", hint="read its file as UTF-8") from None


def check_embedding(item: Item, *, embedding: str, dimensions: int) -> None:
    """Raise ConfigError unless `item` has the embedding and dimensions of the stored items."""
    if (item.embedding, len(item.vector)) != (embedding, dimensions):
        raise ConfigError(
            f"this memory holds vectors of {embedding!r} ({dimensions} dimensions), "
            f"not of {item.embedding!r} ({len(item.vector)})",
            hint="never mix two embeddings: give the new one a memory (or a memory version) of its own",
        )


def check_stored(item: Item, *, source: str, kind: str) -> None:
    """Raise ConfigError unless the stored item of the same id has the source of `item`.

    `source` and `kind` are those of the stored item. Both items or neither must be documents.
    """
    if item.source != source:
        raise ConfigError(
            f"item {item.id!r} of source {item.source!r} has the id of an item of {source!r}",
            hint="compute the id as a digest that includes the source",
        )
    if (kind == KNOWLEDGE) != (item.kind == KNOWLEDGE):
        raise ConfigError(
            f"item {item.id!r} is stored as {kind!r}, not as {item.kind!r}",
            hint="compute the id as a digest that includes the kind",
        )


def check_query(query: Query) -> None:
    """Raise ConfigError unless every value of `query` is valid."""
    if query.k < 1 or query.candidates < 1:
        raise ConfigError(f"k is {query.k} and candidates {query.candidates}", hint="give both as 1 or more")
    if not is_day(query.as_of):
        raise ConfigError(f"as_of is {query.as_of!r}", hint="write a day as YYYY-MM-DD")
    if query.now is not None and not is_instant(query.now):
        raise ConfigError(f"now is {query.now!r}", hint="write an instant as 2026-11-25T06:00:00Z")
    if query.mode not in get_args(SearchMode):
        raise ConfigError(f"mode is {query.mode!r} ({nearest(query.mode, get_args(SearchMode))})")


def check_dimensions(query: Query, dimensions: int) -> None:
    """Raise ConfigError unless the query's vector has `dimensions` components."""
    if len(query.vector) != dimensions:
        raise ConfigError(
            f"the query has {len(query.vector)} dimensions, the memory {dimensions}",
            hint="embed the query with the memory's own embedding",
        )


def check_there(missing: int, of: int) -> None:
    """Raise NotFoundError when `missing` of the `of` items that must be active are not."""
    if missing:
        raise items_gone(missing, of)


def check_published(missing: int, of: int) -> None:
    """Raise ConfigError when `missing` of the `of` items to publish are neither active nor staged."""
    if missing:
        raise ConfigError(
            f"{missing} of {of} items are neither active nor staged",
            hint="stage the items that `missing` names, then publish again",
        )


def check_kept(version: int, kept: Collection[int]) -> None:
    """Raise NotFoundError unless `version` is one of the kept ones."""
    if version not in kept:
        known = f"{min(kept)} to {max(kept)}" if kept else "none"
        raise NotFoundError(
            f"version {version} of this memory is not kept (kept: {known})",
            hint="to list the kept versions: workbench memory versions",
        )


def check_selector(what: Selector, *, now: str, hold: bool = False) -> None:
    """Raise ConfigError unless exactly one criterion is given; a hold cannot take `expired`."""
    given = [what.ids is not None, bool(what.subject), bool(what.source), what.expired]
    if sum(given) != 1 or "" in (what.subject, what.source):
        raise ConfigError("name exactly one: ids, a subject, a source, or all that has expired")
    if what.expired and (hold or not is_instant(now)):
        raise ConfigError("what has expired is known at an instant", hint="name ids, a subject or a source")
