"""The OpenAI wire formats, one file a dialect; the functions of this package itself read chat completions."""

from workbench.wire.chat import (
    check_text,
    ending_of,
    finish_of,
    fold,
    is_chunk,
    reason_of,
    text_of,
    tokens_of,
    unfold,
    usage_of,
)
from workbench.wire.dialects import DIALECTS, dialect
from workbench.wire.shape import Dialect

__all__ = [
    "DIALECTS",
    "Dialect",
    "check_text",
    "dialect",
    "ending_of",
    "finish_of",
    "fold",
    "is_chunk",
    "reason_of",
    "text_of",
    "tokens_of",
    "unfold",
    "usage_of",
]
