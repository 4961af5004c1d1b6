"""Budgets: reserves what an attempt may take before it is made, and settles what it took."""

from __future__ import annotations

import asyncio
import dataclasses
import warnings
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Any, Final, Protocol

from workbench import wire
from workbench.context import Context
from workbench.controls.position import MODEL, Position
from workbench.errors import (
    NoAnswerError,
    OverloadedError,
    RefusedError,
    UnavailableError,
    WorkbenchError,
)
from workbench.ports import Call, Handler
from workbench.ports.budget import Account, Amounts, BudgetLedger, Reservation
from workbench.types import Event, Usage
from workbench.wire.bounds import TokenLimits, bytes_of
from workbench.wire.shape import texts_of

#: Innermost: each attempt is paid for by itself, and neither a recorded answer nor the wait in a queue takes
#: anything. Counting tokens generates nothing and is free.
POSITION: Final = Position(
    name="budget",
    operations=MODEL - {"model.count"},
    after=("retry", "rate_limit", "circuit_breaker"),
)
#: Seconds that a call without a deadline waits for the reservations of others.
_WAIT_S: Final = 300.0
#: Most seconds that a call waits for a ledger whose budgets only observe.
_OBSERVED_WAIT_S: Final = 2.0
#: Seconds of waiting for a budget after which a call gives its endpoint's place back.
_PARK_S: Final = 0.05
#: Seconds by which a timer may be early.
_TIMER_S: Final = 0.05
#: Usage above so many times the reservation, and above the context, is taken for an error of the endpoint.
_ABSURD: Final = 4


class PricedModel(Protocol):
    """What a budget needs of a model card."""

    @property
    def limits(self) -> TokenLimits:
        """The limits of one request."""

    @property
    def price_hint(self) -> str:
        """Where to write the price of the model."""

    def cost_usd(self, usage: Usage) -> float | None:
        """Return the price of an answer, or None if it is unknown."""


class Accounts(Protocol):
    """The accounts of a call, and the longest model time of one."""

    def accounts(self, context: Context) -> tuple[Account, ...]:
        """Return the accounts that a call with this context takes from."""

    def call_seconds(self, accounts: tuple[Account, ...]) -> float | None:
        """Return the longest model time of one call; None if no account limits model time."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _AttemptBound:
    """The most that one attempt can take. `cost` is None if the price is unknown."""

    usage: Usage
    cost: float | None
    seconds: float

    @property
    def amounts(self) -> Amounts:
        return _amounts(self.usage, self.cost, self.seconds)


class BudgetControl:
    """Refuses an attempt that a budget has no room for, and counts what every attempt took.

    `card` returns the model card of a call's target. A budget that only observes never refuses a call, also
    when its ledger is unavailable; an enforced one then refuses every call.
    """

    def __init__(
        self, ledger: BudgetLedger, *, accounts: Accounts, card: Callable[[str], PricedModel]
    ) -> None:
        self._ledger = ledger
        self._accounts = accounts
        self._card = card
        self._warned: set[str] = set()

    def applies(self, call: Call) -> bool:
        """Return whether the call takes from a budget; a computation in this process takes from none."""
        return call.labels.get("recorded") is not False and bool(self._accounts.accounts(call.context))

    async def __call__(self, call: Call, proceed: Handler) -> AsyncGenerator[Event, None]:
        """Reserve, pass the attempt on and settle; raise BudgetExceededError if there is no room for it."""
        accounts = self._accounts.accounts(call.context)
        bound = self._bound(call, accounts)
        reservation = await self._reserve(call, accounts, bound)
        call.span.reservation = reservation
        spending = _AttemptSpending(call, bound, self._card(call.target))
        try:
            async with aclosing(proceed(spending.limited(call))) as events:  # type: ignore[type-var]
                async for event in events:
                    spending.take(event)
                    yield event
            spending.ended = "complete"
        except WorkbenchError as error:
            spending.failed(error)
            raise
        finally:
            spent = spending.spent()
            # Sent to the ledger before this waits for it, so that no cancellation loses it.
            if reservation is not None and not await self._ledger.settle(
                reservation, spent, answer_s=_left_s(call)
            ):
                call.span.note(budget_unsettled=True)
            call.span.reservation = None

    def peek(self, call: Call) -> None:
        """Raise BudgetExceededError if the call is known to have no room, before it waits in a queue."""
        if self.applies(call):
            accounts = self._accounts.accounts(call.context)
            self._ledger.check(accounts, self._bound(call, accounts).amounts)

    def _bound(self, call: Call, accounts: tuple[Account, ...]) -> _AttemptBound:
        """Return the most that the attempt can take; check that its price is known where money is limited."""
        card = self._card(call.target)
        usage = call.span.usage_bound(call.payload, wire.dialect(call.operation), card.limits)
        cost = _most_usd(card, usage)
        if cost is None:
            self._check_priced(call, accounts)
        longest = self._accounts.call_seconds(accounts)
        seconds = 0.0 if longest is None else max(min(_left_s(call), longest), 0.0)
        return _AttemptBound(usage=usage, cost=cost, seconds=seconds)

    def _check_priced(self, call: Call, accounts: tuple[Account, ...]) -> None:
        priced = [account for account in accounts if account.limits[0] is not None]
        if not priced:
            return
        message = f"the price of {call.target} is unknown, and budget {priced[0]} limits money"
        hint = self._card(call.target).price_hint
        caller = "job" if call.context.job else "API key" if call.context.api_key else ""
        if caller and any(account.enforced for account in priced):
            raise RefusedError(f"{message}: the {caller}'s call was not made", hint=hint)
        if call.target not in self._warned:
            self._warned.add(call.target)
            warnings.warn(f"{message}: its calls take no money from it; {hint}", stacklevel=2)

    async def _reserve(
        self, call: Call, accounts: tuple[Account, ...], bound: _AttemptBound
    ) -> Reservation | None:
        """Return the reservation, after which the call has its endpoint's place; None as `_ask` does."""
        _fact(call, reserved_usd=bound.cost)
        with _timer_paused(call):
            parked = _ParkedPlaces(call)
            try:
                made = await self._ask(call, accounts, bound.amounts)
            finally:
                parked.stop()
            try:
                await parked.take_again()
            except BaseException:
                if made is not None:
                    await self._ledger.settle(made, Amounts(), answer_s=0.0)
                raise
        if made is not None and made.exceeded:
            noted = [*call.span.facts.get("would_refuse", ()), *made.exceeded]
            call.span.note(would_refuse=list(dict.fromkeys(noted)))
        return made

    async def _ask(self, call: Call, accounts: tuple[Account, ...], amounts: Amounts) -> Reservation | None:
        """Return the reservation; None if the ledger is unavailable and all budgets only observe."""
        enforced, left = any(account.enforced for account in accounts), _left_s(call)
        wait_s = left if enforced else min(left / 2, _OBSERVED_WAIT_S)
        try:
            return await self._ledger.reserve(accounts, amounts, wait_s=wait_s, answer_s=wait_s)
        except (WorkbenchError, OSError) as error:
            if isinstance(error, RefusedError) or (enforced and isinstance(error, OverloadedError)):
                raise
            call.span.note(budget_error=type(error).__name__)
            if enforced:
                raise _unreadable(accounts, error) from error
            return None


