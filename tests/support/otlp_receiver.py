"""An OTLP receiver on the loopback: an HTTP server that decodes the protobuf of spans and metrics."""

from __future__ import annotations

import contextlib
import gzip
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass
class Received:
    """One span as a back end sees it."""

    name: str
    trace_id: str
    span_id: str
    parent: str
    kind: int
    status: int
    start_ns: int
    end_ns: int
    attributes: dict
    resource: dict


@dataclass
class Receiver:
    """What arrived; `status` answers with so many bytes, and each request is held for `holds_s` seconds."""

    url: str = ""
    status: int = 200
    holds_s: float = 0.0
    answer_bytes: int = 0
    written: int = 0
    spans: list[Received] = field(default_factory=list)
    metrics: dict[str, list] = field(default_factory=dict)
    headers: list[dict] = field(default_factory=list)
    requests: int = 0

    def take(self, path: str, body: bytes) -> None:
        if path == "/v1/traces":
            for group in ExportTraceServiceRequest.FromString(body).resource_spans:
                resource = attributes(group.resource.attributes)
                for scope in group.scope_spans:
                    self.spans += [_span(span, resource) for span in scope.spans]
        elif path == "/v1/metrics":
            for group in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                for scope in group.scope_metrics:
                    for metric in scope.metrics:
                        points = getattr(metric, metric.WhichOneof("data")).data_points
                        self.metrics[metric.name] = list(points)

    def named(self, name: str) -> Received:
        (found,) = [span for span in self.spans if span.name == name]
        return found

    def wait(self, spans: int, within_s: float = 10) -> None:
        end = time.monotonic() + within_s
        while len(self.spans) < spans:
            assert time.monotonic() < end, f"{len(self.spans)} of {spans} spans arrived"
            time.sleep(0.01)


def attributes(pairs) -> dict:
    """Return OTLP's key-value pairs as a dictionary."""
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value):
    kind = value.WhichOneof("value")
    found = getattr(value, kind)
    return [_value(item) for item in found.values] if kind == "array_value" else found


def _span(span, resource: dict) -> Received:
    return Received(
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        kind=span.kind,
        status=span.status.code,
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        attributes=attributes(span.attributes),
        resource=resource,
    )


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    """Run a receiver until the block ends."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.requests += 1
            time.sleep(receiver.holds_s)
            if receiver.status == 200:
                packed = self.headers.get("Content-Encoding") == "gzip"
                receiver.headers.append(dict(self.headers))
                receiver.take(self.path, gzip.decompress(body) if packed else body)
            with contextlib.suppress(ConnectionError):
                self.send_response(receiver.status)
                self.send_header("Content-Length", str(receiver.answer_bytes))
                self.end_headers()
                for _ in range(receiver.answer_bytes >> 20):
                    receiver.written += self.wfile.write(bytes(1 << 20))

        def log_message(self, *_) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
