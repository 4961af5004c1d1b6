"""A window that was filled: its chat turns, and the report of what was kept, summarised and evicted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any, Literal

from workbench import files
from workbench.prompts.entries import Section
from workbench.types import Hit, Message

Fate = Literal["kept", "summarised", "evicted"]
_HEAD = ("section", "what", "tokens", "fate", "why")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What became of one entry, and why. `tokens` is what it takes alone; `what` is never its content."""

    section: Section
    what: str
    tokens: int
    fate: Fate
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Every entry of a window exactly once, in tokens.

    `used` is the whole request's count, never above `budget`; `counter` says how it was counted.
    """

    budget: int
    used: int
    counter: str
    lines: tuple[Line, ...]

    def tokens(self, fate: Fate) -> int:
        """Tokens of all entries with this fate, each counted alone."""
        return sum(line.tokens for line in self.lines if line.fate == fate)

    @property
    def title(self) -> str:
        """What was used of what, in one line."""
        return f"window · {self.used} of {self.budget} tokens, counted by {self.counter}"

    @property
    def note(self) -> str:
        """Totals, and what roles and headings take beside the entries."""
        counts = ", ".join(
            f"{fate} {sum(line.fate == fate for line in self.lines)} ({self.tokens(fate)} tokens)"
            for fate in ("kept", "summarised", "evicted")
        )
        return f"{counts}; roles and headings {self.used - self.tokens('kept')} tokens"

    def __str__(self) -> str:
        table = [_HEAD, *map(_cells, self.lines)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        rows = [
            "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in table
        ]
        return "\n".join([self.title, "", *(f"  {row}" for row in rows), "", self.note])

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in _HEAD)
        rows = "".join(f"<tr>{''.join(map(_cell, _cells(line)))}</tr>" for line in self.lines)
        return (
            f"<div><strong>{escape(self.title)}</strong><table><thead><tr>{head}</tr></thead>"
            f"<tbody>{rows}</tbody></table>{escape(self.note)}</div>"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """What a model is asked with: `ws.model().chat(window.fill())`.

    Chat turns within the budget, and the passages they carry in the order of their numbers, so that
    the reply knows its sources and its citations can be checked.
    """

    messages: tuple[Message, ...] = field(repr=False)
    passages: tuple[Hit, ...] = field(repr=False)
    report: Report
    prompt: str = "window"
    output: Mapping[str, Any] | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """SHA-256 of the turns."""
        return files.digest([turn.wire() for turn in self.messages])

    def _repr_html_(self) -> str:
        return self.report._repr_html_()


def _cells(line: Line) -> tuple[str, ...]:
    return (line.section, line.what, str(line.tokens), line.fate, line.why)


def _cell(text: str) -> str:
    return f'<td style="text-align:left">{escape(text)}</td>'
