"""Rules that every store shares: checks of input, visibility of items, eviction and rank fusion."""

from __future__ import annotations

import datetime as dt
import heapq
import math
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar, get_args

from workbench import config
from workbench.context import is_instant
from workbench.errors import ConfigError, RefusedError, UnavailableError, items_gone, nearest
from workbench.ports import Budget, Query, Requester, SearchMode, Selector
from workbench.types import KNOWLEDGE, MOST_CLASSIFIED, MOST_TRUSTED, Hit, Item, ItemKind

T = TypeVar("T", bound=Hashable)
#: The constant of reciprocal-rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009).
RRF_K = 60
#: Decimals of a score. Float sums differ in the seventh digit between processors.
DECIMALS = 4
#: Scores that round to the same value differ by less than half of this; float32 sums err by far less.
MARGIN = 2 * 10**-DECIMALS


def is_day(text: str) -> bool:
    """Return whether `text` is an ISO day in canonical form, so that days compare as texts."""
    try:
        return dt.date.fromisoformat(text).isoformat() == text
    except ValueError:
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


def check_source(item: Item, source: str) -> None:
    """Raise ConfigError when `source`, that of the stored item of the same id, is another one."""
    if item.source != source:
        raise ConfigError(
            f"item {item.id!r} of source {item.source!r} has the id of an item of {source!r}",
            hint="compute the id as a digest that includes the source",
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


def moment_of(query: Query) -> str:
    """Return the instant at which expiry is judged: `now`, else the beginning of `as_of`."""
    return query.now or f"{query.as_of}T00:00:00Z"


def requester_of(query: Query) -> Requester:
    """Return the requester of a query."""
    return Requester(groups=query.groups, clearance=query.clearance, now=moment_of(query))


def readable(item: Item, requester: Requester | None) -> bool:
    """Return whether the requester may see `item`, until it expires. Without a requester, True."""
    return requester is None or (
        not set(item.access).isdisjoint(requester.groups)
        and item.classification <= requester.clearance
        and (item.expires is None or item.expires > requester.now)
    )


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


def hit(item: Item, query: Query, *, score: float, memory: str, version: int, tenant: str) -> Hit:
    """Return the hit for `item`; UnavailableError when the store's filter let a hidden item through."""
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
    return Hit(
        id=item.id, text=item.text, source=item.source, title=item.title, version=item.version,
        score=score, tenant=tenant, as_of=query.as_of, stale=False, digest=item.source_digest,
        memory=memory, kind=item.kind, classification=item.classification, trust=item.trust,
        memory_version=version if item.kind == KNOWLEDGE else 0, since=since,
        age_days=_days(since, query.as_of) if since else None, allowed=", ".join(groups) + level,
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


def check_there(missing: int, of: int) -> None:
    """Raise NotFoundError when `missing` of the `of` items that must be active are not."""
    if missing:
        raise items_gone(missing, of)


def check_selector(what: Selector, *, now: str, hold: bool = False) -> None:
    """Raise ConfigError unless exactly one criterion is given; a hold cannot take `expired`."""
    given = [what.ids is not None, bool(what.subject), bool(what.source), what.expired]
    if sum(given) != 1 or "" in (what.subject, what.source):
        raise ConfigError("name exactly one: ids, a subject, a source, or all that has expired")
    if what.expired and (hold or not is_instant(now)):
        raise ConfigError("what has expired is known at an instant", hint="name ids, a subject or a source")


def eviction_order(item: Item) -> tuple[Any, ...]:
    """Return the sort key of eviction: the least trusted item first, then the oldest, then by id."""
    return (item.trust, item.created or "", item.id)


def tokens(text: str) -> int:
    """Return the tokens of a text for a budget: one for each four UTF-8 bytes, rounded up.

    The estimate is the same for every model; exact counts depend on a model's tokenizer.
    """
    return -(-len(text.encode()) // 4)


def evicted(items: Sequence[Item], budget: Budget, *, held: Collection[str], now: str) -> list[Item]:
    """Return the episodic items to evict for the budget: expired ones first, then in `eviction_order`.

    RefusedError when the items under legal hold exceed the budget.
    """
    gone: list[Item] = []
    number, size = len(items), sum(tokens(item.text) for item in items)

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
            number, size = number - 1, size - tokens(item.text)
    if not fits():
        raise RefusedError(
            f"the items under legal hold exceed the budget ({number} items, {size} tokens)",
            hint="raise the memory's budget, or release a hold",
        )
    return gone


def fuse(rankings: Sequence[Sequence[T]], *, k: int, name: Callable[[T], str] = str) -> list[tuple[T, float]]:
    """Return the best `k` entries of several rankings with their scores, by reciprocal-rank fusion.

    score = sum over rankings of 1 / (60 + rank), scaled so that an entry first in every ranking has 1,
    rounded to 4 decimals. Equal scores are ordered by `name(entry)`.
    """
    scores: dict[T, float] = {}
    for ranking in rankings:
        for place, entry in enumerate(ranking, start=RRF_K + 1):
            scores[entry] = scores.get(entry, 0.0) + 1 / place
    best = (RRF_K + 1) / len(rankings)
    if len(scores) > k:  # skip scores too low to round to the k-th
        enough = min(heapq.nlargest(k, scores.values())) - MARGIN / best
        scores = {entry: score for entry, score in scores.items() if score >= enough}
    rounded = ((entry, round(score * best, DECIMALS)) for entry, score in scores.items())
    return sorted(rounded, key=lambda pair: (-pair[1], name(pair[0])))[:k]


def check_tenant(tenant: str) -> None:
    """Raise ConfigError unless `tenant` is a valid folder and file name on every system."""
    config.check_tenant(tenant)
