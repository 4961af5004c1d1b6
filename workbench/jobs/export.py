"""Export a job's schedule to cron or systemd: text files that run `workbench jobs run NAME`.

Every character of a path is quoted. In a crontab, a quote or a percent sign follows each backslash, so
that crons read the same whether or not they remove backslashes. In a unit, the colon before the program
makes systemd take `$` literally.
"""

from __future__ import annotations

import datetime as dt
import os
import re
from dataclasses import dataclass
from pathlib import Path

from workbench.errors import ConfigError, RefusedError
from workbench.jobs.schedule import Schedule, zone

_LOCALTIME = Path("/etc/localtime")
_TIMEZONE = Path("/etc/timezone")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_PLAIN = re.compile(r"[A-Za-z0-9_./=@+,-]+")
_FOR_CRON = str.maketrans({"'": "'\"'\"'", "\\": "\\''", "%": "'\\%'"})
_FOR_SYSTEMD = str.maketrans({'"': '\\"', "\\": "\\\\", "%": "%%"})
#: Bytes of the longest command; Debian's cron skips a longer one without a message.
_LONGEST = 998
#: Seconds that systemd waits beyond the job's own limit, which ends a run with an error that names it.
_MARGIN = 120
_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEntry:
    """A job to export: the `command` to run in the absolute path `root`, and a run's limit in `seconds`."""

    name: str
    root: Path
    command: tuple[str, ...]
    schedule: Schedule
    seconds: int
    description: str = ""


def to_cron(entry: JobEntry, *, system_timezone: str, now: dt.datetime) -> str:
    """Return the text of a crontab: comments on its times and installation, and one line."""
    _check(entry)
    wanted = entry.schedule.timezone
    if not _same_clock(wanted, system_timezone, now):
        raise RefusedError(
            f"job {entry.name}: its times are in {wanted}, and this machine's cron reads them in"
            f" {system_timezone} (Debian's cron ignores CRON_TZ)",
            hint=f"workbench jobs export {entry.name} --to systemd"
            f"   (or give its times in {system_timezone})",
        )
    log = f".workbench/state/jobs/{entry.name}.log"
    run = " ".join(_cron_word(word) for word in entry.command)
    # cron's PATH is unknown: every program has its whole path.
    start = f"cd {_cron_word(str(entry.root))} && /bin/mkdir -p .workbench/state/jobs"
    command = f"{start} && exec {run} >> {log} 2>&1"
    if len(command.encode()) > _LONGEST:
        raise RefusedError(
            f"job {entry.name}: its command is longer than the {_LONGEST} bytes that cron takes",
            hint=f"workbench jobs export {entry.name} --to systemd",
        )
    lines = [
        *_heading(entry, now),
        f"# The times are right while cron's daemon runs in {system_timezone}, as this machine says it does.",
        "# To install: type `crontab -e` and add the line below.",
        f"# Or, as root: a file /etc/cron.d/workbench-{entry.name} with the user's name before `cd`.",
        f"{entry.schedule.numeric()} {command}",
    ]
    return "\n".join(lines) + "\n"


def to_systemd(entry: JobEntry, *, now: dt.datetime) -> dict[str, str]:
    """Return the texts of a service and its timer by file name."""
    _check(entry)
    unit = f"workbench-{entry.name}"
    return {f"{unit}.service": _service(entry, unit), f"{unit}.timer": _timer(entry, unit, now)}


def system_timezone() -> str:
    """Return the IANA name of this machine's time zone: from TZ, else from /etc, else UTC."""
    variable = os.environ.get("TZ", "").removeprefix(":")
    if variable and not variable.startswith("/"):
        return zone(variable, where="TZ").key
    link = Path(variable) if variable else _LOCALTIME
    _, found, zone_name = str(link.resolve()).partition("/zoneinfo/")
    if found:
        return zone(zone_name, where=str(link)).key
    if not variable and _TIMEZONE.is_file():
        return zone(_TIMEZONE.read_text(encoding="utf-8").strip(), where=str(_TIMEZONE)).key
    if variable or link.exists():
        raise ConfigError(
            f"{link} does not say which time zone it is",
            hint="put the zone's name before the command, for example TZ=Europe/Berlin",
        )
    return "UTC"


