"""The keys `rollout` and `rollback` of a job's operation: when a shadow or canary has proved itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from workbench import files
from workbench.errors import ConfigError, nearest

ShareUnit = Literal["row", "tenant"]
#: The share of a canary whose promotion states none.
DEFAULT_SHARE = 0.1
#: The guard metrics, with the loss of each that is accepted: a share of rows, or of seconds and cost.
GUARDS: Mapping[str, float] = {
    "success": 0.05,
    "latency": 0.5,
    "cost": 0.5,
    "agreement": 0.5,
    "grounded": 0.05,
    "schema": 0.05,
    "feedback": 0.05,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """How a new version proves itself beside production.

    `unit` is what a canary's share is a share of. `guards` maps guard metrics to the accepted loss. The
    verdict is wrong with probability `alpha` at most. `usd` is what all runs of a trial may cost together,
    and `failures` the share of its slots that may fail, after `slots` of them.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    unit: ShareUnit = "row"
    guards: dict[str, float] = field(default_factory=lambda: {"success": GUARDS["success"]})
    alpha: float = 0.05
    usd: float | None = None
    failures: float = 0.5
    slots: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback:
    """What taking back a version does by itself: `commit` makes the commit of the label's move."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    commit: bool = True


def check_rollout(where: str, stated: Rollout) -> None:
    """Raise ConfigError for an unknown guard metric and for a number out of range."""
    for name, margin in stated.guards.items():
        if name not in GUARDS:
            raise ConfigError(
                f"{where}.guards: there is no metric {files.shortened(name)!r} ({nearest(name, GUARDS)})",
                hint=f"known: {', '.join(GUARDS)}",
            )
        if not 0 < margin < 1:
            raise ConfigError(f"{where}.guards.{name} must be above 0 and below 1, found {margin:g}")
    if not 1e-6 <= stated.alpha <= 0.5:
        raise ConfigError(f"{where}.alpha must be from 0.000001 to 0.5, found {stated.alpha:g}")
    if not 0 <= stated.failures <= 1 or not 1 <= stated.slots <= 10_000:
        raise ConfigError(f"{where}: failures must be from 0 to 1, and slots from 1 to 10000")
    if stated.usd is not None and not 0 < stated.usd < 1e9:
        raise ConfigError(f"{where}.usd must be above 0, found {stated.usd:g}")
