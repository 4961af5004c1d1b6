"""The nodes of a view: what a panel shows, as values that the front end draws and a terminal prints.

A node holds text, never markup: the front end puts each text into a text node of the page, so that nothing in
an answer of a model is ever read as HTML. The JSON form of a node is one object with its kind under `t`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from workbench.display import harmless
from workbench.widgets.cutting import LONGEST, cut, more_than, named, printed, storable

#: What a text means, for its colour; a screen reader reads the text alone.
Tone = Literal["", "muted", "good", "bad", "warn"]
#: How a part of a text differs or why it is marked: words that match a search, that were added or removed.
Mark = Literal["", "match", "added", "removed"]


class Node(ABC):
    """One thing that a panel shows."""

    __slots__ = ()

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return the form that the front end draws."""

    @abstractmethod
    def lines(self) -> list[str]:
        """Return the lines that a terminal prints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Words(Node):
    """A text. `heading` is its level from 2 to 6, or 0; `code` keeps spaces and uses one width."""

    text: str
    tone: Tone = ""
    heading: int = 0
    code: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the text, cut at `LONGEST` characters with the number of those left out."""
        shown = {"t": "words", "text": cut(self.text), "tone": self.tone, "heading": self.heading}
        return shown | {"code": self.code}

    def lines(self) -> list[str]:
        """Return the lines of the text."""
        return ["", *harmless(self.text).splitlines()] if self.heading else printed(self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkedWords(Node):
    """A text in parts, each with its mark. A screen reader hears `added` and `removed` before a part."""

    parts: tuple[tuple[str, Mark], ...]

    @property
    def text(self) -> str:
        """The parts as one text, with `[-removed-]` and `{+added+}` as `git diff --word-diff` prints them."""
        around = {"removed": "[-{}-]", "added": "{{+{}+}}"}
        return "".join(around.get(mark, "{}").format(part) for part, mark in self.parts)

    def to_json(self) -> dict[str, Any]:
        """Return the parts up to `LONGEST` characters."""
        left, shown = LONGEST, []
        for text, mark in self.parts:
            shown += [[storable(text[:left]), mark]] if left > 0 else []
            left -= len(text)
        shown += [[more_than(-left), ""]] if left < 0 else []
        return {"t": "marked", "parts": shown}

    def lines(self) -> list[str]:
        """Return the lines of the text."""
        return printed(self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Button(Node):
    """What can be pressed: the panel's method `on_ACTION` is called with `value`.

    `shortcut` is one key that presses it while the panel has the focus. `pressed` is None, or the state of a
    button that stays pressed. `python` is the call that does the same; a terminal prints it.
    """

    label: str
    action: str
    value: Any = None
    shortcut: str = ""
    pressed: bool | None = None
    disabled: bool = False
    primary: bool = False
    python: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return all fields."""
        return {
            "t": "button", "label": named(self.label), "action": self.action, "value": self.value,
            "shortcut": self.shortcut, "pressed": self.pressed, "disabled": self.disabled,
            "primary": self.primary, "python": named(self.python),
        }  # fmt: skip

    def lines(self) -> list[str]:
        """Return the call that does the same, or nothing."""
        called = " ".join(f"{self.label}: {self.python}".split())
        return [f"  {line}" for line in printed(called)] if self.python and not self.disabled else []


@dataclass(frozen=True, slots=True, kw_only=True)
class Field(Node):
    """A text, a number or a choice that a person enters: the panel's method `on_ACTION` is called with it.

    `options` are pairs of value and label, for a choice. `rows` is the height of a text of several lines.
    `live` tells the panel while a person types, at most four times a second; otherwise at the end. `enter` is
    the action of the key Enter in a field of one line, after the text was sent.
    """

    label: str
    action: str
    text: str = ""
    options: tuple[tuple[str, str], ...] = ()
    rows: int = 1
    live: bool = False
    enter: str = ""
    placeholder: str = ""
    disabled: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return all fields; the text is whole, because what is entered must not be cut."""
        return {
            "t": "field", "label": named(self.label), "action": self.action, "text": storable(self.text),
            "options": [[value, named(label)] for value, label in self.options],
            "rows": self.rows, "live": self.live, "enter": self.enter,
            "placeholder": self.placeholder, "disabled": self.disabled,
        }  # fmt: skip

    def lines(self) -> list[str]:
        """Return the label with what is entered."""
        shown = dict(self.options).get(self.text, self.text)
        return printed(f"{self.label}: {shown}") if shown else []


@dataclass(frozen=True, slots=True, kw_only=True)
class Group(Node):
    """Nodes in a column, or in a `row` that wraps. With a `label` it is a group for a screen reader."""

    nodes: Sequence[Node]
    row: bool = False
    label: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the nodes."""
        nodes = [node.to_json() for node in self.nodes]
        return {"t": "group", "row": self.row, "label": named(self.label), "nodes": nodes}

    def lines(self) -> list[str]:
        """Return the lines of all nodes."""
        return [line for node in self.nodes for line in node.lines()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Details(Node):
    """Nodes under a summary that a person opens; a terminal prints them where `open` is true."""

    summary: str
    nodes: Sequence[Node]
    open: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the nodes, open or not."""
        nodes = [node.to_json() for node in self.nodes]
        return {"t": "details", "summary": cut(self.summary), "open": self.open, "nodes": nodes}

    def lines(self) -> list[str]:
        """Return the summary, and the nodes where they are open."""
        inner = [f"  {line}" for node in self.nodes for line in node.lines()] if self.open else []
        return [*printed(self.summary), *inner]


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter(Node):
    """How much of a whole is done or spent: `value` of `most`, with a label that states both in words."""

    value: float
    most: float
    label: str

    def to_json(self) -> dict[str, Any]:
        """Return all fields."""
        return {"t": "meter", "value": self.value, "most": self.most, "label": named(self.label)}

    def lines(self) -> list[str]:
        """Return the label."""
        return printed(self.label)
