"""A card as a node of a panel: the same table, notes and next command as where no front end draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from workbench.display import Card
from workbench.widgets.cutting import printed
from workbench.widgets.nodes import Group, Node, Tone, Words
from workbench.widgets.table import Grid, Heading

_TONES: dict[str, Tone] = {
    "pass": "good", "better": "good", "fail": "bad", "worse": "bad", "undecided": "warn",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class CardNode(Node):
    """A card. A terminal prints its text, a browser draws its table."""

    card: Card

    def to_json(self) -> dict[str, Any]:
        """Return title and verdict, the table without empty columns, the notes and the next command."""
        card = self.card
        used = [i for i in range(len(card.head)) if any(row[i] for row in card.rows)]
        heads = [Heading(label=card.head[i], numeric=not card.is_text(i)) for i in used]
        rows = [[_cell(card.head[i], row[i]) for i in used] for row in card.rows]
        table: list[Node] = [Grid(caption=card.heading, headings=heads, rows=rows, total=len(rows))]
        nodes = [
            *(table if rows else [Words(text=card.heading, heading=3)]),
            *([Words(text="\n".join(card.notes), tone="muted")] if card.notes else []),
            *([Words(text=f"next: {card.command}", code=True)] if card.command else []),
        ]
        return Group(nodes=nodes).to_json()

    def lines(self) -> list[str]:
        """Return the lines of the card's text."""
        return printed(self.card.text())


def _cell(column: str, text: str) -> Words:
    words = text.split()
    tone = _TONES.get(words[1], "") if column == "verdict" and len(words) > 1 else ""
    return Words(text=text, tone=tone)
