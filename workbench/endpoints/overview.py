"""An overview of endpoints: the state of each breaker, the limits, and the calls in flight and waiting."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.endpoints.circuit import Breaker
from workbench.endpoints.fair_queue import FairQueue
from workbench.endpoints.per_endpoint import Key
from workbench.endpoints.states import read_states

if TYPE_CHECKING:
    import polars as pl


def endpoints_frame(
    folder: Path, *, breakers: Mapping[Key, Breaker], queues: Mapping[Key, FairQueue]
) -> pl.DataFrame:
    """Return a frame with a row for each endpoint, sorted by address and model.

    An endpoint that this process has not called has the last state that another process wrote into `folder`.
    Times are ISO texts in UTC.
    """
    import polars as pl

    rows: dict[Key, dict[str, Any]] = {
        (state.url, state.model): {
            "breaker": state.state, "since": state.since, "reason": state.reason, "probe_at": state.probe_at,
        }
        for state in read_states(folder)
    }  # fmt: skip
    for key, breaker in breakers.items():
        last = breaker.last
        rows[key] = {
            "breaker": breaker.state, "since": last.since, "reason": last.reason, "probe_at": last.probe_at,
        }  # fmt: skip
    for key, queue in queues.items():
        limits = queue.limits
        rows.setdefault(key, {}).update(
            in_flight=queue.in_flight,
            waiting=queue.waiting,
            requests_per_minute=limits.requests_per_minute,
            tokens_per_minute=limits.tokens_per_minute,
            concurrent=limits.concurrent,
        )
    text, count = pl.String, pl.Int64
    schema: dict[str, Any] = {
        "url": text, "model": text, "breaker": text, "since": text, "reason": text, "probe_at": text,
        "in_flight": count, "waiting": count, "requests_per_minute": count, "tokens_per_minute": count,
        "concurrent": count,
    }  # fmt: skip
    told = [{"url": url, "model": model, **row} for (url, model), row in sorted(rows.items())]
    return pl.DataFrame(told, schema=schema)
