"""Validate answers of `/responses`, whole and streamed, and repair what deviates from the wire format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import orjson

from workbench import wire
from workbench.models import lenient_json
from workbench.models.chat_format import raise_stated, read_object
from workbench.models.endpoint_errors import EndpointErrors, states_error
from workbench.models.framing import Frame
from workbench.types import JSON
from workbench.wire.output_items import PIECES, OutputItems

_IN_JSON: Final = "output in JSON"
#: The beginnings of a stream of events.
_FIELDS: Final = (b":", b"data", b"event", b"id", b"retry")
_BLANK: Final = b"\xef\xbb\xbf \t\r\n"
#: The events that end a stream with an answer; the last is a router's name for any of them.
_ENDS: Final = frozenset({"response.completed", "response.incomplete", "response.done"})
_FAILURES: Final = frozenset({"response.failed", "response.cancelled"})
#: The fields of an item that hold text, which some servers send as JSON.
_TEXT_FIELDS: Final = tuple({piece.text for piece in PIECES.values() if piece.parts is None})


class _ShapeError(Exception):
    """A part of a response is not of the wire format; the message names what was expected."""


def read_response(body: bytes, errors: EndpointErrors) -> JSON:
    """Return a whole response; a well-formed one is unchanged.

    Raises NoAnswerError for a body without a response, UnavailableError for one that is cut off, and the
    error that the response, or an error object, states.
    """
    answer = read_object(body, "output", errors)
    try:
        return _checked(answer, errors)
    except _ShapeError as error:
        raise errors.no_answer(str(error), body) from None


class ResponseReader:
    """Read the events of one streamed response; well-formed events are unchanged.

    A repaired event names its item's index and its part, and the last event has the whole output. Halves of
    a surrogate pair are joined over events. A whole response is split into events.
    """

    def __init__(self, errors: EndpointErrors) -> None:
        self._errors = errors
        self._items = OutputItems()
        self._any = False
        self._number = 0
        self._halves: dict[tuple[str, Any, Any], str] = {}
        self.ended = False

    def read(self, frame: Frame) -> list[JSON]:
        """Return the response's events in one event of the body: one, or none for a keep-alive.

        Raises the error that the event states, NoAnswerError for what is not of the wire format, and
        UnavailableError for an event that is cut off.
        """
        try:
            value, exact = orjson.loads(frame.data), False
            lenient_json.check_depth(frame.data, value)
        except ValueError:
            try:
                value, exact = lenient_json.loads_exactly(frame.data), True
            except ValueError:
                return self._unreadable(frame)
        if frame.is_error:
            raise self._errors.of_object(lenient_json.storable(value))
        found: list[JSON] = []
        try:
            for item in value if isinstance(value, list) else [value]:
                found += [] if self.ended else self._events(item)
        except _ShapeError as error:
            raise self._errors.no_answer(str(error), frame.data) from None
        return lenient_json.storable(found) if exact else found

    def finish(self, head: bytes, *, done: bool) -> list[JSON]:
        """Return no event; raise UnavailableError if the stream ended before its last event.

        Raises NoAnswerError if no event of a response came.
        """
        if self.ended:
            return []
        events = head.lstrip(_BLANK).startswith(_FIELDS)
        if not self._any and not events:
            raise self._errors.not_json(_IN_JSON, head)
        if not self._any and done:
            raise self._errors.no_answer("events of /responses", head, reason="no_choices")
        raise self._errors.cut_off()

    def _unreadable(self, frame: Frame) -> list[JSON]:
        if frame.is_error:
            raise self._errors.of_status(500, frame.data, {})
        if self.ended:
            return []
        raise self._errors.cut_off() if self._any else self._errors.not_json(_IN_JSON, frame.data)

    def _events(self, value: Any) -> list[JSON]:
        if not isinstance(value, dict):
            return []
        kind = value.get("type")
        if kind == "error":  # before `raise_stated`: the fields may be the event's own
            raise self._errors.of_object(lenient_json.storable(value))
        raise_stated(value, self._errors)
        if not isinstance(kind, str) or not kind.startswith("response."):
            return self._other(value)
        self._any = True
        event = self._repaired(value, kind)
        if event is None:
            return []
        self._items.add(event)
        self._number = max(self._number, event["sequence_number"]) + 1
        return [event]

    def _other(self, value: dict[str, Any]) -> list[JSON]:
        """Return the events of a whole response, and none for a keep-alive."""
        if isinstance(value.get("output"), list):
            if self._any:
                return []
            answer = _checked(value, self._errors)
            self._any = self.ended = True
            return wire.dialect("respond").unfold(lenient_json.storable(answer))
        if "choices" in value:
            raise _ShapeError("events of /responses (chunks of /chat/completions came)")
        if states_error(value):
            raise self._errors.of_object(lenient_json.storable(value))
        return []

    def _repaired(self, event: dict[str, Any], kind: str) -> dict[str, Any] | None:
        """Return the event in the wire format, or None for one that says nothing."""
        if type(event.get("sequence_number")) is not int:
            event["sequence_number"] = self._number
        if kind in _FAILURES:
            raise _failure(event.get("response"), self._errors)
        if kind in _ENDS:
            return self._last(event, kind)
        name, _, verb = kind.removeprefix("response.").rpartition(".")
        if name in PIECES and verb in {"delta", "done"}:
            return self._text(event, name, verb)
        if name in {"output_item", "content_part"}:
            field = "item" if name == "output_item" else "part"
            event[field] = _item(event.get(field), f"{field} of {kind}")
            if name == "content_part":
                self._place(event, "content_index")
            elif type(event.get("output_index")) is not int:
                event["output_index"] = self._items.number_of(event)
        return event

    def _text(self, event: dict[str, Any], name: str, verb: str) -> dict[str, Any] | None:
        """Return an event of a text with its place; None for a delta without text."""
        piece = PIECES[name]
        field = "delta" if verb == "delta" else piece.text
        text = event.get(field)
        if text is None and verb == "delta":
            return None
        if text is not None and not isinstance(text, str):
            if name == "function_call_arguments":
                text = json.dumps(text, ensure_ascii=False)
            else:
                raise _ShapeError(f"a text as {field} of {event['type']}")
        self._place(event, piece.counter)
        place = name, event["output_index"], event.get(piece.counter)
        if verb == "delta":
            text = self._joined(place, text or "")
        elif text is not None:
            self._halves.pop(place, None)
            text = lenient_json.whole_characters(text)
        event[field] = text
        return event

    def _place(self, event: dict[str, Any], counter: str) -> None:
        """Set the index of the event's item, and of the part in it, if a server left it out."""
        if type(event.get("output_index")) is not int:
            event["output_index"] = self._items.index_of(event)
        if counter and type(event.get(counter)) is not int:
            event[counter] = 0

    def _joined(self, place: tuple[str, Any, Any], text: str) -> str:
        """Return `text` after the half that came before it; a half at its end waits for the next piece."""
        text = self._halves.pop(place, "") + text
        if text and "\ud800" <= text[-1] <= "\udbff":
            self._halves[place], text = text[-1], text[:-1]
        return lenient_json.whole_characters(text)

    def _last(self, event: dict[str, Any], kind: str) -> dict[str, Any]:
        """Return the event that ends the stream, with the whole output."""
        response = event.get("response")
        if not isinstance(response, dict):
            raise _ShapeError(f"a response in {kind}")
        response = dict(response)
        if not response.get("output") and (built := self._items.built()):
            response["output"] = built
        if kind == "response.incomplete":
            response.setdefault("status", "incomplete")
        answer = _checked(response, self._errors)
        self.ended = True
        ends = "response.incomplete" if answer["status"] == "incomplete" else "response.completed"
        return {**event, "type": ends, "response": answer}


