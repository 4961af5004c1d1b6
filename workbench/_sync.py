"""The background event loop on which every sync verb and its async twin runs.

Connection pools and locks belong to this one loop, whether the caller is a script, a worker thread or a cell
inside Jupyter's running loop.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import functools
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import aclosing
from typing import Any, ClassVar, Concatenate, Generic, ParamSpec, TypeVar, cast

from workbench.errors import WorkbenchError

T = TypeVar("T")
P = ParamSpec("P")
Self = TypeVar("Self")
#: Cancellation message of a stream whose reader left.
ABANDONED = "abandoned"


class _Loop:
    """A loop on a daemon thread, created on first use and again after a fork."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, name="workbench-loop", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()


_lock = threading.Lock()
_current: _Loop | None = None


def _background() -> _Loop:
    global _current
    with _lock:
        if _current is None or _current.pid != os.getpid():
            _current = _Loop()
        return _current


def on_background_loop() -> bool:
    """Return whether the caller runs on the background loop's thread."""
    return _current is not None and threading.current_thread() is _current.thread


class _BackgroundTask(Generic[T]):
    """A coroutine on the loop with a future for other threads.

    `_unfinished` holds each task until it ends, because a loop references its tasks only weakly.
    """

    _unfinished: ClassVar[set[_BackgroundTask[Any]]] = set()

    def __init__(self, coro: Coroutine[Any, Any, T]) -> None:
        self.future: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._coro = coro
        self._task: asyncio.Task[T] | None = None
        self._context = contextvars.copy_context()
        self._loop = _background().loop

    def begin(self) -> _BackgroundTask[T]:
        """Start it. Separate from `__init__`, so that an interrupt in between finds a task to cancel."""
        self._unfinished.add(self)
        self.future.add_done_callback(lambda _: self._unfinished.discard(self))
        self._loop.call_soon_threadsafe(self._start)
        return self

    def _start(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            self._coro.close()
            return
        self._task = self._loop.create_task(self._coro, context=self._context)
        self._task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            self.future.set_exception(concurrent.futures.CancelledError())
        elif (error := task.exception()) is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(task.result())

    def cancel(self, why: str | None = None) -> None:
        self._loop.call_soon_threadsafe(lambda: self._task.cancel(why) if self._task else None)


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
    job = _BackgroundTask(coro)
    try:
        return job.begin().future.result()
    except concurrent.futures.CancelledError:
        raise asyncio.CancelledError from None
    except BaseException:
        if not job.future.done():
            job.cancel()
            concurrent.futures.wait([job.future], timeout=5)
        raise


async def run_async(coro: Coroutine[Any, Any, T]) -> T:
    """Run `coro` on the background loop and await it from any loop. Cancelling the waiter cancels it."""
    if on_background_loop():
        return await coro
    job = _BackgroundTask(coro).begin()
    waiter = asyncio.wrap_future(job.future)
    try:
        return await asyncio.shield(waiter)
    except asyncio.CancelledError:
        waiter.add_done_callback(
            lambda ended: ended.cancelled() or ended.exception()
        )  # marks the exception as retrieved
        job.cancel()
        raise


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
    """Runs a whole stream in one task of the loop and passes its events to the reader.

    One task, because timeouts and context variables inside the stream belong to a task. At most eight events
    ahead of the reader, because an unread stream must stop reading from its server.
    """

    def __init__(self, stream: AsyncIterator[T]) -> None:
        self._stream = stream
        self._queue: asyncio.Queue[tuple[T | None, BaseException | None]] = asyncio.Queue()
        self._ahead = asyncio.Semaphore(8)
        self._ending = False
        self._job = _BackgroundTask(self._pump()).begin()

    async def _pump(self) -> None:
        end: BaseException = StopAsyncIteration()
        try:
            async with aclosing(self._stream) as events:  # type: ignore[type-var]
                async for event in events:
                    await self._ahead.acquire()
                    self._queue.put_nowait((event, None))
        except BaseException as error:
            end = error
            if isinstance(error, asyncio.CancelledError):
                raise
        finally:
            self._queue.put_nowait((None, end))

    async def take(self) -> tuple[T | None, BaseException | None]:
        """Return the next event, or the exception that ended the stream: StopAsyncIteration at its end."""
        event, end = await self._queue.get()
        self._ahead.release()
        return event, end

    def cancel(self, why: str = ABANDONED) -> None:
        """Start to close the stream, from any thread, without waiting; a second call does nothing."""
        if not self._ending and not self._job.future.done():
            self._ending = True
            self._job.cancel(why)

    async def stop(self) -> None:
        """Close the stream and wait until it is closed."""
        self.cancel()
        while not self._job.future.done():
            await asyncio.sleep(0.001)


def iterate(stream: AsyncIterator[T]) -> Iterator[T]:
    """Read a stream from sync code. Leaving the iteration early closes the stream."""
    if on_background_loop():
        raise WorkbenchError(
            "a sync stream was opened on the workbench's own loop, where it would deadlock",
            hint="in async code iterate over the verb whose name ends in _async",
        )
    pump = _Pump(stream)
    try:
        while True:
            event, end = run(pump.take())
            if isinstance(end, StopAsyncIteration):
                return
            if end is not None:
                raise end
            yield cast("T", event)
    finally:
        pump.cancel()
        if not on_background_loop():  # there the garbage collector closes an iterator without waiting
            run(pump.stop())


def iterate_async(stream: AsyncIterator[T]) -> AsyncIterator[T]:
    """Read a stream from any loop; it runs in one task of the background loop.

    The stream is closed when its iterator is closed or deleted, and when its reader is cancelled.
    """
    return stream if on_background_loop() else _Reading(stream)


class _Reading(AsyncIterator[T]):
    """A stream read from another loop.

    Not a generator: its finalizer would need the reader's loop, which may have ended.
    """

    def __init__(self, stream: AsyncIterator[T]) -> None:
        self._stream = stream
        self._pump: _Pump[T] | None = None
        self._over = False

    async def __anext__(self) -> T:
        if self._over:
            raise StopAsyncIteration
        if self._pump is None:  # started here, so that the stream runs in the reader's context
            self._pump = _Pump(self._stream)
        try:
            event, end = await run_async(self._pump.take())
        except asyncio.CancelledError:
            self._pump.cancel("cancelled")
            await self.aclose()
            raise
        if end is None:
            return cast("T", event)
        self._over = True
        raise end

    async def aclose(self) -> None:
        """Close the stream and wait for its end; cancelling the wait does not cancel the closing."""
        self._over = True
        if self._pump is not None:
            self._pump.cancel()
            await run_async(self._pump.stop())

    def __del__(self) -> None:
        if self._pump is not None:
            self._pump.cancel()
