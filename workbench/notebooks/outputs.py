"""Keep the outputs of notebooks opened in the Lab below `.workbench/`, because the stored form has none.

A notebook in `notebooks/` or `pipelines/` has a folder of full copies, each a valid notebook: the last saved
one, the one before a change outside the Lab, and the Lab's checkpoint.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import shutil
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from workbench import files
from workbench.errors import NotFoundError, WorkbenchError
from workbench.layout import LAB_OUTPUTS
from workbench.notebooks import canonical as notebooks
from workbench.notebooks import masks
from workbench.privacy.repository import masked_output

#: Folders of a repository whose notebooks are stored canonically.
FOLDERS: Final = frozenset({"notebooks", "pipelines"})
#: Bytes of the largest copy that is read, as Jupyter limits a saved notebook.
_LIMIT: Final = 512 << 20
_VIEW: Final = "application/vnd.jupyter.widget-view+json"
_STATE: Final = "application/vnd.jupyter.widget-state+json"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptOutputs:
    """The full copies of one notebook, in `folder`."""

    folder: Path

    @property
    def last(self) -> Path:
        """The path of the last notebook that the Lab saved."""
        return self.folder / "last.ipynb"

    @property
    def _before(self) -> Path:
        return self.folder / "before.ipynb"

    @property
    def _checkpoint(self) -> Path:
        return self.folder / "checkpoint.ipynb"

    def keep(
        self, notebook: Mapping[str, Any], *, stored: Path, clean: Callable[[str], str] | None = None
    ) -> None:
        """Keep `notebook` before its canonical form replaces the file `stored`.

        When `stored` was changed outside the Lab, by git for example, the former last copy is kept as well:
        its outputs are shown again when that version of the notebook returns. `clean` masks what outputs may
        not hold.
        """
        canonical = notebooks.canonical(notebook)
        cells = [dict(cell) for cell in notebook["cells"]]
        for cell, named in zip(cells, canonical["cells"], strict=False):  # it drops empty cells at the end
            cell["id"] = named["id"]
        if clean is not None:
            for cell in cells:
                if cell.get("outputs"):
                    cell["outputs"] = masks.cleaned(cell["outputs"], clean)
        full = {**notebook, "cells": cells, "nbformat": 4, "nbformat_minor": 5}
        text = json.dumps(full).encode()
        with files.writing(self.folder):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            last = _copy(self.last)
            if last is not None and not _is_of(last, stored):
                os.replace(self.last, self._before)
        files.write_atomic(self.last, text)

    def shown(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Return the notebook `stored` with its outputs: those of each cell with the same id and source."""
        full: dict[str, Any] = copy.deepcopy(dict(stored))
        kept: dict[tuple[Any, ...], Mapping[str, Any]] = {}
        for notebook in filter(None, map(_copy, (self._before, self.last))):
            kept |= {_key(cell): cell for cell in notebook["cells"]}
            volatile = {k: v for k, v in notebook["metadata"].items() if k in notebooks.VOLATILE}
            full["metadata"] = {**full["metadata"], **volatile}
        states = _widget_states(full)
        for cell in full["cells"]:
            if (found := kept.get(_key(cell))) is not None:
                _restore(cell, found, states)
        return full

    def keep_checkpoint(self) -> None:
        """Keep the last copy as the checkpoint."""
        if self.last.is_file():
            files.write_atomic(self._checkpoint, self.last.read_bytes())

    def restore_checkpoint(self) -> None:
        """Make the checkpoint the last copy, and the last copy the former one."""
        if self._checkpoint.is_file():
            checkpoint = self._checkpoint.read_bytes()
            if self.last.is_file():
                os.replace(self.last, self._before)
            files.write_atomic(self.last, checkpoint)


