"""Call log: writes one record per call, whether answered, refused, failed, cancelled or abandoned."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import functools
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final, Protocol

import orjson

from workbench import wire
from workbench._sync import ABANDONED
from workbench.context import current_invocation, new_id
from workbench.controls.position import OPERATIONS, READS, Position
from workbench.errors import InvalidOutputError, RefusedError, WorkbenchError
from workbench.ports import Call, Handler
from workbench.records.in_flight import SLOT_BYTES, CallsInFlight, CallSlot
from workbench.types import Event, Hit, Usage
from workbench.wire.contents import with_contents
from workbench.wire.redaction import clean_error

#: Outermost, so that refusals by other controls, degraded answers and crashes are recorded too.
POSITION: Final = Position(name="observe", operations=OPERATIONS, before=("fallback",))
_OPTIONS = orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_NON_STR_KEYS
#: Its keys are sorted when it becomes a record.
_IN_FLIGHT = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_NON_STR_KEYS
#: What the record of an interrupted call leaves out when it is too long for its slot.
_TOO_LONG: Final[Mapping[str, Any]] = {
    "checks": [], "decision": None, "findings": [], "hits": [], "labels": {}, "policy_request": None,
    "would_refuse": [],
}  # fmt: skip
Price = Callable[[str, Usage], float | None]
Export = Callable[[Mapping[str, Any], Call], None]


class Log(Protocol):
    """An append-only log of lines."""

    def open(self) -> object:
        """Open the log, or raise UnavailableError."""

    def append(self, line: bytes) -> int:
        """Append a line, passed without its newline."""


class Audit(Protocol):
    """The audit log, which has a row for each record."""

    def open(self) -> None:
        """Open the log, or raise UnavailableError."""

    def __call__(self, record: Mapping[str, Any], subject: str = "") -> int:
        """Append the row of a record; `subject` is the person whom the call is about."""

    def subject_uid(self, tenant: str, subject: str) -> str:
        """Return the digest by which the rows of a tenant name a person."""


class Content(Protocol):
    """The store of sealed content, which holds the requests and answers of calls."""

    def applies(self, call: Call) -> bool:
        """Return whether the events of a call are needed."""

    def __call__(self, call: Call, events: Sequence[Event]) -> str | None:
        """Keep a call as it was asked and answered, and return its id; None when it is not kept."""


class _Seen:
    """The facts of a reply that a record may hold: counts and names, no content."""

    def __init__(self, call: Call, began: float) -> None:
        self.speaks = wire.DIALECTS.get(call.operation) if call.port == "model" else None
        self.span = call.span
        self.began = began
        self.events = 0
        self.first_event_s: float | None = None
        self.usage = Usage()
        self.hits: list[Hit] = []
        self.around = current_invocation()
        self.kept: list[Event] | None = None
        self.slot: CallSlot | None = None
        self.who = _who(call)

    def take(self, event: Event, now: float) -> None:
        if not self.events:
            self.first_event_s = round(now - self.began, 6)
        self.events += 1
        if self.kept is not None:
            self.kept.append(event)
        if self.speaks is not None:
            self.usage = self.span.usage_in(event, self.speaks) or self.usage
        elif isinstance(event.data, list | tuple):
            self.hits += [hit for hit in event.data if isinstance(hit, Hit)]


class Observe:
    """Appends one record to the log when the call's stream closes.

    A record holds principal, operation, target, times, token counts and cost, and never the text of a
    question or an answer. A call fails if its record cannot be written, and fails before it reaches the
    target if the log cannot be opened. `price` returns the cost in USD of a target's tokens, or None,
    and `price_source` where the price comes from. `audit` receives each record after it is written, and a
    call whose row cannot be written fails too. `content` keeps what was asked and answered before that.
    `export` receives each record after it is written, with its call; an error of it fails no call.
    A log may have `in_flight`, which holds each call from before its target is asked until its record is
    written, so that a kill of this process leaves a record with the outcome `interrupted`; not those that
    only read a memory.
    `clean` masks what a text of a record or of an error may not hold.
    """

    def __init__(
        self,
        log: Log,
        *,
        price: Price | None = None,
        price_source: Callable[[str], str] | None = None,
        audit: Audit | None = None,
        content: Content | None = None,
        export: Export | None = None,
        clean: Callable[[str], str] = str,
    ) -> None:
        self._log = log
        self._audit = audit
        self._content = content
        self._price = price
        self._price_source = price_source
        self._export = export
        self._clean = clean
        self._in_flight: CallsInFlight | None = getattr(log, "in_flight", None)

    async def __call__(self, call: Call, proceed: Handler) -> AsyncGenerator[Event, None]:
        """Pass the call on and record its outcome."""
        self._log.open()
        if self._audit is not None:
            self._audit.open()
        clock = call.context.clock
        at, seen = clock.now(), _Seen(call, clock.monotonic())
        if self._content is not None and self._content.applies(call):
            seen.kept = []
        call.span.note(trace_id=new_id())
        if self._in_flight is not None and _may_take_effect(call):
            call.span.before_asking = functools.partial(self._hold, self._in_flight, call, at, seen)
        ended: BaseException | None = None
        try:
            # Closed before the record is written, so that the inner controls have added their facts.
            async with aclosing(proceed(call)) as events:  # type: ignore[type-var]
                async for event in events:
                    seen.take(event, clock.monotonic())
                    yield event
        except BaseException as error:
            ended = error
            if isinstance(error, WorkbenchError):
                clean_error(error, self._clean)
            raise
        finally:
            self._write(call, at, seen, ended)

    def _write(self, call: Call, at: dt.datetime, seen: _Seen, ended: BaseException | None) -> None:
        """Seal what was asked and answered, write the record and its audit row, and export the record."""
        unsealed = self._seal(call, seen)
        around = seen.around
        record = {
            **_begun(call, at, seen),
            "duration_s": round(call.context.clock.monotonic() - seen.began, 6),
            **self._tokens(call, seen),  # it notes what was saved, which `_how` records
            **_how(call, seen, ended or unsealed),
        }
        if around is not None:
            around.records.append(record)
        record = self._protected(record)
        self._log.append(orjson.dumps(record, default=_name_only, option=_OPTIONS))
        if self._audit is not None:
            self._audit(record, _subject(call))
        if seen.slot is not None:
            seen.slot.clear()
        if self._export is not None:
            with contextlib.suppress(Exception):
                self._export(record, call)
        if unsealed is not None:
            raise unsealed

    def _hold(self, in_flight: CallsInFlight, call: Call, at: dt.datetime, seen: _Seen) -> None:
        """Write what is recorded of the call if this process is killed before its record is written."""
        if (noted := self._interrupted(call, at, seen)) is not None:
            seen.slot = seen.slot or in_flight.slot()
            seen.slot.write(noted)

    def _interrupted(self, call: Call, at: dt.datetime, seen: _Seen) -> bytes | None:
        """Return the record of the call as interrupted, with what it holds of budgets; None when too long."""
        attempts = _attempts_until_now(call)
        costs = [attempt.get("cost_usd") for attempt in attempts]
        tokens = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")
        record = self._protected(
            {
                **_begun(call, at, seen),
                "duration_s": None,
                **dict.fromkeys(tokens),
                "cost_usd": None if not costs or None in costs else sum(costs),
                **_how(call, seen, None),
                "outcome": "interrupted",
                "attempts": attempts,
            }
        )
        noted: dict[str, Any] = {"record": record}
        if (held := call.span.reservation) is not None:
            accounts = [[account.budget, dict(account.key)] for account in held.accounts]
            noted["reservation"] = {"id": held.id, "accounts": accounts, "amounts": [*held.amounts]}
        if self._audit is not None and (subject := _subject(call)):
            noted["subject_uid"] = self._audit.subject_uid(call.context.tenant, subject)
        for left_out in (None, _TOO_LONG):
            noted["record"] = {**record, **left_out} if left_out else record
            found = orjson.dumps(noted, default=_name_only, option=_IN_FLIGHT)
            if len(found) < SLOT_BYTES:
                return found
        return None

    def _seal(self, call: Call, seen: _Seen) -> WorkbenchError | None:
        """Keep the call's content if it is to be kept; return the error when it cannot be."""
        if seen.kept is not None and self._content is not None:
            try:
                call.span.note(content=self._content(call, seen.kept))
            except WorkbenchError as error:
                return error
        return None

    def _protected(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return a record with masks in the texts that callers and documents name; its others are ours."""
        clean, labels = self._clean, record["labels"]
        purpose = clean(record["purpose"])
        return {
            **record,
            "purpose": purpose,
            "policy_request": _with_purpose(record["policy_request"], record["purpose"], purpose),
            "hits": [
                {**hit, "id": clean(hit["id"]), "source": clean(hit["source"])} for hit in record["hits"]
            ],
            "labels": with_contents(labels, clean, free=True),
        }

    def _tokens(self, call: Call, seen: _Seen) -> dict[str, Any]:
        """Return token counts and cost of the answer, including an answer that was repaired."""
        before: Usage | None = call.span.facts.get("usage_before_repair")
        usage = seen.usage if before is None else before + seen.usage
        cost = self._cost(call, usage)
        for _, earlier in call.span.facts.get("paid_before", ()):  # of candidates that were set aside
            usage += earlier
        call.span.note(cost_usd=cost)
        if self._price_source is not None and call.port == "model":
            call.span.note(price_source=self._price_source(_answering(call)))
        return {
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "cached_tokens": usage.cached_tokens,
            "reasoning_tokens": usage.reasoning_tokens,
            "cost_usd": cost,
        }

    def _cost(self, call: Call, usage: Usage) -> float | None:
        """Return the cost that a control noted, else the sum of what attempts cost, else that of the tokens.

        Attempts that failed may have been paid for too, and so may those of other candidates.
        """
        facts, answers = call.span.facts, [*call.span.facts.get("paid_before", ())]
        if facts.get("source") != "exact":
            answers.insert(0, (_answering(call), usage))
        elif "saved_usd" not in facts:  # the cache of answers gave it
            call.span.note(saved_usd=self._priced(_answering(call), usage))
        if "cost_usd" in facts:
            noted: float | None = facts["cost_usd"]
            return noted
        paid = [attempt["cost_usd"] for attempt in call.span.attempts if "cost_usd" in attempt]
        if paid and (not facts.get("replayed") or facts.get("source") == "exact"):
            return None if None in paid else sum(paid)
        costs = [self._priced(*answer) for answer in answers]
        return None if None in costs else float(sum(costs))  # type: ignore[arg-type]

    def _priced(self, target: str, usage: Usage) -> float | None:
        known = self._price is not None and usage.input_tokens is not None
        return self._price(target, usage) if self._price and known else None


def _with_purpose(request: Any, stated: str, cleaned: str) -> Any:
    """Return a request to the policy, as text, with the purpose that the record holds."""
    if cleaned == stated or not isinstance(request, str):
        return request
    fields = orjson.loads(request)
    if "purpose" in fields.get("context", {}):
        fields["context"]["purpose"] = cleaned
    return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS).decode()


def _answering(call: Call) -> str:
    """Return the target that answered: the call's own, or the candidate that stood in for it."""
    return str(call.span.facts.get("fallback") or call.target)


def _who(call: Call) -> dict[str, Any]:
    context = call.context
    return {
        "use_case": context.use_case,
        "tenant": context.tenant,
        "principal": context.principal.name,
        "assurance": context.principal.assurance,
        "api_key": context.api_key,
        "purpose": context.purpose,
        "job": context.job,
        "run": context.run,
        "session": context.session,
        "port": call.port,
        "operation": call.operation,
        "target": call.target,
        "prompt": _text(call.labels.get("prompt")),
        "labels": dict(call.labels),
    }


def _begun(call: Call, at: dt.datetime, seen: _Seen) -> dict[str, Any]:
    """Return what is recorded of a call however it ends."""
    return {
        "trace_id": call.span.facts["trace_id"],
        "parent": seen.around.parent if seen.around else None,
        "at": at.astimezone(dt.UTC).isoformat(timespec="microseconds"),
        **seen.who,
    }


def _may_take_effect(call: Call) -> bool:
    """Return whether a target that is asked may be paid or write; not for a computation in this process."""
    return call.name not in READS and call.labels.get("recorded") is not False


def _attempts_until_now(call: Call) -> list[dict[str, Any]]:
    """Return the attempts of a call whose last one is under way: it may cost what it reserved."""
    attempts = [dict(attempt) for attempt in call.span.attempts]
    if attempts:
        attempts[-1].update(outcome="interrupted", cost_usd=attempts[-1].get("reserved_usd"))
    return attempts


def _subject(call: Call) -> str:
    """Return the person whom a call is about: whom a forget or a hold names, else the context's."""
    named = getattr(call.payload.get("what"), "subject", None)
    return named or call.context.subject


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _how(call: Call, seen: _Seen, ended: BaseException | None) -> dict[str, Any]:
    facts, streamed = call.span.facts, bool(call.payload.get("stream"))
    outcome = _outcome(ended)
    if outcome == "abandoned" and seen.events and not streamed:
        outcome = "ok"  # a plain reply is complete after its only event
    return {
        "model": _answering(call) if call.port == "model" else None,
        "outcome": outcome,
        "error": None if ended is None or outcome in {"ok", "abandoned"} else type(ended).__name__,
        "status": getattr(ended, "status", None),
        "first_event_s": seen.first_event_s,
        "streamed": streamed,
        "events": seen.events,
        "replayed": bool(facts.get("replayed")),
        "source": facts.get("source"),
        "recorded_latency_s": facts.get("recorded_latency_s"),
        "key": facts.get("key"),
        "repaired": bool(facts.get("repaired")),
        "degraded": bool(facts.get("degraded")),
        "fallback": facts.get("fallback") or None,
        "fallback_reason": facts.get("fallback_reason") or None,
        "saved_usd": facts.get("saved_usd"),
        "price_source": facts.get("price_source"),
        "would_refuse": list(facts.get("would_refuse") or ()),
        "hits": [
            {"id": hit.id, "source": hit.source, "tenant": hit.tenant, "score": hit.score}
            for hit in seen.hits
        ],
        "attempts": [dict(attempt) for attempt in call.span.attempts],
        **_governance(facts),
    }


def _governance(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what policy, privacy, moderation and the content store noted."""
    found: Mapping[str, int] = facts.get("findings") or {}
    return {
        "decision": facts.get("decision"),
        "policy_request": facts.get("policy_request"),
        "data_class": facts.get("data_class"),
        "findings": [{"kind": kind, "count": found[kind]} for kind in sorted(found)],
        "privacy": facts.get("privacy"),
        "checks": list(facts.get("checks") or ()),
        "content": facts.get("content"),
    }


def _outcome(ended: BaseException | None) -> str:
    match ended:
        case None:
            return "ok"
        case GeneratorExit():
            return "abandoned"
        case asyncio.CancelledError() | KeyboardInterrupt():
            return "abandoned" if ended.args == (ABANDONED,) else "cancelled"
        case RefusedError():
            return "refused"
        case InvalidOutputError():
            return "invalid"
        case _:
            return "failed"


def _name_only(value: object) -> str:
    """Return the type name of a label that is not JSON; its value may be content."""
    return type(value).__name__
