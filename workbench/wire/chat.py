"""The wire shape of `/chat/completions`: chunks and whole answers, their text, usage and end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from workbench.errors import UnavailableError
from workbench.types import JSON, Event, Usage
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

#: Fields of a delta that a server may repeat; all other texts come in pieces.
_SET_ONCE: Final = frozenset({"role", "id", "type", "name", "format"})
_UNSET: Final = object()
#: Fields of a request, beside its messages, that the endpoint shows to the model.
_SHOWN: Final = ("tools", "functions", "response_format")


def fold(events: Iterable[Event]) -> JSON:
    """Combine chunks into a `chat.completion`; return a whole reply unchanged.

    Raises UnavailableError for a stream without events.
    """
    chunks = [event.data for event in events]
    if not chunks:
        raise UnavailableError("the stream ended without an event")
    if len(chunks) == 1 and not is_chunk(chunks[0]):
        whole: JSON = chunks[0]
        return whole
    answer: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        answer.update({k: v for k, v in chunk.items() if k != "choices" and not _is_void(v, answer.get(k))})
        for part in chunk.get("choices") or ():
            _add(choices.setdefault(part.get("index") or 0, {}), part)
    answer["object"] = "chat.completion"
    answer["choices"] = [_finished(index, choices[index]) for index in sorted(choices)]
    return answer


def unfold(answer: JSON, *, usage: bool = True) -> list[JSON]:
    """Split a whole answer into stream chunks; the inverse of `fold`.

    With `usage`, the last chunk has no choices and carries the usage, as with `include_usage`.
    """
    shared = {k: v for k, v in answer.items() if k not in {"choices", "usage", "object"}}
    shared["object"] = "chat.completion.chunk"
    parts = []
    for choice in answer.get("choices") or ():
        delta = dict(choice.get("message") or {})
        if delta.get("tool_calls"):
            delta["tool_calls"] = [{**t, "index": n} for n, t in enumerate(delta["tool_calls"])]
        rest = {k: v for k, v in choice.items() if k != "message"}
        parts.append({**rest, "delta": delta})
    chunks: list[JSON] = [{**shared, "choices": parts}]
    if usage and answer.get("usage") is not None:
        chunks.append({**shared, "choices": [], "usage": answer["usage"]})
    return chunks


def is_chunk(data: Any) -> bool:
    """Return whether `data` is a chunk of a streamed chat answer."""
    if not isinstance(data, Mapping):
        return False
    return data.get("object") == "chat.completion.chunk" or "delta" in _first(data)


def text_of(answer: JSON) -> str:
    """Return the text of the first choice; empty without text, as in a tool call."""
    content = _message(answer).get("content")
    return content if isinstance(content, str) else ""


def finish_of(answer: JSON) -> str | None:
    """Return the first choice's finish reason: `stop`, `length`, `tool_calls` or a server's own value."""
    reason = _first(answer).get("finish_reason")
    return reason if isinstance(reason, str) else None


def ending_of(choice: Mapping[str, Any]) -> str:
    """Return how a choice ended early: `truncated`, `filtered` or `refusal`; empty if it did not."""
    finish = choice.get("finish_reason")
    return ENDINGS.get(finish.lower(), "") if isinstance(finish, str) else ""


def usage_of(answer: JSON) -> Usage:
    """Return the endpoint's token counts; a count that is missing or no count is None."""
    usage = mapping_of(answer.get("usage"))
    return Usage(
        input_tokens=count_of(usage.get("prompt_tokens")),
        output_tokens=count_of(usage.get("completion_tokens")),
        cached_tokens=count_of(mapping_of(usage.get("prompt_tokens_details")).get("cached_tokens")),
        reasoning_tokens=count_of(mapping_of(usage.get("completion_tokens_details")).get("reasoning_tokens")),
    )


def tokens_of(answer: JSON) -> int | None:
    """Return the input tokens of a token-count answer; None for any other answer."""
    return count_of(answer.get("input_tokens"))


def reason_of(answer: JSON) -> str:
    """Return what the first choice lacks to be a complete text; empty if it lacks nothing.

    `refusal`, `filtered`, `truncated` (at the limit of tokens), `tool_call` (and no text), or `empty`.
    """
    message, text = _message(answer), text_of(answer)
    if message.get("refusal"):
        return "refusal"
    if reason := ending_of(_first(answer)):
        return reason
    if text or message.get("audio"):
        return ""
    return "tool_call" if message.get("tool_calls") or message.get("function_call") else "empty"


def check_text(answer: JSON, *, calls: bool = True) -> str:
    """Return `reason_of(answer)`; raise NoAnswerError if the answer has no text.

    An empty text is a text. With `calls`, a tool call is an answer too.
    """
    reason = reason_of(answer)
    empty = reason in {"empty", "truncated"} and _message(answer).get("content") is not None
    if not reason or text_of(answer) or empty or (calls and reason == "tool_call"):
        return reason
    raise no_text(reason)


def _states_usage(data: JSON) -> bool:
    return bool(data.get("usage"))


def _is_complete(events: Sequence[Event]) -> bool:
    """Return whether a stream has a finish reason; a stream without one may be truncated."""
    return bool(events) and finish_of(fold(events)) is not None


