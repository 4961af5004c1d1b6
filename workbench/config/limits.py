"""The limits of runs and of the cache of answers, in `params.yaml`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from workbench import files
from workbench.errors import ConfigError

#: Most seconds for which an answer is cached (30 days), and most megabytes of the cache.
_MOST_CACHED_S, _MOST_CACHED_MB = 30 * 86_400, 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLimits:
    """The limits of the calls of one run, None where none is stated.

    `seconds` counts from the run's first call. `repeated` is the number of identical requests.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    calls: int | None = None
    tokens: int | None = None
    usd: float | None = None
    seconds: float | None = None
    repeated: int | None = None

    def over(self, other: RunLimits | None) -> RunLimits:
        """Return these limits, with those of `other` where none is stated here."""
        stated = {k: v for k, v in dataclasses.asdict(self).items() if v is not None}
        return dataclasses.replace(other or RunLimits(), **stated)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerCaching:
    """For how many seconds exact repetitions of a request are answered from the cache, of which operations.

    `megabytes` bounds the cache, which all use cases of a repository share.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    seconds: float
    operations: tuple[Literal["chat", "embed"], ...] = ("chat", "embed")
    megabytes: int = 64


def check_run_limits(where: str, limits: RunLimits) -> None:
    """Raise ConfigError for a limit that is not above zero."""
    for key, value in dataclasses.asdict(limits).items():
        least = 0 if key in {"usd", "seconds"} else 1
        if value is not None and (value < least or value == 0):
            raise ConfigError(
                f"{where}.{key} must be {'above 0' if least == 0 else '1 or more'}, found {value}",
                hint=f"write a higher number, or remove {key}: then nothing limits it",
            )


def check_caching(where: str, caching: AnswerCaching | None) -> None:
    """Raise ConfigError for a time or a size of the cache of answers that is out of bounds."""
    if caching is None:
        return
    for key, most, usual in (("seconds", _MOST_CACHED_S, 3600), ("megabytes", _MOST_CACHED_MB, 64)):
        if not 0 < (value := getattr(caching, key)) <= most:
            raise ConfigError(
                f"{where}.{key} must be above 0 and up to {most}, found {value}",
                hint=f"for example {key}: {usual}, or remove the key cache",
            )
