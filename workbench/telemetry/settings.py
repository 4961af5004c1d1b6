"""What is exported and where to, by OpenTelemetry's environment variables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final, Literal

Signal = Literal["traces", "metrics"]
ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
#: The environment variable whose value is the key of the tenants' pseudonyms.
PSEUDONYM_KEY: Final = "WORKBENCH_PSEUDONYM_KEY"


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
