"""The wire shape of `/moderations`: texts or images, and one verdict each."""

from __future__ import annotations

from typing import Final

from workbench.types import JSON, Usage
from workbench.wire.shape import count_of, list_of, mapping_of, texts_of, unstreamed


def verdicts_asked(payload: JSON) -> int:
    """Return how many verdicts an answer has: one a text of a list, and one for all parts together."""
    asked = payload.get("input")
    texts = list_of(asked)
    return len(texts) if texts and all(isinstance(text, str) for text in texts) else 1


def _usage_of(answer: JSON) -> Usage:
    """Return the input tokens, which few endpoints state."""
    usage = mapping_of(answer.get("usage"))
    return Usage(input_tokens=count_of(usage.get("input_tokens", usage.get("prompt_tokens"))))


MODERATIONS: Final = unstreamed(
    "moderate",
    "/moderations",
    usage_of=_usage_of,
    input_texts=lambda payload: texts_of(payload.get("input")),
    input_messages=verdicts_asked,
)
