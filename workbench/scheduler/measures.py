"""Count what a server did since its start: the outcomes of runs, and the seconds from due to started."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import Final

from workbench.jobs.ledger import JobRun

#: The upper bounds of the counted delays, in seconds.
BOUNDS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


_BROKEN: Final = frozenset({"failed", "deadline", "refused", "lost", "held", "interrupted", "rolled_back"})


class ServerMeasures:
    """The counts of one server."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        #: The slots and roles whose last run failed or was held.
        self.broken: set[tuple[str, str]] = set()
        self._delays = [0] * (len(BOUNDS) + 1)
        self.delay_s = 0.0

    def count_end(self, run: JobRun) -> None:
        """Count the outcome of an ended run; a slot whose retry succeeds is broken no longer."""
        outcome = run.outcome or run.state
        self.outcomes[outcome] += 1
        slot = (run.slot.key, run.role)
        (self.broken.add if outcome in _BROKEN else self.broken.discard)(slot)

    def count_delay(self, seconds: float) -> None:
        """Count the seconds from the time of a slot to the start of its process."""
        self._delays[bisect_left(BOUNDS, seconds)] += 1
        self.delay_s += max(0.0, seconds)

    def buckets(self) -> list[tuple[str, float]]:
        """Return the number of delays up to each bound, as Prometheus reads them."""
        total, found = 0, []
        for bound, count in zip((*map(str, BOUNDS), "+Inf"), self._delays, strict=True):
            total += count
            found.append((bound, float(total)))
        return found