def _piece_of(data: JSON) -> str:
    pieces = []
    for choice in data.get("choices") or ():
        content = (choice.get("delta") or choice.get("message") or {}).get("content")
        if isinstance(content, str):
            pieces.append(content)
    return "".join(pieces)


def _max_output_tokens(payload: JSON) -> int | None:
    stated = payload.get("max_completion_tokens")
    most = count_of(payload.get("max_tokens") if stated is None else stated)
    return None if most is None else most * (count_of(payload.get("n")) or 1)


def _input_texts(payload: JSON) -> Iterator[str]:
    yield from texts_of(payload.get("messages"))
    yield from json_texts(payload, _SHOWN)


def _input_messages(payload: JSON) -> int:
    return len(list_of(payload.get("messages")))


def _request(turns: list[dict[str, Any]], schema: JSON | None) -> dict[str, Any]:
    fields: dict[str, Any] = {"messages": turns}
    if schema is not None:
        named = {"name": "answer", "strict": True, "schema": dict(schema)}
        fields["response_format"] = {"type": "json_schema", "json_schema": named}
    return fields


def _continued(payload: JSON, turns: list[dict[str, Any]]) -> JSON:
    return {**payload, "messages": [*payload["messages"], *turns]}


def _output_format(payload: JSON) -> tuple[str, Any]:
    asked = mapping_of(payload.get("response_format"))
    return str(asked.get("type") or ""), mapping_of(asked.get("json_schema")).get("schema")


def _stated(model: str, text: str, created: int) -> dict[str, Any]:
    return {
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    }


def _outcomes_of(answer: JSON) -> list[tuple[Any, str]]:
    """Return the content of each choice, and why it is no text or an incomplete one."""
    found = []
    for choice in answer.get("choices") or ():
        message = choice.get("message") or {}
        reason = "refusal" if message.get("refusal") else ending_of(choice)
        found.append((message.get("content"), "tool_call" if message.get("tool_calls") else reason))
    return found


def _first(answer: JSON) -> Mapping[str, Any]:
    choices = answer.get("choices")
    return mapping_of(choices[0]) if isinstance(choices, list | tuple) and choices else {}


def _message(answer: JSON) -> Mapping[str, Any]:
    return mapping_of(_first(answer).get("message"))


def _add(choice: dict[str, Any], part: Mapping[str, Any]) -> None:
    """Merge one chunk's part into a choice."""
    message = choice.setdefault("message", {})
    delta = part.get("delta") or {}
    calls = message.setdefault("tool_calls", {}) if delta.get("tool_calls") else {}
    for piece in delta.get("tool_calls") or ():
        call = calls.setdefault(piece.get("index") or 0, {})
        _merge(call, {key: value for key, value in piece.items() if key != "index"})
    _merge(message, {key: value for key, value in delta.items() if key != "tool_calls"})
    for key, value in part.items():
        if key == "logprobs":
            _merge(choice, {key: value})
        elif key not in {"delta", "index", "message"} and not _is_void(value, choice.get(key, _UNSET)):
            choice[key] = value


def _merge(into: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Merge the fields of a delta: append to texts and lists, merge mappings, set other values."""
    for key, value in more.items():
        before = into.get(key, _UNSET)
        if _is_void(value, before):
            continue
        if isinstance(value, Mapping):
            into[key] = before if isinstance(before, dict) else {}
            _merge(into[key], value)
        elif isinstance(value, list):
            into[key] = [*before, *value] if isinstance(before, list) else value
        elif isinstance(value, str) and isinstance(before, str) and key not in _SET_ONCE:
            into[key] = before + value
        elif key == "name" and isinstance(before, str) and not into.get("arguments") and value != before:
            into[key] = before + value  # a name in pieces comes before the arguments
        else:
            into[key] = value


def _is_void(value: object, before: object) -> bool:
    """Return whether a value says nothing over the one before it: null, or an empty text."""
    return (value is None and before is not _UNSET) or (value == "" and isinstance(before, str))


def _finished(index: int, choice: dict[str, Any]) -> dict[str, Any]:
    message = {"content": None, "role": "assistant", **choice.get("message", {})}
    if "tool_calls" in message:
        message["tool_calls"] = [message["tool_calls"][n] for n in sorted(message["tool_calls"])]
    return {"finish_reason": None, **choice, "index": index, "message": message}


CHAT: Final = Dialect(
    operation="chat",
    path="/chat/completions",
    fold=fold,
    unfold=unfold,
    is_chunk=is_chunk,
    is_complete=_is_complete,
    piece_of=_piece_of,
    states_usage=_states_usage,
    usage_of=usage_of,
    text_of=text_of,
    finish_of=finish_of,
    ending_of=lambda answer: ending_of(_first(answer)),
    reason_of=reason_of,
    check_text=check_text,
    max_output_tokens=_max_output_tokens,
    input_texts=_input_texts,
    input_messages=_input_messages,
    schema_at="response_format.json_schema.schema",
    request=_request,
    continued=_continued,
    output_format=_output_format,
    outcomes_of=_outcomes_of,
    stated=_stated,
)
