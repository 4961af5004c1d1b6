"""A notice about a job: its event, its key, its text, and its form in the ledger's outbox."""

from __future__ import annotations

import dataclasses
import datetime as dt
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

from workbench import files
from workbench.errors import CorruptError

Event = Literal[
    "failed", "late", "missed", "held", "rolled_back", "withdrawn", "recovered", "paused", "model_changed",
    "breached", "fault", "test",
]  # fmt: skip
EVENTS: tuple[str, ...] = get_args(Event)
#: The urgency of an event, as the services that apprise knows show it.
_URGENCY = {
    "recovered": "success", "test": "info", "late": "warning", "paused": "warning", "held": "warning",
    "breached": "warning",
}  # fmt: skip
_HAPPENED = {
    "failed": "failed",
    "late": "is late",
    "missed": "was missed",
    "held": "was held back",
    "rolled_back": "was rolled back",
    "withdrawn": "was withdrawn",
    "recovered": "recovered",
    "paused": "was paused",
    "model_changed": "was answered by another model",
    "breached": "was published outside a bound",
    "fault": "cannot be served",
    "test": "has a working channel",
}
_MOST_DETAIL = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class JobNotice:
    """A notice. `at` is the slot's time; without a slot, `when` tells two notices of one event apart.

    `tenant` is "" for all tenants, `version` 0 when no version is meant. `detail` says why in one line.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    event: Event
    job: str
    tenant: str = ""
    at: str = ""
    version: int = 0
    run: str = ""
    detail: str = ""
    when: str = ""

    @classmethod
    def of_slot(
        cls, event: Event, job: str, tenant: str, at: dt.datetime, *, detail: str = "", **rest: Any
    ) -> JobNotice:
        """Return the notice of an event of a slot; `rest` may have `version` and `run`."""
        return cls(event=event, job=job, tenant=tenant, at=_iso(at), detail=cleaned(detail), **rest)

    @classmethod
    def of_version(
        cls, event: Event, job: str, version: int, when: dt.datetime, *, detail: str = "", tenant: str = ""
    ) -> JobNotice:
        """Return the notice of an event of a version (0: of the job), which happened at `when`."""
        return cls(
            event=event, job=job, version=version, when=_iso(when), detail=cleaned(detail), tenant=tenant
        )

    @classmethod
    def of_payload(cls, payload: Mapping[str, Any], *, key: str) -> JobNotice:
        """Return the notice of a row of the outbox; CorruptError for a payload that is none."""
        try:
            return files.parse(cls, dict(payload), where=f"the notice {key}")
        except Exception as error:
            raise CorruptError(f"the notice {key} cannot be read", hint="workbench jobs list") from error

    @property
    def key(self) -> str:
        """The key of the outbox: one for each event of a slot, or of a version and moment."""
        slot = f"{self.job}/{self.tenant or 'all'}/{self.at or self.when}"
        return f"{self.event}/{slot}" + (f"@{self.version}" if not self.at and self.version else "")

    @property
    def title(self) -> str:
        """One line, such as `Job answers failed: 2026-11-24T06:00:00Z`."""
        slot = f": {self.at}" if self.at else ""
        version = f"@{self.version}" if self.version and not self.at else ""
        return f"Job {self.job}{version} {_HAPPENED[self.event]}{slot}"

    @property
    def text(self) -> str:
        """The whole message: what happened to which slot and version, why, and the next command."""
        facts = [
            f"tenant {self.tenant}" if self.tenant else "",
            f"slot {self.at}" if self.at else "",
            f"version {self.version}" if self.version else "",
            f"run {self.run}" if self.run else "",
        ]
        lines = [
            ", ".join(filter(None, facts)),
            f"Why: {self.detail}" if self.detail else "",
            f"Next: {self.command}",
        ]
        return "\n".join(filter(None, lines))

    @property
    def command(self) -> str:
        """The command that shows or fixes what happened."""
        job = shlex.quote(self.job)
        tenant = f" --tenant {shlex.quote(self.tenant)}" if self.tenant else ""
        if self.event == "missed":
            return f"workbench jobs run {job} --at {self.at}{tenant}"
        if self.event == "paused":
            return f"workbench jobs resume {job}"
        if self.event == "model_changed":
            return f"workbench promote job/{job} --dry-run"
        return f"workbench jobs history {job}"

    @property
    def urgency(self) -> str:
        """`failure`, `warning`, `success` or `info`."""
        return _URGENCY.get(self.event, "failure")

    def payload(self) -> dict[str, Any]:
        """Return the fields that are set, for the outbox."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value not in ("", 0)}

    def posting(self, channels: Sequence[str]) -> dict[str, Any]:
        """Return the fields of the ledger's row: `ledger.post(PostedNotice(**notice.posting(channels)))`."""
        names = tuple(dict.fromkeys(channels))
        return {
            "key": self.key, "job": self.job, "event": self.event, "payload": self.payload(),
            "channels": names,
        }  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Return what webhooks, commands and files receive beside the text."""
        return {**self.payload(), "key": self.key, "title": self.title, "command": self.command}


def cleaned(detail: str) -> str:
    """Return a detail as one printable line without identifiers and secrets, which are masked."""
    from workbench.privacy import PatternDetector

    line = " ".join("".join(sign if sign.isprintable() else " " for sign in detail).split())
    line = line[: 4 * _MOST_DETAIL]
    for found in reversed(PatternDetector().find(line)):
        line = f"{line[: found.start]}[{found.kind.upper()}]{line[found.end :]}"
    return line if len(line) <= _MOST_DETAIL else line[: _MOST_DETAIL - 1] + "…"


def _iso(at: dt.datetime) -> str:
    return f"{at.astimezone(dt.UTC):%Y-%m-%dT%H:%M:%SZ}"
