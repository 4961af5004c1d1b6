"""What `ws.memory("handbook")` returns: one memory for one tenant and one principal."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from workbench import _sync, files
from workbench.context import Context
from workbench.errors import ConfigError, NotFoundError, UnavailableError
from workbench.ports import Added, Call, Handler, Query
from workbench.retrieval.chunking import chunks
from workbench.retrieval.hits import Hits
from workbench.retrieval.pages import digest_now
from workbench.retrieval.spec import MemorySpec
from workbench.types import JSON, Item, Page, Port

#: Pages in one `memory.add`, and texts in one `model.embed`.
_PAGES, _TEXTS = 64, 256


class MakeCall(Protocol):
    """Given by the workspace: a call with its context, the target's identity, and a deadline."""

    def __call__(self, port: Port, operation: str, target: str, payload: JSON) -> Call:
        """A call that nobody has made yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryHandle:
    """One memory, bound to a tenant and a principal when it was made; `ws.bind(…)` makes another.

    `as_of` is the day on which validity is judged when a search names none (without it, today).
    `snapshot` is the digest of the pinned snapshot that is searched instead of live memory.
    """

    spec: MemorySpec
    context: Context
    handler: Handler
    make_call: MakeCall
    root: Path
    as_of: str | None = None
    snapshot: str | None = None

    @property
    def name(self) -> str:
        """The memory's name."""
        return self.spec.name

    @property
    def tenant(self) -> str:
        """Whose items this handle adds and finds."""
        return self.context.tenant

    def add(self, pages: Iterable[Page]) -> Added:
        """Remember this tenant's `pages`; again changes nothing. A page's older chunks are replaced.

        Pages of other tenants are left out and counted in `other_tenants`.
        """
        return _sync.run(self._add(pages))

    async def add_async(self, pages: Iterable[Page]) -> Added:
        """The async twin of `add`."""
        return await _sync.run_async(self._add(pages))

    def search(self, text: str, *, k: int = 5, as_of: str | None = None, sources: Sequence[str] = ()) -> Hits:
        """At most `k` passages that the principal may see and that are valid `as_of` (an ISO day)."""
        return _sync.run(self._search(text, k, as_of, sources))

    async def search_async(
        self, text: str, *, k: int = 5, as_of: str | None = None, sources: Sequence[str] = ()
    ) -> Hits:
        """The async twin of `search`."""
        return await _sync.run_async(self._search(text, k, as_of, sources))

    def count(self) -> int:
        """Chunks of this tenant."""
        return _sync.run(self._count())

    async def count_async(self) -> int:
        """The async twin of `count`."""
        return await _sync.run_async(self._count())

    def forget(self, *, ids: Sequence[str]) -> int:
        """Forget chunks by their `hit.id`; how many there were."""
        return _sync.run(self._forget(ids))

    async def forget_async(self, *, ids: Sequence[str]) -> int:
        """The async twin of `forget`."""
        return await _sync.run_async(self._forget(ids))

    def items_of(self, page: Page) -> list[Item]:
        """The chunks of `page` as they would be remembered, not embedded yet."""
        texts = chunks(page.text, self.spec.chunking)
        return [
            Item(
                id=files.digest([page.tenant, page.source, page.digest, position, text]),
                text=text, vector=(), source=page.source, source_digest=page.digest, position=position,
                title=page.title, version=page.version, access=page.access, valid_from=page.valid_from,
                expires=page.expires, owner=page.owner, embedding=self.spec.embedding,
            )
            for position, text in enumerate(texts)
        ]  # fmt: skip

    async def _add(self, pages: Iterable[Page]) -> Added:
        from tqdm.auto import tqdm

        given = list(pages)
        own = [page for page in given if page.tenant == self.tenant]
        self._check_pages(given, own)
        total = Added(added=0, unchanged=0, replaced=0, other_tenants=len(given) - len(own))
        # The bar appears only when it takes long enough for somebody to wait.
        with tqdm(total=len(own), desc=f"remember {self.name}", unit="page", delay=1, leave=False) as bar:
            for start in range(0, len(own), _PAGES):
                some = own[start : start + _PAGES]
                done = await self._add_some([item for page in some for item in self.items_of(page)])
                total = dataclasses.replace(
                    total,
                    added=total.added + done.added,
                    unchanged=total.unchanged + done.unchanged,
                    replaced=total.replaced + done.replaced,
                )
                bar.update(len(some))
        return total

    async def _add_some(self, items: list[Item]) -> Added:
        """Embed and add whole pages, unless all of it is there already."""
        there = await self._memory("count", {"ids": [item.id for item in items]})
        if there == len(items):
            return Added(added=0, unchanged=len(items), replaced=0)
        if self.snapshot is not None:
            raise ConfigError(
                f"the pinned snapshot of {self.name!r} ({self.snapshot[:12]}) lacks "
                f"{len(items) - there} of {len(items)} chunks of {self.tenant!r}",
                hint="dvc repro",
            )
        vectors = await self._embed([_indexed(item) for item in items])
        embedded = [
            dataclasses.replace(item, vector=vector) for item, vector in zip(items, vectors, strict=True)
        ]
        added: Added = await self._memory("add", {"items": embedded})
        return added

    def _check_pages(self, given: list[Page], own: list[Page]) -> None:
        if given and not own:
            others = ", ".join(sorted({page.tenant for page in given}))
            raise ConfigError(
                f"none of the {len(given)} pages belongs to tenant {self.tenant!r} (but to: {others})",
                hint="bind the workspace to their tenant: ws.bind(tenant=…)",
            )
        source, times = next(iter(Counter(page.source for page in own).most_common(1)), ("", 0))
        if times > 1:
            raise ConfigError(f"{times} of the pages are called {source!r}", hint="a source is one page")

    async def _search(self, text: str, k: int, as_of: str | None, sources: Sequence[str]) -> Hits:
        vector = (await self._embed([text]))[0]
        query = Query(
            text=text,
            vector=vector,
            k=k,
            groups=self.context.principal.groups,
            as_of=as_of or self.as_of or self.context.clock.now().date().isoformat(),
            sources=tuple(sources),
            candidates=self.spec.candidates,
        )
        found = await self._memory("search", {"query": query})
        now = {
            source: digest_now(self.spec.source, tenant=self.tenant, source=source, root=self.root)
            for source in {hit.source for hit in found}
        }
        return Hits(dataclasses.replace(hit, stale=hit.digest != now[hit.source]) for hit in found)

    async def _count(self) -> int:
        return int(await self._memory("count", {}))

    async def _forget(self, ids: Sequence[str]) -> int:
        return int(await self._memory("forget", {"ids": list(ids)}))

    async def _memory(self, operation: str, payload: JSON) -> Any:
        return await self._one(self.make_call("memory", operation, self.name, payload))

    async def _embed(self, texts: Sequence[str]) -> list[tuple[float, ...]]:
        """One L2-normalised vector for each text, in order."""
        vectors: list[tuple[float, ...]] = []
        for start in range(0, len(texts), _TEXTS):
            some = list(texts[start : start + _TEXTS])
            payload = {"model": self.spec.embedding, "input": some, "encoding_format": "float"}
            wire = await self._one(self.make_call("model", "embed", self.spec.embedding, payload))
            rows = sorted(wire["data"], key=lambda row: int(row["index"]))
            vectors += [_normal(row["embedding"]) for row in rows]
        if len(vectors) != len(texts):
            raise UnavailableError(
                f"{self.spec.embedding!r} gave {len(vectors)} vectors for {len(texts)} texts",
                hint="run it again; if it stays so, the endpoint is not OpenAI-compatible",
            )
        return vectors

    async def _one(self, call: Call) -> Any:
        """The one event that answers `call`."""
        async with aclosing(self.handler(call)) as events:  # type: ignore[type-var]
            answers = [event.data async for event in events]
        if not answers:
            raise NotFoundError(f"nothing answered {call.name} of {call.target!r}")
        return answers[-1]


def _indexed(item: Item) -> str:
    """What is embedded: the title too, because a paragraph alone often does not say what it is about."""
    return f"{item.title}\n{item.text}" if item.title else item.text


def _normal(vector: Sequence[float]) -> tuple[float, ...]:
    """`vector` at length 1, in float32; a zero vector stays."""
    import numpy as np

    exact = np.asarray(vector, dtype=np.float64)
    length = float(np.sqrt((exact * exact).sum())) or 1.0
    return tuple((exact / length).astype(np.float32).tolist())
