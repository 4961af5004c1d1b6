"""Which tenants a process keeps awake on a server, which has memory and some twenty open files for each.

A tenant wakes up by being asked. Nobody but its users knows when it is done with: so each process puts
to rest what it has not asked lately, and when it ends what it woke itself. What another process is asking
at that moment is awake again for the price of another attempt, see `Connection.ask`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Iterable
from typing import Protocol

from workbench.config import DEFAULT_AWAKE
from workbench.errors import WorkbenchError

_IDLE_S = 600.0
#: A server that is away keeps nobody waiting who only wants to leave.
_PATIENCE_S = 10.0


class Rests(Protocol):
    """Puts tenants of these opaque names to rest."""

    async def rest(self, tenants: Iterable[str]) -> None:
        """Off the server's memory, until they are asked again."""


class Awake:
    """The tenants in use, by their opaque names; for stores that all work on one loop.

    More than `most`, the least recently used go to rest, a tenth of them at once; one that is not used for
    `idle_s` seconds goes too. Nobody waits for that.
    """

    def __init__(self, most: int = DEFAULT_AWAKE, *, idle_s: float = _IDLE_S) -> None:
        self.most = most
        self.idle_s = idle_s
        self._used: dict[str, tuple[float, Rests]] = {}
        self._woken: set[str] = set()
        self._going: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def use(self, tenant: str, by: Rests) -> None:
        """A tenant is asked at this moment, over this store."""
        loop = asyncio.get_running_loop()
        self._used.pop(tenant, None)
        self._used[tenant] = (loop.time(), by)
        if len(self._used) > self.most:
            self._begin()
        elif self._timer is None:
            self._timer = loop.call_later(self.idle_s, self._begin)

    def woken(self, tenant: str) -> None:
        """It was at rest, or not there, before this process asked it."""
        self._woken.add(tenant)

    def at_rest(self, tenants: Iterable[str]) -> None:
        """They were put to rest: who asks them next wakes them."""
        for tenant in tenants:
            self._used.pop(tenant, None)
            self._woken.add(tenant)

    async def leave(self, by: Rests) -> None:
        """Put to rest what was woken for this store, as far as its server answers soon."""
        if self._going is not None:
            await self._going
        mine = [tenant for tenant, (_, one) in self._used.items() if one is by]
        going = [tenant for tenant in mine if tenant in self._woken]
        for tenant in mine:
            del self._used[tenant]
        if self._timer is not None and not self._used:
            self._timer.cancel()
            self._timer = None
        if going:
            await _rest(by, going)

    def _begin(self) -> None:
        if self._going is None or self._going.done():
            self._going = asyncio.ensure_future(self._put_to_rest())

    async def _put_to_rest(self) -> None:
        while due := self._due():
            await asyncio.gather(*(_rest(by, tenants) for by, tenants in due.items()))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._used:
            loop = asyncio.get_running_loop()
            oldest, _ = next(iter(self._used.values()))
            self._timer = loop.call_at(oldest + self.idle_s, self._begin)

    def _due(self) -> dict[Rests, list[str]]:
        """Takes out whose turn it is, by the store that they were asked over."""
        before = asyncio.get_running_loop().time() - self.idle_s
        room = self.most - self.most // 10 if len(self._used) > self.most else self.most
        due: dict[Rests, list[str]] = defaultdict(list)
        for tenant, (at, by) in list(self._used.items()):
            if len(self._used) <= room and at > before:
                break
            self.at_rest([tenant])
            due[by].append(tenant)
        return due


async def _rest(by: Rests, tenants: Iterable[str]) -> None:
    with contextlib.suppress(WorkbenchError, TimeoutError):  # they stay awake, and are used again or not
        async with asyncio.timeout(_PATIENCE_S):
            await by.rest(tenants)
