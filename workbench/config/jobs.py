"""The section `jobs` of params.yaml."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from workbench import files
from workbench.config.confinement import ExecutionSettings
from workbench.config.forms import NAME, check_inside
from workbench.config.limits import RunLimits, check_run_limits
from workbench.errors import ConfigError, nearest


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The schedule of a job: five cron fields in an IANA time zone."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    cron: str
    timezone: str = "UTC"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of a job run: its seconds, and the share of broken rows above which it is held back."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    seconds: int = 900
    broken: float = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLimits(Limits):
    """The limits of a job's runs, also of their calls; a version keeps `seconds` and `broken`.

    The others are read in the version's own params.yaml.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    calls: int | None = None
    tokens: int | None = None
    usd: float | None = None
    repeated: int | None = None

    @property
    def of_calls(self) -> RunLimits:
        """The limits of the calls of a run."""
        return RunLimits(calls=self.calls, tokens=self.tokens, usd=self.usd, repeated=self.repeated)

    @property
    def of_version(self) -> Limits:
        """The limits that a version keeps."""
        return Limits(seconds=self.seconds, broken=self.broken)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job of `params.yaml`: a use case's notebook, applied to inputs.

    `sample` is the path of a small input, which each version freezes and its stage reproduces. `input` is
    the path of a scheduled run's input, with `{date}` or `{time}` of the run.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    use_case: str
    sample: str
    input: str | None = None
    schedule: Timing | None = None
    limits: JobLimits = field(default_factory=JobLimits)
    execution: ExecutionSettings = field(default_factory=ExecutionSettings)


def check_job(path: Path, name: str, declared: Job, use_cases: Collection[str]) -> None:
    """Raise ConfigError with file and key for a value of a job that no run could use."""
    where = f"{path}: jobs.{name}"
    if not NAME.fullmatch(name):  # it names folders
        raise ConfigError(
            f"{path}: jobs: {files.shortened(name)!r} cannot name a job",
            hint="use up to 63 letters, digits, - and _",
        )
    check_inside(declared.sample, where=f"{where}.sample")
    if declared.use_case not in use_cases:
        known = nearest(declared.use_case, use_cases)
        raise ConfigError(f"{where}.use_case: there is no use case {declared.use_case!r} ({known})")
    if declared.limits.seconds < 1 or not 0 < declared.limits.broken <= 1:
        raise ConfigError(
            f"{where}.limits: seconds must be 1 or more and broken above 0 and up to 1, found "
            f"{declared.limits.seconds} and {declared.limits.broken}"
        )
    check_run_limits(f"{where}.limits", declared.limits.of_calls)
    try:
        (declared.input or "").format(date="", time="")
    except (AttributeError, KeyError, IndexError, ValueError):
        raise ConfigError(
            f"{where}.input: {declared.input!r} has a field other than {{date}} and {{time}}",
            hint="for example input: data/inbox/{date}.jsonl",
        ) from None
