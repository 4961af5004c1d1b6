"""The types of the boundary: calls, spans, controls and the model port.

Ports are protocols. An adapter implements one port for one backend and knows no controls. A control is
`(call, proceed) -> events`; it knows calls and no backends.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from workbench.context import Context
from workbench.ports.budget import Reservation
from workbench.ports.privacy import DeclaredData, RecordingForm
from workbench.types import JSON, Event, Hit, Port, Usage
from workbench.wire import Dialect
from workbench.wire.bounds import TokenLimits, usage_bound


class WaitTimer(Protocol):
    """The timer of an attempt's present wait, in the time of its event loop, as `asyncio.Timeout` is one."""

    def when(self) -> float | None:
        """Return the end of the wait, or None while it is put off."""

    def reschedule(self, when: float | None) -> None:
        """Move the end of the wait, or put it off until it is moved again."""

    def expired(self) -> bool:
        """Return whether the wait took too long."""


class HeldPlace(Protocol):
    """What a control holds for a call under way, such as a free place of an endpoint."""

    def give_back(self) -> None:
        """Give the place to others, from the call's own loop."""

    async def take_again(self) -> None:
        """Wait for a place again; raise the control's error if there is none in time."""


class Span:
    """The facts and attempts of one call. Controls add facts; the control `observe` records the span.

    A span is not an OpenTelemetry context. It is recorded when the stream closes, because another task than
    the one that began a stream may finish or abandon it. One task at a time writes to it. `timer` limits the
    attempt's present wait, and a control that lets the call wait for its turn puts it off. `places` are what
    outer controls hold for the attempt: a control that waits for something else gives them back meanwhile.
    `recording` is the form of the call in recordings, None where nobody looks for identifiers.
    `before_asking` is called each time before the target is asked, and `reservation` is what the attempt
    holds of budgets.
    """

    __slots__ = (
        "_bound", "_read", "attempts", "before_asking", "facts", "places", "recording", "reservation",
        "timer",
    )  # fmt: skip

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self.attempts: list[dict[str, Any]] = []
        self.timer: WaitTimer | None = None
        self.places: list[HeldPlace] = []
        self.recording: RecordingForm | None = None
        self.before_asking: Callable[[], object] | None = None
        self.reservation: Reservation | None = None
        self._read: tuple[Event, Dialect, Usage | None] | None = None
        self._bound: tuple[JSON, Dialect, TokenLimits, Usage] | None = None

    def note(self, **facts: Any) -> None:
        """Add facts: names and numbers, never content."""
        self.facts.update(facts)

    def attempt(self, **facts: Any) -> dict[str, Any]:
        """Add and return a record for one attempt; the caller adds its outcome."""
        child = {"n": len(self.attempts) + 1, **facts}
        self.attempts.append(child)
        return child

    def usage_in(self, event: Event, speaks: Dialect) -> Usage | None:
        """Return the usage that an event states, None if it states none; several controls read each event."""
        read = self._read
        if read is None or read[0] is not event or read[1] is not speaks:
            states = isinstance(event.data, Mapping) and speaks.states_usage(event.data)
            read = self._read = (event, speaks, speaks.usage_of(event.data) if states else None)
        return read[2]

    def usage_bound(self, payload: JSON, speaks: Dialect, limits: TokenLimits) -> Usage:
        """Return the most tokens of a request and its answers; several controls bound each attempt."""
        made = self._bound
        if made is None or made[0] is not payload or made[1] is not speaks or made[2] is not limits:
            made = self._bound = (payload, speaks, limits, usage_bound(payload, speaks, limits))
        return made[3]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCandidate:
    """A fall-back of a call: another model, or a stated answer.

    `target` is the reference of the model's card, or `STATED`. `model` is its name on the wire, and
    `identity`, `defaults` and `recorded` are those of its card; `operation` is that of its defaults. `answer`
    is the text of a stated answer.
    """

    target: str
    model: str = ""
    identity: JSON = field(default_factory=dict)
    defaults: JSON = field(default_factory=dict)
    operation: str = "chat"
    recorded: bool = True
    answer: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptInputs:
    """The saved prompt or draft that the turns of a call were rendered from, and the inputs."""

    reference: str
    inputs: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One crossing of the boundary.

    `target` names the asset (a model card, a memory). `payload` is wire JSON for models and the
    verb's arguments for memories. `identity` has the properties of the target that can change an
    answer (weights digest, server settings, endpoint); with the payload it is the key of a recording.
    `deadline` is in the context's monotonic seconds, for all attempts together. `fallbacks` are asked in
    order when the target cannot answer. `defaulted` names the fields of the payload that are defaults of the
    target's card, which another candidate does not inherit. `retries` is the most retries of this call; None
    leaves it to the control. `declared` is what a prompt says of the data in the request, if it does.
    `passages` are those that the payload's texts hold; no record has them. `prompt` is what the turns were
    rendered from, so that another process can render them again.
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
    fallbacks: tuple[ModelCandidate, ...] = ()
    defaulted: frozenset[str] = frozenset()
    retries: int | None = None
    declared: DeclaredData | None = None
    passages: tuple[Hit, ...] = field(default=(), repr=False)
    prompt: PromptInputs | None = None

    @property
    def name(self) -> str:
        """The call's name for controls: `port.operation`."""
        return f"{self.port}.{self.operation}"

    def within(self, seconds: float | None) -> Call:
        """Return the call with a deadline in `seconds`, or its own if that is earlier; the same for None."""
        if seconds is None:
            return self
        end = self.context.clock.monotonic() + seconds
        return dataclasses.replace(self, deadline=end if self.deadline is None else min(end, self.deadline))

    def with_defaults(self, names: Iterable[str]) -> Call:
        """Return the call with the names of the payload's fields that its card set, if it has fall-backs."""
        return dataclasses.replace(self, defaulted=frozenset(names)) if self.fallbacks else self


Handler = Callable[[Call], AsyncIterator[Event]]


class Control(Protocol):
    """One concern around every call, as an ASGI middleware is around every request.

    A control is an async generator function. It must iterate `proceed(call)` in its own task, and
    close it: the fold does so when the control ends early.
    """

    def __call__(self, call: Call, proceed: Handler) -> AsyncIterator[Event]:
        """Pass the call on, change it, answer it, or raise."""


@runtime_checkable
class Model(Protocol):
    """A model endpoint speaking the OpenAI wire formats. A verb that it lacks raises RefusedError."""

    def chat(self, payload: JSON, *, timeout_s: float | None = None) -> AsyncIterator[Event]:
        """`/chat/completions`: one event, or many when `payload["stream"]`."""

    def respond(self, payload: JSON, *, timeout_s: float | None = None) -> AsyncIterator[Event]:
        """`/responses`: one event, or the typed events of a stream when `payload["stream"]`."""

    def embed(self, payload: JSON, *, timeout_s: float | None = None) -> AsyncIterator[Event]:
        """`/embeddings`: one event, the whole wire JSON."""

    def moderate(self, payload: JSON, *, timeout_s: float | None = None) -> AsyncIterator[Event]:
        """`/moderations`: one event, the whole wire JSON."""

    def count(self, payload: JSON, *, timeout_s: float | None = None) -> AsyncIterator[Event]:
        """Count the input tokens of a `chat` or `respond` payload: one event, `{"input_tokens": n}`.

        The model generates nothing. RefusedError with an HTTP status when the endpoint cannot count.
        """

    async def aclose(self) -> None:
        """Close the connections."""
