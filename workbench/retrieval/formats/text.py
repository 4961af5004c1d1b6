"""Read plain text and reStructuredText of any common encoding."""

from __future__ import annotations

import re

from workbench.files.decoding import decode_document
from workbench.retrieval.formats.document import Document, UnreadableError, one_line, whole

#: A line of one sign, which in reStructuredText underlines a heading.
_RULE = re.compile(r"([=\-~^\"'`#*+.:_])\1{2,999}+")


def read(data: bytes) -> Document:
    """Return a text as it is. A heading is a line that the next one underlines, as in reStructuredText."""
    text = decoded(data)
    return whole(_underlined(text), text)


def decoded(data: bytes, *, stated: str = "") -> str:
    """Return the text of `data`, by its byte order mark, the encoding `stated` inside it, or its words.

    UnreadableError for bytes that are no text.
    """
    try:
        return decode_document(data, stated=stated)
    except ValueError as error:
        raise UnreadableError(str(error)) from None


def _underlined(text: str) -> str:
    before = ""
    for line in text.splitlines()[:200]:
        if before and _RULE.fullmatch(line.rstrip()) and len(line.rstrip()) >= len(before):
            return one_line(before)
        before = "" if _RULE.fullmatch(line.rstrip()) else line.strip()
    return ""
