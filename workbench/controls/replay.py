"""Record and replay of model calls, in mode live, record, replay or auto."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Final, Literal

import orjson

from workbench import files, wire
from workbench.context import current_invocation
from workbench.controls.lanes import Lanes
from workbench.controls.position import MODEL, Position
from workbench.errors import ConfigError, RefusedError
from workbench.ports import Call, Handler
from workbench.records.journal import Journal
from workbench.records.keys import NOT_IN_KEY, Entry, RecordedRequest, processor, refusal, refuse_secrets
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

    async def __call__(self, call: Call, proceed: Handler) -> AsyncGenerator[Event, None]:
        """Yield the recorded answer, or call the model and record its answer."""
        if call.labels.get("recorded") is False:  # a deterministic computation in this process
            async for event in proceed(call):
                yield event
            return
        question, key = _identify(call)
        call.span.note(key=key)
        if (entry := self._recorded(call, question, key)) is not None:
            for event in entry.events():
                yield event
        elif call.payload.get("stream"):
            async with aclosing(self._ask(call, proceed, question, key)) as events:
                async for event in events:
                    yield event
        else:
            for event in await self._ask_plain(call, proceed, question, key):
                yield event

    def _recorded(self, call: Call, question: RecordedRequest, key: str) -> Entry | None:
        if self.mode in ("live", "record"):
            return None
        source: Literal["tape", "cache"] = "tape"
        entry = self._tape.get(key)
        if entry is None and self.mode == "replay":
            raise miss(self._tape, question, call.target)
        if entry is None:
            source, entry = "cache", self._journal.get(key)
        if entry is not None:
            self._use(key, source)
            replayed = call.span.facts.get("replayed", True)
            call.span.note(
                replayed=replayed, source=source, recorded_latency_s=_latency(call, entry.latency_s)
            )
        return entry

    async def _ask_plain(
        self, call: Call, proceed: Handler, question: RecordedRequest, key: str
    ) -> list[Event]:
        """Return the model's answer; in mode auto, identical concurrent requests share one call.

        For plain replies only: a stream waits for its reader, so a second reader of the same stream in
        the same task would deadlock.
        """
        if self.mode != "auto":
            return [event async for event in self._ask(call, proceed, question, key)]
        async with self._lanes.turn(call, key):
            if (entry := self._recorded(call, question, key)) is not None:
                return entry.events()
            return [event async for event in self._ask(call, proceed, question, key)]

    async def _ask(
        self, call: Call, proceed: Handler, question: RecordedRequest, key: str
    ) -> AsyncGenerator[Event, None]:
        call.span.note(replayed=False, source="model")
        if keep := self.mode != "live":
            self._journal.open()  # before the call: fails if the answer could not be recorded
            refuse_secrets(files.canonical(question.request))
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
                self._keep(call, question, key, refused, waited)
            raise
        call.span.note(recorded_latency_s=_latency(call, sum(waited)))
        events_json = orjson.loads(b"[" + b",".join(taken) + b"]")
        if taken and (not call.payload.get("stream") or _ended(call, events_json)):
            self._keep(call, question, key, {"events": events_json}, waited)

    def _keep(
        self, call: Call, question: RecordedRequest, key: str, result: JSON, waited: Sequence[float]
    ) -> None:
        entry = Entry(
            key=key,
            question=question,
            target=call.target,
            result=result,
            latency_s=round(sum(waited), 6),
            first_event_s=round(waited[0], 6),
            processor=processor(),
        )
        line = entry.line()
        refuse_secrets(line)
        self._journal.append(key, line)
        self._use(key, "cache")

    def _use(self, key: str, source: Literal["tape", "cache"]) -> None:
        if self._used.get(key) != source:
            self._used[key] = source
            if self._on_use is not None:
                self._on_use(key, source)


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


def _identify(call: Call) -> tuple[RecordedRequest, str]:
    """Return the recorded form of this call and its key. Only an occurrence numbers identical requests."""
    fields = {name: value for name, value in call.payload.items() if name not in NOT_IN_KEY}
    try:
        encoded = files.canonical(fields)
        if b"null" in encoded:  # a number that is not finite becomes null
            files.check_exact(fields, where="the request")
        request = orjson.loads(encoded)  # a copy, independent of the caller's payload
        scope = current_invocation()
        number_of = [call.name, call.identity, orjson.Fragment(encoded)]
        n = scope.number(files.digest(number_of)) if scope else 0
    except TypeError as error:
        raise ConfigError(
            f"the request is not JSON: {error}", hint="pass only strings, numbers, lists and mappings"
        ) from None
    question = RecordedRequest(
        operation=call.name,
        identity=call.identity,
        request=request,
        case=scope.case if scope else "",
        repeat=scope.repeat if scope else 0,
        n=n,
    )
    return question, question.key
