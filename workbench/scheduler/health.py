"""Say over HTTP how a server of jobs is: /health, /ready, /metrics for Prometheus, and /jobs as JSON."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ipaddress
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from uvicorn import Config, Server
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from workbench.errors import ConfigError, UnavailableError
from workbench.jobs.slots import iso
from workbench.scheduler.server import JobServer

#: Seconds without a look after which a server is not ready.
STALE_S: Final = 30.0
ADDRESS: Final = "127.0.0.1:8350"
#: Seconds of a connection, whose answers take milliseconds, and how many are open at once.
_CONNECTED_S: Final = 10.0
_MOST_CONNECTIONS: Final = 64
_TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
_LOCAL: Final = ["localhost", "127.0.0.1", "[::1]"]


def listen(address: str) -> socket.socket:
    """Return a socket that listens at HOST:PORT; ConfigError for another text, UnavailableError if taken."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ConfigError(f"--address {address!r} is not HOST:PORT", hint=f"--address {ADDRESS}")
    try:
        family, _, _, _, place = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise ConfigError(f"no machine is called {host!r}", hint=f"--address {ADDRESS}") from None
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(place)
        found.listen()
    except OSError as error:
        found.close()
        raise UnavailableError(
            f"this machine cannot listen on {address}: {error.strerror}",
            hint="workbench jobs serve --address 127.0.0.1:0   # takes a free port",
        ) from None
    return found


def address_of(listener: socket.socket) -> str:
    """Return the URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _BriefConnection(HttpToolsProtocol):
    """One connection, which is closed after some seconds, and before them when too many others came.

    Without this, clients that open connections and send nothing would let every probe fail.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, and close the oldest one when there are too many."""
        super().connection_made(transport)
        self.since = self.loop.time()
        self._end = self.loop.call_later(_CONNECTED_S, transport.abort)
        others = [item for item in self.connections if isinstance(item, _BriefConnection)]
        if len(others) > _MOST_CONNECTIONS:
            min(others, key=lambda item: item.since).transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the end that was set."""
        self._end.cancel()
        super().connection_lost(exc)


class HealthServer(Server):
    """Serves the health of a server of jobs; the signals of the process are not its own."""

    def __init__(self, server: JobServer, listener: socket.socket) -> None:
        super().__init__(
            Config(health_app(server, listener), access_log=False, log_config=None, lifespan="off",
                   http=_BriefConnection, timeout_keep_alive=5, server_header=False)
        )  # fmt: skip

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the server of jobs."""
        yield


def health_app(server: JobServer, listener: socket.socket) -> Starlette:
    """Return the ASGI app. /jobs names jobs and tenants, so that only the machine itself is given it."""
    local = ipaddress.ip_address(listener.getsockname()[0]).is_loopback
    routes = [
        Route("/health", _answering(lambda: (200, {"status": "ok"}))),
        Route("/ready", _answering(lambda: _readiness(server))),
        Route("/metrics", _metrics(server)),
    ]
    if local:
        routes.append(Route("/jobs", _answering(lambda: (200, _jobs(server)))))
    # A page in a browser that renames its own host to this machine's address is refused.
    hosts = [Middleware(TrustedHostMiddleware, allowed_hosts=_LOCAL)] if local else []
    return Starlette(routes=routes, middleware=hosts)


def _answering(answer: Callable[[], tuple[int, Any]]) -> Callable[[Request], Any]:
    async def endpoint(_: Request) -> Response:
        status, body = answer()
        return JSONResponse(body, status_code=status)

    return endpoint


def _readiness(server: JobServer) -> tuple[int, dict[str, Any]]:
    """Return 200 when the loop runs, the ledger answers and every definition is served, else 503."""
    since = time.monotonic() - server.ticked if server.ticked else None
    faults = len(server.definitions.faults) + len(server.faults.open)
    checks = {
        "loop": "ok" if since is not None and since < STALE_S else "no look at the schedule was completed",
        "ledger": "ok" if not server.fault else f"not available: {server.fault.partition(':')[0]}",
        "definitions": "ok" if not faults else f"{faults} not served: the log and /jobs say why",
    }
    ready = all(said == "ok" for said in checks.values())
    return (200 if ready else 503), {"status": "ready" if ready else "not ready", "checks": checks}


def _jobs(server: JobServer) -> dict[str, Any]:
    """Return the definitions with their next times, the pauses, and what runs and waits."""
    return {
        "server": server.row.id,
        "running": sorted(server.children),
        "waiting": server.waiting,
        "capacity": server.capacity,
        "jobs": [
            {
                "job": item.job, "role": item.role, "version": item.version,
                "tenants": [tenant for tenant in item.tenants if tenant],
                "next": _iso(server.firing.next_of(item.job, item.role)),
                "paused": any(pause.job == item.job for pause in server.pauses),
            }
            for item in server.definitions.found
        ],
        "faults": {**server.definitions.faults, **server.faults.open},
    }  # fmt: skip


def _iso(at: dt.datetime | None) -> str | None:
    return None if at is None else iso(at)


def _metrics(server: JobServer) -> Callable[[Request], Any]:
    registry = CollectorRegistry()
    registry.register(_ServerMetrics(server))

    async def endpoint(_: Request) -> Response:
        return PlainTextResponse(generate_latest(registry), media_type=_TEXT)

    return endpoint


class _ServerMetrics(Collector):
    """The metrics of a server, without names of jobs and tenants."""

    def __init__(self, server: JobServer) -> None:
        self._server = server

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they are now."""
        server = self._server
        gauges = {
            "running": ("Runs of this server that have a process.", len(server.children)),
            "waiting": ("Runs of the ledger that wait.", server.waiting),
            "capacity": ("Runs that this server starts at once.", server.capacity),
            "definitions": ("Definitions that are served.", len(server.definitions.found)),
            "faults": (
                "Definitions and files that cannot be served, and work of jobs that failed.",
                len(server.definitions.faults) + len(server.faults.open),
            ),
            "pauses": ("Pauses of jobs.", len(server.pauses)),
            "up": ("Whether the last look succeeded.", int(not server.fault and server.ticked > 0)),
        }
        for name, (text, value) in gauges.items():
            yield GaugeMetricFamily(f"workbench_jobs_{name}", text, value=value)
        outcomes = CounterMetricFamily("workbench_jobs_runs", "Runs that ended.", labels=["outcome"])
        for outcome, count in sorted(dict(server.measures.outcomes).items()):
            outcomes.add_metric([outcome], count)
        yield outcomes
        text = "Errors of single jobs in the looks of this server."
        yield CounterMetricFamily("workbench_jobs_job_faults", text, value=server.faults.count)
        yield HistogramMetricFamily(
            "workbench_jobs_start_delay_seconds", "Seconds from due to started.",
            buckets=server.measures.buckets(), sum_value=server.measures.delay_s,
        )  # fmt: skip
