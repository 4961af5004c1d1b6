"""Sum the usage of a case's calls: chat calls, degraded searches, fall-backs, cost and tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.types import STATED

#: An optional column of a run: the number of a row's answers by a fall-back in place of the first model.
FALLBACK = "fallback"
#: An optional column of a run: why, one word for each of these answers, joined by commas.
FALLBACK_REASONS = "fallback_reasons"

#: The setting of a run that ended early: the name of the limit that was reached, or "stopped".
ENDED_BY = "ended_by"


def chat_calls(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the records of the calls in which a model wrote text, in either dialect."""
    return [r for r in records if r.get("port") == "model" and r.get("operation") in {"chat", "respond"}]


def degraded_searches(records: Sequence[Mapping[str, Any]]) -> int:
    """Return the number of searches that the last snapshot answered."""
    return sum(bool(record.get("degraded")) for record in records)


def answered_by_fallback(records: Sequence[Mapping[str, Any]]) -> int:
    """Return the number of calls that a fall-back answered in place of the first model."""
    return sum(bool(record.get("fallback")) for record in records)


def fallback_reasons(records: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the reasons of the answers by a fall-back, joined by commas; None without any."""
    reasons = [record.get("fallback_reason") for record in records if record.get("fallback")]
    return ",".join(sorted(filter(None, reasons))) or None


def has_stated_answer(records: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether a stated answer took the place of a model's answer."""
    return any(record.get("fallback") == STATED for record in records)


def spent(records: Sequence[Mapping[str, Any]]) -> float | None:
    """Return what was paid for the calls: nothing for a replayed answer; None when a price is unknown."""
    calls = chat_calls(records)
    paid = [call for call in calls if not call.get("replayed") or call.get("source") == "exact"]
    return summed(paid, "cost_usd") if paid else 0.0


def summed(records: Sequence[Mapping[str, Any]], name: str) -> Any:
    """Return the sum of a field over the calls; None without calls or when a call has no finite number."""
    values = [record.get(name) for record in records]
    known = all(isinstance(value, int | float) and math.isfinite(value) for value in values)
    return sum(values) if values and known else None
