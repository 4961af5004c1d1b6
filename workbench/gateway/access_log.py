"""The access log of the gateway: one line a request, by its route, without path, query and content."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Final

#: Seconds for which lines are collected into one write.
_COLLECTED_S: Final = 0.1


class AccessLog:
    """Writes lines to the standard error, those of a tenth of a second in one write."""

    def __init__(self, write: Callable[[str], object] | None = None) -> None:
        self._write = write
        self._lines: list[str] = []
        self._second, self._time = 0, ""

    def add(self, *, method: str, route: str, status: int, seconds: float, key: str, left: bool) -> None:
        """Add the line of a request that ended."""
        if not self._lines:
            asyncio.get_running_loop().call_later(_COLLECTED_S, self.flush)
        ended = " left" if left else ""
        self._lines.append(
            f"{self._now()} {method} {route} {status} {seconds * 1000:.1f}ms key={key or '-'}{ended}\n"
        )

    def flush(self) -> None:
        """Write what was collected."""
        if self._lines:
            lines, self._lines = self._lines, []
            (self._write or sys.stderr.write)("".join(lines))

    def _now(self) -> str:
        now = int(time.time())
        if now != self._second:
            self._second, self._time = now, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
        return self._time
