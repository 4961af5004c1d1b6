"""What fires between two looks at the clock: a year in five zones, and what was missed."""

from __future__ import annotations

import datetime as dt
import functools
import random
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from sizes import drawn

from workbench.config.operations import JobOperation
from workbench.jobs.schedule import Schedule
from workbench.scheduler.due import MOST_MISSED, Era, Timetable, between, decide

HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)
#: Changes of an hour in spring and in autumn, in the other order, of half an hour, and none.
ZONES = ["Europe/Berlin", "America/New_York", "Australia/Sydney", "Australia/Lord_Howe", "UTC"]
#: A line, its minutes, hours and days of the week (Sunday is 0), and whether it follows the clock.
LINES = [
    ("30 2 * * *", {30}, {2}, set(range(7)), False),
    ("*/20 0-3 * * *", {0, 20, 40}, {0, 1, 2, 3}, set(range(7)), True),
    ("15 1-3 * * 0,1", {15}, {1, 2, 3}, {0, 1}, False),
    ("0 6 * * 1-5", {0}, {6}, {1, 2, 3, 4, 5}, False),
]
YEAR = dt.datetime(2027, 1, 1, tzinfo=dt.UTC)


def at(text):
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def daily(cron="0 6 * * *", timezone="UTC"):
    return Schedule.parse(cron, timezone, where="test")


def timetable(schedule, since):
    return Timetable([Era(start=since - DAY, schedule=schedule)], since)


@functools.cache
def wall_minutes(zone, minutes):
    """What the clock of a zone shows at each minute of the year, in minutes since 1970: zoneinfo alone."""
    local = ZoneInfo(zone)
    begin = int(YEAR.timestamp()) // 60
    offsets = [
        int((YEAR + dt.timedelta(minutes=n)).astimezone(local).utcoffset().total_seconds()) // 60
        for n in range(-1440, minutes, 10)  # no clock changes within ten minutes
    ]
    return begin - 1440 + np.arange(minutes + 1440) + np.repeat(offsets, 10)[: minutes + 1440]


