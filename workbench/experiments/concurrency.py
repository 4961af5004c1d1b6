"""Apply a task to many items at once: worker threads, bounded concurrency, a progress bar."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self, TypeVar

from workbench import _sync
from workbench.context import RunScope
from workbench.errors import LimitExceededError

T = TypeVar("T")


async def for_each(
    items: Sequence[T],
    work: Callable[[T, ThreadPoolExecutor], Awaitable[None]],
    *,
    workers: int,
    title: str,
    progress: Path | None,
) -> None:
    """Await `work(item, pool)` for every item, at most `workers` at once, and show the progress.

    The calls of all items share the limits of one run. The first error ends the remaining work and is raised
    unchanged, but a LimitExceededError also says how many items were finished.
    """
    pending = iter(items)
    with _Progress(len(items), title, progress) as bar, RunScope.entered():
        async with _threads(workers) as pool:

            async def worker() -> None:
                for item in pending:
                    await work(item, pool)
                    bar.step()

            try:
                await _sync.gather(worker() for _ in range(min(workers, len(items))))
            except LimitExceededError as error:
                finished = f"{bar.done} of {len(items)} items were finished"
                raise LimitExceededError(
                    f"{error.message}; {finished}", hint=error.hint, limit=error.limit, spent=error.spent
                ) from None


@contextlib.asynccontextmanager
async def _threads(n: int) -> AsyncIterator[ThreadPoolExecutor]:
    """Provide worker threads for sync tasks; all threads have ended when the block ends."""
    pool = ThreadPoolExecutor(max_workers=n, thread_name_prefix="workbench-task")
    try:
        yield pool
    finally:  # not on the loop, because the threads wait for calls that run there
        await asyncio.to_thread(pool.shutdown, cancel_futures=True)


class _Progress:
    """A bar in a notebook or terminal; under a runner, lines of JSON in the file `path`."""

    def __init__(self, total: int, title: str, path: Path | None) -> None:
        self.total, self.title, self.path, self.done, self._written_at = total, title, path, 0, 0.0

    def __enter__(self) -> Self:
        from tqdm.auto import tqdm

        self.bar = tqdm(
            total=self.total, desc=self.title, unit="case", disable=self.path is not None or not self.total
        )
        return self

    def step(self) -> None:
        """Count one case."""
        self.done += 1
        self.bar.update(1)
        now = time.monotonic()
        if self.path is not None and (now - self._written_at > 0.2 or self.done == self.total):
            self._written_at = now
            line = json.dumps({"what": self.title, "done": self.done, "total": self.total})
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")

    def __exit__(self, *_: object) -> None:
        self.bar.close()
