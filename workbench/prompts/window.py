"""Short-term context: what a model is told in one request, within a budget of tokens.

A window is no store. It lives as long as the object and cannot be pickled; only what a model is asked
to count or to summarise is recorded, as every call to a model is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NoReturn, Protocol

from workbench import _sync
from workbench.errors import ConfigError, RefusedError, nearest
from workbench.prompts.entries import GIVEN_UP, Entry, Section
from workbench.prompts.report import Filled, Report
from workbench.prompts.tokens import ESTIMATE, Counter, Wire, of_model, offered
from workbench.prompts.trimming import Fitting, Measure, Summarise, Summary
from workbench.types import Hit, Reply, Role

#: Room kept for a summary, as a part of the budget.
_SUMMARY = 8
_ASKED = "Summarise the conversation above: what was asked, what was answered, what is still open."


class Named(Protocol):
    """A model card."""

    @property
    def name(self) -> str:
        """The card's name."""


class Asked(Protocol):
    """The model that a window is for: `ws.model()`."""

    @property
    def card(self) -> Named:
        """Which model it is."""

    async def chat_async(self, asked: Sequence[Wire], **parameters: Any) -> Reply:
        """The model's whole answer to chat turns."""

    async def count_tokens_async(self, asked: Sequence[Wire], **parameters: Any) -> int:
        """Tokens that chat turns take; RefusedError when the model does not count."""


