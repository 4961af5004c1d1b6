"""List the passages that a search could find: permitted by the policies, and valid on its day."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from workbench import arguments
from workbench.errors import ConfigError
from workbench.retrieval.binding import Binding
from workbench.retrieval.documents import digests_now
from workbench.retrieval.port import Governed
from workbench.retrieval.search import checked, is_stale
from workbench.types import KNOWLEDGE, Item, ItemKind


async def findable(
    binding: Binding,
    *,
    as_of: str | None = None,
    version: int | None = None,
    sources: Sequence[str] = (),
    kinds: Sequence[ItemKind] = (),
) -> list[Item]:
    """Return the items that a search with the same arguments could find, by source and position.

    Every call asks the memory again, so that what was withdrawn meanwhile is not among them.
    """
    narrowed = checked(version=version, sources=sources, kinds=kinds)
    day = day_of(binding, as_of)
    # A search of a pinned snapshot judges expiry on its day; the store has judged it by the clock.
    moment = f"{day}T00:00:00Z" if binding.pinned and not binding.today else ""
    found = [
        item
        for item in await Governed(binding=binding).items(narrowed["version"])
        if (item.valid_from is None or item.valid_from <= day)
        and (item.valid_to is None or item.valid_to > day)
        and (item.expires is None or item.expires > moment)
        and (not narrowed["sources"] or item.source in narrowed["sources"])
        and (not narrowed["kinds"] or item.kind in narrowed["kinds"])
    ]
    if binding.spec.stale != "flag" and narrowed["version"] is None:
        found = await asyncio.to_thread(_fresh, binding, found)
    return sorted(found, key=lambda item: (item.source, item.position, item.id))


def day_of(binding: Binding, as_of: str | None) -> str:
    """Return the ISO day on which a search judges validity when it names `as_of`."""
    named = None if as_of is None else arguments.day(as_of, "as_of")
    return named or binding.as_of or binding.context.clock.now().date().isoformat()


def _fresh(binding: Binding, found: Sequence[Item]) -> list[Item]:
    """Return the items whose declared source is as it was: a search drops or refuses the others."""
    spec = binding.spec
    if binding.marked:
        raise ConfigError(
            f"{spec} cannot be listed here: its spec says stale: {spec.stale}, and only its searches know "
            "the sources",
            hint=f'ws.memory("{spec.name}").search("…")',
        )
    if not spec.source:
        return list(found)
    sources = {item.source for item in found if item.kind == KNOWLEDGE}
    now = digests_now(spec.reading(), tenant=binding.tenant, root=binding.root, sources=sources)
    return [
        item
        for item in found
        if item.kind != KNOWLEDGE or not is_stale(item.source_digest, item.trust, now=now.get(item.source))
    ]
