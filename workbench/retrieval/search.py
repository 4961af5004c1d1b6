"""Search a memory for a principal on a day, and mark the passages whose source has changed."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any, get_args

from workbench import arguments
from workbench.errors import ConfigError, RefusedError, nearest
from workbench.ports import Query
from workbench.retrieval.binding import Binding
from workbench.retrieval.documents import digests_now
from workbench.retrieval.hits import Hits
from workbench.retrieval.items import DECLARED
from workbench.retrieval.port import Governed, embed
from workbench.retrieval.spec import MemorySpec
from workbench.types import KNOWLEDGE, Hit, ItemKind


async def find(binding: Binding, text: str, *, k: int, as_of: str | None, **narrowed: Any) -> Hits:
    """Return at most `k` passages that the principal may see and that are valid on the day `as_of`.

    `narrowed` are the query's `version`, `sources` and `kinds`.
    """
    as_of = None if as_of is None else arguments.day(as_of, "as_of")
    text, k = arguments.text(text, "the query"), arguments.whole_number(k, "k", least=1)
    spec, principal, clock = binding.spec, binding.context.principal, binding.context.clock
    query = Query(
        text=text,
        vector=(),
        k=max(k, spec.candidates) if spec.stale == "drop" else k,
        groups=principal.grants,
        clearance=principal.clearance,
        as_of=as_of or binding.as_of or clock.now().date().isoformat(),
        now=binding.now() if binding.pinned is None or binding.today else None,
        candidates=spec.candidates,
        mode=spec.mode,
        exact=spec.exact,
        **checked(**narrowed),
    )
    governed = Governed(binding=binding)
    if governed.may_search(query):
        query = dataclasses.replace(query, vector=(await embed(binding, [text]))[0])
    answer = await governed.search(query)
    found = list(answer)
    if not binding.marked:
        found = await asyncio.to_thread(marked, spec, found, tenant=binding.tenant, root=binding.root)
    if spec.stale == "drop" and query.version is None:
        found = [hit for hit in found if not hit.stale]
    best = found[:k]
    if spec.stale == "refuse" and query.version is None:
        _refuse_stale(binding, best)
    return Hits(best, degraded=answer.degraded)


def checked(*, version: Any, sources: Any, kinds: Any) -> dict[str, Any]:
    """Return what narrows a search; ConfigError for an argument of another type or an unknown kind."""
    kinds = arguments.texts(kinds, "kinds")
    for kind in kinds:
        if kind not in get_args(ItemKind):
            raise ConfigError(f"kinds has {kind!r} ({nearest(kind, get_args(ItemKind))})")
    if version is not None:
        version = arguments.whole_number(version, "version", least=1)
    return {"version": version, "sources": arguments.texts(sources, "sources"), "kinds": kinds}


def marked(spec: MemorySpec, found: list[Hit], *, tenant: str, root: Path) -> list[Hit]:
    """Return a tenant's hits, with those marked whose page has changed or is missing in the spec's source."""
    if not spec.source:
        return found
    sources = {hit.source for hit in found if hit.kind == KNOWLEDGE}
    now = digests_now(spec.reading(), tenant=tenant, root=root, sources=sources)
    return [
        dataclasses.replace(
            hit, stale=hit.kind == KNOWLEDGE and is_stale(hit.digest, hit.trust, now=now.get(hit.source))
        )
        for hit in found
    ]


def is_stale(digest: str, trust: int, *, now: str | None) -> bool:
    """Return whether the declared source differs; only declared pages must still exist there."""
    return digest != now if trust == DECLARED else now not in {None, digest}


def _refuse_stale(binding: Binding, found: list[Hit]) -> None:
    changed = sorted({hit.source for hit in found if hit.stale})
    if changed:
        raise RefusedError(
            f"{', '.join(map(repr, changed))} changed after {binding.spec} was ingested, and its spec says "
            "stale: refuse",
            hint="dvc repro" if binding.pinned else binding.command("ingest"),
        )
