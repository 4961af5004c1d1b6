"""A window: system text, conversation, passages and notes, given to a model within a budget of tokens."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Literal, NoReturn, Protocol

from workbench import _sync, files
from workbench.errors import ConfigError, RefusedError, ReplayMissError, WorkbenchError
from workbench.prompts.entries import SECTIONS, WindowEntry, best_first, evictable, render
from workbench.prompts.report import Fate, FilledWindow, WindowLine, WindowReport
from workbench.prompts.tokens import ESTIMATE, Counter, Wire, of_model, usable
from workbench.types import Hit, Reply

#: Takes turns as wire JSON and returns their summary. A plain function runs in a thread.
Summarise = Callable[[Sequence[Wire]], str | Awaitable[str]]
_REQUEST = "Summarise the conversation above: what was asked, what was answered, what is still open."


class WindowModel(Protocol):
    """The model that a window counts and summarises with: `ws.model()`."""

    @property
    def card(self) -> Any:
        """The model's card, of which the window reads the name."""

    async def chat_async(self, asked: Sequence[Wire], **parameters: Any) -> Reply:
        """Return the model's answer to chat turns."""

    async def count_tokens_async(self, asked: Sequence[Wire], **parameters: Any) -> int:
        """Return the tokens of chat turns; RefusedError when the model does not count."""


