"""When a job runs: one dialect of cron in one time zone, understood as Debian's cron understands it.

Five fields: minute, hour, day of month, month, day of week. A field is `*`, `*/2`, or a list of
values and ranges (`1,3-5,8-20/4`); months and days of the week have names, and 0 and 7 are Sunday.
When both day fields are restricted, either of them is enough. Where clocks change, a run at a fixed
time happens once: at the end of an hour that is skipped, and in the first of two that are the same;
a run whose minute or hour begins with a star follows the clock. What other dialects have is refused.
"""

from __future__ import annotations

import datetime as dt
import functools
import heapq
import itertools
import re
import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass

from workbench.errors import ConfigError, nearest

_TERM = re.compile(r"(?P<first>\*|[0-9]+|[a-z]+)(?:-(?P<last>[0-9]+|[a-z]+))?(?:/(?P<step>[0-9]+))?")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_LONGEST = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
#: What other dialects have, as found in a field, and what to write instead.
_FOREIGN = {
    r"\?": "write * instead of ?",
    r"#": "cron has no n-th weekday of a month: give the weekday, and let the notebook look at the date",
    r"\dw|lw": "cron has no nearest weekday: give the weekdays, for example 1-5",
    r"\bl\b|\dl": "cron has no last day: give 28, or 1 for the day after",
    r"\*": "a star stands alone, or with a step: * or */2",
}
_LIST = "write values and ranges, for example 0,30 or 8-18 or 8-18/2"
_DAY = dt.timedelta(days=1)
_SECOND = dt.timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Fire times of a cron line in a time zone; made by `parse`, which accepts nothing doubtful."""

    cron: str
    timezone: str = "UTC"

    @classmethod
    def parse(cls, cron: str, timezone: str = "UTC", *, where: str) -> Schedule:
        """Read a schedule; ConfigError says what `where` has wrong and what to write instead."""
        _, _, days, months, _ = _read(cron, where)
        if min(days) > max(_LONGEST[month - 1] for month in months):
            raise ConfigError(
                f"{where}: {cron!r} names a day that never comes: the longest of its months is shorter",
                hint="give 28, or 1 for the day after a month's last",
            )
        zone(timezone, where=where)
        return cls(cron=" ".join(cron.split()), timezone=timezone)

    def after(self, moment: dt.datetime, n: int) -> list[dt.datetime]:
        """The next `n` fire times after `moment`, as UTC."""
        return list(itertools.islice(self._fires(moment), n))

    def before(self, moment: dt.datetime) -> dt.datetime:
        """The last fire time at or before `moment`, as UTC."""
        span = dt.timedelta(hours=1)
        while True:
            found = list(itertools.takewhile(lambda at: at <= moment, self._fires(moment - span)))
            if found:
                return found[-1]
            span *= 4

    def on(self, day: dt.date) -> list[dt.datetime]:
        """The fire times of a day of its zone, as UTC."""
        local = zoneinfo.ZoneInfo(self.timezone)
        midnight = dt.datetime.combine(day, dt.time(), local).astimezone(dt.UTC)
        later = itertools.takewhile(
            lambda at: at.astimezone(local).date() <= day, self._fires(midnight - _SECOND)
        )
        return list(later)

    def numeric(self) -> str:
        """The five fields with numbers for names, which no cron misreads in lists and ranges."""
        return " ".join(
            re.sub("[a-z]+", field.digits, text.lower())
            for field, text in zip(_FIELDS, self.cron.split(), strict=True)
        )

    def calendar(self) -> list[str]:
        """The same as systemd's OnCalendar: two lines when either of two restricted day fields is enough."""
        minutes, hours, days, months, weekdays = _read(self.cron, self.cron)
        time = f"{_listed(hours, _HOUR)}:{_listed(minutes, _MINUTE)}:00 {self.timezone}"
        month, day = _listed(months, _MONTH), _listed(days, _DAY_OF_MONTH)
        names = [_WEEKDAYS[number].capitalize() for number in sorted(weekdays)]
        week = ",".join(names) + " " if len(names) < len(_WEEKDAYS) else ""
        if any(text.startswith("*") for text in self.cron.split()[2::2]):
            return [f"{week}*-{month}-{day} {time}"]
        return [f"*-{month}-{day} {time}", f"{week}*-{month}-* {time}"]

    def beyond_calendar(self, since: dt.datetime) -> list[dt.datetime]:
        """Fire times of the coming year that `calendar` lacks, for systemd leaves out two things.

        They are the run at the end of a skipped hour, and those in the second of two equal hours.
        """
        from cronsim import CronSim

        local = zoneinfo.ZoneInfo(self.timezone)
        found = []
        for day in _days_of_change(since, local):
            for at in self.on(day):
                wall = at.astimezone(local).replace(tzinfo=None)
                shown = next(CronSim(self.cron, wall - _SECOND)) == wall
                if at > since and not (shown and at.astimezone(local).fold == 0):
                    found.append(at)
        return found

    def _fires(self, since: dt.datetime) -> Iterator[dt.datetime]:
        """Every fire time after `since`, in order.

        The library counts what a clock shows, without a zone; the zone is put on here, because with one
        it forgets which of two equal hours it is in, and steps over changes of half an hour.
        """
        from cronsim import CronSim

        if since.utcoffset() is None:
            raise ConfigError(f"{since} has no time zone", hint="for example 2026-11-24T06:00Z")
        local = zoneinfo.ZoneInfo(self.timezone)
        waiting: list[dt.datetime] = []
        # A day earlier, for a clock that was set back shows again what it has shown before.
        for wall in CronSim(self.cron, since.astimezone(local).replace(tzinfo=None) - _DAY):
            instants = self._instants(wall, local)
            while instants and waiting and waiting[0] < instants[0]:
                at = heapq.heappop(waiting)
                if at > since:
                    yield at
            for at in instants:
                if at not in waiting:
                    heapq.heappush(waiting, at)

    def _instants(self, wall: dt.datetime, local: zoneinfo.ZoneInfo) -> list[dt.datetime]:
        """When a run falls due for which the clock shows `wall`: once, twice or never."""
        first, second = (wall.replace(tzinfo=local, fold=n).astimezone(dt.UTC) for n in (0, 1))
        follows_clock = any(text.startswith("*") for text in self.cron.split()[:2])
        if first < second:
            return [first, second] if follows_clock else [first]
        if first > second:
            return [] if follows_clock else [_end_of_gap(second, local)]
        return [first]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Field:
    """One of the five: its name, its bounds, and names for its values from `low` on."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()

    def number(self, text: str) -> int:
        """A value of this field; ValueError when it is none."""
        number = int(text) if text.isdigit() else self.names.index(text) + self.low
        if not self.low <= number <= self.high:
            raise ValueError(text)
        return number

    def digits(self, name: re.Match[str]) -> str:
        """A name's number."""
        return str(self.number(name[0]))


