"""Sync verbs over the one background loop: from scripts, threads, and inside a running loop."""

import asyncio
import contextvars
import gc
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path

import pytest

from workbench import _sync
from workbench.errors import WorkbenchError

ROOT = Path(__file__).resolve().parents[3]
WHO = contextvars.ContextVar("who", default="nobody")


async def where():
    await asyncio.sleep(0)
    return threading.current_thread().name, WHO.get()


class Stream:
    """Counts up; remembers the tasks it ran in and how it ended."""

    def __init__(self, count=3, error=None):
        self.count, self.error = count, error
        self.tasks, self.who, self.given = set(), set(), 0
        self.closed = threading.Event()

    async def __call__(self):
        try:
            async with asyncio.timeout(60):  # belongs to one task, from its beginning to its end
                for n in range(self.count):
                    self.tasks.add(asyncio.current_task())
                    self.who.add(WHO.get())
                    self.given += 1
                    await asyncio.sleep(0)
                    yield n
            if self.error:
                raise self.error
        finally:
            self.closed.set()


def test_a_script_a_thread_and_a_running_loop_meet_on_one_loop():
    async def as_in_a_notebook_s_cell():
        return _sync.run(where())

    with ThreadPoolExecutor(4) as pool:
        names = {name for name, _ in pool.map(lambda _: _sync.run(where()), range(20))}
    names |= {_sync.run(where())[0], asyncio.run(as_in_a_notebook_s_cell())[0]}
    assert names == {"workbench-loop"}


def test_context_variables_cross():
    token = WHO.set("ada")
    stream = Stream()
    try:
        assert _sync.run(where())[1] == "ada"
        assert asyncio.run(_sync.run_async(where()))[1] == "ada"
        list(_sync.iterate(stream()))
    finally:
        WHO.reset(token)
    assert stream.who == {"ada"}


def test_threads_do_not_share_context_variables():
    def each(name):
        WHO.set(name)
        return _sync.run(where())[1]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(each, map(str, range(50)))) == list(map(str, range(50)))


def test_an_error_is_raised_as_it_is():
    async def fails():
        raise KeyError("k")

    with pytest.raises(KeyError):
        _sync.run(fails())
    with pytest.raises(KeyError):
        asyncio.run(_sync.run_async(fails()))
    for read in (lambda s: list(_sync.iterate(s)), lambda s: asyncio.run(gathered(s))):
        with pytest.raises(KeyError):
            read(Stream(error=KeyError("k"))())


async def gathered(stream):
    async with aclosing(_sync.iterate_async(stream)) as events:
        return [event async for event in events]


def test_a_sync_verb_on_its_own_loop_is_refused_and_names_the_way_out():
    async def inside():
        return _sync.run(where())

    async def streaming():
        return list(_sync.iterate(Stream()()))

    for coroutine in (inside, streaming):
        with pytest.raises(WorkbenchError, match="own loop") as caught:
            _sync.run(coroutine())
        assert "_async" in caught.value.hint


@pytest.mark.parametrize("read", [lambda s: list(_sync.iterate(s)), lambda s: asyncio.run(gathered(s))])
def test_a_stream_runs_whole_in_one_task(read):
    stream = Stream(100)
    assert read(stream()) == list(range(100))
    assert len(stream.tasks) == 1 and stream.closed.is_set()


def test_a_sync_stream_that_is_left_is_closed_and_was_not_read_far_ahead():
    stream = Stream(1000)
    for _ in _sync.iterate(stream()):
        break
    assert stream.closed.wait(2) and stream.given < 20


def test_an_async_stream_that_is_left_is_closed():
    stream = Stream(1000)

    async def leave():
        async with aclosing(_sync.iterate_async(stream())) as events:
            await anext(events)
        assert stream.closed.is_set()

    asyncio.run(leave())


def test_a_forgotten_async_stream_is_closed():
    stream = Stream(1000)

    async def forget():
        await anext(_sync.iterate_async(stream()))
        gc.collect()

    asyncio.run(forget())
    assert stream.closed.wait(2)


def test_cancelling_the_waiter_cancels_the_call():
    begun, ended = threading.Event(), threading.Event()

    async def long():
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    async def main():
        task = asyncio.create_task(_sync.run_async(long()))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert ended.wait(2)


INTERRUPTED = """
import asyncio, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job may inherit that it is ignored
from workbench import _sync
async def call():
    print("begun", flush=True)
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        print("cancelled", flush=True)
        raise
async def stream():
    try:
        yield await call()
    finally:
        print("closed", flush=True)
try:
    {read}
except KeyboardInterrupt:
    print("interrupted", flush=True)
async def next_one():
    return "next"
print(_sync.run(next_one()), flush=True)
"""