def kept_of(root: Path, path: Path) -> KeptOutputs | None:
    """Return the kept outputs of a notebook or a folder; None when its stored form includes outputs."""
    root, path = root.resolve(), path.resolve()
    if not path.is_relative_to(root):
        return None
    relative = path.relative_to(root)
    if relative.parts[:1] and relative.parts[0] in FOLDERS and ".ipynb_checkpoints" not in relative.parts:
        return KeptOutputs(folder=root / LAB_OUTPUTS / relative)
    return None


def follow(root: Path, old: Path, new: Path, *, copied: bool) -> None:
    """Move or copy the outputs of a notebook or a folder that was moved or copied from `old` to `new`.

    Outside `notebooks/` and `pipelines/` a notebook is stored with its outputs.
    """
    for path in [new] if new.is_file() else sorted(new.rglob("*.ipynb")):
        source = kept_of(root, old / path.relative_to(new))
        if source is None or not source.folder.is_dir():
            continue
        target = kept_of(root, path)
        with files.writing(source.folder):
            if target is None:
                full = source.shown(notebooks.read(path))
                files.write_atomic(path, notebooks.text_of(full).encode())
            else:
                shutil.copytree(source.folder, target.folder, dirs_exist_ok=True)
            if not copied:
                shutil.rmtree(source.folder)


def _copy(path: Path) -> dict[str, Any] | None:
    """Return a kept copy, or None without one; an unreadable copy is logged and ignored."""
    try:
        if path.is_file() and path.stat().st_size <= _LIMIT:
            return notebooks.parse(path.read_text(encoding="utf-8"), path)
    except NotFoundError:
        return None
    except (OSError, ValueError, WorkbenchError) as error:
        _log.warning("outputs kept in %s are ignored: %s", path, masked_output(str(error)))
    return None


def _is_of(copy_: Mapping[str, Any], stored: Path) -> bool:
    """Whether the file `stored` is the canonical form of a kept copy."""
    try:
        return notebooks.canonical(copy_) == notebooks.canonical(notebooks.read(stored))
    except WorkbenchError:
        return False


def _key(cell: Mapping[str, Any]) -> tuple[Any, ...]:
    return str(cell.get("id")), cell["cell_type"], notebooks.source_of(cell)


def _widget_states(notebook: Mapping[str, Any]) -> Container[str]:
    """Return the ids of the widgets whose state a notebook holds, as Jupyter stores it when asked to."""
    try:
        return frozenset(notebook["metadata"]["widgets"][_STATE]["state"])
    except (KeyError, TypeError):
        return frozenset()


def _without_lost_view(output: Any, states: Container[str]) -> Any:
    """Return an output without the view of a widget whose state is gone with its kernel.

    The Lab would show "model not found" in place of the output's other forms.
    """
    data = output.get("data") if isinstance(output, Mapping) else None
    if not isinstance(data, Mapping) or _VIEW not in data or len(data) == 1:
        return output
    view = data[_VIEW]
    if isinstance(view, Mapping) and view.get("model_id") in states:
        return output
    return {**output, "data": {kind: form for kind, form in data.items() if kind != _VIEW}}


def _restore(cell: dict[str, Any], kept: Mapping[str, Any], states: Container[str]) -> None:
    """Copy outputs and metadata of a kept cell to a cell; a cell's own outputs stay."""
    if cell["cell_type"] == "code" and not cell.get("outputs") and isinstance(kept.get("outputs"), list):
        cell["outputs"] = [_without_lost_view(output, states) for output in kept["outputs"]]
        cell["execution_count"] = kept.get("execution_count")
    volatile = {k: v for k, v in kept["metadata"].items() if k in notebooks.VOLATILE_IN_CELL - {"trusted"}}
    if "outputs_hidden" in kept["metadata"].get("jupyter", {}):
        hidden = {"outputs_hidden": kept["metadata"]["jupyter"]["outputs_hidden"]}
        volatile["jupyter"] = {**cell["metadata"].get("jupyter", {}), **hidden}
    cell["metadata"] = {**cell["metadata"], **volatile}
