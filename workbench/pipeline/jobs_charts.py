"""The charts of the jobs page: shapes in percent of a chart's width and height, drawn as SVG by its template.

A window of days is divided into bins of equal time, so that 28 slots and 100,000 are drawn by as many shapes.
"""

from __future__ import annotations

import datetime as dt
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from workbench.display import number, percent
from workbench.jobs.health import JobHealth, SlotOutcome, SlotState

#: Bins of the shortest and of the longest window.
_LEAST, _MOST = 28, 112
#: Seconds that an axis of times may show, and how it writes them.
_TIMES = (
    (1, "1 s"), (10, "10 s"), (60, "1 min"), (600, "10 min"), (3600, "1 h"), (21_600, "6 h"), (86_400, "1 d"),
    (864_000, "10 d"), (8_640_000, "100 d"),
)  # fmt: skip
#: The least distance of two labels of an axis, in percent of its height.
_APART = 18.0
#: What is said of slots that are neither good nor bad.
_OTHER: Mapping[SlotState, str] = {"open": "not ended yet", "left_out": "left out by the job's own rules"}
#: The checks that are drawn, with their titles.
_DRAWN = {"input_drift": "Drift of the input", "answer_drift": "Drift of the answers"}
Colour = Literal["pass", "undecided", "fail", "line", "soft"]


