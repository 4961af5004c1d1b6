"""A job to export, with the comments and names that every dialect uses."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from workbench import files
from workbench.errors import RefusedError
from workbench.jobs.schedule import Schedule, zone

CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
#: Seconds that a scheduler waits beyond the job's own limit, which ends a run with an error that names it.
MARGIN = 120
#: How many times the comments of a file show.
SHOWN = 5
#: Most characters of a CronJob's name, which Kubernetes extends for each run.
_MOST_NAME = 52


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEntry:
    """A job to export: the `command` to run in the absolute path `root`, and a run's limit in `seconds`.

    `failed` is the command that reports a failed run, and `variables` the names of the environment
    variables that a run reads. A slot may start until `start_deadline_s` seconds after its time. `image` is
    the container image whose environment is that of the lock.
    """

    name: str
    root: Path
    command: tuple[str, ...]
    schedule: Schedule
    seconds: int
    description: str = ""
    failed: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    start_deadline_s: int = 86_400
    image: str = "workbench:latest"

    def check(self) -> None:
        """Raise RefusedError for a path, word or name of a variable that no kind of file can hold."""
        for name in self.variables:
            if not _VARIABLE.fullmatch(name):
                raise RefusedError(
                    f"job {self.name}: {files.shortened(name)!r} cannot name an environment variable",
                    hint="correct the key of params.yaml or operations.yaml that names it",
                )
        for word in (str(self.root), *self.command, *self.failed):
            if CONTROL.search(word):
                raise RefusedError(
                    f"job {self.name}: {word!r} has a line break or another character that cannot be quoted",
                    hint="move the repository to a folder without it",
                )

    @property
    def title(self) -> str:
        """The name and description in one line. A backslash at its end would join the next line to it."""
        about = " ".join(CONTROL.sub(" ", self.description).split()).rstrip("\\ ")
        return f"workbench job {self.name}" + (f": {about}" if about else "")

    @property
    def dns_name(self) -> str:
        """The name in the form of a DNS label; a changed one ends in digits of the name's digest."""
        plain = f"workbench-{self.name}".lower().replace("_", "-").strip("-")
        if plain == f"workbench-{self.name}" and len(plain) <= _MOST_NAME:
            return plain
        return f"{plain[: _MOST_NAME - 9].rstrip('-')}-{files.digest(self.name.encode())[:8]}"

    def heading(self, now: dt.datetime) -> list[str]:
        """Return comments: the title, the schedule and the next fire times."""
        local = zone(self.schedule.timezone, where=self.name)
        return [
            f"# {self.title}",
            f"# Runs at `{self.schedule.cron}` in {self.schedule.timezone}. The next times:",
            *(
                f"#   {at.astimezone(local):%a %Y-%m-%d %H:%M %Z} = {at:%a %Y-%m-%d %H:%M} UTC"
                for at in self.schedule.after(now, SHOWN)
            ),
        ]

    def left_out(self, scheduler: str, times: Iterable[dt.datetime]) -> list[str]:
        """Return comments: the runs that a scheduler leaves out, and a command for the first."""
        lost = list(times)
        if not lost:
            return []
        more = " …" if lost[SHOWN:] else ""
        shown = ", ".join(f"{at:%Y-%m-%dT%H:%MZ}" for at in lost[:SHOWN]) + more
        return [
            f"# Where clocks change, {scheduler} leaves out {shown}",
            f"#   To make up for it: workbench jobs run {self.name} --at {lost[0]:%Y-%m-%dT%H:%MZ}",
        ]
