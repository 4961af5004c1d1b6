"""The fields of a cron line that every cron library reads alike, and the same times in UTC.

Debian's cron wants both day fields to match when one of them begins with a star. Kubernetes, GitHub and
Airflow want either, and take `*/2` for a restriction. Lists of numbers mean the same to all of them.
"""

from __future__ import annotations

import datetime as dt
import functools
import itertools
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

from workbench.errors import RefusedError
from workbench.jobs.exports.entry import JobEntry
from workbench.jobs.schedule import Schedule, zone

_FULL = (range(60), range(24), range(1, 32), range(1, 13), range(7))
_HOURS_AHEAD = 3 * 366 * 24
_DAY_MINUTES = 24 * 60
#: The days of the month whose day before, or day after, is in the same month of every year.
_INSIDE = {-1: range(2, 29), 0: range(1, 32), 1: range(1, 28)}


@dataclass(frozen=True, slots=True, kw_only=True)
class CronFields:
    """The values of the five fields. When days and weekdays are both restricted, either of them is due."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]

    def line(self) -> str:
        """Return the fields as a cron line of stars, numbers and ranges."""
        fields = (self.minutes, self.hours, self.days, self.months, self.weekdays)
        return " ".join(_listed(values, full) for values, full in zip(fields, _FULL, strict=True))

    @property
    def daily(self) -> bool:
        """Whether every day is due."""
        return [len(self.days), len(self.months), len(self.weekdays)] == [31, 12, 7]

    @property
    def gap(self) -> int:
        """The least minutes between two times of a day, or of a day and the next."""
        times = sorted(60 * hour + minute for hour in self.hours for minute in self.minutes)
        return min(b - a for a, b in itertools.pairwise([*times, times[0] + _DAY_MINUTES]))


def portable(entry: JobEntry, *, scheduler: str) -> CronFields:
    """Return the fields of a job's schedule; RefusedError where the scheduler cannot express them."""
    schedule = entry.schedule
    minutes, hours, days, months, weekdays = schedule.values()
    both = any(text.startswith("*") for text in schedule.cron.split()[2::2])
    all_days, all_weekdays = tuple(_FULL[2]), tuple(_FULL[4])
    if not both and (days == all_days or weekdays == all_weekdays):
        days, weekdays = all_days, all_weekdays
    if both and days != all_days and weekdays != all_weekdays:
        raise RefusedError(
            f"job {entry.name}: `{schedule.cron}` is due on days that match both day fields,"
            f" and {scheduler} starts a job on days that match either",
            hint=f"workbench jobs export {entry.name} --to systemd   (or restrict one of the two fields)",
        )
    return CronFields(minutes=minutes, hours=hours, days=days, months=months, weekdays=weekdays)


def in_utc(entry: JobEntry, *, scheduler: str, now: dt.datetime) -> list[CronFields]:
    """Return the fields of a job's schedule in UTC; RefusedError for a zone whose clock changes.

    A zone with another offset than whole hours, and a time that is on another day in UTC, take more lines.
    """
    offset = _offset(entry, scheduler, now)
    fields = portable(entry, scheduler=scheduler)
    found: dict[tuple[int, int], tuple[set[int], set[int]]] = defaultdict(lambda: (set(), set()))
    for minute, hour in itertools.product(fields.minutes, fields.hours):
        total = minute - offset
        day, utc_hour = divmod(hour + total // 60, 24)
        minutes, hours = found[total // 60, 0 if fields.daily else day]
        minutes.add(total % 60)
        hours.add(utc_hour)
    return [
        replace(_on_other_day(entry, fields, day, scheduler), minutes=_sorted(minutes), hours=_sorted(hours))
        for (_, day), (minutes, hours) in sorted(found.items())
    ]


def same_clock(name: str, other: str, now: dt.datetime) -> bool:
    """Return whether two zones have the same offset in each hour of the next three years."""
    if name == other:
        return True
    zones = zone(name, where="schedule"), zone(other, where="this machine")
    return all(len({hour.astimezone(item).utcoffset() for item in zones}) == 1 for hour in _hours(now))


def skipped(schedule: Schedule, now: dt.datetime) -> list[dt.datetime]:
    """Return the coming year's runs at the end of a skipped hour, which some schedulers leave out."""
    local = zone(schedule.timezone, where="schedule")
    return [at for at in schedule.beyond_calendar(now) if not at.astimezone(local).fold]


def _offset(entry: JobEntry, scheduler: str, now: dt.datetime) -> int:
    """Return the minutes by which the schedule's zone is ahead of UTC, the same for three years."""
    offsets = _offsets(entry.schedule.timezone, now)
    if len(offsets) > 1:
        raise RefusedError(
            f"job {entry.name}: its times are in {entry.schedule.timezone}, whose clock changes,"
            f" and {scheduler} reads times in UTC",
            hint=f"workbench jobs export {entry.name} --to kubernetes   (or give its times in UTC)",
        )
    return next(iter(offsets))


@functools.lru_cache(maxsize=64)
def _offsets(timezone: str, now: dt.datetime) -> frozenset[int]:
    """Return the minutes ahead of UTC of a zone in each hour of the next three years."""
    local = zone(timezone, where="schedule")
    found = {hour.astimezone(local).utcoffset() or dt.timedelta() for hour in _hours(now)}
    return frozenset(int(offset / dt.timedelta(minutes=1)) for offset in found)


def _hours(now: dt.datetime) -> Iterable[dt.datetime]:
    return (now + dt.timedelta(hours=n) for n in range(_HOURS_AHEAD))


def _on_other_day(entry: JobEntry, fields: CronFields, day: int, scheduler: str) -> CronFields:
    """Return the day fields for times that are `day` days later in UTC: -1, 0 or 1."""
    restricted = len(fields.days) < len(_FULL[2])
    lost = restricted and not set(fields.days) <= set(_INSIDE[day])
    any_day = not restricted or len(fields.weekdays) < len(_FULL[4])  # the last of a month among them
    if day and (lost or (any_day and len(fields.months) < len(_FULL[3]))):
        raise RefusedError(
            f"job {entry.name}: `{entry.schedule.cron}` in {entry.schedule.timezone} is on another day in"
            f" UTC, which {scheduler} reads, and no cron line states that day in every month",
            hint=f"workbench jobs export {entry.name} --to kubernetes   (or give its times in UTC)",
        )
    days = tuple(number + day for number in fields.days) if restricted else fields.days
    return replace(fields, days=days, weekdays=_sorted((number + day) % 7 for number in fields.weekdays))


def _sorted(values: Iterable[int]) -> tuple[int, ...]:
    return tuple(sorted(values))


def _listed(values: tuple[int, ...], full: range) -> str:
    """Return a star for all values, else numbers and ranges."""
    if len(values) == len(full):
        return "*"
    texts = []
    for _, run in itertools.groupby(enumerate(values), lambda pair: pair[1] - pair[0]):
        numbers = [str(number) for _, number in run]
        texts += numbers if len(numbers) < 3 else [f"{numbers[0]}-{numbers[-1]}"]
    return ",".join(texts)
