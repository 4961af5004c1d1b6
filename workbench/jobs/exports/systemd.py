"""Export a job's schedule as units of systemd: a service, its timer, and a service for failed runs.

Every character of a path is quoted. The colon before a program makes systemd take `$` literally.
"""

from __future__ import annotations

import datetime as dt
import re

from workbench.errors import RefusedError
from workbench.jobs.exports.entry import MARGIN, JobEntry

_PLAIN = re.compile(r"[A-Za-z0-9_./=@+,-]+")
_FOR_SYSTEMD = str.maketrans({'"': '\\"', "\\": "\\\\", "%": "%%"})
#: Seconds that the report of a failed run may take.
_REPORT_S = 120


def to_systemd(entry: JobEntry, *, now: dt.datetime) -> dict[str, str]:
    """Return the texts of the units by file name: a service, its timer, and one that reports a failed run."""
    entry.check()
    unit = f"workbench-{entry.name}"
    found = {f"{unit}.service": _service(entry, unit), f"{unit}.timer": _timer(entry, unit, now)}
    if entry.failed:
        found[f"{unit}-failed.service"] = _failed(entry, unit)
    return found


def _service(entry: JobEntry, unit: str) -> str:
    on_failure = f"OnFailure={unit}-failed.service\n" if entry.failed else ""
    return f"""\
# Run by {unit}.timer, which says how to install both. Its output: journalctl --user -u {unit}
[Unit]
Description={entry.title.replace("%", "%%")}
{on_failure}
[Service]
Type=oneshot
WorkingDirectory={_directory(entry)}
{_environment(entry)}ExecStart=:{_command(entry.command)}
TimeoutStartSec={entry.seconds + MARGIN}
"""


def _failed(entry: JobEntry, unit: str) -> str:
    return f"""\
# Started by systemd when {unit}.service has failed, also when its process was killed.
# The channels are those of the key `notify` in pipelines/operations.yaml.
[Unit]
Description=report of a failed run of {entry.title.replace("%", "%%")}

[Service]
Type=oneshot
WorkingDirectory={_directory(entry)}
{_environment(entry)}ExecStart=:{_command(entry.failed)}
TimeoutStartSec={_REPORT_S}
"""


def _environment(entry: JobEntry) -> str:
    """Return the setting that reads the variables of a run from a file, which only its user opens."""
    if not entry.variables:
        return ""
    return f"""\
# Holds {", ".join(entry.variables)}: one NAME="value" in each line; chmod 600.
# For the machine's units the folder is /etc/workbench.
EnvironmentFile=%E/workbench/{entry.name}.env
"""


def _timer(entry: JobEntry, unit: str, now: dt.datetime) -> str:
    lost = entry.left_out("systemd", entry.schedule.beyond_calendar(now))
    comments = "\n".join([*entry.heading(now), *lost])
    calendar = "\n".join(f"OnCalendar={line}" for line in entry.schedule.calendar())
    units = " ".join([f"{unit}.service", f"{unit}.timer", *([f"{unit}-failed.service"] * bool(entry.failed))])
    return f"""\
{comments}
# To install for yourself, also while you are logged out:
#   mkdir -p ~/.config/systemd/user && cp {units} ~/.config/systemd/user/
#   systemctl --user daemon-reload && systemctl --user enable --now {unit}.timer
#   loginctl enable-linger
# For the machine: /etc/systemd/system instead, User= in [Service], and no --user.
[Unit]
Description={entry.title.replace("%", "%%")}

[Timer]
{calendar}
AccuracySec=1s
Persistent=true
Unit={unit}.service

[Install]
WantedBy=timers.target
"""


def _command(words: tuple[str, ...]) -> str:
    """Return the words of a command quoted for ExecStart."""
    if {'"', "'", "\\"} & set(words[0]):  # systemd refuses such a name of a program, and a shell does not
        words = ("/bin/sh", "-c", 'exec "$@"', "sh", *words)
    return " ".join(_systemd_word(word) for word in words)


def _systemd_word(word: str) -> str:
    """Return a word quoted for ExecStart."""
    return word if _PLAIN.fullmatch(word) else f'"{word.translate(_FOR_SYSTEMD)}"'


def _directory(entry: JobEntry) -> str:
    """Return WorkingDirectory, which systemd reads unquoted: a space at its end is lost."""
    root = str(entry.root)
    if root.endswith((" ", "\\")):
        raise RefusedError(
            f"job {entry.name}: systemd cannot read a folder whose name ends as that of {root!r} does",
            hint="move the repository to another folder",
        )
    return root.replace("%", "%%")
