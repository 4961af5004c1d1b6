"""Read the text layer of a PDF, page by page."""

from __future__ import annotations

import io
import logging
from typing import TYPE_CHECKING

from workbench.retrieval.formats.document import (
    MOST_CHARS,
    Document,
    PageText,
    UnreadableError,
    one_line,
    stored,
)

if TYPE_CHECKING:
    from pypdf import PdfReader

MOST_PAGES = 2_000
#: The most operations and operands on one page: so many take 10 seconds.
_MOST_OPERATIONS = 500_000
#: The most bytes that tell what stands on all pages, of which pypdf reads about half a million a second.
_MOST_CONTENT = 40_000_000


def read(data: bytes) -> Document:
    """Return each page that has text; UnreadableError for a PDF that is encrypted, damaged or only images."""
    from pypdf import PdfReader, apply_configuration
    from pypdf.errors import LimitReachedError

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # what it repairs is no one's next step
    try:
        with apply_configuration(stream_parsing_work_maximum_count=_MOST_OPERATIONS):
            return _document(PdfReader(io.BytesIO(data)))
    except LimitReachedError:
        raise UnreadableError(
            "it is too complex: a page has too many parts, or unpacks to too much"
        ) from None


def _document(reader: PdfReader) -> Document:
    if reader.is_encrypted and not reader.decrypt(""):
        raise UnreadableError("it is encrypted, and needs a password")
    number = len(reader.pages)
    if number > MOST_PAGES:
        raise UnreadableError(f"it has {number:,} pages, more than {MOST_PAGES:,}")
    _check_contents(reader)
    parts, blank, size = [], [], 0
    for place in range(number):
        text = reader.pages[place].extract_text()
        size += len(text)
        if size > MOST_CHARS:
            raise UnreadableError(f"it has more than {MOST_CHARS:,} characters of text")
        try:
            parts.append(PageText(text=stored(text), page=place + 1))
        except UnreadableError:
            blank.append(place + 1)
    if not parts:
        raise UnreadableError("it has no text layer: its pages are images or empty")
    return Document(title=_title(reader), parts=tuple(parts), blank=tuple(blank))


def _check_contents(reader: PdfReader) -> None:
    """Raise UnreadableError when the pages unpack to too much together; nothing of them is parsed."""
    size = 0
    for page in reader.pages:
        contents = page.get_contents()
        size += 0 if contents is None else len(contents.get_data())
        if size > _MOST_CONTENT:
            raise UnreadableError(f"it is too complex: its pages unpack to more than {_MOST_CONTENT:,} bytes")


def _title(reader: PdfReader) -> str:
    """Return the title that the file states, unless a program made it of a file name."""
    title = one_line(str((reader.metadata.title if reader.metadata else None) or ""))
    made = title.lower().startswith("microsoft word -") or title.lower() in {"untitled", "(anonymous)"}
    return "" if made else title
