"""What a span says of an answer beside its record: model, id and finish reasons, and content if asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

from workbench import wire
from workbench.errors import WorkbenchError
from workbench.ports import Call
from workbench.types import Event, Hit

#: Most characters of one text and most entries of one list in a span; the last entries are kept.
MOST_TEXT: Final = 4_000
MOST_ENTRIES: Final = 32


class AnswerFacts:
    """Reads the events of one answer as they pass; keeps them only when content is asked for."""

    def __init__(self, *, content: bool = False) -> None:
        self._content = content
        self._events: list[Event] = []
        self._model: str | None = None
        self._id: str | None = None
        self._finished: dict[int, str] = {}

    def take(self, event: Event) -> None:
        """Read one event."""
        if self._content:
            self._events.append(event)
        data = event.data
        if not isinstance(data, Mapping):
            return
        if isinstance(data.get("response"), Mapping):  # an event of the dialect `responses`
            data = data["response"]
        if isinstance(model := data.get("model"), str):
            self._model = model
        if isinstance(name := data.get("id"), str):
            self._id = name
        choices = data.get("choices")
        for choice in choices if isinstance(choices, list | tuple) else ():
            if isinstance(choice, Mapping) and isinstance(reason := choice.get("finish_reason"), str):
                index = choice.get("index")
                self._finished[index if isinstance(index, int) else 0] = reason

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
            found |= self._of_search(call) if call.name == "memory.search" else self._of_chat(call)
        return found

    def _of_search(self, call: Call) -> dict[str, Any]:
        hits = [hit for event in self._events for hit in _hits(event.data)]
        documents = [{"id": hit.id, "score": hit.score, "content": _cut(hit.text)} for hit in hits]
        return {
            "gen_ai.retrieval.query.text": _cut(str(getattr(call.payload.get("query"), "text", ""))),
            "gen_ai.retrieval.documents": _json(documents),
        }

    def _of_chat(self, call: Call) -> dict[str, Any]:
        if call.operation != "chat":
            return {}
        found = {"gen_ai.input.messages": _json(_messages(_mappings(call.payload.get("messages"))))}
        try:
            whole = wire.fold(self._events)
        except WorkbenchError:  # no event: the call failed
            return found
        choices = [
            {**_mapping(choice.get("message")), "finish_reason": choice.get("finish_reason")}
            for choice in _mappings(whole.get("choices"))
        ]
        return {**found, "gen_ai.output.messages": _json(_messages(choices))}


def _hits(data: Any) -> Iterable[Hit]:
    return [hit for hit in data if isinstance(hit, Hit)] if isinstance(data, list | tuple) else ()


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list | tuple) else []


def _messages(turns: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return chat turns in the form of the conventions: a role and parts."""
    found = []
    for turn in turns[-MOST_ENTRIES:]:
        message: dict[str, Any] = {"role": str(turn.get("role") or "assistant"), "parts": _parts(turn)}
        if turn.get("finish_reason"):
            message["finish_reason"] = str(turn["finish_reason"])
        found.append(message)
    return found


def _parts(turn: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the texts and tool calls of a turn; an image or a sound is named by its type alone."""
    content, parts = turn.get("content"), []
    if turn.get("role") == "tool":
        answer = {"id": str(turn.get("tool_call_id") or ""), "response": _cut(str(content))}
        return [{"type": "tool_call_response", **answer}]
    if isinstance(content, str) and content:
        parts.append({"type": "text", "content": _cut(content)})
    for part in _mappings(content)[-MOST_ENTRIES:]:
        text = part.get("text")
        if isinstance(text, str):
            parts.append({"type": "text", "content": _cut(text)})
        else:
            parts.append({"type": str(part.get("type"))})
    for asked in _mappings(turn.get("tool_calls"))[-MOST_ENTRIES:]:
        function = _mapping(asked.get("function"))
        arguments = _cut(str(function.get("arguments") or ""))
        call = {"id": str(asked.get("id") or ""), "name": str(function.get("name")), "arguments": arguments}
        parts.append({"type": "tool_call", **call})
    return parts


def _cut(text: str) -> str:
    return text if len(text) <= MOST_TEXT else text[: MOST_TEXT - 1] + "…"


def _json(value: list[dict[str, Any]]) -> str:
    return orjson.dumps(value[-MOST_ENTRIES:]).decode()
