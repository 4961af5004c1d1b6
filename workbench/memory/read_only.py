"""Read a snapshot through the memory port, and refuse to change it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from workbench.errors import ConfigError
from workbench.memory import checks
from workbench.ports import (
    Added,
    Budget,
    Forgotten,
    Memory,
    MemoryStats,
    MemoryVerbs,
    Purged,
    Remembered,
    Selector,
)
from workbench.types import KNOWLEDGE, Item


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedMemory(MemoryVerbs):
    """One tenant's view of a snapshot of the memory `name`, in the store that `inner` reads.

    A verb that would change the snapshot raises ConfigError; every other verb reads `inner`.
    """

    inner: Memory
    name: str

    @property
    def tenant(self) -> str:
        """The tenant that the items belong to."""
        return self.inner.tenant

    async def add(self, items: Iterable[Item], *, now: str = "") -> Added:
        """Report `items` as unchanged; ConfigError when the snapshot does not hold exactly these."""
        batch = checks.checked_items(items, knowledge=True)
        given, sources = {item.id for item in batch}, {item.source for item in batch}
        kept = {item.id: item.source for item in await self._documents()}
        missing = {item.source for item in batch if item.id not in kept}
        missing |= {source for key, source in kept.items() if source in sources and key not in given}
        if missing:
            raise self._lacks(len(missing), f"{len(sources)} pages")
        return Added(added=0, unchanged=len(batch), replaced=0, version=await self._version())

    async def stage(self, items: Iterable[Item]) -> int:
        """Return 0 when the snapshot holds all `items`; ConfigError otherwise."""
        batch = checks.checked_items(items, knowledge=True)
        if missing := await self.inner.missing([item.id for item in batch]):
            raise self._lacks(len(missing), f"{len(batch)} items")
        return 0

    async def publish(self, ids: Sequence[str], *, now: str = "") -> Added:
        """Report exactly the active ids as unchanged; ConfigError for any others."""
        kept, wanted = {item.id for item in await self._documents()}, set(ids)
        if different := len(wanted ^ kept):
            raise self._lacks(different, f"{len(wanted | kept)} items")
        return Added(added=0, unchanged=len(wanted), replaced=0, version=await self._version())

    async def remember(
        self, items: Iterable[Item], *, budget: Budget, now: str, while_there: Sequence[str] = ()
    ) -> Remembered:
        """Raise ConfigError: a snapshot takes no episodic items."""
        raise self._read_only("remember into a live memory, outside a stage")

    async def forget(self, what: Selector, *, now: str = "", dry_run: bool = False) -> Forgotten:
        """Return the items that `dry_run` would remove; without it, ConfigError if there are any."""
        would = await self.inner.forget(what, now=now, dry_run=True)
        if would.items and not dry_run:
            raise self._read_only("remove the page from its source, then: dvc repro")
        return would

    async def hold(self, what: Selector) -> int:
        """Raise ConfigError: only a live memory has legal holds."""
        checks.check_selector(what, now="", hold=True)
        raise self._read_only("to hold items of the live memory: workbench memory hold")

    async def release(self, what: Selector) -> int:
        """Return 0: a snapshot has no legal holds."""
        checks.check_selector(what, now="", hold=True)
        return 0

    async def purge(self, *, now: str, keep_versions: int) -> Purged:
        """Remove nothing: searches skip expired items, and a snapshot has one version."""
        checks.check_selector(Selector(expired=True), now=now)
        return Purged(expired=0, outdated=0)

    async def stats(self, *, now: str) -> MemoryStats:
        """Count the items of the snapshot."""
        return replace(await self.inner.stats(now=now), store="snapshot")

    async def _invoke(self, verb: str, arguments: dict[str, Any]) -> Any:
        """Pass a reading verb on to the store."""
        return await getattr(self.inner, verb)(**arguments)

    async def _documents(self) -> list[Item]:
        return [item for item in await self.inner.items() if item.kind == KNOWLEDGE]

    async def _version(self) -> int:
        kept = await self.inner.versions()
        return kept[-1].number if kept else 0

    def _lacks(self, some: int, of: str) -> ConfigError:
        return ConfigError(
            f"the pinned snapshot of {self.name!r} lacks {some} of {of} of {self.tenant!r}, "
            "or holds them in another version",
            hint="dvc repro",
        )

    def _read_only(self, hint: str) -> ConfigError:
        return ConfigError(f"the pinned snapshot of {self.name!r} is read-only", hint=hint)
