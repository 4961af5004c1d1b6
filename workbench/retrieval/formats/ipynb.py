"""Read a Jupyter notebook: its Markdown and its code, without outputs."""

from __future__ import annotations

from typing import Any

from workbench import files
from workbench.errors import ConfigError
from workbench.retrieval.formats.document import Document, UnreadableError, first_heading, whole
from workbench.retrieval.formats.text import decoded

#: The most opening brackets and the most commas: so many take 5 seconds and 500 MB.
_MOST_BRACKETS, _MOST_COMMAS = 1_000_000, 8_000_000


def read(data: bytes) -> Document:
    """Return Markdown cells as text and code cells as fenced code; the title is the first heading."""
    if data.count(b"[") + data.count(b"{") > _MOST_BRACKETS or data.count(b",") > _MOST_COMMAS:
        raise UnreadableError("it is too complex: its outputs hold too many values; clear them")
    try:
        raw = files.parse_json(decoded(data), where="the notebook")
    except ConfigError as error:
        raise UnreadableError(error.message) from None
    cells = raw.get("cells") if isinstance(raw, dict) else None
    if not isinstance(cells, list):
        raise UnreadableError("it is no notebook: it has no list of cells")
    language = _language(raw.get("metadata"))
    texts = [_text(cell, language) for cell in cells if isinstance(cell, dict)]
    written = "\n\n".join(_source(cell) for cell in cells if _is(cell, "markdown"))
    return whole(first_heading(written), "\n\n".join(filter(None, texts)))


def _is(cell: Any, kind: str) -> bool:
    return isinstance(cell, dict) and cell.get("cell_type") == kind


def _source(cell: dict[str, Any]) -> str:
    """Return a cell's source, which is a text or a list of lines."""
    source = cell.get("source")
    lines = source if isinstance(source, list) else [source]
    return "".join(line for line in lines if isinstance(line, str)).strip()


def _text(cell: dict[str, Any], language: str) -> str:
    source = _source(cell)
    if not source or _is(cell, "markdown"):
        return source
    return f"```{language}\n{source}\n```" if _is(cell, "code") else ""


def _language(metadata: Any) -> str:
    info = metadata.get("language_info") if isinstance(metadata, dict) else None
    name = info.get("name") if isinstance(info, dict) else None
    return name if isinstance(name, str) and name.isalnum() else "python"
