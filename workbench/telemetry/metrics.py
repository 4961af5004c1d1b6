"""The measurements of a call and of an invocation, as values for the metrics of `names`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from workbench.telemetry.spans import SpanValue
from workbench.types import JSON

#: Metric, value and attributes.
Measurement = tuple[str, float, dict[str, Any]]
#: Attributes of a span that its measurements have too: those with few values.
_FEW: Final = (
    "gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "server.address", "server.port",
    "error.type", "workbench.use_case", "workbench.source",
)  # fmt: skip
_BREAKER: Final = "CircuitOpenError"
_REFUSED: Final = frozenset({"BudgetExceededError", "LimitExceededError", "OverloadedError", "RefusedError"})


def measurements(record: JSON, span: SpanValue) -> Iterator[Measurement]:
    """Yield the measurements of a finished call; only answers that were paid for have tokens and a cost."""
    shared = {name: span.attributes[name] for name in _FEW if name in span.attributes}
    if "gen_ai.operation.name" not in shared:
        shared["workbench.operation"] = span.attributes["workbench.operation"]
    asked = record.get("source") in {None, "model"}  # not an answer of the tape, a cache or params.yaml
    paid = record["port"] == "model" and asked and not record.get("replayed")
    yield "gen_ai.client.operation.duration", float(record.get("duration_s") or 0), shared
    if paid and "gen_ai.operation.name" in shared:
        for side in ("input", "output"):
            if (count := record.get(f"{side}_tokens")) is not None:
                yield "gen_ai.client.token.usage", float(count), {**shared, "gen_ai.token.type": side}
    if paid and record.get("streamed") and record.get("first_event_s") is not None:
        yield "gen_ai.client.operation.time_to_first_chunk", float(record["first_event_s"]), shared
    if paid and record.get("cost_usd"):
        yield "workbench.cost", float(record["cost_usd"]), shared
    if record.get("saved_usd"):
        yield "workbench.cost.saved", float(record["saved_usd"]), shared
    yield from _governed(record, shared)


def invocation_measurements(span: SpanValue) -> Iterator[Measurement]:
    """Yield the duration of an invocation of a task."""
    kept = ("gen_ai.operation.name", "gen_ai.workflow.name", "workbench.use_case", "error.type")
    shared = {name: span.attributes[name] for name in kept if name in span.attributes}
    yield "gen_ai.workflow.duration", (span.end_ns - span.start_ns) / 1e9, shared


def _governed(record: JSON, shared: Mapping[str, Any]) -> Iterator[Measurement]:
    """Yield what the controls did: refusals, rejections of a breaker, fallbacks and retries."""
    attributes, attempts = dict(shared), record.get("attempts") or ()
    if record.get("error") in _REFUSED:
        yield "workbench.refusals", 1, attributes
    if record.get("would_refuse"):
        yield "workbench.budget.would_refuse", 1, attributes
    open_breakers = sum(attempt.get("error") == _BREAKER for attempt in attempts)
    if open_breakers or record.get("error") == _BREAKER:
        yield "workbench.breaker.rejections", max(1, open_breakers), attributes
    if record.get("fallback") or record.get("degraded"):
        yield "workbench.fallbacks", 1, attributes
    if len(attempts) > 1:
        yield "workbench.retries", len(attempts) - 1, attributes
