"""Mask the texts of an executed notebook: outputs, errors and parameters; its code stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from workbench.notebooks.canonical import tags_of

#: The tag that papermill gives to the cell with the parameters.
INJECTED: Final = "injected-parameters"
_MEDIA: Final = ("image/", "audio/", "video/")
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
        return clean(value)
    if isinstance(value, dict):
        return {clean(name): cleaned(item, clean, kind=name) for name, item in value.items()}
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        text = "".join(value)
        new = clean(text)
        return value if new == text else new.splitlines(keepends=True)
    return [cleaned(item, clean) for item in value] if isinstance(value, list) else value