class Window:
    """System text, conversation, passages and notes of one tenant within `budget` tokens.

    Above the budget notes go first (the oldest first), then passages (the lowest score first), then
    history: a summary by `summarise` replaces the oldest exchanges, or they go. System text, pinned
    entries and the last exchange stay. An entry stays whole or goes.
    """

    def __init__(
        self, *, tenant: str, budget: int, counter: Counter = ESTIMATE, summarise: Summarise | None = None
    ) -> None:
        if budget < 1:
            raise ConfigError(f"a window's budget is 1 token or more, not {budget}", hint="budget=1200")
        self.tenant, self.budget, self.counter = tenant, budget, counter
        self._summarise = summarise
        self._entries: list[WindowEntry] = []
        self._added = 0
        self._lock = asyncio.Lock()

    @classmethod
    def of_model(cls, model: WindowModel, *, tenant: str, budget: int) -> Window:
        """Return a window that counts and summarises with `model`, in an eighth of the budget."""

        async def summarise(turns: Sequence[Wire]) -> str:
            request = [*turns, {"role": "user", "content": _REQUEST}]
            return (await model.chat_async(request, max_tokens=window.budget // 8)).text

        counter = of_model(model.card.name, model.count_tokens_async)
        window = cls(tenant=tenant, budget=budget, counter=counter, summarise=summarise)
        return window

    def __repr__(self) -> str:
        return f"Window(tenant={self.tenant!r}, budget={self.budget}, entries={len(self._entries)})"

    def __reduce__(self) -> NoReturn:
        raise ConfigError("a window cannot be stored", hint="store what should last in ws.memory(…)")

    def system(self, text: str) -> Window:
        """Add an instruction; it stays."""
        return self._add(text, section="system", role="system", pinned=True)

    def say(self, role: Literal["user", "assistant"], text: str, *, pinned: bool = False) -> Window:
        """Add a turn of the conversation. A pinned turn keeps its whole exchange."""
        if role not in {"user", "assistant"}:
            raise ConfigError(f"{role!r} is no role of a conversation", hint='window.say("user", "…")')
        return self._add(text, section="history", role=role, pinned=pinned)

    def show(self, hits: Iterable[Hit], *, pinned: bool = False) -> Window:
        """Add passages; one that is added again replaces the earlier one and keeps its pin.

        RefusedError for a passage of another tenant; then none is added.
        """
        hits = list(hits)
        if any(hit.tenant != self.tenant for hit in hits):
            raise RefusedError(
                f"a passage is of another tenant than the window ({self.tenant})",
                hint="search with the workspace that made the window",
            )
        for hit in hits:
            same = [e for e in self._entries if e.hit and (e.hit.memory, e.hit.id) == (hit.memory, hit.id)]
            self._entries = _without(self._entries, same)
            stays = pinned or any(entry.pinned for entry in same)
            self._add(hit.text, section="passages", role="user", pinned=stays, hit=hit)
        return self

    def note(self, text: str, *, pinned: bool = False) -> Window:
        """Add an intermediate result, such as the result of a tool."""
        return self._add(text, section="scratch", role="user", pinned=pinned)

    def _add(self, text: str, **fields: Any) -> Window:
        if not text.strip():
            raise ConfigError(f"an empty text cannot be added to {fields['section']}", hint="leave it out")
        self._added += 1
        self._entries.append(WindowEntry(number=self._added, text=text, **fields))
        return self

    async def _fill(self) -> FilledWindow:
        """Return the request within the budget, with its report; ConfigError when what must stay exceeds it.

        Counting and summarising call the model. A summary replaces its turns in the window.
        """
        async with self._lock:  # two fillings at once would ask for two summaries
            self.counter = await usable(self.counter)
            before, failure = list(self._entries), ""
            kept = await self._evict(self._entries, ("scratch", "passages"))
            if self._summarise is not None and not await self._fits(kept):
                failure = await self._replace_oldest(self._summarise, kept)
                kept = await self._evict(self._entries, ("scratch", "passages"))
            kept = await self._evict(kept, ("history",))
            used = await self.counter(_wire(kept))
            if used > self.budget:
                raise ConfigError(
                    f"what must stay takes {used} tokens, above the window's budget of {self.budget}",
                    hint=f"ws.window(budget={used}), or pin less",
                )
            lines, messages = self._lines(before, kept, failure), tuple(render(kept))
            return FilledWindow(
                prompt="window",
                digest=files.digest([turn.wire() for turn in messages]),
                messages=messages,
                passages=tuple(entry.hit for entry in best_first(kept) if entry.hit is not None),
                report=WindowReport(budget=self.budget, used=used, counter=str(self.counter), lines=lines),
            )

    fill, fill_async = _sync.twins(_fill)

    async def _fits(self, entries: Sequence[WindowEntry], spare: int = 0) -> bool:
        return await self.counter(_wire(entries)) + spare <= self.budget

    async def _evict(
        self, entries: Sequence[WindowEntry], sections: Sequence[str], spare: int = 0
    ) -> list[WindowEntry]:
        """Evict as little of the sections, in their order, as makes the rest fit; all of it if none does."""
        parts = [part for section in sections for part in evictable(entries, section)]
        if await self._fits(entries, spare):
            return list(entries)
        low, high = 0, len(parts)
        while high - low > 1:
            middle = (low + high) // 2
            fits = await self._fits(_without(entries, *parts[:middle]), spare)
            low, high = (low, middle) if fits else (middle, high)
        return _without(entries, *parts[:high])

    async def _replace_oldest(self, summarise: Summarise, kept: Sequence[WindowEntry]) -> str:
        """Replace as few of the oldest exchanges as possible by a summary; a text says why that failed."""
        room = self.budget // 8
        rest = await self._evict(kept, ("history",), room)
        turns = _without(kept, rest)
        if not turns or not await self._fits(rest, room):
            return "no summary fits"
        try:
            made = await asyncio.to_thread(summarise, _wire(turns))
            text = await made if inspect.isawaitable(made) else made
        except ReplayMissError:  # a recorded window is filled as it was, or not at all
            raise
        except WorkbenchError as error:
            return f"its summary failed ({type(error).__name__})"
        total = sum(entry.summary_of or 1 for entry in turns)
        summary = WindowEntry(number=0, section="history", role="user", text=text, summary_of=total)
        if not text.strip() or not await self._fits([summary, *rest]):
            return "its summary did not fit" if text.strip() else "its summary was empty"
        self._entries = [summary, *_without(self._entries, turns)]
        return ""

    def _lines(
        self, before: Sequence[WindowEntry], kept: Sequence[WindowEntry], failure: str
    ) -> tuple[WindowLine, ...]:
        over = f"over the budget of {self.budget} tokens" + (f"; {failure}" if failure else "")
        lines = []
        entries = [*self._entries, *(entry for entry in before if entry not in self._entries)]
        for entry in sorted(entries, key=lambda entry: (SECTIONS.index(entry.section), entry.number)):
            fate: Fate = "kept" if entry in kept else "evicted" if entry in self._entries else "summarised"
            why = over if fate != "kept" else "pinned" if entry.pinned else ""
            lines.append(WindowLine(section=entry.section, what=entry.label, fate=fate, why=why))
        return tuple(lines)


def _wire(entries: Sequence[WindowEntry]) -> list[Wire]:
    return [dict(turn.wire()) for turn in render(entries)]


def _without(entries: Sequence[WindowEntry], *parts: Sequence[WindowEntry]) -> list[WindowEntry]:
    gone = {entry.number for part in parts for entry in part}
    return [entry for entry in entries if entry.number not in gone]
