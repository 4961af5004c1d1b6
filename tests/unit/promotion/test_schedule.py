from __future__ import annotations

import datetime as dt
import itertools
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from workbench.errors import ConfigError
from workbench.jobs.schedule import Schedule

MINUTE = dt.timedelta(minutes=1)
DAY = dt.timedelta(days=1)
MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
WEEKDAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
#: Days around which a clock changes: by an hour, by half of one, by two, at midnight, and before it.
CHANGES = [
    ("Europe/Berlin", dt.date(2027, 3, 28)),
    ("Europe/Berlin", dt.date(2027, 10, 31)),
    ("America/New_York", dt.date(2027, 11, 7)),
    ("Australia/Lord_Howe", dt.date(2027, 4, 4)),
    ("Australia/Lord_Howe", dt.date(2027, 10, 3)),
    ("Antarctica/Troll", dt.date(2027, 3, 28)),
    ("Antarctica/Troll", dt.date(2027, 10, 31)),
    ("Africa/Cairo", dt.date(2027, 4, 30)),
    ("Africa/Cairo", dt.date(2027, 10, 29)),
    ("America/Scoresbysund", dt.date(2027, 3, 28)),
    ("America/Scoresbysund", dt.date(2027, 10, 31)),
    ("Asia/Kathmandu", dt.date(2027, 5, 1)),
]


def schedule(cron, timezone="UTC"):
    return Schedule.parse(cron, timezone, where="params.yaml")


def utc(text):
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def short(times):
    return [f"{at:%m-%d %H:%M}" for at in times]


@st.composite
def fields(draw, low, high, names=()):
    """A field's text, and the values it stands for."""

    def written(value):
        named = names and value - low < len(names) and draw(st.booleans())
        return names[value - low] if named else f"{value}"

    if draw(st.booleans()):
        step = draw(st.integers(1, high - low))
        return draw(st.sampled_from(["*", f"*/{step}"])) if step == 1 else f"*/{step}", set(
            range(low, high + 1, step)
        )
    texts, values = [], set()
    for _ in range(draw(st.integers(1, 3))):
        first, last = sorted(draw(st.tuples(st.integers(low, high), st.integers(low, high))))
        step = draw(st.integers(1, max(last - first, 1)))
        text = written(first)
        if last > first:
            text += f"-{written(last)}" + (f"/{step}" if step > 1 else "")
        texts.append(text)
        values.update(range(first, last + 1, step))
    return ",".join(texts), values


@st.composite
def crons(draw):
    """A cron line, and whether it fires when the clock shows a given time: Debian's rules, written anew."""
    bounds = [(0, 59), (0, 23), (1, 31), (1, 12, MONTHS), (0, 7, WEEKDAYS)]
    drawn = [draw(fields(*bound)) for bound in bounds]
    texts, (minutes, hours, days, months, weekdays) = zip(*drawn, strict=True)
    assume(min(days) <= 28)
    weekdays = {day % 7 for day in weekdays}
    either = texts[2][0] != "*" and texts[4][0] != "*"

    def fires(wall):
        of_month, of_week = wall.day in days, (wall.weekday() + 1) % 7 in weekdays
        day = (of_month or of_week) if either else (of_month and of_week)
        return day and wall.month in months and wall.hour in hours and wall.minute in minutes

    return " ".join(texts), fires, "*" in {texts[0][0], texts[1][0]}


