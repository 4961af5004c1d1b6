"""Cards: a run, a comparison or a gate report as text and as HTML, each ending with the next command."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

#: Mid tones that read on white and on black.
_COLOURS = {
    "pass": "#2e9e5b",
    "better": "#2e9e5b",
    "fail": "#d64545",
    "worse": "#d64545",
    "undecided": "#b8860b",
}
_MARKS = {"pass": "✓", "better": "▲", "fail": "✗", "worse": "▼", "undecided": "?"}
_RULE = "1px solid rgba(128,128,128,.35)"
Row = Sequence[str]


class Ends(Protocol):
    """An interval, as a card shows one."""

    @property
    def low(self) -> float:
        """The lower end; -inf for none."""

    @property
    def high(self) -> float:
        """The upper end; inf for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A title, a table, notes and the next command, in two forms. Columns that are empty throughout go."""

    title: str
    head: Row
    rows: Sequence[Row]
    notes: Sequence[str]
    command: str
    verdict: str | None = None

    def _shown(self) -> list[int]:
        return [i for i in range(len(self.head)) if any(row[i] for row in self.rows)]

    def text(self) -> str:
        """The card as plain text."""
        table = [[row[i] for i in self._shown()] for row in (self.head, *self.rows)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in table
        ]
        first = f"{self.title} · {self.verdict.upper()}" if self.verdict else self.title
        return "\n".join([first, "", *(f"  {x}" for x in lines), "", *self.notes, f"next: {self.command}"])

    def html(self) -> str:
        """The card as HTML with inline styles, readable on light and dark ground."""
        shown = self._shown()
        header = "".join(_cell("th", self.head[i], self.head[i]) for i in shown)
        body = "".join(
            "<tr>" + "".join(_cell("td", row[i], self.head[i]) for i in shown) + "</tr>" for row in self.rows
        )
        below = "".join(f'<div style="opacity:.75">{html.escape(note)}</div>' for note in self.notes)
        frame = f"border:{_RULE};border-radius:6px;padding:10px 14px;margin:4px 0;max-width:72em"
        return (
            f'<div style="{frame};color:inherit;font-size:13px;overflow-x:auto">'
            f'<div style="margin-bottom:6px"><strong>{html.escape(self.title)}</strong>{self._badge()}</div>'
            f'<table style="border-collapse:collapse;margin:0 0 6px 0;color:inherit">'
            f"<thead><tr>{header}</tr></thead><tbody>{body}</tbody></table>{below}"
            f'<div style="margin-top:6px">next: <code>{html.escape(self.command)}</code></div></div>'
        )

    def _badge(self) -> str:
        if not self.verdict:
            return ""
        style = f"background:{_COLOURS[self.verdict]};color:#fff;border-radius:4px;padding:1px 8px"
        return f' <span style="{style}">{_MARKS[self.verdict]} {self.verdict}</span>'


def number(value: float | None) -> str:
    """A number in three significant digits."""
    if value is None:
        return "none"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:.0f}" if value == int(value) and abs(value) >= 2 else f"{value:.3g}"


def span(interval: Ends | None, *, signed: bool = False) -> str:
    """An interval as `[0.52, 0.68]`."""
    if interval is None:
        return ""
    ends = (f"{end:+.3g}" if signed and math.isfinite(end) else number(end) for end in _ends(interval))
    return f"[{', '.join(ends)}]"


def _ends(interval: Ends) -> tuple[float, float]:
    # Float noise around zero would print as 1e-17.
    low, high = (0.0 if abs(end) < 5e-7 else end for end in (interval.low, interval.high))
    return low, high


def degraded_note(searches: int) -> list[str]:
    """A line that says how many searches the last snapshot answered; none without any."""
    if not searches:
        return []
    were = "search was" if searches == 1 else "searches were"
    return [f"degraded: {searches} {were} answered by the last snapshot: the server was away"]


def percent(level: float) -> str:
    """A share as `90 %`."""
    return f"{level * 100:g} %"


# Runs


# Comparisons


def verdict_text(verdict: str | None, needed: int | None) -> str:
    """A verdict with its mark, and for an undecided one the number of cases that would decide it."""
    if verdict is None:
        return ""
    missing = f" ({needed} more cases)" if verdict == "undecided" and needed else ""
    return f"{_MARKS[verdict]} {verdict}{missing}"


# Gates


def _cell(tag: str, text: str, column: str) -> str:
    side = "left" if column in {"metric", "rule", "verdict", "note", "by tenant"} else "right"
    style = f"text-align:{side};padding:2px 10px 2px 0;border-bottom:{_RULE};vertical-align:top"
    if column == "verdict" and tag == "td" and text:
        style += f";font-weight:600;color:{_COLOURS.get(text.split()[1], 'inherit')}"
    if column not in {"note", "by tenant"}:
        style += ";white-space:nowrap"
    return f'<{tag} style="{style}">{html.escape(text)}</{tag}>'