_MINUTE = _Field(name="minute", low=0, high=59)
_HOUR = _Field(name="hour", low=0, high=23)
_DAY_OF_MONTH = _Field(name="day of month", low=1, high=31)
_MONTH = _Field(name="month", low=1, high=12, names=_MONTHS)
_DAY_OF_WEEK = _Field(name="day of week", low=0, high=7, names=_WEEKDAYS)
_FIELDS = (_MINUTE, _HOUR, _DAY_OF_MONTH, _MONTH, _DAY_OF_WEEK)


def zone(name: str, *, where: str) -> zoneinfo.ZoneInfo:
    """The time zone of an IANA name; ConfigError lists the nearest names."""
    known = _zones()
    if name not in known:
        raise ConfigError(
            f"{where}: there is no time zone {name!r} ({nearest(name, known)})",
            hint="write UTC or a name such as Europe/Berlin",
        )
    return zoneinfo.ZoneInfo(name)


@functools.cache
def _zones() -> frozenset[str]:
    """Names that mean the same on every machine."""
    return frozenset(zoneinfo.available_timezones() - {"localtime", "Factory"})


def _read(cron: str, where: str) -> list[frozenset[int]]:
    """The values of the five fields; Sunday is 0."""
    texts = cron.split()
    if cron.strip().startswith("@"):
        raise ConfigError(
            f"{where}: {cron!r} is a name for a schedule; schedules are written out",
            hint=f"write {_ALIASES.get(cron.strip().lower(), 'five fields, for example 0 6 * * *')}",
        )
    if len(texts) != len(_FIELDS):
        names = ", ".join(field.name for field in _FIELDS)
        raise ConfigError(
            f"{where}: a schedule has five fields ({names}); {cron!r} has {len(texts)}",
            hint="for example 0 6 * * 1-5: at 06:00 from Monday to Friday; there are no seconds or years",
        )
    values = [_values(field, text, where) for field, text in zip(_FIELDS, texts, strict=True)]
    values[4] = frozenset(number % 7 for number in values[4])
    return values


