"""Copies of memories for a run whose writes are not to last: a shadow, a judged run, a sample."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.context import instant
from workbench.ports import Budget, Call, Memory
from workbench.types import KNOWLEDGE

if TYPE_CHECKING:
    from workbench.memory.sqlite.store import SQLiteStore

#: Verbs that change a memory.
_CHANGES = frozenset({"add", "stage", "publish", "remember", "forget", "hold", "release", "purge"})
#: The use case and the name and version of a memory.
_Name = tuple[str, str, str]


class MemoryCopies:
    """The copies in a folder, an embedded store each, wherever the memory itself is.

    A tenant's items are copied when the run first changes them; from then on the run reads its copy. A copy
    has the active items, not earlier versions and legal holds.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
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
        self._copied.add((name, live.tenant))
