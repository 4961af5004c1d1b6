"""Send spans and metrics over OTLP on threads of the SDK; count the spans that are sent and lost."""

from __future__ import annotations

import atexit
import contextlib
import datetime as dt
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import orjson
import requests
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import Meter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult

from workbench.errors import WorkbenchError
from workbench.layout import TELEMETRY
from workbench.records import egress
from workbench.records.log import Lines
from workbench.telemetry.settings import endpoint

#: Most seconds that an exit, or the end of a job, waits for what is not sent yet.
PATIENCE_S: Final = 2.0
#: Least seconds between two reports of lost spans while the process goes on.
_BETWEEN_REPORTS_S: Final = 60.0
#: Most bytes of a receiver's answer that are read, to keep its connection; the status alone counts.
_MOST_ANSWER: Final = 2**16
#: The status that stands for a redirect.
_REFUSED: Final = 400
#: The end of the names of variables that name a session of one's own.
_OWN_SESSION: Final = "_CREDENTIAL_PROVIDER"
# Without a handler, the SDK's warnings of a dead receiver would be printed into notebooks.
logging.getLogger("opentelemetry").addHandler(logging.NullHandler())


def _session() -> requests.Session | None:
    """Return the session of a receiver whose answers are not trusted; None when the environment names one."""
    if any(name.endswith(_OWN_SESSION) for name in os.environ):
        return None
    session = requests.Session()
    session.stream = True
    session.hooks["response"].append(_checked)
    return session


def _checked(response: requests.Response, *_: Any, **__: Any) -> None:
    """Make a failure of a redirect, which the SDK takes for success; do not read a long answer.

    Nothing is sent to where a redirect points: that may be anywhere, and the headers may hold a key.
    """
    if 300 <= response.status_code < 400:
        response.reason, response.status_code = f"redirected ({response.status_code})", _REFUSED
    if 0 <= _length(response) <= _MOST_ANSWER:
        response.content  # noqa: B018  read, so that the connection can be used again
    else:
        response.close()


def _length(response: requests.Response) -> int:
    try:
        return int(response.headers.get("Content-Length", "-1"))
    except ValueError:
        return -1


class _SpanSender(OTLPSpanExporter):
    """Sends batches of spans, and tells `sent` how many the receiver took or lost."""

    sent: Callable[[int, bool], None]

    def __init__(self) -> None:
        super().__init__(session=_session())

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with egress.crossing():
            result = super().export(spans)
        self.sent(len(spans), result is SpanExportResult.SUCCESS)
        return result


class _MetricSender(OTLPMetricExporter):
    def __init__(self) -> None:
        super().__init__(session=_session())

    def export(
        self, metrics_data: MetricsData, timeout_millis: float | None = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        with egress.crossing():
            return super().export(metrics_data, timeout_millis, **kwargs)


class SpanQueue:
    """The spans of this process that wait for the SDK's thread, and the counts of sent and lost ones.

    A full queue drops its oldest spans. Reports are lines of `TELEMETRY` below `home`, which
    `workbench doctor` reads.
    """

    def __init__(self, home: Path) -> None:
        self._reports = Lines(home / TELEMETRY)
        sender = _SpanSender()
        sender.sent = self._sent
        self._processor = BatchSpanProcessor(sender)
        self._reset()
        if hasattr(os, "register_at_fork"):
            reset = weakref.WeakMethod(self._reset)
            os.register_at_fork(after_in_child=lambda: (again := reset()) and again())

    def _reset(self) -> None:
        """Begin to count: a forked process has an empty queue of its own."""
        self._lock = threading.Lock()
        self._handed = self._taken = self._failed = 0
        self._reported = (0, 0)
        self._next_report = 0.0

    def put(self, span: ReadableSpan) -> None:
        """Hand a finished span to the SDK's thread; this never waits."""
        with self._lock:
            self._handed += 1
        self._processor.on_end(span)

    def _sent(self, count: int, taken: bool) -> None:  # noqa: FBT001  called by the sender alone
        with self._lock:
            if taken:
                self._taken += count
                return
            self._failed += count
        if time.monotonic() >= self._next_report:
            self._next_report = time.monotonic() + _BETWEEN_REPORTS_S
            self.report(lost=self._failed)

    def drain(self) -> None:
        """Send what is waiting, and report; this blocks as long as the receiver does."""
        handed = self._handed
        self._processor.force_flush()
        self.report(lost=handed - self._taken)

    def close(self, patience_s: float) -> None:
        """Send what is waiting within `patience_s`, count the rest as lost, and report."""
        # The processor's own method waits for 30 seconds.
        self._processor._batch_processor.shutdown(timeout_millis=round(patience_s * 1_000))  # noqa: SLF001
        self.report(lost=self._handed - self._taken)

    def report(self, *, lost: int) -> None:
        """Append the spans sent and lost since the last report, if there are any."""
        with self._lock:
            sent, before = self._taken, self._reported
            lost = max(lost, before[1])
            self._reported = (sent, lost)
        if (sent, lost) == before:
            return
        line = {
            "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "pid": os.getpid(),
            "endpoint": endpoint("traces"),
            "sent": sent - before[0],
            "lost": lost - before[1],
        }
        with contextlib.suppress(WorkbenchError, OSError):
            self._reports.append(orjson.dumps(line))


class Sending:
    """Everything that this process sends: its queue of spans, its metrics, and their end at exit."""

    def __init__(self, home: Path, resource: Resource, *, traces: bool, metrics: bool) -> None:
        self.spans = SpanQueue(home) if traces else None
        self._provider: MeterProvider | None = None
        if metrics:
            reader = PeriodicExportingMetricReader(_MetricSender())
            self._provider = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
        self._draining: threading.Thread | None = None
        self._closed = False
        atexit.register(self.close)

    def meter(self) -> Meter | None:
        """Return the meter of the workbench; None when metrics are not exported."""
        return self._provider.get_meter("workbench") if self._provider else None

    def flush(self, patience_s: float = PATIENCE_S) -> bool:
        """Send what is waiting; return whether that ended within `patience_s`."""
        if self._closed:
            return True
        draining = self._draining
        if draining is None or not draining.is_alive():
            draining = threading.Thread(target=self._drain, name="workbench-telemetry", daemon=True)
            self._draining = draining
            draining.start()
        draining.join(patience_s)
        return not draining.is_alive()

    def _drain(self) -> None:
        if self.spans:
            self.spans.drain()
        if self._provider:
            self._provider.force_flush()

    def close(self) -> None:
        """Send what is waiting within `PATIENCE_S` and stop; at exit no thread can be started."""
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        left = _countdown(PATIENCE_S)
        if self.spans:
            self.spans.close(next(left))
        if self._provider:
            with contextlib.suppress(Exception):  # the SDK raises what its reader could not finish in time
                self._provider.shutdown(timeout_millis=next(left) * 1_000)


def _countdown(seconds: float) -> Iterator[float]:
    """Yield the seconds that are left, at least a tenth."""
    end = time.monotonic() + seconds
    while True:
        yield max(0.1, end - time.monotonic())
