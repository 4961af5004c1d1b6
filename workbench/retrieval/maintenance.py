"""Maintain a memory: ingest its sources, compare versions, write snapshots, restore."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench import layout
from workbench.errors import ConfigError, NotFoundError
from workbench.ports import Added, Budget, Forgotten, Selector
from workbench.records import answer_cache, journal
from workbench.retrieval.binding import Binding, Snapshots
from workbench.retrieval.diff import Differences, compared, sources_of
from workbench.retrieval.documents import load
from workbench.retrieval.items import documents, visible_to
from workbench.retrieval.port import TEXTS, Governed, embed, indexed
from workbench.retrieval.reading import Pages
from workbench.types import KNOWLEDGE, Item, Page

#: Ids in one `memory.missing`; attempts to publish while other writers publish too.
_IDS, _TRIES = 5_000, 3
_Read = Callable[[], Awaitable[list[Item]]]
_Prepare = Callable[[list[Item]], Awaitable[list[Item]]]
Source = str | Path | Iterable[Page]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshotted:
    """A written snapshot: its folder, its logical digest and its number of items by tenant."""

    folder: Path
    digest: str
    items: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """The result of a restore: the active version, its changes, and the number of episodic items restored."""

    version: int
    added: int
    unchanged: int
    replaced: int
    episodic: int = 0


async def add(binding: Binding, pages: Iterable[Page]) -> Added:
    """Make this tenant's `pages` active beside its other sources, as one version."""
    given = pages if isinstance(pages, Pages) else Pages(pages)
    own = own_pages(binding, given)
    items = await asyncio.to_thread(documents, binding, own)
    other = len(given) - len(own)
    stored = await Governed(binding=binding, unfiltered=True).count([item.id for item in items])
    if stored == len(items) and not await _missing(binding, items):
        return Added(added=0, unchanged=stored, replaced=0, other_tenants=other, left_out=_left_out(given))
    if binding.pinned is not None:
        raise _not_pinned(binding, len(items) - stored, len(items))
    changed = await _changed(binding, items)
    ready: list[Item] = []
    with _bar(binding, len(changed), "remember") as bar:
        for some in _batches(changed):
            ready += await _embedded(binding, some)
            bar.update(len(some))
    done = await Governed(binding=binding).add(ready, now=binding.now())
    unchanged = len(items) - done.added
    return dataclasses.replace(done, unchanged=unchanged, other_tenants=other, left_out=_left_out(given))


def _left_out(pages: Pages) -> tuple[str, ...]:
    return tuple(map(str, pages.left_out))


async def _embedded(binding: Binding, items: list[Item]) -> list[Item]:
    vectors = await embed(binding, [indexed(item) for item in items])
    return [dataclasses.replace(item, vector=vector) for item, vector in zip(items, vectors, strict=True)]


async def _changed(binding: Binding, items: Sequence[Item]) -> list[Item]:
    """Return all items of the sources that differ from the active version."""
    missing = await _missing(binding, items)
    sources = {item.source for item in items if item.id in missing}
    same = [item.id for item in items if item.source not in sources]
    if await Governed(binding=binding, unfiltered=True).count(same) < len(
        same
    ):  # some of them are only staged
        return list(items)
    return [item for item in items if item.source in sources]


async def ingest(binding: Binding, source: Source | None) -> Added:
    """Make the tenant's pages of `source` the active version; staged items are not embedded again."""
    given = await _pages(binding, source)
    own = own_pages(binding, given)
    if not own:
        raise NotFoundError(
            f"no page to ingest for {binding.tenant!r}", hint=binding.command("forget --source …")
        )
    items = await asyncio.to_thread(documents, binding, own)

    async def given_once() -> list[Item]:
        return items

    done = await _put(binding, given_once, functools.partial(_embedded, binding), word="ingest")
    return dataclasses.replace(done, other_tenants=len(given) - len(own), left_out=_left_out(given))


async def _pages(binding: Binding, source: Source | None) -> Pages:
    if source is not None and not isinstance(source, str | Path):
        return source if isinstance(source, Pages) else Pages(source)
    if source is None and not binding.spec.source:
        raise ConfigError(f"{binding.spec} names no source", hint=binding.command("ingest DIR"))
    return await asyncio.to_thread(load, binding.spec.reading(source), root=binding.root)


