"""Moderation: checks what a model is sent and what it answers, and flags, redacts, refuses or holds it."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal

import orjson

from workbench import wire
from workbench.config.moderation import KEEP_DAYS
from workbench.controls.position import Position
from workbench.errors import (
    LimitExceededError,
    ModerationError,
    ReplayMissError,
    WorkbenchError,
)
from workbench.moderation import exchange as texts
from workbench.moderation.exchange import CheckResult, Exchange, Piece
from workbench.moderation.held import HeldAnswers, HeldTexts
from workbench.moderation.hooks import Hook
from workbench.moderation.sentences import sentence_end
from workbench.ports import Call, Handler
from workbench.types import JSON, Event
from workbench.wire.contents import without_tokens

#: Inside of privacy, so that a model that classifies sees no identifiers; outside of the cache and of replay,
#: so that a kept answer is judged by today's checks. Only what a model writes is checked.
POSITION: Final = Position(
    name="moderation",
    operations=frozenset({"model.chat", "model.respond"}),
    after=("output", "privacy"),
    before=("cache", "replay"),
)
#: The label of a call that a check makes; such a call is not checked itself.
LABEL: Final = "moderation"
#: Characters before a sentence that its checks read too.
_TAIL: Final = 4_000
_JSON_FORMS: Final = frozenset({"json_schema", "json_object"})
Ask = Callable[[Call, Hook, str], Awaitable[CheckResult | None]]
Fired = list[tuple[Piece, CheckResult]]
Hold = Literal["nothing", "sentences", "everything"]


class Moderation:
    """Runs the hooks of a use case around each call of a model that writes.

    Without `enforce` the hooks are recorded, and nothing follows. `tenants` are those of the use case, `held`
    keeps answers for review, for `keep_days`, and `ask` asks the model of a classifier. A check that cannot
    be made counts as one that fired.
    """

    def __init__(
        self,
        hooks: Sequence[Hook],
        *,
        enforce: bool = True,
        tenants: Sequence[str] = (),
        held: HeldAnswers | None = None,
        keep_days: int = KEEP_DAYS,
        ask: Ask | None = None,
    ) -> None:
        self._in = [hook for hook in hooks if hook.direction == "in"]
        self._out = [hook for hook in hooks if hook.direction == "out"]
        self._enforce = enforce
        self._tenants = tuple(tenants)
        self._held = held
        self._keep_days = keep_days
        self._ask = ask

    def applies(self, call: Call) -> bool:
        """Return whether the call is not one that a check makes."""
        return LABEL not in call.labels

    async def __call__(self, call: Call, proceed: Handler) -> AsyncGenerator[Event, None]:
        """Pass the call on and its answer back; raise ModerationError for what a check refuses or holds."""
        exchange = Exchange(
            pieces=texts.request_pieces(call.payload, [hit.text for hit in call.passages]),
            tenant=call.context.tenant,
            tenants=self._tenants,
        )
        checked = await self._request(call, exchange) if self._in else call
        hold = self._holds(call)
        if not self._out:
            async for event in proceed(checked):
                yield event
        elif hold == "everything":
            events = [event async for event in proceed(checked)]
            for event in await self._whole(call, exchange, events):
                yield event
        else:
            async for event in self._passed(
                call, exchange, proceed(checked), by_sentence=hold == "sentences"
            ):
                yield event

    def _holds(self, call: Call) -> Hold:
        """Return how much of an answer waits for its checks."""
        if not call.payload.get("stream"):
            return "everything"
        acting = [hook for hook in self._out if hook.severity != "flag"] if self._enforce else []
        if any(hook.whole for hook in acting) or (acting and call.payload.get("n") not in {None, 1}):
            return "everything"
        return "sentences" if acting else "nothing"

    # -- what is sent ----------------------------------------------------------------------

    async def _request(self, call: Call, exchange: Exchange) -> Call:
        """Return the call as it may be made; raise ModerationError if it may not."""
        removed: dict[texts.Path, list[tuple[int, int]]] = {}
        for hook in self._in:
            pieces = [piece for piece in exchange.pieces if piece.origin in hook.reads]
            fired = await self._fired(call, hook, exchange, pieces)
            if not fired or not self._act(call, hook, fired):
                continue
            if hook.severity != "redact" or not _places(fired, removed):
                raise _refused(call, hook)
        payload = call.payload
        for path, spans in removed.items():
            payload = texts.with_text(payload, path, texts.without(_text_at(call.payload, path), spans))
        return dataclasses.replace(call, payload=payload) if removed else call

    # -- what is answered ------------------------------------------------------------------

    async def _whole(self, call: Call, exchange: Exchange, events: list[Event]) -> list[Event]:
        """Return the events of an answer as they may be given; raise ModerationError if they may not."""
        speaks = wire.dialect(call.operation)
        answer = speaks.fold(events)
        judged = await self._judged(call, exchange, answer)
        if judged is answer:
            return events
        if not call.payload.get("stream"):
            return [Event(data=judged)]
        usage = bool((call.payload.get("stream_options") or {}).get("include_usage"))
        return [Event(data=chunk) for chunk in speaks.unfold(judged, usage=usage)]

    async def _passed(
        self, call: Call, exchange: Exchange, events: Any, *, by_sentence: bool
    ) -> AsyncGenerator[Event, None]:
        """Yield the events of a stream, by sentence those of checked ones; check all of it at its end."""
        speaks = wire.dialect(call.operation)
        seen: list[Event] = []
        waiting: deque[tuple[int, Event]] = deque()
        text, done, plain = "", 0, True
        async for event in events:
            seen.append(event)
            if not by_sentence:
                yield event
                continue
            plain = plain and _is_text(event.data)
            known, text = len(text), text + speaks.piece_of(event.data)
            waiting.append((len(text), event))
            if plain and (end := sentence_end(text, done, known=known)) > done:
                await self._sentence(call, exchange, text[max(0, end - _TAIL) : end])
                done = end
            while plain and waiting and done and waiting[0][0] <= done:
                yield waiting.popleft()[1]
        if seen:
            await self._judged(call, exchange, speaks.fold(seen))
        for _, event in waiting:
            yield event

    async def _sentence(self, call: Call, exchange: Exchange, text: str) -> None:
        """Raise ModerationError if a check refuses the end of a text."""
        piece = Piece(origin="answer", text=text)
        for hook in self._out:
            if hook.severity != "flag" and (fired := await self._fired(call, hook, exchange, [piece])):
                self._act(call, hook, fired)
                raise _refused(call, hook)

    async def _judged(self, call: Call, exchange: Exchange, answer: JSON) -> JSON:
        """Return the answer, or what is left of it; raise ModerationError if nothing may be given."""
        pieces = texts.answer_pieces(answer)
        removed: dict[texts.Path, list[tuple[int, int]]] = {}
        abstained: Hook | None = None
        for hook in self._out:
            whole = (Piece(origin="answer", text=wire.dialect(call.operation).text_of(answer)),)
            fired = await self._fired(call, hook, exchange, pieces if hook.kind.places else whole)
            if not fired or not self._act(call, hook, fired):
                continue
            if hook.severity == "hold":
                raise self._kept(call, hook, answer)
            if hook.severity == "redact" and hook.abstain is not None:
                abstained = abstained or hook
            elif hook.severity != "redact" or not _places(fired, removed):
                raise _refused(call, hook)
        if abstained is not None:
            return _abstained(call, abstained, answer, pieces)
        return _redacted(call, answer, removed) if removed else answer

    # -- one hook --------------------------------------------------------------------------

    async def _fired(self, call: Call, hook: Hook, exchange: Exchange, pieces: Sequence[Piece]) -> Fired:
        """Return the pieces on which a hook fires, with its results."""
        if hook.classifier is None or self._ask is None:
            check = hook.check
            found = (
                (piece, check(piece.text, exchange) if check else None) for piece in pieces if piece.text
            )
            return [(piece, result) for piece, result in found if result is not None]
        text = "\n\n".join(piece.text for piece in pieces if piece.text)
        if not text:
            return []
        try:
            result = await self._ask(call, hook, text)
        except (ReplayMissError, LimitExceededError):
            raise
        except WorkbenchError as error:
            if self._enforce and hook.severity != "flag":
                raise _unmade(call, hook, error) from error
            result = CheckResult()
        return [(Piece(origin="answer", text=text), result)] if result is not None else []

    def _act(self, call: Call, hook: Hook, fired: Fired) -> bool:
        """Note that a hook fired; return whether something follows."""
        scores = [result.score for _, result in fired if result.score is not None]
        line = {
            "check": hook.name,
            "direction": hook.direction,
            "action": hook.severity,
            "score": max(scores, default=None),
        }
        facts = call.span.facts
        key = (hook.name, hook.direction)
        noted = [each for each in facts.get("checks", ()) if (each["check"], each["direction"]) != key]
        call.span.note(checks=[*noted, line])
        if hook.severity == "flag":
            return False
        if not self._enforce and hook.severity in {"refuse", "hold"}:
            name = f"moderation:{hook.name}"
            call.span.note(would_refuse=list(dict.fromkeys([*facts.get("would_refuse", ()), name])))
        return self._enforce

    def _kept(self, call: Call, hook: Hook, answer: JSON) -> ModerationError:
        """Keep an answer for review, and return the error that says so."""
        if self._held is None:
            return _refused(call, hook)
        context, facts = call.context, call.span.facts
        now = context.clock.now()
        kept = self._held.keep(
            _texts_of(call, answer),
            subject=context.subject,
            at=now.isoformat(timespec="seconds"),
            expires=(now.date() + dt.timedelta(days=self._keep_days)).isoformat(),
            use_case=context.use_case,
            tenant=context.tenant,
            principal=context.principal.name,
            target=call.target,
            operation=call.operation,
            trace_id=str(facts.get("trace_id", "")),
            check=hook.name,
        )
        return ModerationError(
            f"{call.target}: the check {hook.name!r} holds the answer for review as {kept.id}",
            hint=f"workbench moderation release {kept.id} --reason …   # then ws.released({kept.id!r})",
            check=hook.name,
            direction="out",
            held=kept.id,
        )


def _texts_of(call: Call, answer: JSON) -> HeldTexts:
    """Return what a reviewer reads: the request and the answer as the caller would, without pseudonyms."""
    speaks, request, form = wire.dialect(call.operation), call.payload, call.span.recording
    if form is not None:
        as_json = speaks.output_format(request)[0] in _JSON_FORMS
        request, answer = form.restored(request), form.restored(answer, as_json=as_json)
    return HeldTexts(request=dict(request), answer=dict(answer), text=speaks.text_of(answer))


def _refused(call: Call, hook: Hook) -> ModerationError:
    what = "request" if hook.direction == "in" else "answer"
    return ModerationError(
        f"{call.target}: the check {hook.name!r} refuses the {what}",
        hint=f"workbench calls --trace {call.span.facts.get('trace_id', 'ID')} shows its score; "
        f"use_cases.{call.context.use_case}.moderation of params.yaml states the check",
        check=hook.name,
        direction=hook.direction,
    )


def _unmade(call: Call, hook: Hook, error: WorkbenchError) -> ModerationError:
    what = "request" if hook.direction == "in" else "answer"
    return ModerationError(
        f"{call.target}: the check {hook.name!r} cannot be made, so the {what} is refused: {error.message}",
        hint=error.hint,
        check=hook.name,
        direction=hook.direction,
    )


def _places(fired: Fired, removed: dict[texts.Path, list[tuple[int, int]]]) -> bool:
    """Add the ranges to redact by the path of their text; return False if one of them has no place."""
    for piece, result in fired:
        if not piece.path or not result.spans:
            return False
        shifted = [(piece.start + start, piece.start + end) for start, end in result.spans]
        removed.setdefault(piece.path, []).extend(shifted)
    return True


def _text_at(data: Any, path: texts.Path) -> str:
    for key in path:
        data = data[key]
    return str(data)


def _redacted(call: Call, answer: JSON, removed: Mapping[texts.Path, list[tuple[int, int]]]) -> JSON:
    """Return the answer without the ranges; raise ModerationError if that breaks the JSON of its texts."""
    made = answer
    for path, spans in removed.items():
        before = _text_at(answer, path)
        after = texts.without(before, spans)
        if _is_json(before) and not _is_json(after):
            raise ModerationError(
                f"{call.target}: what a check redacts cannot be taken out of the answer's JSON",
                hint="write severity: refuse for answers of JSON",
                direction="out",
            )
        made = texts.with_text(made, path, after)
    return without_tokens(made)  # type: ignore[no-any-return]  # of a mapping, a mapping


def _abstained(call: Call, hook: Hook, answer: JSON, pieces: Sequence[Piece]) -> JSON:
    """Return the answer with the stated text in place of its own; raise ModerationError if it cannot be."""
    text = hook.abstain or ""
    places = [piece for piece in pieces if piece.path]
    form = wire.dialect(call.operation).output_format(call.payload)[0]
    structured = form in _JSON_FORMS
    if not places or any(piece.origin == "call" for piece in places) or (structured and not _is_json(text)):
        raise _refused(call, hook)
    made = answer
    for number, piece in enumerate(places):
        made = texts.with_text(made, piece.path, "" if number else text)
    return without_tokens(made)  # type: ignore[no-any-return]  # of a mapping, a mapping


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _is_text(data: JSON) -> bool:
    """Return whether an event of a stream adds text to the answer or nothing, and no other content."""
    kind = data.get("type")
    if isinstance(kind, str):
        item = data.get("item")
        message = not isinstance(item, Mapping) or item.get("type") == "message"
        return message and not any(
            part in kind for part in ("reasoning", "arguments", "_call", "refusal", "input")
        )
    return all(not (value and name not in {"role", "content"}) for name, value in _delta(data))


def _delta(data: JSON) -> Iterator[tuple[str, Any]]:
    for choice in data.get("choices") or ():
        yield from (choice.get("delta") or {}).items()
