"""Read DOCX: headings, paragraphs, lists and tables in the order of the document."""

from __future__ import annotations

import io
import itertools
import zipfile
from collections.abc import Iterator
from typing import Any

from workbench.retrieval.formats.document import Document, UnreadableError, one_line, row, whole

#: What a file may unpack to, in bytes: all of it, and the XML, whose tree takes several times as much.
_MOST_UNPACKED, _MOST_XML = 150_000_000, 60_000_000
#: The most tags of all its XML, and the most paragraphs, runs and cells: so many take 10 seconds.
_MOST_TAGS, _MOST_PARTS = 2_000_000, 250_000
_CHUNK = 1 << 20
#: A file of Word's older format, and every encrypted DOCX, is such a container.
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


def read(data: bytes) -> Document:
    """Return the text; the title is that of the document's properties, or its first heading."""
    import docx

    if data.startswith(_OLE):
        raise UnreadableError("it is encrypted, or in the older format .doc")
    _check_unpacked(data)
    document = docx.Document(io.BytesIO(data))
    _check_parts(document)
    headings: list[str] = []
    text = "".join(_pieces(document, headings))
    return whole(one_line(document.core_properties.title or "") or next(iter(headings), ""), text)


def _check_unpacked(data: bytes) -> None:
    """Raise UnreadableError for a file that unpacks to too much, without unpacking it into memory."""
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        texts = [entry for entry in packed.infolist() if entry.filename.lower().endswith((".xml", ".rels"))]
        sizes = [sum(entry.file_size for entry in part) for part in (packed.infolist(), texts)]
        for size, most in zip(sizes, (_MOST_UNPACKED, _MOST_XML), strict=True):
            if size > most:
                raise UnreadableError(f"it unpacks to more than {most:,} bytes")
        tags = 0
        for entry in texts:
            with packed.open(entry) as file:
                while chunk := file.read(_CHUNK):
                    tags += chunk.count(b"<")
        if tags > _MOST_TAGS:
            raise UnreadableError(f"it has more than {_MOST_TAGS:,} XML tags")


def _check_parts(document: Any) -> None:
    """Raise UnreadableError for a document of more paragraphs, runs and cells than a book has."""
    from docx.oxml.ns import qn

    found = document.element.body.iter(qn("w:p"), qn("w:r"), qn("w:tc"))
    if next(itertools.islice(found, _MOST_PARTS, None), None) is not None:
        raise UnreadableError(f"it has more than {_MOST_PARTS:,} paragraphs, runs and cells")


def _pieces(document: Any, headings: list[str]) -> Iterator[str]:
    """Yield paragraphs and tables; append the headings' texts to `headings`."""
    from docx.table import Table

    names = {style.style_id: style.name or "" for style in document.styles}
    for block in document.iter_inner_content():
        if isinstance(block, Table):
            yield "\n\n" + "\n".join(filter(None, map(row, _rows(block))))
            continue
        style = names.get(block._p.style, "")  # noqa: SLF001 - `paragraph.style` searches all styles again
        level, text = _level(style), block.text.strip()
        if level and text:
            headings.append(one_line(text))
            yield f"\n\n{'#' * level} {text}"
        elif text:
            yield f"\n- {text}" if style.startswith("List") else f"\n\n{text}"


def _rows(table: Any) -> Iterator[list[str]]:
    """Yield the texts of each row's cells, a merged cell once in each of its rows.

    `row.cells` of python-docx has a merged cell once for each column that its file says it spans.
    """
    from docx.table import _Cell

    above: dict[int, str] = {}
    for line in table._tbl.tr_lst:  # noqa: SLF001
        column, texts = line.grid_before, dict[int, str]()
        for cell in line.tc_lst:
            merged = cell.vMerge == "continue" and column in above
            texts[column] = above[column] if merged else _Cell(cell, table).text
            column += cell.grid_span
        above = texts
        yield list(texts.values())


def _level(name: str) -> int:
    """Return the level of a heading from 1 to 6 by the name of its style, or 0."""
    if name == "Title":
        return 1
    kind, _, number = name.partition(" ")
    return min(int(number), 6) if kind == "Heading" and number.isdecimal() and number.isascii() else 0
