"""What `ws.memory("handbook")` returns: one memory for one tenant and one principal."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Unpack

from workbench import _sync
from workbench.context import Context, instant
from workbench.ports import Added, Forgotten, Handler, MemoryStats, MemoryVersion, Purged, Selector
from workbench.retrieval import items as writing
from workbench.retrieval import maintenance
from workbench.retrieval import search as finding
from workbench.retrieval.diff import Differences
from workbench.retrieval.hits import Hits
from workbench.retrieval.items import Days, Note, Written
from workbench.retrieval.maintenance import Restored, SnapshotStore, Snapshotted, Source
from workbench.retrieval.port import Governed, MakeCall
from workbench.retrieval.spec import MemorySpec
from workbench.types import Item, ItemKind, Page


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryHandle:
    """One memory, bound to a tenant and a principal when it was made; `ws.bind(…)` makes another.

    `as_of` is the day on which validity is judged when a search names none (without it, today), and
    `version` the version of the knowledge that is searched (without it, the one in force). `pinned`
    is the digest of the pinned snapshot that is searched instead of live memory: with no regard to the
    clock, unless it is searched for `today`, as a job does.
    """

    spec: MemorySpec
    context: Context
    handler: Handler
    make_call: MakeCall
    root: Path
    as_of: str | None = None
    version: int | None = None
    pinned: str | None = None
    today: bool = False
    snapshot_store: SnapshotStore | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The memory's name."""
        return self.spec.name

    @property
    def tenant(self) -> str:
        """Whose items this handle adds and finds."""
        return self.context.tenant

    @property
    def view(self) -> Governed:
        """The memory's port, each verb through the boundary: for tools that take a `ports.Memory`."""
        return Governed(handle=self)

    @property
    def unfiltered(self) -> Governed:
        """The same port for who keeps the memory: `items` and `count` are of all of the tenant."""
        return Governed(handle=self, unfiltered=True)

    @property
    def whole(self) -> Governed:
        """The former name of `unfiltered`."""
        return self.unfiltered

    def now(self) -> str:
        """The context's time, as stores keep it."""
        return instant(self.context.clock.now())

    def at(self, version: int | None) -> MemoryHandle:
        """The same memory as it was in an earlier version; None is the one in force."""
        return dataclasses.replace(self, version=version)

    def command(self, verb: str) -> str:
        """What to type for this memory and tenant, as errors say it."""
        name = f"--use-case {self.context.use_case} --memory {self.spec} --tenant {self.tenant}"
        return f"workbench memory {verb} {name}"

    def items_of(self, page: Page) -> list[Item]:
        """The chunks of `page` as they would be remembered, not embedded yet."""
        return writing.documents(self, [page])

    # -- finding ----------------------------------------------------------------------------

    def search(
        self,
        text: str,
        *,
        k: int = 5,
        as_of: str | None = None,
        version: int | None = None,
        sources: Sequence[str] = (),
        kinds: Sequence[ItemKind] = (),
    ) -> Hits:
        """At most `k` passages that the principal may see and that are valid `as_of` (an ISO day).

        RefusedError when the spec says `stale: refuse` and the source of one has changed since;
        in an earlier version such passages are only marked.
        """
        return _sync.run(self._search(text, k, as_of, version, (tuple(sources), tuple(kinds))))

    async def search_async(
        self,
        text: str,
        *,
        k: int = 5,
        as_of: str | None = None,
        version: int | None = None,
        sources: Sequence[str] = (),
        kinds: Sequence[ItemKind] = (),
    ) -> Hits:
        """The async twin of `search`."""
        return await _sync.run_async(self._search(text, k, as_of, version, (tuple(sources), tuple(kinds))))

    def count(self) -> int:
        """Items of this tenant in force that the principal may see."""
        return _sync.run(self.view.count())

    async def count_async(self) -> int:
        """The async twin of `count`."""
        return await _sync.run_async(self.view.count())

    # -- knowledge: from sources ------------------------------------------------------------

    def add(self, pages: Iterable[Page]) -> Added:
        """Remember this tenant's `pages` beside its other ones; again changes nothing.

        A page's older chunks are replaced. Pages of other tenants are left out and counted in
        `other_tenants`.
        """
        return _sync.run(maintenance.add(self, pages))

    async def add_async(self, pages: Iterable[Page]) -> Added:
        """The async twin of `add`."""
        return await _sync.run_async(maintenance.add(self, pages))

    def ingest(self, source: Source | None = None) -> Added:
        """Make the tenant's pages of `source` all of its knowledge, as one new version.

        `source` is what `load` takes, or pages; without it, the spec's. Again changes nothing; after
        a crash it goes on where it was, and nothing is embedded twice.
        """
        return _sync.run(maintenance.ingest(self, source))

    async def ingest_async(self, source: Source | None = None) -> Added:
        """The async twin of `ingest`."""
        return await _sync.run_async(maintenance.ingest(self, source))

    def versions(self) -> list[MemoryVersion]:
        """Versions that can still be asked for, oldest first; the last is in force."""
        return _sync.run(self.view.versions())

    async def versions_async(self) -> list[MemoryVersion]:
        """The async twin of `versions`."""
        return await _sync.run_async(self.view.versions())

    def diff(self, before: int, after: int) -> Differences:
        """What was added, removed and changed between two versions, source by source."""
        return _sync.run(maintenance.diff(self, before, after))

    async def diff_async(self, before: int, after: int) -> Differences:
        """The async twin of `diff`."""
        return await _sync.run_async(maintenance.diff(self, before, after))

    def diff_sources(self) -> Differences:
        """What an `ingest` would add, remove and change: the declared source against what is in force."""
        return _sync.run(maintenance.diff_sources(self))

    async def diff_sources_async(self) -> Differences:
        """The async twin of `diff_sources`."""
        return await _sync.run_async(maintenance.diff_sources(self))

    # -- episodic: written by use -----------------------------------------------------------

    def remember(
        self,
        text: str,
        *,
        subject: str = "",
        kind: ItemKind = "episode",
        access: Sequence[str] | None = None,
        classification: int = 0,
        parents: Sequence[str] = (),
        **days: Unpack[Days],
    ) -> Note:
        """Remember something that happened, was learned or was made of `parents` (ids of hits).

        Seen by the principal alone unless `access` names groups. Trust is stamped here: what is made
        of others is at most as trusted, at least as classified and kept at most as long as they are.
        """
        given = Written(
            text=text, subject=subject, kind=kind, access=access, classification=classification,
            parents=tuple(parents), days=days,
        )  # fmt: skip
        return _sync.run(writing.write(self, given))

    async def remember_async(
        self,
        text: str,
        *,
        subject: str = "",
        kind: ItemKind = "episode",
        access: Sequence[str] | None = None,
        classification: int = 0,
        parents: Sequence[str] = (),
        **days: Unpack[Days],
    ) -> Note:
        """The async twin of `remember`."""
        given = Written(
            text=text, subject=subject, kind=kind, access=access, classification=classification,
            parents=tuple(parents), days=days,
        )  # fmt: skip
        return await _sync.run_async(writing.write(self, given))

    # -- forgetting and keeping -------------------------------------------------------------

    def forget(
        self,
        *,
        ids: Sequence[str] | None = None,
        subject: str | None = None,
        source: str | None = None,
        expired: bool = False,
        dry_run: bool = False,
    ) -> Forgotten:
        """Forget items by exactly one of these, of every version at once, and what was derived from them.

        What is under legal hold stays, and is counted. `dry_run` only counts.
        """
        what = _selector(ids, subject, source, expired=expired)
        return _sync.run(self.view.forget(what, now=self.now(), dry_run=dry_run))

    async def forget_async(
        self,
        *,
        ids: Sequence[str] | None = None,
        subject: str | None = None,
        source: str | None = None,
        expired: bool = False,
        dry_run: bool = False,
    ) -> Forgotten:
        """The async twin of `forget`."""
        what = _selector(ids, subject, source, expired=expired)
        return await _sync.run_async(self.view.forget(what, now=self.now(), dry_run=dry_run))

    def hold(
        self, *, ids: Sequence[str] | None = None, subject: str | None = None, source: str | None = None
    ) -> int:
        """Put ids, a subject or a source under legal hold, later items too; how many there are now."""
        return _sync.run(self.view.hold(_selector(ids, subject, source)))

    async def hold_async(
        self, *, ids: Sequence[str] | None = None, subject: str | None = None, source: str | None = None
    ) -> int:
        """The async twin of `hold`."""
        return await _sync.run_async(self.view.hold(_selector(ids, subject, source)))

    def release(
        self, *, ids: Sequence[str] | None = None, subject: str | None = None, source: str | None = None
    ) -> int:
        """End a hold, named as it was made; how many items it held."""
        return _sync.run(self.view.release(_selector(ids, subject, source)))

    async def release_async(
        self, *, ids: Sequence[str] | None = None, subject: str | None = None, source: str | None = None
    ) -> int:
        """The async twin of `release`."""
        return await _sync.run_async(self.view.release(_selector(ids, subject, source)))

    def purge(self) -> Purged:
        """Remove what has expired, and what only versions hold that the spec does not keep."""
        return _sync.run(self._purge())

    async def purge_async(self) -> Purged:
        """The async twin of `purge`."""
        return await _sync.run_async(self._purge())

    #: Their former names.
    sweep, sweep_async = purge, purge_async

    # -- going back -------------------------------------------------------------------------

    def snapshot(self, folder: str | Path | None = None) -> Snapshotted:
        """Write this tenant's items into a folder that `restore` reads, on any store.

        Without a folder into the memory's own place below `.workbench/state/snapshots`.
        """
        return _sync.run(maintenance.snapshot(self, folder))

    async def snapshot_async(self, folder: str | Path | None = None) -> Snapshotted:
        """The async twin of `snapshot`."""
        return await _sync.run_async(maintenance.snapshot(self, folder))

    def restore(self, what: int | str | Path) -> Restored:
        """Put an earlier version in force again, by its number, or the snapshot in a folder.

        Nothing is embedded. What was forgotten since stays forgotten; what was written by use since
        stays.
        """
        return _sync.run(maintenance.restore(self, what))

    async def restore_async(self, what: int | str | Path) -> Restored:
        """The async twin of `restore`."""
        return await _sync.run_async(maintenance.restore(self, what))

    def stats(self) -> MemoryStats:
        """What there is of this tenant, counted."""
        return _sync.run(self.view.stats(now=self.now()))

    async def stats_async(self) -> MemoryStats:
        """The async twin of `stats`."""
        return await _sync.run_async(self.view.stats(now=self.now()))

    async def _search(
        self,
        text: str,
        k: int,
        as_of: str | None,
        version: int | None,
        only: tuple[tuple[str, ...], tuple[ItemKind, ...]],
    ) -> Hits:
        sources, kinds = only
        wanted = finding.Wanted(k=k, as_of=as_of, version=version, sources=sources, kinds=kinds)
        return await finding.find(self, text, wanted)

    async def _purge(self) -> Purged:
        return await self.view.purge(now=self.now(), keep_versions=self.spec.keep_versions)


def _selector(
    ids: Sequence[str] | None, subject: str | None, source: str | None, *, expired: bool = False
) -> Selector:
    chosen = None if ids is None else tuple(ids)
    return Selector(ids=chosen, subject=subject, source=source, expired=expired)
