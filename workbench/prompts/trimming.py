"""Making a window's entries fit: what goes, what is summarised, and the account of both."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Sequence

from workbench.errors import ConfigError, ReplayMissError, WorkbenchError
from workbench.prompts.entries import Entry, Section, best_first, can_go, rendered
from workbench.prompts.report import Fate, Filled, Line, Report
from workbench.prompts.tokens import Counter, Wire
from workbench.types import Message

#: Given turns as wire JSON, a summary of them. Async, or a plain function, which runs in a thread.
Summarise = Callable[[Sequence[Wire]], str | Awaitable[str]]
Parts = Sequence[tuple[Entry, ...]]
Fits = Callable[[Sequence[Entry], int], Awaitable[bool]]
_SHOWN: tuple[Section, ...] = ("system", "history", "passages", "scratch")


class Measure:
    """Tokens of entries, each counted once."""

    def __init__(self, counter: Counter) -> None:
        self.counter = counter
        self._alone: dict[int, int] = {}

    async def whole(self, entries: Sequence[Entry]) -> int:
        """Tokens of the request that these entries make."""
        return await self.counter(_wire(rendered(entries)))

    async def alone(self, entry: Entry) -> int:
        """Tokens of an entry's text, without what its role, headings and any request take."""
        if entry.number not in self._alone:
            empty = await self.counter([{"role": "user", "content": ""}])
            full = await self.counter([{"role": "user", "content": entry.text}])
            self._alone[entry.number] = max(0, full - empty)
        return self._alone[entry.number]


class Summary:
    """The one summary of a window's older history: what it covers, or why the last attempt failed."""

    def __init__(self, function: Summarise | None, *, room: int) -> None:
        self.function, self.room = function, room
        self.entry: Entry | None = None
        self.covered: dict[int, str] = {}
        self.failure = ""
        self._tried: list[int] = []
        self._made = 0

    async def make(self, entries: Sequence[Entry]) -> Entry | None:
        """A summary in place of `entries`, not accepted yet; None when it fails or failed before."""
        numbers = [entry.number for entry in entries]
        if self.function is None or numbers == self._tried:
            return None
        self._tried, self.failure = numbers, ""
        try:
            made = await asyncio.to_thread(self.function, _wire(rendered(entries)))
            text = await made if inspect.isawaitable(made) else made
        except ReplayMissError:  # a recorded window is filled as it was, or not at all
            raise
        except WorkbenchError as error:
            self.failure = f"its summary failed ({type(error).__name__})"
            return None
        if not text.strip():
            self.failure = "its summary was empty"
            return None
        self._made += 1
        turns = sum(entry.summary_of or 1 for entry in entries)
        return Entry(number=-self._made, section="history", role="user", text=text, summary_of=turns)

    def accept(self, entry: Entry, entries: Iterable[Entry], why: str) -> None:
        """From now on `entry` stands for `entries`."""
        self.entry, self._tried = entry, []
        self.covered |= {one.number: why for one in entries if not one.summary_of}


