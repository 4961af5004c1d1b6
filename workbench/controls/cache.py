"""Cache of answers: gives an exact repetition of a request the answer of the first, for a stated time."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from workbench import files, wire
from workbench.config import AnswerCaching
from workbench.context import current_invocation
from workbench.controls.lanes import Lanes
from workbench.controls.position import Position
from workbench.errors import WorkbenchError
from workbench.ports import Call, Handler
from workbench.records.answer_cache import AnswerCache
from workbench.records.keys import NOT_IN_KEY
from workbench.types import JSON, Event

#: Inside of privacy and moderation: it holds no identifiers, and today's rules judge its answers. Outside of
#: replay: an answer from it is no attempt, costs nothing, and is neither recorded nor limited.
POSITION: Final = Position(
    name="cache",
    operations=frozenset({"model.chat", "model.embed"}),
    after=("output", "privacy", "moderation"),
    before=("replay",),
)
#: The word in a call's record for an answer from this cache.
SOURCE: Final = "exact"


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheScope:
    """What an answer may depend on beside its request: the use case, its memory and its policy, as texts."""

    use_case: str
    memory: str = ""
    policy: str = ""


class Cache:
    """Answers a repeated request of the same tenant and rights from the store, and stores new answers.

    Concurrent identical requests share one call. A case of an experiment is never answered from the cache,
    and neither is a computation in this process. An error of the store fails no call.
    """

    def __init__(self, store: AnswerCache, settings: AnswerCaching, *, scope: CacheScope) -> None:
        self._store = store
        self._settings = settings
        self._scope = scope
        self._lanes = Lanes()

    async def __call__(self, call: Call, proceed: Handler) -> AsyncGenerator[Event, None]:
        """Yield the stored answer, or the model's."""
        form = call.span.recording
        off = call.operation not in self._settings.operations or call.labels.get("recorded") is False
        off = off or bool(call.payload.get("store"))  # the endpoint keeps a copy only of what it gets
        off = off or (form is not None and form.unrecorded)
        request = None if off or current_invocation() is not None else _request(call)
        if request is None:
            async for event in proceed(call):
                yield event
            return
        parts = [dataclasses.asdict(self._scope), _caller(call), call.name, call.identity, request]
        if form is not None and (kept := form.request(request)) is not request:
            parts.append({"pseudonymised": kept})  # its pseudonyms are those that the answer holds
            request = kept
        key = files.digest(parts)
        if (stored := self._stored(call, key)) is not None:
            for event in stored:
                yield event
        elif call.payload.get("stream"):  # a second reader of one stream would wait for the first
            async with aclosing(self._ask(call, proceed, request, key)) as events:
                async for event in events:
                    yield event
        else:
            for event in await self._ask_plain(call, proceed, request, key):
                yield event

    def close(self) -> None:
        """Close the store; a later call opens it again."""
        self._store.close()

    async def _ask_plain(self, call: Call, proceed: Handler, request: JSON, key: str) -> list[Event]:
        """Return the model's answer; a call that waits for an identical one waits until its own deadline."""
        async with self._lanes.turn(call, key):
            if (stored := self._stored(call, key)) is not None:
                return stored
            return [event async for event in self._ask(call, proceed, request, key)]

    async def _ask(
        self, call: Call, proceed: Handler, request: JSON, key: str
    ) -> AsyncGenerator[Event, None]:
        taken: list[bytes] = []
        async for event in proceed(call):
            taken.append(files.canonical(event.data))  # before the reader can change it
            yield event
        if not call.span.facts.get("replayed"):  # the tape has it for ever
            self._keep(call, request, key, orjson.loads(b"[" + b",".join(taken) + b"]"))

    def _stored(self, call: Call, key: str) -> list[Event] | None:
        try:
            events = self._store.get(key, now=call.context.clock.now().timestamp())
        except WorkbenchError:
            return None
        if events is None:
            return None
        call.span.note(replayed=True, source=SOURCE, key=key)
        if call.span.recording is not None:
            call.span.recording.answered_by_recording()
        return [Event(data=data) for data in events]

    def _keep(self, call: Call, request: JSON, key: str, events: list[JSON]) -> None:
        """Store a complete answer; one that a reader left, or without its end or content, is asked again."""
        if events and call.span.recording is not None:
            events = list(call.span.recording.answer(events, call.operation))
        speaks, taken = wire.dialect(call.operation), [Event(data=data) for data in events]
        if not events or (call.payload.get("stream") and not speaks.is_complete(taken)):
            return
        answer = speaks.fold(taken)
        whole = answer if len(taken) > 1 else None
        now = call.context.clock.now().timestamp()
        with contextlib.suppress(WorkbenchError):
            if speaks.reason_of(answer) != "empty":
                self._store.put(key, request, events, whole=whole, now=now, seconds=self._settings.seconds)


def cache_of(path: Path, settings: AnswerCaching | None, scope: CacheScope) -> dict[str, Cache]:
    """Return the control of a use case by its name; nothing for one that caches no answers."""
    if settings is None:
        return {}
    store = AnswerCache(path, most_bytes=settings.megabytes * 2**20)
    return {"cache": Cache(store, settings, scope=scope)}


def _caller(call: Call) -> Mapping[str, object]:
    """Return the rights that an answer may depend on, and the prompt and passages behind its request."""
    principal, labels = call.context.principal, call.labels
    return {
        "tenant": call.context.tenant,
        "grants": sorted(principal.grants),
        "clearance": principal.clearance,
        "admin": principal.admin,
        "prompt": [labels.get("prompt"), labels.get("prompt_digest")],
        "passages": labels.get("passages"),
    }


def _request(call: Call) -> JSON | None:
    """Return the request without fields that cannot change an answer; None for one that is not JSON."""
    fields = {name: value for name, value in call.payload.items() if name not in NOT_IN_KEY}
    try:
        files.check_exact(fields, where="the request")
    except (WorkbenchError, TypeError):
        return None  # a control below says what is wrong with it
    return fields
