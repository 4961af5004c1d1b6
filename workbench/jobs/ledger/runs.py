"""The values of the job ledger: slots, orders of runs, and runs with their states and outcomes.

A slot is job, tenant and logical time. At most one run of a slot and role is alive, over all processes and
hosts: a unique index of the database enforces it. The next process to look declares a run lost when its
process has ended; a lost run can neither renew its lease nor finish, so it does not publish.
"""

from __future__ import annotations

import datetime as dt
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

from workbench.errors import ConfigError

State = Literal["waiting", "queued", "running", "finished", "lost"]
Outcome = Literal[
    "published", "unchanged", "held", "failed", "interrupted", "deadline",
    "skipped", "missed", "refused", "replaced", "shadowed", "rolled_back",
]  # fmt: skip
Role = Literal["production", "shadow", "canary"]
Trigger = Literal["manual", "schedule", "catch_up", "backfill", "retry", "trigger"]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_EVERY_TENANT = "all"


@functools.lru_cache(maxsize=4_096)
def _can_name_folders(job: str, tenant: str) -> bool:
    """Return whether a job and a tenant can name folders; a history has the same few names many times."""
    return bool(_NAME.fullmatch(job) and _NAME.fullmatch(tenant or "any")) and tenant != _EVERY_TENANT


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """The key of one output: a job, a tenant ("" for all of the use case) and a logical time in UTC.

    ConfigError for names that cannot be folders and for a time without offset or with microseconds.
    """

    job: str
    tenant: str
    at: dt.datetime

    def __post_init__(self) -> None:
        if not _can_name_folders(self.job, self.tenant):
            raise ConfigError(
                f"job {self.job!r} and tenant {self.tenant!r} cannot name folders",
                hint=f"use letters, digits, - and _; {_EVERY_TENANT!r} is taken: it means every tenant",
            )
        if self.at.tzinfo is None or self.at.microsecond:
            raise ConfigError(
                f"{self.at.isoformat()} is not a time in whole seconds with its offset",
                hint="write it like 2026-11-24T06:00:00Z",
            )
        if self.at.tzinfo is not dt.UTC:
            object.__setattr__(self, "at", self.at.astimezone(dt.UTC))

    @property
    def key(self) -> str:
        """The slot's name and relative path, such as `answers/acme/20261124T060000Z`."""
        return f"{self.job}/{self.tenant or _EVERY_TENANT}/{self.at:%Y%m%dT%H%M%SZ}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOrder:
    """A run to enqueue. `version` 0 is the version that the label of the role names when the run starts.

    The run is not taken before `not_before`; a higher `priority` is taken first.
    """

    slot: Slot
    role: Role = "production"
    version: int = 0
    trigger: Trigger = "schedule"
    attempt: int = 1
    priority: int = 0
    not_before: dt.datetime | None = None


class RunEnd(TypedDict, total=False):
    """What the line of an ended run holds beside its outcome.

    `rows` and `quarantined` count rows; `folder` is the published output, relative to the repository;
    `detail` is cut to one line of 300 characters. `facts` is a small JSON object, of at most 16 KB.
    """

    rows: int
    quarantined: int
    cost_usd: float | None
    folder: str
    detail: str
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRun:
    """A run of a slot in the ledger. `outcome` is "" for an unfinished or lost run.

    A waiting run has no process. A queued or running one is alive while process `pid` on `host` is;
    `process_started_at` distinguishes it from a later process with the same number. `server` is the id of the
    server that took it, "" for a run that a command started. `fingerprint` is the digest of its environment.
    """

    run: str
    slot: Slot
    version: int
    input_digest: str
    state: State
    outcome: Outcome | Literal[""]
    queued_at: dt.datetime
    started_at: dt.datetime | None
    finished_at: dt.datetime | None
    host: str
    pid: int
    process_started_at: str
    lease_until: dt.datetime
    rows: int
    quarantined: int
    cost_usd: float | None
    folder: str
    detail: str
    role: Role = "production"
    trigger: Trigger = "manual"
    attempt: int = 1
    priority: int = 0
    not_before: dt.datetime | None = None
    server: str = ""
    fingerprint: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def alive(self) -> bool:
        """Whether its state is queued or running."""
        return self.state in {"queued", "running"}