def _values(field: _Field, text: str, where: str) -> frozenset[int]:
    found: set[int] = set()
    for term in text.split(","):
        match = _TERM.fullmatch(term.lower())
        starred = "*" in text and (text != term or term[1:2] not in {"", "/"})
        if match is None or starred:
            raise _refusal(field, text, where)
        found.update(_span(field, match, where))
    return frozenset(found)


def _refusal(field: _Field, text: str, where: str) -> ConfigError:
    hint = next((mend for sign, mend in _FOREIGN.items() if re.search(sign, text.lower())), _LIST)
    return ConfigError(f"{where}: {text!r} is no {field.name}", hint=hint)


def _span(field: _Field, match: re.Match[str], where: str) -> range:
    """The values of one term."""
    first, last, step = match["first"], match["last"], match["step"]
    if step and not last and first != "*":
        raise ConfigError(
            f"{where}: {field.name} {match[0]!r} has a step but no range; crons differ on what that means",
            hint=f"write {first}-{field.high}/{step}",
        )
    try:
        low = field.low if first == "*" else field.number(first)
        high = field.high if first == "*" else field.number(last or first)
    except ValueError:
        raise _unknown(field, match[0], where) from None
    if high < low:
        rest = f"{field.low}-{high}" if high > field.low else f"{high}"
        raise ConfigError(
            f"{where}: {field.name} {match[0]!r} runs backwards", hint=f"write {low}-{field.high},{rest}"
        )
    if step and not 1 <= int(step) <= high - low:
        raise ConfigError(
            f"{where}: {field.name} {match[0]!r} never takes a second step",
            hint=f"write {low} for once, or a step from 1 to {high - low}",
        )
    return range(low, high + 1, int(step or 1))


def _unknown(field: _Field, term: str, where: str) -> ConfigError:
    refused = _refusal(field, term, where)
    named = field.names and not term[0].isdigit()
    known = nearest(term, field.names) if named else f"{field.low} to {field.high}"
    return ConfigError(f"{refused.message} ({known})", hint=refused.hint)


def _listed(values: frozenset[int], field: _Field) -> str:
    """Values as systemd lists them: `*`, or numbers and `first..last`."""
    if len(values) == field.high - field.low + 1:
        return "*"
    runs = []
    for _, run in itertools.groupby(enumerate(sorted(values)), lambda pair: pair[1] - pair[0]):
        numbers = [f"{number:02}" for _, number in run]
        runs += numbers if len(numbers) < 3 else [f"{numbers[0]}..{numbers[-1]}"]
    return ",".join(runs)


def _days_of_change(since: dt.datetime, local: zoneinfo.ZoneInfo) -> list[dt.date]:
    """Days of the coming year around which clocks change: between a noon and the next."""
    first = since.astimezone(local).date()
    noons = [dt.datetime.combine(first + n * _DAY, dt.time(12), local) for n in range(-1, 367)]
    pairs = itertools.pairwise(noons)
    around = {day.date() for pair in pairs if pair[0].utcoffset() != pair[1].utcoffset() for day in pair}
    return sorted(around)


def _end_of_gap(before: dt.datetime, local: zoneinfo.ZoneInfo) -> dt.datetime:
    """The instant after `before` at which the clock is put forward."""
    offset = before.astimezone(local).utcoffset()
    while before.astimezone(local).utcoffset() == offset:
        before += dt.timedelta(minutes=1)
    return before
