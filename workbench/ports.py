"""The boundary's two types: a `Call` is a value, a control is `(call, proceed) -> events`.

Ports are protocols. An adapter implements one port for one backend and knows nothing of controls;
a control knows calls and nothing of backends.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from workbench.context import Context
from workbench.types import JSON, Event, Hit, Item, Port


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
        """`port.operation`, the row of the APPLIES table."""
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

    async def aclose(self) -> None:
        """Give back connections."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What to look for. `groups` are the asker's; `as_of` is an ISO day: what is valid then.

    `text` feeds keyword search and `vector` (L2-normalised) nearest neighbours; their ranks are
    fused, `candidates` deep each. `sources` narrows to some sources.
    """

    text: str
    vector: Sequence[float]
    k: int
    groups: tuple[str, ...]
    as_of: str
    sources: tuple[str, ...] = ()
    candidates: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """What an `add` did: items new, items unchanged, older items of the same sources replaced.

    `other_tenants` counts pages a handle left out because they belong to other tenants.
    """

    added: int
    unchanged: int
    replaced: int
    other_tenants: int = 0


@runtime_checkable
class Memory(Protocol):
    """One tenant's view of one memory. The tenant was bound when the view was made."""

    @property
    def tenant(self) -> str:
        """Whose items these are; it never changes."""

    def add(self, items: Iterable[Item]) -> Added:
        """Idempotent. All items of a source are given together: the source's older ones go."""

    def search(self, query: Query) -> list[Hit]:
        """At most `k` hits the groups may see and that are valid, best first."""

    def count(self, ids: Sequence[str] | None = None) -> int:
        """Items of this tenant, or how many of `ids` there are."""

    def forget(self, ids: Sequence[str]) -> int:
        """Remove items; how many there were."""

    def snapshot(self, folder: Path) -> JSON:
        """Write this tenant's items as Parquet; the manifest's entry with the logical digest."""