async def _put(binding: Binding, read: _Read, prepare: _Prepare | None = None, *, word: str) -> Added:
    """Stage the missing items in batches through `prepare`, then publish exactly the items of `read`.

    Another writer may publish or forget in between, which removes staged items; then the loop starts again.
    Without `prepare` the items are restored.
    """
    tried = 0
    while True:
        items = await read()
        missing = await _missing(binding, items)
        if missing and binding.pinned is not None:
            raise _not_pinned(binding, len(missing), len(items))
        with _bar(binding, len(items), word) as bar:
            bar.update(len(items) - len(missing))
            for some in _batches([item for item in items if item.id in missing]):
                if prepare is not None:
                    await Governed(binding=binding).stage(await prepare(some))
                else:
                    parents = items if any(item.parents for item in some) else ()
                    await Governed(binding=binding).stage(some, restored=parents)
                bar.update(len(some))
        try:
            return await Governed(binding=binding).publish([item.id for item in items], now=binding.now())
        except ConfigError:
            tried += 1
            if tried == _TRIES or not await _missing(binding, items):
                raise


def _batches(items: Sequence[Item]) -> Iterator[list[Item]]:
    return (list(items[start : start + TEXTS]) for start in range(0, len(items), TEXTS))


async def _missing(binding: Binding, items: Sequence[Item]) -> frozenset[str]:
    found: list[str] = []
    for start in range(0, len(items), _IDS):
        found += await Governed(binding=binding).missing([item.id for item in items[start : start + _IDS]])
    return frozenset(found)


def own_pages(binding: Binding, given: Sequence[Page]) -> list[Page]:
    """Return the tenant's pages of `given`; ConfigError when it has none, or two with one source."""
    own = [page for page in given if page.tenant == binding.tenant]
    if given and not own:
        others = ", ".join(sorted({page.tenant for page in given}))
        raise ConfigError(
            f"none of the {len(given)} pages belongs to tenant {binding.tenant!r}; their tenants: {others}",
            hint="bind the workspace to their tenant: ws.bind(tenant=…)",
        )
    source, times = next(iter(Counter(page.source for page in own).most_common(1)), ("", 0))
    if times > 1:
        raise ConfigError(
            f"{times} pages have the source {source!r}", hint="give each page its own file name"
        )
    return own


async def diff(binding: Binding, before: int, after: int, *, count_hidden: bool = True) -> Differences:
    """Compare two versions, source by source, as far as the principal may see them.

    For an admin, the sources that it may not see are counted, unless `count_hidden` is false.
    """
    port = _to_compare(binding) if count_hidden else Governed(binding=binding)
    older, newer = await port.items(before), await port.items(after)
    visible = visible_to(binding)
    hidden = {item.source for item in (*older, *newer) if not visible(item)}
    title = f"{binding.spec}, tenant {binding.tenant}, version {before} -> {after}"
    return compared(title, sources_of(older), sources_of(newer), hidden=hidden)


async def diff_sources(binding: Binding) -> Differences:
    """Compare the active version with the declared source, as an ingest would change it."""
    visible = visible_to(binding)
    pages = [page for page in await _pages(binding, None) if page.tenant == binding.tenant]
    active = await _to_compare(binding).items()
    on_disk = await asyncio.to_thread(documents, binding, pages)
    if not binding.context.principal.admin:
        on_disk = [item for item in on_disk if visible(item)]
    hidden = {item.source for item in (*active, *on_disk) if not visible(item)}
    title = f"{binding.spec}, tenant {binding.tenant}, active -> {binding.spec.source}"
    return compared(title, sources_of(active), sources_of(on_disk), hidden=hidden)


def _to_compare(binding: Binding) -> Governed:
    """Return the unfiltered port for an admin, so that hidden sources are counted; else the principal's."""
    return Governed(binding=binding, unfiltered=binding.context.principal.admin)


async def snapshot_of(bindings: Sequence[Binding], folder: str | Path | None) -> Snapshotted:
    """Write one memory's items of several tenants into one snapshot."""
    first, place = bindings[0], None if folder is None else Path(folder)
    views = [Governed(binding=binding, unfiltered=True) for binding in bindings]
    spec = first.spec
    where, digest, items = await _archive(first).write(
        views, place, spec=str(spec), digest=spec.digest, version=first.version
    )
    return Snapshotted(folder=where, digest=digest, items=items)


