"""The fire times of a job: a cron line in a time zone, as cronsim and Debian's cron read it.

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

from workbench.errors import ConfigError, nearest

_FIELDS = ("minute", "hour", "day of month", "month", "day of week")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_NAMES = ((), (), (), _MONTHS, _WEEKDAYS)
_TERM = re.compile(r"(\*|[0-9]+|[a-z]+)(?:-([0-9]+|[a-z]+))?(?:/([0-9]{1,9}))?")
#: Foreign syntax, and its replacement.
_FOREIGN = {
    r"\?": "write * instead of ?",
    r"#": "cron has no n-th weekday of a month: give the weekday, and let the notebook look at the date",
    r"\dw|lw": "cron has no nearest weekday: give the weekdays, for example 1-5",
    r"\bl\b|\dl": "cron has no last day: give 28, or 1 for the day after",
    r"\*": "a star stands alone, or with a step: * or */2",
    "": "write values and ranges, for example 0,30 or 8-18 or 8-18/2",
}
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
        if cron.strip().startswith("@"):
            raise ConfigError(
                f"{where}: {cron!r} is a name for a schedule; schedules are written out in five fields",
                hint="write 0 0 * * * for @daily, 0 * * * * for @hourly, 0 0 * * 0 for @weekly,"
                " 0 0 1 * * for @monthly, 0 0 1 1 * for @yearly; other names have no five fields",
            )
        if len(texts) != len(_FIELDS):
            raise ConfigError(
                f"{where}: a schedule has five fields ({', '.join(_FIELDS)}); {cron!r} has {len(texts)}",
                hint="for example 0 6 * * 1-5: at 06:00 from Monday to Friday; there are no seconds or years",
            )
        for position, text in enumerate(texts):
            for term in text.split(","):
                _check(position, term, text, where)
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
        numbers = {name: f"{n}" for n, name in [*enumerate(_MONTHS, 1), *enumerate(_WEEKDAYS)]}
        return re.sub("[a-z]+", lambda name: numbers[name[0]], self.cron.lower())

    def calendar(self) -> list[str]:
        """Return systemd's OnCalendar values: two when a day may match either of two restricted fields."""
        texts = self.cron.split()
        minute, hour, day, month, _ = (_listed(position, text) for position, text in enumerate(texts))
        time = f"{hour}:{minute}:00 {self.timezone}"
        weekdays = sorted({number % 7 for number in _values(4, texts[4])})
        names = ",".join(_WEEKDAYS[number].capitalize() for number in weekdays)
        week = f"{names} " if len(weekdays) < len(_WEEKDAYS) else ""
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
        # It starts a day earlier, because a clock that is set back shows the same times again.
        for wall in CronSim(self.cron, since.astimezone(local).replace(tzinfo=None) - _DAY):
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
    values = sorted(fields[position])
    if values[0] < 0:  # cronsim's value for L and LW, which Debian's cron does not have
        raise ValueError(text)
    return values


def _check(position: int, term: str, text: str, where: str) -> None:
    """Raise ConfigError for a term of a field that cron programs refuse or read differently."""
    lowest, *_, highest = _values(position, "*")
    field, match = _FIELDS[position], _TERM.fullmatch(term.lower())
    misplaced = "*" in text and (text != term or term[1:2] not in {"", "/"})
    wrong = text if match is None or misplaced else term.lower()
    named = _NAMES[position] and wrong[:1].isalpha()
    known = nearest(wrong.lower(), _NAMES[position]) if named else f"{lowest} to {highest}"
    hint = next(fix for sign, fix in _FOREIGN.items() if re.search(sign, wrong.lower()))
    refusal = ConfigError(f"{where}: {wrong!r} is no {field} ({known})", hint=hint)
    if match is None or misplaced:
        raise refusal
    first, last, step = match.groups()
    try:
        low, high = _values(position, first)[0], _values(position, last or first)[-1]
    except ValueError:
        raise refusal from None
    problem = f"{where}: {field} {term.lower()!r}"
    if step and not last and first != "*":
        raise ConfigError(
            f"{problem} has a step but no range; crons differ on what that means",
            hint=f"write {first}-{highest}/{step}",
        )
    if high < low:
        rest = f"{lowest}-{high}" if high > lowest else f"{high}"
        raise ConfigError(f"{problem} runs backwards", hint=f"write {low}-{highest},{rest}")
    if step and not 1 <= int(step) <= high - low:
        raise ConfigError(
            f"{problem} never takes a second step",
            hint=f"write {low} for once" + (f", or a step from 1 to {high - low}" if high > low else ""),
        )


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