def minute_by_minute(fires, follows_clock, zone, first, last):
    """What Debian's cron starts between two instants, found by looking at the clock each minute."""
    found, at = [], first
    while at <= last:
        local, before = at.astimezone(zone), (at - MINUTE).astimezone(zone)
        due = fires(local) and (follows_clock or local.fold == 0)
        jump = local.replace(tzinfo=None) - before.replace(tzinfo=None)
        if not follows_clock and jump > MINUTE:
            due = due or any(fires(before + n * MINUTE) for n in range(1, jump // MINUTE))
        if due:
            found.append(at)
        at += MINUTE
    return found


@given(crons(), st.sampled_from(CHANGES))
@example(("30 2 * * *", lambda wall: (wall.hour, wall.minute) == (2, 30), False), CHANGES[0])
@example(("0,30 0 * * *", lambda wall: wall.hour == 0 and wall.minute in {0, 30}, False), CHANGES[7])
@example(("*/10 3 * * *", lambda wall: wall.hour == 3 and wall.minute % 10 == 0, True), CHANGES[3])
@example(("*/30 23 * * *", lambda wall: wall.hour == 23 and wall.minute % 30 == 0, True), CHANGES[10])
def test_it_fires_as_one_who_looks_at_the_clock_each_minute_would(drawn, change):
    cron, fires, follows_clock = drawn
    timezone, day = change
    zone = ZoneInfo(timezone)
    first = dt.datetime.combine(day - DAY, dt.time(20), dt.UTC)
    last = first + 1.4 * DAY
    expected = minute_by_minute(fires, follows_clock, zone, first, last)
    found = schedule(cron, timezone).after(first - MINUTE, len(expected) + 1)
    assert found[:-1] == expected and found[-1] > last


@given(crons(), st.sampled_from(CHANGES), st.integers(-2000, 3000), st.integers(0, 59))
def test_before_and_after_and_the_days_are_one_sequence(drawn, change, minutes, seconds):
    cron, timezone, day = drawn[0], *change
    one = schedule(cron, timezone)
    moment = dt.datetime.combine(day, dt.time(), dt.UTC) + dt.timedelta(minutes=minutes, seconds=seconds)
    last, (following, *_) = one.before(moment), one.after(moment, 3)
    assert last <= moment < following and last.tzinfo is following.tzinfo is dt.UTC
    assert one.before(last) == last and one.before(following) == following
    assert one.after(last, 1) == [following]
    days = [one.on(day + n * DAY) for n in range(-1, 3)]
    zone = ZoneInfo(timezone)
    assert all(at.astimezone(zone).date() == day + n * DAY for n, ats in enumerate(days, -1) for at in ats)
    together = list(itertools.chain(*days))
    midnight = dt.datetime.combine(day - DAY, dt.time(), zone).astimezone(dt.UTC)
    assert together == one.after(midnight - MINUTE, len(together))


@pytest.mark.parametrize(
    ("cron", "spring", "autumn"),
    [
        ("30 2 * * *", ["03-28 01:00"], ["10-31 00:30"]),
        ("0,15,30 2,3 * * *", ["03-28 01:00", "03-28 01:15", "03-28 01:30"], None),
        ("30 */2 * * *", None, ["10-31 00:30", "10-31 01:30"]),
        ("*/30 2 * * *", [], ["10-31 00:00", "10-31 00:30", "10-31 01:00", "10-31 01:30"]),
    ],
)
def test_where_clocks_change_a_fixed_time_fires_once_and_a_star_follows_the_clock(cron, spring, autumn):
    berlin = schedule(cron, "Europe/Berlin")
    hours = range(4)
    if spring is not None:
        found = [at for at in berlin.on(dt.date(2027, 3, 28)) if at.hour in hours]
        assert short(found) == spring
    if autumn is not None:
        found = [at for at in berlin.on(dt.date(2027, 10, 31)) if at.hour < 2]
        assert short(found) == autumn


def test_in_the_second_of_two_equal_hours_the_first_is_over():
    daily = schedule("30 2 * * *", "Europe/Berlin")
    second = utc("2027-10-31T01:10")
    assert short(daily.after(second, 1)) == ["11-01 01:30"]
    assert short([daily.before(second)]) == ["10-31 00:30"]


def test_either_of_two_restricted_day_fields_is_enough_and_a_star_with_a_step_restricts_nothing():
    assert short(schedule("0 0 13 * fri").after(utc("2026-11-24"), 4)) == [
        "11-27 00:00", "12-04 00:00", "12-11 00:00", "12-13 00:00",
    ]  # fmt: skip
    assert short(schedule("0 0 */2 11 5").after(utc("2026-11-01"), 2)) == ["11-13 00:00", "11-27 00:00"]
    assert schedule("0 6 * * 0").after(utc("2026-11-24"), 9) == schedule("0 6 * * 7").after(
        utc("2026-11-24"), 9
    )


def test_a_rare_day_is_found_in_both_directions():
    leap = schedule("0 0 29 2 *")
    assert leap.after(utc("2097-01-01"), 1) == [utc("2104-02-29")]
    assert leap.before(utc("2103-12-31")) == utc("2096-02-29")
    assert leap.on(dt.date(2100, 2, 28)) == []


def test_a_moment_without_a_zone_is_refused():
    naive = dt.datetime(2026, 11, 24)  # noqa: DTZ001  the point of the test
    for ask in (lambda: schedule("0 6 * * *").after(naive, 1), lambda: schedule("0 6 * * *").before(naive)):
        with pytest.raises(ConfigError, match="has no time zone"):
            ask()


@pytest.mark.parametrize(
    ("cron", "said", "fix"),
    [
        ("@daily", "five fields .* has 1", "0 0 * * *"),
        ("0 6 * *", "five fields .* has 4", "0 6 * * 1-5"),
        ("0 0 6 * * *", "five fields .* has 6", "no seconds"),
        ("60 * * * *", r"'60' is not a valid minute \(0 to 59\)", "values and ranges"),
        ("0 24 * * *", r"'24' is not a valid hour \(0 to 23\)", "8-18/2"),
        ("0 0 0 * *", r"'0' is not a valid day of month \(1 to 31\)", "values"),
        ("0 0 * 13 *", r"'13' is not a valid month \(1 to 12, or jan to dec\)", "values"),
        ("0 0 * * 8", r"'8' is not a valid day of week \(0 to 7, or sun to sat\)", "values"),
        ("0 0 * * wednesday", r"'wednesday' is not a valid day of week .*sun to sat", "values"),
        ("0 0 31 2 *", "never comes", "give 28"),
        ("0 0 30,31 feb *", "never comes", "give 28"),
        ("0 0 31 4,6,9,11 mon", "never comes", "give 28"),
        ("5/15 * * * *", "'5/15' is not a valid minute", "a step needs a range"),
        ("*/90 * * * *", r"'\*/90' is not a valid minute", "smaller than it"),
        ("*/0 * * * *", "is not a valid minute", "a step"),
        ("5-5/15 * * * *", "is not a valid minute", "a step"),
        ("0 22-6 * * *", "'22-6' is not a valid hour", "a range runs upwards (22-23,0-6)"),
        ("0 0 * * fri-sun", "is not a valid day of week", "upwards"),
        ("0 0 1,* * *", r"'1,\*' is not a valid day of month", "write * or */2 alone"),
        ("0 0 *-5 * *", "is not a valid day of month", "write * or */2 alone"),
        ("0 0 L * *", "is not a valid day of month", "L, W, # and ? are not read"),
        ("0 0 LW * *", "is not a valid day of month", "L, W"),
        ("0 0 * * 5L", "is not a valid day of week", "L, W"),
        ("0 0 15W * *", "is not a valid day of month", "L, W"),
        ("0 0 * * mon#2", "is not a valid day of week", "#"),
        ("0 0 ? * mon", "is not a valid day of month", "?"),
        ("0,,5 * * * *", r"'0,,5' is not a valid minute \(0 to 59\)", "values"),
        ("-5 * * * *", "is not a valid minute", "values"),
        ("~ * * * *", "is not a valid minute", "values"),
        ("٣ * * * *", "is not a valid minute", "values"),
    ],
)
def test_what_is_not_of_this_dialect_is_refused_with_what_to_write_instead(cron, said, fix):
    with pytest.raises(ConfigError, match=rf"^params\.yaml: .*{said}") as caught:
        schedule(cron)
    assert caught.value.hint and fix in caught.value.hint


@pytest.mark.parametrize("cron", ["5-59/15 * * * *", "0 22-23,0-6 * * *", "0 0 * * 5-7,0", "0 0 1-31/30 * *"])
def test_what_a_hint_says_to_write_is_accepted(cron):
    assert schedule(cron).after(utc("2026-11-24"), 1)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("Berlin", "Europe/Berlin"),
        ("Europe/berlin", "Europe/Berlin"),
        ("localtime", ""),
        ("right/UTC", "UTC"),
    ],
)
def test_a_zone_that_is_unknown_or_means_something_else_elsewhere_is_refused(name, near):
    with pytest.raises(ConfigError, match=rf"params\.yaml: there is no time zone '{name}'.*{near}"):
        schedule("0 6 * * *", name)


