"""What is exported, as those who read it do: systemd's own parser, and a shell as cron starts it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from workbench.errors import ConfigError
from workbench.jobs.exports import JobEntry, to_cron, to_systemd
from workbench.jobs.schedule import Schedule

systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="no systemd-analyze: apt-get install systemd"
)
NOW = dt.datetime(2026, 11, 24, 23, tzinfo=dt.UTC)
AWKWARD = 'it\'s 100% "odd" $HOME \\n `x` é;&'
SCRIPT = """#!/bin/sh
printf '%s\\n' "$PWD" "$@"
echo "to stderr" >&2
exit 7
"""
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "Asia/Kathmandu"]
FIELDS = [
    ["0", "7", "*/15", "5,35", "10-50/20", "*"],
    ["0", "6", "2,3", "*/4", "9-17", "*"],
    ["*", "1", "13,31", "*/7", "20-31/3"],
    ["*", "2", "jan,jul", "3-11/4", "*/5"],
    ["*", "0", "7", "mon-fri", "*/2", "sat,2", "0-6"],
]
ELAPSE = re.compile(r"(?:Next elapse|Iter\. #\d+): \w+ (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC")


def job(folder, cron="0 6 * * *"):
    """A job whose program, in a folder of an awkward name, writes down how it was called."""
    root = folder / AWKWARD
    program = root / "bin" / "work bench"
    program.parent.mkdir(parents=True)
    program.write_text(SCRIPT)
    program.chmod(0o755)
    return JobEntry(
        name="answers",
        root=root,
        command=(str(program), "jobs", "run", "answers", AWKWARD),
        schedule=Schedule.parse(cron, "Europe/Berlin", where="params.yaml"),
        seconds=600,
        description=AWKWARD,
        failed=(str(program), "jobs", "notify", AWKWARD),
        variables=("KEY",),
    )


def analyze(*words):
    done = subprocess.run(
        ["systemd-analyze", *words],
        env={**os.environ, "TZ": "UTC", "LC_ALL": "C"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def verified(folder, units):
    """What systemd says against the units: nothing, when it accepts them."""
    for name, text in units.items():
        (folder / name).write_text(text)
    code, said = analyze("verify", *(str(folder / name) for name in units))
    return (code, *(line for line in said.splitlines() if "answers" in line))


@systemd
@pytest.mark.parametrize("cron", ["0 6 * * *", "*/5 8-18 1,15 1-6 mon-fri"])
def test_systemd_accepts_the_units_of_a_job_at_an_awkward_path(tmp_path, cron):
    entry = job(tmp_path, cron)
    assert verified(tmp_path, to_systemd(entry, now=NOW)) == (0,)
    Path(entry.command[0]).unlink()
    plain = JobEntry(
        name="answers",
        root=entry.root,
        command=("/no such/100% $HOME",),
        schedule=entry.schedule,
        seconds=600,
    )
    code, *said = verified(tmp_path, to_systemd(plain, now=NOW))
    assert code == 1 and "Command /no such/100% $HOME is not executable" in said[0]


@systemd
@settings(max_examples=40)
@given(st.text(st.sampled_from("ab %$\"'\\;:@!|#=é{}"), min_size=1, max_size=12))
@example('"%%\\\\"')
def test_systemd_reads_a_word_as_it_was_meant(tmp_path_factory, word):
    """Its complaint about a program that is not there, or that it does not take, quotes what it read."""
    program = f"/none {word}."
    service = to_systemd(
        JobEntry(
            name="answers",
            root=Path("/"),
            command=("/bin/sh", program),
            schedule=Schedule(cron="0 6 * * *"),
            seconds=1,
        ),
        now=NOW,
    )["workbench-answers.service"]
    assert "ExecStart=:/bin/sh " in service
    service = service.replace("ExecStart=:/bin/sh ", "ExecStart=:")
    code, *said = verified(tmp_path_factory.mktemp("units"), {"workbench-answers.service": service})
    assert code == 1 and any(f" {program}" in line for line in said), said


def calendar(lines, since, n):
    """The next `n` times at which systemd would start any of the lines."""
    base = f"--base-time={since:%Y-%m-%d %H:%M:%S} UTC"
    found = set()
    for line in lines:
        code, said = analyze("calendar", f"--iterations={n}", base, line)
        assert code == 0, said
        found.update(dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC) for text in ELAPSE.findall(said))
    return sorted(found)[:n]


@systemd
@settings(max_examples=60)
@given(
    st.tuples(*map(st.sampled_from, FIELDS)),
    st.sampled_from(ZONES),
    st.datetimes(dt.datetime(2026, 1, 1), dt.datetime(2029, 1, 1)),  # noqa: DTZ001  hypothesis wants them so
)
@example(("0", "2,3", "*", "*", "*"), "Europe/Berlin", dt.datetime(2027, 3, 27, 12))  # noqa: DTZ001
@example(("*/15", "*", "*", "*", "*"), "Europe/Berlin", dt.datetime(2027, 10, 31, 0, 50))  # noqa: DTZ001
@example(("5,35", "*", "*", "*", "*"), "Australia/Lord_Howe", dt.datetime(2027, 4, 3, 13))  # noqa: DTZ001
def test_systemd_fires_when_the_schedule_does_but_for_the_runs_it_is_known_to_leave_out(fields, zone, since):
    since = since.replace(tzinfo=dt.UTC, second=0, microsecond=0)
    try:
        schedule = Schedule.parse(" ".join(fields), zone, where="params.yaml")
    except ConfigError:
        assume(False)
    lost = set(schedule.beyond_calendar(since))
    ours = [at for at in schedule.after(since, 70) if at not in lost and at < since + dt.timedelta(days=365)]
    theirs = calendar(schedule.calendar(), since, 6)
    for mine, other in itertools.zip_longest(ours[:6], theirs):
        assert mine == other or (mine is None and other >= since + dt.timedelta(days=365))


@systemd
def test_systemd_still_leaves_out_what_a_timer_says_it_does():
    """Otherwise the comment in a timer would be wrong."""
    fixed = Schedule.parse("30 2 * * *", "Europe/Berlin", where="params.yaml")
    spring = dt.datetime(2027, 3, 27, 12, tzinfo=dt.UTC)
    assert fixed.after(spring, 2)[1:] == calendar(fixed.calendar(), spring, 1)
    often = Schedule.parse("*/30 * * * *", "Europe/Berlin", where="params.yaml")
    autumn = dt.datetime(2027, 10, 31, 0, 10, tzinfo=dt.UTC)
    assert often.after(autumn, 4)[0::3] == calendar(often.calendar(), autumn, 2)


def taken_by_cron(command):
    """The command that Debian's cron hands to the shell: up to the first `%` that no backslash guards."""
    read = re.sub(r"\\([%\\])|\\|%.*", lambda match: match[1] or ("\\" if match[0] == "\\" else ""), command)
    assert read.count("%") == command.count("\\%")
    return read


