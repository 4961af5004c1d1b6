"""A plot: what it shows, as SVG for a notebook or a page and as a table of its numbers for a terminal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from workbench import files
from workbench.display import Card, Row, number, span
from workbench.errors import ConfigError
from workbench.plots.labels import plain
from workbench.plots.picture import Mark, MarkEnds, Picture

#: The characters of a name in the table.
_NAME = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot(Picture):
    """Marks on an axis. A notebook shows it as SVG, a terminal and papermill as a table.

    `interval` says what the intervals are, and `notes` say how to read the plot.
    """

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
        inner = span(MarkEnds(low=mark.inner[0], high=mark.inner[1])) if mark.inner else ""
        across = "" if mark.across is None else number(mark.across)
        name = plain(mark.name, _NAME) + role
        return [name, across, number(mark.value), mark.interval, inner, str(mark.n)]

    def __str__(self) -> str:
        return self.card().text()

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return {"image/svg+xml": self.svg.decode(), "text/plain": str(self)}
