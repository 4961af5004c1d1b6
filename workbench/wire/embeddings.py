"""The wire shape of `/embeddings`: a text or a list of texts, and one vector each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from workbench.types import JSON, Usage
from workbench.wire.shape import count_of, mapping_of, texts_of, unstreamed


def _usage_of(answer: JSON) -> Usage:
    """Return the input tokens; vectors have no output tokens."""
    usage = mapping_of(answer.get("usage"))
    tokens = count_of(usage.get("prompt_tokens"))
    if tokens is None:
        tokens = count_of(usage.get("total_tokens"))
    return Usage(input_tokens=tokens)


def _input_texts(payload: JSON) -> Iterator[str]:
    """Yield the texts of the input; a token number yields one character."""
    asked = payload.get("input")
    yield from texts_of(asked)
    numbers = _numbers(asked)
    if numbers:
        yield " " * numbers


def _numbers(asked: object) -> int:
    """Return how many token numbers an input holds."""
    if isinstance(asked, int):
        return 1
    return sum(map(_numbers, asked)) if isinstance(asked, list | tuple) else 0


def _input_messages(payload: JSON) -> int:
    asked = payload.get("input")
    several = isinstance(asked, Sequence) and not isinstance(asked, str) and not _is_one(asked)
    return len(asked) if several and isinstance(asked, Sequence) else 1


def _is_one(asked: Sequence[object]) -> bool:
    return bool(asked) and isinstance(asked[0], int)


EMBEDDINGS: Final = unstreamed(
    "embed",
    "/embeddings",
    usage_of=_usage_of,
    input_texts=_input_texts,
    input_messages=_input_messages,
)