class _ParkedPlaces:
    """The places that outer controls hold for a call, the innermost last; given back while it waits."""

    def __init__(self, call: Call) -> None:
        self._places = tuple(call.span.places)
        self._given = False
        self._alarm = None
        if self._places:
            self._alarm = asyncio.get_running_loop().call_later(_PARK_S, self._give_back)

    def stop(self) -> None:
        """Keep the places that are not given back yet."""
        if self._alarm is not None:
            self._alarm.cancel()

    async def take_again(self) -> None:
        """Wait for the places that were given back; raise the error of a control that has none in time."""
        for place in self._places if self._given else ():
            await place.take_again()

    def _give_back(self) -> None:
        self._given = True
        for place in reversed(self._places):
            place.give_back()


class _AttemptSpending:
    """The amounts that one attempt takes: the usage that the endpoint states, else an estimate."""

    def __init__(self, call: Call, bound: _AttemptBound, card: PricedModel) -> None:
        self._call = call
        self._bound = bound
        self._card = card
        self._began = call.context.clock.monotonic()
        self._dialect = wire.dialect(call.operation)
        self._streamed = bool(call.payload.get("stream"))
        self._usage = Usage()
        self._events = 0
        self._bytes = 0
        self._deadline = call.deadline
        self._written = False
        self.ended = "abandoned"

    def limited(self, call: Call) -> Call:
        """Return the call with a deadline after the model time that is reserved for it."""
        if not self._bound.seconds:
            return call
        deadline = self._began + self._bound.seconds
        self._deadline = deadline if call.deadline is None else min(deadline, call.deadline)
        return dataclasses.replace(call, deadline=self._deadline)

    def failed(self, error: WorkbenchError) -> None:
        """Note the end by an error: after silence up to the deadline, the endpoint may still answer."""
        clock = self._call.context.clock
        late = self._deadline is not None and clock.monotonic() >= self._deadline - _TIMER_S
        unanswered = isinstance(error, UnavailableError) and error.status is None
        # An answer that was too large to be read was written all the same.
        self._written = isinstance(error, NoAnswerError) and error.reason == "too_large"
        self.ended = "abandoned" if unanswered and late and not self._events else "failed"

    def take(self, event: Event) -> None:
        """Note the usage and the size of one event."""
        self._events += 1
        usage = self._call.span.usage_in(event, self._dialect)
        if usage is not None:
            self._usage = usage
        elif self._streamed and isinstance(event.data, Mapping):
            # Calls of tools and thoughts are output too, so every text of the event counts.
            self._bytes += bytes_of(texts_of(event.data.get("choices") or event.data.get("delta")))

    def spent(self) -> Amounts:
        """Return what the attempt took, and note it in the attempt's record."""
        if self.ended == "abandoned" and self._events and not self._streamed:
            self.ended = "complete"  # a plain reply is complete after its only event
        if self.ended == "failed" and not self._events and not self._written:
            _fact(self._call, cost_usd=0.0)
            return Amounts()
        usage, source = self._known()
        cost = self._card.cost_usd(usage)
        _fact(self._call, input_tokens=usage.input_tokens, output_tokens=usage.output_tokens, cost_usd=cost)
        if source:
            _fact(self._call, budget_usage=source)
            self._call.span.note(budget_usage=source)
        took = self._call.context.clock.monotonic() - self._began
        return _amounts(usage, cost, min(took, self._bound.seconds))

    def _known(self) -> tuple[Usage, str]:
        """Return the usage to settle, and its source if the endpoint did not state it."""
        usage, most = self._usage, self._bound.usage
        reserved = (most.input_tokens or 0) + (most.output_tokens or 0)
        if usage.input_tokens is not None and (
            usage.output_tokens is not None or not self._dialect.generates
        ):
            told = usage.input_tokens + (usage.output_tokens or 0)
            plausible = max(_ABSURD * reserved, self._card.limits.context_tokens)
            # A model that writes has read something: servers that count nothing state zeros.
            counted = usage.input_tokens > 0 or not self._dialect.generates
            return (usage, "") if counted and told <= plausible else (most, "absurd")
        if self._streamed and self.ended != "abandoned":
            output = min(self._bytes, most.output_tokens or 0)
            return dataclasses.replace(most, output_tokens=output), "estimated"
        return most, "missing" if self.ended == "complete" else "abandoned"


