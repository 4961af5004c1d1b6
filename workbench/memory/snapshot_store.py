"""Write a workspace's snapshots, and read them without tombstoned items."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

from workbench import files
from workbench.errors import ConfigError, NotFoundError, nearest
from workbench.files import folders
from workbench.memory.cipher import IdCipher
from workbench.memory.locks import Locks
from workbench.memory.snapshot import Snapshot, open_snapshot, read_manifest, write_snapshot
from workbench.memory.tombstones import TombstoneLog
from workbench.ports import Memory, Selector
from workbench.types import Item


def apply_tombstones(
    snapshot: Snapshot, ledger: TombstoneLog, names: IdCipher
) -> Mapping[str, frozenset[str]]:
    """Remove tombstoned and derived items from an opened snapshot; return their ids by tenant.

    The files of the snapshot stay as they are.
    """
    gone = {}
    for tenant in snapshot.tenants():
        view = snapshot.store.tenant(tenant)
        gone[tenant] = ledger.forgotten(tenant, view.all_items(), memory=snapshot.name, names=names)
        if gone[tenant]:
            view.forget_now(Selector(ids=tuple(gone[tenant])))
    return gone


class SnapshotStore:
    """Writes snapshots below `folder` or elsewhere, and opens them without the items that `ledger` names.

    `names` returns the cipher whose key the tombstones use.
    """

    def __init__(self, folder: Path, ledger: TombstoneLog, names: Callable[[], IdCipher]) -> None:
        self.folder = folder
        self._ledger = ledger
        self._names = names
        self._locks = Locks(folder.parent / "locks" / "snapshots", of="this snapshot")

    async def write(
        self, views: Sequence[Memory], folder: Path | None, *, spec: str, digest: str, version: int | None
    ) -> tuple[Path, str, dict[str, int]]:
        """Write the tenants of `views`, of a memory's `spec` (`name@version`) with that digest.

        Return the folder, the logical digest and the number of items of each tenant. Without a folder the
        snapshot goes into the memory's own folder, which keeps the other tenants' items.
        """
        if folder is None and version is not None:
            raise ConfigError(
                f"the own folder of {spec} is for its active version, not for version {version}",
                hint="name another folder for an earlier version",
            )
        place = folder or self.folder / spec
        memory = spec.partition("@")[0]
        write = functools.partial(
            write_snapshot, folder=place, memory=memory, spec_digest=digest, version=version
        )
        async with self._alone(place):
            kept = await self._kept(place, memory, digest) if folder is None else None
            try:
                given = {view.tenant for view in views}
                others: list[Memory] = []
                if kept is not None:
                    others = [kept.tenant(tenant) for tenant in kept.tenants() if tenant not in given]
                manifest = await write([*views, *others])
                await asyncio.to_thread(folders.purge, place)  # leave no copy aside
            finally:
                if kept is not None:
                    await kept.aclose()
        rows = {tenant: entry.rows for tenant, entry in manifest.tenants.items()}
        return place, manifest.logical_digest, rows

    async def read(self, folder: Path, *, memory: str, tenant: str) -> list[Item]:
        """Read a tenant's items from a snapshot of a memory, verified, without tombstoned items."""
        async with self._alone(folder):
            snapshot = await self._open(folder)
        try:
            tenants = snapshot.tenants()
            if snapshot.manifest.memory != memory or tenant not in tenants:
                raise NotFoundError(
                    f"{folder} is a snapshot of {snapshot.manifest.memory!r} and holds nothing "
                    f"of {tenant!r} in {memory!r} ({nearest(tenant, tenants)})",
                    hint="name the folder of another snapshot, or another tenant",
                )
            return await snapshot.tenant(tenant).items()
        finally:
            await snapshot.aclose()

    async def put_back(self, place: Path) -> None:
        """Repair a replacement that a kill interrupted; wait for an active writer."""
        if await asyncio.to_thread(_is_interrupted, place):
            async with self._alone(place):
                pass

    async def admitted(self, items: Sequence[Item], *, memory: str, tenant: str) -> list[Item]:
        """Return those of a tenant's `items` that have no tombstone, in their order."""
        names = self._names()
        gone = await asyncio.to_thread(self._ledger.forgotten, tenant, items, memory=memory, names=names)
        return [item for item in items if item.id not in gone]

    @contextlib.asynccontextmanager
    async def _alone(self, place: Path) -> AsyncIterator[None]:
        """Lock the snapshot in `place`, and repair an interrupted replacement."""
        async with self._locks.writing(_name_of(place)):
            with files.writing(place):
                await asyncio.to_thread(folders.repair, place)
            yield

    async def _open(self, folder: Path) -> Snapshot:
        snapshot = await asyncio.to_thread(open_snapshot, folder)
        try:
            await asyncio.to_thread(apply_tombstones, snapshot, self._ledger, self._names())
        except BaseException:
            await snapshot.aclose()
            raise
        return snapshot

    async def _kept(self, place: Path, memory: str, digest: str) -> Snapshot | None:
        """Open the snapshot in `place`, if it is of the same spec."""
        if not (place / "manifest.json").is_file():
            return None
        manifest = read_manifest(place)
        same = manifest.memory == memory and manifest.spec_digest == digest
        return await self._open(place) if same else None


def _is_interrupted(place: Path) -> bool:
    with files.writing(place):
        return place in folders.interrupted(place.parent)


def _name_of(place: Path) -> str:
    """Return a lock name that is the same for every path to one folder."""
    return files.digest(os.path.realpath(place).encode())[:32]