_BREACH: Colour = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A rectangle, its corner at the top left."""

    x: str
    y: str
    width: str
    height: str
    colour: Colour


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A label of the vertical axis, at a height."""

    y: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A chart. `summary` says in words what it shows; `rule` is the height of the objective's line."""

    title: str
    summary: str
    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...] = ()
    line: str = ""
    rule: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownDays:
    """The days that the charts show, in bins of equal time."""

    first: dt.datetime
    last: dt.datetime

    @property
    def count(self) -> int:
        """The number of bins."""
        return min(_MOST, max(_LEAST, round((self.last - self.first) / dt.timedelta(days=1))))

    def x(self, at: dt.datetime) -> float:
        """Return the place of a time in percent; times outside of the window lie on its ends."""
        return min(max((at - self.first) / (self.last - self.first), 0.0), 1.0) * 100

    def binned(self, slots: Iterable[SlotOutcome]) -> list[list[SlotOutcome]]:
        """Return the slots of each bin, by their time."""
        count = self.count
        bins: list[list[SlotOutcome]] = [[] for _ in range(count)]
        width = (self.last - self.first) / count
        for slot in slots:
            bins[min(max((slot.at - self.first) // width, 0), count - 1)].append(slot)
        return bins

    def bar(self, place: int, top: float, bottom: float, colour: Colour) -> Bar:
        """Return the bar of a bin between two heights, with a gap to the next one."""
        width = 100 / self.count
        return Bar(
            x=_text(place * width), y=_text(top), width=_text(width * 0.8),
            height=_text(max(bottom - top, 0.0)), colour=colour,
        )  # fmt: skip


def charts(health: JobHealth, window: ShownDays, *, seconds: float) -> list[Chart]:
    """Return the charts of a job whose objective is `seconds`; none of a job without slots in the window."""
    if not health.slots:
        return []
    bins = window.binned(health.slots)
    found = [_outcomes(bins, window), _times(health, bins, window, seconds), _budget(health, bins, window)]
    found += [
        _bars("Cost, USD", bins, window, _cost, "{} USD in the window"),
        _bars("Rows of an input", bins, window, _rows, "at most {} rows"),
        _bars("Share of rows in quarantine", bins, window, _quarantined, "at most {} of the rows"),
    ]
    found += [_check(name, bins, window) for name in _DRAWN]
    return [chart for chart in found if chart]


def _check(name: str, bins: Sequence[Sequence[SlotOutcome]], window: ShownDays) -> Chart | None:
    """Return the values of a check that runs state in their facts, a breach in its own colour."""
    places = [[check for slot in slots if (check := _found(slot, name))] for slots in bins]
    top = max((value for checks in places for value, _ in checks), default=0.0)
    if top <= 0:
        return None
    bars = tuple(
        window.bar(place, 100 - max(value for value, _ in checks) / top * 98, 100.0, colour)
        for place, checks in enumerate(places)
        if checks
        for colour in [_BREACH if any(breach for _, breach in checks) else "line"]
    )
    ticks = (Tick(y="2", label=number(round(top, 4))), Tick(y="100", label="0"))
    count = sum(breach for checks in places for _, breach in checks)
    summary = f"at most {number(round(top, 4))}, beyond its bound in {count} of {sum(map(len, places))} runs"
    return Chart(title=_DRAWN[name], summary=summary, bars=bars, ticks=ticks)


def _found(slot: SlotOutcome, name: str) -> tuple[float, bool] | None:
    """Return the value of a check in the facts of a slot's run, and whether it is beyond its bound."""
    for check in slot.run.facts.get("checks") or ():
        if isinstance(check, Mapping) and check.get("name") == name:
            value = check.get("value")
            if isinstance(value, int | float) and math.isfinite(value):
                return float(value), check.get("state") == "breach"
    return None


def _outcomes(bins: Sequence[Sequence[SlotOutcome]], window: ShownDays) -> Chart:
    """Return the share of good, late and bad slots of each bin; open ones count as none of them."""
    bars, totals = [], Counter[SlotState]()
    colours: dict[SlotState, Colour] = {"bad": "fail", "late": "undecided", "good": "pass", "open": "soft"}
    for place, slots in enumerate(bins):
        top, counts = 0.0, Counter(slot.state for slot in slots)
        totals.update(counts)
        shown = sum(counts[state] for state in colours)
        for state, colour in colours.items():
            share = counts[state] / shown * 100 if shown else 0.0
            bars += [window.bar(place, top, top + share, colour)] if share else []
            top += share
    summary = f"{totals['good']} good, {totals['late']} late, {totals['bad']} bad"
    summary += "".join(f", {totals[state]} {words}" for state, words in _OTHER.items() if totals[state])
    return Chart(title="Slots", summary=summary, bars=tuple(bars))


def _times(
    health: JobHealth, bins: Sequence[Sequence[SlotOutcome]], window: ShownDays, objective: float
) -> Chart | None:
    """Return the least to the longest time of each bin, on a logarithmic axis, with the objective's line."""
    if not health.total.seconds:
        return None
    top = max(objective, health.total.seconds[-1], 10.0) * 1.6

    def height(value: float) -> float:
        return 100 - math.log10(max(value, 1.0)) / math.log10(top) * 100

    bars = []
    for place, slots in enumerate(bins):
        if times := [slot.seconds for slot in slots if slot.seconds is not None]:
            high, low = height(max(times)), height(min(times))
            middle = (high + low) / 2
            colour: Colour = "undecided" if max(times) > objective else "line"
            bars.append(window.bar(place, min(high, middle - 2.5), max(low, middle + 2.5), colour))
    summary = (
        f"median {_seconds(health.total.quantile(0.5))}, 95 % within {_seconds(health.total.quantile(0.95))};"
        f" the line is the objective, {_seconds(objective)}"
    )
    ticks = _apart([Tick(y=_text(height(value)), label=label) for value, label in _TIMES if value < top])
    return Chart(
        title="Time from due to published", summary=summary, bars=tuple(bars), ticks=tuple(ticks),
        rule=_text(height(objective)),
    )  # fmt: skip


def _budget(health: JobHealth, bins: Sequence[Sequence[SlotOutcome]], window: ShownDays) -> Chart | None:
    """Return what is left of the error budget at the end of each bin, counted from the window's beginning."""
    left = health.budget.left
    if left is None:
        return None
    lowest = min(0.0, left)

    def height(value: float) -> float:
        return (1 - value) / (1 - lowest) * 96 + 2

    points, bad = [f"0,{_text(height(1.0))}"], 0
    for place, slots in enumerate(bins):
        x, before = _text((place + 0.5) / window.count * 100), bad
        bad += sum(slot.state in {"late", "bad"} for slot in slots)
        if bad > before:
            points += [f"{x},{_text(height(1 - n / health.budget.allowed))}" for n in (before, bad)]
    points.append(f"100,{points[-1].partition(',')[2]}")
    ticks = [Tick(y=_text(height(1.0)), label="100 %"), Tick(y=_text(height(0.0)), label="0 %")]
    ticks += [Tick(y=_text(height(left)), label=percent(round(left, 2)))] if lowest < -0.2 else []
    return Chart(
        title="Error budget left", summary=str(health.budget), bars=(), ticks=tuple(ticks),
        line=" ".join(points), rule=_text(height(0.0)),
    )  # fmt: skip


def _bars(
    title: str,
    bins: Sequence[Sequence[SlotOutcome]],
    window: ShownDays,
    value: Callable[[Sequence[SlotOutcome]], float | None],
    words: str,
) -> Chart | None:
    """Return a bar for each bin that has a value, from 0; None when no bin has one above 0."""
    found = [value(slots) for slots in bins]
    known = [item for item in found if item is not None]
    top = max(known, default=0.0)
    if top <= 0:
        return None
    bars = tuple(
        window.bar(place, 100 - item / top * 98, 100.0, "line")
        for place, item in enumerate(found)
        if item is not None
    )
    total = math.fsum(known) if value is _cost else top
    ticks = (Tick(y="2", label=number(round(top, 4))), Tick(y="100", label="0"))
    return Chart(title=title, summary=words.format(number(round(total, 4))), bars=bars, ticks=ticks)


def _cost(slots: Sequence[SlotOutcome]) -> float | None:
    known = [slot.cost_usd for slot in slots if slot.cost_usd is not None]
    return math.fsum(known) if known else None


def _rows(slots: Sequence[SlotOutcome]) -> float | None:
    rows = [slot.run.rows for slot in slots if slot.state in {"good", "late"}]
    return sum(rows) / len(rows) if rows else None


def _quarantined(slots: Sequence[SlotOutcome]) -> float | None:
    rows = sum(slot.run.rows for slot in slots)
    return sum(slot.run.quarantined for slot in slots) / rows if rows else None


def _apart(ticks: Sequence[Tick]) -> list[Tick]:
    """Return the ticks that have room for their labels, beginning at the lowest."""
    kept: list[Tick] = []
    for tick in ticks:
        if not kept or float(kept[-1].y) - float(tick.y) >= _APART:
            kept.append(tick)
    return kept


def _seconds(value: float | None) -> str:
    """Return a duration in the largest unit of which it has at least one; "unknown" for None."""
    if value is None:
        return "unknown"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if value >= size:
            return f"{number(round(value / size, 3))} {unit}"
    return f"{number(round(value, 3))} s"


def _text(value: float) -> str:
    return f"{value:.2f}"
