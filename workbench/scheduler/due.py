"""Decide which slots of a schedule are due at a moment, and which of them are missed."""

from __future__ import annotations

import collections
import datetime as dt
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from workbench.config.operations import JobOperation
from workbench.jobs.schedule import Schedule

#: Seconds after its time in which a slot is on time; a later one is caught up or missed.
ON_TIME_S: Final = 60.0
#: The newest slots of an interval, each with a line of its own; the line of the oldest counts the rest.
MOST_MISSED: Final = 1_000
Firing = Literal["schedule", "catch_up", "missed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """One fire time and what is to be done with it; `detail` says why a slot is missed."""

    at: dt.datetime
    firing: Firing
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Era:
    """The schedule of a label's version from `start` on, until the next version had the label."""

    start: dt.datetime
    schedule: Schedule | None


class Timetable:
    """The fire times of one definition after a moment, each yielded until `advance` is called.

    Times are found one after the other, so that a definition that fires each minute costs no search. A clock
    that is set back finds nothing: what has been yielded and advanced is not yielded again.
    """

    def __init__(self, eras: Sequence[Era], since: dt.datetime) -> None:
        self._times = _times(eras, since)
        self._next = next(self._times, None)
        self._waiting: collections.deque[dt.datetime] = collections.deque(maxlen=MOST_MISSED)
        self._dropped = 0

    @property
    def next(self) -> dt.datetime | None:
        """The earliest fire time that `advance` has not passed, or None when there is none."""
        return self._waiting[0] if self._waiting else self._next

    def until(self, now: dt.datetime, operation: JobOperation, *, on_time_s: float = ON_TIME_S) -> list[Due]:
        """Return what is to be done at `now` with each fire time up to it, in order."""
        while self._next is not None and self._next <= now:
            self._dropped += len(self._waiting) == MOST_MISSED
            self._waiting.append(self._next)
            self._next = next(self._times, None)
        found = decide(tuple(self._waiting), now=now, operation=operation, on_time_s=on_time_s)
        if self._dropped and found:
            note = f"; {self._dropped} slots before it were missed too"
            oldest = found[0]
            found[0] = Due(at=oldest.at, firing="missed", detail=(oldest.detail or "missed") + note)
        return found

    def advance(self) -> None:
        """Forget the fire times that `until` returned: all of them are written in the ledger."""
        self._waiting.clear()
        self._dropped = 0


def decide(
    times: Sequence[dt.datetime],
    *,
    now: dt.datetime,
    operation: JobOperation,
    on_time_s: float = ON_TIME_S,
) -> list[Due]:
    """Return what is to be done at `now` with fire times that have come, in their order.

    A slot at most `on_time_s` after its time starts. Of the later ones, those beyond the start deadline are
    missed; `catch_up` states what becomes of the rest: "all" start, "none" does, or only the latest one, when
    no slot is on time.
    """
    on_time = now - dt.timedelta(seconds=on_time_s)
    deadline = now - dt.timedelta(seconds=operation.start_deadline_s)
    late = [at for at in times if deadline <= at < on_time]
    caught: set[dt.datetime] = set(late if operation.catch_up == "all" else ())
    if operation.catch_up == "latest" and late and times[-1] < on_time:
        caught = {late[-1]}
    found = []
    for at in times:
        if at >= max(on_time, deadline):
            found.append(Due(at=at, firing="schedule"))
        elif at in caught:
            found.append(Due(at=at, firing="catch_up"))
        else:
            found.append(_missed(at, deadline, operation))
    return found


def _missed(at: dt.datetime, deadline: dt.datetime, operation: JobOperation) -> Due:
    if at < deadline:
        detail = f"no server started it within its start_deadline_s of {operation.start_deadline_s:g}"
    elif operation.catch_up == "none":
        detail = "no server was there at its time, and catch_up is none"
    else:
        detail = "no server was there at its time, and catch_up: latest starts a later slot"
    return Due(at=at, firing="missed", detail=detail)


def between(
    schedule: Schedule, first: dt.datetime, last: dt.datetime, *, most: int
) -> tuple[dt.datetime, ...]:
    """Return the fire times from `first` to `last`, both included, but no more than `most`."""
    times = schedule.times(first - dt.timedelta(seconds=1))
    found = itertools.takewhile(lambda at: at <= last, times)
    return tuple(itertools.islice((at for at in found if at >= first), most))


def _times(eras: Sequence[Era], since: dt.datetime) -> Iterator[dt.datetime]:
    """Yield the fire times after `since`: of each era those after its start, up to that of the next."""
    for era, later in itertools.zip_longest(eras, eras[1:]):
        if era.schedule is None or (later is not None and later.start <= since):
            continue
        for at in era.schedule.times(max(since, era.start)):
            if later is not None and at > later.start:
                break
            yield at
