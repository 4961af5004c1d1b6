"""Validate chat answers, whole and streamed, and repair what deviates from the wire format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import orjson

from workbench import wire
from workbench.models import lenient_json
from workbench.models.endpoint_errors import EndpointErrors, states_error
from workbench.models.framing import Frame
from workbench.models.tool_calls import ToolCalls, index_of
from workbench.types import JSON

_IN_JSON: Final = "choices in JSON"
#: The beginnings of a stream of events.
_FIELDS: Final = (b":", b"data", b"event", b"id", b"retry")
_BLANK: Final = b"\xef\xbb\xbf \t\r\n"
_NO_FUNCTION: Final[JSON] = {}


class _FormatError(Exception):
    """A part of an answer is not of the wire format; the message names what was expected."""


def read_chat(body: bytes, errors: EndpointErrors) -> JSON:
    """Return a whole chat answer; a well-formed one is unchanged.

    Raises NoAnswerError for a body without an answer, UnavailableError for one that is cut off, and the error
    that an error object states.
    """
    try:
        answer = orjson.loads(body)
        lenient_json.check_depth(body, answer)
    except ValueError:
        answer = None
    if _is_plain(answer, "message") and answer["choices"]:
        return answer  # type: ignore[no-any-return]
    answer = read_object(body, "choices", errors, exact=True)
    try:
        choices = _choices(answer, errors)
        for position, choice in enumerate(choices):
            message = choice.pop("delta", None) if "message" not in choice else choice["message"]
            if message is None and wire.ending_of(choice) == "filtered":
                message = {"role": "assistant", "content": None}
            choice["message"] = _message(message, f"choices[{position}].message")
    except _FormatError as error:
        raise errors.no_answer(str(error), body) from None
    if not choices:
        raise errors.no_answer("choices", body, reason="no_choices")
    return lenient_json.storable({**answer, "choices": choices})  # type: ignore[no-any-return]


def read_object(body: bytes, needs: str, errors: EndpointErrors, *, exact: bool = False) -> dict[str, Any]:
    """Return a body's JSON object that has the key `needs`; the errors are those of `read_chat`.

    With `exact` it may hold values that strict JSON cannot store.
    """
    try:
        value = lenient_json.loads_exactly(body) if exact else lenient_json.loads(body)
    except ValueError:
        raise errors.not_json(f"{needs} in JSON", body) from None
    for item in value if isinstance(value, list) else [value]:
        raise_stated(item, errors)
    if not isinstance(value, dict) or needs not in value:
        raise errors.no_answer(f"{needs} in JSON", body)
    return value


def raise_stated(value: Any, errors: EndpointErrors) -> None:
    """Raise the error that `value` states if it is an error object."""
    if isinstance(value, dict) and (value.get("error") or value.get("object") == "error"):
        raise errors.of_object(lenient_json.storable(value))


class ChunkReader:
    """Read the chunks of one streamed chat answer; well-formed chunks are unchanged.

    A repaired chunk has a list of choices, each with an integer index, a delta, text as content and numbered
    tool calls. Halves of a surrogate pair are joined over chunks.
    """

    #: A chat answer ends with `[DONE]` or with the body, not with a chunk.
    ended = False

    def __init__(self, errors: EndpointErrors) -> None:
        self._errors = errors
        self._any = False  # a chunk came, with or without a choice
        self._open: set[int] = set()
        self._finished: set[int] = set()
        self._whole: set[int] = set()  # choices whose message came whole
        self._calls: dict[int, ToolCalls] = {}
        self._halves: dict[tuple[int, str | int], str] = {}

    def read(self, frame: Frame) -> list[JSON]:
        """Return the chunks of one event: one, or none for a keep-alive.

        Raises the error that the event states, NoAnswerError for what is not of the wire format, and
        UnavailableError for an event that is cut off.
        """
        try:
            chunk = orjson.loads(frame.data)
            lenient_json.check_depth(frame.data, chunk)
        except ValueError:
            return self._read_odd(frame)
        if frame.is_error or self._halves or not _is_plain(chunk, "delta"):
            return self._read_odd(frame)
        self._any = True
        for choice in chunk["choices"]:
            self._note(choice)
        return [chunk]

    def finish(self, head: bytes, *, done: bool) -> list[JSON]:
        """Return what is left at the end of the stream; `done` is true after `[DONE]`.

        Raises NoAnswerError if no choice came, and UnavailableError if the stream ended before its end.
        """
        answered, events = self._open or self._finished, head.lstrip(_BLANK).startswith(_FIELDS)
        if not answered and (done or (self._any and not events)):
            raise self._errors.no_answer("choices", head, reason="no_choices")
        if not answered and not events:
            raise self._errors.not_json(_IN_JSON, head)
        if not done and (self._open or not answered):
            raise self._errors.cut_off()
        parts = [{"index": n, "delta": self._lost(n)} for n in sorted({where[0] for where in self._halves})]
        return [{"object": "chat.completion.chunk", "choices": parts}] if parts else []

    def _note(self, choice: dict[str, Any]) -> None:
        """Note how far a choice is, and number its tool calls."""
        index = choice["index"]
        if choice.get("finish_reason"):
            self._open.discard(index)
            self._finished.add(index)
        elif index not in self._finished:
            self._open.add(index)
        if pieces := choice["delta"].get("tool_calls"):
            self._calls.setdefault(index, ToolCalls()).number(pieces)

    def _read_odd(self, frame: Frame) -> list[JSON]:
        try:
            value = lenient_json.loads_exactly(frame.data)
        except ValueError:
            return self._unreadable(frame)
        if frame.is_error:
            raise self._errors.of_object(lenient_json.storable(value))
        items = value if isinstance(value, list) else [value]
        try:
            return [self._repaired(item) for item in items if _is_chunk(item, self._errors)]
        except _FormatError as error:
            raise self._errors.no_answer(str(error), frame.data) from None

    def _unreadable(self, frame: Frame) -> list[JSON]:
        if frame.is_error:
            raise self._errors.of_status(500, frame.data, {})
        if self._open:
            raise self._errors.cut_off()
        if not self._finished:
            raise self._errors.not_json(_IN_JSON, frame.data)
        return []

    def _repaired(self, chunk: dict[str, Any]) -> JSON:
        """Return the chunk in the wire format."""
        self._any = True
        choices = _choices(chunk, self._errors)
        for position, choice in enumerate(choices):
            index = index_of(choice.get("index"))
            choice["index"] = position if index is None else index
            delta, message = choice.get("delta"), choice.pop("message", None)
            if delta is None and message is not None:
                delta = self._only(message, choice["index"])
            choice["delta"] = {} if delta is None else _message(delta, f"choices[{position}].delta")
            self._note(choice)
            self._join_halves(choice)
        if chunk.get("object") == "chat.completion":
            chunk["object"] = "chat.completion.chunk"
        return lenient_json.storable({**chunk, "choices": choices})  # type: ignore[no-any-return]

    def _only(self, message: Any, index: int) -> Any:
        """Return a whole message as the delta of its choice; after deltas it repeats them and is dropped."""
        if index in self._whole:
            raise _FormatError("deltas: two whole messages came for one choice")
        if index in self._open | self._finished:
            return None
        self._whole.add(index)
        return message

    def _join_halves(self, choice: dict[str, Any]) -> None:
        index, delta = choice["index"], choice["delta"]
        for name, value in delta.items():
            if isinstance(value, str):
                delta[name] = self._joined((index, name), value)
        for piece in delta.get("tool_calls") or ():
            function = piece.get("function") or {}
            if isinstance(function.get("arguments"), str):
                function["arguments"] = self._joined((index, piece["index"]), function["arguments"])
        if choice.get("finish_reason"):
            for name, value in self._lost(index).items():
                delta[name] = (delta.get(name) or type(value)()) + value

    def _joined(self, where: tuple[int, str | int], text: str) -> str:
        """Return `text` after the half that came before it; a half at its end waits for the next piece."""
        text = self._halves.pop(where, "") + text
        if text and "\ud800" <= text[-1] <= "\udbff":
            self._halves[where], text = text[-1], text[:-1]
        return lenient_json.whole_characters(text)

    def _lost(self, index: int) -> dict[str, Any]:
        """Return the delta of a choice with U+FFFD for each half that still waits."""
        delta: dict[str, Any] = {}
        for where in [where for where in self._halves if where[0] == index]:
            del self._halves[where]
            if isinstance(where[1], str):
                delta[where[1]] = "\ufffd"
            else:
                piece = {"index": where[1], "function": {"arguments": "\ufffd"}}
                delta["tool_calls"] = [*delta.get("tool_calls", ()), piece]
        return delta


def _is_chunk(item: Any, errors: EndpointErrors) -> bool:
    """Return whether an event is a chunk, and no keep-alive; raise the error that it states."""
    raise_stated(item, errors)
    if not isinstance(item, dict):
        return False
    if "choices" in item or "usage" in item:
        return True
    if states_error(item):
        raise errors.of_object(lenient_json.storable(item))
    return False


def _is_plain(answer: Any, part: str) -> bool:
    """Return whether a chat answer, or a chunk, is well formed and states no error."""
    if type(answer) is not dict or answer.get("error") or answer.get("object") == "error":
        return False
    choices = answer.get("choices")
    if type(choices) is not list:
        return False
    for choice in choices:  # noqa: SIM110 - `all` takes half a microsecond longer for each chunk
        if not _is_plain_choice(choice, part):
            return False
    return True


def _is_plain_choice(choice: Any, part: str) -> bool:
    if type(choice) is not dict or choice.get("error") or type(choice.get(part)) is not dict:
        return False
    finish, content = choice.get("finish_reason"), choice[part].get("content")
    if finish is not None and (type(finish) is not str or finish in {"", "error"}):
        return False
    if (content is not None and type(content) is not str) or not _has_plain_calls(choice[part]):
        return False
    return part == "message" or type(choice.get("index")) is int


def _has_plain_calls(message: Mapping[str, Any]) -> bool:
    function, calls = message.get("function_call"), message.get("tool_calls")
    if calls is None:
        return function is None or _is_plain_function(function)
    if type(calls) is not list or (function is not None and not _is_plain_function(function)):
        return False
    for call in calls:
        if type(call) is not dict or not _is_plain_function(call.get("function", _NO_FUNCTION)):
            return False
    return True


def _is_plain_function(function: Any) -> bool:
    if type(function) is not dict:
        return False
    arguments = function.get("arguments")
    return arguments is None or type(arguments) is str


def _choices(answer: Mapping[str, Any], errors: EndpointErrors) -> list[dict[str, Any]]:
    """Return copies of the choices that are not null; raise the error that one of them states."""
    found = answer.get("choices") or []
    if not isinstance(found, list):
        raise _FormatError("a list of choices")
    choices = [_mapping(choice, "a choice") for choice in found if choice is not None]
    for choice in choices:
        finish = choice.get("finish_reason")
        if choice.get("error") or finish == "error":
            raise errors.of_choice(lenient_json.storable(choice.get("error")), finish)
        if finish is not None:
            choice["finish_reason"] = str(finish) if finish else None
    return choices


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _FormatError(f"a mapping as {where}")
    return dict(value)


def _message(value: Any, where: str) -> dict[str, Any]:
    """Return a copy of a message, or of a delta, with its content as text and its calls as mappings."""
    message = _mapping(value, where)
    if message.get("content") is not None and not isinstance(message["content"], str):
        message.update(_content(message))
    if function := message.get("function_call"):
        message["function_call"] = _function(function, f"{where}.function_call")
    elif "function_call" in message:
        message["function_call"] = None
    if "tool_calls" in message:
        calls = message["tool_calls"] or []
        calls = [call for call in (calls if isinstance(calls, list) else [calls]) if call is not None]
        message["tool_calls"] = calls = [_mapping(call, f"a tool call of {where}") for call in calls]
        for call in calls:
            if "function" in call:
                call["function"] = _function(call["function"] or {}, f"a function of {where}")
    return message


def _function(value: Any, where: str) -> dict[str, Any]:
    function = _mapping(value, where)
    arguments = function.get("arguments")
    if arguments is not None and not isinstance(arguments, str):
        function["arguments"] = json.dumps(arguments, ensure_ascii=False)
    return function


def _content(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields for content that is not a text: the text of its parts, and what else it holds.

    Parts that are more than text, as a thinking part, stay whole in `content_parts`. A value that is no
    part is taken as its JSON text.
    """
    content = message["content"]
    parts = content if isinstance(content, list) else [content]
    texts, refusals, others = list[str](), list[str](), False
    for part in parts:
        kind, text = _part(part)
        if kind == "text":
            texts.append(text)
        elif kind == "refusal":
            refusals.append(text)
        others = others or (isinstance(part, dict) and not part.keys() <= {"type", "text", "refusal"})
    fields: dict[str, Any] = {"content": "".join(texts) if texts else None}
    if refusals:
        fields["refusal"] = (message.get("refusal") or "") + "".join(refusals)
    if others:
        fields["content_parts"] = parts
    return fields


def _part(part: Any) -> tuple[str, str]:
    """Return the kind of a part of the content, `text`, `refusal` or `other`, and its text."""
    if part is None or isinstance(part, str):
        return "text" if part else "other", part or ""
    if not isinstance(part, dict) or not part.keys() & {"type", "text"}:
        return "text", json.dumps(part, ensure_ascii=False)
    text = part.get("text")
    if isinstance(text, dict):  # {"value": …, "annotations": […]}
        text = text.get("value")
    if part.get("type") in ("text", "output_text", None) and isinstance(text, str):
        return "text", text
    refusal = part.get("refusal")
    if part.get("type") == "refusal" and isinstance(refusal, str):
        return "refusal", refusal
    return "other", ""