def test_names_and_spaces_are_kept_and_written_as_numbers_on_demand():
    one = schedule(" 0  6 *\tJAN,mar-may MON-fri/2 ")
    assert one.cron == "0 6 * JAN,mar-may MON-fri/2"
    assert one.numeric() == "0 6 * 1,3-5 1-5/2"


@pytest.mark.parametrize(
    ("cron", "lines"),
    [
        ("0 6 * * *", ["*-*-* 06:00:00"]),
        ("*/20 9-17 1-2 1-3,6 *", ["*-01..03,06-01,02 09..17:00,20,40:00"]),
        ("0 6 * * mon-fri", ["Mon,Tue,Wed,Thu,Fri *-*-* 06:00:00"]),
        ("0 6 */10 * 7", ["Sun *-*-01,11,21,31 06:00:00"]),
        ("0 6 1 4 7", ["*-04-01 06:00:00", "Sun *-04-* 06:00:00"]),
        ("0 6 1 * 0-6", ["*-*-01 06:00:00", "*-*-* 06:00:00"]),
    ],
)
def test_systemd_gets_a_line_for_each_way_to_name_a_day(cron, lines):
    assert schedule(cron, "Europe/Berlin").calendar() == [f"{line} Europe/Berlin" for line in lines]


def test_runs_that_systemd_leaves_out_are_known():
    since = utc("2026-11-24")

    def lost(cron, timezone="Europe/Berlin"):
        return short(schedule(cron, timezone).beyond_calendar(since))

    assert lost("30 2 * * *") == ["03-28 01:00"]
    assert lost("30 2,3 * * *") == ["03-28 01:00"]
    assert lost("0 2,3 * * *") == []
    assert lost("*/30 * * * *") == ["10-31 01:00", "10-31 01:30"]
    assert lost("0 6 * * *") == [] == lost("30 2 * * *", "UTC")
    assert lost("30 23 * * *", "America/Scoresbysund") == ["03-28 01:00"]
    daily = schedule("30 2 * * *", "Europe/Berlin")
    assert daily.beyond_calendar(utc("2027-03-28T01:00")) == [utc("2028-03-26T01:00")]
