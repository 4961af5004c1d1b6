"""A filled window: its chat turns, and the report of what is kept, summarised and evicted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from workbench.display import Card, Shown
from workbench.prompts.entries import Section
from workbench.prompts.prompt import Rendered

Fate = Literal["kept", "summarised", "evicted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowLine:
    """The fate of one entry, and its reason; `what` names the entry and never holds its text."""

    section: Section
    what: str
    fate: Fate
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowReport(Shown):
    """Every entry of a window once; `used` tokens of the request, counted by `counter`, within `budget`."""

    budget: int
    used: int
    counter: str
    lines: tuple[WindowLine, ...]

    def card(self) -> Card:
        """One row for each entry, with its fate."""
        return Card(
            title=f"window · {self.used} of {self.budget} tokens, counted by {self.counter}",
            head=("section", "what", "fate", "why"),
            rows=[(line.section, line.what, line.fate, line.why) for line in self.lines],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FilledWindow(Rendered, Shown):
    """A request within the budget; `passages` stand in the order of their numbers in the request."""

    report: WindowReport

    def card(self) -> Card:
        """The card of the report: never a text of the window."""
        return self.report.card()
