"""JupyterLab's access to notebooks: stored canonically, shown with the outputs they had when saved."""

# mypy: disable-error-code="no-untyped-call, import-untyped"

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager
from send2trash import send2trash
from tornado.web import HTTPError
from traitlets import Callable as Function
from traitlets import Instance, Unicode

from workbench.errors import WorkbenchError
from workbench.notebooks import outputs
from workbench.notebooks.canonical import canonical
from workbench.notebooks.outputs import KeptOutputs
from workbench.privacy.repository import always_redaction_of

#: The page on which the Lab opens, in the repository's folder; a file of that name takes its place.
START = "START.md"


class NotebookManager(AsyncLargeFileManager):
    """Jupyter's contents manager for a repository: notebooks elsewhere are saved as they are.

    START.md is no file: `start_page` writes it anew each time it is read.
    """

    repository = Unicode(help="The repository's folder.").tag(config=True)
    start_page = Function(
        None, allow_none=True, help="A function of the repository's folder: START.md as Markdown."
    ).tag(config=True)
    _saving = Instance(asyncio.Lock, ())

    async def get(
        self,
        path: str,
        content: bool = True,  # noqa: FBT001, FBT002  Jupyter's
        type: str | None = None,  # noqa: A002  Jupyter's
        format: str | None = None,  # noqa: A002  Jupyter's
        require_hash: bool = False,  # noqa: FBT001, FBT002  Jupyter's
    ) -> dict[str, Any]:
        """Return a file's model. A notebook's model contains its outputs, and its hash changes with them."""
        if self._is_start(path):
            return await self._start(content)
        model: dict[str, Any] = await super().get(path, content, type, format, require_hash)
        kept = self._kept(path) if model["type"] == "notebook" else None
        if kept is None:
            return model
        if content:
            full = await asyncio.to_thread(kept.shown, model["content"])
            for cell in full["cells"]:
                cell["metadata"].pop("trusted", None)
            model["content"] = nbformat.from_dict(full)
            self.mark_trusted_cells(model["content"], path)
        if require_hash and kept.last.is_file():  # so that the Lab notices a save in another tab
            last = await asyncio.to_thread(kept.last.read_bytes)
            model["hash"] = hashlib.new(model["hash_algorithm"], model["hash"].encode() + last).hexdigest()
        return model

    async def save(self, model: dict[str, Any], path: str = "") -> dict[str, Any]:
        """Save a file. For a notebook, keep the outputs first, then save the canonical form."""
        content = model.get("content") if model.get("type") == "notebook" else None
        kept = self._kept(path) if content and content.get("nbformat") == 4 else None
        if content is None or kept is None:
            saved: dict[str, Any] = await super().save(model, path)
            return saved
        async with self._saving:
            file, clean = Path(self._get_os_path(path.strip("/"))), canonical(content)
            clean_text = functools.partial(_masked, Path(self.repository))
            await _done(kept.keep, content, stored=file, clean=clean_text)
            saved = await super().save({**model, "content": clean}, path)
            full = nbformat.from_dict(await asyncio.to_thread(kept.shown, clean))
            self.notary.mark_cells(full, self.notary.check_cells(nbformat.from_dict(content)))
            self.check_and_sign(full, path)
        return saved

    def _is_start(self, path: str) -> bool:
        return (
            self.start_page is not None
            and path.strip("/") == START
            and not Path(self._get_os_path(START)).exists()
        )

    async def _start(self, content: bool) -> dict[str, Any]:  # noqa: FBT001
        """Return the model of the start page, which cannot be written."""
        text = await asyncio.to_thread(self.start_page, Path(self.repository))
        now = dt.datetime.now(dt.UTC)
        digest = hashlib.sha256(text.encode()).hexdigest()
        return {
            "name": START, "path": START, "type": "file", "mimetype": "text/markdown", "writable": False,
            "format": "text" if content else None, "content": text if content else None,
            "size": len(text.encode()), "created": now, "last_modified": now,
            "hash": digest, "hash_algorithm": "sha256",
        }  # fmt: skip

    async def file_exists(self, path: str) -> bool:
        """Whether a file is there; the start page always is."""
        return self._is_start(path) or bool(await super().file_exists(path))

    async def list_checkpoints(self, path: str) -> list[dict[str, Any]]:
        """Return the checkpoints of a file; the start page has none."""
        return [] if self._is_start(path) else list(await super().list_checkpoints(path))

    async def create_checkpoint(self, path: str) -> dict[str, Any]:
        """Create a checkpoint of a file and of its outputs."""
        made: dict[str, Any] = await super().create_checkpoint(path)
        if kept := self._kept(path):
            await _done(kept.keep_checkpoint)
        return made

    async def restore_checkpoint(self, checkpoint_id: str, path: str) -> None:
        """Restore a checkpoint, with its outputs."""
        await super().restore_checkpoint(checkpoint_id, path)
        if kept := self._kept(path):
            await _done(kept.restore_checkpoint)

    async def rename_file(self, old_path: str, new_path: str) -> None:
        """Rename a file or folder together with its outputs."""
        await super().rename_file(old_path, new_path)
        await self._follow(old_path, new_path, copied=False)

    async def copy(self, from_path: str, to_path: str | None = None) -> dict[str, Any]:
        """Copy a file or folder with its outputs; a notebook is copied as the Lab shows it."""
        made: dict[str, Any] = await super().copy(from_path, to_path)
        if made["type"] == "directory":
            await self._follow(from_path, made["path"], copied=True)
        return made

    async def delete_file(self, path: str) -> None:
        """Delete a file or folder and its outputs, or move both into the trash."""
        await super().delete_file(path)
        if (kept := self._kept(path)) and kept.folder.is_dir():
            remove: Callable[[Path], Any] = send2trash if self.delete_to_trash else shutil.rmtree
            try:
                await asyncio.to_thread(remove, kept.folder)
            except OSError as error:
                self.log.warning("the outputs in %s were not deleted: %s", kept.folder, error)

    def _kept(self, path: str) -> KeptOutputs | None:
        return outputs.kept_of(Path(self.repository), Path(self._get_os_path(path.strip("/"))))

    async def _follow(self, old: str, new: str, *, copied: bool) -> None:
        source, target = (Path(self._get_os_path(path.strip("/"))) for path in (old, new))
        await _done(outputs.follow, Path(self.repository), source, target, copied=copied)


@functools.lru_cache(maxsize=1_024)
def _masked(root: Path, text: str) -> str:
    """Return an output with masks; a notebook is saved again and again with the same outputs."""
    return always_redaction_of(root).text(text)


async def _done(verb: Callable[..., None], *arguments: Any, **options: Any) -> None:
    """Run a function on files outside the event loop; raise an error that the Lab shows."""
    try:
        await asyncio.to_thread(verb, *arguments, **options)
    except (WorkbenchError, OSError) as error:
        raise HTTPError(507, f"the outputs were not saved: {error}") from error
