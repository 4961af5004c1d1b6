"""A memory and its embedding as a handle asks them: every verb is a call that crosses the boundary."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from workbench.errors import NotFoundError, UnavailableError
from workbench.ports import (
    Added,
    Budget,
    Call,
    Forgotten,
    MemoryStats,
    MemoryVersion,
    Purged,
    Query,
    Remembered,
    Requester,
    Selector,
)
from workbench.retrieval.hits import Hits
from workbench.types import JSON, Hit, Item, Port

if TYPE_CHECKING:
    from workbench.retrieval.handle import MemoryHandle

#: Texts in one `model.embed`.
TEXTS = 256


class MakeCall(Protocol):
    """Given by the workspace: a call with its context, the target's identity, and a deadline."""

    def __call__(self, port: Port, operation: str, target: str, payload: JSON) -> Call:
        """A call that nobody has made yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Governed:
    """`ports.Memory` over a handle: what is asked of it passes every control.

    Without a requester it reads as the handle's principal; if `unfiltered`, all of the tenant.
    """

    handle: MemoryHandle
    unfiltered: bool = False

    @property
    def tenant(self) -> str:
        """Whose items these are."""
        return self.handle.tenant

    async def add(self, items: Iterable[Item], *, now: str = "") -> Added:
        """Put documents in force; the older ones of their sources go."""
        done: Added = await self._ask("add", {"items": list(items), "now": now})
        return done

    async def missing(self, ids: Sequence[str]) -> list[str]:
        """Those of `ids` that are neither in force nor staged."""
        found: list[str] = await self._ask("missing", {"ids": list(ids)})
        return found

    async def stage(self, items: Iterable[Item], *, restored: Sequence[Item] | None = None) -> int:
        """Make documents a part of the next version; how many were new.

        With what a restore read as `restored`, nothing that was forgotten comes back by it.
        """
        return int(await self._ask("stage", {"items": list(items), **_restored(restored)}))

    async def publish(self, ids: Sequence[str], *, now: str = "") -> Added:
        """Put the version in force that holds exactly these documents."""
        done: Added = await self._ask("publish", {"ids": list(ids), "now": now})
        return done

    async def remember(
        self,
        items: Iterable[Item],
        *,
        budget: Budget,
        now: str,
        while_there: Sequence[str] = (),
        restored: Sequence[Item] | None = None,
    ) -> Remembered:
        """Write episodic items within the budget, while these are in force; `restored` as in `stage`."""
        payload = {
            "items": list(items), "budget": budget, "now": now, "while_there": list(while_there),
            **_restored(restored),
        }  # fmt: skip
        done: Remembered = await self._ask("remember", payload)
        return done

    async def search(self, query: Query) -> Hits:
        """At most `k` hits that the asker may see, best first."""
        call = self.handle.make_call("memory", "search", self.handle.name, {"query": query})
        found: list[Hit] = await _one(self.handle, call)
        return Hits(found, degraded=bool(call.span.facts.get("degraded")))

    async def count(self, ids: Sequence[str] | None = None, *, requester: Requester | None = None) -> int:
        """Items in force, or how many of `ids` are."""
        payload = {"ids": None if ids is None else list(ids), "requester": requester or self._asker()}
        return int(await self._ask("count", payload))

    async def items(self, version: int | None = None, *, requester: Requester | None = None) -> list[Item]:
        """Items in force, or in an earlier version."""
        payload = {"version": version, "requester": requester or self._asker()}
        found: list[Item] = await self._ask("items", payload)
        return found

    async def forget(self, what: Selector, *, now: str = "", dry_run: bool = False) -> Forgotten:
        """Remove items, and what was derived from them, from every version."""
        done: Forgotten = await self._ask("forget", {"what": what, "now": now, "dry_run": dry_run})
        return done

    async def hold(self, what: Selector) -> int:
        """Put what is chosen under legal hold; how many items there are now."""
        return int(await self._ask("hold", {"what": what}))

    async def release(self, what: Selector) -> int:
        """End a hold; how many items it held."""
        return int(await self._ask("release", {"what": what}))

    async def purge(self, *, now: str, keep_versions: int) -> Purged:
        """Remove what has expired, and versions older than those kept."""
        done: Purged = await self._ask("purge", {"now": now, "keep_versions": keep_versions})
        return done

    async def versions(self) -> list[MemoryVersion]:
        """Versions that can still be asked for, oldest first."""
        found: list[MemoryVersion] = await self._ask("versions", {})
        return found

    async def stats(self, *, now: str) -> MemoryStats:
        """What there is, counted."""
        found: MemoryStats = await self._ask("stats", {"now": now})
        return found

    def _asker(self) -> Requester | None:
        return None if self.unfiltered else Requester.of(self.handle.context.principal, now=self.handle.now())

    async def _ask(self, operation: str, payload: JSON) -> Any:
        handle = self.handle
        return await _one(handle, handle.make_call("memory", operation, handle.name, payload))


def _restored(read: Sequence[Item] | None) -> JSON:
    return {} if read is None else {"restored": read}


async def embed(handle: MemoryHandle, texts: Sequence[str]) -> list[tuple[float, ...]]:
    """One L2-normalised vector for each text, in order, by the memory's own embedding."""
    card = handle.spec.embedding
    vectors: list[tuple[float, ...]] = []
    for start in range(0, len(texts), TEXTS):
        some = list(texts[start : start + TEXTS])
        payload = {"model": card, "input": some, "encoding_format": "float"}
        wire = await _one(handle, handle.make_call("model", "embed", card, payload))
        rows = sorted(wire["data"], key=lambda row: int(row["index"]))
        vectors += [_normal(row["embedding"]) for row in rows]
    if len(vectors) != len(texts):
        raise UnavailableError(
            f"{card!r} gave {len(vectors)} vectors for {len(texts)} texts",
            hint="run it again; if it stays so, the endpoint is not OpenAI-compatible",
        )
    return vectors


def indexed(item: Item) -> str:
    """What is embedded: the title too, because a paragraph alone often does not say what it is about."""
    return f"{item.title}\n{item.text}" if item.title else item.text


async def _one(handle: MemoryHandle, call: Call) -> Any:
    """The one event that answers `call`."""
    async with aclosing(handle.handler(call)) as events:  # type: ignore[type-var]
        answers = [event.data async for event in events]
    if not answers:
        raise NotFoundError(f"nothing answered {call.name} of {call.target!r}")
    return answers[-1]


def _normal(vector: Sequence[float]) -> tuple[float, ...]:
    """`vector` at length 1, in float32; a zero vector stays."""
    import numpy as np

    exact = np.asarray(vector, dtype=np.float64)
    length = float(np.sqrt((exact * exact).sum())) or 1.0
    return tuple((exact / length).astype(np.float32).tolist())
