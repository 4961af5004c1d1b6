"""A handler whose boundary is in another process: it sends calls and yields the events of their answers."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any, Final

from workbench.context import InvocationScope, RunScope, current_invocation, new_id
from workbench.errors import DeadlineError, RefusedError, UnavailableError
from workbench.identity import Principal
from workbench.ports import Call
from workbench.remote.calls import encode_call
from workbench.remote.connection import GatewayConnection, media_type
from workbench.remote.failures import error_of
from workbench.remote.lines import LineReader, parsed
from workbench.remote.passages import UNSERVED, ServedHits
from workbench.remote.protocol import CALLS, LINES
from workbench.remote.values import read_result
from workbench.types import JSON, Event

#: Seconds beyond a call's deadline in which the gateway may say that it has passed.
_GRACE_S: Final = 5.0
#: Invocations that have ended and are told with the next call.
_MOST_ENDED: Final = 1_000


class RemoteHandler:
    """Sends each call to the gateway of a connection, as a boundary's handler is called.

    `own` is the principal that the gateway knows the caller as; a call of another one states it.
    """

    def __init__(self, connection: GatewayConnection, *, own: Principal | None = None) -> None:
        self.connection = connection
        self._own = own
        self._caller = new_id()
        self._served = ServedHits()
        self._runs: weakref.WeakKeyDictionary[RunScope, str] = weakref.WeakKeyDictionary()
        self._ended: dict[str, str | None] = {}

    async def __call__(self, call: Call) -> AsyncGenerator[Event, None]:
        """Yield the events of the answer; raise the error that the gateway raised.

        A call is cancelled at the gateway when its task is cancelled or its events are closed. Raise
        UnavailableError when the gateway is away or breaks off, retryable before the first event.
        """
        answer = _RemoteAnswer(call, current_invocation())
        try:
            async with aclosing(self._events(call, answer)) as events:
                async for event in events:
                    yield event
        except RefusedError as error:
            if error.reason != UNSERVED or answer.has_begun or not self._served.forget():
                raise
        else:
            return
        # Another process than the one that served the hits answers: a restarted gateway, or one of several.
        async with aclosing(self._events(call, _RemoteAnswer(call, current_invocation()))) as events:
            async for event in events:
                yield event

    async def _events(self, call: Call, answer: _RemoteAnswer) -> AsyncGenerator[Event, None]:
        body = encode_call(
            call, caller=self._caller, served=self._served, own=self._own, **self._scopes(answer.around)
        )
        try:
            async with contextlib.AsyncExitStack() as stack:
                with _in_time(call):
                    async with _timeout(call):
                        response = await stack.enter_async_context(
                            self.connection.opened("POST", CALLS, body)
                        )
                _check_kind(media_type(response))
                async for event in answer.events(response.pieces()):
                    if call.name == "memory.search":
                        self._served.note(event.data)
                    yield event
        except UnavailableError as error:
            if answer.has_begun and error is not answer.failure:  # the gateway knows of its own error
                error.retryable = False
            raise

    def _scopes(self, around: InvocationScope | None) -> dict[str, Any]:
        """Return the run of a call, and the invocations that have ended since the last call."""
        found: dict[str, Any] = {}
        run = RunScope.current()
        if run is not None:
            found["run_scope"] = self._runs.setdefault(run, new_id())
        if around is not None and self._note_end not in around.ending:
            around.ending.append(self._note_end)
        if self._ended:
            found["ended"], self._ended = self._ended, {}
        return found

    def _note_end(self, scope: InvocationScope) -> None:
        if scope.parent and len(self._ended) < _MOST_ENDED:
            self._ended[scope.parent] = scope.error


class _RemoteAnswer:
    """One answer, read from the pieces of its body."""

    def __init__(self, call: Call, around: InvocationScope | None) -> None:
        self._call, self.around = call, around
        self._verb = call.operation if call.port == "memory" else ""
        self._parts: list[Any] = []
        self._is_over = self.has_begun = False
        self.failure: BaseException | None = None

    async def events(self, pieces: AsyncIterator[bytes]) -> AsyncGenerator[Event, None]:
        """Yield the events; raise the stated error, and UnavailableError unless a last line ends them."""
        reader = LineReader()
        async for piece in self._each_in_time(pieces):
            for line in reader.feed(piece):
                if self._is_over:
                    raise UnavailableError("the gateway sent more after the end of its answer", hint=_ODD)
                event = self._read(line)
                if event is not None:
                    self.has_begun = True
                    yield event
        if not self._is_over or reader.is_inside:
            raise UnavailableError(
                "the answer of the gateway ended before its last line",
                hint="repeat the call; workbench doctor",
            )
        if self.failure is not None:
            raise self.failure

    async def _each_in_time(self, pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """Yield the pieces; raise DeadlineError when none comes in time."""
        while True:
            with _in_time(self._call):
                async with _timeout(self._call):
                    piece = await anext(pieces, None)
            if piece is None:
                return
            yield piece

    def _read(self, line: bytes) -> Event | None:
        """Return the event in a line, if it holds one, and keep what ends the answer."""
        if self._verb and line.startswith(_VALUES):  # read once, by the types of the verb
            return self._result(line)
        found = parsed(line)
        if "event" in found:
            return Event(data=found["event"])
        self._is_over = True
        ending = found.get("end", found)
        self._end(ending if isinstance(ending, dict) else {})
        if "error" in found:
            self.failure = error_of(found["error"])
        return None

    def _result(self, line: bytes) -> Event | None:
        """Return the result in a line of a memory's verb; None for a part of a list."""
        name, _, value = line.partition(b":")
        data = read_result(self._verb, value[:-1])
        if name == _PART:
            self._parts += data
            return None
        if self._parts:
            data, self._parts = self._parts + data, []
        return Event(data=data)

    def _end(self, ending: JSON) -> None:
        """Note the facts of the call, and keep its record in the invocation."""
        facts, record = ending.get("facts"), ending.get("record")
        if isinstance(facts, dict):
            self._call.span.facts.update(facts)
        if isinstance(record, dict) and self.around is not None:
            self.around.records.append(record)


#: How a line with an event, or with a part of one, begins.
_PART: Final = b'{"part"'
_VALUES: Final = (b'{"event":', b'{"part":')
_ODD: Final = "workbench doctor   # names the gateway"


def _check_kind(kind: str) -> None:
    if kind != LINES:
        raise UnavailableError(f"the gateway answered with {kind[:100]!r}, not {LINES}", hint=_ODD)


def _timeout(call: Call) -> asyncio.Timeout:
    """Return the timeout of one wait: until the deadline of the call and a little longer."""
    left = None if call.deadline is None else call.deadline - call.context.clock.monotonic() + _GRACE_S
    return asyncio.timeout(left)


@contextlib.contextmanager
def _in_time(call: Call) -> Iterator[None]:
    """Raise DeadlineError in place of a timeout."""
    try:
        yield
    except TimeoutError:
        raise DeadlineError(
            f"{call.target} did not answer before the deadline of the call", hint="repeat with more time"
        ) from None
