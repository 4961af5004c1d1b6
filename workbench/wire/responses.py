"""The wire shape of `/responses`: typed events and whole responses, their text, usage and end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from workbench.errors import UnavailableError
from workbench.types import JSON, Event, Usage
from workbench.wire.output_items import PIECES, OutputItems
from workbench.wire.shape import (
    ENDINGS,
    Dialect,
    count_of,
    json_texts,
    list_of,
    mapping_of,
    no_text,
    texts_of,
)

#: The event that ends a stream, by the status of its response.
TERMINAL: Final[Mapping[str, str]] = {
    "completed": "response.completed",
    "incomplete": "response.incomplete",
    "failed": "response.failed",
}
#: What a response has only at its end.
_AT_END: Final = frozenset({"status", "output", "usage", "error", "incomplete_details"})
#: The ends of the types of items that are calls. The endpoint's own tools are among them: with a text they
#: have been answered.
_CALLS: Final = ("_call", "_approval_request")
#: Fields of a request, beside its input, that the endpoint shows to the model.
_SHOWN: Final = ("tools", "text")


def is_event(data: Any) -> bool:
    """Return whether `data` is an event of a streamed response."""
    kind = data.get("type") if isinstance(data, Mapping) else None
    return isinstance(kind, str) and kind.startswith("response.")


def _fold(events: Iterable[Event]) -> JSON:
    """Combine the events of a stream into the response; return a whole response unchanged.

    The response of the last event counts. Output that it leaves out comes from the events before it. Raises
    UnavailableError for a stream without events.
    """
    found = [event.data for event in events]
    if not found:
        raise UnavailableError("the stream ended without an event")
    if not is_event(found[0]):
        whole: JSON = found[0]
        return whole
    items, answer = OutputItems(), dict[str, Any]()
    for data in found:
        if isinstance(data.get("response"), Mapping):
            before = {name: value for name, value in answer.items() if name not in _AT_END}
            answer = {**before, **data["response"]}
        else:
            items.add(data)
    if not answer.get("output") and (built := items.built()):
        answer["output"] = built
    return answer


def _unfold(answer: JSON, *, usage: bool = True) -> list[JSON]:  # noqa: ARG001 - the last event has it
    """Split a whole response into the events of a stream; the inverse of `_fold`."""
    begun = {**answer, "status": "in_progress", "output": [], "usage": None}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
    ]
    for index, item in enumerate(list_of(answer.get("output"))):
        if isinstance(item, Mapping):
            events += _item_events(item, index)
    end = TERMINAL.get(str(answer.get("status")), TERMINAL["completed"])
    events.append({"type": end, "response": answer})
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


def _item_events(item: JSON, index: int) -> list[dict[str, Any]]:
    """Return the events of one output item: its beginning, its texts, its end."""
    empty = dict(item)
    where = {"item_id": item.get("id"), "output_index": index}
    inside: list[dict[str, Any]] = []
    for name, piece in PIECES.items():
        if piece.parts is None and piece.of == item.get("type") and isinstance(item.get(piece.text), str):
            empty[piece.text] = ""
            inside += _text_events(name, item[piece.text], where)
    for field, counter, part_name in (
        ("summary", "summary_index", "reasoning_summary_part"),
        ("content", "content_index", "content_part"),
    ):
        if isinstance(item.get(field), list | tuple):
            empty[field] = []
            for number, part in enumerate(item[field]):
                inside += _part_events(part, part_name, {**where, counter: number})
    if "status" in item:
        empty["status"] = "in_progress"
    begin = {"type": "response.output_item.added", "output_index": index, "item": empty}
    return [begin, *inside, {"type": "response.output_item.done", "output_index": index, "item": item}]


def _part_events(part: Any, name: str, where: JSON) -> list[dict[str, Any]]:
    """Return the events of one part of an item's content or summary."""
    kind = part.get("type") if isinstance(part, Mapping) else None
    texts = {piece.of: (event, piece.text) for event, piece in PIECES.items() if piece.parts is not None}
    begin, inside = part, list[dict[str, Any]]()
    if isinstance(kind, str) and kind in texts and isinstance(part.get(texts[kind][1]), str):
        event, text = texts[kind]
        begin = {**part, text: ""}
        inside = _text_events(event, part[text], where)
    return [
        {"type": f"response.{name}.added", **where, "part": begin},
        *inside,
        {"type": f"response.{name}.done", **where, "part": part},
    ]


def _text_events(name: str, text: str, where: JSON) -> list[dict[str, Any]]:
    more: dict[str, Any] = {"logprobs": []} if name == "output_text" else {}
    return [
        {"type": f"response.{name}.delta", **where, "delta": text, **more},
        {"type": f"response.{name}.done", **where, PIECES[name].text: text, **more},
    ]


def _is_complete(events: Sequence[Event]) -> bool:
    """Return whether the events are a whole response, or a stream with the event that ends it."""
    if events and not is_event(events[0].data):
        return events[0].data.get("status") in (None, "completed", "incomplete")
    ends = (TERMINAL["completed"], TERMINAL["incomplete"])
    return any(event.data.get("type") in ends for event in events)


def _piece_of(data: JSON) -> str:
    if data.get("type") == "response.output_text.delta":
        return str(data.get("delta") or "")
    return "" if is_event(data) else _text_of(data)


def _response_of(data: JSON) -> Mapping[str, Any]:
    """Return the response itself, or the response that an event carries."""
    return mapping_of(data.get("response")) if is_event(data) else data


def _states_usage(data: JSON) -> bool:
    return bool(_response_of(data).get("usage"))


