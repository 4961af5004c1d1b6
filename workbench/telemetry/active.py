"""Whether telemetry is active in this process, by OpenTelemetry's environment variables, and its exporter."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from workbench.telemetry.export import Exporter

Signal = Literal["traces", "metrics"]
ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
#: The environment variable whose value is the key of the tenants' pseudonyms.
PSEUDONYM_KEY: Final = "WORKBENCH_PSEUDONYM_KEY"
_log: Final = logging.getLogger(__name__)


def signals(environment: Mapping[str, str] = os.environ) -> tuple[Signal, ...]:
    """Return the signals that are exported: none without an endpoint, or with `OTEL_SDK_DISABLED=true`."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return ()
    found: tuple[Signal, ...] = ("traces", "metrics")
    return tuple(signal for signal in found if endpoint(signal, environment))


def endpoint(signal: Signal, environment: Mapping[str, str] = os.environ) -> str:
    """Return the URL that a signal is sent to, without a user and password; "" when it is not sent."""
    name = signal.upper()
    if environment.get(f"OTEL_{name}_EXPORTER", "").strip().lower() == "none":
        return ""
    url = environment.get(f"OTEL_EXPORTER_OTLP_{name}_ENDPOINT", "").strip()
    if not url and (shared := environment.get(ENDPOINT, "").strip()):
        url = f"{shared.rstrip('/')}/v1/{signal}"
    head, separator, tail = url.partition("://")
    return f"{head}{separator}{tail.rpartition('@')[2]}".partition("?")[0]


def exporter(home: Path) -> Exporter | None:
    """Return this process's exporter for the state folder `home`, or None when telemetry is not active.

    A setting that the SDK cannot use is logged, and nothing is exported: telemetry fails no call.
    """
    active = signals()
    return _opened(home, active) if active else None


@functools.cache
def _opened(home: Path, active: tuple[Signal, ...]) -> Exporter | None:
    try:
        from workbench.telemetry.export import Exporter

        return Exporter(home, active, key=os.environ.get(PSEUDONYM_KEY, ""))
    except Exception:  # noqa: BLE001  whatever the SDK raises
        _log.exception("telemetry is off: correct the variables OTEL_*")
        return None
