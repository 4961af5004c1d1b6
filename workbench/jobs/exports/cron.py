"""Export a job's schedule as a crontab.

Every character of a path is quoted. A quote or a percent sign follows each backslash, so that crons read the
same whether or not they remove backslashes.
"""

from __future__ import annotations

import datetime as dt
import os
import re
from pathlib import Path

from workbench.errors import ConfigError, RefusedError
from workbench.jobs.exports.dialect import same_clock
from workbench.jobs.exports.entry import JobEntry
from workbench.jobs.schedule import zone

_LOCALTIME = Path("/etc/localtime")
_TIMEZONE = Path("/etc/timezone")
_PLAIN = re.compile(r"[A-Za-z0-9_./=@+,-]+")
_FOR_CRON = str.maketrans({"'": "'\"'\"'", "\\": "\\''", "%": "'\\%'"})
#: Bytes of the longest command; Debian's cron skips a longer one without a message.
_LONGEST = 998
#: Lines of the log that cron mails when a run failed.
_MAILED = 30
#: Kilobytes above which a run begins a new log; the one before is kept until the next time.
_MOST_LOG_KB = 9_999


def to_cron(entry: JobEntry, *, system_timezone: str, now: dt.datetime) -> str:
    """Return the text of a crontab: comments on its times and installation, and one line."""
    entry.check()
    wanted = entry.schedule.timezone
    if not same_clock(wanted, system_timezone, now):
        raise RefusedError(
            f"job {entry.name}: its times are in {wanted}, and this machine's cron reads them in"
            f" {system_timezone} (Debian's cron ignores CRON_TZ)",
            hint=f"workbench jobs export {entry.name} --to systemd"
            f"   (or give its times in {system_timezone})",
        )
    command = _command(entry)
    if len(command.encode()) > _LONGEST:
        raise RefusedError(
            f"job {entry.name}: its command is longer than the {_LONGEST} bytes that cron takes",
            hint=f"workbench jobs export {entry.name} --to systemd",
        )
    lines = [
        *entry.heading(now),
        f"# The times are right while cron's daemon runs in {system_timezone}, as this machine says it does.",
        "# To install: type `crontab -e` and add the line below.",
        f"# Or, as root: a file /etc/cron.d/workbench-{entry.name} with the user's name before `cd`.",
        f"# When a run fails, cron mails the last {_MAILED} lines of its log to MAILTO.",
        *_variables(entry),
        f"{entry.schedule.numeric()} {command}",
    ]
    return "\n".join(lines) + "\n"


def _command(entry: JobEntry) -> str:
    """Return the shell command of the line; its output goes into a log, and its exit code is the run's.

    A log that is large is renamed first: what still runs writes on into the renamed one.
    """
    log = f".workbench/state/jobs/{entry.name}.log"
    run = " ".join(_cron_word(word) for word in entry.command)
    start = f"cd {_cron_word(str(entry.root))} && /bin/mkdir -p .workbench/state/jobs"
    if entry.variables:
        start += f' && set -a && . "$HOME/.config/workbench/{entry.name}.env" && set +a'
    # cron's PATH is unknown: every program has its whole path.
    mailed = f"code=$?; /usr/bin/tail -n {_MAILED} {log}; exit $code"
    renamed = f"/usr/bin/find {log} -size +{_MOST_LOG_KB}k -exec /bin/mv -f {{}} {{}}.1 ';' 2> /dev/null"
    return f"{start} && {{ {renamed}; {run} >> {log} 2>&1 || {{ {mailed}; }}; }}"


def _variables(entry: JobEntry) -> list[str]:
    """Return comments on the file of the variables that a run reads."""
    if not entry.variables:
        return []
    return [
        f"# A run reads {', '.join(entry.variables)} from ~/.config/workbench/{entry.name}.env:",
        "#   one NAME='value' in each line; chmod 600. Without the file, no run starts.",
    ]


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


def _cron_word(word: str) -> str:
    """Return a word quoted for the shell and for cron."""
    return word if _PLAIN.fullmatch(word) else f"'{word.translate(_FOR_CRON)}'"
