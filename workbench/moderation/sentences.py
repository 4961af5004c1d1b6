"""Find where a sentence ends in a text that grows."""

from __future__ import annotations

import re
from typing import Final

#: A full stop with a space after it, or the end of a line; a link has neither inside.
_END: Final = re.compile(r"[.!?…][\"'”’)\]]{0,3}\s|[。！？]|\n")  # noqa: RUF001 - full-width signs end sentences too
#: What a link or a tag that is still open looks like at the end of a text.
_OPEN: Final = re.compile(
    r"(?:!?\[[^\]\n]{0,300}(?:\](?:\([^)\n]{0,2000})?)?|<[a-z][^>]{0,300}|https?://\S{0,2000})\Z",
    re.IGNORECASE,
)


def sentence_end(text: str, start: int, *, known: int = 0) -> int:
    """Return the end of the last sentence that ends after `start` and leaves no link open, else `start`.

    The first `known` characters were looked at before.
    """
    ends = [found.end() for found in _END.finditer(text, max(start, known - 5, 1) - 1) if found.end() > start]
    for end in reversed(ends):
        if not _OPEN.search(text[max(start, end - 4_000) : end]):
            return end
    return start
