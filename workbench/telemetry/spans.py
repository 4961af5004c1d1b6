"""The spans of a call and of an invocation, as values made from finished records."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from workbench.context import InvocationScope
from workbench.ports import Call
from workbench.telemetry import names
from workbench.telemetry.answers import AnswerFacts
from workbench.types import JSON

#: Outcomes that are not errors: the reader left or cancelled the call.
_LEFT: Final = frozenset({"ok", "abandoned", "cancelled"})
_PORTS: Final = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanValue:
    """One span without ids: times are nanoseconds since 1970, `error` is the type of its error or None."""

    name: str
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Any]
    client: bool = False
    error: str | None = None
    children: tuple[SpanValue, ...] = field(default=())


def call_span(record: JSON, call: Call, answer: AnswerFacts, *, key: str = "") -> SpanValue:
    """Return the span of a finished call; its attempts are children when it took more than one.

    `key` is that of the tenant's pseudonym.
    """
    start = _nanoseconds(str(record["at"]))
    attributes = {
        **_model(call),
        **_facts(record),
        **answer.attributes(call),
        "workbench.tenant": names.pseudonym(str(record["tenant"]), key=key),
    }
    if operation := names.OPERATIONS.get(call.name):
        attributes["gen_ai.operation.name"] = operation
    subject = attributes.get("gen_ai.request.model") or call.target
    attempts: Sequence[JSON] = record.get("attempts") or ()
    attributes["workbench.attempts"] = len(attempts)
    return SpanValue(
        name=f"{operation or call.name} {subject}",
        start_ns=start,
        end_ns=start + _in_ns(record.get("duration_s")),
        attributes=attributes | names.openinference(attributes),
        client="server.address" in attributes and not record.get("replayed"),
        error=_error(record),
        children=tuple(_attempts(start, attempts)) if len(attempts) > 1 else (),
    )


def invocation_span(scope: InvocationScope, *, end_ns: int) -> SpanValue:
    """Return the span of one invocation of a task, which is the parent of its calls."""
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": "invoke_workflow",
        "gen_ai.workflow.name": scope.task,
        "workbench.repeat": scope.repeat,
        "workbench.calls": len(scope.records),
    }
    first: JSON = scope.records[0] if scope.records else {}
    for column in ("use_case", "purpose", "job", "run", "session"):
        if first.get(column):
            attributes[names.RECORD[column]] = first[column]
    if scope.error:
        attributes["error.type"] = scope.error
    return SpanValue(
        name=f"invoke_workflow {scope.task}".strip(),
        start_ns=scope.began_ns,
        end_ns=max(end_ns, scope.began_ns),
        attributes=attributes | names.openinference(attributes),
        error=scope.error,
    )


def _facts(record: JSON) -> dict[str, Any]:
    """Return the attributes of the record's columns; an empty value has none."""
    found = {name: record.get(column) for column, name in names.RECORD.items()}
    found |= {name: True for column, name in names.FLAGS.items() if record.get(column)}
    found["workbench.operation"] = f"{record['port']}.{record['operation']}"
    if record.get("streamed"):
        found["gen_ai.request.stream"] = True
        found["gen_ai.response.time_to_first_chunk"] = record.get("first_event_s")
    if record["port"] == "memory":
        found["gen_ai.data_source.id"] = record["target"]
        if record["operation"] == "search":
            found["workbench.hits"] = len(record.get("hits") or ())
    # A budget may be named after a tenant or a person, so that only their number is told.
    found["workbench.budget.would_refuse"] = len(record.get("would_refuse") or ()) or None
    labels = record.get("labels")
    prompt, _, version = str((labels or {}).get("prompt") or "").partition("@")
    found |= {"gen_ai.prompt.name": prompt, "gen_ai.prompt.version": version}
    return {name: _plain(value) for name, value in found.items() if value not in (None, "", [])}


def _plain(value: Any) -> Any:
    """Return a value that an attribute may have: a text, a number, a truth value or a list of texts."""
    if isinstance(value, list | tuple):
        return [str(item) for item in value]
    return value if isinstance(value, str | int | float) else str(value)


def _model(call: Call) -> dict[str, Any]:
    """Return provider, endpoint, model and parameters of a call to a model."""
    if call.port != "model":
        return {}
    provider = str(call.identity.get("provider") or "openai")
    found: dict[str, Any] = {"gen_ai.provider.name": names.PROVIDERS.get(provider, provider)}
    if call.payload.get("model"):
        found["gen_ai.request.model"] = str(call.payload["model"])
    if url := call.identity.get("base_url"):
        parts = urlsplit(str(url))
        found |= {
            "server.address": parts.hostname or "",
            "server.port": parts.port or _PORTS.get(parts.scheme, 0),
        }
    for parameter, name in names.PARAMETERS.items():
        value = call.payload.get(parameter)
        if isinstance(value, int | float) and not isinstance(value, bool):
            found[name] = value
    if isinstance(count := call.payload.get("n"), int) and count != 1:
        found["gen_ai.request.choice.count"] = count
    if call.payload.get("response_format"):
        found["gen_ai.output.type"] = "json"
    return found


def _attempts(start: int, attempts: Iterable[JSON]) -> Iterator[SpanValue]:
    """Yield the spans of attempts. They have no tokens: a back end would add them to those of the call.

    The times of a candidate's attempts count from its own first; none begins before the one before it ended.
    """
    ended = start
    for attempt in attempts:
        begin = max(ended, start + _in_ns(attempt.get("started_s")))
        ended = begin + _in_ns(attempt.get("duration_s"))
        found = {
            name: attempt[fact] for fact, name in names.ATTEMPT.items() if attempt.get(fact) not in (None, "")
        }
        yield SpanValue(
            name=f"attempt {attempt.get('n', 1)}",
            start_ns=begin,
            end_ns=ended,
            attributes=found | names.openinference(found),
            error=_error(attempt),
        )


def _error(record: JSON) -> str | None:
    if record.get("outcome") in _LEFT:
        return None
    return str(record.get("error") or record.get("outcome") or "unknown")


def _nanoseconds(instant: str) -> int:
    since = dt.datetime.fromisoformat(instant) - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    return (since // dt.timedelta(microseconds=1)) * 1_000


def _in_ns(seconds: Any) -> int:
    return max(0, round(seconds * 1e9)) if isinstance(seconds, int | float) else 0
