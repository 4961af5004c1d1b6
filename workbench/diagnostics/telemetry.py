"""Check where spans are exported to, whether it answers, and how many spans were sent and lost in a day."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from workbench.diagnostics.findings import Finding
from workbench.errors import WorkbenchError
from workbench.layout import TELEMETRY
from workbench.records.log import read_records
from workbench.telemetry import settings

_DAY: Final = dt.timedelta(days=1)
_PATIENCE_S: Final = 1.0
_PORTS: Final = {"http": 80, "https": 443}
_OFF: Final = f"off: {settings.ENDPOINT} is not set"


def exports(root: Path, *, environment: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Yield the state of the endpoint, and of the spans that processes of this repository exported."""
    if not settings.signals(environment):
        disabled = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
        detail = "off: OTEL_SDK_DISABLED is true" if disabled else _OFF
        yield Finding(what="telemetry", state="ok", detail=detail, needed=False)
        return
    url = settings.endpoint("traces", environment) or settings.endpoint("metrics", environment)
    yield _receiver(url, environment)
    yield _spans(root, now=dt.datetime.now(dt.UTC))


def _receiver(url: str, environment: Mapping[str, str]) -> Finding:
    """Return whether the endpoint speaks the protocol and a server listens there; nothing is sent."""
    protocol = environment.get("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf").strip().lower()
    if protocol != "http/protobuf":
        return _broken(
            f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol!r}, and the workbench sends http/protobuf",
            f"unset OTEL_EXPORTER_OTLP_PROTOCOL; export {settings.ENDPOINT}=http://HOST:4318",
        )
    fix = f"export {settings.ENDPOINT}=http://HOST:4318   # or unset it: docs/telemetry.md"
    try:
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or not parts.hostname:
            return _broken(f"{url} is not a URL such as http://127.0.0.1:4318", fix)
        with socket.create_connection((parts.hostname, parts.port or _PORTS[parts.scheme]), _PATIENCE_S):
            return Finding(what="telemetry", state="ok", detail=f"exported to {url}", needed=False)
    except (OSError, ValueError) as error:
        return _broken(f"{url} does not answer: {getattr(error, 'strerror', None) or error}", fix)


def _broken(detail: str, fix: str) -> Finding:
    return Finding(what="telemetry", state="broken", detail=detail, fix=fix, needed=False)


def _spans(root: Path, *, now: dt.datetime) -> Finding:
    """Return the spans of the last day that the receiver took, and those that were lost."""
    reports: list[dict[str, Any]] = []
    with contextlib.suppress(WorkbenchError):
        reports = [report for report in read_records(root / TELEMETRY) if _is_recent(report, now)]
    sent, lost = (sum(_count(report.get(part)) for report in reports) for part in ("sent", "lost"))
    detail = f"{sent} exported and {lost} lost in 24 hours"
    if not lost:
        return Finding(what="spans", state="ok", detail=detail, needed=False)
    fix = "workbench doctor   # after a look at the receiver; the log `opentelemetry` says why"
    return Finding(what="spans", state="broken", detail=detail, fix=fix, needed=False)


def _is_recent(report: Mapping[str, Any], now: dt.datetime) -> bool:
    try:
        return now - dt.datetime.fromisoformat(str(report.get("at"))) < _DAY
    except (TypeError, ValueError):
        return False


def _count(value: Any) -> int:
    return value if isinstance(value, int) else 0
