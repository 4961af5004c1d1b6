"""Limit the tenants that a process keeps active on a server: each takes memory and twenty open files there.

A read activates a tenant, and only its users know when they are done. So each process deactivates the
tenants that it has not used lately and, when it ends, those that it activated. A tenant that another process
reads at that moment is active again after one more attempt, see `Connection.ask`.
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
#: Seconds that a server has for a deactivation, so that one that is away delays no exit.
_DEADLINE_S = 10.0


class Offloads(Protocol):
    """Deactivates tenants of these encrypted names."""

    async def offload(self, tenants: Iterable[str]) -> None:
        """Take them out of the server's memory until they are read again."""


class ActiveTenants:
    """The tenants in use, by their encrypted names, for stores that all work on one loop.

    Beyond `most` tenants the least recently used are deactivated, a tenth of them at once, and so is each
    that is unused for `idle_s` seconds. No caller waits for that.
    """

    def __init__(self, most: int = DEFAULT_AWAKE, *, idle_s: float = _IDLE_S) -> None:
        self.most = most
        self.idle_s = idle_s
        self._used: dict[str, tuple[float, Offloads]] = {}
        self._activated: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def use(self, tenant: str, by: Offloads) -> None:
        """Note that this store reads or writes a tenant now."""
        loop = asyncio.get_running_loop()
        self._used.pop(tenant, None)
        self._used[tenant] = (loop.time(), by)
        if len(self._used) > self.most:
            self._begin()
        elif self._timer is None:
            self._timer = loop.call_later(self.idle_s, self._begin)

    def activated(self, tenant: str) -> None:
        """Note that a tenant was inactive, or missing, before this process used it."""
        self._activated.add(tenant)

    def deactivated(self, tenants: Iterable[str]) -> None:
        """Note that tenants are inactive: the next read activates them."""
        for tenant in tenants:
            self._used.pop(tenant, None)
            self._activated.add(tenant)

    async def leave(self, by: Offloads) -> None:
        """Deactivate what this store activated, as far as its server answers in time."""
        if self._task is not None:
            await self._task
        used = [tenant for tenant, (_, store) in self._used.items() if store is by]
        leaving = [tenant for tenant in used if tenant in self._activated]
        for tenant in used:
            del self._used[tenant]
        if self._timer is not None and not self._used:
            self._timer.cancel()
            self._timer = None
        if leaving:
            await _offload(by, leaving)

    def _begin(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._offload_due())

    async def _offload_due(self) -> None:
        while due := self._due():
            await asyncio.gather(*(_offload(by, tenants) for by, tenants in due.items()))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._used:
            loop = asyncio.get_running_loop()
            oldest, _ = next(iter(self._used.values()))
            self._timer = loop.call_at(oldest + self.idle_s, self._begin)

    def _due(self) -> dict[Offloads, list[str]]:
        """Remove and return the tenants to deactivate, by the store that used them."""
        before = asyncio.get_running_loop().time() - self.idle_s
        room = self.most - self.most // 10 if len(self._used) > self.most else self.most
        due: dict[Offloads, list[str]] = defaultdict(list)
        for tenant, (at, by) in list(self._used.items()):
            if len(self._used) <= room and at > before:
                break
            self.deactivated([tenant])
            due[by].append(tenant)
        return due


async def _offload(by: Offloads, tenants: Iterable[str]) -> None:
    with contextlib.suppress(WorkbenchError, TimeoutError):  # they stay active until the next use
        async with asyncio.timeout(_DEADLINE_S):
            await by.offload(tenants)
