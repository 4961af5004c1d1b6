"""Rate limits of endpoints: requests and tokens a minute, calls in flight, and a fair queue of tenants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from workbench import wire
from workbench.controls.position import MODEL, Position
from workbench.endpoints.fair_queue import FairQueue, Ticket
from workbench.endpoints.per_endpoint import Key, PerEndpoint, shared
from workbench.endpoints.rates import EndpointLimits, open_rates
from workbench.errors import OverloadedError, RateLimitedError
from workbench.ports import Call, Handler
from workbench.types import Event, Usage
from workbench.wire import Dialect

if TYPE_CHECKING:
    from workbench.models import ModelCard

#: Inside of retry, so that each attempt takes its turn; outside of the circuit breaker, so that the wait is
#: no time of the endpoint's and a call that waits keeps no probe.
POSITION: Final = Position(name="rate_limit", operations=MODEL, after=("retry",), before=("circuit_breaker",))


class RateLimit:
    """Lets a call through when its endpoint's limits allow it; a call that waits holds nothing.

    `card` returns the card of a call's target, and `folder` holds the rates that processes share. The queue
    and the calls in flight of an endpoint are those of the process: all workspaces over `folder` share them.
    An endpoint without stated limits has no queue. `peek` raises the error of a call that an inner control is
    known to refuse, so that it does not wait for that.
    """

    def __init__(
        self, card: Callable[[str], ModelCard], folder: Path, *, peek: Callable[[Call], None] | None = None
    ) -> None:
        self._card = card
        self._folder = folder
        self._peek = peek
        self._queues = PerEndpoint(card, self._opened)

    @property
    def queues(self) -> Mapping[tuple[str, str], FairQueue]:
        """The queues of the endpoints that were called, by address and model."""
        return self._queues.made

    def applies(self, call: Call) -> bool:
        """Return whether the call's endpoint states a limit."""
        return self._queues.of(call.target) is not None

    async def __call__(self, call: Call, proceed: Handler) -> AsyncGenerator[Event, None]:
        """Pass the call on when it is its turn; raise OverloadedError when that is after its deadline."""
        queue = self._queues.of(call.target)
        assert queue is not None  # noqa: S101  `applies` says so
        clock, speaks = call.context.clock, wire.dialect(call.operation)
        tokens = self._most_tokens(call, speaks) if queue.rates.token_s else 0
        place = _QueuePlace(call, queue, tokens)
        await place.take(self._peek)
        call.span.places.append(place)
        used: int | None = 0  # nothing, unless an answer begins
        try:
            async with aclosing(proceed(call)) as events:  # type: ignore[type-var]
                async for event in events:
                    used = _used(call.span.usage_in(event, speaks), used, tokens) if tokens else 0
                    yield event
        except RateLimitedError as error:
            # The queue of a budget says nothing about the endpoint.
            if error.retry_after_s is not None and not isinstance(error, OverloadedError):
                now = clock.monotonic()
                queue.pause(now + error.retry_after_s, now)
            raise
        finally:
            call.span.places.remove(place)
            place.end(used)

    def _opened(self, card: ModelCard, key: Key) -> FairQueue | None:
        """Return the queue of an endpoint, None if its card states no limit."""
        limits = EndpointLimits(
            url=key[0],
            model=key[1],
            requests_per_minute=card.limits.requests_per_minute,
            tokens_per_minute=card.limits.tokens_per_minute,
            concurrent=card.limits.concurrent,
        )
        if not limits.stated:
            return None
        name = ("queue", self._folder, limits)
        return shared(name, lambda: FairQueue(limits, open_rates(limits, self._folder)))

    def _most_tokens(self, call: Call, speaks: Dialect) -> int:
        """Return the most tokens that a call can take; a count of tokens generates none and takes none."""
        if call.operation == "count":
            return 0
        bound = call.span.usage_bound(call.payload, speaks, self._card(call.target).limits)
        return (bound.input_tokens or 0) + (bound.output_tokens or 0)


