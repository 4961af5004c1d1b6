"""The fire times of a job: a cron line in a time zone, read by cronsim as Debian's cron reads it.

A field is `*`, `*/2`, or a list of values and ranges (`1,3-5,8-20/4`). Months and days of the week have
names; 0 and 7 are Sunday. When both day fields are restricted, a day that matches either of them is due.
A run at a fixed time happens once where clocks change: at the end of a skipped hour, and in the first of
two equal hours. A run whose minute or hour field begins with a star follows the clock. `parse` refuses
the forms on which cron programs disagree, also those that cronsim accepts (`L`, `#`, `5/15`).
"""

from __future__ import annotations

import datetime as dt
import functools
import itertools
import re
import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from cronsim import CronSim, CronSimError
from cronsim.cronsim import SYMBOLIC_DAYS, SYMBOLIC_MONTHS

from workbench.errors import ConfigError, nearest

_FIELDS = ("minute", "hour", "day of month", "month", "day of week")
_NAMED = {"month": ", or jan to dec", "day of week": ", or sun to sat"}
_NUMBERS = {name: f"{n}" for n, name in [*enumerate(SYMBOLIC_MONTHS, 1), *enumerate(SYMBOLIC_DAYS)]}
#: A value, or a star or range with or without a step. Crons differ on a step without a range.
_TERM = re.compile(r"([0-9]+|[a-z]{3})|(\*|([0-9]+|[a-z]{3})-([0-9]+|[a-z]{3}))(/[0-9]{1,9})?")
_DAY = dt.timedelta(days=1)
_SECOND = dt.timedelta(seconds=1)
#: A start for cronsim where only its reading of the fields counts.
_ANY_TIME = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The fire times of a cron line in a time zone; `parse` makes and checks it."""

    cron: str
    timezone: str = "UTC"

    @classmethod
    def parse(cls, cron: str, timezone: str = "UTC", *, where: str) -> Schedule:
        """Return the schedule of a cron line; ConfigError names `where`, the field and what to write."""
        texts = cron.split()
        if len(texts) != len(_FIELDS):
            raise ConfigError(
                f"{where}: a schedule has five fields ({', '.join(_FIELDS)}); {cron!r} has {len(texts)}",
                hint="for example 0 6 * * 1-5: at 06:00 from Monday to Friday;"
                " there are no seconds, no years, and no names such as @daily (0 0 * * *)",
            )
        for position, text in enumerate(texts):
            _check(position, text.lower(), where)
        try:
            # Without the day of week, cronsim refuses a day that none of the months has.
            CronSim(" ".join([*texts[:4], "*"]), _ANY_TIME)
        except CronSimError:
            raise ConfigError(
                f"{where}: {cron!r} names a day that never comes: the longest of its months is shorter",
                hint="give 28, or 1 for the day after a month's last",
            ) from None
        zone(timezone, where=where)
        return cls(cron=" ".join(texts), timezone=timezone)

    def after(self, moment: dt.datetime, n: int) -> list[dt.datetime]:
        """Return the next `n` fire times after `moment`, in UTC."""
        return list(itertools.islice(self._fires(moment), n))

    def times(self, moment: dt.datetime) -> Iterator[dt.datetime]:
        """Yield every fire time after `moment`, in order and in UTC."""
        return self._fires(moment)

    def before(self, moment: dt.datetime) -> dt.datetime:
        """Return the last fire time at or before `moment`, in UTC."""
        span = dt.timedelta(hours=1)
        while True:
            found = list(itertools.takewhile(lambda at: at <= moment, self._fires(moment - span)))
            if found:
                return found[-1]
            span *= 4

    def on(self, day: dt.date) -> list[dt.datetime]:
        """Return the fire times of a day of the schedule's zone, in UTC."""
        local = zoneinfo.ZoneInfo(self.timezone)
        start = dt.datetime.combine(day, dt.time(), local).astimezone(dt.UTC) - _SECOND
        return list(itertools.takewhile(lambda at: at.astimezone(local).date() <= day, self._fires(start)))

    def numeric(self) -> str:
        """Return the five fields with numbers for names, because some crons misread names in lists."""
        return re.sub("[A-Z]+", lambda name: _NUMBERS[name[0]], self.cron.upper())

    def values(self) -> tuple[tuple[int, ...], ...]:
        """Return the values of the five fields in order, Sunday as 0."""
        found = [_values(position, text) for position, text in enumerate(self.cron.split())]
        return (*map(tuple, found[:4]), tuple(sorted({number % 7 for number in found[4]})))

    def calendar(self) -> list[str]:
        """Return systemd's OnCalendar values: two when a day may match either of two restricted fields."""
        texts = self.cron.split()
        minute, hour, day, month, _ = (_listed(position, text) for position, text in enumerate(texts))
        time = f"{hour}:{minute}:00 {self.timezone}"
        weekdays = sorted({number % 7 for number in _values(4, texts[4])})
        names = ",".join(SYMBOLIC_DAYS[number].capitalize() for number in weekdays)
        week = f"{names} " if len(weekdays) < len(SYMBOLIC_DAYS) else ""
        if any(text.startswith("*") for text in texts[2::2]):
            return [f"{week}*-{month}-{day} {time}"]
        return [f"*-{month}-{day} {time}", f"{week}*-{month}-* {time}"]

    def beyond_calendar(self, since: dt.datetime) -> list[dt.datetime]:
        """Return the fire times of the coming year that systemd leaves out, in UTC.

        They are the run at the end of a skipped hour, and those in the second of two equal hours.
        """
        local = zoneinfo.ZoneInfo(self.timezone)
        noon = dt.datetime.combine(since.astimezone(local).date(), dt.time(12), local)
        pairs = itertools.pairwise(noon + n * _DAY for n in range(-1, 367))
        changes = {day.date() for a, b in pairs if a.utcoffset() != b.utcoffset() for day in (a, b)}
        found = []
        for at in itertools.chain.from_iterable(map(self.on, sorted(changes))):
            wall = at.astimezone(local).replace(tzinfo=None)
            skipped = next(CronSim(self.cron, wall - _SECOND)) != wall
            if at > since and (skipped or wall.fold):
                found.append(at)
        return found

    def _fires(self, since: dt.datetime) -> Iterator[dt.datetime]:
        """Yield every fire time after `since`, in order.

        cronsim gets local times without a zone. With a zone it loses which of two equal hours it is in,
        and misses changes of half an hour.
        """
        if since.utcoffset() is None:
            raise ConfigError(f"{since} has no time zone", hint="for example 2026-11-24T06:00Z")
        local = zoneinfo.ZoneInfo(self.timezone)
        waiting: set[dt.datetime] = set()
        days = [(since + n * _DAY).astimezone(local) for n in (-1, 0, 1)]
        # A clock that is set back shows the same times again, so near a change it starts a day earlier.
        near = len({day.utcoffset() for day in days}) > 1
        for wall in CronSim(self.cron, days[1].replace(tzinfo=None) - (_DAY if near else dt.timedelta())):
            instants = self._instants(wall, local)
            ready = {at for at in waiting if instants and at < instants[0]}
            yield from sorted(at for at in ready if at > since)
            waiting = (waiting - ready).union(instants)

    def _instants(self, wall: dt.datetime, local: zoneinfo.ZoneInfo) -> list[dt.datetime]:
        """Return the instants of a run that is due when the clock shows `wall`: none, one or two."""
        first, second = (wall.replace(tzinfo=local, fold=n).astimezone(dt.UTC) for n in (0, 1))
        follows_clock = any(text.startswith("*") for text in self.cron.split()[:2])
        if first <= second:
            return sorted({first, second}) if follows_clock else [first]
        if follows_clock:
            return []
        # The clock skips `wall`: the run is due at the first minute after the change.
        offset = second.astimezone(local).utcoffset()
        while second.astimezone(local).utcoffset() == offset:
            second += dt.timedelta(minutes=1)
        return [second]


