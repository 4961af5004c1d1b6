"""Answers in the OpenAI wire format for a test server, whole and streamed, in both dialects."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import orjson

from workbench.types import JSON

#: The text of an answer; its characters take one to four bytes in UTF-8.
TEXT: Final = "The fare is 12 €, naïve or not: größer, 東京, 🚕 - ask the driver."
_CREATED: Final = 1_790_000_000
_DIMENSIONS: Final = 8


def whole(operation: str, payload: JSON, text: str) -> dict[str, Any]:
    """Return the whole answer to a request, whose operation is the end of its path (`responses`)."""
    return _WHOLE[operation](payload, text)


def streamed(operation: str, payload: JSON, text: str) -> list[bytes]:
    """Return the server-sent events of a streamed answer, one a word; the last one ends the stream.

    A chat stream ends with `[DONE]`, a stream of responses with `response.completed`.
    """
    if operation == "responses":
        return [_named(event) for event in _response_events(payload, text)]
    chunks = [b"data: " + orjson.dumps(chunk) + b"\n\n" for chunk in _chunks(payload, text)]
    return [*chunks, b"data: [DONE]\n\n"]


def delta(operation: str, payload: JSON, text: str) -> bytes:
    """Return one server-sent event with a piece of the answer's text."""
    if operation == "responses":
        return _named(_text_delta(text, 1))
    return b"data: " + orjson.dumps(_chunk(payload, {"content": text})) + b"\n\n"


def stated_error(operation: str, message: str) -> bytes:
    """Return the server-sent event that states an error inside a stream."""
    if operation == "responses":
        event = {"type": "error", "code": "server_error", "message": message, "param": None}
        return _named(event | {"sequence_number": 99})
    return b"data: " + orjson.dumps(error_object(message, 500)) + b"\n\n"


def error_object(message: str, status: int) -> dict[str, Any]:
    """Return the body of an error."""
    kind = "rate_limit_exceeded" if status == 429 else "server_error" if status >= 500 else "invalid_request"
    return {"error": {"message": message, "type": kind, "code": status, "param": None}}


def _completion(payload: JSON, text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    choices = [
        {"index": n, "message": message, "finish_reason": "stop", "logprobs": None}
        for n in range(int(payload.get("n") or 1))
    ]
    read, written = _tokens(payload), len(text.split())
    usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    return {**_shared(payload), "object": "chat.completion", "choices": choices, "usage": usage}


def _shared(payload: JSON) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "created": _CREATED, "model": payload.get("model", "m")}


def _chunk(payload: JSON, part: JSON, finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": part, "finish_reason": finish, "logprobs": None}
    return {**_shared(payload), "object": "chat.completion.chunk", "choices": [choice]}


def _chunks(payload: JSON, text: str) -> list[dict[str, Any]]:
    parts = [_chunk(payload, {"content": word}) for word in _words(text)]
    begin = _chunk(payload, {"role": "assistant", "content": ""})
    chunks = [begin, *parts, _chunk(payload, {}, "stop")]
    if (payload.get("stream_options") or {}).get("include_usage"):
        usage = _completion(payload, text)["usage"]
        chunks.append({**_shared(payload), "object": "chat.completion.chunk", "choices": [], "usage": usage})
    return chunks


def _words(text: str) -> Iterable[str]:
    return text.replace(" ", " \0").split("\0")


def _response(payload: JSON, text: str, status: str = "completed") -> dict[str, Any]:
    read, written = _tokens(payload), len(text.split())
    usage = {
        "input_tokens": read, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": read + written,
    }  # fmt: skip
    done = status == "completed"
    return {
        "id": "resp_1", "object": "response", "created_at": _CREATED, "status": status, "error": None,
        "incomplete_details": None, "instructions": None, "metadata": {}, "model": payload.get("model", "m"),
        "output": [_message_item(text, status)] if done else [], "parallel_tool_calls": True,
        "previous_response_id": None, "store": False, "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto", "tools": [], "top_p": 1.0, "truncation": "disabled",
        "usage": usage if done else None,
    }  # fmt: skip


def _message_item(text: str, status: str) -> dict[str, Any]:
    content = [_text_part(text)] if status == "completed" else []
    return {"type": "message", "id": "msg_1", "status": status, "role": "assistant", "content": content}


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _text_delta(text: str, number: int) -> dict[str, Any]:
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    kind = "response.output_text.delta"
    return {"type": kind, **place, "delta": text, "logprobs": [], "sequence_number": number}


def _response_events(payload: JSON, text: str) -> list[dict[str, Any]]:
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    begun, item = _response(payload, text, "in_progress"), _message_item("", "in_progress")
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.content_part.added", **place, "part": _text_part("")},
        *(_text_delta(word, 0) for word in _words(text)),
        {"type": "response.output_text.done", **place, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": _text_part(text)},
        {"type": "response.output_item.done", "output_index": 0, "item": _message_item(text, "completed")},
        {"type": "response.completed", "response": _response(payload, text)},
    ]
    return [event | {"sequence_number": number} for number, event in enumerate(events)]


def _named(event: Mapping[str, Any]) -> bytes:
    kind: str = event["type"]
    return b"event: " + kind.encode() + b"\ndata: " + orjson.dumps(event) + b"\n\n"


def _embeddings(payload: JSON, text: str) -> dict[str, Any]:  # noqa: ARG001 - one form for all operations
    given = payload.get("input")
    texts = [given] if isinstance(given, str) else list(given or ())
    rows = [
        {"object": "embedding", "index": n, "embedding": _vector(str(item))} for n, item in enumerate(texts)
    ]
    usage = {"prompt_tokens": _tokens(payload), "total_tokens": _tokens(payload)}
    return {"object": "list", "model": payload.get("model", "m"), "data": rows, "usage": usage}


def _vector(text: str) -> list[float]:
    raw = hashlib.shake_256(text.encode()).digest(_DIMENSIONS)
    length = math.sqrt(math.fsum((n - 127.5) ** 2 for n in raw))
    return [(n - 127.5) / length for n in raw]


def _moderations(payload: JSON, text: str) -> dict[str, Any]:  # noqa: ARG001 - one form for all operations
    given = payload.get("input")
    count = 1 if isinstance(given, str) else len(given or ())
    result = {"flagged": False, "categories": {"violence": False}, "category_scores": {"violence": 0.0}}
    return {"id": "modr-1", "model": payload.get("model", "m"), "results": [result] * count}


def _models(payload: JSON, text: str) -> dict[str, Any]:  # noqa: ARG001 - one form for all operations
    model = {"id": payload.get("model", "m"), "object": "model", "created": _CREATED, "owned_by": "test"}
    return {"object": "list", "data": [model]}


def _count(payload: JSON, text: str) -> dict[str, Any]:  # noqa: ARG001 - one form for all operations
    return {"object": "response.input_tokens", "input_tokens": _tokens(payload)}


def _tokens(payload: JSON) -> int:
    """Return the number of words in the texts of a request."""
    asked = payload.get("messages") or payload.get("input") or ()
    items = [asked] if isinstance(asked, str) else asked
    return sum(len(str(item.get("content") if isinstance(item, dict) else item).split()) for item in items)


_WHOLE: Final[Mapping[str, Callable[[JSON, str], dict[str, Any]]]] = {
    "completions": _completion,
    "responses": _response,
    "embeddings": _embeddings,
    "moderations": _moderations,
    "models": _models,
    "input_tokens": _count,
}
