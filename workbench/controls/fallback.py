"""Fallback: the next candidate of a model call, or a memory's last snapshot, answers when the first cannot.

A use case names the candidates of its model under `model.fallback` in params.yaml, and opts in to the
snapshot with `memory_fallback: snapshot`. The snapshot is read-only, and its hits are marked `degraded`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

import orjson

from workbench import wire
from workbench.controls.position import Position
from workbench.errors import (
    BudgetExceededError,
    CircuitOpenError,
    DeadlineError,
    InvalidOutputError,
    NoAnswerError,
    OverloadedError,
    PrivacyError,
    RateLimitedError,
    RefusedError,
    ReplayMissError,
    UnavailableError,
    WorkbenchError,
)
from workbench.ports import Call, Handler, ModelCandidate
from workbench.types import STATED, Event

#: Outside of access control and of validation, so that a snapshot's access and validity are checked again,
#: and that each model's answer is authorised, validated and paid for itself. Other operations of memories
#: need the current state, and vectors and token counts of another model would not fit those of the first.
POSITION: Final = Position(
    name="fallback",
    operations=frozenset({"memory.search", "model.chat", "model.respond"}),
    after=("observe",),
    before=("policy", "access", "output"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """A failure after which the next candidate is asked.

    `name` is the reason in replies and records. `reasons` limits the trigger to errors with one of these
    reasons; an empty set means any.
    """

    name: str
    error: type[WorkbenchError]
    reasons: frozenset[str] = frozenset()


#: The failures that may fall back; the first that fits gives the reason. Every other error is raised: a
#: refusal of the text itself (moderation, a content filter, a limit of the run), an invalid request, a
#: missing key.
TRIGGERS: Final = (
    Trigger(name="circuit_open", error=CircuitOpenError),
    Trigger(name="overloaded", error=OverloadedError),
    Trigger(name="rate_limited", error=RateLimitedError),
    Trigger(name="deadline", error=DeadlineError),
    Trigger(name="unavailable", error=UnavailableError),
    Trigger(name="invalid_output", error=InvalidOutputError),
    # Faults of the endpoint; an answer that is refused, filtered or truncated is an answer.
    Trigger(
        name="no_answer",
        error=NoAnswerError,
        reasons=frozenset({"malformed", "no_choices", "error", "too_large"}),
    ),
    Trigger(name="policy", error=RefusedError, reasons=frozenset({"policy"})),  # it refuses this model
    Trigger(name="privacy", error=PrivacyError),  # a model on this machine may see what this one may not
    Trigger(name="budget", error=BudgetExceededError),  # a cheaper model may fit
    Trigger(name="not_recorded", error=ReplayMissError),  # a failure is never recorded, its fall-back is
)
#: The share of the time left, and the most seconds of it, that is kept for a stated answer.
_RESERVED: Final = (0.05, 1.0)
#: Facts of a candidate's answer, which do not describe the next candidate's.
_OF_ANSWER: Final = ("replayed", "source", "key", "repaired")


def trigger_of(error: WorkbenchError) -> str:
    """Return the name of the first trigger that fits the error; empty if the error may not fall back."""
    for trigger in TRIGGERS:
        if isinstance(error, trigger.error) and (not trigger.reasons or error.reason in trigger.reasons):
            return trigger.name
    return ""


class Fallback:
    """Asks the candidates of a model call in order, and the last snapshot of a memory whose store fails.

    Each falls back only before the first event of an answer. `memory` is whether searches may fall back, and
    `stated` whether a stated answer may be given. The candidates share one deadline, by default in `seconds`:
    each may use an equal share of the time left, so that one that hangs leaves time for the others.
    """

    def __init__(self, *, memory: bool = True, stated: bool = True, seconds: float = 300.0) -> None:
        self._memory = memory
        self._stated = stated
        self._seconds = seconds

    def applies(self, call: Call) -> bool:
        """Return whether there is something to fall back on."""
        return bool(call.fallbacks) or (self._memory and call.port == "memory")

    def __call__(self, call: Call, proceed: Handler) -> AsyncIterator[Event]:
        """Return the answer of the first candidate that gives one; raise the failure if none does."""
        return self._candidates(call, proceed) if call.fallbacks else _snapshot(call, proceed)

    async def _candidates(self, call: Call, proceed: Handler) -> AsyncGenerator[Event, None]:
        failures: list[WorkbenchError] = []
        for asked in self._asked(call):
            answering = False
            try:
                async with aclosing(proceed(asked)) as events:  # type: ignore[type-var]
                    async for event in events:
                        if failures and not answering:
                            call.span.note(fallback=asked.target, fallback_reason=trigger_of(failures[0]))
                        answering = True
                        yield event
            except WorkbenchError as error:
                if answering or not _may_continue(error, first=not failures):
                    raise
                failures.append(error)
                _set_aside(asked)
            else:
                return
        stated = next(self._stated_of(call, failures), None)
        if stated is None:
            raise _shown(call, failures)
        call.span.note(fallback=STATED, fallback_reason=trigger_of(failures[0]), source="stated")
        for event in _stated_events(call, stated, trigger_of(failures[0])):
            yield event

    def _asked(self, call: Call) -> Iterator[Call]:
        """Yield the call to each model, while there is time, with its share of the deadline."""
        clock = call.context.clock
        end = call.deadline if call.deadline is not None else clock.monotonic() + self._seconds
        models = [candidate for candidate in call.fallbacks if candidate.answer is None]
        reserve = min(_RESERVED[0] * (end - clock.monotonic()), _RESERVED[1])
        if len(models) < len(call.fallbacks) and self._stated:
            end -= reserve
        for number, candidate in enumerate([None, *models]):
            now = clock.monotonic()
            if number and now >= end:
                return
            share = (end - now) / (len(models) + 1 - number)
            yield dataclasses.replace(retargeted(call, candidate), deadline=now + share, fallbacks=())

    def _stated_of(self, call: Call, failures: list[WorkbenchError]) -> Iterator[str]:
        """Yield the stated answers that fit the request; none replaces a recording that is missing."""
        if self._stated and not any(isinstance(error, ReplayMissError) for error in failures):
            for candidate in call.fallbacks:
                if candidate.answer is not None and _fits(call, candidate.answer):
                    yield candidate.answer


def retargeted(call: Call, candidate: ModelCandidate | None) -> Call:
    """Return the call to another model: what the caller set stays, and the new card's defaults apply."""
    if candidate is None:
        return call
    own = {name: value for name, value in call.payload.items() if name not in call.defaulted}
    labels = {name: value for name, value in call.labels.items() if name != "recorded"}
    defaults = candidate.defaults if candidate.operation == call.operation else {}
    return dataclasses.replace(
        call,
        target=candidate.target,
        identity=candidate.identity,
        payload={**defaults, **own, "model": candidate.model},
        labels=labels if candidate.recorded else {**labels, "recorded": False},
        defaulted=frozenset(defaults),
    )


