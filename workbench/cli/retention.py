"""The day before which `workbench calls purge` and `workbench audit purge` remove records."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Literal

from workbench import config
from workbench.errors import ConfigError


def purge_day(root: Path, before: str | None, *, command: Literal["calls", "audit"]) -> dt.date:
    """Return `before` as a day, by default that of `retention` in params.yaml.

    Raise ConfigError for a text that is no day, and when params.yaml states no retention either.
    """
    if before is not None:
        config.check_day(before, where="--before")
        return dt.date.fromisoformat(before)
    retention = config.load_params(root).retention
    days = retention.calls_days if command == "calls" else retention.audit_days
    if days is None:
        raise ConfigError(
            f"params.yaml states no retention ({command}_days), so no record is removed",
            hint=f"workbench {command} purge --before DAY, or write "
            f"retention: {{{command}_days: 400}} into it",
        )
    return dt.datetime.now(dt.UTC).date() - dt.timedelta(days=days)