def _checked(answer: dict[str, Any], errors: EndpointErrors) -> dict[str, Any]:
    """Return a response with a status and a list of well-formed items; raise the error that it states."""
    status = answer.get("status")
    if answer.get("error") or status in ("failed", "cancelled"):
        raise _failure(answer, errors)
    if status is None:
        status = "incomplete" if answer.get("incomplete_details") else "completed"
    if not isinstance(status, str):
        raise _ShapeError("a text as status")
    output = answer.get("output") or []
    if not isinstance(output, list):
        raise _ShapeError("a list of items as output")
    items = [_item(item, f"output[{n}]") for n, item in enumerate(output) if item is not None]
    if not items and status == "completed":
        raise errors.no_answer("output", orjson.dumps(answer, default=str), reason="no_choices")
    return {**lenient_json.storable(answer), "status": status, "output": lenient_json.storable(items)}


def _failure(response: Any, errors: EndpointErrors) -> Exception:
    """Return the error of a response that failed or was cancelled."""
    stated = response.get("error") if isinstance(response, Mapping) else None
    if not stated:
        status = response.get("status") if isinstance(response, Mapping) else None
        stated = {"message": f"the response {status or 'failed'} without a reason"}
    return errors.of_object(lenient_json.storable(stated))


def _item(value: Any, where: str) -> dict[str, Any]:
    """Return a copy of an item, or of a part, with its texts as texts and its content as a list of parts."""
    if not isinstance(value, dict):
        raise _ShapeError(f"a mapping as {where}")
    item = dict(value)
    if "type" not in item and item.get("role"):
        item["type"] = "message"
    if item.get("type") == "message":
        item["content"] = _parts(item.get("content"), where)
    for name in _TEXT_FIELDS:
        if name in item and isinstance(item[name], dict | list) and str(item.get("type")).endswith("_call"):
            item[name] = json.dumps(item[name], ensure_ascii=False)
    return item


def _parts(content: Any, where: str) -> list[dict[str, Any]]:
    """Return the parts of a message; a text is one part, and a part of type `text` is an `output_text`."""
    found = [content] if isinstance(content, str | dict) else content or []
    if not isinstance(found, list):
        raise _ShapeError(f"a list of parts as content of {where}")
    parts = []
    for value in found:
        part = {"type": "output_text", "text": value, "annotations": []} if isinstance(value, str) else value
        if not isinstance(part, dict):
            raise _ShapeError(f"a part in the content of {where}")
        parts.append(_part(part))
    return parts


def _part(part: dict[str, Any]) -> dict[str, Any]:
    text = part.get("text")
    if part.get("type") in ("text", None) and isinstance(text, str):
        return {**part, "type": "output_text"}
    if part.get("type") == "output_text" and not isinstance(text, str):
        return {**part, "text": "" if text is None else json.dumps(text, ensure_ascii=False)}
    return part
