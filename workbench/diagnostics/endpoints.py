"""Check the circuit breakers of model endpoints, as their processes last wrote them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from workbench.diagnostics.findings import Finding
from workbench.endpoints.states import EndpointState, read_states
from workbench.layout import ENDPOINTS

#: How long after its probe a breaker still counts as open; no process may have asked since.
_OPEN_FOR: Final = dt.timedelta(minutes=2)


def breakers(root: Path, *, now: dt.datetime | None = None) -> Iterator[Finding]:
    """Yield a finding for each endpoint whose breaker has opened or closed; an open one is broken."""
    at = now or dt.datetime.now(dt.UTC)
    for state in read_states(root / ENDPOINTS):
        what = f"endpoint {state.model} at {state.url}"
        if _is_open(state, at):
            detail = f"not asked since {state.since}: {state.reason}; the next probe is at {state.probe_at}"
            fix = f"check that {state.url} answers; then repeat the call: a probe closes the breaker"
            yield Finding(what=what, state="broken", detail=detail, fix=fix)
        else:
            was = "its breaker closed" if state.state == "closed" else "its breaker last opened"
            yield Finding(what=what, state="ok", detail=f"{was} {state.since}: {state.reason}")


def _is_open(state: EndpointState, now: dt.datetime) -> bool:
    if state.state != "open":
        return False
    try:
        return now < dt.datetime.fromisoformat(state.probe_at) + _OPEN_FOR
    except (ValueError, TypeError):  # an edited file
        return False
