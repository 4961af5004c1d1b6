"""The key `bounds` of a job's operation: how many processes and how much memory a run may have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from workbench import files
from workbench.errors import ConfigError

_MOST_PROCESSES, _LEAST_MB, _MOST_MB = 100_000, 64, 1 << 24


@dataclass(frozen=True, slots=True, kw_only=True)
class RunBounds:
    """What the processes of a run may have together: their number, and MB of memory (None: no bound)."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    processes: int = 256
    memory_mb: int | None = None


def check_run_bounds(where: str, stated: RunBounds) -> None:
    """Raise ConfigError for a bound within which no run could work, or that bounds nothing."""
    if not 4 <= stated.processes <= _MOST_PROCESSES:
        raise ConfigError(
            f"{where}.processes must be from 4 to {_MOST_PROCESSES}, found {stated.processes}",
            hint="a worker and its kernel are two processes, and libraries may start more",
        )
    if stated.memory_mb is not None and not _LEAST_MB <= stated.memory_mb <= _MOST_MB:
        raise ConfigError(
            f"{where}.memory_mb must be from {_LEAST_MB} to {_MOST_MB}, found {stated.memory_mb}",
            hint="write memory_mb: 4096, or leave it out for no bound",
        )