def test_the_line_of_a_crontab_runs_the_job_in_crons_bare_environment(tmp_path):
    entry = dataclasses.replace(job(tmp_path), variables=())
    (line,) = (
        line
        for line in to_cron(entry, system_timezone="Europe/Berlin", now=NOW).splitlines()
        if not line.startswith("#")
    )
    assert line.startswith("0 6 * * * cd ")
    command = taken_by_cron(line.removeprefix("0 6 * * * "))
    environment = ("HOME=/", "SHELL=/bin/sh", "PATH=/usr/bin:/bin", "LOGNAME=x")
    bare = ["env", "-i", *environment, "/bin/sh", "-c", command]
    log = entry.root / ".workbench/state/jobs/answers.log"
    written = f"{entry.root}\njobs\nrun\nanswers\n{AWKWARD}\nto stderr\n"
    for times in (1, 2):
        done = subprocess.run(bare, cwd="/", capture_output=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (7, b"")
        assert done.stdout.decode() == log.read_text() == written * times, "cron mails the end of the log"
    log.write_bytes(b"x" * 10_300_000)
    for _ in range(2):  # the second one finds a log that is small again
        subprocess.run(bare, cwd="/", capture_output=True, timeout=60, check=False)
    assert log.read_text() == written * 2 and log.with_name("answers.log.1").stat().st_size == 10_300_000


def test_the_line_of_a_crontab_reads_the_variables_of_its_file_and_says_when_there_is_none(tmp_path):
    entry = dataclasses.replace(job(tmp_path), variables=("KEY",), command=("/usr/bin/env",))
    text = to_cron(entry, system_timezone="Europe/Berlin", now=NOW)
    command = taken_by_cron(text.splitlines()[-1].removeprefix("0 6 * * * "))
    log = entry.root / ".workbench/state/jobs/answers.log"
    bare = ["env", "-i", f"HOME={tmp_path}", "PATH=/usr/bin:/bin", "/bin/sh", "-c", command]
    refused = subprocess.run(bare, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode and "answers.env" in refused.stderr and not log.exists()
    (tmp_path / ".config/workbench").mkdir(parents=True)
    (tmp_path / ".config/workbench/answers.env").write_text("KEY='a $secret'\n")
    done = subprocess.run(bare, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, ""), "cron mails nothing of a run that went well"
    assert "KEY=a $secret" in log.read_text().splitlines()
