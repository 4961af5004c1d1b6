"""The panel of feedback on a reply: good or bad, and a note. What a person says is an outcome of the call."""

from __future__ import annotations

from typing import Any, Protocol

from workbench.display import Card
from workbench.errors import ConfigError
from workbench.records.outcomes import RecordedOutcome, check_note
from workbench.types import Reply
from workbench.widgets.cutting import cut
from workbench.widgets.nodes import Button, Field, Group, Node, Words
from workbench.widgets.panel import Panel

#: Characters of the reply that the panel shows.
_SHOWN = 600


class Recording(Protocol):
    """Records what a person says of a reply."""

    def __call__(self, text: str, *, said: bool) -> RecordedOutcome:
        """Record good or bad, with a note."""


class FeedbackPanel(Panel):
    """What one person says of one reply. Saying it again replaces it; `given` is what was recorded last."""

    def __init__(self, reply: Reply, record: Recording, *, given: RecordedOutcome | None = None) -> None:
        self._reply, self._record, self.given = reply, record, given
        self.note = given.note if given is not None else ""

    @property
    def good(self) -> bool | None:
        """What was said; None before anything was."""
        return None if self.given is None else bool(self.given.value)

    def give(self, *, good: bool, note: str | None = None) -> RecordedOutcome:
        """Record what a person says, with a note, by default the one that is written in the panel."""
        wanted = self.note if note is None else note
        self.given = self._record(wanted, said=good)
        self.note = self.given.note
        return self.given

    def on_give(self, good: Any) -> None:
        """Record good or bad."""
        if not isinstance(good, bool):
            raise ConfigError("feedback is good or bad", hint="panel.give(good=True)")
        self.give(good=good)
        self.notice = "recorded; saying it again replaces it"

    def on_note(self, text: str) -> None:
        """Take the note, and record it with what was said before."""
        self.note = check_note(text)
        if self.good is not None and text != (self.given.note if self.given else ""):
            self.on_give(self.good)

    def view(self) -> Node:
        """Return the beginning of the reply, two buttons and the note."""
        text = self._reply.text.strip()
        shown = cut(text, _SHOWN)
        python = 'ws.feedback(reply, good={}, note="…")'
        return Group(
            label="Feedback on the reply",
            nodes=(
                Words(text="Was this reply good?", heading=3),
                *([Words(text=shown, code=True)] if shown else []),
                Group(row=True, nodes=(
                    Button(label="Good", action="give", value=True, pressed=self.good is True,
                           shortcut="y", python=python.format("True")),
                    Button(label="Bad", action="give", value=False, pressed=self.good is False,
                           shortcut="n", python=python.format("False")),
                )),
                Field(label="Note", action="note", text=self.note, rows=2,
                      placeholder="what was good or wrong; name no person"),
                *([Words(text=self._said(), tone="muted")] if self.given is not None else []),
            ),
        )  # fmt: skip

    def card_html(self) -> str:
        """Return what was said as a card."""
        return Card(
            title="feedback on the reply", head=("said", "note"), rows=[(self._said(), self.note)]
        ).html()

    def _said(self) -> str:
        if self.given is None:
            return "nothing yet"
        return f"{'good' if self.good else 'bad'}, by {self.given.principal}, {self.given.at[:16]} UTC"
