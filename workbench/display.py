"""Cards: a value as text and as HTML, with a title, a table, notes and the next command."""

from __future__ import annotations

import html
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

#: Medium colours, readable on white and on black.
_COLOURS = {
    "pass": "#2e9e5b",
    "better": "#2e9e5b",
    "fail": "#d64545",
    "worse": "#d64545",
    "undecided": "#b8860b",
    "same": "#767676",
    "control": "#767676",
}
#: The marks of verdicts, by their first word.
_MARKS = {
    "pass": "✓", "better": "▲", "fail": "✗", "worse": "▼", "undecided": "◐", "same": "=", "control": "○",
    "higher": "↑", "lower": "↓",
}  # fmt: skip
_RULE = "1px solid rgba(128,128,128,.35)"
#: Columns of long texts, which wrap, and of short texts, which do not.
_LONG = frozenset({"", "note", "by tenant", "text", "question", "answers", "about it", "why"})
_TEXT = _LONG | {"metric", "rule", "verdict", "source", "title", "section", "what", "fate", "change"}
Row = Sequence[str]
#: Characters that a terminal obeys, and those that turn the direction of a text.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class Ends(Protocol):
    """An interval of numbers."""

    @property
    def low(self) -> float:
        """Return the lower end, or -inf."""

    @property
    def high(self) -> float:
        """Return the upper end, or inf."""


def harmless(text: str) -> str:
    """Return a text with escapes, as JSON writes them, for what a terminal obeys; lines and tabs stay."""
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class Shown(ABC):
    """A value that is displayed as its card: text in a terminal, HTML in a notebook."""

    __slots__ = ()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # IPython prefers the `__repr__` that a dataclass makes to a method of a base class.
        cls._repr_pretty_ = Shown._repr_pretty_  # type: ignore[method-assign]

    @abstractmethod
    def card(self) -> Card:
        """Return the card of the value."""

    def __str__(self) -> str:
        return self.card().text()

    def _repr_html_(self) -> str:
        return self.card().html()

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: FBT001  the form is IPython's
        """Print the card where IPython shows text: in its terminal, and in the log of papermill."""
        printer.text(type(self).__name__ if cycle else str(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A title, a table, notes and the next command. Empty columns are left out."""

    title: str
    head: Row
    rows: Sequence[Row]
    notes: Sequence[str] = ()
    command: str = ""
    verdict: str | None = None

    @property
    def heading(self) -> str:
        """The title, with the verdict if there is one."""
        return f"{self.title} · {self.verdict.upper()}" if self.verdict else self.title

    def text(self) -> str:
        """Return the card as plain text, with nothing that a terminal obeys."""
        next_line = [f"next: {self.command}"] if self.command else []
        table = [f"  {line}" for line in self._table()] if self.rows else []
        lines = [self.heading, "", *table, *([""] if table else []), *self.notes, *next_line]
        return harmless("\n".join(lines).rstrip("\n"))

    def html(self) -> str:
        """Return the card as HTML with inline styles, readable on light and dark backgrounds."""
        columns = self._columns()
        header = "".join(_cell("th", self.head[i], self.head[i]) for i in columns)
        body = "".join(
            "<tr>" + "".join(_cell("td", row[i], self.head[i]) for i in columns) + "</tr>"
            for row in self.rows
        )
        below = "".join(f'<div style="opacity:.75">{html.escape(note)}</div>' for note in self.notes)
        if self.command:
            below += f'<div style="margin-top:6px">next: <code>{html.escape(self.command)}</code></div>'
        frame = f"border:{_RULE};border-radius:6px;padding:10px 14px;margin:4px 0;max-width:72em"
        return (
            f'<div style="{frame};color:inherit;font-size:13px;overflow-x:auto">'
            f'<div style="margin-bottom:6px"><strong>{html.escape(self.title)}</strong>{self._badge()}</div>'
            f'<table style="border-collapse:collapse;margin:0 0 6px 0;color:inherit">'
            f"<thead><tr>{header}</tr></thead><tbody>{body}</tbody></table>{below}</div>"
        )

    def is_text(self, column: int) -> bool:
        """Return whether a column holds texts, which are aligned at their beginning."""
        return self.head[column] in _TEXT

    def _columns(self) -> list[int]:
        return [i for i in range(len(self.head)) if any(row[i] for row in self.rows)]

    def _table(self) -> list[str]:
        table = [[row[i] for i in self._columns()] for row in (self.head, *self.rows)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        return [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in table
        ]

    def _badge(self) -> str:
        if not self.verdict:
            return ""
        kind = self.verdict.split(",")[0]
        style = f"background:{_COLOURS[kind]};color:#fff;border-radius:4px;padding:1px 8px"
        return f' <span style="{style}">{_MARKS[kind]} {self.verdict}</span>'


def number(value: float | None) -> str:
    """Return a number in three significant digits."""
    if value is None:
        return "none"
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:.0f}" if value == int(value) and abs(value) >= 2 else f"{value:.3g}"


def span(interval: Ends | None, *, signed: bool = False) -> str:
    """Return an interval as `[0.52, 0.68]`."""
    if interval is None:
        return ""
    # Rounding errors near zero would print as 1e-17.
    ends = (0.0 if abs(end) < 5e-7 else end for end in (interval.low, interval.high))
    shown = (f"{end:+.3g}" if signed and math.isfinite(end) else number(end) for end in ends)
    return f"[{', '.join(shown)}]"


def percent(level: float) -> str:
    """Return a share as `90 %`."""
    return f"{level * 100:g} %"


def degraded_note(searches: int) -> list[str]:
    """Return a note with the number of searches that the last snapshot answered, or no note for 0."""
    if not searches:
        return []
    were = "search was" if searches == 1 else "searches were"
    return [f"degraded: {searches} {were} answered by the last snapshot: the server was away"]


def truncated_note(rows: int) -> list[str]:
    """Return a note with the number of rows whose answer the limit of tokens cut, or no note for 0."""
    if not rows:
        return []
    were = "answer was" if rows == 1 else "answers were"
    return [f"truncated: {rows} {were} cut at the limit of tokens, and scored as they are"]


def fallback_note(answers: int, reasons: Mapping[str, int] | None = None) -> list[str]:
    """Return a note with the number of answers by a fall-back and their reasons, or no note for 0."""
    if not answers:
        return []
    were = "answer was" if answers == 1 else "answers were"
    why = ", ".join(f"{number} {reason}" for reason, number in (reasons or {}).items())
    note = f"fall-back: {answers} {were} given in place of the first model, which did not answer"
    return [f"{note}: {why}" if why else note]


def verdict_text(verdict: str | None, needed: int | None) -> str:
    """Return a verdict with its mark, and for an undecided one the number of cases needed."""
    if verdict is None:
        return ""
    missing = f" ({needed} more cases)" if verdict == "undecided" and needed else ""
    return f"{_MARKS[verdict.split(',')[0]]} {verdict}{missing}"


def _cell(tag: str, text: str, column: str) -> str:
    side = "left" if column in _TEXT else "right"
    style = f"text-align:{side};padding:2px 10px 2px 0;border-bottom:{_RULE};vertical-align:top"
    if column == "verdict" and tag == "td" and text:
        style += f";font-weight:600;color:{_COLOURS.get(text.split()[1].rstrip(','), 'inherit')}"
    if column not in _LONG:
        style += ";white-space:nowrap"
    return f'<{tag} style="{style}">{html.escape(text)}</{tag}>'
