from __future__ import annotations

import dataclasses
import datetime as dt
import shlex
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from workbench.errors import ConfigError, RefusedError
from workbench.jobs.exports import (
    JobEntry,
    cron,
    to_airflow,
    to_cron,
    to_github,
    to_kubernetes,
    to_systemd,
)
from workbench.jobs.schedule import Schedule

NOW = dt.datetime(2026, 11, 24, 23, tzinfo=dt.UTC)
IN_UTC = Schedule(cron="0 6 * * *")

CRONTAB = """\
# workbench job answers: Answer 100% of this morning's questions
# Runs at `30 2 1 * mon-fri` in Europe/Berlin. The next times:
#   Wed 2026-11-25 02:30 CET = Wed 2026-11-25 01:30 UTC
#   Thu 2026-11-26 02:30 CET = Thu 2026-11-26 01:30 UTC
#   Fri 2026-11-27 02:30 CET = Fri 2026-11-27 01:30 UTC
#   Mon 2026-11-30 02:30 CET = Mon 2026-11-30 01:30 UTC
#   Tue 2026-12-01 02:30 CET = Tue 2026-12-01 01:30 UTC
# The times are right while cron's daemon runs in Europe/Berlin, as this machine says it does.
# To install: type `crontab -e` and add the line below.
# Or, as root: a file /etc/cron.d/workbench-answers with the user's name before `cd`.
# When a run fails, cron mails the last 30 lines of its log to MAILTO.
30 2 1 * 1-5 cd /repo && /bin/mkdir -p .workbench/state/jobs && \
{ /usr/bin/find .workbench/state/jobs/answers.log -size +9999k -exec /bin/mv -f {} {}.1 ';' 2> /dev/null; \
/repo/.venv/bin/workbench jobs run answers >> .workbench/state/jobs/answers.log 2>&1 || \
{ code=$?; /usr/bin/tail -n 30 .workbench/state/jobs/answers.log; exit $code; }; }
"""
SERVICE = """\
# Run by workbench-answers.timer, which says how to install both. \
Its output: journalctl --user -u workbench-answers
[Unit]
Description=workbench job answers: Answer 100%% of this morning's questions
OnFailure=workbench-answers-failed.service

[Service]
Type=oneshot
WorkingDirectory=/repo
ExecStart=:/repo/.venv/bin/workbench jobs run answers
TimeoutStartSec=1920
"""
FAILED = """\
# Started by systemd when workbench-answers.service has failed, also when its process was killed.
# The channels are those of the key `notify` in pipelines/operations.yaml.
[Unit]
Description=report of a failed run of workbench job answers: Answer 100%% of this morning's questions

[Service]
Type=oneshot
WorkingDirectory=/repo
ExecStart=:/repo/.venv/bin/workbench jobs notify answers
TimeoutStartSec=120
"""
TIMER = """\
Description=workbench job answers: Answer 100%% of this morning's questions

[Timer]
OnCalendar=*-*-01 02:30:00 Europe/Berlin
OnCalendar=Mon,Tue,Wed,Thu,Fri *-*-* 02:30:00 Europe/Berlin
AccuracySec=1s
Persistent=true
Unit=workbench-answers.service

[Install]
WantedBy=timers.target
"""


def entry(cron="30 2 1 * mon-fri", timezone="Europe/Berlin", **given):
    plain = JobEntry(
        name="answers",
        root=Path("/repo"),
        command=("/repo/.venv/bin/workbench", "jobs", "run", "answers"),
        failed=("/repo/.venv/bin/workbench", "jobs", "notify", "answers"),
        schedule=Schedule.parse(cron, timezone, where="params.yaml"),
        seconds=1800,
        description="Answer 100% of\n this morning's questions \\",
    )
    return dataclasses.replace(plain, **given)


def line_of(crontab):
    """The one line that is no comment."""
    (line,) = (line for line in crontab.splitlines() if not line.startswith("#"))
    return line


def test_a_crontab_says_what_it_is_when_it_runs_and_how_to_install_it():
    assert to_cron(entry(), system_timezone="Europe/Berlin", now=NOW) == CRONTAB


def test_units_say_what_they_are_when_they_run_and_how_to_install_them():
    units = to_systemd(entry(), now=NOW)
    assert units["workbench-answers.service"] == SERVICE
    assert units["workbench-answers-failed.service"] == FAILED
    comments, settings = units["workbench-answers.timer"].split("[Unit]\n")
    assert settings == TIMER
    assert "#   Tue 2026-12-01 02:30 CET = Tue 2026-12-01 01:30 UTC\n" in comments
    assert (
        "systemctl --user daemon-reload && systemctl --user enable --now workbench-answers.timer" in comments
    )
    assert all(line.startswith("#") for line in comments.splitlines())