def zone(name: str, *, where: str) -> zoneinfo.ZoneInfo:
    """Return the time zone of an IANA name; ConfigError lists the nearest names."""
    known = _zones()
    if name not in known:
        raise ConfigError(
            f"{where}: there is no time zone {name!r} ({nearest(name, known)})",
            hint="write UTC or a name such as Europe/Berlin",
        )
    return zoneinfo.ZoneInfo(name)


@functools.cache
def _zones() -> frozenset[str]:
    """Return the names that mean the same on every machine."""
    return frozenset(zoneinfo.available_timezones() - {"localtime", "Factory"})


def _values(position: int, text: str) -> list[int]:
    """Return the values of a field in order, as cronsim reads them; ValueError when it does not."""
    try:
        line = CronSim(" ".join(text if n == position else "*" for n in range(5)), _ANY_TIME)
    except CronSimError as error:
        raise ValueError(text) from error
    fields = (line.minutes, line.hours, line.days, line.months, cast("set[int]", line.weekdays))
    return sorted(fields[position])


def _check(position: int, text: str, where: str) -> None:
    """Raise ConfigError for a field that cron programs refuse or read differently."""
    terms, field = text.split(","), _FIELDS[position]
    wrong = next((term for term in terms if not _is_plain(position, term)), "")
    if "*" in text and len(terms) > 1:
        wrong = text
    if wrong or not all(terms):
        lowest, *_, highest = _values(position, "*")
        valid = f"{lowest} to {highest}{_NAMED.get(field, '')}"
        raise ConfigError(
            f"{where}: {(wrong or text)!r} is not a valid {field} ({valid})",
            hint="write * or */2 alone, or values and ranges: 0,30 or 8-18/2; a step needs a range and is"
            " smaller than it (5-59/15), a range runs upwards (22-23,0-6), and L, W, # and ? are not read",
        )


def _is_plain(position: int, term: str) -> bool:
    """Whether all cron programs read a term alike, and each of its steps is taken."""
    if not _TERM.fullmatch(term):
        return False
    base, _, step = term.partition("/")
    try:
        values = _values(position, base)
    except ValueError:
        return False
    return not step or 1 <= int(step) <= values[-1] - values[0]


def _listed(position: int, text: str) -> str:
    """Return a field's values as systemd lists them: `*`, or numbers and `first..last`."""
    values = _values(position, text)
    if values == _values(position, "*"):
        return "*"
    runs = []
    for _, run in itertools.groupby(enumerate(values), lambda pair: pair[1] - pair[0]):
        numbers = [f"{number:02}" for _, number in run]
        runs += numbers if len(numbers) < 3 else [f"{numbers[0]}..{numbers[-1]}"]
    return ",".join(runs)
