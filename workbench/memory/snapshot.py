"""A memory's snapshot: one Parquet file a tenant and a manifest; verified whenever it is opened.

Its identity is the logical digest: the same items have the same one, whatever store they come from
and whatever wrote the files. Nothing in a snapshot depends on a clock.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from workbench import files
from workbench.errors import ConfigError, CorruptError, NotFoundError
from workbench.memory import rules
from workbench.memory.rows import logical_digest, read_tenant
from workbench.memory.sqlite import SQLiteMemory, SQLiteStore
from workbench.ports import Added, Memory, Query
from workbench.types import JSON, Hit, Item

FORMAT = 1
_HINT = "dvc repro remember, or dvc checkout for the version that was committed"


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantEntry:
    """One tenant's file: SHA-256 of its bytes, and of its items whatever the file format."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    file: str
    sha256: str
    rows: int
    logical_digest: str
    embedding: str | None
    dimensions: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """`manifest.json`. `logical_digest` is SHA-256 of the tenants' names and logical digests."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    format: int
    memory: str
    spec_digest: str
    embedding: str | None
    dimensions: int | None
    tenants: dict[str, TenantEntry]
    logical_digest: str


def write_snapshot(views: Iterable[Memory], folder: Path, *, memory: str, spec_digest: str) -> Manifest:
    """Write the tenants behind `views` into `folder`, replacing it as a whole; its manifest."""
    aside = files.aside_of(folder)
    try:
        aside.mkdir(parents=True)
        entries = {view.tenant: view.snapshot(aside) for view in views}
        manifest = _manifest(entries, memory=memory, spec_digest=spec_digest)
        files.write_atomic(aside / "manifest.json", files.pretty(manifest))
        _put_in_place(aside, folder)
    except OSError as error:
        raise files.unwritable(folder, error) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return manifest


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
        store.tenant(tenant).add(rows)
    return Snapshot(manifest=manifest, store=store)


def read_manifest(folder: Path) -> Manifest:
    """The manifest, read strictly; nothing else of the snapshot is looked at."""
    import orjson

    path = folder / "manifest.json"
    if not path.is_file():
        raise NotFoundError(f"there is no memory snapshot in {folder}", hint=_HINT)
    try:
        raw = orjson.loads(path.read_bytes())
        if isinstance(raw, dict) and raw.get("format") != FORMAT:
            raise ConfigError(
                f"{path} has format {raw.get('format')!r}, this workbench reads format {FORMAT}", hint=_HINT
            )
        return files.parse(Manifest, raw, where=str(path))
    except orjson.JSONDecodeError as error:
        raise CorruptError(f"{path} is not JSON (line {error.lineno})", hint=_HINT) from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", hint=_HINT) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """An opened snapshot: read-only views of its tenants."""

    manifest: Manifest
    store: SQLiteStore

    @property
    def digest(self) -> str:
        """The logical digest: what this snapshot is."""
        return self.manifest.logical_digest

    def tenant(self, tenant: str) -> PinnedMemory:
        """One tenant's view."""
        return PinnedMemory(inner=self.store.tenant(tenant))

    def tenants(self) -> list[str]:
        """Tenants of the snapshot, sorted."""
        return sorted(self.manifest.tenants)

    def close(self) -> None:
        """Give the memory back."""
        self.store.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedMemory:
    """One tenant's view of a snapshot; implements `ports.Memory`, and refuses what would change it."""

    inner: SQLiteMemory

    @property
    def tenant(self) -> str:
        """Whose items these are."""
        return self.inner.tenant

    def add(self, items: Iterable[Item]) -> Added:
        """Nothing to do when all is there already; ConfigError when anything would change."""
        batch = rules.checked_items(items)
        given, sources = {item.id for item in batch}, {item.source for item in batch}
        there = {item.id: item.source for item in self.inner.items()}
        lacking = {item.source for item in batch if item.id not in there}
        lacking |= {source for one, source in there.items() if source in sources and one not in given}
        if lacking:
            raise ConfigError(
                f"the pinned snapshot of {self.inner.store.name!r} lacks {len(lacking)} of "
                f"{len(sources)} pages of {self.tenant!r}, or holds them in another version",
                hint="dvc repro",
            )
        return Added(added=0, unchanged=len(batch), replaced=0)

    def search(self, query: Query) -> list[Hit]:
        """At most `k` hits the groups may see and that are valid, best first."""
        return self.inner.search(query)

    def count(self, ids: Sequence[str] | None = None) -> int:
        """Items of this tenant, or how many of `ids` there are."""
        return self.inner.count(ids)

    def forget(self, ids: Sequence[str]) -> int:
        """ConfigError when any of `ids` is there: a snapshot is a result, made again from its input."""
        if self.inner.count(ids):
            raise ConfigError(
                f"the pinned snapshot of {self.inner.store.name!r} is read-only",
                hint="remove the page from its source, then: dvc repro",
            )
        return 0

    def snapshot(self, folder: Path) -> JSON:
        """Write this tenant's items as Parquet; the manifest's entry with the logical digest."""
        return self.inner.snapshot(folder)


def _manifest(entries: Mapping[str, JSON], *, memory: str, spec_digest: str) -> Manifest:
    spaces = {(e["embedding"], e["dimensions"]) for e in entries.values() if e["rows"]}
    if len(spaces) > 1:
        raise ConfigError(
            f"tenants of {memory!r} are embedded differently: {sorted(spaces)}",
            hint="add their pages again with one embedding",
        )
    embedding, dimensions = next(iter(spaces), (None, None))
    return Manifest(
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


def _put_in_place(aside: Path, folder: Path) -> None:
    """Swap folders: a crash between the two renames leaves no snapshot, never a mixed one."""
    before = files.aside_of(folder)
    if folder.exists():
        folder.rename(before)
    aside.rename(folder)
    files.sync_folder(folder.parent)
    shutil.rmtree(before, ignore_errors=True)


def _verified(folder: Path, tenant: str, entry: TenantEntry) -> list[Item]:
    import polars as pl

    path = folder / f"{tenant}.parquet"
    try:
        data = path.read_bytes()
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
