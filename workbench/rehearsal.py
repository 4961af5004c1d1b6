"""The wall clock of a rehearsal of schedules: it begins at a stated time, and may run in fast motion."""

from __future__ import annotations

import datetime as dt
import functools
import os
import time
from typing import Final

#: The variable that a rehearsal sets for its processes: the time at its start, the speed, and the machine's
#: time at its start, in seconds.
VARIABLE: Final = "WORKBENCH_REHEARSAL"


def begin(start: dt.datetime, speed: float) -> None:
    """Let the clock of this process and of its children show `start`, and run `speed` times as fast."""
    os.environ[VARIABLE] = f"{start.isoformat()} {speed!r} {time.time()!r}"


def time_now() -> dt.datetime | None:
    """Return the time that the clock of a rehearsal shows, in UTC; None outside of a rehearsal.

    Raise ValueError for a variable that no rehearsal has set.
    """
    value = os.environ.get(VARIABLE)
    if not value:
        return None
    start, speed, since = _parsed(value)
    return start + dt.timedelta(seconds=(time.time() - since) * speed)


@functools.lru_cache(maxsize=4)
def _parsed(value: str) -> tuple[dt.datetime, float, float]:
    start, speed, since = value.split(" ")
    return dt.datetime.fromisoformat(start), float(speed), float(since)
