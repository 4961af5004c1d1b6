"""Mask the texts of an executed notebook: outputs, errors and parameters; its code stays."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any, Final

from workbench.notebooks.canonical import tags_of

#: The tag that papermill gives to the cell with the parameters.
INJECTED: Final = "injected-parameters"
_MEDIA: Final = ("image/", "audio/", "video/")
_MARKUP: Final = ("text/html", "image/svg+xml")
#: What stands inside a value: marks of words that differ, as panels print them, and escapes of quotes.
_INSIDE: Final = re.compile(r"\[-(.*?)-\]|\{\+(.*?)\+\}|\\+(?=[\"'])", re.DOTALL)
_TAG: Final = re.compile(r"(<[^>]*>)")
_ATTRIBUTE: Final = re.compile(r"(?<==)\s*(\"[^\"]*\"|'[^']*')")
Clean = Callable[[str], str]


def cleaned_notebook(notebook: dict[str, Any], clean: Clean) -> bool:
    """Apply `clean` to outputs and to values of parameters; return whether a text changed."""
    changed = False
    for cell in notebook["cells"]:
        if cell.get("outputs"):
            outputs = cleaned(cell["outputs"], clean)
            changed = changed or outputs != cell["outputs"]
            cell["outputs"] = outputs
        if INJECTED in tags_of(cell):
            source = cleaned(cell["source"], clean)
            changed = changed or source != cell["source"]
            cell["source"] = source
    run = notebook["metadata"].get("papermill")
    if run:
        parameters = notebook["metadata"]["papermill"] = cleaned(run, clean)
        changed = changed or parameters != run
    return changed


def cleaned(value: Any, clean: Clean, *, kind: str = "") -> Any:
    """Return outputs with their texts cleaned; a list of lines is one text, and media stay as they are."""
    if kind.startswith(_MEDIA) and kind != "image/svg+xml":
        return value
    if isinstance(value, str):
        return _cleaned_markup(value, clean) if kind in _MARKUP else _cleaned_text(value, clean)
    if isinstance(value, dict):
        return {clean(name): cleaned(item, clean, kind=name) for name, item in value.items()}
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        text = "".join(value)
        new = cleaned(text, clean, kind=kind)
        return value if new == text else new.splitlines(keepends=True)
    return [cleaned(item, clean) for item in value] if isinstance(value, list) else value


def _cleaned_text(text: str, clean: Clean) -> str:
    """Return a text cleaned as it stands; without what stands inside values where one is found only then."""
    new = clean(text)
    if not _INSIDE.search(new):
        return new
    read = _INSIDE.sub(lambda found: (found[1] or "") + (found[2] or ""), new)
    return again if (again := clean(read)) != read else new


def _cleaned_markup(text: str, clean: Clean) -> str:
    """Return HTML or SVG cleaned as it stands, then what a person reads of it: a quote is `&#x27;` in it."""
    new = clean(text)
    read = html.unescape(new)
    if read == new or clean(read) == read:
        return new
    parts = _TAG.split(new)  # texts at even places, tags at odd ones
    parts[::2] = [_cleaned_read(part, clean) for part in parts[::2]]
    parts[1::2] = [
        _ATTRIBUTE.sub(lambda value: f'"{_cleaned_read(value[1][1:-1], clean)}"', tag) for tag in parts[1::2]
    ]
    return "".join(parts)


def _cleaned_read(part: str, clean: Clean) -> str:
    read = html.unescape(part)
    new = clean(read)
    return part if new == read else html.escape(new)
