"""The preview of a prompt for one case: its rendered turns or what is wrong, its tokens and its price."""

from __future__ import annotations

from dataclasses import dataclass, field

from workbench.display import Card, Shown, number
from workbench.prompts.prompt import Rendered
from workbench.prompts.surroundings import CallPrice
from workbench.types import Hit

#: Characters of a turn that a card shows.
_SHOWN = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview(Shown):
    """A prompt rendered for a case, or the `problem` why it cannot be.

    `tokens` are those of the input, counted by `counted_by`; `estimated` says that no model counted them, and
    `why_estimated` why.
    """

    reference: str
    case: str
    problem: str = ""
    rendered: Rendered | None = field(default=None, repr=False)
    tokens: int | None = None
    counted_by: str = ""
    estimated: bool = True
    why_estimated: str = ""
    price: CallPrice | None = None

    @property
    def passages(self) -> tuple[Hit, ...]:
        """The passages that the prompt was given."""
        return self.rendered.passages if self.rendered is not None else ()

    @property
    def amount(self) -> str:
        """Tokens and price in one line; empty for a prompt that cannot be rendered."""
        if self.tokens is None or self.price is None:
            return ""
        about = "about " if self.estimated else ""
        by = f"{self.counted_by}: {self.why_estimated}" if self.why_estimated else self.counted_by
        return f"{about}{self.tokens:,} tokens of input, counted by {by} · {priced(self.price)}"

    def card(self) -> Card:
        """Return the turns, or the problem, with tokens and price."""
        turns = self.rendered.messages if self.rendered is not None else ()
        rows = [(turn.role, _short(turn.content)) for turn in turns]
        title = f"{self.reference} · {self.case}" if self.case else self.reference
        notes = [text for text in (self.problem, self.amount) if text]
        return Card(title=title, head=("turn", "text"), rows=rows, notes=notes)


def priced(price: CallPrice) -> str:
    """Return a price in words."""
    if price.input_usd is None:
        return "price unknown" + (f"; {price.hint}" if price.hint else "")
    if not price.input_usd and not price.most_usd:
        return f"0 USD{_by(price)}"
    if price.most_usd is None:
        return f"{number(price.input_usd)} USD and the answer, which has no limit{_by(price)}"
    most = f"at most {number(price.most_usd)} USD with an answer of {price.most_tokens} tokens"
    return f"{most}{_by(price)}"


def _by(price: CallPrice) -> str:
    """Return where a price is stated, in brackets."""
    where = {"card": "on the model's card", "params.yaml": "in params.yaml"}.get(
        price.source, f"of {price.source}"
    )
    return f" (price {where})" if price.source else ""


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} … {len(text) - _SHOWN:,} more characters"