@pytest.mark.parametrize(
    ("read", "said"),
    [
        ("_sync.run(call())", ["cancelled", "interrupted", "next"]),
        ("list(_sync.iterate(stream()))", ["cancelled", "closed", "interrupted", "next"]),
    ],
    ids=["call", "stream"],
)
def test_an_interrupt_cancels_the_call_and_the_next_one_works(read, said):
    program = [sys.executable, "-c", INTERRUPTED.format(read=read)]
    with subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "begun\n"
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=10)
    assert output.split() == said and process.returncode == 0 and time.monotonic() - began < 4


@pytest.mark.parametrize("is_posted", [True, False])
def test_an_interrupt_while_a_stream_begins_closes_it(monkeypatch, is_posted):
    """It may come when the loop has the stream already, and when it will never have it."""
    begin, begun, told = _sync._BackgroundTask.begin, threading.Event(), []

    def interrupted(task):
        if not told:
            told.append("interrupted")
            if is_posted:
                begin(task)
                assert begun.wait(5)
            raise KeyboardInterrupt
        return begin(task)

    async def stream():
        begun.set()
        try:
            await asyncio.sleep(60)
            yield 1
        finally:
            told.append("closed")

    monkeypatch.setattr(_sync._BackgroundTask, "begin", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(_sync.iterate(stream()))
    assert told == ["interrupted", "closed"][: 1 + is_posted]
    assert not _sync._BackgroundTask._unfinished


def test_after_a_fork_the_child_has_a_loop_of_its_own():
    program = (
        "import os, asyncio; from workbench import _sync\n"
        "async def one(): return 1\n"
        "_sync.run(one())\n"
        "child = os.fork()\n"
        "if child == 0: os._exit(7 if _sync.run(one()) == 1 else 1)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=20, check=True
    )
    assert done.stdout == "7\n"


def test_a_stream_may_be_read_on_one_loop_after_another():
    events = _sync.iterate_async(Stream(3)())
    assert [asyncio.run(_next(events)) for _ in range(4)] == [0, 1, 2, None]


def test_readers_at_once_each_get_all_events_in_order():
    """No event is missed between a reader that begins to wait and a stream that goes on."""

    async def all_of(count):
        return [event async for event in _sync.iterate_async(Stream(count)())]

    async def main():
        return await asyncio.gather(*(all_of(count) for count in range(40)))

    assert asyncio.run(main()) == [list(range(count)) for count in range(40)]
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda count: list(_sync.iterate(Stream(count)())), range(40)))
    assert read == [list(range(count)) for count in range(40)]


def test_verbs_at_once_from_several_loops_return_their_own_results():
    async def double(number):
        await asyncio.sleep(0)
        return 2 * number

    async def main(begin):
        numbers = range(begin, begin + 50)
        return await asyncio.gather(*(_sync.run_async(double(number)) for number in numbers))

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda begin: asyncio.run(main(begin)), range(0, 400, 50)))
    assert [number for result in results for number in result] == [2 * number for number in range(400)]


async def _next(events):
    return await anext(events, None)


def test_an_interrupt_while_the_loop_is_woken_does_not_deafen_it():
    """A signal may come between the moment a callback waits and the moment the loop is woken."""
    loop, heard = asyncio.new_event_loop(), []
    mailbox, wake = _sync._Mailbox(loop), loop.call_soon_threadsafe

    def interrupted(*_):
        loop.call_soon_threadsafe = wake
        raise KeyboardInterrupt

    loop.call_soon_threadsafe = interrupted
    with pytest.raises(KeyboardInterrupt):
        mailbox.post(heard.append, 1)
    mailbox.post(heard.append, 2)
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert heard == [1, 2]


def test_a_callback_that_fails_holds_up_no_other():
    loop, heard, failed = asyncio.new_event_loop(), [], []
    loop.set_exception_handler(lambda _, context: failed.append(context["exception"]))
    mailbox = _sync._Mailbox(loop)
    for callback in (lambda: 1 / 0, lambda: heard.append(1), lambda: int("x"), lambda: heard.append(2)):
        mailbox.post(callback)
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    assert heard == [1, 2] and [type(error) for error in failed] == [ZeroDivisionError, ValueError]


def test_a_script_that_leaves_a_stream_open_ends_and_closes_it():
    script = """
import asyncio
from workbench import _sync

async def numbers():
    try:
        while True:
            yield 1
            await asyncio.sleep(600)
    finally:
        print("closed", flush=True)

events = _sync.iterate(numbers())
next(events)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=30
    )
    assert (done.stdout, done.stderr, done.returncode) == ("closed\n", "", 0)