def _most_usd(card: PricedModel, usage: Usage) -> float | None:
    """Return the highest price of so many tokens: cached and reasoning ones may cost more than the others."""
    costs = [
        card.cost_usd(
            Usage(
                input_tokens=usage.input_tokens,
                output_tokens=usage.output_tokens,
                cached_tokens=cached,
                reasoning_tokens=reasoning,
            )
        )
        for cached in (None, usage.input_tokens)
        for reasoning in (None, usage.output_tokens)
    ]
    known = [cost for cost in costs if cost is not None]
    return max(known) if len(known) == len(costs) else None


def _amounts(usage: Usage, cost: float | None, seconds: float) -> Amounts:
    tokens = (usage.input_tokens or 0) + (usage.output_tokens or 0)
    return Amounts.of(usd=cost or 0.0, tokens=tokens, calls=1, seconds=seconds)


def _left_s(call: Call) -> float:
    """Return the seconds that a call can wait."""
    return _WAIT_S if call.deadline is None else call.deadline - call.context.clock.monotonic()


@contextmanager
def _timer_paused(call: Call) -> Iterator[None]:
    """Stop the timer of the attempt during the block: a wait for a budget is none of the endpoint's time."""
    timer, clock = call.span.timer, call.context.clock
    ends = timer.when() if timer is not None else None
    if timer is None or ends is None or timer.expired():
        yield
        return
    began = clock.monotonic()
    timer.reschedule(None)
    try:
        yield
    finally:
        waited = clock.monotonic() - began
        if waited > 0.001:
            _fact(call, budget_waited_s=round(waited, 6))
        if not timer.expired():
            timer.reschedule(min(ends + waited, asyncio.get_running_loop().time() + _left_s(call)))


def _unreadable(accounts: Iterable[Account], error: WorkbenchError | OSError) -> RefusedError:
    """Return the refusal of a call whose budgets cannot be read; it blames no endpoint."""
    name = next(str(account) for account in accounts if account.enforced)
    what = error.message if isinstance(error, WorkbenchError) else str(error)
    hint = (error.hint if isinstance(error, WorkbenchError) else "") or "workbench doctor"
    refused = RefusedError(f"budget {name} cannot be read, so the call was not made: {what}", hint=hint)
    refused.reason = "budget_unreadable"
    return refused


def _fact(call: Call, **facts: Any) -> None:
    """Add facts to the record of the current attempt."""
    if call.span.attempts:
        call.span.attempts[-1].update(facts)
