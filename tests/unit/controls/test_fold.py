"""The fold keeps order, cancellation and context variables, and closes all that it opened."""

import asyncio
import contextvars
import dataclasses
import gc
from contextlib import aclosing
from itertools import pairwise

import pytest
from calls import chat
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.controls.observe import POSITION, Observe
from workbench.controls.position import OPERATIONS, Position
from workbench.controls.stack import around, fold, ordered
from workbench.records.log import Lines, read_records
from workbench.types import Event

WHO = contextvars.ContextVar("who", default="nobody")
NAMES = ["policy", "output", "privacy", "moderation", "replay", "retry", "rate_limit", "breaker", "budget"]
#: Observe, which is always there, and one control more than will be built.
POSITIONS = ordered(
    [
        dataclasses.replace(POSITION, before=(NAMES[0],)),
        *(Position(name=a, operations=OPERATIONS, before=(b,)) for a, b in pairwise([*NAMES, "last"])),
        Position(name="last", operations=OPERATIONS),
    ]
)


class Broken(Exception):
    pass


class Trial:
    """One random stack over one random leaf, and what it saw."""

    def __init__(self, kinds, events, ending):
        self.kinds, self.count, self.ending = kinds, events, ending
        self.entered, self.left, self.seen = [], [], set()
        self.opened = self.closed = 0

    async def leaf(self, _call):
        self.opened += 1
        try:
            for n in range(self.count):
                self.seen.add((asyncio.current_task(), WHO.get()))
                await asyncio.sleep(0)
                yield Event(data=n)
            if self.ending == "fails":
                raise Broken
            if self.ending == "hangs":
                await asyncio.sleep(60)
        finally:
            self.closed += 1
            if self.ending == "fails to close":
                raise Broken

    def control(self, name, kind):
        async def tidy(call, proceed):
            async with aclosing(proceed(call)) as events:
                async for event in events:
                    yield event

        async def careless(call, proceed):
            async for event in proceed(call):
                yield event

        async def two_at_once(call, proceed):
            first, second = proceed(call), proceed(call)
            await anext(first, None)
            async for event in second:
                yield event

        async def answers_itself(_call, _proceed):
            yield Event(data=-1)

        async def stops_early(call, proceed):
            async for event in proceed(call):
                yield event
                return

        async def gathers(call, proceed):
            for event in [event async for event in proceed(call)]:
                yield event

        async def never_reads(call, proceed):
            proceed(call)
            return
            yield

        inner = locals()[kind]

        async def noted(call, proceed):
            self.entered.append(name)
            try:
                async with aclosing(inner(call, proceed)) as events:
                    async for event in events:
                        yield event
            finally:
                self.left.append(name)

        return noted

    def handler(self, path):
        controls = {name: self.control(name, kind) for name, kind in self.kinds.items()}
        return fold({"observe": Observe(Lines(path)), **controls}, self.leaf, positions=POSITIONS)


KINDS = ("tidy", "careless", "two_at_once", "answers_itself", "stops_early", "gathers", "never_reads")
STACKS = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(KINDS), max_size=5)
ENDINGS = st.sampled_from(["ends", "fails", "hangs", "fails to close"])


async def abandon(trial, path, after):
    """Read `after` events in this task, then leave."""
    async with aclosing(trial.handler(path)(chat())) as events:
        for _ in range(after):
            if await anext(events, None) is None:
                return


async def forget(trial, path, after):
    """As above, but leave the closing to the garbage collector."""
    stream = trial.handler(path)(chat())
    for _ in range(after):
        if await anext(stream, None) is None:
            break
    del stream
    gc.collect()
    for _ in range(50):
        await asyncio.sleep(0)


async def cancel(trial, path, after):
    """Read all in a task that is cancelled after some turns of the loop."""
    task = asyncio.create_task(abandon(trial, path, 1000))
    try:
        for _ in range(after):
            await asyncio.sleep(0)
    finally:  # on a busy machine the time of `main` may be over before
        task.cancel()
        await asyncio.wait([task])
    await task


LEAVINGS = st.sampled_from([abandon, forget, cancel])


@settings(max_examples=150)
@given(STACKS, st.integers(0, 4), ENDINGS, LEAVINGS, st.integers(0, 8))
def test_whatever_happens_every_stream_is_closed_and_there_is_one_record(
    tmp_path_factory, kinds, events, ending, leaving, after
):
    path = tmp_path_factory.mktemp("fold", numbered=True) / "calls.jsonl"
    trial = Trial(kinds, events, ending)

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # a broken leaf, forgotten
        WHO.set("ada")
        try:
            async with asyncio.timeout(0.01 if ending == "hangs" else 30):
                await leaving(trial, path, after)
        except (Broken, TimeoutError, asyncio.CancelledError):
            pass
        assert trial.opened == trial.closed, "a stream was left open"
        assert sorted(trial.entered) == sorted(trial.left)

    asyncio.run(main())
    begun = path.exists()  # observe opens its log first
    assert begun or not after or leaving is cancel
    assert len(read_records(path)) == int(begun)
    assert [name for name in NAMES if name in trial.entered] == list(dict.fromkeys(trial.entered))
    assert len({task for task, _ in trial.seen}) <= 1, "the call was moved to another task"
    assert {who for _, who in trial.seen} <= {"ada"}


@given(st.sets(st.sampled_from(NAMES)))
def test_controls_run_in_order_whatever_order_they_are_given_in(tmp_path_factory, names):
    path = tmp_path_factory.getbasetemp() / "order.jsonl"
    trial = Trial(dict.fromkeys(sorted(names, reverse=True), "tidy"), 1, "ends")
    asyncio.run(abandon(trial, path, 5))
    assert trial.entered == [name for name in NAMES if name in names]
    assert trial.left == trial.entered[::-1]


def test_when_closing_one_stream_fails_the_others_are_closed_too():
    closed = []

    async def leaf(call):
        try:
            yield Event(data=0)
        finally:
            closed.append(call.payload["n"])
            raise Broken

    async def both(_call, proceed):
        streams = [proceed(chat(n=n)) for n in range(3)]
        for stream in streams:
            yield await anext(stream)

    async def leave():
        async with aclosing(around(both, leaf)(chat())) as events:
            for _ in range(3):
                await anext(events)

    with pytest.raises(Broken):
        asyncio.run(leave())
    assert sorted(closed) == [0, 1, 2]


def test_a_control_without_a_position_is_refused():
    with pytest.raises(ValueError, match="caching"):
        fold({"caching": None}, None)
