"""The gateway's half of a call: resolves what the caller states, and writes the answer as lines."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Hashable, Mapping
from typing import Any, Final, Generic, Protocol, TypeVar

from workbench.context import InvocationScope, RunScope, resumed
from workbench.errors import RefusedError
from workbench.ports import Call, Handler
from workbench.remote.calls import AskedCall, AskedInvocation
from workbench.remote.failures import failure_of
from workbench.remote.lines import end_line, error_line, event_lines
from workbench.remote.passages import ServedHits
from workbench.remote.prompts import Prompts, with_prompt
from workbench.types import JSON, Event

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
#: Grants, callers of one grant, and invocations and runs of one caller, that are kept; the one unused for
#: longest is given up. Callers are bounded for each grant, so that none makes another's be forgotten.
_MOST_GRANTS: Final = 1_000
_MOST_CALLERS: Final = 256
_MOST_INVOCATIONS: Final = 4_096
_MOST_RUNS: Final = 256
#: Records of one invocation that are kept.
_MOST_RECORDS: Final = 10_000


def _as_it_is(error: Exception) -> BaseException:
    return error


class Resolver(Prompts, Protocol):
    """What one caller may ask, resolved by reference: `workspace.asked_calls` makes it of a workspace.

    `scope` is the grant of the caller: invocations and passages of one grant are never those of another.
    `strict` is whether the caller is a judged run or a job.
    """

    scope: Hashable

    @property
    def handler(self) -> Handler:
        """The boundary."""

    def call(self, asked: AskedCall) -> Call:
        """Return the call with its payload, context, identity, card, fall-backs and labels.

        `Serving` adds deadline, retries, prompt and passages. Raise NotFoundError for an unknown reference,
        and RefusedError for what the caller may not ask.
        """

    def data_class(self, asked: AskedCall) -> str:
        """Return the class of data that the spec of an asked memory declares, "" for none."""


class Serving:
    """Answers the calls of callers, and keeps what belongs to each: invocations, runs and served passages.

    `on_record` receives each call of an invocation with its record, when the call has ended.
    """

    def __init__(self, *, on_record: Callable[[AskedCall, JSON], None] | None = None) -> None:
        self._on_record = on_record
        self._grants: _Kept[Hashable, _Kept[str, _CallerState]] = _Kept(_MOST_GRANTS, _Kept.clear)

    async def serve(
        self, asked: AskedCall, resolver: Resolver, *, shown: Callable[[Exception], BaseException] = _as_it_is
    ) -> AsyncGenerator[bytes, None]:
        """Yield the lines of an answer, the last of which is its end or its error as `shown` returns it.

        Closing the lines closes the boundary's stream, so that the record says abandoned; cancelling the
        task that reads them cancels the call.
        """
        caller = self._grants.get(resolver.scope, _callers_of_grant).get(asked.caller, _CallerState)
        caller.end(asked.ended)
        invocation, run = caller.invocation(asked.invocation), caller.run(asked.run_scope)
        crossing = _ServedCall(asked, resolver, caller.hits)
        try:
            with resumed(invocation, run):
                events = crossing.begin()
            while True:
                with resumed(invocation, run):
                    lines = await crossing.next_lines(events)
                if lines is None:
                    break
                for line in lines:
                    yield line
            last = end_line(crossing.facts, crossing.record(invocation))
        except Exception as error:  # noqa: BLE001  the caller gets every error, as JSON
            with resumed(invocation, run):
                await crossing.close()
            # A name outside of a scope is refused as one that does not exist, which makes no call.
            told = (crossing.facts, crossing.record(invocation)) if not _is_outside(error) else ({}, None)
            last = error_line(failure_of(shown(error)), *told)
        finally:
            with resumed(invocation, run):
                await crossing.close()
            self._told(asked, crossing.record(invocation))
        yield last

    def close(self) -> None:
        """End every invocation that callers left open."""
        self._grants.clear()

    def _told(self, asked: AskedCall, record: JSON | None) -> None:
        if self._on_record is not None and record is not None:
            self._on_record(asked, record)


def _is_outside(error: Exception) -> bool:
    return isinstance(error, RefusedError) and error.reason == "scope"


class _ServedCall:
    """One call on its way through the boundary."""

    def __init__(self, asked: AskedCall, resolver: Resolver, hits: ServedHits) -> None:
        self._asked, self._resolver, self._hits = asked, resolver, hits
        self._events: AsyncIterator[Event] | None = None
        self._verb = asked.operation if asked.port == "memory" else ""
        self.facts: dict[str, Any] = {}

    def begin(self) -> AsyncIterator[Event]:
        """Return the events of the call, resolved; raise the error of what cannot be resolved."""
        asked = self._asked
        call = self._resolver.call(asked).within(asked.seconds)
        if asked.retries is not None or asked.declared is not None:
            call = dataclasses.replace(call, retries=asked.retries, declared=asked.declared)
        if asked.prompt is not None or asked.passages:
            call = with_prompt(call, asked, self._resolver, self._hits)
        self.facts = call.span.facts
        self._events = self._resolver.handler(call)
        return self._events

    async def next_lines(self, events: AsyncIterator[Event]) -> list[bytes] | None:
        """Return the lines of the next event, or None at the end of the answer."""
        event = await anext(events, None)
        if event is None:
            return None
        if self._verb == "search":
            self._hits.note(event.data, data_class=self._resolver.data_class(self._asked))
        return list(event_lines(event.data, verb=self._verb))

    async def close(self) -> None:
        """Close the boundary's stream; a second time does nothing."""
        events, self._events = self._events, None
        if events is not None:
            await events.aclose()  # type: ignore[attr-defined]

    def record(self, invocation: InvocationScope | None) -> JSON | None:
        """Return the record of this call, which the boundary appended to its invocation."""
        trace = self.facts.get("trace_id")
        records = invocation.records if invocation is not None else []
        if len(records) > _MOST_RECORDS:
            del records[: -_MOST_RECORDS // 2]
        return next((record for record in reversed(records) if record["trace_id"] == trace), None)


class _CallerState:
    """What belongs to one caller."""

    def __init__(self) -> None:
        self.hits = ServedHits()
        self._invocations: _Kept[str, InvocationScope] = _Kept(_MOST_INVOCATIONS, _ended)
        self._runs: _Kept[str, RunScope] = _Kept(_MOST_RUNS)

    def invocation(self, asked: AskedInvocation | None) -> InvocationScope | None:
        """Return the invocation that a caller states, the same for its id."""
        if asked is None:
            return None
        return self._invocations.get(
            asked.id,
            lambda: InvocationScope(
                case=asked.case,
                repeat=asked.repeat,
                task=asked.task,
                parent=asked.id,
                columns=asked.columns,
            ),
        )

    def run(self, name: str) -> RunScope | None:
        """Return the run that a caller states, the same for its id."""
        return self._runs.get(name, RunScope) if name else None

    def end(self, ended: Mapping[str, str | None]) -> None:
        """End invocations, each with the name of the error that ended it."""
        for name, error in ended.items():
            scope = self._invocations.pop(name)
            if scope is not None:
                scope.error = error
                _ended(scope)

    def close(self) -> None:
        """End every invocation."""
        self._invocations.clear()


def _callers_of_grant() -> _Kept[str, _CallerState]:
    return _Kept(_MOST_CALLERS, _CallerState.close)


def _ended(scope: InvocationScope) -> None:
    for end in scope.ending:
        end(scope)


class _Kept(Generic[K, V]):
    """Values by their keys, of which the one that is unused for longest is given up."""

    __slots__ = ("_give_up", "_most", "_values")

    def __init__(self, most: int, give_up: Callable[[V], None] = lambda _value: None) -> None:
        self._values: OrderedDict[K, V] = OrderedDict()
        self._most, self._give_up = most, give_up

    def get(self, key: K, make: Callable[[], V]) -> V:
        """Return the value of a key, made if there is none."""
        value = self._values.get(key)
        if value is None:
            value = self._values[key] = make()
            if len(self._values) > self._most:
                self._give_up(self._values.popitem(last=False)[1])
        self._values.move_to_end(key)
        return value

    def pop(self, key: K) -> V | None:
        """Remove and return the value of a key."""
        return self._values.pop(key, None)

    def clear(self) -> None:
        """Give up every value."""
        while self._values:
            self._give_up(self._values.popitem()[1])
