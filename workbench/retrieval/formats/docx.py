"""Read DOCX: headings, paragraphs, lists and tables in the order of the document."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from typing import Any

from workbench.retrieval.formats.document import Document, UnreadableError, one_line, row, whole

#: What a file may unpack to, in bytes.
_MOST_UNPACKED = 300_000_000
#: A file of Word's older format, and every encrypted DOCX, is such a container.
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


def read(data: bytes) -> Document:
    """Return the text; the title is that of the document's properties, or its first heading."""
    import docx

    if data.startswith(_OLE):
        raise UnreadableError("it is encrypted, or in the older format .doc")
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        if sum(entry.file_size for entry in packed.infolist()) > _MOST_UNPACKED:
            raise UnreadableError(f"it unpacks to more than {_MOST_UNPACKED:,} bytes")
    document = docx.Document(io.BytesIO(data))
    headings: list[str] = []
    text = "".join(_pieces(document, headings))
    return whole(one_line(document.core_properties.title or "") or next(iter(headings), ""), text)


def _pieces(document: Any, headings: list[str]) -> Iterator[str]:
    """Yield paragraphs and tables; append the headings' texts to `headings`."""
    from docx.table import Table

    for block in document.iter_inner_content():
        if isinstance(block, Table):
            yield "\n\n" + "\n".join(filter(None, (row(_cells(line)) for line in block.rows)))
            continue
        level, text = _level(block), block.text.strip()
        if level and text:
            headings.append(one_line(text))
            yield f"\n\n{'#' * level} {text}"
        elif text:
            yield f"\n- {text}" if _style(block).startswith("List") else f"\n\n{text}"


def _cells(line: Any) -> Iterator[str]:
    """Yield the texts of a row's cells, a merged cell once."""
    before = None
    for cell in line.cells:
        if cell._tc is not before:  # noqa: SLF001 - python-docx gives a merged cell at each of its places
            yield cell.text
        before = cell._tc  # noqa: SLF001


def _style(paragraph: Any) -> str:
    return str((paragraph.style.name if paragraph.style is not None else None) or "")


def _level(paragraph: Any) -> int:
    """Return the level of a heading from 1 to 6, or 0."""
    name = _style(paragraph)
    if name == "Title":
        return 1
    kind, _, number = name.partition(" ")
    return min(int(number), 6) if kind == "Heading" and number.isdecimal() and number.isascii() else 0
