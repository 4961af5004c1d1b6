"""Lanes: identical concurrent calls take turns, each until its own deadline."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from workbench.errors import DeadlineError
from workbench.ports import Call


class Lanes:
    """One lane for each key of a request, kept while a call is in it."""

    def __init__(self) -> None:
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    def __len__(self) -> int:
        """Return the number of lanes that calls are in."""
        return len(self._locks)

    @asynccontextmanager
    async def turn(self, call: Call, key: str) -> AsyncGenerator[None, None]:
        """Keep the lane of a key during the block; raise DeadlineError if it is not free in time."""
        lane = self._locks.setdefault(key, asyncio.Lock())
        left = None if call.deadline is None else call.deadline - call.context.clock.monotonic()
        try:
            async with asyncio.timeout(left):
                await lane.acquire()
        except TimeoutError:
            raise DeadlineError(
                f"{call.target} did not answer an identical call before this call's deadline",
                hint="repeat the call with a later deadline",
            ) from None
        try:
            yield
        finally:
            lane.release()
