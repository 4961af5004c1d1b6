"""What a plot draws: marks on an axis, without the verbs that show and save it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isnan
from typing import Literal

from workbench.display import span

#: What a mark stands for: the run that a gate judges, an explored arm, or an arm that should be low.
Role = Literal["", "judged", "explored", "control"]
#: The marks that a plot draws; its table has all of them.
MOST = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkEnds:
    """The ends of an interval of a mark; an end may be infinite."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One row or point: a value with an interval from `low` to `high`, over `n` cases.

    An infinite end is drawn up to the edge. `inner` is a narrower interval, such as the middle half.
    `across` is the place on the second axis of points; in rows it is what was forecast. `group` is the
    heading of the rows that follow each other with it.
    """

    name: str
    n: int
    value: float | None = None
    low: float | None = None
    high: float | None = None
    inner: tuple[float, float] | None = None
    across: float | None = None
    role: Role = ""
    group: str = ""

    @property
    def interval(self) -> str:
        """The interval as text; "" without one."""
        return "" if self.low is None or self.high is None else span(MarkEnds(low=self.low, high=self.high))


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Marks on an axis.

    `form` is "rows", one below the other, or "points" over two axes. `axis` names the values, `across` the
    second axis of points or the forecast of rows, and `item` what a mark is, such as `arm`. `scale` is the
    extent of the axis of values; by default it is that of the marks. `reference` is a value with a dashed
    line.
    """

    title: str
    item: str
    axis: str
    marks: tuple[Mark, ...]
    form: Literal["rows", "points"] = "rows"
    across: str = ""
    scale: tuple[float, float] | None = None
    reference: float | None = None

    @property
    def drawn(self) -> Sequence[Mark]:
        """The marks that are drawn: at most 100, in which a number that is NaN is unknown."""
        return [_known(mark) for mark in self.marks[:MOST]]


def _known(mark: Mark) -> Mark:
    """Return a mark whose numbers that are NaN are None."""
    value, low, high, across = (
        None if n is None or isnan(n) else n for n in (mark.value, mark.low, mark.high, mark.across)
    )
    inner = None if mark.inner is None or any(map(isnan, mark.inner)) else mark.inner
    return replace(mark, value=value, low=low, high=high, across=across, inner=inner)
