"""Find the slot and the input file of a run."""

from __future__ import annotations

import datetime as dt
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench import files
from workbench.context import Clock, SystemClock
from workbench.errors import ConfigError, NotFoundError
from workbench.jobs.ledger.runs import Role, Slot, Trigger
from workbench.jobs.schedule import Schedule, zone
from workbench.jobs.spec import JobSpec

#: The years of logical times: near the ends of the calendar a zone's offset leaves it.
_FIRST_YEAR, _LAST_YEAR = 1970, 2999


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """A request to run a job: reference, input, time, tenant, and whether to replace a published output.

    `decision` is the decision of the policies on it, as JSON, for the audit log. `run` is the id of the run,
    which a server that took it gives. A name without a version means the label of the `role`. `confinement`
    is the level to which this machine confines kernels, "" where nobody looked.
    """

    reference: str
    input: str | None = None
    at: str | None = None
    tenant: str | None = None
    replace: bool = False
    show: bool = True
    role: Role = "production"
    trigger: Trigger = "manual"
    run: str = field(default_factory=lambda: secrets.token_hex(8))
    decision: Mapping[str, Any] = field(default_factory=dict)
    confinement: str = ""
    clock: Clock = field(default_factory=SystemClock)


def schedule_of(spec: JobSpec) -> Schedule | None:
    """Return a version's schedule, or None."""
    if spec.schedule is None:
        return None
    return Schedule.parse(spec.schedule.cron, spec.schedule.timezone, where=f"{spec.reference}: schedule")


def slot_of(spec: JobSpec, task: RunRequest) -> Slot:
    """Return the slot of a run, at the requested time, the last scheduled time or the start of the day.

    ConfigError for an empty tenant or an unreadable time.
    """
    if task.tenant == "":
        raise ConfigError("--tenant is empty", hint="name a tenant, or leave --tenant out for all of them")
    now = task.clock.now()
    schedule = schedule_of(spec)
    if task.at is None:
        at = schedule.before(now) if schedule else now.replace(hour=0, minute=0, second=0, microsecond=0)
        return Slot(job=spec.job, tenant=task.tenant or "", at=at)
    at = _parsed(task.at)
    if len(task.at) == len("2026-11-24"):
        due = schedule.on(at.date()) if schedule else []
        at = due[-1] if due else at.replace(tzinfo=dt.UTC)
    if at.tzinfo is None:
        raise ConfigError(f"--at {task.at!r} has no time zone", hint=f"write {at:%Y-%m-%dT%H:%M}Z for UTC")
    return Slot(job=spec.job, tenant=task.tenant or "", at=at)


def _parsed(text: str) -> dt.datetime:
    """Return the time of `--at`; ConfigError for another text, and for a year that no schedule has."""
    hint = "write 2026-11-24 or 2026-11-24T06:00Z"
    try:
        at = dt.datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"--at {files.shortened(text)!r} is not a time", hint=hint) from None
    if not _FIRST_YEAR <= at.year <= _LAST_YEAR:
        raise ConfigError(f"--at {text!r} is not in the years {_FIRST_YEAR} to {_LAST_YEAR}", hint=hint)
    return at


def input_of(root: Path, spec: JobSpec, task: RunRequest, slot: Slot) -> Path:
    """Return the path of a run's rows: the requested file, or the job's own file for the slot's time."""
    if task.input is not None:
        here = Path(task.input).absolute()
        return here if os.path.isfile(here) else root / task.input  # noqa: PTH113  False for a long name
    if spec.input is None:
        raise ConfigError(
            f"job {spec.job!r} has no input in params.yaml",
            hint=f"workbench jobs run {spec.job} --input FILE",
        )
    # In the schedule's time zone: the file's name has the date of that zone.
    at = slot.at.astimezone(zone(spec.schedule.timezone, where=spec.reference)) if spec.schedule else slot.at
    return root / spec.input.format(date=f"{at:%Y-%m-%d}", time=f"{at:%H%M}")


def bytes_of(path: Path) -> bytes:
    """Return the input's bytes; NotFoundError or ConfigError when it cannot be read."""
    try:
        return files.read_bytes(path)
    except FileNotFoundError:
        raise NotFoundError(
            f"the input {path} does not exist", hint="workbench jobs run NAME --input FILE"
        ) from None
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror}", hint="name another file with --input"
        ) from None


def iso(at: dt.datetime) -> str:
    """Format a time as manifests and command lines do: to the second, with Z for UTC."""
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")
