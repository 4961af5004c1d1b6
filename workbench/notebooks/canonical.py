"""The one form in which notebooks are stored: what its author wrote, nothing of any execution.

Saving, running or looking at a notebook leaves its bytes alone, so that git and DVC see a change
when somebody changed a cell and at no other time.

    python -m workbench.notebooks.canonical [--write] FILE_OR_FOLDER...     lists what is stored otherwise
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from workbench.errors import ConfigError
from workbench.files import read_text, write_atomic

#: Written by tools while a notebook runs or is looked at; never by its author.
_VOLATILE: Final = frozenset(
    {"papermill", "widgets", "signature", "orig_nbformat", "orig_nbformat_minor", "vscode"}
)
_VOLATILE_IN_CELL: Final = frozenset(
    {"papermill", "execution", "ExecuteTime", "collapsed", "scrolled", "trusted", "vscode"}
)
_KERNEL: Final = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


def canonical(notebook: Mapping[str, Any]) -> dict[str, Any]:
    """`notebook` (nbformat 4) without outputs, counts and traces of tools; `notebook` is not changed.

    The kernel is the one that every Jupyter has, format 4.5 gives each cell an id (a missing or
    repeated one is derived from place and source), and empty code cells at the end, as running
    the last cell leaves them, are gone.
    """
    metadata = {k: v for k, v in notebook["metadata"].items() if k not in _VOLATILE}
    metadata |= {"kernelspec": dict(_KERNEL), "language_info": {"name": "python"}}
    cells: list[dict[str, Any]] = []
    taken: set[str] = set()
    for place, cell in enumerate(notebook["cells"]):
        cells.append(_cell(cell, place=place, taken=taken))
    while cells and cells[-1]["cell_type"] == "code" and not cells[-1]["source"].strip():
        cells.pop()
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def _cell(cell: Mapping[str, Any], *, place: int, taken: set[str]) -> dict[str, Any]:
    source = cell["source"]
    text = source if isinstance(source, str) else "".join(source)
    metadata = {k: v for k, v in cell["metadata"].items() if k not in _VOLATILE_IN_CELL}
    hidden = {k: v for k, v in metadata.pop("jupyter", {}).items() if k != "outputs_hidden"}
    if hidden:
        metadata["jupyter"] = hidden
    name = str(cell.get("id", ""))
    if not name or name in taken:
        name = hashlib.sha256(f"{place}\n{text}".encode()).hexdigest()[:8]
    taken.add(name)
    kept = {"cell_type": cell["cell_type"], "id": name, "metadata": metadata, "source": text}
    if "attachments" in cell:
        kept["attachments"] = cell["attachments"]
    if cell["cell_type"] == "code":
        kept |= {"execution_count": None, "outputs": []}
    return kept


def as_text(notebook: Mapping[str, Any]) -> str:
    """The canonical form as nbformat writes it: one space of indent, sorted keys, a final newline."""
    import nbformat

    return str(nbformat.writes(nbformat.from_dict(canonical(notebook)))) + "\n"


def read(path: Path) -> dict[str, Any]:
    """A notebook file's JSON; anything that is not nbformat 4 is one clear error."""
    try:
        raw = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}:{error.lineno}: not a notebook: {error.msg}") from None
    if not isinstance(raw, dict) or not {"cells", "metadata", "nbformat"} <= raw.keys():
        raise ConfigError(f"{path}: not a notebook: `cells`, `metadata` or `nbformat` is missing")
    if raw["nbformat"] != 4:
        raise ConfigError(
            f"{path}: notebook format {raw['nbformat']} is not read here, only 4",
            hint=f"jupyter nbconvert --to notebook --inplace {path}",
        )
    for place, cell in enumerate(raw["cells"]):
        if missing := {"cell_type", "metadata", "source"} - cell.keys():
            raise ConfigError(f"{path}: not a notebook: cell {place + 1} has no {min(missing)}")
    return raw


def stored_otherwise(places: Iterable[Path]) -> list[Path]:
    """The notebooks among `places` (files, or folders searched to the bottom) not stored canonically."""
    found: set[Path] = set()
    for place in places:
        found.update(place.rglob("*.ipynb") if place.is_dir() else [place])
    kept = sorted(path for path in found if ".ipynb_checkpoints" not in path.parts)
    return [path for path in kept if as_text(read(path)) != read_text(path)]


def pre_save_hook(*, model: dict[str, Any], **_: Any) -> None:
    """Jupyter's contents manager calls this before it writes: a notebook is stored canonically."""
    if model["type"] == "notebook" and model["content"]["nbformat"] == 4:
        model["content"] = canonical(model["content"])


def main(arguments: Sequence[str]) -> int:
    """List the notebooks stored otherwise; with `--write`, store them canonically."""
    write = "--write" in arguments
    changed = stored_otherwise(Path(name) for name in arguments if name != "--write")
    for path in changed:
        if write:
            write_atomic(path, as_text(read(path)).encode())
        print(path, "is stored canonically now" if write else "is not stored canonically")
    if changed and not write:
        print("  -> python -m workbench.notebooks.canonical --write", *changed)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
