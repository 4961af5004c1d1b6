"""What a memory's verbs take and return: queries, selectors, requesters and reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from workbench import files
from workbench.identity import Principal
from workbench.types import JSON, Item, ItemKind

SearchMode = Literal["hybrid", "vector", "words"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What to look for, and who asks: `groups` and `clearance` are the requester's.

    `as_of` is an ISO day: what was valid then. `now` is a UTC instant: what has expired by then is
    not found whatever day is asked for; without it, the beginning of `as_of`. `version` is an earlier
    version of the tenant's knowledge; without it, the one in force. `text` feeds keyword search and
    `vector` (L2-normalised) nearest neighbours; their ranks are fused, `candidates` deep each, unless
    `mode` names one alone. `exact` makes the neighbours' order that of exact inner products, equal on
    every store. `sources` and `kinds` narrow; empty means all of them.
    """

    text: str
    vector: Sequence[float]
    k: int
    groups: tuple[str, ...]
    as_of: str
    clearance: int = 0
    now: str | None = None
    version: int | None = None
    sources: tuple[str, ...] = ()
    kinds: tuple[ItemKind, ...] = ()
    candidates: int = 100
    mode: SearchMode = "hybrid"
    exact: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Requester:
    """Who reads without searching: sees what these groups and this clearance open, and `now` has not ended.

    `now` is a UTC instant. No group, no item.
    """

    groups: tuple[str, ...]
    clearance: int = 0
    now: str

    @classmethod
    def of(cls, principal: Principal, *, now: str) -> Requester:
        """The principal as one who reads at a moment."""
        return cls(groups=principal.grants, clearance=principal.clearance, now=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """What changed: items new, items unchanged, older items that went, and the version in force after it.

    `other_tenants` counts pages a handle left out because they belong to other tenants.
    """

    added: int
    unchanged: int
    replaced: int
    version: int = 0
    other_tenants: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The most that what is written by use may take of one tenant; None is without limit."""

    items: int | None = None
    tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """What writing by use did: items new, items that were there, ids evicted to stay within the budget."""

    added: int
    unchanged: int
    evicted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """Which items: exactly one of ids, subject, source, or all that have `expired`."""

    ids: tuple[str, ...] | None = None
    subject: str | None = None
    source: str | None = None
    expired: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """How many items a selector took, of all versions: `derived` of them only because a parent went.

    `ids` are those that went and `kept` those that are under legal hold, both sorted: these stay, and
    nothing finds them if they have expired.
    """

    items: int
    derived: int = 0
    ids: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()

    @property
    def held(self) -> int:
        """How many items holds kept."""
        return len(self.kept)


@dataclass(frozen=True, slots=True, kw_only=True)
class Purged:
    """What a sweep removed: expired items, items of versions no longer kept; and what holds kept."""

    expired: int
    outdated: int
    held: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryVersion:
    """One version of a tenant's knowledge: `content` is SHA-256 of its items' sorted ids."""

    number: int
    at: str
    items: int
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryStats:
    """One tenant's memory: `items` in force, `stored` of all versions, `staged` of one not yet in force.

    `facts` are the store's own, such as its index settings and size in bytes.
    """

    store: str
    tenant: str
    version: int
    items: int
    stored: int
    staged: int
    expired: int
    held: int
    by_kind: JSON
    embedding: str | None
    dimensions: int | None
    facts: JSON = field(default_factory=dict)


def written_id(tenant: str, item: Item) -> str:
    """The id of what a principal writes into a tenant's memory: SHA-256 of whose it is and what it says."""
    made = [
        tenant, item.owner, item.subject, item.kind, list(item.access), item.classification,
        list(item.parents), item.created, files.digest(item.text.encode(errors="surrogatepass")),
    ]  # fmt: skip
    return files.digest(made)
