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

    names = {style.style_id: style.name or "" for style in document.styles}
    for block in document.iter_inner_content():
        if isinstance(block, Table):
            yield "\n\n" + "\n".join(filter(None, (row(_cells(line)) for line in block.rows)))
            continue
        style = names.get(block._p.style, "")  # noqa: SLF001 - `paragraph.style` searches all styles again
        level, text = _level(style), block.text.strip()
        if level and text:
            headings.append(one_line(text))
            yield f"\n\n{'#' * level} {text}"
        elif text:
            yield f"\n- {text}" if style.startswith("List") else f"\n\n{text}"


def _cells(line: Any) -> Iterator[str]:
    """Yield the texts of a row's cells, a merged cell once."""
    before = None
    for cell in line.cells:
        if cell._tc is not before:  # noqa: SLF001 - python-docx gives a merged cell at each of its places
            yield cell.text
        before = cell._tc  # noqa: SLF001


def _level(name: str) -> int:
    """Return the level of a heading from 1 to 6 by the name of its style, or 0."""
    if name == "Title":
        return 1
    kind, _, number = name.partition(" ")
    return min(int(number), 6) if kind == "Heading" and number.isdecimal() and number.isascii() else 0
