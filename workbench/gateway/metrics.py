"""The metrics of the gateway for Prometheus: requests, times and connections, without identifiers."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

#: The folder in which the workers of one gateway share their counts, as prometheus_client reads it.
SHARED: Final = "PROMETHEUS_MULTIPROC_DIR"
KIND: Final = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


def forget_worker(pid: int, folder: str) -> None:
    """Leave what is under way in a worker that ended out of the metrics that workers share in a folder."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(pid, folder)  # type: ignore[no-untyped-call]


class GatewayMetrics:
    """The counts of one worker. `connections` returns the number of open ones."""

    def __init__(self, connections: Callable[[], int] | None = None) -> None:
        self._registry = CollectorRegistry()
        registry = None if os.environ.get(SHARED) else self._registry
        named: dict[str, Any] = {"registry": registry}
        self._requests = Counter(
            "workbench_gateway_requests", "Requests that were answered, refused or left.",
            ("route", "method", "status"), **named,
        )  # fmt: skip
        self._seconds = Histogram(
            "workbench_gateway_request_seconds", "Seconds from a request to the end of its answer.",
            ("route",), buckets=_SECONDS, **named,
        )  # fmt: skip
        self._left = Counter(
            "workbench_gateway_clients_left", "Requests whose client closed the connection before the end.",
            ("route",), **named,
        )  # fmt: skip
        self._active = Gauge(
            "workbench_gateway_active_requests", "Requests under way.", multiprocess_mode="livesum", **named
        )
        self._connections = Gauge(
            "workbench_gateway_connections", "Open connections.", multiprocess_mode="livesum", **named
        )
        self._count_connections = connections
        self._children: dict[tuple[str, str, int], tuple[Any, Any]] = {}

    def begin(self) -> None:
        """Count a request that began."""
        self._active.inc()

    def end(self, *, route: str, method: str, status: int, seconds: float, left: bool) -> None:
        """Count a request that ended; `route` is the template of its path."""
        self._active.dec()
        kind = (route, method, status)
        if (found := self._children.get(kind)) is None:  # few: neither names a tenant or a path
            children = self._requests.labels(route, method, str(status)), self._seconds.labels(route)
            found = self._children[kind] = children
        found[0].inc()
        found[1].observe(seconds)
        if left:
            self._left.labels(route).inc()

    def text(self) -> bytes:
        """Return the metrics of this worker, or of all workers that share a folder."""
        if self._count_connections is not None:
            self._connections.set(self._count_connections())
        if not os.environ.get(SHARED):
            return generate_latest(self._registry)
        from prometheus_client.multiprocess import MultiProcessCollector

        shared = CollectorRegistry()
        MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
        return generate_latest(shared)
