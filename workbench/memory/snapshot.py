"""A memory's snapshot: one Parquet file a tenant and a manifest; verified whenever it is opened.

Its identity is the logical digest: the same items have the same one, whatever store they come from
and whatever wrote the files. Nothing in a snapshot depends on a clock.
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
from workbench.memory.parquet import logical_digest, read_tenant, write_tenant
from workbench.memory.read_only import PinnedMemory
from workbench.memory.sqlite.store import SQLiteStore
from workbench.ports import (
    Memory,
)
from workbench.types import JSON, Item

FORMAT = 2
_HINT = "dvc repro remember, or dvc checkout for the version that was committed"


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantEntry:
    """One tenant's file: SHA-256 of its bytes, and of its items whatever the file format.

    `version` is the version of the tenant's knowledge it holds; the same items may be another one elsewhere,
    so that it is no part of the logical digest.
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
    """`manifest.json`. `logical_digest` is SHA-256 of the tenants' names and logical digests."""

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
    """Write the tenants behind `views` into `folder`, replacing it as a whole; its manifest.

    An earlier `version` is that of each tenant; without it, each one's version in force.
    """
    await asyncio.to_thread(_check_place, folder)
    aside = files.aside_of(folder)
    try:
        await asyncio.to_thread(aside.mkdir, parents=True)
        entries = {view.tenant: await _written(view, aside, version) for view in views}
        manifest = _manifest(entries, memory=memory, spec_digest=spec_digest)
        await asyncio.to_thread(_put_in_place, aside, folder, manifest)
    except OSError as error:
        raise files.unwritable(folder, error) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return manifest


def left_aside(folder: Path) -> list[Path]:
    """Whole snapshots of `folder` that stand aside while nothing is there: its writer is between its renames.

    Or was killed there.
    """
    try:
        asides = [] if folder.exists() else files.asides_of(folder)
    except OSError as error:
        raise files.unwritable(folder, error) from error
    return [one for one in asides if (one / "manifest.json").is_file()]


def put_back(folder: Path) -> None:
    """Put the newest whole snapshot that a killed writer of `folder` left aside there, if nothing is.

    For who is alone among its writers. No other one stays aside.
    """
    whole = left_aside(folder)
    if not whole:
        return
    try:
        max(whole, key=lambda one: (one / "manifest.json").stat().st_mtime_ns).rename(folder)
        files.sync_folder(folder.parent)
    except OSError as error:
        raise files.unwritable(folder, error) from error
    files.purge(folder)


def _check_place(folder: Path) -> None:
    """ConfigError unless what is written there replaces a snapshot or nothing."""
    if folder.is_dir() and ((folder / "manifest.json").is_file() or not any(folder.iterdir())):
        return
    if folder.exists():
        raise ConfigError(f"{folder} is no snapshot: it would be replaced", hint="name another folder")


async def _written(view: Memory, aside: Path, version: int | None) -> dict[str, Any]:
    """The entry of one tenant, whose file is written into `aside`."""
    kept = await view.versions()
    if version is None and kept:
        version = kept[-1].number  # by its number, so that a version put in force meanwhile does not mix in
    items = await view.items(version)
    entry = await asyncio.to_thread(write_tenant, aside, view.tenant, items)
    return {**entry, "version": version or 0}


def open_snapshot(folder: Path, *, expected_digest: str | None = None) -> Snapshot:
    """The snapshot in `folder`, verified and served from this process's memory.

    CorruptError names the file whose bytes or items are not what the manifest says, or the folder
    when it holds another snapshot than the one expected.
    """
    manifest = read_manifest(folder)
    if expected_digest is not None and manifest.logical_digest != expected_digest:
        raise CorruptError(
            f"{folder} holds snapshot {manifest.logical_digest[:12]}, not {expected_digest[:12]}", hint=_HINT
        )
    items = {tenant: _verified(folder, tenant, entry) for tenant, entry in manifest.tenants.items()}
    if _overall({tenant: entry.logical_digest for tenant, entry in manifest.tenants.items()}) != (
        manifest.logical_digest
    ):
        raise CorruptError(f"{folder / 'manifest.json'} was changed: its digests do not fit", hint=_HINT)
    store = SQLiteStore(None, name=manifest.memory)
    for tenant, rows in items.items():
        store.tenant(tenant).load(rows, version=manifest.tenants[tenant].version)
    return Snapshot(manifest=manifest, store=store)


