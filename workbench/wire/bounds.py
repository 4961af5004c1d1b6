"""The most tokens that a request can take: a bound of its input, and the most that it may answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Protocol

from workbench.types import JSON, Usage
from workbench.wire.shape import Dialect, list_of, texts_of

#: Tokens that a chat format adds to each message, at most.
PER_MESSAGE: Final = 16
#: Names of the limit of an answer at various servers. One that knows two of them may follow either.
_LIMITS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens", "max_new_tokens", "n_predict")
#: Names of the number of answers that a server generates.
_ANSWERS: Final = ("n", "best_of")
#: No request takes more tokens: a larger number would not fit into a ledger of 64 bits.
_MOST_TOKENS: Final = 10**12
#: Fields that refer to text that the endpoint keeps, or that make it search the web.
_UNSEEN: Final = ("previous_response_id", "conversation", "prompt", "web_search_options")
#: Types of message parts and items whose tokens are bounded by the bytes of their texts.
_TEXTS: Final = frozenset(
    {
        "text", "input_text", "output_text", "summary_text", "reasoning_text", "refusal", "thinking",
        "message", "reasoning", "function", "function_call", "function_call_output", "tool_result",
        "custom", "custom_tool_call", "custom_tool_call_output",
    }
)  # fmt: skip
#: Types of tools that the caller runs; the endpoint runs the others and reads their results as input.
_OWN_TOOLS: Final = frozenset({"function", "custom"})
#: Fields of a request that chat templates show to the model, beside those that each dialect counts.
_TEMPLATE: Final = ("prediction", "documents", "chat_template", "chat_template_kwargs")


class TokenLimits(Protocol):
    """The limits of one request to a model."""

    @property
    def context_tokens(self) -> int:
        """Tokens of the context window."""

    @property
    def max_output_tokens(self) -> int | None:
        """Tokens of the longest answer; None if the model states none."""


def usage_bound(payload: JSON, speaks: Dialect, limits: TokenLimits) -> Usage:
    """Return the most tokens that a request and all answers to it can have.

    Media, and text that the request does not hold, count as the whole context.
    """
    return Usage(
        input_tokens=_input_bound(payload, speaks, limits),
        output_tokens=_output_bound(payload, speaks, limits),
    )


def longest_answer(limits: TokenLimits) -> int:
    """Return the most tokens of one answer to a request that states no limit."""
    return limits.max_output_tokens or limits.context_tokens


def bytes_of(texts: Iterable[str]) -> int:
    """Return the bytes of texts in UTF-8: a bound of their tokens, because a token has one byte at least."""
    return sum(len(text) if text.isascii() else len(text.encode(errors="surrogatepass")) for text in texts)


def answer_bytes(data: Any) -> int:
    """Return the bytes of all texts that an answer or one event of it adds: calls of tools are output too."""
    if not isinstance(data, Mapping):
        return 0
    return bytes_of(texts_of(data.get("choices") or data.get("delta") or data.get("output")))


def estimated_usage(payload: JSON, speaks: Dialect, answered: int) -> Usage:
    """Return the most tokens of a request and of an answer of so many bytes, whose usage is not stated."""
    texts = bytes_of(_all_texts(payload, speaks)) + PER_MESSAGE * max(speaks.input_messages(payload), 1)
    return Usage(input_tokens=texts, output_tokens=answered)


def _input_bound(payload: JSON, speaks: Dialect, limits: TokenLimits) -> int:
    texts = bytes_of(text for text in _all_texts(payload, speaks) if not text.startswith("data:"))
    bound = texts + PER_MESSAGE * max(speaks.input_messages(payload), 1)
    return max(bound, limits.context_tokens) if _has_unseen(payload) else bound


def _output_bound(payload: JSON, speaks: Dialect, limits: TokenLimits) -> int:
    if not speaks.generates:
        return 0
    stated, most = (
        [payload[name] for name in _LIMITS if payload.get(name) is not None],
        longest_answer(limits),
    )
    # A value that is no limit, such as 0, -1 or a text, may leave the answer without one.
    longest = max((_number(value) or most for value in stated), default=most)
    answers = max(_number(payload.get(name)) or 1 for name in _ANSWERS)
    return min(min(longest, _MOST_TOKENS) * min(answers, _MOST_TOKENS), _MOST_TOKENS)


def _all_texts(payload: JSON, dialect: Dialect) -> Iterator[str]:
    yield from dialect.input_texts(payload)
    for name in _TEMPLATE:
        if payload.get(name):
            yield from texts_of(payload[name])


def _number(value: Any) -> int | None:
    """Return a number above 0, also from a text, which some servers convert; None for another value."""
    if isinstance(value, str) and value.strip().isdecimal() and len(value) < 30:
        value = int(value)
    if isinstance(value, float) and 0 < value < _MOST_TOKENS:
        value = int(value)
    return value if type(value) is int and value > 0 else None


def _has_unseen(payload: JSON) -> bool:
    if any(payload.get(name) for name in _UNSEEN):
        return True
    tools = (tool.get("type") for tool in list_of(payload.get("tools")) if isinstance(tool, Mapping))
    if any(isinstance(kind, str) and kind not in _OWN_TOOLS for kind in tools):
        return True
    return any(map(_has_media, list_of(payload.get("messages") or payload.get("input"))))


def _has_media(item: Any) -> bool:
    """Return whether an item of the input, a part of its content or of its output is none of text."""
    if not isinstance(item, Mapping):
        return False
    if item.get("type") is not None and item["type"] not in _TEXTS:
        return True
    parts = (*list_of(item.get("content")), *list_of(item.get("output")))
    return bool(parts) and any(map(_has_media, parts))
