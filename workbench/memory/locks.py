"""Locks that admit one writer at a time, over the tasks of a process and the processes of a machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

from workbench import files, locking
from workbench.errors import UnavailableError

_PAUSE_S = 0.01


class Locks:
    """Named locks, each a file in `folder`. The lock of a process that ends is released.

    `wait_s` is the longest wait in seconds; `of` names the locked object in errors.
    """

    def __init__(self, folder: Path, *, wait_s: float = 600.0, of: str = "this tenant of the memory") -> None:
        self.folder = folder
        self.of = of
        self.wait_s = wait_s
        self._held: dict[str, asyncio.Lock] = {}

    @contextlib.asynccontextmanager
    async def writing(self, tenant: str) -> AsyncIterator[None]:
        """Hold the lock named `tenant` (opaque); UnavailableError when it is not free within `wait_s`."""
        async with self._held.setdefault(tenant, asyncio.Lock()):
            descriptor = self._open(tenant)
            try:
                await self._lock(descriptor)
                yield
            finally:
                os.close(descriptor)

    def _open(self, tenant: str) -> int:
        path = self.folder / f"{tenant}.lock"
        with files.writing(path):
            files.make_folder(self.folder)
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    async def _lock(self, descriptor: int) -> None:
        until = time.monotonic() + self.wait_s
        while True:
            if locking.acquire(descriptor, wait=False):
                return
            if time.monotonic() > until:
                raise UnavailableError(
                    f"another process is writing {self.of}",
                    hint="wait until that process has ended, then run the same command again",
                )
            await asyncio.sleep(_PAUSE_S)
