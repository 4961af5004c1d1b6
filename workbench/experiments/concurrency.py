"""Apply a task to many items at once: worker threads, bounded concurrency, progress, and a stop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from workbench import _sync
from workbench.context import RunScope
from workbench.errors import LimitExceededError, RunStoppedError
from workbench.experiments.progress import Finished, Progress
from workbench.experiments.progress_display import shown

T = TypeVar("T")
#: Why the items ended early when a person stopped them: by a button, an interrupt or a cancelled call.
STOPPED = "stopped"


async def for_each(
    items: Sequence[T],
    work: Callable[[T, ThreadPoolExecutor], Awaitable[Finished]],
    *,
    workers: int,
    progress: Progress,
    keep: Callable[[str], str] | None = None,
) -> None:
    """Await `work(item, pool)` for every item, at most `workers` at once, and show the progress.

    The calls of all items share the limits of one run. The first error ends the remaining work and is raised
    unchanged, but a LimitExceededError also says how many items were finished. `progress.stop` raises
    RunStoppedError. After a limit, a stop or a cancellation, `keep(why)` keeps what is finished and says
    how, at once: what still runs in threads is only awaited then.
    """
    pending = iter(items)
    async with shown(progress), _threads(workers) as pool:

        async def worker() -> None:
            for item in pending:
                progress.step(await work(item, pool))

        loop = asyncio.get_running_loop()
        with RunScope.entered():
            together = _sync.gather(worker() for _ in range(min(workers, len(items))))
            going = loop.create_task(together)
        progress.stops_with(functools.partial(loop.call_soon_threadsafe, going.cancel))
        try:
            await going
        except LimitExceededError as error:
            finished = f"{_kept(progress, keep, error.limit)} items were finished"
            raise LimitExceededError(
                f"{error.message}; {finished}", hint=error.hint, limit=error.limit, spent=error.spent
            ) from None
        except asyncio.CancelledError:
            finished = _kept(progress, keep, STOPPED)
            if not progress.stopped:  # the caller is cancelled or interrupted, and is told so by Python
                progress.stopped = True
                raise
            what = f"; they are {progress.kept}" if progress.kept else ""
            raise RunStoppedError(f"stopped: {finished} items were finished{what}") from None


def _kept(progress: Progress, keep: Callable[[str], str] | None, why: str) -> str:
    """Keep what is finished and return how many items that is."""
    if keep is not None:
        progress.kept = keep(why)
    return f"{progress.done} of {progress.total}"


@contextlib.asynccontextmanager
async def _threads(n: int) -> AsyncIterator[ThreadPoolExecutor]:
    """Provide worker threads for sync tasks; all threads have ended when the block ends."""
    pool = ThreadPoolExecutor(max_workers=n, thread_name_prefix="workbench-task")
    try:
        yield pool
    finally:  # not on the loop, because the threads wait for calls that run there
        await asyncio.to_thread(pool.shutdown, cancel_futures=True)