def read_manifest(folder: Path) -> SnapshotManifest:
    """The manifest, read strictly; nothing else of the snapshot is looked at."""
    import orjson

    path = folder / "manifest.json"
    if not path.exists():
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
        """The logical digest: what this snapshot is."""
        return self.manifest.logical_digest

    @property
    def name(self) -> str:
        """The memory's name."""
        return self.manifest.memory

    def tenant(self, tenant: str) -> PinnedMemory:
        """One tenant's view."""
        return PinnedMemory(inner=self.store.tenant(tenant), name=self.name)

    def tenants(self) -> list[str]:
        """Tenants of the snapshot, sorted."""
        return sorted(self.manifest.tenants)

    async def aclose(self) -> None:
        """Give the memory back; closing twice is fine."""
        await self.store.aclose()

    def close(self) -> None:
        """`aclose`, from sync code."""
        self.store.close()


def _manifest(entries: Mapping[str, JSON], *, memory: str, spec_digest: str) -> SnapshotManifest:
    spaces = {(e["embedding"], e["dimensions"]) for e in entries.values() if e["rows"]}
    if len(spaces) > 1:
        raise ConfigError(
            f"tenants of {memory!r} are embedded differently: {sorted(spaces)}",
            hint="add their pages again with one embedding",
        )
    embedding, dimensions = next(iter(spaces), (None, None))
    return SnapshotManifest(
        format=FORMAT,
        memory=memory,
        spec_digest=spec_digest,
        embedding=embedding,
        dimensions=dimensions,
        tenants={tenant: TenantEntry(**entry) for tenant, entry in entries.items()},
        logical_digest=_overall({tenant: e["logical_digest"] for tenant, e in entries.items()}),
    )


def _overall(digests: Mapping[str, str]) -> str:
    return files.digest(dict(digests))


def _put_in_place(aside: Path, folder: Path, manifest: SnapshotManifest) -> None:
    """Swap folders: a crash between the two renames leaves both aside, for `put_back`, never a mixed one.

    What stands aside is whole between the two only, by having its manifest: who deletes the folder later
    does not get an older one back.
    """
    named = aside / "manifest"
    files.write_atomic(named, files.pretty(manifest))
    before = files.aside_of(folder)
    if folder.exists():
        folder.rename(before)
    named.rename(aside / "manifest.json")
    aside.rename(folder)
    (before / "manifest.json").unlink(missing_ok=True)
    files.sync_folder(folder.parent)
    shutil.rmtree(before, ignore_errors=True)


def _verified(folder: Path, tenant: str, entry: TenantEntry) -> list[Item]:
    import polars as pl

    path = folder / f"{tenant}.parquet"
    try:
        data = files.read_bytes(path)
    except OSError as error:
        raise CorruptError(f"cannot read {path}: {error.strerror}", hint=_HINT) from error
    if files.digest(data) != entry.sha256:
        raise CorruptError(f"{path} is not as it was written (SHA-256 differs)", hint=_HINT)
    try:
        items = read_tenant(data)
    except (pl.exceptions.PolarsError, TypeError, KeyError) as error:
        raise CorruptError(f"{path} is no table of items", hint=_HINT) from error
    if len(items) != entry.rows or logical_digest(tenant, items) != entry.logical_digest:
        raise CorruptError(f"{path} holds other items than its manifest says", hint=_HINT)
    return items
