"""A server fires what systemd's own calendar says, over a year with both changes of the clock in five zones.

systemd leaves out what its manual says: a time that the clock skips, and the second of two equal hours. These
are named here, one by one.
"""

from __future__ import annotations

import datetime as dt
import itertools
import os
import re
import shutil
import subprocess

import pytest
from job_servers import House, SetClock
from sizes import SOAK

from workbench.config.operations import JobOperation
from workbench.jobs.schedule import Schedule
from workbench.scheduler.definitions import Definition
from workbench.scheduler.due import Era

pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="no systemd-analyze: apt-get install systemd"
)
DAY, HOUR, SECOND = dt.timedelta(days=1), dt.timedelta(hours=1), dt.timedelta(seconds=1)
ELAPSE = re.compile(r"(?:Next elapse|Iter\. #\d+): \w+ (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC")
#: The changes of 2027 in each zone, forward and back, as the instants of the IANA database's text.
CHANGES = {
    "Europe/Berlin": ("2027-03-28T01:00", "2027-10-31T01:00"),
    "America/New_York": ("2027-03-14T07:00", "2027-11-07T06:00"),
    "Australia/Sydney": ("2027-10-02T16:00", "2027-04-03T16:00"),
    "Australia/Lord_Howe": ("2027-10-02T15:30", "2027-04-03T15:00"),
    "America/Santiago": ("2027-09-05T04:00", "2027-04-04T03:00"),
}
#: A cron line, and the same for systemd.
LINES = {
    "30 2 * * *": "*-*-* 02:30:00",
    "15 0-3 * * *": "*-*-* 00,01,02,03:15:00",
    "*/30 0-4,23 * * *": "*-*-* 00..04,23:00,30:00",
    "0 6 * * 1-5": "Mon..Fri *-*-* 06:00:00",
}


def at(text):
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def spans():
    """The year; in a sample, the day before and after each change."""
    if SOAK:
        return {zone: [(at("2027-01-01"), at("2028-01-01"))] for zone in CHANGES}
    return {
        zone: sorted((at(change) - 18 * HOUR, at(change) + 18 * HOUR) for change in changes)
        for zone, changes in CHANGES.items()
    }


def by_systemd(calendar, zone, first, last):
    """The times from `first` on, before `last`, at which systemd starts a timer."""
    times = int((last - first) / (HOUR / 2)) + 2
    done = subprocess.run(
        [
            "systemd-analyze", "calendar", f"--iterations={times}",
            f"--base-time={first - SECOND:%Y-%m-%d %H:%M:%S} UTC", f"{calendar} {zone}",
        ],
        env={**os.environ, "TZ": "UTC", "LC_ALL": "C"}, capture_output=True, text=True, timeout=100,
        check=True,
    )  # fmt: skip
    found = [at(text) for text in ELAPSE.findall(done.stdout)]
    assert found and (len(found) < times or found[-1] >= last)
    return {moment for moment in found if first <= moment < last}


def left_out(cron, zone):
    """What systemd's manual says that it leaves out, of each line and zone, found with pen and paper."""
    forward, back = map(at, CHANGES[zone])
    half = zone == "Australia/Lord_Howe"
    if cron == "*/30 0-4,23 * * *":  # it follows the clock: once more in the hour that comes twice
        return {back} if half else {back, back + HOUR / 2}
    skipped = {"30 2 * * *": {"Europe/Berlin", "America/New_York", "Australia/Sydney"}}
    skipped["15 0-3 * * *"] = set(CHANGES)
    return {forward} if zone in skipped.get(cron, ()) else set()


def definitions(zone):
    for number, cron in enumerate(LINES):
        schedule = Schedule.parse(cron, zone, where="test")
        yield Definition(
            job=f"job-{number}", role="production", version=1, seconds=60, operation=JobOperation(),
            eras=(Era(start=at("2020-01-01"), schedule=schedule),),
        )  # fmt: skip


def served(folder, zone, first, last):
    """The slots of each cron line that a server starts, which looks whenever one is due."""
    house = House(folder, *definitions(zone), runs=9, clock=SetClock(first - SECOND))
    fired = {cron: [] for cron in LINES}
    house.tick()
    while (upcoming := house.server.firing.next_at()) is not None and upcoming < last:
        house.clock.at = upcoming
        house.tick()
        for run in house.starter.runs:
            fired[list(LINES)[int(run.slot.job[-1])]].append(run.slot.at)
            assert house.clock.at == run.slot.at and run.trigger == "schedule"
            house.starter.end(run)
        house.starter.runs.clear()
    assert not house.server.fault
    house.ledger.close()
    return fired


@pytest.mark.parametrize("zone", CHANGES)
def test_a_server_fires_what_systemd_says_over_both_changes_of_the_clock(tmp_path, zone):
    for number, (first, last) in enumerate(spans()[zone]):
        folder = tmp_path / str(number)
        folder.mkdir()
        fired = served(folder, zone, first, last)
        for cron, calendar in LINES.items():
            theirs = by_systemd(calendar, zone, first, last)
            missing = {moment for moment in left_out(cron, zone) if first <= moment < last}
            assert fired[cron] == sorted(theirs | missing), (cron, zone)
            assert not theirs & missing, (cron, zone)


def test_the_changes_are_those_that_systemd_knows():
    """A timer each minute keeps to UTC until the clock goes back, and then waits for an hour."""
    for zone, (_, back) in CHANGES.items():
        around = sorted(by_systemd("*-*-* *:00,30:00", zone, at(back) - 2 * HOUR, at(back) + 2 * HOUR))
        gaps = [after - before for before, after in itertools.pairwise(around)]
        assert max(gaps) > HOUR / 2 and around[gaps.index(max(gaps))] < at(back), zone