class Window:
    """System text, history, passages and notes of one tenant, given to a model within `budget` tokens.

    When it is too much, notes go first (the oldest first), then passages (the lowest score first),
    then history: summarised once by `summarise` if there is one, else the oldest exchange first. System
    text, what is pinned and the last exchange never go. Nothing is cut: an entry stays whole or
    goes. `shares` are the most a section may take, as parts of the budget: {"passages": 0.5}.
    `summary_tokens` is the room left for a summary with its heading (default: an eighth of the budget).
    A `counter` whose server does not count gives way to the estimate at the first filling.
    """

    def __init__(
        self,
        *,
        tenant: str,
        budget: int,
        counter: Counter = ESTIMATE,
        summarise: Summarise | None = None,
        shares: Mapping[str, float] | None = None,
        summary_tokens: int | None = None,
    ) -> None:
        _check(budget, shares or {})
        self.tenant, self.budget, self.counter = tenant, budget, counter
        self.summary_tokens = budget // _SUMMARY if summary_tokens is None else summary_tokens
        self._shares = {section: shares[section] for section in GIVEN_UP if shares and section in shares}
        self._summary = Summary(summarise, room=self.summary_tokens)
        self._measure: Measure | None = None
        self._entries: list[Entry] = []
        self._made = 0
        self._lock = asyncio.Lock()

    @classmethod
    def of_model(
        cls, model: Asked, *, tenant: str, budget: int, shares: Mapping[str, float] | None = None
    ) -> Window:
        """A window whose tokens are counted, and whose summaries are made, by a model."""

        async def summarise(turns: Sequence[Wire]) -> str:
            asked = [*turns, {"role": "user", "content": _ASKED}]
            return (await model.chat_async(asked, max_tokens=made.summary_tokens)).text

        counter = of_model(model.card.name, model.count_tokens_async)
        made = cls(tenant=tenant, budget=budget, counter=counter, summarise=summarise, shares=shares)
        return made

    def __repr__(self) -> str:
        return f"Window(tenant={self.tenant!r}, budget={self.budget}, entries={len(self._entries)})"

    def __reduce__(self) -> NoReturn:
        raise ConfigError("a window is never stored", hint="keep what should last in a memory: ws.memory(…)")

    # -- what goes in -----------------------------------------------------------------------

    def system(self, text: str) -> Window:
        """Add instructions of ours; they never go."""
        return self._put("system", "system", text, pinned=True)

    def say(self, role: Literal["user", "assistant"], text: str, *, pinned: bool = False) -> Window:
        """Add a turn of the conversation. A pinned one stays, with the exchange that it belongs to."""
        if role not in {"user", "assistant"}:
            raise ConfigError(f"{role!r} says nothing in a conversation", hint='window.say("user", "…")')
        return self._put("history", role, text, pinned=pinned)

    def show(self, hits: Iterable[Hit], *, pinned: bool = False) -> Window:
        """Add passages found; one that is there already is replaced, and stays pinned if it was.

        RefusedError for another tenant's.
        """
        given = list(hits)
        if any(hit.tenant != self.tenant for hit in given):
            raise RefusedError(
                "a passage belongs to another tenant than the window",
                hint="search with the workspace that made the window",
            )
        for hit in given:
            same = [e for e in self._entries if e.hit and (e.hit.memory, e.hit.id) == (hit.memory, hit.id)]
            self._entries = [e for e in self._entries if e not in same]
            stays = pinned or any(entry.pinned for entry in same)
            self._put("passages", "user", hit.text, pinned=stays, hit=hit)
        return self

    def note(self, text: str, *, pinned: bool = False) -> Window:
        """Add to the scratch section: what was found out while working, such as a tool's result."""
        return self._put("scratch", "user", text, pinned=pinned)

    def clear(self, section: Literal["passages", "scratch"]) -> Window:
        """Take out what is not pinned of a section, before the next question."""
        if section not in {"passages", "scratch"}:
            raise ConfigError(f"{section!r} is not cleared", hint='window.clear("passages"), or "scratch"')
        self._entries = [e for e in self._entries if e.section != section or e.pinned]
        return self

    # -- what comes out ---------------------------------------------------------------------

    def fill(self) -> Filled:
        """What to ask a model with, within the budget; ConfigError when what must stay is too much.

        The same entries give the same turns. Counting and making a summary ask the model.
        """
        return _sync.run(self._fill())

    async def fill_async(self) -> Filled:
        """The async twin of `fill`."""
        return await _sync.run_async(self._fill())

    def messages(self) -> list[Wire]:
        """The chat turns of `fill` as wire JSON."""
        return [dict(turn.wire()) for turn in self.fill().messages]

    async def messages_async(self) -> list[Wire]:
        """The async twin of `messages`."""
        return [dict(turn.wire()) for turn in (await self.fill_async()).messages]

    def report(self) -> Report:
        """What is kept, summarised and evicted, and why: the report of `fill`."""
        return self.fill().report

    async def report_async(self) -> Report:
        """The async twin of `report`."""
        return (await self.fill_async()).report

    # -- inside -----------------------------------------------------------------------------

    def _put(
        self, section: Section, role: Role, text: str, *, pinned: bool, hit: Hit | None = None
    ) -> Window:
        if not text.strip():
            raise ConfigError(f"an empty text was put into the window's {section}", hint="leave it out")
        self._made += 1
        entry = Entry(number=self._made, section=section, role=role, text=text, pinned=pinned, hit=hit)
        self._entries.append(entry)
        return self

    async def _fill(self) -> Filled:
        async with self._lock:  # two at once would ask twice for a summary
            if self._measure is None:
                self.counter = await offered(self.counter)
                self._measure = Measure(self.counter)
            fitting = Fitting(list(self._entries), measure=self._measure, summary=self._summary)
            for section, share in self._shares.items():
                most = int(share * self.budget)
                await fitting.reduce((section,), most, f"over its share of {most} tokens")
            await fitting.reduce_whole(GIVEN_UP, self.budget, f"over the budget of {self.budget} tokens")
            return await fitting.done(self.budget)


def _check(budget: int, shares: Mapping[str, float]) -> None:
    """ConfigError unless the budget is a number of tokens, and each share a part of it for a section."""
    if budget < 1:
        raise ConfigError(f"a window needs a budget of 1 token or more, found {budget}")
    for section, share in shares.items():
        if section not in GIVEN_UP:
            raise ConfigError(
                f"no section {section!r} has a share ({nearest(section, GIVEN_UP)})",
                hint='ws.window(budget=…, shares={"passages": 0.5})',
            )
        if not 0 < share <= 1:
            raise ConfigError(
                f"the share of {section!r} must be above 0 and at most 1, found {share}",
                hint=f"ws.window(budget=…, shares={{{section!r}: 0.5}})",
            )
