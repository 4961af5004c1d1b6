"""Circuit breakers of endpoints: an endpoint that fails too often is not asked until a probe is answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from workbench.controls.position import MODEL, Position
from workbench.endpoints.circuit import Breaker, BreakerPolicy
from workbench.endpoints.per_endpoint import Key, PerEndpoint, shared
from workbench.endpoints.states import writer_of
from workbench.errors import CircuitOpenError, RateLimitedError, RefusedError, UnavailableError
from workbench.ports import Call, Handler
from workbench.types import Event

if TYPE_CHECKING:
    from workbench.models import ModelCard

#: Inside of rate_limit, so that the queue is no failure; outside of budget, so that a refused call reserves
#: no money.
POSITION: Final = Position(
    name="circuit_breaker", operations=MODEL, after=("rate_limit",), before=("budget",)
)
#: Seconds of silence from which on an ended wait counts as the endpoint's failure.
_SILENCE_S: Final = 10.0


class CircuitBreaker:
    """Counts the answers and failures of each remote endpoint; refuses calls while its breaker is open.

    Failures are missing and incomplete answers, statuses of 500 and above, and ten seconds of silence up to
    the end of a timeout. A rate limit, a refusal and a call that its caller ended count as nothing. `card`
    returns the card of a call's target, and `folder` receives the transitions. All workspaces of a process
    over `folder` share a breaker. An embedded model has none.
    """

    def __init__(
        self, card: Callable[[str], ModelCard], folder: Path, *, policy: BreakerPolicy | None = None
    ) -> None:
        self._folder = folder
        self._policy = policy
        self._breakers = PerEndpoint(card, self._closed)

    @property
    def breakers(self) -> Mapping[tuple[str, str], Breaker]:
        """The breakers of the endpoints that were called, by address and model."""
        return self._breakers.made

    def applies(self, call: Call) -> bool:
        """Return whether the call's endpoint is remote."""
        return self._breakers.of(call.target) is not None

    async def __call__(self, call: Call, proceed: Handler) -> AsyncGenerator[Event, None]:
        """Pass the call on and count its end; raise CircuitOpenError while the breaker is open."""
        breaker = self._breakers.of(call.target)
        assert breaker is not None  # noqa: S101  `applies` says so
        clock = call.context.clock
        place, failure = _Admission(call, breaker), None
        call.span.places.append(place)
        try:
            async with aclosing(proceed(call)) as events:  # type: ignore[type-var]
                async for event in events:
                    place.heard = clock.monotonic()
                    failure = ""
                    if place.probe:  # a long stream keeps no other call waiting
                        breaker.record(place.heard, "", probe=True, now_is=clock.now)
                        place.probe = False
                    yield event
            failure = ""
        except CircuitOpenError:  # opened while the call waited for something else: it was not asked
            raise
        except (UnavailableError, asyncio.CancelledError) as error:
            failure = _failure(error, call, clock.monotonic() - place.heard)
            raise
        except RefusedError as error:
            if error.status is not None and 400 <= error.status < 500:
                failure = ""  # the endpoint is there
            raise
        finally:
            call.span.places.remove(place)
            if failure is None:
                breaker.forget(probe=place.probe)
            else:
                breaker.record(clock.monotonic(), failure, probe=place.probe, now_is=clock.now)

    def _closed(self, card: ModelCard, key: Key) -> Breaker | None:
        """Return the breaker of a remote endpoint, None for an embedded model."""
        if card.provider != "openai" or card.base_url is None:
            return None
        name = f"{card.model} at {card.base_url}"
        return shared(
            ("breaker", self._folder, *key, self._policy),
            lambda: Breaker(name, self._policy, changed=writer_of(self._folder, *key)),
        )


class _Admission:
    """The admission of one attempt, which may be the probe; raises CircuitOpenError while it is open.

    `heard` is when the endpoint was asked, or last heard of, in monotonic seconds.
    """

    __slots__ = ("_breaker", "_call", "heard", "probe")

    def __init__(self, call: Call, breaker: Breaker) -> None:
        self._call, self._breaker = call, breaker
        self.heard = call.context.clock.monotonic()
        self.probe = breaker.admit(self.heard)

    def give_back(self) -> None:
        """Let another call be the probe."""
        self._breaker.forget(probe=self.probe)
        self.probe = False

    async def take_again(self) -> None:
        """Ask for admission again; raise CircuitOpenError while the breaker is open."""
        self.heard = self._call.context.clock.monotonic()
        self.probe = self._breaker.admit(self.heard)


def _failure(error: BaseException, call: Call, silence_s: float) -> str | None:
    """Return what failed, or None for an end that says nothing about the endpoint."""
    if isinstance(error, RateLimitedError):
        return None
    left = 1.0 if call.deadline is None else call.deadline - call.context.clock.monotonic()
    if isinstance(error, UnavailableError):
        if left <= 0 and silence_s < _SILENCE_S and error.status is None:
            return None  # the caller's deadline was short
        return f"{type(error).__name__}{f' (status {error.status})' if error.status else ''}"
    # Retry ends the wait for a silent endpoint by cancelling it; so does a caller who leaves.
    timer = call.span.timer
    timed_out = timer is not None and timer.expired() and silence_s >= _SILENCE_S
    return f"{silence_s:.0f} s of silence" if timed_out else None
