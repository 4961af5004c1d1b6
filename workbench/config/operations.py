"""The file pipelines/operations.yaml: how promoted jobs are operated.

Nothing of it is frozen with a version, and no stage of the pipeline depends on it, so that operators change
it without a promotion. Versions promoted earlier never read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from workbench import files
from workbench.config.channels import ChannelSettings, check_channels, check_notified
from workbench.config.forms import NAME
from workbench.config.job_retention import JobRetention, check_job_retention
from workbench.config.output_checks import ModelChanged, OutputCheck, check_output_checks
from workbench.config.rollout import Rollback, Rollout, check_rollout
from workbench.config.run_bounds import RunBounds, check_run_bounds
from workbench.errors import ConfigError

OPERATIONS = Path("pipelines/operations.yaml")
CatchUp = Literal["none", "latest", "all"]
LedgerPlace = Literal["local", "shared"]
Overlap = Literal["skip", "queue", "replace"]
_MOST_SECONDS = 366 * 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """The retries of a failed run: how many, and the seconds before the first, doubled for each later one."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    times: int = 2
    backoff_s: float = 30.0
    most_s: float = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What a job promises: its share of successful runs, and seconds from due to published, over `days`."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    success: float = 0.95
    seconds: float = 3600.0
    days: int = 28


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOperation:
    """How one job is operated. The defaults suit a job that runs once a day.

    `tenants` makes a slot of each; `start_deadline_s` is how long after its time a slot may still start,
    `late_after_s` after how many seconds an unfinished slot is reported as late. `notify` names channels.
    `checks` decide on each output before it is published, and `model_changed` on answers of another model.
    `parity` decides on an environment other than the judged one; None refuses it in the phase mlvp. `bounds`
    are those of the processes of a run.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    tenants: tuple[str, ...] = ()
    catch_up: CatchUp = "latest"
    start_deadline_s: float = 86_400.0
    late_after_s: float = 3_600.0
    overlap: Overlap = "queue"
    priority: int = 0
    retries: Retries = field(default_factory=Retries)
    objective: Objective = field(default_factory=Objective)
    notify: tuple[str, ...] = ()
    checks: dict[str, OutputCheck] = field(default_factory=dict)
    model_changed: ModelChanged = "hold"
    rollout: Rollout = field(default_factory=Rollout)
    rollback: Rollback = field(default_factory=Rollback)
    parity: Literal["tell", "refuse"] | None = None
    bounds: RunBounds = field(default_factory=RunBounds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """How many runs one server starts at once: in all, and for each tenant (0: no limit of its own)."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    runs: int = 2
    per_tenant: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmLimits:
    """What a server with --warm keeps: how many templates of versions, how large, and how long."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    templates: int = 4
    memory_mb: float = 400
    idle_s: float = 7_200


@dataclass(frozen=True, slots=True, kw_only=True)
class Operations:
    """The content of pipelines/operations.yaml; a repository without the file has the defaults.

    A job without an entry in `jobs` is operated as `defaults` states. An entry replaces whole keys. The job
    ledger is `local`, a SQLite file of this clone, or `shared`, in the PostgreSQL database of `budget_url`.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    ledger: LedgerPlace = "local"
    capacity: Capacity = field(default_factory=Capacity)
    warm: WarmLimits = field(default_factory=WarmLimits)
    channels: dict[str, ChannelSettings] = field(default_factory=dict)
    retention: JobRetention = field(default_factory=JobRetention)
    defaults: JobOperation = field(default_factory=JobOperation)
    jobs: dict[str, JobOperation] = field(default_factory=dict)

    def of(self, job: str) -> JobOperation:
        """Return how a job is operated."""
        return self.jobs.get(job, self.defaults)


def load_operations(root: Path) -> Operations:
    """Read the operations of a repository; ConfigError with the key for a value that no server could use."""
    path = root / OPERATIONS
    if not path.exists():
        return Operations()
    raw = files.read_yaml(path)
    stated = raw.get("jobs")
    if isinstance(stated, Mapping) and isinstance(raw.get("defaults"), Mapping):
        merged = {
            name: {**raw["defaults"], **entry} if isinstance(entry, Mapping) else entry
            for name, entry in stated.items()
        }
        raw = {**raw, "jobs": merged}
    found = files.parse(Operations, raw, where=str(path))
    _check_operations(path, found)
    return found


def _check_operations(path: Path, found: Operations) -> None:
    """Raise ConfigError for a number out of range and for a name that cannot be a job's or a tenant's."""
    if not 1 <= found.capacity.runs <= 1_000 or found.capacity.per_tenant < 0:
        raise ConfigError(f"{path}: capacity: runs must be from 1 to 1000, and per_tenant 0 or more")
    warm = found.warm
    if not (0 <= warm.templates <= 100 and 1 <= warm.memory_mb <= 1_000_000):
        raise ConfigError(f"{path}: warm: templates must be from 0 to 100, and memory_mb from 1 to 1000000")
    if not 0 < warm.idle_s <= _MOST_SECONDS:
        raise ConfigError(f"{path}: warm: idle_s must be above 0 and at most {_MOST_SECONDS}")
    check_channels(str(path), found.channels)
    check_job_retention(str(path), found.retention)
    for where, item in {
        "defaults": found.defaults,
        **{f"jobs.{n}": j for n, j in found.jobs.items()},
    }.items():
        _check(f"{path}: {where}", where, item)
        check_notified(f"{path}: {where}", item.notify, found.channels)
        check_output_checks(f"{path}: {where}", item.checks)


def _check(where: str, key: str, item: JobOperation) -> None:
    names = [*([key.partition(".")[2]] if "." in key else []), *item.tenants, *item.notify]
    if wrong := [name for name in names if not NAME.fullmatch(name)]:
        raise ConfigError(
            f"{where}: {files.shortened(wrong[0])!r} is no name", hint="use up to 63 letters, digits, - and _"
        )
    seconds = {
        "start_deadline_s": item.start_deadline_s, "late_after_s": item.late_after_s,
        "retries.backoff_s": item.retries.backoff_s, "retries.most_s": item.retries.most_s,
        "objective.seconds": item.objective.seconds,
    }  # fmt: skip
    for name, value in seconds.items():
        if not 0 < value <= _MOST_SECONDS:
            raise ConfigError(f"{where}.{name} must be above 0 and at most {_MOST_SECONDS}, found {value:g}")
    if not 0 <= item.retries.times <= 100 or not -1000 <= item.priority <= 1000:
        raise ConfigError(f"{where}: retries.times must be from 0 to 100, and priority from -1000 to 1000")
    if not 0 < item.objective.success < 1 or not 1 <= item.objective.days <= 366:
        raise ConfigError(f"{where}.objective: success must be between 0 and 1, and days from 1 to 366")
    check_rollout(f"{where}.rollout", item.rollout)
    check_run_bounds(f"{where}.bounds", item.bounds)
