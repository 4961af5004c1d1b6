"""The table of a view: one page of rows, sorted by its owner, so that a browser never loads all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from workbench.display import harmless
from workbench.widgets.cutting import cut, named, printed, shortened
from workbench.widgets.nodes import Button, Node, Words

#: Rows of a page, unless a table states another number.
PAGE = 20
#: Characters of one cell in a terminal.
_WIDE = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """The head of a column; an `action` sorts by `value`. `sorted` is "", "ascending" or "descending"."""

    label: str
    numeric: bool = False
    action: str = ""
    value: Any = None
    sorted: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return all fields."""
        return {
            "label": named(self.label), "numeric": self.numeric, "action": self.action, "value": self.value,
            "sorted": self.sorted,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid(Node):
    """Rows `first` to `first + len(rows) - 1` of `total`, counted from 0, under their headings.

    A cell is a node; a text is `Words`. `caption` says what the table lists. With a `page` action and more
    rows than shown, buttons call the panel's method `on_PAGE` with the first row wanted; pages have `size`
    rows. The row `current`, counted from the first shown, is marked.
    """

    caption: str
    headings: Sequence[Heading]
    rows: Sequence[Sequence[Node]]
    first: int = 0
    total: int = 0
    page: str = ""
    size: int = PAGE
    current: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return headings, rows, and the buttons of the pages."""
        return {
            "t": "grid", "caption": cut(self.caption), "current": self.current,
            "headings": [heading.to_json() for heading in self.headings],
            "rows": [[cell.to_json() for cell in row] for row in self.rows],
            "pages": [button.to_json() for button in self._pages()], "place": self._place(),
        }  # fmt: skip

    def lines(self) -> list[str]:
        """Return the rows as an aligned table, cells cut at 48 characters."""
        head = [harmless(named(heading.label)) for heading in self.headings]
        table = [[_short(text) for text in row] for row in (head, *map(_texts, self.rows))]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        numeric = [heading.numeric for heading in self.headings]
        body = [
            "  ".join(_aligned(*cell) for cell in zip(row, widths, numeric, strict=True)).rstrip()
            for row in table
        ]
        return [
            *printed(self.caption),
            *(f"  {line}" for line in body),
            *([f"  {self._place()}"] * self._cut),
        ]

    @property
    def _cut(self) -> bool:
        return self.total > len(self.rows)

    def _place(self) -> str:
        if not self._cut:
            return ""
        return f"{self.first + 1:,} to {self.first + len(self.rows):,} of {self.total:,}"

    def _pages(self) -> list[Button]:
        if not (self.page and self._cut):
            return []
        last = (self.total - 1) // self.size * self.size
        steps = (
            ("first page", 0, self.first == 0),
            ("previous page", max(0, self.first - self.size), self.first == 0),
            ("next page", min(last, self.first + self.size), self.first + len(self.rows) >= self.total),
            ("last page", last, self.first + len(self.rows) >= self.total),
        )
        return [Button(label=label, action=self.page, value=to, disabled=off) for label, to, off in steps]


def texts(*values: str) -> list[Node]:
    """Return cells of texts."""
    return [Words(text=value) for value in values]


def _texts(row: Sequence[Node]) -> list[str]:
    return [
        harmless(named(cell.label)) if isinstance(cell, Button) else " ".join(cell.lines()) for cell in row
    ]


def _short(text: str) -> str:
    return shortened(" ".join(text.split()), _WIDE)


def _aligned(text: str, width: int, numeric: bool) -> str:  # noqa: FBT001
    return text.rjust(width) if numeric else text.ljust(width)
