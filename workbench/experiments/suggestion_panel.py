"""The panel of suggested cases: accept, edit or reject each draft."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from workbench.widgets.cutting import quoted
from workbench.widgets.nodes import Button, Field, Group, Node, Tone, Words
from workbench.widgets.panel import Panel
from workbench.widgets.table import Grid, Heading

#: Rows of a page.
_ROWS = 8
#: What separates the accepted answers of a draft in their field.
_BETWEEN = "|"
_TONES: dict[str, Tone] = {"accepted": "good", "rejected": "bad"}
_HEADINGS = tuple(Heading(label=label) for label in ("draft", "decision", "question", "answers", "note"))


class _Drafts(Protocol):
    """What the panel needs of `SuggestedCases`."""

    @property
    def ids(self) -> tuple[str, ...]: ...
    @property
    def rows(self) -> list[dict[str, Any]]: ...
    def decision(self, case_id: str, /) -> str: ...
    def sentence(self, case_id: str, /) -> str: ...
    def note(self, case_id: str, /) -> str: ...
    def accept(self, *ids: str) -> Any: ...
    def reject(self, *ids: str) -> Any: ...
    def reset(self, *ids: str) -> Any: ...
    def edit(
        self, case_id: str, /, *, question: str | None = None, answers: Sequence[str] | None = None
    ) -> Any: ...


class SuggestionPanel(Panel):
    """A list of drafts, and the current one to decide on and to edit. What is decided changes the drafts.

    After a decision the next undecided draft is the current one.
    """

    def __init__(self, drafts: _Drafts) -> None:
        self._drafts = drafts
        self.current = next(iter(drafts.ids), "")

    def view(self) -> Node:
        """Return the list and the current draft."""
        rows = {row["id"]: row for row in self._drafts.rows}
        if not rows:
            return Words(text="no case was drafted; drafts.reasons says why", tone="muted")
        place = self._place
        first = place // _ROWS * _ROWS
        shown = self._drafts.ids[first : first + _ROWS]
        counts = [self._drafts.decision(name) for name in rows]
        decided = ", ".join(f"{counts.count(name)} {name}" for name in ("accepted", "rejected", "undecided"))
        grid = Grid(
            caption=f"Suggested cases: {len(rows)} drafts, {decided}",
            headings=_HEADINGS,
            rows=[self._row(rows[name]) for name in shown],
            first=first,
            total=len(rows),
            page="page",
            size=_ROWS,
            current=place - first,
        )
        return Group(nodes=(grid, *self._draft(rows[self.current])))

    # -- what a person does ------------------------------------------------------------------

    def on_accept(self, _: Any) -> None:
        """Accept the current draft."""
        self._drafts.accept(self.current)
        self._go_on()

    def on_reject(self, _: Any) -> None:
        """Reject the current draft."""
        self._drafts.reject(self.current)
        self._go_on()

    def on_reset(self, _: Any) -> None:
        """Make the current draft undecided again."""
        self._drafts.reset(self.current)

    def on_question(self, text: str) -> None:
        """Change the question of the current draft."""
        self._drafts.edit(self.current, question=text)

    def on_answers(self, text: str) -> None:
        """Change the accepted answers of the current draft, separated by `|`."""
        self._drafts.edit(self.current, answers=[answer.strip() for answer in text.split(_BETWEEN)])

    def on_open(self, name: str) -> None:
        """Show a draft."""
        self._drafts.decision(name)  # NotFoundError for an unknown one
        self.current = name

    def on_next(self, _: Any) -> None:
        """Show the next draft."""
        self._move(1)

    def on_previous(self, _: Any) -> None:
        """Show the previous draft."""
        self._move(-1)

    def on_page(self, first: int) -> None:
        """Show another page, with its first draft."""
        self.current = self._drafts.ids[min(max(0, int(first)), len(self._drafts.ids) - 1)]

    # -- what is shown -----------------------------------------------------------------------

    @property
    def _place(self) -> int:
        return self._drafts.ids.index(self.current)

    def _move(self, by: int) -> None:
        wanted = self._place + by
        if 0 <= wanted < len(self._drafts.ids):
            self.current = self._drafts.ids[wanted]

    def _go_on(self) -> None:
        ids, place = self._drafts.ids, self._place
        rest = (*ids[place + 1 :], *ids[:place])
        undecided = (name for name in rest if self._drafts.decision(name) == "undecided")
        self.current = next(undecided, self.current)

    def _row(self, row: dict[str, Any]) -> list[Node]:
        name = row["id"]
        decision = self._drafts.decision(name)
        return [
            Button(label=name, action="open", value=name),
            Words(text=decision, tone=_TONES.get(decision, "muted")),
            Words(text=row["question"]),
            Words(text=f" {_BETWEEN} ".join(row["answers"])),
            Words(text=self._drafts.note(name), tone="warn"),
        ]

    def _draft(self, row: dict[str, Any]) -> list[Node]:
        name, decision, note = row["id"], self._drafts.decision(row["id"]), self._drafts.note(row["id"])
        answers = f" {_BETWEEN} ".join(row["answers"])
        last = len(self._drafts.ids) - 1
        buttons = (
            Button(
                label="accept", action="accept", shortcut="a", pressed=decision == "accepted",
                python=f"drafts.accept({quoted(name)})",
            ),
            Button(
                label="reject", action="reject", shortcut="r", pressed=decision == "rejected",
                python=f"drafts.reject({quoted(name)})",
            ),
            Button(
                label="undecided", action="reset", shortcut="u", disabled=decision == "undecided",
                python=f'drafts.reset("{name}")',
            ),
            Button(label="previous", action="previous", shortcut="p", disabled=self._place == 0),
            Button(label="next", action="next", shortcut="n", disabled=self._place == last),
        )  # fmt: skip
        return [
            Words(text=f"{name} · {row['tenant']} / {row['page']}", heading=3),
            Words(text=self._drafts.sentence(name)),
            Group(row=True, nodes=buttons, label="decide"),
            Field(label="question", action="question", text=row["question"], rows=2),
            Field(label=f"accepted answers, separated by {_BETWEEN}", action="answers", text=answers),
            *([Words(text=note, tone="warn")] if note else []),
        ]
