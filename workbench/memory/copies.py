"""Copies of memories for a run whose writes are not to last: a shadow, a judged run, a sample.

What a memory forgets is forgotten in the copies of living and of killed runs too.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from workbench.context import instant
from workbench.errors import ConfigError
from workbench.layout import COPIES
from workbench.ports import Budget, Call, Memory, Selector
from workbench.types import KNOWLEDGE, Item

if TYPE_CHECKING:
    from workbench.memory.sqlite.store import SQLiteStore

#: Where runs have their folders, below the cache.
_RUNS: Final = ("jobs/*", "judging/*", "promoting/*", "promoting/*/judged", "reproducing/*")
#: Return the ids of those of a call's items that were forgotten and not added again.
_Forgotten = Callable[[Call, Sequence[Item]], Awaitable[Collection[str]]]
#: Verbs that change a memory.
_CHANGES = frozenset({"add", "stage", "publish", "remember", "forget", "hold", "release", "purge"})
#: The use case and the name and version of a memory.
_Name = tuple[str, str, str]


class MemoryCopies:
    """The copies in a folder, an embedded store each, wherever the memory itself is.

    A tenant's items are copied when the run first changes them; from then on the run reads its copy. A copy
    has the active items, not earlier versions and legal holds. `forgotten` names the items that the memory
    forgot while they were copied.
    """

    def __init__(self, folder: Path, forgotten: _Forgotten) -> None:
        self._folder, self._forgotten = folder, forgotten
        self._stores: dict[_Name, SQLiteStore] = {}
        self._copied: set[tuple[_Name, str]] = set()
        self._lock = asyncio.Lock()

    async def view(self, call: Call, live: Memory) -> Memory:
        """Return what answers a call: `live`, until the run has changed the tenant's items."""
        name = (call.context.use_case, call.target, str(call.identity.get("version", "")))
        if (name, live.tenant) not in self._copied:
            if call.operation not in _CHANGES or call.payload.get("dry_run"):
                return live
            async with self._lock:
                if (name, live.tenant) not in self._copied:
                    await self._copy(name, call, live)
        return self._stores[name].tenant(live.tenant)

    async def aclose(self) -> None:
        """Close every copy. The caller removes the folder."""
        stores, self._stores, self._copied = list(self._stores.values()), {}, set()
        async with contextlib.AsyncExitStack() as closing:
            for store in stores:
                closing.push_async_callback(store.aclose)

    async def _copy(self, name: _Name, call: Call, live: Memory) -> None:
        from workbench.memory.sqlite.store import SQLiteStore

        use_case, memory, version = name
        if name not in self._stores:
            path = self._folder / use_case / memory / f"{version}.sqlite"
            self._stores[name] = await asyncio.to_thread(SQLiteStore, path, name=memory)
        copy, now = self._stores[name].tenant(live.tenant), instant(call.context.clock.now())
        items = await live.items()
        documents = [item for item in items if item.kind == KNOWLEDGE]
        if documents:
            await copy.add(documents, now=now)
        others = [item for item in items if item.kind != KNOWLEDGE]
        if others:
            await copy.remember(others, budget=Budget(), now=now)
        # A forget writes its tombstones, deletes, and then looks for copies: it sees this one, or this it.
        gone = await self._forgotten(call, items)
        if gone:
            await copy.forget(Selector(ids=tuple(sorted(gone))), now=now)
        self._copied.add((name, live.tenant))


def forget_in_copies(cache: Path, call: Call) -> None:
    """Forget in every copy below a cache what a call forgot in its memory, and erase the bytes.

    A copy that cannot be read is removed. UnavailableError for one that a living run is reading: the same
    call again erases it.
    """
    from workbench.memory.sqlite.store import SQLiteStore

    now = instant(call.context.clock.now())
    for path in _copies_of(cache, call.target, str(call.identity.get("version", ""))):
        try:
            store = SQLiteStore(path, name=call.target)
            try:
                store.tenant(call.context.tenant).forget_now(call.payload["what"], now=now)
            finally:
                store.database.close()
        except ConfigError:  # it is damaged, or of another schema, and may hold the items
            for part in path.parent.glob(f"{path.name}*"):
                part.unlink(missing_ok=True)


def _copies_of(cache: Path, memory: str, version: str) -> Iterator[Path]:
    """Yield the copies of a version of a memory, of every use case and run."""
    for run in _RUNS:
        for use_case in sorted(cache.glob(f"{run}/{COPIES}/*")):
            path = use_case / memory / f"{version}.sqlite"
            if path.is_file():
                yield path
