"""Read from an answer what its record leaves out: model, id, finish reasons, and content if asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

from workbench import wire
from workbench.ports import Call
from workbench.types import Event, Hit

#: The states of a response in which it is at its end.
_ENDED: Final = frozenset({"completed", "incomplete", "failed", "cancelled"})
#: Most characters of one text and most entries of one list in a span; the last entries are kept.
MOST_TEXT: Final = 4_000
MOST_ENTRIES: Final = 32
#: Most characters of a name that an endpoint gives, and most events that are kept for content.
_MOST_NAME: Final = 256
_MOST_EVENTS: Final = 20_000


class AnswerFacts:
    """Reads the events of one answer as they pass; keeps them only when content is asked for.

    `clean` masks what the content may not hold.
    """

    def __init__(self, *, content: bool = False, clean: Callable[[Any], Any] | None = None) -> None:
        self._content = content
        self._clean = clean
        self._events: list[Event] = []
        self._model: str | None = None
        self._id: str | None = None
        self._finished: dict[int, str] = {}

    def take(self, event: Event) -> None:
        """Read one event."""
        if self._content and len(self._events) < _MOST_EVENTS:
            self._events.append(event)
        data = event.data
        if not isinstance(data, Mapping):
            return
        if isinstance(data.get("response"), Mapping):  # an event of the dialect `responses`
            data = data["response"]
        if isinstance(model := data.get("model"), str):
            self._model = model[:_MOST_NAME]
        if isinstance(name := data.get("id"), str):
            self._id = name[:_MOST_NAME]
        if data.get("object") == "response" and data.get("status") in _ENDED:
            self._finished[0] = str(data["status"])
        choices = data.get("choices")
        for choice in choices if isinstance(choices, list | tuple) else ():
            if isinstance(choice, Mapping) and isinstance(reason := choice.get("finish_reason"), str):
                index = choice.get("index")
                if len(self._finished) < MOST_ENTRIES:
                    self._finished[index if isinstance(index, int) else 0] = reason[:_MOST_NAME]

    def attributes(self, call: Call) -> dict[str, Any]:
        """Return the attributes of the answer, with the content of call and answer if asked for."""
        found: dict[str, Any] = {}
        if call.port == "model":
            if self._model:
                found["gen_ai.response.model"] = self._model
            if self._id:
                found["gen_ai.response.id"] = self._id
            if self._finished:
                found["gen_ai.response.finish_reasons"] = [self._finished[n] for n in sorted(self._finished)]
        if self._content:
            texts = self._of_search(call) if call.name == "memory.search" else self._of_model(call)
            found |= self._clean(texts) if self._clean is not None else texts
        return found

    def _of_search(self, call: Call) -> dict[str, Any]:
        hits = [hit for event in self._events for hit in _hits(event.data)]
        documents = [{"id": hit.id, "score": hit.score, "content": _cut(hit.text)} for hit in hits]
        return {
            "gen_ai.retrieval.query.text": _cut(str(getattr(call.payload.get("query"), "text", ""))),
            "gen_ai.retrieval.documents": _json(documents),
        }

    def _of_model(self, call: Call) -> dict[str, Any]:
        speaks = wire.DIALECTS.get(call.operation) if call.port == "model" else None
        if speaks is None:
            return {}
        if call.operation == "chat":
            asked = _messages(_mappings(call.payload.get("messages")))
        else:
            texts = [{"type": "text", "content": _cut(text)} for text in speaks.input_texts(call.payload)]
            asked = [{"role": "user", "parts": texts[-MOST_ENTRIES:]}]
        found = {"gen_ai.input.messages": _json(asked)}
        if not self._events or not speaks.generates:  # the call failed, or the answer has no text
            return found
        whole = speaks.fold(self._events)
        if call.operation == "chat":
            answered = _messages([_turn(choice) for choice in _mappings(whole.get("choices"))])
        else:
            text = {"type": "text", "content": _cut(speaks.text_of(whole))}
            answered = [{"role": "assistant", "parts": [text]}]
        return {**found, "gen_ai.output.messages": _json(answered)}


def _hits(data: Any) -> Iterable[Hit]:
    return [hit for hit in data if isinstance(hit, Hit)] if isinstance(data, list | tuple) else ()


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _turn(choice: Mapping[str, Any]) -> dict[str, Any]:
    return {**_mapping(choice.get("message")), "finish_reason": choice.get("finish_reason")}


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list | tuple) else []


def _messages(turns: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return chat turns in the form of the conventions: a role and parts."""
    found = []
    for turn in turns[-MOST_ENTRIES:]:
        role = _cut(str(turn.get("role") or "assistant"))
        message: dict[str, Any] = {"role": role, "parts": _parts(turn)}
        if turn.get("finish_reason"):
            message["finish_reason"] = str(turn["finish_reason"])
        found.append(message)
    return found


def _parts(turn: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the texts and tool calls of a turn; an image or a sound is named by its type alone."""
    content, parts = turn.get("content"), []
    if turn.get("role") == "tool":
        answer = {"id": _cut(str(turn.get("tool_call_id") or "")), "response": _cut(str(content))}
        return [{"type": "tool_call_response", **answer}]
    if isinstance(content, str) and content:
        parts.append({"type": "text", "content": _cut(content)})
    for part in _mappings(content)[-MOST_ENTRIES:]:
        text = part.get("text")
        if isinstance(text, str):
            parts.append({"type": "text", "content": _cut(text)})
        else:
            parts.append({"type": _cut(str(part.get("type")))})
    for asked in _mappings(turn.get("tool_calls"))[-MOST_ENTRIES:]:
        function = _mapping(asked.get("function"))
        arguments = _cut(str(function.get("arguments") or ""))
        name = {"id": _cut(str(asked.get("id") or "")), "name": _cut(str(function.get("name")))}
        parts.append({"type": "tool_call", **name, "arguments": arguments})
    return parts


def _cut(text: str) -> str:
    """Return a text that fits into a span; half of a surrogate pair has no UTF-8 and becomes `?`."""
    cut = text if len(text) <= MOST_TEXT else text[: MOST_TEXT - 1] + "…"
    return cut.encode("utf-8", "replace").decode()


def _json(value: list[dict[str, Any]]) -> str:
    return orjson.dumps(value[-MOST_ENTRIES:]).decode()
