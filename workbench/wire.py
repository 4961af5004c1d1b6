"""The OpenAI wire format: conversion between streamed chunks and whole replies, and field access."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from workbench.errors import NoAnswerError, UnavailableError
from workbench.types import JSON, Event, Usage

#: Fields of a delta that a server may repeat; all other texts come in pieces.
_SET_ONCE: Final = frozenset({"role", "id", "type", "name", "format"})
_UNSET: Final = object()
#: What a finish reason says of an answer, in lower case: the format's own words, and those of other servers.
_REASONS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("length", "max_tokens", "max_output_tokens", "max_length", "model_length"), "truncated"),
    **dict.fromkeys(
        (
            "content_filter", "content_filtered", "guardrail_intervened", "safety", "recitation", "blocklist",
            "prohibited_content", "spii", "sensitive",
        ),
        "filtered",
    ),
    "refusal": "refusal",
}  # fmt: skip
#: What an answer without text is, and what to do.
_NO_TEXT: Final[Mapping[str, tuple[str, str]]] = {
    "refusal": ("the model refused", "read `message.refusal` through ws.openai(), or ask otherwise"),
    "filtered": ("the content filter of the endpoint withheld it", "ask otherwise, or change the filter"),
    "truncated": ("it reached the limit of tokens before its text", "raise max_tokens"),
    "tool_call": ("the model called a tool", "read the call in `raw` of ws.model().chat(…)"),
    "empty": ("the model sent none", "ask again, or ask otherwise"),
}


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
    return _REASONS.get(finish.lower(), "") if isinstance(finish, str) else ""


def usage_of(answer: JSON) -> Usage:
    """Return the endpoint's token counts; a count that is missing or no count is None."""
    usage = _mapping(answer.get("usage"))
    return Usage(
        input_tokens=_count(usage.get("prompt_tokens")),
        output_tokens=_count(usage.get("completion_tokens")),
        cached_tokens=_count(_mapping(usage.get("prompt_tokens_details")).get("cached_tokens")),
        reasoning_tokens=_count(_mapping(usage.get("completion_tokens_details")).get("reasoning_tokens")),
    )


def tokens_of(answer: JSON) -> int | None:
    """Return the input tokens of a token-count answer; None for any other answer."""
    return _count(answer.get("input_tokens"))


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
    what, hint = _NO_TEXT[reason]
    raise NoAnswerError(f"the answer has no text: {what}", reason=reason, hint=hint)


def _count(value: object) -> int | None:
    """Return a number of tokens; None for a value that is no whole number or too large to be one."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value < 2**53 else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _first(answer: JSON) -> Mapping[str, Any]:
    choices = answer.get("choices")
    return _mapping(choices[0]) if isinstance(choices, list | tuple) and choices else {}


def _message(answer: JSON) -> Mapping[str, Any]:
    return _mapping(_first(answer).get("message"))


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
