"""The policies of a running process: read at its start, and again when their files change."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from workbench.errors import ConfigError, WorkbenchError
from workbench.policy.engine import CedarPolicy
from workbench.policy.source import FOLDER, PolicySource, read_source
from workbench.ports.policy import Decision, PolicyRequest

_LOG: Final = logging.getLogger(__name__)
#: Seconds between two looks at the files; changed ones are read when the next look finds them the same.
_PERIOD: Final = 1.0
Times = tuple[tuple[str, int, int, int], ...]


class CurrentPolicy:
    """The policies of a repository, as the policy port.

    A set that cannot be parsed raises ConfigError at the start. When the files change later and cannot be
    parsed, the last good set decides, and one warning for each broken state of the files says so.
    """

    def __init__(self, root: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._root, self._clock = root, clock
        self._times = self._seen = _times(root)
        self._set = CedarPolicy(read_source(root))
        self._due = clock() + _PERIOD
        self.problem = ""

    @property
    def digest(self) -> str:
        """The SHA-256 digest of the set that decides."""
        return self.active().digest

    def active(self) -> CedarPolicy:
        """Return the set that decides, after a look at the files at most once a second."""
        now = self._clock()
        if now >= self._due:
            self._due = now + _PERIOD
            self._look()
        return self._set

    def decide(self, request: PolicyRequest) -> Decision:
        """Return the decision of the set that decides now."""
        return self.active().decide(request)

    def _look(self) -> None:
        times = _times(self._root)
        if times != self._seen:  # the files are being written
            self._seen = times
            return
        if times == self._times:
            return
        try:
            read = CedarPolicy(self._read())
        except (OSError, WorkbenchError) as error:
            problem = error.message if isinstance(error, WorkbenchError) else type(error).__name__
            if problem != self.problem:
                _LOG.warning(
                    "the policies changed and cannot be read, so the last good ones decide: %s", problem
                )
            self.problem = problem
            return
        self._set, self._times, self.problem = read, times, ""

    def _read(self) -> PolicySource:
        """Return the changed set; raise ConfigError when the folder is removed."""
        source = read_source(self._root)
        if source.builtin and not self._set.source.builtin:
            raise ConfigError(f"{FOLDER} is gone", hint=f"git checkout -- {FOLDER}")
        return source


def _times(root: Path) -> Times:
    """Return the names, sizes and times of the files, which change with them."""
    folder = root / FOLDER
    try:
        with os.scandir(folder) as entries:
            found = [(entry.name, entry.stat()) for entry in entries]
    except OSError:
        return ()
    return tuple(sorted((name, s.st_size, s.st_mtime_ns, s.st_ino) for name, s in found))
