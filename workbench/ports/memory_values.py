"""Arguments and results of a memory's verbs: queries, selectors, requesters and reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from workbench import files
from workbench.identity import Principal
from workbench.ports.item_filter import ItemFilter
from workbench.types import JSON, Item, ItemKind

SearchMode = Literal["hybrid", "vector", "words"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A search, with the `groups` and the `clearance` of its requester.

    `as_of` is the ISO day on which hits must be valid. `now` is the UTC instant at which expiry is judged;
    by default the beginning of `as_of`. `version` is an earlier version of the tenant's knowledge;
    by default the active one. Keyword search takes `text`, and nearest-neighbour search `vector`
    (L2-normalised). Their rankings, each `candidates` deep, are fused unless `mode` names one. `exact` orders
    neighbours by exact inner products, equal on every store. `sources` and `kinds` restrict the hits; empty
    means all. `where` is the condition of the policies on the hits; a store applies it in place of the groups
    and the clearance.
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
    where: ItemFilter | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Requester:
    """The reader of a verb other than search: its groups, clearance and the time of reading.

    `now` is a UTC instant, at which expiry is judged. `where` is the condition of the policies on items; a
    store applies it in place of the groups and the clearance. A requester without both sees no item.
    """

    groups: tuple[str, ...]
    clearance: int = 0
    now: str
    where: ItemFilter | None = None

    @classmethod
    def of(cls, principal: Principal, *, now: str) -> Requester:
        """Return the requester for a principal who reads at `now`."""
        return cls(groups=principal.grants, clearance=principal.clearance, now=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """The numbers of new, unchanged and replaced items, and the version active afterwards.

    `other_tenants` counts the pages that a handle left out because they belong to other tenants. `left_out`
    names the files that a source's reading left out, each with its reason.
    """

    added: int
    unchanged: int
    replaced: int
    version: int = 0
    other_tenants: int = 0
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The limits of one tenant's episodic items, in items and tokens; None is no limit."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    items: int | None = None
    tokens: int | None = None

    @staticmethod
    def tokens_of(text: str) -> int:
        """Return the tokens of a text for a budget: one for each four UTF-8 bytes, rounded up.

        The estimate is the same for every model; exact counts depend on a model's tokenizer.
        """
        return -(-len(text.encode()) // 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """The numbers of new and unchanged items, and the ids evicted to stay within the budget.

    `ids` are those under which the given items are stored, in their order, where the run of a job chose
    others; a store has none.
    """

    added: int
    unchanged: int
    evicted: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """Selects items by exactly one of ids, subject, source, or `expired` (every expired item)."""

    ids: tuple[str, ...] | None = None
    subject: str | None = None
    source: str | None = None
    expired: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """The number of items removed from all versions, `derived` of them only because of a parent.

    `ids` are the removed items and `kept` those under legal hold, both sorted. Kept items stay stored; no
    search finds them once they have expired. `journal_entries` are the recorded answers with a removed item's
    text that were removed from the repository's journals; a store has none.
    """

    items: int
    derived: int = 0
    ids: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    journal_entries: int = 0

    @property
    def held(self) -> int:
        """The number of items that legal holds kept."""
        return len(self.kept)


@dataclass(frozen=True, slots=True, kw_only=True)
class Purged:
    """The numbers of purged expired items and items of old versions, and of items that legal holds kept."""

    expired: int
    outdated: int
    held: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryVersion:
    """One version of a tenant's knowledge; `content` is the SHA-256 of its items' sorted ids."""

    number: int
    at: str
    items: int
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryStats:
    """Counts of one tenant's items: `items` active, `stored` in all versions, `staged` for the next version.

    `facts` come from the store, such as its index settings and its size in bytes.
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
    """Return the id of an episodic item: the SHA-256 of its tenant, owner, text and metadata."""
    made = [
        tenant, item.owner, item.subject, item.kind, list(item.access), item.classification,
        list(item.parents), item.created, files.digest(item.text.encode(errors="surrogatepass")),
    ]  # fmt: skip
    return files.digest(made)
