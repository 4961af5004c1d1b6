"""The boundary's two types: a `Call` is a value, a control is `(call, proceed) -> events`.

Ports are protocols. An adapter implements one port for one backend and knows nothing of controls;
a control knows calls and nothing of backends.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from workbench import files
from workbench.context import Context
from workbench.identity import Principal
from workbench.types import JSON, Event, Hit, Item, ItemKind, Port

SearchMode = Literal["hybrid", "vector", "words"]


class Span:
    """What happened to one call, collected while it happens. Controls note facts; observe settles it.

    Not an OpenTelemetry context: a span starts detached and is settled when the stream closes,
    because a stream may be finished or abandoned in another task than the one that began it.
    """

    __slots__ = ("_lock", "attempts", "facts")

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self.attempts: list[dict[str, Any]] = []
        self._lock = threading.Lock()

    def note(self, **facts: Any) -> None:
        """Add facts: names and numbers, never content."""
        with self._lock:
            self.facts.update(facts)

    def attempt(self, **facts: Any) -> dict[str, Any]:
        """Begin a child record for one attempt; the caller fills in how it ended."""
        with self._lock:
            child = {"n": len(self.attempts) + 1, **facts}
            self.attempts.append(child)
        return child


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One crossing of the boundary.

    `target` names the asset (a model card, a memory). `payload` is wire JSON for models and the
    verb's arguments for memories. `identity` is what of the target can change an answer (weights
    digest, server settings, endpoint): together with the payload it makes a recording's key.
    `deadline` is in the context's monotonic seconds, for all attempts together.
    """

    port: Port
    operation: str
    target: str
    payload: JSON
    context: Context
    identity: JSON = field(default_factory=dict)
    deadline: float | None = None
    labels: Mapping[str, Any] = field(default_factory=dict)
    span: Span = field(default_factory=Span)

    @property
    def name(self) -> str:
        """`port.operation`, as a control names what it applies to."""
        return f"{self.port}.{self.operation}"


Handler = Callable[[Call], AsyncIterator[Event]]


class Control(Protocol):
    """One concern around every call, as an ASGI middleware is around every request.

    A control is an async generator function. It must iterate `proceed(call)` in its own task, and
    close it: the fold does so when the control ends early.
    """

    def __call__(self, call: Call, proceed: Handler) -> AsyncIterator[Event]:
        """Let the call through, change it, answer it, or raise."""


@runtime_checkable
class Model(Protocol):
    """A model endpoint speaking the OpenAI wire format."""

    def chat(self, payload: JSON, *, timeout_s: float | None = None) -> AsyncIterator[Event]:
        """`/chat/completions`: one event, or many when `payload["stream"]`."""

    def embed(self, payload: JSON, *, timeout_s: float | None = None) -> AsyncIterator[Event]:
        """`/embeddings`: one event, the whole wire JSON."""

    def count(self, payload: JSON, *, timeout_s: float | None = None) -> AsyncIterator[Event]:
        """Tokens that `chat` with this payload takes in: one event, `{"input_tokens": n}`.

        Nothing is answered. RefusedError with an HTTP status where nobody counts.
        """

    async def aclose(self) -> None:
        """Give back connections."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What to look for, and who asks: `groups` and `clearance` are the asker's.

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


@runtime_checkable
class Memory(Protocol):
    """One tenant's view of one memory. The tenant was bound when the view was made.

    *Knowledge* (items of kind `document`) comes from sources and has versions: what is staged is
    invisible until `publish` moves the tenant's version pointer, at once and as a whole. Everything
    else is *episodic*: written by use with `remember`, within a budget, in force at once.
    `now` is a UTC instant like 2026-11-25T06:00:00Z: a store has no clock.
    """

    @property
    def tenant(self) -> str:
        """Whose items these are; it never changes."""

    async def add(self, items: Iterable[Item], *, now: str = "") -> Added:
        """Put documents in force. All items of a source are given together: its older ones go.

        Idempotent: a new version only if anything changed.
        """

    async def missing(self, ids: Sequence[str]) -> list[str]:
        """Those of `ids` that are neither in force nor staged, in the order given."""

    async def stage(self, items: Iterable[Item]) -> int:
        """Make documents a part of the next version, invisibly and durably; how many were new."""

    async def publish(self, ids: Sequence[str], *, now: str = "") -> Added:
        """Put the version in force that holds exactly these documents; each is in force or staged.

        What else was staged goes. The same ids again change nothing.
        """

    async def remember(
        self, items: Iterable[Item], *, budget: Budget, now: str, while_there: Sequence[str] = ()
    ) -> Remembered:
        """Write episodic items, then evict until the budget holds (`rules.eviction_order`).

        NotFoundError, and nothing is written, unless each of `while_there` is in force at that moment:
        what is made of them is either refused or there to be forgotten with them.
        """

    async def search(self, query: Query) -> list[Hit]:
        """At most `k` hits that the asker may see and that are valid, best first."""

    async def count(self, ids: Sequence[str] | None = None, *, requester: Requester | None = None) -> int:
        """Items in force, or how many of `ids` are: what the asker sees; without one, expired or not."""

    async def items(self, version: int | None = None, *, requester: Requester | None = None) -> list[Item]:
        """Items in force (or in an earlier version), in the order of their ids.

        Those the asker sees; without one, all of them, expired or not.
        """

    async def forget(self, what: Selector, *, now: str = "", dry_run: bool = False) -> Forgotten:
        """Remove items, and what was derived from them, from every version at once."""

    async def hold(self, what: Selector) -> int:
        """Put ids, a subject or a source under legal hold, later items too; how many there are now."""

    async def release(self, what: Selector) -> int:
        """End a hold, named as it was made; how many items it held."""

    async def purge(self, *, now: str, keep_versions: int) -> Purged:
        """Remove what has expired, and what only older versions than the last `keep_versions` hold."""

    async def versions(self) -> list[MemoryVersion]:
        """Versions that can still be asked for, oldest first; the last is in force."""

    async def stats(self, *, now: str) -> MemoryStats:
        """What there is, counted."""


@runtime_checkable
class MemoryStore(Protocol):
    """One memory in one store, for all its tenants."""

    @property
    def name(self) -> str:
        """The memory's name."""

    def tenant(self, tenant: str) -> Memory:
        """One tenant's view; nothing is asked yet."""

    async def tenants(self) -> list[str]:
        """Tenants that have items, sorted."""

    async def aclose(self) -> None:
        """Give back files and connections; closing twice is fine."""