async def forget(binding: Binding, what: Selector, *, dry_run: bool) -> Forgotten:
    """Forget the selected items, and remove answers with their texts from journals and the cache.

    These files are purged before the items are deleted, because a killed process leaves the items and the
    same `forget` finds them again; and afterwards, because other processes may ask in between.
    """
    view, now = Governed(binding=binding), binding.now()
    found = _answers_of(binding.home or binding.root)
    if dry_run or binding.pinned is not None or not found:
        return await view.forget(what, now=now, dry_run=dry_run)
    going = await view.forget(what, now=now, dry_run=True)
    texts = await _texts_of(binding, frozenset(going.ids))
    entries = await asyncio.to_thread(_purged, found, texts)
    done = await view.forget(what, now=now)
    found = _answers_of(binding.home or binding.root)
    entries += await asyncio.to_thread(_purged, found, texts)
    return dataclasses.replace(done, journal_entries=entries)


def _purged(paths: Sequence[Path], texts: Sequence[str]) -> int:
    return sum(
        answer_cache.purge(path, texts) if path.suffix == ".sqlite" else journal.purge(path, texts)
        for path in paths
    )


def _answers_of(home: Path) -> list[Path]:
    """Return the files below a repository that keep answers: its journals, and its cache of exact answers."""
    cached = home / layout.EXACT_ANSWERS
    return [*journal.journals_of(home), *([cached] if cached.is_file() else [])]


async def _texts_of(binding: Binding, ids: frozenset[str]) -> list[str]:
    """Return the texts of these items, in the active version and in earlier ones."""
    if not ids:
        return []
    view = Governed(binding=binding, unfiltered=True)
    texts: set[str] = set()
    for number in (None, *(version.number for version in await view.versions())):
        with contextlib.suppress(NotFoundError):  # removed by a `purge` in the meantime
            texts |= {item.text for item in await view.items(number) if item.id in ids}
    return sorted(texts)


async def restore(binding: Binding, what: int | str | Path) -> Restored:
    """Make an earlier version, or the snapshot in a folder, the active version again."""
    items: list[Item] = []
    await Governed(binding=binding).missing(
        []
    )  # refuse other principals than admins before a snapshot is read

    async def knowledge() -> list[Item]:
        given = _of_version(binding, what) if isinstance(what, int) else _of_snapshot(binding, Path(what))
        items[:] = await given
        return [item for item in items if item.kind == KNOWLEDGE]

    done = await _put(binding, knowledge, word="restore")
    others = [] if isinstance(what, int) else [item for item in items if item.kind != KNOWLEDGE]
    restored = Restored(
        version=done.version, added=done.added, unchanged=done.unchanged, replaced=done.replaced
    )
    if not others:
        return restored
    written = await Governed(binding=binding).remember(
        others, budget=Budget(), now=binding.now(), restored=items
    )
    return dataclasses.replace(restored, episodic=written.added)


async def _of_version(binding: Binding, number: int) -> list[Item]:
    """Return the items of an earlier version, without those that a `forget` is deleting now."""
    items = await Governed(binding=binding, unfiltered=True).items(number)
    if binding.snapshot_store is None or binding.pinned is not None:
        return items
    return await binding.snapshot_store.admitted(items, memory=binding.name, tenant=binding.tenant)


async def _of_snapshot(binding: Binding, folder: Path) -> list[Item]:
    """Return the tenant's items in a snapshot; ConfigError unless it has the spec's embedding."""
    items = await _archive(binding).read(folder, memory=binding.name, tenant=binding.tenant)
    other = {item.embedding for item in items} - {binding.spec.embedding}
    if other:
        raise ConfigError(
            f"{folder} is embedded with {', '.join(map(repr, sorted(other)))}, "
            f"{binding.spec} with {binding.spec.embedding!r}",
            hint=binding.command("ingest"),
        )
    return items


def _archive(binding: Binding) -> Snapshots:
    if binding.snapshot_store is None:
        raise ConfigError(
            f"the memory {binding.name!r} has no store of snapshots",
            hint="get the handle from a workspace: wb.connect(…).memory()",
        )
    return binding.snapshot_store


def _not_pinned(binding: Binding, missing: int, of: int) -> ConfigError:
    return ConfigError(
        f"the pinned snapshot of {binding.name!r} ({(binding.pinned or '')[:12]}) lacks "
        f"{missing} of {of} chunks of {binding.tenant!r}",
        hint="dvc repro",
    )


def _bar(binding: Binding, total: int, word: str) -> Any:
    """Return a progress bar that appears after one second."""
    from tqdm.auto import tqdm

    return tqdm(total=total, desc=f"{word} {binding.name}", unit="chunk", delay=1, leave=False)
