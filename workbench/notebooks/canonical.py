"""The stored form of a notebook: what its author wrote, without the traces of any execution.

Running, viewing or saving a notebook does not change its stored bytes, so git and DVC see a change
only when a cell changed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from workbench.errors import ConfigError
from workbench.files import read_text

#: Metadata that tools write while a notebook runs or is viewed; its author never does.
VOLATILE: Final = frozenset(
    {"papermill", "widgets", "signature", "orig_nbformat", "orig_nbformat_minor", "vscode"}
)
VOLATILE_IN_CELL: Final = frozenset(
    {"papermill", "execution", "ExecuteTime", "collapsed", "scrolled", "trusted", "vscode"}
)
#: The escape of a surrogate in JSON. UTF-8 files have no other way to write one.
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")
_KERNEL: Final = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


def canonical(notebook: Mapping[str, Any]) -> dict[str, Any]:
    """Return `notebook` (nbformat 4) without outputs, counts and metadata of tools; it is not changed.

    A Python kernel becomes the one that every Jupyter has; a kernel of another language is kept.
    Format 4.5 gives each cell an id: a missing or repeated id is derived from position and source.
    Empty code cells at the end are dropped, because running the last cell adds one.
    """
    metadata = {k: v for k, v in notebook["metadata"].items() if k not in VOLATILE}
    if not foreign_language(metadata):
        metadata |= {"kernelspec": dict(_KERNEL), "language_info": {"name": "python"}}
    cells: list[dict[str, Any]] = []
    taken: set[str] = set()
    for position, cell in enumerate(notebook["cells"]):
        cells.append(_cell(cell, position=position, taken=taken))
    while cells and cells[-1]["cell_type"] == "code" and not cells[-1]["source"].strip():
        cells.pop()
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def source_of(cell: Mapping[str, Any]) -> str:
    """Return a cell's source as one text; the format also allows a list of lines."""
    source = cell["source"]
    return source if isinstance(source, str) else "".join(source)


def tags_of(cell: Mapping[str, Any]) -> frozenset[str]:
    """Return a cell's tags; some tools write null for no tags."""
    return frozenset(cell["metadata"].get("tags") or ())


def foreign_language(metadata: Mapping[str, Any]) -> str:
    """Return the language of a notebook's kernel, "" for Python and for a kernel without a language."""
    kernel, info = (metadata.get(key) for key in ("kernelspec", "language_info"))
    language = (isinstance(kernel, dict) and kernel.get("language")) or (
        isinstance(info, dict) and info.get("name")
    )
    return "" if not language or "python" in str(language).lower() else str(language)


def _cell(cell: Mapping[str, Any], *, position: int, taken: set[str]) -> dict[str, Any]:
    text = source_of(cell)
    metadata = {k: v for k, v in cell["metadata"].items() if k not in VOLATILE_IN_CELL}
    hidden = {k: v for k, v in metadata.pop("jupyter", {}).items() if k != "outputs_hidden"}
    if hidden:
        metadata["jupyter"] = hidden
    if metadata.get("tags", ()) is None:
        del metadata["tags"]
    name = str(cell.get("id", ""))
    if not name or name in taken:
        name = hashlib.sha256(f"{position}\n{text}".encode()).hexdigest()[:8]
    taken.add(name)
    kept = {"cell_type": cell["cell_type"], "id": name, "metadata": metadata, "source": text}
    if "attachments" in cell:
        kept["attachments"] = cell["attachments"]
    if cell["cell_type"] == "code":
        kept |= {"execution_count": None, "outputs": []}
    return kept


def as_text(notebook: Mapping[str, Any]) -> str:
    """Return the canonical form as text, byte for byte as nbformat writes it."""
    return text_of(canonical(notebook))


def text_of(notebook: Mapping[str, Any]) -> str:
    """Return any notebook as text, its sources as lists of lines, keys sorted, as nbformat writes it."""
    cells = [{**cell, "source": source_of(cell).splitlines(keepends=True)} for cell in notebook["cells"]]
    return json.dumps({**notebook, "cells": cells}, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def read(path: Path) -> dict[str, Any]:
    """Return a notebook file's JSON; ConfigError for a file that is not an nbformat 4 notebook."""
    return parse(read_text(path, hint="notebooks are in notebooks/"), path)


def parse(text: str, path: Path) -> dict[str, Any]:
    """Return the JSON of a notebook's text; errors name `path`."""
    try:
        raw = json.loads(text)
    except json.JSONDecodeError as error:
        raise _no_notebook(f"{path}:{error.lineno}", error.msg, path) from None
    except ValueError as error:  # an integer of more than 4,300 digits
        raise _no_notebook(path, str(error).split(";")[0], path) from None
    except RecursionError:
        raise _no_notebook(path, "its JSON is nested too deep", path) from None
    if not isinstance(raw, dict) or not {"cells", "metadata", "nbformat"} <= raw.keys():
        raise _no_notebook(path, "`cells`, `metadata` or `nbformat` is missing", path)
    if raw["nbformat"] != 4:
        raise ConfigError(
            f"{path}: notebook format {raw['nbformat']} is not supported, only 4",
            hint=f"jupyter nbconvert --to notebook --inplace {path}",
        )
    if not isinstance(raw["cells"], list) or not isinstance(raw["metadata"], dict):
        raise _no_notebook(path, "`cells` must be a list and `metadata` a mapping", path)
    for number, cell in enumerate(raw["cells"], start=1):
        if problem := _problem_of(cell):
            raise _no_notebook(path, f"cell {number} {problem}", path)
    if _SURROGATE.search(text):
        _check_characters(raw, path)
    return raw


def _check_characters(notebook: Mapping[str, Any], path: Path) -> None:
    """Raise ConfigError for a lone surrogate outside outputs: UTF-8, the stored form, has no bytes for it."""
    parts = {"its metadata": notebook["metadata"]}
    for number, cell in enumerate(notebook["cells"], start=1):
        parts[f"cell {number}"] = {key: value for key, value in cell.items() if key != "outputs"}
    for where, value in parts.items():
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = f"\\u{ord(error.object[error.start]):04x}"
            raise ConfigError(
                f"{path}: {where} contains {half}, half of a character (a lone surrogate)",
                hint=f"delete {half} in {path}, or write the whole character",
            ) from None


def _no_notebook(where: object, problem: str, path: Path) -> ConfigError:
    return ConfigError(f"{where} is not a notebook: {problem}", hint=f"git checkout -- {path}")


def _problem_of(cell: Any) -> str:
    """Return the reason why a value is not a cell, "" for a cell."""
    if not isinstance(cell, dict):
        return "is not a mapping"
    if missing := {"cell_type", "metadata", "source"} - cell.keys():
        return f"has no {min(missing)}"
    source = cell["source"]
    lines = source if isinstance(source, list) else [source]
    if not all(isinstance(line, str) for line in lines):
        return "has a source that is not text"
    metadata = cell["metadata"]
    if not isinstance(metadata, dict) or not isinstance(metadata.get("jupyter", {}), dict):
        return "has malformed metadata"
    tags = metadata.get("tags")
    if tags is not None and (not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags)):
        return "has tags that are not a list of texts"
    return ""
