"""A snapshot as a memory that can be read and not written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from workbench.errors import ConfigError
from workbench.memory import rules
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

    A verb that would change the snapshot raises ConfigError; the other ones read `inner`.
    """

    inner: Memory
    name: str

    @property
    def tenant(self) -> str:
        """Whose items these are."""
        return self.inner.tenant

    async def add(self, items: Iterable[Item], *, now: str = "") -> Added:  # noqa: ARG002 - the port's
        """Nothing to do when all is there already; ConfigError when anything would change."""
        batch = rules.checked_items(items, knowledge=True)
        given, sources = {item.id for item in batch}, {item.source for item in batch}
        there = {item.id: item.source for item in await self._documents()}
        missing = {item.source for item in batch if item.id not in there}
        missing |= {source for one, source in there.items() if source in sources and one not in given}
        if missing:
            raise self._lacks(len(missing), f"{len(sources)} pages")
        return Added(added=0, unchanged=len(batch), replaced=0, version=await self._version())

    async def stage(self, items: Iterable[Item]) -> int:
        """0 when all is there already; ConfigError otherwise."""
        batch = rules.checked_items(items, knowledge=True)
        if missing := await self.inner.missing([item.id for item in batch]):
            raise self._lacks(len(missing), f"{len(batch)} items")
        return 0

    async def publish(self, ids: Sequence[str], *, now: str = "") -> Added:  # noqa: ARG002 - the port's
        """Nothing to do for the ids that are in force; ConfigError for any others."""
        there, wanted = {item.id for item in await self._documents()}, set(ids)
        if different := len(wanted ^ there):
            raise self._lacks(different, f"{len(wanted | there)} items")
        return Added(added=0, unchanged=len(wanted), replaced=0, version=await self._version())

    async def remember(
        self,
        items: Iterable[Item],  # noqa: ARG002
        *,
        budget: Budget,  # noqa: ARG002
        now: str,  # noqa: ARG002
        while_there: Sequence[str] = (),  # noqa: ARG002
    ) -> Remembered:
        """ConfigError: nothing is written by use into a result."""
        raise self._read_only("search a live memory: what is remembered is kept there")

    async def forget(self, what: Selector, *, now: str = "", dry_run: bool = False) -> Forgotten:
        """What would go; ConfigError when anything would: a snapshot is made again from its input."""
        would = await self.inner.forget(what, now=now, dry_run=True)
        if would.items and not dry_run:
            raise self._read_only("remove the page from its source, then: dvc repro")
        return would

    async def hold(self, what: Selector) -> int:
        """ConfigError: a hold is on the live memory."""
        rules.check_selector(what, now="", hold=True)
        raise self._read_only("workbench memory hold, which holds what is in the live memory")

    async def release(self, what: Selector) -> int:
        """0: nothing is held."""
        rules.check_selector(what, now="", hold=True)
        return 0

    async def purge(self, *, now: str, keep_versions: int) -> Purged:  # noqa: ARG002 - the port's
        """Nothing is removed: what has expired is not found, and there is one version."""
        rules.check_selector(Selector(expired=True), now=now)
        return Purged(expired=0, outdated=0)

    async def stats(self, *, now: str) -> MemoryStats:
        """What there is, counted."""
        return replace(await self.inner.stats(now=now), store="snapshot")

    async def _invoke(self, verb: str, arguments: dict[str, Any]) -> Any:
        """Pass a verb that only reads on to the store."""
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
