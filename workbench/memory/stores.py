"""Select and open the store of a call: a live store, a pinned snapshot or the last snapshot."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import threading
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.context import instant
from workbench.errors import ConfigError, NotFoundError
from workbench.layout import MEMORY_KEY, SNAPSHOTS, TOMBSTONES
from workbench.memory.cipher import IdCipher, load_cipher
from workbench.memory.copies import MemoryCopies
from workbench.memory.locks import Locks
from workbench.memory.read_only import PinnedMemory
from workbench.memory.snapshot import Snapshot, open_snapshot, read_manifest
from workbench.memory.snapshot_store import SnapshotStore, apply_tombstones
from workbench.memory.tombstones import TombstoneLog, Tombstones
from workbench.ports import Call, Forgotten, Memory, MemoryStore, Selector
from workbench.types import KNOWLEDGE, Item

if TYPE_CHECKING:
    from workbench.config import MemoryServer

#: Verbs that can write a forgotten item again.
_WRITES = frozenset({"add", "stage", "remember"})
#: By an opened snapshot's store: the tombstones applied to it, and the removed ids by tenant.
_Gone = weakref.WeakKeyDictionary[Any, tuple[Tombstones, Mapping[str, frozenset[str]]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreLocation:
    """The places of a workspace's memories.

    `state` is the repository's folder of state, `live` a folder of temporary embedded memories, `server` a
    Weaviate server of live memories. `pinned` is the folder of a snapshot that replaces the live memory of
    its name in searches, on the server too. With `today` a pinned snapshot is searched without the items
    forgotten since; a reproduction searches all of them. `last` are more folders of snapshots for a
    fallback while the server is unavailable, after the pinned snapshot and the memory's own in `state`.
    With `copies`, what changes a live memory changes a copy of it in this folder.
    """

    state: Path
    live: Path | None = None
    server: MemoryServer | None = None
    pinned: Path | None = None
    today: bool = False
    last: tuple[Path, ...] = ()
    copies: Path | None = None


class Stores:
    """The stores of one boundary, each opened on first use."""

    def __init__(self, where: StoreLocation) -> None:
        self.where = where
        self.ledger = TombstoneLog(where.state / TOMBSTONES)
        self._turns = Locks(where.state / "locks" / "restoring")
        self._live: dict[tuple[str, int], MemoryStore] = {}
        self._pinned: Snapshot | None = None
        self._last: dict[Path, Snapshot] = {}
        self._put: MemoryStore | None = None
        self._kept: dict[str, frozenset[str]] = {}
        self._names: IdCipher | None = None
        self._gone: _Gone = weakref.WeakKeyDictionary()
        self._lock = threading.RLock()
        self._putting = asyncio.Lock()
        self._copies = MemoryCopies(where.copies, self._forgotten_of) if where.copies else None

    @property
    def is_temporary(self) -> bool:
        """Whether what is written here ends with the process: a memory of its own, or copies."""
        return self.where.live is not None or self.where.copies is not None

    def snapshot_store(self) -> SnapshotStore:
        """Return the store of snapshots, which reads them without forgotten items."""
        return SnapshotStore(self.where.state / SNAPSHOTS, self.ledger, self.names)

    def names(self) -> IdCipher:
        """Return the cipher for tenants, ids and subjects in live stores; its key is created on first use."""
        with self._lock:
            if self._names is None:
                self._names = IdCipher() if self.where.live else load_cipher(self.where.state / MEMORY_KEY)
            return self._names

    def pinned(self) -> Snapshot | None:
        """Return the pinned snapshot, verified on first use, or None."""
        if self.where.pinned is None:
            return None
        with self._lock:
            if self._pinned is None:
                self._pinned = open_snapshot(self.where.pinned)
            return self._pinned

    async def view(self, call: Call) -> Memory:
        """Return the view that answers a call: of the last snapshot for a degraded call, else of its store.

        A call's identity names the spec's `version`, `spec` digest and `index` settings.
        """
        if call.identity.get("degraded"):
            last = await self.last(call)
            if last is None:
                raise NotFoundError(
                    f"there is no snapshot of {call.target!r} for {call.context.tenant!r} to fall back to"
                )
            return last.tenant(call.context.tenant)
        pinned = await asyncio.to_thread(self._pinned_for, call) if self.where.pinned else None
        if pinned is None:
            store = self._live.get((call.target, int(call.identity["version"])))
            if store is None:  # in a thread, because opening a file waits for its lock
                store = await asyncio.to_thread(self.live, call)
            live = store.tenant(call.context.tenant)
            return live if self._copies is None else await self._copies.view(call, live)
        if self.where.server is None:
            return pinned.tenant(call.context.tenant)
        return await self._on_server(pinned, call)

    def live(self, call: Call) -> MemoryStore:
        """Return the live store of one version of a memory's spec."""
        name, version = call.target, int(call.identity["version"])
        with self._lock:
            if (name, version) not in self._live:
                self._live[name, version] = self._open(name, version, call)
            return self._live[name, version]

    async def last(self, call: Call) -> Snapshot | None:
        """Return the last snapshot with the call's tenant, without the items forgotten since; or None."""
        own = self.where.state / SNAPSHOTS / f"{call.target}@{int(call.identity['version'])}"
        await self.snapshot_store().put_back(own)
        # A pinned snapshot comes first: a version of a job has one memory, on a server or not.
        folders = (*filter(None, [self.where.pinned]), own, *self.where.last)
        return await asyncio.to_thread(self._last_of, folders, call)

    def _last_of(self, folders: Sequence[Path], call: Call) -> Snapshot | None:
        """Return the snapshot in the first fitting folder; a replaced one closes after its last reader."""
        found = next(filter(None, (_fitting(folder, call) for folder in folders)), None)
        if found is None:
            return None
        folder, digest = found
        with self._lock:
            before = self._last.get(folder)
            if before is None or before.digest != digest:
                self._last[folder] = open_snapshot(folder, expected_digest=digest)
                if before is not None:
                    weakref.finalize(before.store, before.store.database.close)
            self._forgotten_in(self._last[folder])
            return self._last[folder]

    async def answer(self, call: Call) -> Any:
        """Answer a call. Tombstones keep forgotten items out of every snapshot.

        A write with `restored` (the items that a restore read) skips those forgotten since. What changes a
        copy leaves no tombstone.
        """
        view, verb = await self.view(call), call.operation
        payload = {name: value for name, value in call.payload.items() if name != "restored"}
        changes = verb in {"forget", "missing", *_WRITES} and not payload.get("dry_run")
        if not changes or self.is_temporary or isinstance(view, PinnedMemory):
            return await getattr(view, verb)(**payload)
        if verb == "forget":
            return await self._forget(view, call)
        if verb == "missing":
            return await self._missing(view, call)
        write = functools.partial(getattr(view, verb), **payload)
        items = list(payload["items"])
        if "restored" in call.payload:
            return await self._put_back(write, items, call)
        before = await asyncio.to_thread(self.ledger.marks, self.names())
        done = await write(items=items)
        await asyncio.to_thread(self.ledger.admit, view.tenant, items, since=before, **self._line(call))
        return done

    async def aclose(self) -> None:
        """Close all files and connections, even when one fails; the next use opens them again."""
        with self._lock:
            stores: list[Any] = [*self._live.values(), *self._last.values()]
            stores += [store for store in (self._pinned, self._put) if store is not None]
            self._live, self._last, self._pinned, self._put = {}, {}, None, None
            self._kept = {}
        async with contextlib.AsyncExitStack() as closing:
            for store in stores:
                closing.push_async_callback(store.aclose)
            if self._copies is not None:
                closing.push_async_callback(self._copies.aclose)

    async def _missing(self, view: Memory, call: Call) -> list[str]:
        """Return the missing ids, and the stored ids whose tombstone was not lifted.

        A writer may be killed between writing an item and lifting its tombstone. Its next run finds the
        item missing and writes it again, which lifts the tombstone and changes nothing else.
        """
        ids: Sequence[str] = call.payload["ids"]
        missing = set(await view.missing(ids))
        names = self.names()
        owed = await asyncio.to_thread(self.ledger.named, view.tenant, ids, memory=call.target, names=names)
        return [key for key in ids if key in missing or key in owed]

    async def _forget(self, view: Memory, call: Call) -> Forgotten:
        """Forget items, with tombstones before and after; items under legal hold lose theirs again."""
        what: Selector = call.payload["what"]
        note = functools.partial(self.ledger.forget, view.tenant, **self._line(call))
        async with self._turn(call):
            await asyncio.to_thread(note, ids=what.ids or (), subject=what.subject, source=what.source)
        before = await asyncio.to_thread(self.ledger.marks, self.names())
        done = await view.forget(**call.payload)
        await asyncio.to_thread(note, ids=done.ids)
        await asyncio.to_thread(self.ledger.keep, view.tenant, done.kept, since=before, **self._line(call))
        return done

    async def _put_back(self, write: Callable[..., Awaitable[Any]], items: list[Item], call: Call) -> Any:
        """Write the items of a restore, except forgotten ones.

        A `forget` writes its tombstones under the same lock, and deletes afterwards. So either the restore
        sees the tombstones, or the delete sees the restored rows. A crash leaves neither half done.
        """
        read = {item.id: item for item in (*call.payload["restored"], *items)}
        names = self.names()
        async with self._turn(call):
            gone = await asyncio.to_thread(
                self.ledger.forgotten, call.context.tenant, read.values(), memory=call.target, names=names
            )
            return await write(items=[item for item in items if item.id not in gone])

    async def _forgotten_of(self, call: Call, items: Sequence[Item]) -> frozenset[str]:
        """Return the ids of those of a memory's items that were forgotten and not added again."""
        tenant, names = call.context.tenant, self.names()
        return await asyncio.to_thread(self.ledger.forgotten, tenant, items, memory=call.target, names=names)

    def _turn(self, call: Call) -> AbstractAsyncContextManager[None]:
        """Lock a tenant's memory against other restores and tombstones."""
        return self._turns.writing(self.names().uuid(call.context.tenant, "restoring", call.target).hex)

    def _line(self, call: Call) -> dict[str, Any]:
        """Return the fields of each ledger line that a call writes."""
        return {"memory": call.target, "names": self.names(), "at": instant(call.context.clock.now())}

    def _pinned_for(self, call: Call) -> Snapshot | None:
        pinned = self.pinned()
        if pinned is None or pinned.manifest.memory != call.target:
            return None
        if self.where.today:
            self._forgotten_in(pinned)
        return pinned

    def _forgotten_in(self, snapshot: Snapshot) -> Mapping[str, frozenset[str]]:
        """Remove forgotten items, again when the ledger changes; return their ids by tenant."""
        names = self.names()
        with self._lock:
            marks = self.ledger.marks(names)
            known, gone = self._gone.get(snapshot.store) or (None, {})
            if known is not marks:
                gone = apply_tombstones(snapshot, self.ledger, names)
                self._gone[snapshot.store] = (marks, gone)
            return gone

    def _open(self, name: str, version: int, call: Call) -> MemoryStore:
        if self.where.server is None:
            from workbench.memory.sqlite.store import SQLiteStore

            folder = self.where.live or self.where.state / "memories"
            return SQLiteStore(folder / name / f"{version}.sqlite", name=name, cipher=self.names)
        return self.on_server(name, str(version), call.identity.get("index") or {})

    def on_server(
        self, name: str, part: str, index: Mapping[str, Any], *, api_key_env: str | None = None
    ) -> MemoryStore:
        """Open a memory's store on the server, with the server's key or the one in `api_key_env`."""
        from workbench.memory.weaviate.factory import open_store

        server = self.where.server
        if server is None:
            raise ConfigError(
                f"the memory {name!r} is embedded: this command is for a server",
                hint="set memory_provider: weaviate for its use case in params.yaml",
            )
        return open_store(
            dataclasses.replace(server, api_key_env=api_key_env or server.api_key_env),
            name=name,
            part=part,
            names=self.names(),
            index=index,
            locks=self.where.state / "locks",
        )

    async def _on_server(self, pinned: Snapshot, call: Call) -> Memory:
        """Return the pinned snapshot as a memory on the server, which is written on first use."""
        async with self._putting:
            if self._put is None:
                part = f"{'today' if self.where.today else 'pinned'}-{pinned.digest[:16]}"
                self._put = await asyncio.to_thread(
                    self.on_server, call.target, part, call.identity.get("index") or {}
                )
            view = self._put.tenant(call.context.tenant)
            if view.tenant in pinned.tenants():
                await self._keep_up(view, pinned)
        return PinnedMemory(inner=view, name=call.target)

    async def _keep_up(self, view: Memory, pinned: Snapshot) -> None:
        """Make the server's items those of the snapshot, once for each tenant and set of forgotten ids."""
        gone: frozenset[str] = frozenset()
        if self.where.today:
            gone = (await asyncio.to_thread(self._forgotten_in, pinned))[view.tenant]
        if self._kept.get(view.tenant) == gone:
            return
        if gone:
            await view.forget(Selector(ids=tuple(sorted(gone))))
        documents = [item for item in await pinned.tenant(view.tenant).items() if item.kind == KNOWLEDGE]
        if await view.count() != len(documents):
            ids = [item.id for item in documents]
            missing = set(await view.missing(ids))
            await view.stage([item for item in documents if item.id in missing])
            await view.publish(ids)
        self._kept[view.tenant] = gone


def _fitting(folder: Path, call: Call) -> tuple[Path, str] | None:
    """Return the folder and its digest, if its snapshot has the call's memory, tenant and spec; or None."""
    if not (folder / "manifest.json").is_file():
        return None
    manifest = read_manifest(folder)
    fits = manifest.memory == call.target and manifest.spec_digest == call.identity.get("spec")
    fits = fits and call.context.tenant in manifest.tenants
    return (folder, manifest.logical_digest) if fits else None
