"""The boundary's two types: a `Call` is a value, a control is `(call, proceed) -> events`.

Ports are protocols. An adapter implements one port for one backend and knows no controls. A control
knows calls and no backends.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from workbench.context import Context
from workbench.types import JSON, Event, Port


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
