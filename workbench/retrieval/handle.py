"""The memory handle that `ws.memory("handbook")` returns, with every verb in a sync and an async form."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from workbench import _sync, arguments
from workbench.experiments.suggested import SuggestedCases
from workbench.ports import Added, Forgotten, MemoryStats, MemoryVersion, Purged, Selector
from workbench.retrieval import items as writing
from workbench.retrieval import maintenance, suggesting
from workbench.retrieval import search as finding
from workbench.retrieval.binding import Binding
from workbench.retrieval.diff import Differences
from workbench.retrieval.hits import Hits
from workbench.retrieval.items import Days, Note, Written
from workbench.retrieval.maintenance import Restored, Snapshotted, Source
from workbench.retrieval.port import Governed
from workbench.types import Item, ItemKind, Page

if TYPE_CHECKING:
    from workbench.retrieval.browser import MemoryBrowser


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryHandle(Binding):
    """One memory, bound to a tenant and a principal. `ws.bind(…)` makes a workspace for another one.

    Every verb has a twin whose name ends in `_async`, with the same parameters: `await kb.search_async(…)`.
    """

    @property
    def view(self) -> Governed:
        """The memory's port, each verb through the boundary: for tools that take a `ports.Memory`."""
        return Governed(binding=self)

    @property
    def unfiltered(self) -> Governed:
        """The same port for an admin: `items` and `count` cover the whole tenant."""
        return Governed(binding=self, unfiltered=True)

    @property
    def whole(self) -> Governed:
        """The former name of `unfiltered`."""
        return self.unfiltered

    def at(self, version: int | None) -> MemoryHandle:
        """Return a handle for an earlier version of the memory; None is the active one."""
        return dataclasses.replace(self, version=version)

    def browse(self) -> MemoryBrowser:
        """Return a panel that searches the memory, lists what a search could find, and compares versions.

        A handle as the last line of a cell shows it.
        """
        from workbench.retrieval.browser import MemoryBrowser

        return MemoryBrowser(self)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:  # noqa: ARG002
        return self.browse().mimebundle()

    def items_of(self, page: Page) -> list[Item]:
        """Cut `page` into the items that `add` would store, without vectors."""
        return writing.documents(self, [page])

    # -- finding ----------------------------------------------------------------------------

    async def _search(
        self,
        text: str,
        *,
        k: int = 5,
        as_of: str | None = None,
        version: int | None = None,
        sources: Sequence[str] = (),
        kinds: Sequence[ItemKind] = (),
    ) -> Hits:
        """Return at most `k` passages that the principal may see and that are valid `as_of` (an ISO day).

        `sources` and `kinds` narrow the search. RefusedError when the spec says `stale: refuse` and the
        source of a passage has changed; in an earlier version such passages are only marked.
        """
        version = self.version if version is None else version
        narrowed = {"version": version, "sources": sources, "kinds": kinds}
        return await finding.find(self, text, k=k, as_of=as_of, **narrowed)

    search, search_async = _sync.twins(_search)

    async def _count(self) -> int:
        """Count the tenant's active items that the principal may see."""
        return await self.view.count()

    count, count_async = _sync.twins(_count)

    # -- knowledge: from sources ------------------------------------------------------------

    async def _add(self, pages: Iterable[Page]) -> Added:
        """Add this tenant's `pages` beside its other ones. The same pages again change nothing.

        The chunks of a page's earlier text are replaced. Pages of other tenants are left out and counted in
        `other_tenants`.
        """
        return await maintenance.add(self, pages)

    add, add_async = _sync.twins(_add)

    async def _ingest(self, source: Source | None = None) -> Added:
        """Make the tenant's pages of `source` all of its knowledge, as one new version.

        `source` is what `load` takes, or pages; without it, the spec's. The same pages again change nothing.
        After a crash the next call continues, and embeds nothing twice.
        """
        return await maintenance.ingest(self, source)

    ingest, ingest_async = _sync.twins(_ingest)

    async def _versions(self) -> list[MemoryVersion]:
        """List the kept versions, oldest first; the last one is active."""
        return await self.view.versions()

    versions, versions_async = _sync.twins(_versions)

    async def _diff(self, before: int, after: int) -> Differences:
        """Compare two versions: what was added, removed and changed, source by source."""
        return await maintenance.diff(self, before, after)

    diff, diff_async = _sync.twins(_diff)

    async def _diff_sources(self) -> Differences:
        """Compare the declared source with the active version: what `ingest` would add, remove and change."""
        return await maintenance.diff_sources(self)

    diff_sources, diff_sources_async = _sync.twins(_diff_sources)

    async def _suggest_cases(self, n: int = 20, *, seed: int = 7) -> SuggestedCases:
        """Draft at most `n` questions with accepted answers from the documents that the principal may see.

        The same documents and seed give the same drafts, all of them marked as synthetic and undecided:
        accept, edit or reject each, then `save` the accepted ones. NotFoundError without documents.
        """
        return await suggesting.drafts([self], n=n, seed=seed)

    suggest_cases, suggest_cases_async = _sync.twins(_suggest_cases)

    # -- episodic: written by use -----------------------------------------------------------

    async def _remember(
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
        """Store something that happened, was learned or was derived from `parents` (ids of hits).

        Only the principal sees it unless `access` names groups. Trust is set here: a derived item is at most
        as trusted, at least as classified and kept at most as long as its parents.
        """
        written = Written(
            text=text, subject=subject, kind=kind, access=access, classification=classification,
            parents=arguments.texts(parents, "parents"), days=days,
        )  # fmt: skip
        return await writing.write(self, written)

    remember, remember_async = _sync.twins(_remember)

    # -- forgetting and keeping -------------------------------------------------------------

    async def _forget(
        self,
        *,
        ids: Sequence[str] | None = None,
        subject: str | None = None,
        source: str | None = None,
        expired: bool = False,
        dry_run: bool = False,
    ) -> Forgotten:
        """Remove the items that one of these names from every version, and what was derived from them.

        Items under legal hold stay and are counted. Recorded answers that contain a removed item's text are
        removed from the journals of this repository. `dry_run` only counts items.
        """
        what = _selector(ids, subject, source, expired=arguments.flag(expired, "expired"))
        return await maintenance.forget(self, what, dry_run=arguments.flag(dry_run, "dry_run"))

    forget, forget_async = _sync.twins(_forget)

    async def _hold(
        self, *, ids: Sequence[str] | None = None, subject: str | None = None, source: str | None = None
    ) -> int:
        """Put ids, a subject or a source under legal hold, later items too; return how many exist now."""
        return await self.view.hold(_selector(ids, subject, source))

    hold, hold_async = _sync.twins(_hold)

    async def _release(
        self, *, ids: Sequence[str] | None = None, subject: str | None = None, source: str | None = None
    ) -> int:
        """End a hold, named as it was made; return the number of items it covered."""
        return await self.view.release(_selector(ids, subject, source))

    release, release_async = _sync.twins(_release)

    async def _purge(self) -> Purged:
        """Remove expired items, and items that only versions beyond the spec's `keep_versions` hold."""
        return await self.view.purge(now=self.now(), keep_versions=self.spec.keep_versions)

    purge, purge_async = _sync.twins(_purge)
    #: Their former names.
    sweep, sweep_async = purge, purge_async

    # -- going back -------------------------------------------------------------------------

    async def _snapshot(self, folder: str | Path | None = None) -> Snapshotted:
        """Write this tenant's items into a folder that `restore` reads, on any store.

        Without a folder the snapshot goes into the memory's own place below `.workbench/state/snapshots`.
        """
        return await maintenance.snapshot_of([self], folder)

    snapshot, snapshot_async = _sync.twins(_snapshot)

    async def _restore(self, what: int | str | Path) -> Restored:
        """Make an earlier version active again, by its number, or the snapshot in a folder.

        Nothing is embedded. Forgotten items stay forgotten; items written by use since stay.
        """
        return await maintenance.restore(self, what)

    restore, restore_async = _sync.twins(_restore)

    async def _stats(self) -> MemoryStats:
        """Count this tenant's items, by kind and state."""
        return await self.view.stats(now=self.now())

    stats, stats_async = _sync.twins(_stats)


def _selector(
    ids: Sequence[str] | None, subject: str | None, source: str | None, *, expired: bool = False
) -> Selector:
    chosen = None if ids is None else arguments.texts(ids, "ids")
    for name, value in (("subject", subject), ("source", source)):
        if value is not None:
            arguments.text(value, name)
    return Selector(ids=chosen, subject=subject, source=source, expired=expired)
