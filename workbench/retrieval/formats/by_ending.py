"""Choose the format of a file by its name's ending."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from workbench.errors import ConfigError
from workbench.retrieval.formats import docx, html, ipynb, markdown, pdf, text
from workbench.retrieval.formats.document import Document, UnreadableError

#: The readers by ending; Markdown is read apart, because its front matter has errors of its own.
_READERS: Mapping[str, Callable[[bytes], Document]] = {
    ".docx": docx.read,
    ".htm": html.read,
    ".html": html.read,
    ".ipynb": ipynb.read,
    ".pdf": pdf.read,
    ".rst": text.read,
    ".txt": text.read,
    ".xhtml": html.read,
}
_MARKDOWN = frozenset({".markdown", ".md"})
#: The endings of readable documents, for messages.
ENDINGS = tuple(sorted({*_READERS, *_MARKDOWN}))
#: Formats that people write documents in and that are not read.
_UNREAD = frozenset({".doc", ".epub", ".odt", ".ppt", ".pptx", ".rtf"})
#: The most bytes of a file that also holds images, of a text, and of HTML, whose tree takes 40 times as much.
_MOST_PACKED, _MOST_TEXT, _MOST_HTML = 50_000_000, 20_000_000, 8_000_000


def ending(name: str) -> str:
    """Return the ending of a name in small letters, such as `.pdf`."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - each search asks for the ending of every file


def is_document(name: str) -> bool:
    """Return whether people write documents in files of this ending, be it readable or not."""
    return ending(name) in _READERS or ending(name) in _MARKDOWN | _UNREAD


def most_bytes(name: str) -> int:
    """Return the largest size of such a file in bytes."""
    kind = ending(name)
    if kind in {".htm", ".html", ".xhtml"}:
        return _MOST_HTML
    return _MOST_PACKED if kind in {".docx", ".ipynb", ".pdf"} else _MOST_TEXT


def parse(data: bytes, name: str, *, where: str) -> Document:
    """Return the document in the bytes of a file.

    UnreadableError has the reason why they are none. ConfigError names a line of faulty front matter by
    `where`.
    """
    kind = ending(name)
    if not data:
        raise UnreadableError("it is empty")
    if kind in _UNREAD:
        raise UnreadableError(f"the format {kind} is not read: save it as .docx or .pdf")
    try:
        return markdown.read(data, where=where) if kind in _MARKDOWN else _READERS[kind](data)
    except (UnreadableError, ConfigError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - parsers of foreign bytes raise whatever they meet
        raise UnreadableError(f"it is damaged ({type(error).__name__})") from None
