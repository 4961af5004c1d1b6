"""The most tokens that a request can take: a bound of its input, and the most that it may answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

from workbench.types import JSON, Usage
from workbench.wire.shape import Dialect, list_of

#: Tokens that a chat format adds to each message, at most.
PER_MESSAGE: Final = 16
#: Types of message parts whose tokens are not bounded by the bytes of their text.
_MEDIA: Final = frozenset({"image_url", "input_image", "input_audio", "file", "input_file"})


class TokenLimits(Protocol):
    """The limits of one request to a model."""

    @property
    def context_tokens(self) -> int:
        """Tokens of the context window."""

    @property
    def max_output_tokens(self) -> int | None:
        """Tokens of the longest answer; None if the model states none."""


def usage_bound(payload: JSON, speaks: Dialect, limits: TokenLimits) -> Usage:
    """Return the most tokens that a request and all answers to it can have."""
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


def _input_bound(payload: JSON, speaks: Dialect, limits: TokenLimits) -> int:
    bound = bytes_of(speaks.input_texts(payload)) + PER_MESSAGE * max(speaks.input_messages(payload), 1)
    # What the endpoint keeps of earlier responses is input too, and the request does not show how much.
    unseen = payload.get("previous_response_id") or payload.get("conversation")
    unseen = unseen or _has_media(payload.get("messages") or payload.get("input"))
    return max(bound, limits.context_tokens) if unseen else bound


def _output_bound(payload: JSON, speaks: Dialect, limits: TokenLimits) -> int:
    stated = speaks.max_output_tokens(payload)
    if stated is not None:
        return stated
    answers = payload.get("n")
    return longest_answer(limits) * (answers if isinstance(answers, int) and answers > 0 else 1)


def _has_media(messages: Any) -> bool:
    for message in list_of(messages):
        parts = message.get("content") if isinstance(message, Mapping) else None
        for part in list_of(parts):
            if isinstance(part, Mapping) and part.get("type") in _MEDIA:
                return True
    return False
