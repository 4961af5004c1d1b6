"""Put the values of pseudonyms back into the events of an answer, whole or streamed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from workbench.types import JSON
from workbench.wire.contents import FIXED
from workbench.wire.pseudonyms import PseudonymCounts, RequestPseudonyms

#: Fields whose texts are JSON, in which a value is escaped.
_JSON_FIELDS: Final = frozenset({"arguments", "partial_json"})
_DELTA: Final = ".delta"
#: The place of a text that comes in pieces: of a choice, or of an item, and of a field in it.
Place = tuple[Any, ...]


class RestoredAnswer:
    """Puts values back into the events of one answer, and counts what the answer did with the pseudonyms.

    Of a streamed text only what may begin a pseudonym is held back, until the text goes on or ends. With
    `as_json`, the text of the answer is JSON, as a response format demands.
    """

    def __init__(self, names: RequestPseudonyms, *, as_json: bool = False) -> None:
        self.counts = PseudonymCounts()
        self._names = names
        self._as_json = as_json
        self._held: dict[Place, str] = {}
        self._texts: dict[Place, list[str]] = {}
        self._events: dict[Place, JSON] = {}  # the last event of a response for each held text

    def whole(self, answer: JSON) -> JSON:
        """Return an answer that is one event, with the values in it."""
        return self._walked(answer, as_json=self._as_json)  # type: ignore[no-any-return]

    def chunk(self, data: Any) -> list[Any]:
        """Return what to pass on for one event of a stream: that event, after held text if its text ends."""
        if not isinstance(data, Mapping):
            return [data]
        if "choices" in data:
            return [self._chat(data)]
        kind = data.get("type")
        if isinstance(kind, str) and kind.endswith(_DELTA) and isinstance(data.get("delta"), str):
            place = _place_of(data, kind.removesuffix(_DELTA))
            self._events[place] = data
            text = self._piece(place, data["delta"], as_json="arguments" in kind or self._is_answer(kind))
            return [{**data, "delta": text}]
        before = [*self._ended(data)] if isinstance(kind, str) else []
        return [*before, self._walked(data, as_json=self._as_json, count=False)]

    def rest(self) -> list[Any]:
        """Return events with the texts that are still held, at the end of a stream; count its pseudonyms."""
        events: list[Any] = []
        for place in [*self._held]:
            text = self._held.pop(place)
            if text and place in self._events:
                events.append({**self._events[place], "delta": text})
            elif text:
                delta = _nested(place[1:], text)
                choice = {"index": place[0], "delta": delta, "finish_reason": None}
                events.append({"object": "chat.completion.chunk", "choices": [choice]})
        for pieces in self._texts.values():
            self._names.count("".join(pieces), self.counts)
        self._texts.clear()
        return events

    def _is_answer(self, kind: str) -> bool:
        return self._as_json and kind == "response.output_text.delta"

    def _piece(self, place: Place, piece: str, *, as_json: bool) -> str:
        """Return what may be passed on of a text that comes in pieces."""
        pieces = self._texts.setdefault(place, [])
        pieces.append(piece)
        text = self._held.pop(place, "") + piece
        held = self._names.held(text)
        if held:
            self._held[place], text = text[-held:], text[:-held]
        passed = len(text) + held
        return self._names.restored(text, as_json=as_json, before=lambda: "".join(pieces)[:-passed])

    def _chat(self, data: JSON) -> JSON:
        choices = []
        for choice in data.get("choices") or ():
            delta = choice.get("delta") if isinstance(choice, Mapping) else None
            if not isinstance(delta, Mapping):
                choices.append(self._walked(choice, as_json=self._as_json))
                continue
            index = choice.get("index") or 0
            new = self._delta(delta, (index,), as_json=False)
            if choice.get("finish_reason"):
                for place in [place for place in self._held if place[0] == index]:
                    _append(new, place[1:], self._held.pop(place))
            choices.append({**choice, "delta": new})
        return {**data, "choices": choices}

    def _delta(self, value: Any, place: Place, *, as_json: bool) -> Any:
        """Return a delta, or a part of one, with each text as a piece of the text of its place."""
        if isinstance(value, str):
            return self._piece(place, value, as_json=as_json)
        if isinstance(value, Mapping):
            return {
                name: item
                if isinstance(item, str) and (name in FIXED or name == "name")
                else self._delta(item, (*place, name), as_json=self._in_json(name, place))
                for name, item in value.items()
            }
        if isinstance(value, list):
            return [
                self._delta(item, (*place, _number(item, n)), as_json=as_json) for n, item in enumerate(value)
            ]
        return value

    def _in_json(self, name: str, place: Place) -> bool:
        return name in _JSON_FIELDS or (self._as_json and name == "content" and len(place) == 1)

    def _ended(self, event: JSON) -> Iterator[JSON]:
        """Yield the held texts that an event of a response ends, as events of their own."""
        kind = str(event["type"])
        whole = kind in {"response.completed", "response.incomplete", "response.failed"}
        of = _place_of(event, kind.removesuffix(".done"))
        for place in [*self._held]:
            item_ends = kind == "response.output_item.done" and place[1] == event.get("output_index")
            if whole or item_ends or place == of:
                yield {**self._events[place], "delta": self._held.pop(place)}

    def _walked(self, value: Any, *, as_json: bool, count: bool = True, name: str = "") -> Any:
        """Return a value with the values of pseudonyms in all its texts."""
        if isinstance(value, str):
            if count:
                self._names.count(value, self.counts)
            in_json = name in _JSON_FIELDS or (as_json and name in {"content", "text"})
            return self._names.restored(value, as_json=in_json)
        if isinstance(value, Mapping):
            return {
                key: item
                if isinstance(item, str) and key in FIXED
                else self._walked(item, as_json=as_json, count=count, name=key)
                for key, item in value.items()
            }
        if isinstance(value, list):
            return [self._walked(item, as_json=as_json, count=count, name=name) for item in value]
        return value


def _number(item: Any, position: int) -> Any:
    """Return the number of an entry of a list in a delta: the one that it states, or its position."""
    return item.get("index", position) if isinstance(item, Mapping) else position


def _place_of(event: JSON, kind: str) -> Place:
    return (
        kind,
        event.get("output_index"),
        event.get("item_id"),
        event.get("content_index", event.get("summary_index")),
    )


def _nested(path: Place, text: str) -> dict[str, Any]:
    """Return a delta with a text at a path of fields and of numbers of entries."""
    delta: dict[str, Any] = {}
    _append(delta, path, text)
    return delta


def _append(into: Any, path: Place, text: str) -> None:
    """Append a text at a path of a delta; entries of lists are found by the index that they state."""
    name, rest = path[0], path[1:]
    if isinstance(into, list):
        entry = next((e for n, e in enumerate(into) if _number(e, n) == name), None)
        if entry is None:
            entry = {"index": name}
            into.append(entry)
        _append(entry, rest, text)
    elif not rest:
        into[name] = (into.get(name) or "") + text
    else:
        if not isinstance(into.get(name), dict | list):
            into[name] = [] if isinstance(rest[0], int) else {}
        _append(into[name], rest, text)