def _may_continue(error: WorkbenchError, *, first: bool) -> bool:
    """Return whether the next candidate is asked; a fall-back that is not set up is passed over, too."""
    return bool(trigger_of(error)) or (not first and not isinstance(error, RefusedError))


def _set_aside(asked: Call) -> None:
    """Remove a failed candidate's facts from the span; what its invalid answers used is kept to be paid."""
    facts = asked.span.facts
    if (usage := facts.pop("usage_before_repair", None)) is not None:
        asked.span.note(paid_before=(*facts.get("paid_before", ()), (asked.target, usage)))
    for name in _OF_ANSWER:
        facts.pop(name, None)


def _shown(call: Call, failures: list[WorkbenchError]) -> WorkbenchError:
    """Return the failure to raise: the first that a later call may not meet, else the first.

    The others are notes, not parts of its message: the message is stored in runs, which replay.
    """
    passing = (UnavailableError, ReplayMissError)
    shown = next((error for error in failures if isinstance(error, passing)), failures[0])
    models = [call.target, *(item.target for item in call.fallbacks if item.answer is None)]
    for name, error in zip(models, failures, strict=False):
        if error is not shown:
            shown.add_note(f"{name}: {type(error).__name__}: {error.message}")
    return shown


def _fits(call: Call, text: str) -> bool:
    """Return whether a stated answer has the form that the request demands: any text, or JSON."""
    if wire.dialect(call.operation).output_format(call.payload)[0] not in {"json_schema", "json_object"}:
        return True
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _stated_events(call: Call, text: str, reason: str) -> list[Event]:
    """Return a stated answer in the wire format, marked by its model and by the field `workbench`."""
    speaks = wire.dialect(call.operation)
    answer = {
        "id": f"stated-{call.span.facts.get('trace_id', '')}",
        **speaks.stated(STATED, text, int(call.context.clock.now().timestamp())),
        "workbench": {"fallback": STATED, "fallback_reason": reason},
    }
    if not call.payload.get("stream"):
        return [Event(data=answer)]
    usage = bool((call.payload.get("stream_options") or {}).get("include_usage"))
    return [Event(data=chunk) for chunk in speaks.unfold(answer, usage=usage)]


async def _snapshot(call: Call, proceed: Handler) -> AsyncGenerator[Event, None]:
    """Yield the store's answer or the snapshot's; raise the store's error if no snapshot may be used."""
    answering = False
    try:
        async for event in proceed(call):
            answering = True
            yield event
    except UnavailableError as error:  # refusals and corrupt data pass through
        if answering or not error.retryable:
            raise
        failure = error
    else:
        return
    fallback = dataclasses.replace(call, identity={**call.identity, "degraded": True})
    try:
        async for event in proceed(fallback):
            call.span.note(degraded=True)
            yield Event(data=[dataclasses.replace(hit, degraded=True) for hit in event.data])
    except WorkbenchError as error:
        raise UnavailableError(
            f"{failure.message}; the last snapshot cannot answer either: {error.message}",
            hint=failure.hint,
        ) from error
