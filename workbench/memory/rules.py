"""What every store does alike: what it refuses, who sees what, and how two rankings become one."""

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
#: Scores closer than this are equal: float sums differ in the seventh digit between processors.
DECIMALS = 4
#: Two scores that round to the same differ by less than half of this; float32 sums err by far less.
MARGIN = 2 * 10**-DECIMALS


def is_day(text: str) -> bool:
    """Whether `text` is an ISO day in its one canonical form, so that days compare as texts."""
    try:
        return dt.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def checked_items(items: Iterable[Item], *, knowledge: bool) -> list[Item]:
    """`items` in canonical form, or ConfigError: nothing a store could not give back as it was.

    `knowledge` says of which of the two kinds they have to be.
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
    """ConfigError unless `item` lies in the space of the items that are there already."""
    if (item.embedding, len(item.vector)) != (embedding, dimensions):
        raise ConfigError(
            f"this memory holds vectors of {embedding!r} ({dimensions} dimensions), "
            f"not of {item.embedding!r} ({len(item.vector)})",
            hint="never mix two embeddings: give the new one a memory (or a memory version) of its own",
        )


def check_source(item: Item, source: str) -> None:
    """ConfigError when the id of `item` is that of an item of another `source`."""
    if item.source != source:
        raise ConfigError(
            f"item {item.id!r} of source {item.source!r} has the id of an item of {source!r}",
            hint="make the source a part of what the id is the digest of",
        )


def check_query(query: Query) -> None:
    """ConfigError unless `query` can be answered."""
    if query.k < 1 or query.candidates < 1:
        raise ConfigError(f"k is {query.k} and candidates {query.candidates}", hint="ask for one hit or more")
    if not is_day(query.as_of):
        raise ConfigError(f"as_of is {query.as_of!r}", hint="write a day as YYYY-MM-DD")
    if query.now is not None and not is_instant(query.now):
        raise ConfigError(f"now is {query.now!r}", hint="write an instant as 2026-11-25T06:00:00Z")
    if query.mode not in get_args(SearchMode):
        raise ConfigError(f"mode is {query.mode!r} ({nearest(query.mode, get_args(SearchMode))})")


def check_dimensions(query: Query, dimensions: int) -> None:
    """ConfigError unless the query's vector has the dimensions of the items'."""
    if len(query.vector) != dimensions:
        raise ConfigError(
            f"the query has {len(query.vector)} dimensions, the memory {dimensions}",
            hint="embed the query with the memory's own embedding",
        )


def moment_of(query: Query) -> str:
    """The instant at which expiry is judged: the query's, else the beginning of the day it asks for."""
    return query.now or f"{query.as_of}T00:00:00Z"


def requester_of(query: Query) -> Requester:
    """Who asks a query, and when."""
    return Requester(groups=query.groups, clearance=query.clearance, now=moment_of(query))


def readable(item: Item, requester: Requester | None) -> bool:
    """Return whether the requester may see `item`, which ends at its expiry. Without a requester, True."""
    return requester is None or (
        not set(item.access).isdisjoint(requester.groups)
        and item.classification <= requester.clearance
        and (item.expires is None or item.expires > requester.now)
    )


def visible(item: Item, query: Query) -> bool:
    """Whether the requester may see `item`, it is valid on the day asked for, and what was asked for.

    It is visible from `valid_from` on and until the day before `valid_to`.
    """
    return (
        readable(item, requester_of(query))
        and (item.valid_from is None or item.valid_from <= query.as_of)
        and (item.valid_to is None or item.valid_to > query.as_of)
        and (not query.sources or item.source in query.sources)
        and (not query.kinds or item.kind in query.kinds)
    )


def hit(item: Item, query: Query, *, score: float, memory: str, version: int, tenant: str) -> Hit:
    """The hit for an item found, checked once more: a filter that failed is a fault and shows no item."""
    if not visible(item, query):
        fault = UnavailableError(
            f"the store of {memory!r} gave an item that the requester may not see: it was withheld",
            hint="report this as a fault of the store: its filter and the workbench's differ",
        )
        fault.retryable = False  # nor may a snapshot stand in: the fault would stay unseen
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
    """Whether the selector means `item`."""
    return (
        (what.ids is not None and item.id in what.ids)
        or (what.subject is not None and item.subject == what.subject)
        or (what.source is not None and item.source == what.source)
        or (what.expired and item.expires is not None and item.expires <= now)
    )


def check_there(missing: int, of: int) -> None:
    """NotFoundError when some of those that an item may only be written with are not in force."""
    if missing:
        raise items_gone(missing, of)


def check_selector(what: Selector, *, now: str, hold: bool = False) -> None:
    """ConfigError unless the selector names exactly one thing; a hold names no moment."""
    given = [what.ids is not None, bool(what.subject), bool(what.source), what.expired]
    if sum(given) != 1 or "" in (what.subject, what.source):
        raise ConfigError("name exactly one: ids, a subject, a source, or all that has expired")
    if what.expired and (hold or not is_instant(now)):
        raise ConfigError("what has expired is known at an instant", hint="name ids, a subject or a source")


def eviction_order(item: Item) -> tuple[Any, ...]:
    """Sorted by this, what comes first is evicted first: the least trusted, then the oldest, then by id."""
    return (item.trust, item.created or "", item.id)


def tokens(text: str) -> int:
    """What a text counts against a token budget: one for each four UTF-8 bytes, rounded up.

    Exact counts need a model's tokenizer, and a budget must mean the same for every model.
    """
    return -(-len(text.encode()) // 4)


def evicted(items: Sequence[Item], budget: Budget, *, held: Collection[str], now: str) -> list[Item]:
    """Which of a tenant's episodic items go so that the budget holds: expired ones, then in `eviction_order`.

    RefusedError when what is held alone is more than the budget.
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
            f"what is under legal hold takes the whole budget ({number} items, {size} tokens)",
            hint="raise the memory's budget, or release a hold",
        )
    return gone


def fuse(rankings: Sequence[Sequence[T]], *, k: int, name: Callable[[T], str] = str) -> list[tuple[T, float]]:
    """The best `k` of several rankings with their score, by reciprocal-rank fusion.

    score = sum over rankings of 1 / (60 + rank), scaled so that the first of all rankings has 1,
    rounded to 4 decimals; equal scores in the order of their names: of their ids, where these are ranked.
    """
    scores: dict[T, float] = {}
    for ranking in rankings:
        for place, one in enumerate(ranking, start=RRF_K + 1):
            scores[one] = scores.get(one, 0.0) + 1 / place
    best = (RRF_K + 1) / len(rankings)
    if len(scores) > k:  # what cannot round to the score of the last need not be rounded
        enough = min(heapq.nlargest(k, scores.values())) - MARGIN / best
        scores = {one: score for one, score in scores.items() if score >= enough}
    rounded = ((one, round(score * best, DECIMALS)) for one, score in scores.items())
    return sorted(rounded, key=lambda pair: (-pair[1], name(pair[0])))[:k]


def check_tenant(tenant: str) -> None:
    """ConfigError unless `tenant` can name a folder and a file on every system."""
    config.check_tenant(tenant)
