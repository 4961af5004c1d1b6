"""The progress of a run: what is finished, what failed, what it cost, how it scores so far, and its stop."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from workbench.display import number, span
from workbench.experiments.runs import LEVEL, counted

#: Seconds between two lines of JSON for a runner.
_LINES_S = 0.2
#: Seconds after which the budget is asked for again.
_ROOM_S = 10.0
#: Seconds after which the interval of the score is computed again: it takes milliseconds.
_INTERVAL_S = 1.0


class Finished(NamedTuple):  # half the cost of a dataclass, for each case
    """One finished item: its `case`, the word for its `error` or "", what it cost and its score.

    `spent_usd` is what was paid, not the price of replayed answers; None where a price is unknown.
    """

    case: str = ""
    error: str = ""
    spent_usd: float | None = 0.0
    score: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetRoom:
    """The budget with the least room for a run: its name, its limit and what is left of it, in dollars."""

    name: str
    limit_usd: float
    left_usd: float


class Progress:
    """The progress of `total` items. `metric` names the score that `Finished` carries, "" for none.

    `path` is the file of a runner, to which lines of JSON go. `room` asks for the budget that applies. Items
    are counted on the workbench's loop; any thread may read and `stop`.
    """

    def __init__(
        self,
        total: int,
        title: str,
        *,
        metric: str = "",
        path: Path | None = None,
        room: Callable[[], Awaitable[BudgetRoom | None]] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total, self.title, self.path, self.done = total, title, path, 0
        self.errors: Counter[str] = Counter()
        #: What was paid; None as soon as one price is unknown.
        self.spent_usd: float | None = 0.0
        self.budget: BudgetRoom | None = None
        self.ended, self.stopped, self.kept = False, False, ""
        self._metric, self._scores = metric, _Mean()
        self._interval, self._interval_at = "", -math.inf
        self._room, self._room_at = room, -math.inf
        self._monotonic, self._since, self._until = monotonic, monotonic(), math.nan
        self._written_at = 0.0
        self._cancel: Callable[[], object] | None = None

    # -- counting ----------------------------------------------------------------------------

    def step(self, item: Finished) -> None:
        """Count one item."""
        self.done += 1
        if item.error:
            self.errors[item.error] += 1
        if item.spent_usd != 0.0:
            known = self.spent_usd is not None and item.spent_usd is not None
            self.spent_usd = self.spent_usd + item.spent_usd if known else None  # type: ignore[operator]
        if item.score is not None:
            self._scores.add(item.case, item.score)
        if self.path is not None:
            self._write_line(self.path)

    def _write_line(self, path: Path) -> None:
        now = time.monotonic()
        if now - self._written_at > _LINES_S or self.done == self.total:
            self._written_at = now
            line = json.dumps({"what": self.title, "done": self.done, "total": self.total})
            with path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")

    async def ask_room(self) -> None:
        """Ask for the budget that applies, unless that was done a few seconds ago."""
        now = self._monotonic()
        if self._room is not None and now - self._room_at >= _ROOM_S:
            self._room_at = now
            self.budget = await self._room()

    # -- ending ------------------------------------------------------------------------------

    def stops_with(self, cancel: Callable[[], object]) -> None:
        """Say what ends the work, from any thread."""
        self._cancel = cancel
        if self.stopped:  # while it was set up
            cancel()

    def stop(self) -> None:
        """End the work from any thread and keep what is finished; nothing happens when it has ended."""
        if not self.ended and not self.stopped:
            self.stopped = True
            if self._cancel is not None:
                self._cancel()

    def end(self) -> None:
        """Say that no item is under way any more."""
        self.ended, self._until = True, self._monotonic()

    # -- told --------------------------------------------------------------------------------

    @property
    def elapsed_s(self) -> float:
        """The seconds since the beginning, up to the end."""
        return (self._until if self.ended else self._monotonic()) - self._since

    @property
    def left_s(self) -> float | None:
        """The seconds that the other items take at the speed so far; None before the first item."""
        return self.elapsed_s / self.done * (self.total - self.done) if self.done else None

    def facts(self) -> list[str]:
        """Return what is known now, in words: cases, errors, cost, score, and the end."""
        found = [f"{self.done:,} of {self.total:,} cases"]
        if self.errors:
            kinds = dict(sorted(self.errors.items(), key=lambda item: (-item[1], item[0])))
            n = self.errors.total()
            found.append(f"{n:,} error{'s' * (n != 1)} ({counted(kinds)})")
        return [*found, *self._money(), *self._score(), self._end()]

    def __str__(self) -> str:
        return f"{self.title}: {', '.join(self.facts())}"

    def _money(self) -> list[str]:
        spent = "spend unknown" if self.spent_usd is None else f"{number(self.spent_usd)} USD spent"
        if self.budget is not None:
            left, limit = number(self.budget.left_usd), number(self.budget.limit_usd)
            return [f"{spent}, {left} of {limit} USD left of the budget {self.budget.name}"]
        return [spent] if self.spent_usd != 0.0 else []

    def _score(self) -> list[str]:
        if not (self._metric and self._scores.cases):
            return []
        now = self._monotonic()
        if self.ended or now - self._interval_at >= _INTERVAL_S:
            self._interval, self._interval_at = self._scores.interval(), now
        return [f"{self._metric} {number(self._scores.value)} {self._interval}".rstrip()]

    def _end(self) -> str:
        if self.ended:
            done = "stopped" if self.stopped or self.done < self.total else "done"
            return f"{done} after {_duration(self.elapsed_s)}{f', {self.kept}' if self.kept else ''}"
        if self.stopped:
            return f"stopping: what is under way ends{f', {self.kept}' if self.kept else ''}"
        left = self.left_s
        return f"begun {_duration(self.elapsed_s)} ago" if left is None else f"about {_duration(left)} left"


class _Mean:
    """The mean of scores, one value for each case: that of its repeats."""

    def __init__(self) -> None:
        self._by_case: dict[str, tuple[float, int]] = {}
        self._total, self._low, self._high = 0.0, math.inf, -math.inf

    @property
    def cases(self) -> int:
        """The number of cases."""
        return len(self._by_case)

    @property
    def value(self) -> float:
        """The mean."""
        return self._total / len(self._by_case)

    def add(self, case: str, score: float) -> None:
        """Count a score of a case."""
        before, n = self._by_case.get(case, (0.0, 0))
        mean = (before * n + score) / (n + 1)
        self._by_case[case] = (mean, n + 1)
        self._total += mean - before
        self._low, self._high = min(self._low, score), max(self._high, score)

    def interval(self) -> str:
        """Return the exact interval of scores from 0 to 1; empty on another scale.

        It is that of the run's card, as long as scores are 0 or 1.
        """
        from workbench.experiments import intervals

        if self._low < 0 or self._high > 1:
            return ""
        return span(intervals.proportion_interval(self._total, self.cases, level=LEVEL))


def _duration(seconds: float) -> str:
    """Return seconds as `12 s`, `3 min 20 s` or `2 h 5 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
