"""Write, verify and open a memory's snapshot: one Parquet file for each tenant and a manifest.

The logical digest identifies a snapshot. The same items have the same digest, whatever store they come
from and whatever library wrote the files. Nothing in a snapshot depends on a clock.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from workbench import files
from workbench.errors import ConfigError, CorruptError, NotFoundError
from workbench.files import folders
from workbench.memory.parquet import logical_digest, read_tenant, write_tenant
from workbench.memory.read_only import PinnedMemory
from workbench.memory.sqlite.store import SQLiteStore
from workbench.ports import Memory
from workbench.types import JSON, Item

FORMAT = 2
_HINT = "dvc repro remember, or dvc checkout for the version that was committed"


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantEntry:
    """One tenant's file: the SHA-256 of its bytes, its number of rows and the logical digest of its items.

    `version` is that of the tenant's knowledge. It is not part of the logical digest, because another store
    may number the same items differently.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    file: str
    sha256: str
    rows: int
    logical_digest: str
    embedding: str | None
    dimensions: int | None
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotManifest:
    """The content of `manifest.json`. `logical_digest` is the SHA-256 of the tenants' names and digests."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    format: int
    memory: str
    spec_digest: str
    embedding: str | None
    dimensions: int | None
    tenants: dict[str, TenantEntry]
    logical_digest: str


async def write_snapshot(
    views: Iterable[Memory], folder: Path, *, memory: str, spec_digest: str, version: int | None = None
) -> SnapshotManifest:
    """Replace `folder` atomically with a snapshot of the tenants of `views`; return the manifest.

    `version` selects an earlier version of each tenant, by default the active one. ConfigError when `folder`
    holds other files.
    """
    await asyncio.to_thread(_check_place, folder)
    new = files.aside_of(folder)
    try:
        with files.writing(folder):
            await asyncio.to_thread(new.mkdir, parents=True)
            entries = {view.tenant: await _written(view, new, version) for view in views}
            manifest = _manifest(entries, memory=memory, spec_digest=spec_digest)
            await asyncio.to_thread(files.write_atomic, new / "manifest.json", files.pretty(manifest))
            await asyncio.to_thread(folders.replace, new, folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return manifest


def _check_place(folder: Path) -> None:
    """Raise ConfigError unless `folder` is missing, empty or a snapshot."""
    if folder.is_dir() and ((folder / "manifest.json").is_file() or not any(folder.iterdir())):
        return
    if folder.exists():
        raise ConfigError(f"{folder} is neither a snapshot nor empty", hint="name another folder")


async def _written(view: Memory, folder: Path, version: int | None) -> dict[str, Any]:
    """Write one tenant's file into `folder` and return its entry."""
    versions = await view.versions()
    if version is None and versions:
        version = versions[-1].number  # a number, so that a publish in between does not change the items
    items = await view.items(version)
    entry = await asyncio.to_thread(write_tenant, folder, view.tenant, items)
    return {**entry, "version": version or 0}


def open_snapshot(folder: Path, *, expected_digest: str | None = None) -> Snapshot:
    """Verify the snapshot in `folder` and load it into this process's memory.

    CorruptError names the file that differs from the manifest, or the folder when its digest is not
    `expected_digest`. NotFoundError when the folder holds no snapshot.
    """
    manifest = read_manifest(folder)
    if expected_digest is not None and manifest.logical_digest != expected_digest:
        raise CorruptError(
            f"{folder} holds snapshot {manifest.logical_digest[:12]}, not {expected_digest[:12]}", hint=_HINT
        )
    items = {tenant: _verified(folder, tenant, entry) for tenant, entry in manifest.tenants.items()}
    if _overall(manifest.tenants) != manifest.logical_digest:
        raise CorruptError(f"{folder / 'manifest.json'} was changed: its digests disagree", hint=_HINT)
    store = SQLiteStore(None, name=manifest.memory)
    for tenant, rows in items.items():
        store.tenant(tenant).load(rows, version=manifest.tenants[tenant].version)
    return Snapshot(manifest=manifest, store=store)


def read_manifest(folder: Path) -> SnapshotManifest:
    """Read the manifest strictly, without verifying the other files."""
    import orjson

    path = folder / "manifest.json"
    if not path.exists() and not path.is_symlink():
        raise NotFoundError(f"there is no memory snapshot in {folder}", hint=_HINT)
    try:
        raw = orjson.loads(files.read_bytes(path))
        if isinstance(raw, dict) and raw.get("format") != FORMAT:
            raise ConfigError(
                f"{path} has format {raw.get('format')!r}, this workbench reads format {FORMAT}", hint=_HINT
            )
        return files.parse(SnapshotManifest, raw, where=str(path))
    except orjson.JSONDecodeError as error:
        raise CorruptError(f"{path} is not JSON (line {error.lineno})", hint=_HINT) from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", hint=_HINT) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """An opened snapshot: read-only views of its tenants."""

    manifest: SnapshotManifest
    store: SQLiteStore

    @property
    def digest(self) -> str:
        """The logical digest, which identifies the snapshot."""
        return self.manifest.logical_digest

    @property
    def name(self) -> str:
        """The memory's name."""
        return self.manifest.memory

    def tenant(self, tenant: str) -> PinnedMemory:
        """Return one tenant's view."""
        return PinnedMemory(inner=self.store.tenant(tenant), name=self.name)

    def tenants(self) -> list[str]:
        """Return the snapshot's tenants, sorted."""
        return sorted(self.manifest.tenants)

    async def aclose(self) -> None:
        """Release the memory; a second call does nothing."""
        await self.store.aclose()

    def close(self) -> None:
        """Release the memory, from sync code."""
        self.store.close()


def _manifest(entries: Mapping[str, JSON], *, memory: str, spec_digest: str) -> SnapshotManifest:
    spaces = {(e["embedding"], e["dimensions"]) for e in entries.values() if e["rows"]}
    if len(spaces) > 1:
        raise ConfigError(
            f"tenants of {memory!r} are embedded differently: {sorted(spaces)}",
            hint="add their pages again with one embedding",
        )
    embedding, dimensions = next(iter(spaces), (None, None))
    tenants = {tenant: TenantEntry(**entry) for tenant, entry in entries.items()}
    return SnapshotManifest(
        format=FORMAT,
        memory=memory,
        spec_digest=spec_digest,
        embedding=embedding,
        dimensions=dimensions,
        tenants=tenants,
        logical_digest=_overall(tenants),
    )


def _overall(tenants: Mapping[str, TenantEntry]) -> str:
    return files.digest({tenant: entry.logical_digest for tenant, entry in tenants.items()})


def _verified(folder: Path, tenant: str, entry: TenantEntry) -> list[Item]:
    import polars as pl

    path = folder / f"{tenant}.parquet"
    try:
        data = files.read_bytes(path)
    except OSError as error:
        raise CorruptError(f"cannot read {path}: {error.strerror}", hint=_HINT) from error
    if files.digest(data) != entry.sha256:
        raise CorruptError(f"{path} was changed (SHA-256 differs)", hint=_HINT)
    try:
        items = read_tenant(data)
    except (pl.exceptions.PolarsError, TypeError, KeyError) as error:
        raise CorruptError(f"{path} is not a Parquet file of items", hint=_HINT) from error
    if len(items) != entry.rows or logical_digest(tenant, items) != entry.logical_digest:
        raise CorruptError(f"{path} does not hold the items that the manifest lists", hint=_HINT)
    return items