def _service(entry: JobEntry, unit: str) -> str:
    command = entry.command
    if {'"', "'", "\\"} & set(command[0]):  # systemd refuses such a name of a program, and a shell does not
        command = ("/bin/sh", "-c", 'exec "$@"', "sh", *command)
    return f"""\
# Run by {unit}.timer, which says how to install both. Its output: journalctl --user -u {unit}
[Unit]
Description={_title(entry).replace("%", "%%")}

[Service]
Type=oneshot
WorkingDirectory={_directory(entry)}
ExecStart=:{" ".join(_systemd_word(word) for word in command)}
TimeoutStartSec={entry.seconds + _MARGIN}
"""


def _timer(entry: JobEntry, unit: str, now: dt.datetime) -> str:
    comments = "\n".join([*_heading(entry, now), *_left_out(entry, now)])
    calendar = "\n".join(f"OnCalendar={line}" for line in entry.schedule.calendar())
    return f"""\
{comments}
# To install for yourself, also while you are logged out:
#   mkdir -p ~/.config/systemd/user && cp {unit}.service {unit}.timer ~/.config/systemd/user/
#   systemctl --user daemon-reload && systemctl --user enable --now {unit}.timer
#   loginctl enable-linger
# For the machine: /etc/systemd/system instead, User= in [Service], and no --user.
[Unit]
Description={_title(entry).replace("%", "%%")}

[Timer]
{calendar}
AccuracySec=1s
Persistent=true
Unit={unit}.service

[Install]
WantedBy=timers.target
"""


def _check(entry: JobEntry) -> None:
    """Raise RefusedError for a path or word that neither kind of file can hold."""
    for word in (str(entry.root), *entry.command):
        if _CONTROL.search(word):
            raise RefusedError(
                f"job {entry.name}: {word!r} has a line break or another character that cannot be quoted",
                hint="move the repository to a folder without it",
            )


def _same_clock(name: str, other: str, now: dt.datetime) -> bool:
    """Return whether two zones have the same offset in each hour of the next three years."""
    if name == other:
        return True
    zones = zone(name, where="schedule"), zone(other, where="this machine")
    hours = (now + dt.timedelta(hours=n) for n in range(3 * 366 * 24))
    return all(len({hour.astimezone(item).utcoffset() for item in zones}) == 1 for hour in hours)


def _title(entry: JobEntry) -> str:
    """Return a one-line title. A backslash at its end would join the next line to it."""
    about = " ".join(_CONTROL.sub(" ", entry.description).split()).rstrip("\\ ")
    return f"workbench job {entry.name}" + (f": {about}" if about else "")


def _heading(entry: JobEntry, now: dt.datetime) -> list[str]:
    """Return comments: the title, the schedule and the next fire times."""
    local = zone(entry.schedule.timezone, where=entry.name)
    return [
        f"# {_title(entry)}",
        f"# Runs at `{entry.schedule.cron}` in {entry.schedule.timezone}. The next times:",
        *(
            f"#   {at.astimezone(local):%a %Y-%m-%d %H:%M %Z} = {at:%a %Y-%m-%d %H:%M} UTC"
            for at in entry.schedule.after(now, _SHOWN)
        ),
    ]


def _left_out(entry: JobEntry, now: dt.datetime) -> list[str]:
    """Return comments: the coming year's runs that systemd leaves out, and a command for the first."""
    lost = entry.schedule.beyond_calendar(now)
    if not lost:
        return []
    shown = ", ".join(f"{at:%Y-%m-%dT%H:%MZ}" for at in lost[:_SHOWN]) + (" …" if lost[_SHOWN:] else "")
    return [
        f"# Where clocks change, systemd leaves out {shown}",
        f"#   To make up for it: workbench jobs run {entry.name} --at {lost[0]:%Y-%m-%dT%H:%MZ}",
    ]


def _cron_word(word: str) -> str:
    """Return a word quoted for the shell and for cron."""
    return word if _PLAIN.fullmatch(word) else f"'{word.translate(_FOR_CRON)}'"


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
