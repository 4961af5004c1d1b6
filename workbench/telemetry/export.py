"""Export each finished call as spans and measurements, in the trace of its invocation or of the caller."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from workbench.context import InvocationScope, current_invocation, new_id
from workbench.ports import Call, Handler
from workbench.telemetry import names
from workbench.telemetry.answers import AnswerFacts
from workbench.telemetry.metrics import Measurement, invocation_measurements, measurements
from workbench.telemetry.sending import Sending
from workbench.telemetry.settings import Signal
from workbench.telemetry.spans import SpanValue, call_span, invocation_span
from workbench.types import JSON, Event

_IDS: Final = RandomIdGenerator()
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Crossing:
    """What is known of a call from its start: the parent of its span, and its answer so far."""

    parent: SpanContext | None = None
    answer: AnswerFacts = field(default_factory=AnswerFacts)


class Exporter:
    """Receives the record of each finished call. It never waits, and its errors never reach a call.

    The spans are made after the fact, with the record's times, because a stream may end in another task than
    it began in.
    """

    def __init__(self, home: Path, signals: Iterable[Signal], *, key: str = "") -> None:
        self._key = key
        # Holds the sampler and the resource that the environment states; it makes no span.
        self._settings = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        self._sending = Sending(
            home, self._settings.resource, traces="traces" in signals, metrics="metrics" in signals
        )
        self._scope = InstrumentationScope("workbench", version("workbench"))
        self._instruments = self._made_instruments()
        self._crossings: dict[int, _Crossing] = {}
        self._invocations: dict[int, SpanContext] = {}
        self._lock = threading.Lock()

    def __call__(self, record: JSON, call: Call) -> None:
        """Export a finished call; Observe calls this with the record that it has written."""
        try:
            self._export(record, call)
        except Exception:  # noqa: BLE001  telemetry fails no call
            _log.exception("a call was not exported")

    def watched(
        self, handler: Handler, *, content: bool, clean: Callable[[Any], Any] | None = None
    ) -> Handler:
        """Return the handler of all controls, with each call's parent and answer noted for its span.

        `clean` masks what the content of spans may not hold.
        """

        async def handle(call: Call) -> AsyncIterator[Event]:
            crossing = _Crossing(parent=self._parent(), answer=AnswerFacts(content=content, clean=clean))
            self._crossings[id(call.span)] = crossing
            try:
                async with aclosing(handler(call)) as events:  # type: ignore[type-var]
                    async for event in events:
                        crossing.answer.take(event)
                        yield event
            finally:
                self._crossings.pop(id(call.span), None)

        return handle

    def flush(self) -> bool:
        """Send what is waiting; return False when the receiver took too long."""
        return self._sending.flush()

    def close(self) -> None:
        """Send what is waiting within two seconds, and stop; the exit of the process calls this."""
        self._sending.close()

    def _export(self, record: JSON, call: Call) -> None:
        crossing = self._crossings.get(id(call.span)) or _Crossing()
        value = call_span(record, call, crossing.answer, key=self._key)
        self._measure(measurements(record, value))
        parent = crossing.parent
        trace_id = parent.trace_id if parent else int(str(record["trace_id"]), 16)
        if self._is_sampled(trace_id, parent, value.name):
            self._put(value, _context(trace_id), parent)

    def _parent(self) -> SpanContext | None:
        """Return the parent of a call that begins now: its invocation, or the caller's own span."""
        caller: SpanContext | None = trace.get_current_span().get_span_context()
        caller = caller if caller and caller.is_valid else None
        scope = current_invocation()
        return caller if scope is None else self._invocation(scope, caller)

    def _invocation(self, scope: InvocationScope, caller: SpanContext | None) -> SpanContext:
        """Return the context of an invocation's span, which is exported when the invocation ends."""
        with self._lock:
            known = self._invocations.get(id(scope))
            if known is not None:
                return known
            trace_id = caller.trace_id if caller else _trace_id(scope.parent)
            sampled = self._is_sampled(trace_id, caller, scope.task)
            made = _context(trace_id, _SAMPLED if sampled else TraceFlags(TraceFlags.DEFAULT))
            self._invocations[id(scope)] = made
        scope.ending.append(partial(self._ended, context=made, caller=caller))
        return made

    def _ended(self, scope: InvocationScope, *, context: SpanContext, caller: SpanContext | None) -> None:
        try:
            self._invocations.pop(id(scope), None)
            value = invocation_span(scope, end_ns=time.time_ns())
            self._measure(invocation_measurements(value))
            if context.trace_flags.sampled:
                self._put(value, context, caller)
        except Exception:  # noqa: BLE001  as above
            _log.exception("an invocation was not exported")

    def _is_sampled(self, trace_id: int, parent: SpanContext | None, name: str) -> bool:
        """Return the decision of the sampler that `OTEL_TRACES_SAMPLER` names, by default the parent's."""
        around = trace.set_span_in_context(NonRecordingSpan(parent)) if parent else None
        decided = self._settings.sampler.should_sample(around, trace_id, name).decision
        return decided is Decision.RECORD_AND_SAMPLE

    def _put(self, value: SpanValue, context: SpanContext, parent: SpanContext | None) -> None:
        if self._sending.spans is None:
            return
        span = ReadableSpan(
            value.name,
            context,
            parent=parent,
            resource=self._settings.resource,
            attributes=dict(value.attributes),
            kind=SpanKind.CLIENT if value.client else SpanKind.INTERNAL,
            status=Status(StatusCode.ERROR, value.error) if value.error else Status(),
            start_time=value.start_ns,
            end_time=value.end_ns,
            instrumentation_scope=self._scope,
        )
        self._sending.spans.put(span)
        for child in value.children:
            self._put(child, _context(context.trace_id), context)

    def _made_instruments(self) -> dict[str, Any]:
        """Return the method that records a value of each metric, by the metric's name."""
        meter = self._sending.meter()
        made: dict[str, Any] = {}
        for name, metric in names.METRICS.items() if meter else ():
            assert meter is not None  # noqa: S101
            if metric.kind == "counter":
                made[name] = meter.create_counter(name, metric.unit, metric.description).add
            else:
                made[name] = meter.create_histogram(
                    name, metric.unit, metric.description, explicit_bucket_boundaries_advisory=metric.buckets
                ).record
        return made

    def _measure(self, measured: Iterable[Measurement]) -> None:
        if self._instruments:
            for name, value, attributes in measured:
                self._instruments[name](value, attributes)


def _context(trace_id: int, flags: TraceFlags = _SAMPLED) -> SpanContext:
    """Return the context of a new span of a trace."""
    return SpanContext(trace_id, _IDS.generate_span_id(), is_remote=False, trace_flags=flags)


def _resource() -> Resource:
    """Return the resource that the environment states; without a name the service is `workbench`."""
    stated = Resource.create()
    if str(stated.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        return stated.merge(Resource({SERVICE_NAME: "workbench"}))
    return stated


def _trace_id(text: str | None) -> int:
    """Return an invocation's trace id; an id in another form has none of its own."""
    try:
        return int(text or "", 16) or int(new_id(), 16)
    except ValueError:
        return int(new_id(), 16)
