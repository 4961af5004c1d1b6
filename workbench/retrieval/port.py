"""Send a memory's verbs and its embedding through the boundary, each as a call."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from workbench.errors import NotFoundError, UnavailableError
from workbench.ports import Budget, Call, MemoryVerbs, Query, Remembered, Requester
from workbench.retrieval.binding import Binding
from workbench.retrieval.hits import Hits
from workbench.types import JSON, Hit, Item

#: Texts in one `model.embed`.
TEXTS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Governed(MemoryVerbs):
    """`ports.Memory` for a binding: every verb is a call that passes every control.

    Without a requester it reads as the binding's principal; if `unfiltered`, the whole tenant.
    """

    binding: Binding
    unfiltered: bool = False

    @property
    def tenant(self) -> str:
        """The tenant whose items these are."""
        return self.binding.tenant

    async def stage(self, items: Iterable[Item], *, restored: Sequence[Item] | None = None) -> int:
        """Make documents a part of the next version; return the number of new ones.

        `restored` is what a restore read: none of it that has a tombstone comes back.
        """
        return int(await self._invoke("stage", {"items": items, **_restored(restored)}))

    async def remember(
        self,
        items: Iterable[Item],
        *,
        budget: Budget,
        now: str,
        while_there: Sequence[str] = (),
        restored: Sequence[Item] | None = None,
    ) -> Remembered:
        """Write episodic items within the budget while `while_there` are active; `restored` as in `stage`."""
        arguments = {
            "items": items, "budget": budget, "now": now, "while_there": while_there, **_restored(restored)
        }  # fmt: skip
        done: Remembered = await self._invoke("remember", arguments)
        return done

    def may_search(self, query: Query) -> bool:
        """Return whether the policies let this search pass, as far as they are known here."""
        binding = self.binding
        if binding.permits is None:
            return True
        return binding.permits(binding.make_call("memory", "search", binding.name, {"query": query}))

    async def search(self, query: Query) -> Hits:
        """Return at most `k` hits that the requester may see, best first, with the spec's class of data."""
        call = self.binding.make_call("memory", "search", self.binding.name, {"query": query})
        found: list[Hit] = await _answer(self.binding, call)
        if name := self.binding.spec.data_class:
            found = [dataclasses.replace(hit, data_class=name) for hit in found]
        return Hits(found, degraded=bool(call.span.facts.get("degraded")))

    async def _invoke(self, verb: str, arguments: dict[str, Any]) -> Any:
        binding, payload = self.binding, dict(arguments)
        for name in ("items", "ids", "while_there"):  # a list, because attempts may repeat
            if payload.get(name) is not None:
                payload[name] = list(payload[name])
        if "requester" in payload and payload["requester"] is None and not self.unfiltered:
            payload["requester"] = Requester.of(binding.context.principal, now=binding.now())
        return await _answer(binding, binding.make_call("memory", verb, binding.name, payload))


def _restored(items: Sequence[Item] | None) -> JSON:
    return {} if items is None else {"restored": items}


async def embed(binding: Binding, texts: Sequence[str]) -> list[tuple[float, ...]]:
    """Return one L2-normalised vector for each text, in order, by the memory's own embedding."""
    card = binding.spec.embedding
    vectors: list[tuple[float, ...]] = []
    for start in range(0, len(texts), TEXTS):
        some = list(texts[start : start + TEXTS])
        payload = {"model": card, "input": some, "encoding_format": "float"}
        wire = await _answer(binding, binding.make_call("model", "embed", card, payload))
        rows = sorted(wire["data"], key=lambda row: int(row["index"]))
        vectors += [_normal(row["embedding"]) for row in rows]
    if len(vectors) != len(texts):
        raise UnavailableError(
            f"{card!r} returned {len(vectors)} vectors for {len(texts)} texts",
            hint="run it again; if the error remains, the endpoint is not OpenAI-compatible",
        )
    return vectors


def indexed(item: Item) -> str:
    """Return the text to embed, with the title, because a paragraph alone often lacks its topic."""
    return f"{item.title}\n{item.text}" if item.title else item.text


async def _answer(binding: Binding, call: Call) -> Any:
    """Return the data of the last event of `call`; NotFoundError without an event."""
    async with aclosing(binding.handler(call)) as events:  # type: ignore[type-var]
        answers = [event.data async for event in events]
    if not answers:
        raise NotFoundError(f"{call.name} of {call.target!r} returned no answer")
    return answers[-1]


def _normal(vector: Sequence[float]) -> tuple[float, ...]:
    """Return `vector` at length 1, in float32; a zero vector stays zero."""
    import numpy as np

    exact = np.asarray(vector, dtype=np.float64)
    length = float(np.sqrt((exact * exact).sum())) or 1.0
    return tuple((exact / length).astype(np.float32).tolist())
