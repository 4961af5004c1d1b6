"""Build the output items of a streamed response from its events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from workbench.types import JSON
from workbench.wire.shape import list_of, mapping_of


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPiece:
    """Where the text of `response.NAME.delta` belongs.

    `text` is the field it extends, of an item of the type `of`; with `parts`, of a part of the type `of` in
    that list of the item, whose number the event states as `counter`.
    """

    of: str
    text: str
    parts: str | None = None
    counter: str = ""


#: The texts that come in pieces, by the event's name between `response.` and `.delta`.
PIECES: Final[Mapping[str, TextPiece]] = {
    "output_text": TextPiece(of="output_text", text="text", parts="content", counter="content_index"),
    "refusal": TextPiece(of="refusal", text="refusal", parts="content", counter="content_index"),
    "reasoning_text": TextPiece(of="reasoning_text", text="text", parts="content", counter="content_index"),
    "reasoning_summary_text": TextPiece(
        of="summary_text", text="text", parts="summary", counter="summary_index"
    ),
    "function_call_arguments": TextPiece(of="function_call", text="arguments"),
    "custom_tool_call_input": TextPiece(of="custom_tool_call", text="input"),
    "mcp_call_arguments": TextPiece(of="mcp_call", text="arguments"),
    "code_interpreter_call_code": TextPiece(of="code_interpreter_call", text="code"),
}
#: The lists of parts of an item, by the event's name between `response.` and `.added` or `.done`.
_PARTS: Final[Mapping[str, tuple[str, str]]] = {
    "content_part": ("content", "content_index"),
    "reasoning_summary_part": ("summary", "summary_index"),
}
_Place = tuple[int, str, int]


class OutputItems:
    """The output items of one stream, in the order of their index.

    A value of a later event replaces an earlier one unless it is empty. An event without an index belongs to
    the item with its id, otherwise to the newest item.
    """

    def __init__(self) -> None:
        self._items: dict[int, dict[str, Any]] = {}
        self._parts: dict[_Place, dict[str, Any]] = {}
        self._texts: dict[_Place, list[str]] = {}
        self._annotations: dict[_Place, list[Any]] = {}
        self._names: dict[_Place, TextPiece] = {}
        self._numbers: dict[str, int] = {}
        self._newest = 0

    def index_of(self, event: JSON) -> int:
        """Return the index of the item that an event belongs to."""
        index, name = event.get("output_index"), event.get("item_id")
        if type(index) is int:
            return index
        return self._numbers.get(name, self._newest) if isinstance(name, str) else self._newest

    def number_of(self, event: JSON) -> int:
        """Return the index of the item that an `output_item` event carries: a known item's, or the next."""
        index = event.get("output_index")
        if type(index) is int:
            return index
        known = self._numbers.get(str(mapping_of(event.get("item")).get("id")))
        return max(self._items, default=-1) + 1 if known is None else known

    def add(self, event: JSON) -> None:
        """Add one event; events that change no item are ignored."""
        name, _, verb = str(event.get("type")).removeprefix("response.").rpartition(".")
        if name == "output_item":
            self._add_item(mapping_of(event.get("item")), event)
        elif name in _PARTS:
            field, counter = _PARTS[name]
            part = mapping_of(event.get("part"))
            place = self.index_of(event), field, _number(event.get(counter))
            self._items.setdefault(place[0], {"type": _item_type(field, part.get("type"))})
            _renew(self._parts.setdefault(place, {}), part)
            if part.get("annotations"):
                self._annotations.pop(place, None)  # the part has them all
        elif name in PIECES:
            self._add_text(PIECES[name], event, whole=verb == "done")
        elif name == "output_text.annotation":
            place = self.index_of(event), "content", _number(event.get("content_index"))
            self._items.setdefault(place[0], {"type": "message"})
            self._parts.setdefault(place, {"type": "output_text"})
            self._annotations.setdefault(place, []).append(event.get("annotation"))

    def built(self) -> list[dict[str, Any]]:
        """Return the items so far."""
        items = {index: dict(item) for index, item in self._items.items()}
        parts = {place: dict(part) for place, part in self._parts.items()}
        for place, pieces in self._texts.items():
            piece = self._names[place]
            holder = items[place[0]] if piece.parts is None else parts[place]
            holder[piece.text] = "".join(pieces) or holder.get(piece.text) or ""
        for place, notes in self._annotations.items():
            parts[place]["annotations"] = [*list_of(parts[place].get("annotations")), *notes]
        for index, field in {(index, field) for index, field, _ in parts}:
            if not items[index].get(field):
                found = sorted(place for place in parts if place[:2] == (index, field))
                items[index][field] = [parts[place] for place in found]
        return [items[index] for index in sorted(items)]

    def _add_item(self, item: Mapping[str, Any], event: JSON) -> None:
        self._newest = index = self.number_of(event)
        if isinstance(item.get("id"), str):
            self._numbers[item["id"]] = index
        _renew(self._items.setdefault(index, {}), item)

    def _add_text(self, piece: TextPiece, event: JSON, *, whole: bool) -> None:
        index = self.index_of(event)
        field = piece.text if piece.parts is None else piece.parts
        place = index, field, _number(event.get(piece.counter))
        if piece.parts is None:
            self._items.setdefault(index, {"type": piece.of})
        else:
            self._items.setdefault(index, {"type": _item_type(piece.parts, piece.of)})
            self._parts.setdefault(place, {"type": piece.of})
        self._names[place] = piece
        text = event.get(piece.text if whole else "delta")
        pieces = self._texts.setdefault(place, [])
        if isinstance(text, str) and text:
            if whole:
                pieces.clear()
            pieces.append(text)


def _item_type(field: str, part: object) -> str:
    """Return the type of an item whose beginning did not come, by one of its parts."""
    return "reasoning" if field == "summary" or part == "reasoning_text" else "message"


def _renew(into: dict[str, Any], more: Mapping[str, Any]) -> None:
    into.update({name: value for name, value in more.items() if value or name not in into})


def _number(value: object) -> int:
    return value if type(value) is int else 0