def test_a_timer_names_the_runs_that_systemd_leaves_out_and_how_to_make_up_for_them():
    timer = to_systemd(entry("30 2 * * *"), now=NOW)["workbench-answers.timer"]
    assert "# Where clocks change, systemd leaves out 2027-03-28T01:00Z\n" in timer
    assert "workbench jobs run answers --at 2027-03-28T01:00Z\n" in timer
    every_minute = to_systemd(entry("* * * * *"), now=NOW)["workbench-answers.timer"]
    assert "2027-10-31T01:00Z, 2027-10-31T01:01Z, 2027-10-31T01:02Z, 2027-10-31T01:03Z, " in every_minute
    assert "2027-10-31T01:04Z …\n" in every_minute
    assert "leaves out" not in to_systemd(entry("30 6 * * *"), now=NOW)["workbench-answers.timer"]


def as_debian(command):
    """What Debian's cron makes of a command: it takes a backslash away before `%` and another backslash."""
    read, rest = "", iter(command)
    for sign in rest:
        assert sign != "%", "the rest would be standard input"
        following = next(rest, "") if sign == "\\" else ""
        read += following if following in {"%", "\\"} else sign + following
    return read


def as_vixie(command):
    """What the crons make of it that leave every backslash to the shell."""
    assert "%" not in command.replace("\\%", "")
    return command


WORDS = st.text(st.sampled_from("ab/ %\\'\"$`;&|*?~#=!{}é<>()"), min_size=1, max_size=12)


@given(WORDS, WORDS)
@example("100%", "\\%")
@example("\\\\", "%%")
@example("it's \\'", "'%'")
def test_every_path_reaches_the_shell_whole_through_every_cron(folder, program):
    awkward = entry(root=Path("/" + folder), command=("/" + program, "jobs"))
    line = line_of(to_cron(awkward, system_timezone="Europe/Berlin", now=NOW))
    command = line.removeprefix("30 2 1 * 1-5 ")
    for read in (as_debian(command), as_vixie(command)):
        words = shlex.split(read)
        assert words[:2] == ["cd", str(awkward.root)]
        assert words[words.index("/dev/null;") + 1 :][:2] == ["/" + program, "jobs"]


def test_the_variables_of_a_run_are_named_and_read_from_a_file_of_their_own():
    keyed = entry(variables=("MY_KEY", "OPENAI_API_KEY"))
    crontab = to_cron(keyed, system_timezone="Europe/Berlin", now=NOW)
    assert "# A run reads MY_KEY, OPENAI_API_KEY from ~/.config/workbench/answers.env:\n" in crontab
    assert ' && set -a && . "$HOME/.config/workbench/answers.env" && set +a && { ' in line_of(crontab)
    units = to_systemd(keyed, now=NOW)
    for name in ("workbench-answers.service", "workbench-answers-failed.service"):
        assert "# Holds MY_KEY, OPENAI_API_KEY: " in units[name]
        assert "\nEnvironmentFile=%E/workbench/answers.env\nExecStart=" in units[name]
    assert "Environment" not in "".join(to_systemd(entry(), now=NOW).values())


def test_what_systemd_reads_as_something_else_is_escaped():
    units = to_systemd(entry(root=Path("/a %b"), command=("/a %b/$w", "x;", 'say "\\"', "-p=1")), now=NOW)
    service = units["workbench-answers.service"]
    assert "\nWorkingDirectory=/a %%b\n" in service
    assert '\nExecStart=:"/a %%b/$w" "x;" "say \\"\\\\\\"" -p=1\n' in service


def test_a_program_whose_name_systemd_does_not_take_is_started_by_a_shell():
    service = to_systemd(entry(command=("/it's/w", "jobs")), now=NOW)["workbench-answers.service"]
    assert '\nExecStart=:/bin/sh -c "exec \\"$@\\"" sh "/it\'s/w" jobs\n' in service


def test_cron_is_refused_another_zone_than_the_machines_and_told_what_to_do():
    with pytest.raises(
        RefusedError, match=r"in Europe/Berlin, and this machine's cron reads them in UTC"
    ) as caught:
        to_cron(entry(), system_timezone="UTC", now=NOW)
    assert caught.value.hint.startswith("workbench jobs export answers --to systemd")
    assert to_systemd(entry(), now=NOW)


@pytest.mark.parametrize(
    ("wanted", "system", "same"),
    [
        ("UTC", "Etc/UTC", True),
        ("Europe/Berlin", "Europe/Oslo", True),
        ("America/New_York", "US/Eastern", True),
        ("Europe/London", "UTC", False),
        ("Europe/Berlin", "Africa/Lagos", False),
        ("America/New_York", "America/Havana", False),  # the same days, at other hours
    ],
)
def test_two_names_of_one_clock_are_one_zone(wanted, system, same):
    asked = entry("0 6 * * *", wanted)
    if same:
        assert line_of(to_cron(asked, system_timezone=system, now=NOW)).startswith("0 6 * * * cd ")
    else:
        with pytest.raises(RefusedError, match=system):
            to_cron(asked, system_timezone=system, now=NOW)