class Fitting:
    """One filling of a window: entries go until it fits."""

    def __init__(self, entries: Sequence[Entry], *, measure: Measure, summary: Summary) -> None:
        self._all = entries
        self._measure, self._summary = measure, summary
        self._evicted: dict[int, str] = {}
        self._kept = [entry for entry in entries if entry.number not in summary.covered]
        if summary.entry is not None:
            self._kept.insert(0, summary.entry)
        self._may_ask = True

    async def reduce(self, sections: Sequence[Section], limit: int, why: str) -> None:
        """Give up entries of `sections`, in their order, until these alone take at most `limit` tokens."""

        async def fits(entries: Sequence[Entry], spare: int) -> bool:
            sizes = [await self._measure.alone(entry) for entry in entries if entry.section in sections]
            return sum(sizes) + spare <= limit

        await self._reduce(sections, fits, why)

    async def reduce_whole(self, sections: Sequence[Section], budget: int, why: str) -> None:
        """Give up entries of `sections`, in their order, until the request takes at most `budget` tokens."""

        async def fits(entries: Sequence[Entry], spare: int) -> bool:
            return await self._measure.whole(entries) + spare <= budget

        await self._reduce(sections, fits, why)

    async def done(self, budget: int) -> Filled:
        """The turns and their account; ConfigError when what must stay is above the budget."""
        used = await self._measure.whole(self._kept)
        if used > budget:
            raise ConfigError(
                f"a window of {budget} tokens is too small for what must stay: {used} are needed",
                hint=f"ws.window(budget={used}), or pin less",
            )
        return Filled(
            messages=tuple(rendered(self._kept)),
            passages=tuple(entry.hit for entry in best_first(self._kept) if entry.hit is not None),
            report=Report(
                budget=budget, used=used, counter=str(self._measure.counter), lines=await self._lines()
            ),
        )

    async def _reduce(self, sections: Sequence[Section], fits: Fits, why: str) -> None:
        light = [part for name in sections if name != "history" for part in can_go(self._kept, name)]
        if await self._evict(light, fits, why) or "history" not in sections:
            return
        old = can_go(self._kept, "history")
        if not await self._summarised(old, fits, why):
            failed = f"; {self._summary.failure}" if self._summary.failure else ""
            await self._evict(old, fits, why + failed)

    async def _evict(self, parts: Parts, fits: Fits, why: str) -> bool:
        """Evict as few of `parts` from the first as it takes to fit; all of them, and False, when none do."""
        n = await _fewest(len(parts), lambda n: fits(_without(self._kept, parts[:n]), 0))
        gone = parts if n is None else parts[:n]
        self._evicted |= {entry.number: why for part in gone for entry in part}
        self._kept = _without(self._kept, gone)
        return n is not None

    async def _summarised(self, old: Parts, fits: Fits, why: str) -> bool:
        """Put one summary in place of as few of the oldest exchanges as it takes; whether that fitted."""
        if self._summary.function is None or not self._may_ask:
            return False
        room = self._summary.room
        n = await _fewest(len(old), lambda n: fits(_without(self._kept, old[:n]), room if n else 0))
        if not n:
            return n == 0
        self._may_ask = False
        covered = [entry for part in old[:n] for entry in part]
        made = await self._summary.make(covered)
        if made is None:
            return False
        kept = [made, *_without(self._kept, old[:n])]
        if not await fits(kept, 0):
            self._summary.failure = "its summary did not fit"
            return False
        self._summary.accept(made, covered, why)
        self._kept = kept
        return True

    async def _lines(self) -> tuple[Line, ...]:
        """One line for each entry there ever was, section by section."""
        summary = [self._summary.entry] if self._summary.entry is not None else []
        ordered = sorted([*summary, *self._all], key=lambda entry: _SHOWN.index(entry.section))
        return tuple([await self._line(entry) for entry in ordered])

    async def _line(self, entry: Entry) -> Line:
        tokens, number = await self._measure.alone(entry), entry.number
        fate: Fate
        if number in self._summary.covered:
            fate, why = "summarised", self._summary.covered[number]
        elif number in self._evicted:
            fate, why = "evicted", self._evicted[number]
        else:
            fate, why = "kept", "pinned" if entry.pinned else ""
        return Line(section=entry.section, what=entry.label, tokens=tokens, fate=fate, why=why)


def _wire(messages: Iterable[Message]) -> list[Wire]:
    return [dict(turn.wire()) for turn in messages]


def _without(entries: Iterable[Entry], parts: Parts) -> list[Entry]:
    gone = {entry.number for part in parts for entry in part}
    return [entry for entry in entries if entry.number not in gone]


async def _fewest(most: int, fits: Callable[[int], Awaitable[bool]]) -> int | None:
    """The least n of 0 to `most` at which it fits, found by halving; None when it does not even at `most`."""
    if await fits(0):
        return 0
    if not most or not await fits(most):
        return None
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        if await fits(middle):
            high = middle
        else:
            low = middle
    return high
