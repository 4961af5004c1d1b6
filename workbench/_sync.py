"""The background event loop on which every sync verb and its async twin runs.

Connection pools and locks belong to this one loop, whether the caller is a script, a worker thread or a cell
inside Jupyter's running loop.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import contextvars
import functools
import os
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import aclosing
from typing import Any, ClassVar, Concatenate, Generic, ParamSpec, TypeVar, cast

from workbench.errors import WorkbenchError

T = TypeVar("T")
P = ParamSpec("P")
Self = TypeVar("Self")
#: Cancellation message of a stream whose reader left.
ABANDONED = "abandoned"
#: Events that a stream may be ahead of its reader.
_AHEAD = 8
#: Seconds that the interpreter's end waits for streams that nobody closed.
_AT_EXIT_S = 2.0


class _Mailbox:
    """Callbacks for a loop from other threads, in order; one wake-up of the loop delivers all that wait.

    A wake-up is a system call and a turn of the loop, which cost more than most callbacks.
    """

    __slots__ = ("_waiting", "_woken", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._waiting: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._woken = False

    def post(self, callback: Callable[..., object], *args: Any) -> None:
        """Have the loop call `callback(*args)` soon; nothing happens when the loop has ended."""
        self._waiting.append((callback, args))
        if not self._woken:
            self._wake_up()

    def _wake_up(self) -> None:
        try:
            self._woken = True
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self.loop.call_soon_threadsafe(self._deliver)
        except BaseException:  # an interrupt, perhaps before the loop was woken
            self._woken = False
            raise

    def _deliver(self) -> None:
        self._woken = False  # before the last look, so that a later post wakes the loop again
        try:
            while self._waiting:
                callback, args = self._waiting.popleft()
                callback(*args)
        finally:
            if self._waiting:  # a callback failed: the loop reports that, and delivers the others
                self._wake_up()


class _Loop:
    """A loop on a daemon thread, created on first use and again after a fork."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.loop = asyncio.new_event_loop()
        self.mailbox = _Mailbox(self.loop)
        self.thread = threading.Thread(target=self._run, name="workbench-loop", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        # A loop notes each async generator for its `shutdown_asyncgens`, which this one never calls, and a
        # call passes a dozen of them. Forgotten ones are still closed: that is the other hook.
        self.loop.call_soon(lambda: sys.set_asyncgen_hooks(firstiter=None))
        self.loop.run_forever()


class _Readers(threading.local):
    """The mailbox of the loop that runs in this thread."""

    mailbox: _Mailbox | None = None


_readers = _Readers()


def _own_mailbox() -> _Mailbox:
    """Return the mailbox of the running loop."""
    loop, mailbox = asyncio.get_running_loop(), _readers.mailbox
    if mailbox is None or mailbox.loop is not loop:
        mailbox = _readers.mailbox = _Mailbox(loop)
    return mailbox


_lock = threading.Lock()
_current: _Loop | None = None


def _background() -> _Loop:
    global _current
    current = _current
    if current is not None and current.pid == os.getpid():
        return current
    with _lock:
        if _current is None or _current.pid != os.getpid():
            _current = _Loop()
        return _current


@atexit.register
def _end_streams() -> None:
    """Cancel what still runs on the loop, and wait a moment until it has left its records."""
    if _current is None or _current.pid != os.getpid():
        return
    left = [task for task in tuple(_BackgroundTask._unfinished) if not task.done]  # noqa: SLF001
    for task in left:
        task.cancel(ABANDONED)
    end = time.monotonic() + _AT_EXIT_S
    while any(not task.done for task in left) and time.monotonic() < end:
        time.sleep(0.001)


def on_background_loop() -> bool:
    """Return whether the caller runs on the background loop's thread."""
    return _current is not None and threading.get_ident() == _current.thread.ident


class _BackgroundTask(Generic[T]):
    """A coroutine in a task of the loop; `ended` is called there with the task when it has ended.

    `_unfinished` holds each task until it ends, because a loop references its tasks only weakly.
    """

    __slots__ = ("_context", "_coro", "_ended", "_mailbox", "_task", "done")
    _unfinished: ClassVar[set[_BackgroundTask[Any]]] = set()

    def __init__(
        self, coro: Coroutine[Any, Any, T], ended: Callable[[asyncio.Task[T]], object] | None = None
    ) -> None:
        self.done = False
        self._coro = coro
        self._ended = ended
        self._task: asyncio.Task[T] | None = None
        self._context = contextvars.copy_context()
        self._mailbox = _background().mailbox

    def begin(self) -> _BackgroundTask[T]:
        """Start it. Separate from `__init__`, so that an interrupt in between finds a task to cancel."""
        self._unfinished.add(self)
        self._mailbox.post(self._start)
        return self

    def _start(self) -> None:
        self._task = self._mailbox.loop.create_task(self._coro, context=self._context)
        self._task.add_done_callback(self._finish)

    def _finish(self, task: asyncio.Task[T]) -> None:
        self.done = True
        self._unfinished.discard(self)
        if not task.cancelled():
            task.exception()  # marks it as retrieved
        if self._ended is not None:
            self._ended(task)

    def cancel(self, why: str | None = None) -> None:
        self._mailbox.post(self._cancel, why)

    def _cancel(self, why: str | None) -> None:
        if self._task is not None:
            self._task.cancel(why)
            return
        # An interrupt came before `begin` had posted the start, and so it never comes.
        self._coro.close()
        self.done = True
        self._unfinished.discard(self)


def _settle(future: concurrent.futures.Future[T], task: asyncio.Task[T]) -> None:
    """Give the end of a task to the thread that waits for it."""
    if task.cancelled():
        future.set_exception(concurrent.futures.CancelledError())
    elif (error := task.exception()) is not None:
        future.set_exception(error)
    else:
        future.set_result(task.result())


#: Whether the main thread waits for the work of this context.
_main_waits: contextvars.ContextVar[bool] = contextvars.ContextVar("main_waits", default=False)


def main_thread_waits() -> bool:
    """Return whether the main thread waits for the running work in a sync verb.

    The main shell of a notebook's kernel then handles no message before the cell ends; an interrupt ends it.
    """
    return _main_waits.get()


def run(coro: Coroutine[Any, Any, T]) -> T:
    """Run `coro` from sync code and return its result. An interrupt cancels it and waits for its end.

    Raises WorkbenchError on the background loop, where waiting would deadlock.
    """
    if on_background_loop():
        coro.close()
        raise WorkbenchError(
            "a sync verb was called on the workbench's own loop, where it would deadlock",
            hint="in async code await the verb whose name ends in _async",
        )
    future: concurrent.futures.Future[T] = concurrent.futures.Future()
    token = _main_waits.set(threading.current_thread() is threading.main_thread())
    job = _BackgroundTask(coro, functools.partial(_settle, future))
    _main_waits.reset(token)
    try:
        job.begin()
        return future.result()
    except concurrent.futures.CancelledError:
        raise asyncio.CancelledError from None
    except BaseException:
        if not future.done():
            job.cancel()
            concurrent.futures.wait([future], timeout=5)
        raise


async def run_async(coro: Coroutine[Any, Any, T]) -> T:
    """Run `coro` on the background loop and await it from any loop. Cancelling the waiter cancels it."""
    if on_background_loop():
        return await coro
    own = _own_mailbox()
    waiter: asyncio.Future[T] = own.loop.create_future()
    job = _BackgroundTask(coro, lambda task: own.post(_wake, waiter, task)).begin()
    try:
        return await waiter
    except asyncio.CancelledError:
        if waiter.done() and not waiter.cancelled():
            waiter.exception()  # marks it as retrieved
        job.cancel()
        raise


def _wake(waiter: asyncio.Future[T], task: asyncio.Task[T]) -> None:
    """Give the end of a task to the waiter on another loop, unless it left."""
    if waiter.done():
        return
    if task.cancelled():
        waiter.cancel()
    elif (error := task.exception()) is not None:
        waiter.set_exception(error)
    else:
        waiter.set_result(task.result())


def twins(
    method: Callable[Concatenate[Self, P], Coroutine[Any, Any, T]],
) -> tuple[Callable[Concatenate[Self, P], T], Callable[Concatenate[Self, P], Coroutine[Any, Any, T]]]:
    """Return a sync verb and its async twin, made from the coroutine method `_verb`.

    Written in the class as `add, add_async = twins(_add)`. Both have the method's signature and docstring,
    and both run it on the background loop.
    """
    name = method.__name__.removeprefix("_")

    def waited(self: Self, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return run(method(self, *args, **kwargs))

    async def awaited(self: Self, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await run_async(method(self, *args, **kwargs))

    for made, called in ((waited, name), (awaited, f"{name}_async")):
        functools.update_wrapper(made, method)
        made.__name__ = called
        made.__qualname__ = method.__qualname__.removesuffix(method.__name__) + called
    return waited, awaited


async def gather(coros: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Return the results in order; the first error cancels the others and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coro) for coro in coros]
    except BaseExceptionGroup as several:
        first = several.exceptions[0]
    else:
        return [task.result() for task in tasks]
    # Outside of the except block, so that a notebook shows the error without the group as its context.
    raise first


class _Pump(Generic[T]):
    """Runs a whole stream in one task of the loop and hands its events to a reader elsewhere.

    One task, because timeouts and context variables inside the stream belong to a task. At most eight events
    ahead of the reader, because an unread stream must stop reading from its server. `wake` is called on the
    loop for a reader that found nothing. An event is appended before the pump looks whether the reader waits,
    and the reader says that it waits before it looks again, so that no event is missed.
    """

    def __init__(self, stream: AsyncIterator[T], wake: Callable[[], object]) -> None:
        self._stream = stream
        self._events: deque[tuple[T | None, BaseException | None]] = deque()
        self._wake = wake
        self._reader_waits = False
        self._room: asyncio.Event | None = None  # while the pump waits for the reader
        self._ending = False
        self._closed = False
        self._job = _BackgroundTask(self._pump())

    def begin(self) -> None:
        """Start to read. Separate from `__init__`, so that an interrupt meanwhile finds a stream to close."""
        self._job.begin()

    async def _pump(self) -> None:
        end: BaseException = StopAsyncIteration()
        try:
            async with aclosing(self._stream) as events:  # type: ignore[type-var]
                async for event in events:
                    while len(self._events) >= _AHEAD:
                        await self._wait_for_room()
                    self._put(event, None)
        except BaseException as error:
            end = error
            if isinstance(error, asyncio.CancelledError):
                raise
        finally:
            self._closed = True
            self._put(None, end)

    async def _wait_for_room(self) -> None:
        self._room = asyncio.Event()
        if len(self._events) >= _AHEAD:  # the reader may have taken one before it could see the event
            await self._room.wait()
        self._room = None

    def _put(self, event: T | None, end: BaseException | None) -> None:
        self._events.append((event, end))
        if self._reader_waits:
            self._reader_waits = False
            self._wake()

    def take(self) -> tuple[T | None, BaseException | None] | None:
        """Return the next event, or the exception that ended the stream: StopAsyncIteration at its end.

        Return None when nothing has come; `wake` is called once when something does.
        """
        if not self._events:
            self._reader_waits = True
            if not self._events:
                return None
            self._reader_waits = False  # the pump may have called `wake` too, which does no harm
        taken = self._events.popleft()
        if (room := self._room) is not None and len(self._events) < _AHEAD:
            self._job._mailbox.post(room.set)  # noqa: SLF001 - two halves of one thing
        return taken

    def cancel(self, why: str = ABANDONED) -> None:
        """Start to close the stream, from any thread, without waiting; a second call does nothing."""
        if not self._ending and not self._closed:
            self._ending = True
            self._job.cancel(why)

    @property
    def closed(self) -> bool:
        """Whether the stream is closed."""
        return self._closed or self._job.done

    async def stop(self) -> None:
        """Close the stream and wait, on the background loop, until it is closed."""
        self.cancel()
        while not self.closed:
            await asyncio.sleep(0.001)


def iterate(stream: AsyncIterator[T]) -> Iterator[T]:
    """Read a stream from sync code. Leaving the iteration early closes the stream."""
    if on_background_loop():
        raise WorkbenchError(
            "a sync stream was opened on the workbench's own loop, where it would deadlock",
            hint="in async code iterate over the verb whose name ends in _async",
        )
    woken: queue.SimpleQueue[None] = queue.SimpleQueue()
    pump = _Pump(stream, lambda: woken.put(None))
    try:
        pump.begin()
        while True:
            while (taken := pump.take()) is None:
                woken.get()
            event, end = taken
            if isinstance(end, StopAsyncIteration):
                return
            if end is not None:
                raise end
            yield cast("T", event)
    finally:
        pump.cancel()
        # The garbage collector may close it on the loop, or at the interpreter's end, when no loop runs.
        if not pump.closed and not on_background_loop() and not sys.is_finalizing():
            run(pump.stop())


def iterate_async(stream: AsyncIterator[T]) -> AsyncIterator[T]:
    """Read a stream from any loop; it runs in one task of the background loop.

    The stream is closed when its iterator is closed or deleted, and when its reader is cancelled.
    """
    return stream if on_background_loop() else _Reading(stream)


class _Doorbell:
    """Wakes a reader on its own loop. The pump holds it, and not the reader, which may be forgotten."""

    def __init__(self) -> None:
        self._own = _own_mailbox()
        self._waiter: asyncio.Future[None] | None = None

    def attend(self) -> None:
        """Hear the bell on the running loop; a stream may be read on several loops, one after another."""
        self._own = _own_mailbox()

    async def wait(self) -> None:
        """Wait, in the reader's task, for the next ring."""
        self._waiter = self._own.loop.create_future()
        await self._waiter

    def ring(self) -> None:
        """Wake the reader, from the background loop."""
        self._own.post(self._open)

    def _open(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class _Reading(AsyncIterator[T]):
    """A stream read from another loop.

    Not a generator: its finalizer would need the reader's loop, which may have ended.
    """

    def __init__(self, stream: AsyncIterator[T]) -> None:
        self._stream = stream
        self._pump: _Pump[T] | None = None
        self._bell: _Doorbell
        self._over = False

    async def __anext__(self) -> T:
        if self._over:
            raise StopAsyncIteration
        if self._pump is None:  # started here, so that the stream runs in the reader's context
            self._bell = _Doorbell()
            self._pump = _Pump(self._stream, self._bell.ring)
            self._pump.begin()
        self._bell.attend()
        try:
            while (taken := self._pump.take()) is None:
                await self._bell.wait()
        except asyncio.CancelledError:
            self._pump.cancel("cancelled")
            await self.aclose()
            raise
        event, end = taken
        if end is None:
            return cast("T", event)
        self._over = True
        raise end

    async def aclose(self) -> None:
        """Close the stream and wait for its end; cancelling the wait does not cancel the closing."""
        self._over = True
        if self._pump is not None:
            self._pump.cancel()
            if not self._pump.closed:
                await run_async(self._pump.stop())

    def __del__(self) -> None:
        if self._pump is not None:
            self._pump.cancel()
