"""Record and replay of model calls, in mode live, record, replay or auto."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Final, Literal

import orjson

from workbench import files, wire
from workbench.context import current_invocation
from workbench.controls.lanes import Lanes
from workbench.controls.position import MODEL, Position
from workbench.errors import ConfigError, RefusedError
from workbench.ports import Call, Handler
from workbench.records.journal import Journal
from workbench.records.keys import (
    NOT_IN_KEY,
    Entry,
    KeyedRequest,
    RecordedAnswer,
    processor,
    refusal,
    refuse_secrets,
)
from workbench.records.nearest import miss
from workbench.records.tape import Tape
from workbench.types import JSON, Event

#: Inside of privacy and moderation: recordings hold no identifiers, and current rules apply to them. Memory
#: calls are not recorded: a snapshot makes them reproducible.
POSITION: Final = Position(
    name="replay", operations=MODEL, after=("output", "privacy", "moderation"), before=("retry",)
)
Mode = Literal["live", "record", "replay", "auto"]


class Replay:
    """Records model answers and replays them, in one of four modes.

    live: call the model, record nothing. record: always call the model and record its answer. replay:
    answer from the tape only; a miss raises ReplayMissError and calls nothing. auto: look in the tape,
    then in the journal, else call and record. `on_use` receives each key used and its source.
    """

    def __init__(
        self, mode: Mode, *, tape: Tape, journal: Journal, on_use: Callable[[str, str], None] | None = None
    ) -> None:
        self.mode = mode
        self._tape = tape
        self._journal = journal
        self._on_use = on_use
        self._used: dict[str, Literal["tape", "cache"]] = {}
        self._lanes = Lanes()

    def __call__(self, call: Call, proceed: Handler) -> AsyncIterator[Event]:
        """Return the recorded answer, or that of the model, which is recorded."""
        form = call.span.recording
        unrecorded = form is not None and form.unrecorded and self.mode != "replay"
        if unrecorded or call.labels.get("recorded") is False:  # a deterministic computation in this process
            return proceed(call)
        asked = _identify(call, kept=self.mode != "live")
        call.span.facts["key"] = asked.key
        if (answer := self._recorded(call, asked)) is not None:
            return _Plain(answer.events())
        if call.payload.get("stream"):
            if self._on_use is not None and self.mode == "auto" and call.span.recording is not None:
                return self._ask_as_recorded(call, proceed, asked)
            return self._ask(call, proceed, asked)
        return _Plain((), partial(self._ask_plain, call, proceed, asked))

    def _recorded(self, call: Call, asked: KeyedRequest) -> RecordedAnswer | None:
        if self.mode in ("live", "record"):
            return None
        source: Literal["tape", "cache"] = "tape"
        answer = self._tape.answer(asked)
        if answer is None and self.mode == "replay":
            raise miss(self._tape, asked.question(), call.target)
        if answer is None and not call.payload.get("store"):  # the endpoint keeps a copy only of what it gets
            source, answer = "cache", self._journal.answer(asked)
        if answer is not None:
            self._use(asked.key, source)
            facts = call.span.facts
            facts.setdefault("replayed", True)
            facts["source"], facts["recorded_latency_s"] = source, _latency(call, answer.latency_s)
            _mark(call, answer)
        return answer

    async def _ask_plain(self, call: Call, proceed: Handler, asked: KeyedRequest) -> list[Event]:
        """Return the model's answer; in mode auto, identical concurrent requests share one call.

        For plain replies only: a stream waits for its reader, so a second reader of the same stream in
        the same task would deadlock.
        """
        if self.mode != "auto":
            return [event async for event in self._ask(call, proceed, asked)]
        async with self._lanes.turn(call, asked.key):
            if (answer := self._recorded(call, asked)) is not None:
                return answer.events()
            events = [event async for event in self._ask(call, proceed, asked)]
            return self._as_recorded(call, asked, events)

    async def _ask_as_recorded(
        self, call: Call, proceed: Handler, asked: KeyedRequest
    ) -> AsyncGenerator[Event, None]:
        """Yield a streamed answer of a stage from its recording, after its end."""
        events = [event async for event in self._ask(call, proceed, asked)]
        for event in self._as_recorded(call, asked, events):
            yield event

    def _as_recorded(self, call: Call, asked: KeyedRequest, events: list[Event]) -> list[Event]:
        """Return the answer of a stage as its recording gives it again, also where that is masked."""
        answer = self._journal.answer(asked) if self._on_use is not None and call.span.recording else None
        if answer is None or "events" not in answer.result:
            return events
        _mark(call, answer)
        return answer.events()

    async def _ask(self, call: Call, proceed: Handler, asked: KeyedRequest) -> AsyncGenerator[Event, None]:
        call.span.note(replayed=False, source="model")
        if keep := self.mode != "live":
            self._journal.open()  # before the call: fails if the answer could not be recorded
            refuse_secrets(asked.pseudonymised or asked.encoded)
        clock, taken, waited = call.context.clock, list[bytes](), list[float]()
        began = clock.monotonic()
        try:
            async for event in proceed(call):
                waited.append(clock.monotonic() - began)
                if keep:
                    taken.append(files.canonical(event.data))  # before the reader can change it
                yield event
                began = clock.monotonic()
        except RefusedError as error:
            waited.append(clock.monotonic() - began)
            if keep and not taken and (refused := refusal(error)) is not None:
                self._keep(call, asked, refused, waited)
            raise
        call.span.facts["recorded_latency_s"] = _latency(call, sum(waited))
        if not taken:
            return
        events_json = orjson.loads(b"[" + b",".join(taken) + b"]")
        if call.span.recording is not None:
            events_json = call.span.recording.answer(events_json, call.operation)
        if not call.payload.get("stream") or _ended(call, events_json):
            self._keep(call, asked, {"events": events_json}, waited)

    def _keep(self, call: Call, asked: KeyedRequest, result: JSON, waited: Sequence[float]) -> None:
        entry = Entry(
            key=asked.key,
            question=asked.question(),
            target=call.target,
            result=result,
            latency_s=round(sum(waited), 6),
            first_event_s=round(waited[0], 6),
            processor=processor(),
            pseudonymised=asked.pseudonymised is not None,
        )
        line = entry.line()
        refuse_secrets(line)
        self._journal.append(asked.key, line)
        self._use(asked.key, "cache")

    def _use(self, key: str, source: Literal["tape", "cache"]) -> None:
        if self._used.get(key) != source:
            self._used[key] = source
            if self._on_use is not None:
                self._on_use(key, source)


class _Plain(AsyncIterator[Event]):
    """The events of an answer that is there, or that one wait brings. Not a generator, which takes longer."""

    __slots__ = ("_ask", "_events")

    def __init__(
        self, events: Iterable[Event], ask: Callable[[], Awaitable[list[Event]]] | None = None
    ) -> None:
        self._events = iter(events)
        self._ask = ask

    async def __anext__(self) -> Event:
        if self._ask is not None:
            ask, self._ask = self._ask, None
            self._events = iter(await ask())
        event = next(self._events, None)
        if event is None:
            raise StopAsyncIteration
        return event

    async def aclose(self) -> None:
        """End the answer."""
        self._events, self._ask = iter(()), None


def _mark(call: Call, answer: RecordedAnswer) -> None:
    """Tell the control `privacy` that an answer holds pseudonyms, which it restores."""
    if answer.pseudonymised and call.span.recording is not None:
        call.span.recording.answered_by_recording()


def _latency(call: Call, latency_s: float) -> float:
    """Return the model's latency so far in seconds, live or recorded; a repair adds up both calls."""
    before: float = call.span.facts.get("recorded_latency_s", 0.0)
    return round(before + round(latency_s, 6), 6)


