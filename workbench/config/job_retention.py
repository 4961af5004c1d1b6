"""The key `retention` of pipelines/operations.yaml: how many days files and lines of job runs are kept."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

from workbench import files
from workbench.errors import ConfigError

_MOST_DAYS = 36_600


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRetention:
    """The days that each kind of record is kept; None keeps it for ever.

    `executed_days` are of executed notebooks, `quarantine_days` of held rows and of answers kept for a slot
    that is not published, `shadow_days` of outputs of shadow versions, `history_days` of lines of the ledger.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    executed_days: int | None = None
    quarantine_days: int | None = None
    history_days: int | None = None
    shadow_days: int | None = None

    @property
    def stated(self) -> bool:
        """Whether anything is removed at all."""
        return any(getattr(self, item.name) is not None for item in fields(self))


def check_job_retention(where: str, retention: JobRetention) -> None:
    """Raise ConfigError for a number of days that is below 1 or beyond a century."""
    for item in fields(retention):
        days = getattr(retention, item.name)
        if days is not None and not 1 <= days <= _MOST_DAYS:
            raise ConfigError(
                f"{where}: retention.{item.name} must be from 1 to {_MOST_DAYS} days, found {days}",
                hint=f"write {item.name}: 90, or leave it out to keep all",
            )
