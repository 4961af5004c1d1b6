"""What every store does alike: what it refuses, who sees what, and how two rankings become one."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from workbench.errors import ConfigError
from workbench.ports import Query
from workbench.types import Item

#: The constant of reciprocal-rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009).
RRF_K = 60
#: Scores closer than this are equal: float sums differ in the seventh digit between processors.
DECIMALS = 4


def is_day(text: str) -> bool:
    """Whether `text` is an ISO day in its one canonical form, so that days compare as texts."""
    try:
        return dt.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def checked_items(items: Iterable[Item]) -> list[Item]:
    """`items` with sorted access lists, or ConfigError: nothing a store could not give back as it was."""
    batch = [replace(item, access=tuple(sorted(set(item.access)))) for item in items]
    seen: set[str] = set()
    for item in batch:
        where = f"item {item.id!r} of source {item.source!r}"
        if item.id in seen:
            raise ConfigError(f"{where} is given twice", hint="give each chunk its own position")
        seen.add(item.id)
        _check_item(item, where)
    if len({(item.embedding, len(item.vector)) for item in batch}) > 1:
        raise ConfigError(
            "items of two embeddings were given at once", hint="embed all of them with one model"
        )
    return batch


def _check_item(item: Item, where: str) -> None:
    for name in ("valid_from", "expires"):
        day = getattr(item, name)
        if day is not None and not is_day(day):
            raise ConfigError(f"{where}: {name} is {day!r}", hint="write a day as YYYY-MM-DD")
    if not item.vector or not all(map(math.isfinite, item.vector)):
        raise ConfigError(f"{where} has no usable vector", hint="embed its text before adding it")
    words = (item.id, item.text, item.source, item.title, item.owner, *item.access)
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


def check_dimensions(query: Query, dimensions: int) -> None:
    """ConfigError unless the query's vector has the dimensions of the items'."""
    if len(query.vector) != dimensions:
        raise ConfigError(
            f"the query has {len(query.vector)} dimensions, the memory {dimensions}",
            hint="embed the query with the memory's own embedding",
        )


def visible(item: Item, query: Query) -> bool:
    """Whether the asker may see `item`, it is valid on the day asked for, and of a source asked for.

    It is visible from `valid_from` on and until the day before `expires`. No group, no item.
    """
    return (
        not set(item.access).isdisjoint(query.groups)
        and (item.valid_from is None or item.valid_from <= query.as_of)
        and (item.expires is None or item.expires > query.as_of)
        and (not query.sources or item.source in query.sources)
    )


def fuse(rankings: Sequence[Sequence[str]], *, k: int) -> list[tuple[str, float]]:
    """The best `k` ids of several rankings with their score, by reciprocal-rank fusion.

    score = sum over rankings of 1 / (60 + rank), scaled so that the first of all rankings has 1,
    rounded to 4 decimals; equal scores in the order of their ids.
    """
    scores: dict[str, float] = {}
    for ranking in rankings:
        for rank, one in enumerate(ranking, start=1):
            scores[one] = scores.get(one, 0.0) + 1 / (RRF_K + rank)
    best = (RRF_K + 1) / len(rankings)
    rounded = ((one, round(score * best, DECIMALS)) for one, score in scores.items())
    return sorted(rounded, key=lambda pair: (-pair[1], pair[0]))[:k]


def check_tenant(tenant: str) -> None:
    """ConfigError unless `tenant` can name a folder and a file on every system."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", tenant):
        raise ConfigError(
            f"{tenant!r} cannot name a tenant",
            hint="use up to 63 of a-z, 0-9, - and _, beginning with a letter or a digit",
        )