class _QueuePlace:
    """The place of one attempt among the calls in flight to its endpoint."""

    __slots__ = ("_began", "_call", "_queue", "_ticket", "_tokens")

    def __init__(self, call: Call, queue: FairQueue, tokens: int) -> None:
        self._call, self._queue, self._tokens = call, queue, tokens
        self._ticket: Ticket | None = None
        self._began = 0.0

    async def take(self, peek: Callable[[Call], None] | None = None) -> None:
        """Wait for the call's turn; raise OverloadedError when that is after its deadline."""
        call, queue, clock = self._call, self._queue, self._call.context.clock
        began = clock.monotonic()
        ticket = queue.enter(call.context.tenant, self._tokens, began)
        if ticket is None:
            raise _overloaded(call, queue, f"{queue.most} calls of this tenant wait already", 1.0)
        if not ticket.granted:
            await _Turn(call, queue, began).wait(ticket, peek)
            began = clock.monotonic()
        self._ticket, self._began = ticket, began

    def give_back(self) -> None:
        """Let another call have the place."""
        if self._ticket is not None:
            self._queue.leave(self._ticket, self._call.context.clock.monotonic())
            self._ticket = None

    async def take_again(self) -> None:
        """Wait for the call's turn again."""
        await self.take()

    def end(self, used: int | None) -> None:
        """End the attempt, which used so many tokens, None for an unknown number."""
        if self._ticket is not None:
            now = self._call.context.clock.monotonic()
            self._queue.release(self._ticket, now, used=used, seconds=now - self._began)


class _Turn:
    """The wait of one call for its turn, whose time is not the endpoint's."""

    def __init__(self, call: Call, queue: FairQueue, began: float) -> None:
        self._call, self._queue, self._began = call, queue, began
        self._clock = call.context.clock
        self._loop = asyncio.get_running_loop()
        self._woken = self._loop.create_future()

    async def wait(self, ticket: Ticket, peek: Callable[[Call], None] | None = None) -> None:
        """Return when the ticket is granted; leave the queue when the wait ends otherwise."""
        deadline = self._call.deadline
        timer = self._call.span.timer
        ends = timer.when() if timer is not None else None
        try:
            if peek is not None:
                peek(self._call)
            self._check(self._queue.wait_s(ticket, self._began), deadline)
            if timer is not None:
                timer.reschedule(None)
            while not ticket.granted:
                await self._look(ticket, deadline)
        except BaseException:
            self._queue.leave(ticket, self._clock.monotonic())
            raise
        finally:
            queued = self._clock.monotonic() - self._began
            if self._call.span.attempts:
                attempt = self._call.span.attempts[-1]  # which may wait a second time, after a budget
                attempt["queued_s"] = round(attempt.get("queued_s", 0.0) + queued, 6)
            if timer is not None and ends is not None and not timer.expired():
                left = float("inf") if deadline is None else deadline - self._clock.monotonic()
                timer.reschedule(min(ends + queued, self._loop.time() + left))

    async def _look(self, ticket: Ticket, deadline: float | None) -> None:
        """Wait until the ticket is granted, its rate allows it, or something changed for it."""
        woken = self._woken = self._loop.create_future()
        ticket.wake = self._wake
        now = self._clock.monotonic()
        wait = self._queue.poll(ticket, now)
        if ticket.granted:
            return
        left = float("inf") if deadline is None else deadline - now
        if left <= 0:
            raise _overloaded(
                self._call, self._queue, "its turn did not come before the call's deadline", wait or 1.0
            )
        alarm = self._loop.call_later(left, _set, woken) if deadline is not None else None
        sleeper = None
        if wait is not None and wait < left:
            sleeper = self._loop.create_task(self._clock.sleep(wait))
            sleeper.add_done_callback(lambda _: _set(woken))
        try:
            await woken
        finally:
            for pending in (alarm, sleeper):
                if pending is not None:
                    pending.cancel()

    def _wake(self) -> bool:
        """Wake the waiting call, from any thread; False when its loop has ended."""
        try:
            self._loop.call_soon_threadsafe(_set, self._woken)
        except RuntimeError:
            return False
        return True

    def _check(self, wait: float, deadline: float | None) -> None:
        """Raise OverloadedError if the expected wait ends after the deadline."""
        if deadline is not None and self._began + wait >= deadline:
            left = max(0.0, deadline - self._began)
            raise _overloaded(
                self._call, self._queue, f"its turn is in about {wait:.1f} s, and {left:.1f} s are left", wait
            )


def _overloaded(call: Call, queue: FairQueue, why: str, wait: float) -> OverloadedError:
    return OverloadedError(
        f"{call.target}: the call waits for the limits of {queue.limits.url}, and {why}",
        hint=f"ask again in {wait:.0f} s, with a later deadline, or raise `limits` in the model's card",
        retry_after_s=round(wait, 3),
    )


def _set(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)


def _used(usage: Usage | None, used: int | None, reserved: int) -> int | None:
    """Return the tokens of the answer so far, None while they are unknown; at most twice the reserved."""
    if usage is not None and usage.input_tokens is not None:
        return min(usage.input_tokens + (usage.output_tokens or 0), 2 * reserved)
    return used or None
