"""A plot: what it shows, as SVG for a notebook or a page and as a table of its numbers for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from workbench import files
from workbench.display import Card, Row, number, span
from workbench.errors import ConfigError
from workbench.plots.labels import plain

#: What a mark stands for: the run that a gate judges, an explored arm, or an arm that should be low.
Role = Literal["", "judged", "explored", "control"]
#: The marks that a plot draws; its table has all of them.
MOST = 100
#: The characters of a name in the table.
_NAME = 60


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
        return "" if self.low is None or self.high is None else span(_Ends(low=self.low, high=self.high))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ends:
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """Marks on an axis. A notebook shows it as SVG, a terminal and papermill as a table.

    `form` is "rows", one below the other, or "points" over two axes. `axis` names the values, `across` the
    second axis of points or the forecast of rows, and `item` what a mark is, such as `arm`. `scale` is the
    extent of the axis of values; by default it is that of the marks. `reference` is a value with a dashed
    line. `notes` say how to read the plot.
    """

    title: str
    item: str
    axis: str
    marks: tuple[Mark, ...]
    form: Literal["rows", "points"] = "rows"
    across: str = ""
    scale: tuple[float, float] | None = None
    reference: float | None = None
    interval: str = "interval"
    notes: tuple[str, ...] = ()

    @property
    def svg(self) -> bytes:
        """The plot as SVG, in UTF-8: the same marks give the same bytes on every machine."""
        from workbench.plots import drawing

        return drawing.svg(self)

    def save(self, path: str | Path) -> Path:
        """Write the SVG to `path`, which ends in `.svg`, in one step; return the path.

        Raises ConfigError for another ending.
        """
        path = Path(path)
        if path.suffix != ".svg":
            raise ConfigError(
                f"a plot is saved as SVG; {files.shortened(str(path))!r} does not end in .svg",
                hint='plot.save("plot.svg")',
            )
        files.write_atomic(path, self.svg)
        return path

    def card(self) -> Card:
        """Return the table of the plot's numbers as a card."""
        grouped = any(mark.group for mark in self.marks)
        named = (self.item, self.across, self.axis, self.interval)
        head = [*(plain(text, _NAME) for text in named), "middle half", "n"]
        rows = [self._row(mark) for mark in self.marks]
        if grouped:
            head = ["of", *head]
            rows = [[plain(mark.group, _NAME), *row] for mark, row in zip(self.marks, rows, strict=True)]
        return Card(title=plain(self.title, 2 * _NAME), head=head, rows=rows, notes=self.notes)

    def _row(self, mark: Mark) -> Row:
        role = f" ({mark.role})" if mark.role else ""
        inner = span(_Ends(low=mark.inner[0], high=mark.inner[1])) if mark.inner else ""
        across = "" if mark.across is None else number(mark.across)
        name = plain(mark.name, _NAME) + role
        return [name, across, number(mark.value), mark.interval, inner, str(mark.n)]

    @property
    def drawn(self) -> Sequence[Mark]:
        """The marks that the SVG holds: at most 100."""
        return self.marks[:MOST]

    def __str__(self) -> str:
        return self.card().text()

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return {"image/svg+xml": self.svg.decode(), "text/plain": str(self)}