def _usage_of(data: JSON) -> Usage:
    """Return the token counts of a response or of an event that carries one."""
    usage = mapping_of(_response_of(data).get("usage"))
    return Usage(
        input_tokens=count_of(usage.get("input_tokens")),
        output_tokens=count_of(usage.get("output_tokens")),
        cached_tokens=count_of(mapping_of(usage.get("input_tokens_details")).get("cached_tokens")),
        reasoning_tokens=count_of(mapping_of(usage.get("output_tokens_details")).get("reasoning_tokens")),
    )


def _items_of(answer: JSON) -> list[Mapping[str, Any]]:
    return [item for item in list_of(answer.get("output")) if isinstance(item, Mapping)]


def _parts_of(answer: JSON, kind: str) -> list[Mapping[str, Any]]:
    """Return the parts of this type in the messages of a response."""
    messages = (item for item in _items_of(answer) if item.get("type") == "message")
    parts = (part for message in messages for part in list_of(message.get("content")))
    return [part for part in parts if isinstance(part, Mapping) and part.get("type") == kind]


def _calls_of(answer: JSON) -> list[Mapping[str, Any]]:
    """Return the items that wait for the caller: calls of its tools, and requests for its approval."""
    return [item for item in _items_of(answer) if str(item.get("type")).endswith(_CALLS)]


def _text_of(answer: JSON) -> str:
    """Return the text of every message; empty without text, as in a tool call."""
    texts = (part.get("text") for part in _parts_of(answer, "output_text"))
    return "".join(text for text in texts if isinstance(text, str))


def _finish_of(answer: JSON) -> str | None:
    """Return the reason of an incomplete response, else its status: `completed`, or a server's own value."""
    reason = mapping_of(answer.get("incomplete_details")).get("reason")
    finish = reason if answer.get("status") == "incomplete" and reason else answer.get("status")
    return finish if isinstance(finish, str) else None


def _ending_of(answer: JSON) -> str:
    """Return how a response ended early; an incomplete one without a known reason is truncated."""
    if answer.get("status") != "incomplete":
        return ""
    return ENDINGS.get(str(_finish_of(answer)).lower(), "truncated")


def _reason_of(answer: JSON) -> str:
    """Return what a response lacks to be a complete text, as for chat; empty if it lacks nothing."""
    if _parts_of(answer, "refusal"):
        return "refusal"
    if ending := _ending_of(answer):
        return ending
    if _text_of(answer):
        return ""
    return "tool_call" if _calls_of(answer) else "empty"


def _check_text(answer: JSON, *, calls: bool = True) -> str:
    """Return the reason; raise NoAnswerError if the response has no text. An empty text is a text."""
    reason = _reason_of(answer)
    empty = reason in {"empty", "truncated"} and _parts_of(answer, "output_text")
    if not reason or _text_of(answer) or empty or (calls and reason == "tool_call"):
        return reason
    raise no_text(reason, limit="max_output_tokens")


def _input_texts(payload: JSON) -> Iterator[str]:
    yield from texts_of(payload.get("instructions"))
    yield from texts_of(payload.get("input"))
    yield from json_texts(payload, _SHOWN)


def _input_messages(payload: JSON) -> int:
    return max(1, len(list_of(payload.get("input")))) + bool(payload.get("instructions"))


def _request(turns: list[dict[str, Any]], schema: JSON | None) -> dict[str, Any]:
    fields: dict[str, Any] = {"input": turns}
    if schema is not None:
        named = {"type": "json_schema", "name": "answer", "strict": True, "schema": dict(schema)}
        fields["text"] = {"format": named}
    return fields


def _continued(payload: JSON, turns: list[dict[str, Any]]) -> JSON:
    asked = payload.get("input")
    before = [{"role": "user", "content": asked}] if isinstance(asked, str) else list_of(asked)
    return {**payload, "input": [*before, *turns]}


def _output_format(payload: JSON) -> tuple[str, Any]:
    asked = mapping_of(mapping_of(payload.get("text")).get("format"))
    return str(asked.get("type") or ""), asked.get("schema")


def _stated(model: str, text: str, created: int) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    message = {"id": "msg_stated", "type": "message", "role": "assistant", "status": "completed"}
    return {
        "object": "response",
        "created_at": created,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "model": model,
        "output": [{**message, "content": [part]}],
        "usage": {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0},
    }


def _outcomes_of(answer: JSON) -> list[tuple[Any, str]]:
    reason = "tool_call" if _calls_of(answer) else _reason_of(answer)
    return [(_text_of(answer), "" if reason == "empty" else reason)]


#: Parameters of chat completions and what they are called here.
_FOREIGN: Final[Mapping[str, str]] = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text",
    "reasoning_effort": "reasoning",
    "functions": "tools",
}

RESPONSES: Final = Dialect(
    operation="respond",
    path="/responses",
    fold=_fold,
    unfold=_unfold,
    is_chunk=is_event,
    is_complete=_is_complete,
    piece_of=_piece_of,
    states_usage=_states_usage,
    usage_of=_usage_of,
    text_of=_text_of,
    finish_of=_finish_of,
    ending_of=_ending_of,
    reason_of=_reason_of,
    check_text=_check_text,
    max_output_tokens=lambda payload: count_of(payload.get("max_output_tokens")),
    input_texts=_input_texts,
    input_messages=_input_messages,
    schema_at="text.format.schema",
    request=_request,
    continued=_continued,
    output_format=_output_format,
    outcomes_of=_outcomes_of,
    stated=_stated,
    foreign=_FOREIGN,
)
