"""The OpenAI wire format: conversion between streamed chunks and whole replies, and field access."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from workbench.errors import UnavailableError
from workbench.types import JSON, Event, Usage


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
        answer.update({k: v for k, v in chunk.items() if k != "choices" and v is not None})
        for part in chunk.get("choices") or ():
            _add(choices.setdefault(part.get("index", 0), {}), part)
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
    return data.get("object") == "chat.completion.chunk" or any(
        "delta" in choice for choice in data.get("choices") or ()
    )


def text_of(answer: JSON) -> str:
    """Return the text of the first choice; empty without text, as in a tool call."""
    message = _first(answer).get("message") or {}
    content = message.get("content")
    return content if isinstance(content, str) else ""


def finish_of(answer: JSON) -> str | None:
    """Return the first choice's finish reason: `stop`, `length`, `tool_calls` or a server's own value."""
    reason = _first(answer).get("finish_reason")
    return reason if isinstance(reason, str) else None


def usage_of(answer: JSON) -> Usage:
    """Return the endpoint's token counts; a missing count is None."""
    usage = answer.get("usage") or {}
    details = usage.get("prompt_tokens_details") or {}
    return Usage(
        input_tokens=usage.get("prompt_tokens"),
        output_tokens=usage.get("completion_tokens"),
        cached_tokens=details.get("cached_tokens"),
    )


def tokens_of(answer: JSON) -> int | None:
    """Return the input tokens of a token-count answer; None for any other answer."""
    tokens = answer.get("input_tokens")
    return tokens if isinstance(tokens, int) and not isinstance(tokens, bool) else None


def _first(answer: JSON) -> Mapping[str, Any]:
    for choice in answer.get("choices") or ():
        return choice  # type: ignore[no-any-return]
    return {}


def _add(choice: dict[str, Any], part: Mapping[str, Any]) -> None:
    """Merge one chunk's part into a choice: append text, extend lists, set other values."""
    message = choice.setdefault("message", {})
    for key, value in (part.get("delta") or {}).items():
        if key == "tool_calls":
            _add_tool_calls(message.setdefault("tool_calls", {}), value or ())
        elif isinstance(value, str) and key != "role":
            message[key] = (message.get(key) or "") + value
        elif value is not None or key not in message:
            message[key] = value
    for key, value in part.items():
        if key == "logprobs" and value is not None:
            _add_logprobs(choice, value)
        elif key not in {"delta", "index"} and (value is not None or key not in choice):
            choice[key] = value


def _add_tool_calls(calls: dict[int, dict[str, Any]], parts: Iterable[Mapping[str, Any]]) -> None:
    for part in parts:
        call = calls.setdefault(part.get("index", 0), {})
        for key, value in part.items():
            if key == "function":
                function = call.setdefault("function", {})
                more = value.get("arguments")
                function.update({k: v for k, v in value.items() if k != "arguments" and v is not None})
                if more is not None:
                    function["arguments"] = function.get("arguments", "") + more
            elif key != "index" and value is not None:
                call[key] = value


def _add_logprobs(choice: dict[str, Any], more: Mapping[str, Any]) -> None:
    logprobs = choice.get("logprobs") or {}
    for key, value in more.items():
        logprobs[key] = (logprobs.get(key) or []) + value if isinstance(value, list) else value
    choice["logprobs"] = logprobs


def _finished(index: int, choice: dict[str, Any]) -> dict[str, Any]:
    message = {"content": None, "role": "assistant", **choice.get("message", {})}
    if "tool_calls" in message:
        message["tool_calls"] = [message["tool_calls"][n] for n in sorted(message["tool_calls"])]
    return {"finish_reason": None, **choice, "index": index, "message": message}
