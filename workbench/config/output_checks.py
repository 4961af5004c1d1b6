"""The keys `checks` and `model_changed` of pipelines/operations.yaml: what decides on a run's output."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from workbench import files
from workbench.errors import ConfigError, nearest

Then = Literal["tell", "hold", "roll_back"]
ModelChanged = Literal["hold", "tell"]
#: What a check can measure of a run, and the words that say it.
MEASURES: Mapping[str, str] = {
    "rows": "rows of the input",
    "answered": "answered rows",
    "quarantined_rate": "share of rows set aside",
    "broken_input_rate": "share of rows that do not fit the task",
    "unanswered_rate": "share of fitting rows without an answer",
    "refused_rate": "share of rows whose answer was refused",
    "schema_rate": "share of asked rows whose answer has the promised type",
    "grounded": "mean share of an answer's words that are in its passages",
    "pii_leaks": "answers with personal data or secrets that are not in their row",
    "input_drift": "largest distance of an input column from its reference",
    "answer_drift": "largest distance of an answer column from its reference",
    "latency_p95_s": "seconds that 95 % of the calls stay below",
    "cost_usd": "cost of the run in USD",
    "cost_per_row_usd": "cost of a row in USD",
    "fallback_rate": "share of calls that a fall-back answered",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputCheck:
    """The bounds of one measure, and what follows when it is outside them.

    `undecided` is what follows when the measure cannot be taken: the output is published and the history
    says so (`tell`), or it is held (`hold`).
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    min: float | None = None
    max: float | None = None
    then: Then = "hold"
    undecided: Literal["tell", "hold"] = "tell"


def check_output_checks(where: str, checks: Mapping[str, OutputCheck]) -> None:
    """Raise ConfigError for an unknown measure and for bounds that no value, or every value, meets."""
    for name, check in checks.items():
        if name not in MEASURES:
            raise ConfigError(
                f"{where}.checks: {files.shortened(name)!r} is no measure", hint=nearest(name, MEASURES)
            )
        bounds = [bound for bound in (check.min, check.max) if bound is not None]
        if not bounds:
            raise ConfigError(f"{where}.checks.{name} has no bound", hint=f"write {name}: {{max: 0.1}}")
        if not all(math.isfinite(bound) and bound >= 0 for bound in bounds) or bounds != sorted(bounds):
            raise ConfigError(f"{where}.checks.{name}: its bounds must be 0 or more, and min at most max")