def by_brute_force(zone, line, minutes):
    """Every minute at which Debian's cron would start a line: found by looking at the clock each minute."""
    _, at_minutes, at_hours, weekdays, follows_clock = line

    def fires(wall):
        weekday = (wall // 1440 + 4) % 7  # 1 January 1970 was a Thursday
        parts = [(wall % 60, at_minutes), (wall // 60 % 24, at_hours), (weekday, weekdays)]
        return np.logical_and.reduce([np.isin(part, list(values)) for part, values in parts])

    wall = wall_minutes(zone, minutes)
    due = fires(wall)
    if not follows_clock:
        # The second of two equal hours shows what was shown; the end of a skipped hour makes up for it.
        due &= wall > np.concatenate([[wall[0] - 1], np.maximum.accumulate(wall)[:-1]])
        for place in np.flatnonzero(np.diff(wall) > 1):
            due[place + 1] |= fires(np.arange(wall[place] + 1, wall[place + 1])).any()
    return [YEAR + dt.timedelta(minutes=int(n)) for n in np.flatnonzero(due[1440:])]


@pytest.mark.parametrize("zone", ZONES)
def test_a_year_fires_what_one_who_looks_at_the_clock_each_minute_finds(zone):
    looks = random.Random(zone)
    minutes = 365 * 1440
    for line in drawn(LINES, 2):
        table = timetable(daily(line[0], zone), YEAR - dt.timedelta(seconds=1))
        now, fired = YEAR, []
        while now < YEAR + dt.timedelta(minutes=minutes - 1):
            now = min(now + looks.uniform(0.2, 9) * HOUR, YEAR + dt.timedelta(minutes=minutes - 1))
            found = table.until(now, JobOperation(catch_up="all"))
            table.advance()
            assert {due.firing for due in found} <= {"schedule", "catch_up"}
            fired += [due.at for due in found]
        assert fired == by_brute_force(zone, line, minutes)


@pytest.mark.parametrize(
    ("catch_up", "firings"),
    [
        ("none", ["missed", "missed", "missed"]),
        ("latest", ["missed", "missed", "catch_up"]),
        ("all", ["missed", "catch_up", "catch_up"]),
    ],
)
def test_three_missed_days_are_caught_up_as_the_operation_states(catch_up, firings):
    table = timetable(daily(), at("2026-11-20T06:00"))
    operation = JobOperation(catch_up=catch_up, start_deadline_s=2 * 86_400)
    found = table.until(at("2026-11-23T09:00"), operation)
    assert [due.at for due in found] == [at(f"2026-11-{day}T06:00") for day in (21, 22, 23)]
    assert [due.firing for due in found] == firings
    assert all(bool(due.detail) == (due.firing == "missed") for due in found)


@pytest.mark.parametrize("catch_up", ["none", "latest", "all"])
def test_a_slot_on_time_starts_and_latest_then_starts_no_older_one(catch_up):
    times = (at("2026-11-23T07:00"), at("2026-11-23T08:00"))
    found = decide(times, now=at("2026-11-23T08:00:30"), operation=JobOperation(catch_up=catch_up))
    assert found[1].firing == "schedule"
    assert found[0].firing == ("catch_up" if catch_up == "all" else "missed")


def test_a_deadline_shorter_than_being_on_time_is_kept():
    times = (at("2026-11-23T08:00"),)
    operation = JobOperation(start_deadline_s=10)
    assert decide(times, now=at("2026-11-23T08:00:09"), operation=operation)[0].firing == "schedule"
    missed = decide(times, now=at("2026-11-23T08:00:11"), operation=operation)[0]
    assert missed.firing == "missed" and "start_deadline_s" in missed.detail


def test_a_clock_that_steps_a_day_back_fires_nothing_again_and_a_day_forward_fires_all():
    table, operation = timetable(daily("0 * * * *"), at("2026-11-23T06:30")), JobOperation(catch_up="all")
    assert [due.at.hour for due in table.until(at("2026-11-23T08:10"), operation)] == [7, 8]
    table.advance()
    for hour in range(8):
        assert not table.until(at(f"2026-11-22T{hour:02}:05"), operation)
        table.advance()
    assert table.next == at("2026-11-23T09:00")
    ahead = table.until(at("2026-11-24T08:10"), operation)
    assert len(ahead) == 24 and ahead[0].at == at("2026-11-23T09:00")


def test_what_was_not_advanced_is_returned_again_and_judged_by_the_new_time():
    table, operation = timetable(daily(), at("2026-11-23T05:00")), JobOperation(catch_up="none")
    assert [due.firing for due in table.until(at("2026-11-23T06:00:01"), operation)] == ["schedule"]
    assert [due.firing for due in table.until(at("2026-11-23T06:10"), operation)] == ["missed"]
    table.advance()
    assert not table.until(at("2026-11-23T06:11"), operation)
    assert table.next == at("2026-11-24T06:00")


def test_more_missed_slots_than_have_lines_are_counted_on_the_oldest_line():
    table = timetable(daily("* * * * *"), at("2026-11-20T00:00"))
    found = table.until(at("2026-11-21T00:00"), JobOperation(catch_up="latest"))
    assert len(found) == MOST_MISSED and found[-1].at == at("2026-11-21T00:00")
    assert found[0].firing == "missed" and f"{1440 - MOST_MISSED} slots before" in found[0].detail


def test_a_changed_schedule_fires_its_own_times_after_the_move_and_the_former_ones_before_it():
    eras = [
        Era(start=at("2026-11-01T00:00"), schedule=daily("0 6 * * *")),
        Era(start=at("2026-11-22T12:00"), schedule=daily("0 18 * * *")),
    ]
    table = Timetable(eras, at("2026-11-20T07:00"))
    found = table.until(at("2026-11-23T19:00"), JobOperation(catch_up="all", start_deadline_s=10 * 86_400))
    assert [f"{due.at:%d %H}" for due in found] == ["21 06", "22 06", "22 18", "23 18"]


def test_a_definition_without_a_schedule_has_no_next_time():
    table = Timetable([Era(start=YEAR, schedule=None)], YEAR)
    assert table.next is None and not table.until(YEAR + 365 * DAY, JobOperation())


def test_the_slots_of_a_backfill_include_both_ends_and_are_bounded():
    schedule = daily()
    assert len(between(schedule, at("2026-11-01T06:00"), at("2026-11-10T06:00"), most=100)) == 10
    assert len(between(schedule, at("2026-11-01T06:00"), at("2026-11-10T05:59"), most=100)) == 9
    assert len(between(schedule, at("2000-01-01T00:00"), at("2026-11-10T05:59"), most=100)) == 100