def _ended(call: Call, chunks: Sequence[JSON]) -> bool:
    """Return whether a stream is complete: with a finish reason, or with the event that ends a response."""
    speaks, events = wire.dialect(call.operation), [Event(data=chunk) for chunk in chunks]
    # In the folded text, where no secret is split across chunks.
    refuse_secrets(files.canonical(speaks.fold(events)))
    return speaks.is_complete(events)


def _identify(call: Call, *, kept: bool) -> KeyedRequest:
    """Return the recorded form of this call. Only an occurrence numbers identical requests.

    What is not `kept` needs no form without identifiers.
    """
    fields = call.payload
    if not NOT_IN_KEY.keys().isdisjoint(fields):
        fields = {name: value for name, value in fields.items() if name not in NOT_IN_KEY}
    try:
        encoded = files.canonical(fields)
        if b"null" in encoded:  # a number that is not finite becomes null
            files.check_exact(fields, where="the request")
        asked = KeyedRequest(call.name, call.identity, encoded, current_invocation())
    except TypeError as error:
        raise ConfigError(
            f"the request is not JSON: {error}", hint="pass only strings, numbers, lists and mappings"
        ) from None
    form = call.span.recording if kept else None
    if form is not None and (hidden := form.request(fields)) is not fields:
        asked.pseudonymised = files.canonical(hidden)
    return asked
