"""Decide which items a requester sees, a selector covers and a budget evicts, for every store."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from workbench.errors import RefusedError, UnavailableError
from workbench.ports import Budget, Purged, Query, Requester, Selector
from workbench.types import KNOWLEDGE, Item, ItemHit

_UNRANKED: Mapping[str, int] = MappingProxyType({})


def moment_of(query: Query) -> str:
    """Return the instant at which expiry is judged: `now`, else the beginning of `as_of`."""
    return query.now or f"{query.as_of}T00:00:00Z"


def requester_of(query: Query) -> Requester:
    """Return the requester of a query."""
    return Requester(groups=query.groups, clearance=query.clearance, now=moment_of(query), where=query.where)


def sees_nothing(requester: Query | Requester) -> bool:
    """Return whether the requester may see no item, so that a store need not be asked."""
    return not requester.groups and requester.where is None


def readable(item: Item, requester: Requester | None) -> bool:
    """Return whether the requester may see `item`, until it expires. Without a requester, True."""
    if requester is None:
        return True
    if requester.where is not None:
        permitted = requester.where.admits(item)
    else:
        groups = not set(item.access).isdisjoint(requester.groups)
        permitted = groups and item.classification <= requester.clearance
    return permitted and (item.expires is None or item.expires > requester.now)


def visible(item: Item, query: Query) -> bool:
    """Return whether the requester may see `item`, and the item is valid and of a source and kind asked for.

    An item is valid from `valid_from` until the day before `valid_to`.
    """
    return (
        readable(item, requester_of(query))
        and (item.valid_from is None or item.valid_from <= query.as_of)
        and (item.valid_to is None or item.valid_to > query.as_of)
        and (not query.sources or item.source in query.sources)
        and (not query.kinds or item.kind in query.kinds)
    )


def hit(
    item: Item,
    query: Query,
    *,
    score: float,
    memory: str,
    version: int,
    tenant: str,
    ranks: Mapping[str, int] = _UNRANKED,
) -> ItemHit:
    """Return the hit for `item`, with its place in the rankings `words` and `vector`.

    UnavailableError when the store's filter let a hidden item through.
    """
    if not visible(item, query):
        fault = UnavailableError(
            f"the store of {memory!r} gave an item that the requester may not see: it was withheld",
            hint="report this as a fault of the store: its filter and the workbench's differ",
        )
        fault.retryable = False  # a fallback to a snapshot would hide the fault
        raise fault
    since = item.valid_from or (item.created[:10] if item.created else None)
    groups = sorted(set(item.access) & set(query.groups))
    level = f"; classification {item.classification} <= clearance {query.clearance}"
    return ItemHit(
        id=item.id, text=item.text, source=item.source, title=item.title, version=item.version,
        score=score, tenant=tenant, as_of=query.as_of, stale=False, digest=item.source_digest,
        memory=memory, kind=item.kind, classification=item.classification, trust=item.trust,
        memory_version=version if item.kind == KNOWLEDGE else 0, since=since,
        age_days=_days(since, query.as_of) if since else None, allowed=", ".join(groups) + level,
        valid_to=item.valid_to, words_rank=ranks.get("words"), vector_rank=ranks.get("vector"), item=item,
    )  # fmt: skip


def _days(since: str, until: str) -> int:
    return (dt.date.fromisoformat(until) - dt.date.fromisoformat(since)).days


def chosen(item: Item, what: Selector, *, now: str) -> bool:
    """Return whether the selector covers `item`."""
    return (
        (what.ids is not None and item.id in what.ids)
        or (what.subject is not None and item.subject == what.subject)
        or (what.source is not None and item.source == what.source)
        or (what.expired and item.expires is not None and item.expires <= now)
    )


def eviction_order(item: Item) -> tuple[Any, ...]:
    """Return the sort key of eviction: the least trusted item first, then the oldest, then by id."""
    return (item.trust, item.created or "", item.id)


def evicted(items: Sequence[Item], budget: Budget, *, held: Collection[str], now: str) -> list[Item]:
    """Return the episodic items to evict for the budget: expired ones first, then in `eviction_order`.

    RefusedError when the items under legal hold exceed the budget.
    """
    gone: list[Item] = []
    number, size = len(items), sum(budget.tokens_of(item.text) for item in items)

    def order(item: Item) -> tuple[Any, ...]:
        expired = item.expires is not None and item.expires <= now
        return (not expired, *eviction_order(item))

    def fits() -> bool:
        few = budget.items is None or number <= budget.items
        return few and (budget.tokens is None or size <= budget.tokens)

    for item in sorted(items, key=order):
        if fits():
            break
        if item.id not in held:
            gone.append(item)
            number, size = number - 1, size - budget.tokens_of(item.text)
    if not fits():
        raise RefusedError(
            f"the items under legal hold exceed the budget ({number} items, {size} tokens)",
            hint="raise the memory's budget, or release a hold",
        )
    return gone


def purged(expired: Mapping[str, bool], outdated: Mapping[str, bool]) -> Purged:
    """Return the counts of a purge, given for each expired and outdated item whether a hold keeps it."""
    held = [sum(items.values()) for items in (expired, outdated)]
    return Purged(expired=len(expired) - held[0], outdated=len(outdated) - held[1], held=sum(held))