def test_a_command_that_debians_cron_would_skip_is_refused():
    def crontab(n):
        return to_cron(entry(root=Path("/" + "é" * n)), system_timezone="Europe/Berlin", now=NOW)

    spare = 998 - len(line_of(crontab(1)).removeprefix("30 2 1 * 1-5 ").encode())
    assert crontab(1 + spare // 2)
    with pytest.raises(RefusedError, match="longer than the 998 bytes") as caught:
        crontab(2 + spare // 2)
    assert "--to systemd" in caught.value.hint


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"root": Path("/a\nb")}, "cannot be quoted"),
        ({"root": Path("/a\udcffb")}, "cannot be quoted"),
        ({"command": ("/w", "jobs\r")}, "cannot be quoted"),
        ({"failed": ("/w", "jobs\n")}, "cannot be quoted"),
        ({"variables": ("KEY\nExecStart=/bin/false",)}, "cannot name an environment variable"),
        ({"variables": ("A-B",)}, "cannot name an environment variable"),
    ],
)
def test_what_no_file_can_carry_is_refused(given, said):
    for make in (
        lambda one: to_cron(one, system_timezone="Europe/Berlin", now=NOW),
        lambda one: to_systemd(one, now=NOW),
        lambda one: to_kubernetes(one, now=NOW),
        lambda one: to_github(dataclasses.replace(one, schedule=IN_UTC), now=NOW),
        lambda one: to_airflow(one, now=NOW),
    ):
        with pytest.raises(RefusedError, match=said) as caught:
            make(entry(**given))
        assert caught.value.hint


@pytest.mark.parametrize("folder", ["/a ", "/a\\"])
def test_a_folder_that_systemd_would_misread_is_refused_to_it_alone(folder):
    with pytest.raises(RefusedError, match="systemd cannot read a folder"):
        to_systemd(entry(root=Path(folder)), now=NOW)
    assert to_cron(entry(root=Path(folder)), system_timezone="Europe/Berlin", now=NOW)


def test_a_description_cannot_add_a_line():
    wicked = entry(description="x\n* * * * * rm\r\n[Service]\u2028ExecStart=/bin/false\\\\")
    assert line_of(to_cron(wicked, system_timezone="Europe/Berlin", now=NOW)).startswith("30 2 ")
    for text in to_systemd(wicked, now=NOW).values():
        (title,) = (line for line in text.splitlines() if line.startswith("Description="))
        assert title.endswith("x * * * * * rm [Service] ExecStart=/bin/false")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of which nothing says its zone."""
    monkeypatch.delenv("TZ", raising=False)
    monkeypatch.setattr(cron, "_LOCALTIME", tmp_path / "localtime")
    monkeypatch.setattr(cron, "_TIMEZONE", tmp_path / "timezone")
    return tmp_path


def test_a_machine_that_says_nothing_is_in_utc(machine):
    assert cron.system_timezone() == "UTC"


@pytest.mark.parametrize(
    "told",
    [
        "Europe/Berlin",
        ":Europe/Berlin",
        "/usr/share/zoneinfo/Europe/Berlin",
        ":/usr/share/zoneinfo/Europe/Berlin",
    ],
)
def test_the_zone_is_that_of_tz_before_any_file(machine, monkeypatch, told):
    (machine / "localtime").symlink_to("/usr/share/zoneinfo/Asia/Tokyo")
    monkeypatch.setenv("TZ", told)
    assert cron.system_timezone() == "Europe/Berlin"


def test_the_link_says_it_before_the_text_which_may_be_old(machine):
    (machine / "timezone").write_text("Asia/Tokyo\n")
    (machine / "localtime").write_bytes(b"TZif")
    assert cron.system_timezone() == "Asia/Tokyo"
    (machine / "localtime").unlink()
    (machine / "localtime").symlink_to("/usr/share/zoneinfo/Europe/Madrid")
    assert cron.system_timezone() == "Europe/Madrid"


def test_a_clock_without_a_name_is_an_error_that_says_how_to_name_it(machine, monkeypatch):
    (machine / "localtime").write_bytes(b"TZif")
    with pytest.raises(ConfigError, match="does not say which time zone") as caught:
        cron.system_timezone()
    assert "TZ=Europe/Berlin" in caught.value.hint
    monkeypatch.setenv("TZ", "CET-1CEST")
    with pytest.raises(ConfigError, match="TZ: there is no time zone"):
        cron.system_timezone()
