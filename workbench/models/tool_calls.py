"""Assign the pieces of streamed tool calls to their calls, whatever index, id and name a server repeats."""

from __future__ import annotations

import json
from typing import Any


class _ToolCall:
    """One call of a streamed answer. `sent` is the index that the server sent, None if it sent none."""

    def __init__(self, index: int, sent: int | None) -> None:
        self.index = index
        self.sent = sent
        self.id = self.name = ""
        self.arguments: list[str] = []


class ToolCalls:
    """Number the tool calls of one streamed choice.

    A piece belongs to the newest call with its index; without an index to the call with its id, otherwise to
    the newest call. It begins a call if there is none, or if its id or name contradicts that call.
    """

    def __init__(self) -> None:
        self._calls: list[_ToolCall] = []

    def number(self, pieces: list[dict[str, Any]]) -> None:
        """Set each piece's `index` to the number of its call; each `function` is a mapping or missing."""
        touched: list[_ToolCall] = []
        for position, piece in enumerate(pieces):
            index, function = piece.get("index"), piece.get("function") or {}
            newest = self._calls[-1] if self._calls else None
            more = newest and type(index) is int and newest.sent == newest.index == index
            if newest and more and not piece.get("id") and not function.get("name"):  # the common case
                newest.arguments.append(function.get("arguments") or "")
                continue
            name = _text(function.get("name"))
            call = self._call_of(piece, name, position if len(pieces) > 1 and not name else -1, touched)
            touched.append(call)
            if type(index) is not int or index != call.index:
                piece["index"] = call.index
            if piece.get("id") and call.id:
                piece["id"] = call.id

    def _call_of(
        self, piece: dict[str, Any], name: str, position: int, touched: list[_ToolCall]
    ) -> _ToolCall:
        """Return the call of a piece; `touched` are the calls of the pieces before it in the same chunk."""
        sent, id_ = index_of(piece.get("index")), _text(piece.get("id"))
        arguments = _text((piece.get("function") or {}).get("arguments"))
        call = self._named(sent, id_, position)
        twice = sent is None and name and call in touched
        if call is None or twice or _contradicts(call, id_, name, arguments):
            call = self._begin(sent)
        call.id = call.id or id_
        call.name = name or call.name
        call.arguments.append(arguments)
        return call

    def _named(self, sent: int | None, id_: str, position: int) -> _ToolCall | None:
        """Return the call that a piece seems to continue, or None."""
        for call in reversed(self._calls):
            if (sent is not None and call.sent == sent) or (sent is None and id_ and call.id == id_):
                return call
        if sent is not None or not self._calls:
            return None
        return self._calls[position if position < len(self._calls) else -1]

    def _begin(self, sent: int | None) -> _ToolCall:
        taken = {call.index for call in self._calls}
        free = sent if sent is not None and sent not in taken else max(taken, default=-1) + 1
        self._calls.append(_ToolCall(free, sent))
        return self._calls[-1]


def _contradicts(call: _ToolCall, id_: str, name: str, arguments: str) -> bool:
    """Return whether a piece with this id, name and arguments begins a call, and does not continue `call`."""
    if not name or (id_ and id_ == call.id):
        return False
    if id_ and call.id:
        return True
    if not any(call.arguments):
        return False
    return name != call.name or bool(arguments.strip() and _is_json("".join(call.arguments)))


def index_of(value: object) -> int | None:
    """Return an index sent as an integer, a text or a float; None if it is none of them."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and value.isdecimal() and len(value) < 10:
        value = int(value)
    return value if type(value) is int and abs(value) < 2**31 else None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
