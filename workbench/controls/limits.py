"""Limits of a run: calls, tokens, money, seconds and repeated requests, beyond which the run ends."""

from __future__ import annotations

import dataclasses
import threading
import weakref
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final

from workbench import files, wire
from workbench.config import RunLimits
from workbench.context import RunScope
from workbench.controls.position import MODEL, Position
from workbench.errors import LimitExceededError
from workbench.ports import Call, Handler
from workbench.types import Event, Usage
from workbench.wire.bounds import answer_bytes, estimated_usage

#: Inside of observe, so that the refusal is recorded; outside of fallback, so that another model does not go
#: on where the run has ended.
POSITION: Final = Position(name="limits", operations=MODEL, after=("observe",), before=("fallback",))
#: The unit of each limit in messages, and the digits that are shown.
_UNITS: Final = {
    "calls": ("calls", 0), "tokens": ("tokens", 0), "usd": ("USD", 6), "seconds": ("s", 1),
    "repeated": ("identical requests", 0),
}  # fmt: skip
#: Operations whose answers take tokens; a count or a verdict takes none.
_PAID: Final = frozenset({"chat", "respond", "embed"})
Price = Callable[[str, Usage], float | None]


class _Spent:
    """What one run has spent so far, and the limit that ended it."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.ended = ""
        self.calls = self.tokens = self.repeated = 0
        self.usd = self.seconds = 0.0
        self.requests: Counter[str] = Counter()

    def measures(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in _UNITS}


class LimitedRuns:
    """Counts the calls of a run, and refuses every call after the run has reached a limit.

    A run is a task over many items, a job's run, or else the life of this object. Every call counts, also a
    replayed one; tokens and money count when an endpoint gave the answer, so calls in flight may exceed them.
    `where` is the place of the limits in params.yaml, and `price` returns a target's price of tokens.
    """

    def __init__(self, limits: RunLimits, *, where: str, price: Price) -> None:
        self._limits = limits
        self._stated = [(n, v) for n, v in dataclasses.asdict(limits).items() if v is not None]
        names = {name for name, _ in self._stated}
        self._counts_usage = not names.isdisjoint({"tokens", "usd"})
        #: What is counted: the limits, and what costs nothing to count.
        self._counted = {*names, "calls", "seconds", *(("tokens",) if self._counts_usage else ())}
        self._where = where
        self._price = price
        self._lock = threading.Lock()
        self._runs: weakref.WeakKeyDictionary[RunScope, _Spent] = weakref.WeakKeyDictionary()
        self._process = RunScope()

    async def __call__(self, call: Call, proceed: Handler) -> AsyncGenerator[Event, None]:
        """Pass the call on and count it; raise LimitExceededError if the run has reached a limit."""
        spent = self._enter(call)
        usage, counted, speaks = Usage(), self._counts_usage, wire.dialect(call.operation)
        texts: int | None = None  # bytes of the answer, which count while the endpoint states no usage
        try:
            async with aclosing(proceed(call)) as events:  # type: ignore[type-var]
                async for event in events:
                    if counted:
                        usage = call.span.usage_in(event, speaks) or usage
                        if usage.input_tokens is None and _may_cost(call):
                            texts = (texts or 0) + answer_bytes(event.data)
                    yield event
        finally:
            if counted and not call.span.facts.get("replayed"):
                if usage.input_tokens is None and texts is not None:
                    usage = estimated_usage(call.payload, speaks, texts)
                self._add(spent, call, usage)

    def _enter(self, call: Call) -> _Spent:
        """Count a call that begins; raise LimitExceededError instead if it exceeds a limit."""
        limits, now = self._limits, call.context.clock.monotonic()
        asked = files.digest([call.name, call.identity, call.payload]) if limits.repeated else ""
        # A job's process is one run, whatever its notebook calls in it.
        run = self._process if call.context.run else RunScope.current() or self._process
        with self._lock:
            spent = self._runs.get(run)
            if spent is None:
                spent = self._runs[run] = _Spent(now)
            spent.seconds = now - spent.began
            spent.ended = spent.ended or self._reached(spent, asked)
            if spent.ended:
                raise self._error(spent, call.context.job)
            spent.calls += 1
            if asked:
                spent.requests[asked] += 1
                spent.repeated = max(spent.repeated, spent.requests[asked])
        return spent

    def _reached(self, spent: _Spent, asked: str) -> str:
        """Return the name of the limit that one more call exceeds, or an empty text."""
        for name, limit in self._stated:
            value = spent.requests[asked] if name == "repeated" else getattr(spent, name)
            if value >= limit:
                return name
        return ""

    def _add(self, spent: _Spent, call: Call, usage: Usage) -> None:
        """Add what the call's answer took, and the answers before it: repaired ones, and of other models."""
        facts = call.span.facts
        repaired: Usage | None = facts.get("usage_before_repair")
        last = usage if repaired is None else repaired + usage
        for target, part in ((facts.get("fallback") or call.target, last), *facts.get("paid_before", ())):
            if part.input_tokens is not None:
                cost = self._price(target, part) if self._limits.usd is not None else None
                with self._lock:
                    spent.tokens += part.input_tokens + (part.output_tokens or 0)
                    spent.usd += cost or 0.0

    def _error(self, spent: _Spent, job: str) -> LimitExceededError:
        name = spent.ended
        unit, digits = _UNITS[name]
        measures = {key: value for key, value in spent.measures().items() if key in self._counted}
        told = ", ".join(
            f"{round(value, _UNITS[key][1]):g} {_UNITS[key][0]}"
            for key, value in measures.items()
            if key == "calls" or getattr(self._limits, key) is not None
        )
        limit = round(getattr(self._limits, name), digits)
        return LimitExceededError(
            f"the run reached its limit of {limit:g} {unit}; it spent {told}",
            hint=f"received answers are kept: raise {self._where}.{name} in params.yaml, "
            + ("promote the job again, and run it again" if job else "and run it again"),
            limit=name,
            spent=measures,
        )


def _may_cost(call: Call) -> bool:
    """Return whether an answer takes tokens, also when it does not say so."""
    return call.operation in _PAID and call.labels.get("recorded") is not False
