"""Keep an error of one job from the others: note it, tell it once, and try its work again later."""

from __future__ import annotations

import contextlib
import logging
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from workbench.context import Clock
from workbench.errors import UnavailableError, WorkbenchError
from workbench.jobs.recording import detail_of

#: Seconds until work that failed is tried again: doubled from the first to the last.
_FIRST_S: Final = 2.0
_LAST_S: Final = 300.0
#: Seconds in which the faults of a job are told once.
_TELL_S: Final = 3_600.0
#: Seconds after which work that nobody tries again is forgotten.
_FORGET_S: Final = 86_400.0
_log = logging.getLogger("workbench.scheduler")


@dataclass(frozen=True, slots=True, kw_only=True)
class _OpenFault:
    """An error that has not been followed by a success: how often it came, and when it is tried again."""

    text: str
    times: int
    until: float


class JobFaults:
    """The errors of single jobs in a server's looks, by the work that raised them.

    `tell` is called with a job and a line, at most once an hour for each job.
    """

    def __init__(self, clock: Clock, tell: Callable[[str, str], object] = lambda _job, _text: None) -> None:
        self._clock, self._tell = clock, tell
        self._open: dict[str, _OpenFault] = {}
        self._told: dict[str, float] = {}
        #: The number of errors since the start.
        self.count = 0

    @property
    def open(self) -> dict[str, str]:
        """The work that failed when it was last tried, with its error; none that nobody tries any more."""
        recent = self._clock.monotonic() - 2 * _LAST_S
        return {work: fault.text for work, fault in dict(self._open).items() if fault.until > recent}

    @contextlib.contextmanager
    def of(self, job: str, work: str) -> Iterator[None]:
        """Do some work of a job in a block, whose error ends the block and nothing else.

        UnavailableError is raised: without the ledger no other job's work would be done either.
        """
        try:
            yield
        except UnavailableError:
            raise
        except Exception as error:  # noqa: BLE001  of one job, and the server serves the others
            self._note(job, work, error)
        else:
            self._open.pop(work, None)

    @property
    def any(self) -> bool:
        """Whether any work failed when it was last tried."""
        return bool(self._open)

    def is_open(self, work: str) -> bool:
        """Return whether some work failed when it was last tried."""
        return work in self._open

    def left_s(self, work: str) -> float:
        """Return the seconds until work that failed is tried again; 0 for other work."""
        fault = self._open.get(work)
        return 0.0 if fault is None else max(0.0, fault.until - self._clock.monotonic())

    def _note(self, job: str, work: str, error: Exception) -> None:
        before, now = self._open.get(work), self._clock.monotonic()
        times = before.times + 1 if before else 1
        text = _text(error)
        self.count += 1
        for other in [name for name, fault in self._open.items() if fault.until < now - _FORGET_S]:
            del self._open[other]  # work that was done once, such as that of one run
        pause = min(_FIRST_S * 2.0 ** min(times - 1, 60), _LAST_S)
        self._open[work] = _OpenFault(text=text, times=times, until=now + pause)
        if before is None or before.text != text:
            _log.error("%s: %s%s", work, text, _frames(error))
        if now - self._told.get(job, -_TELL_S) >= _TELL_S:
            try:
                self._tell(job, f"{work}: {text}")
                self._told[job] = now
            except Exception as failure:  # noqa: BLE001  it is told with the next error
                _log.error("the fault of %s is not told: %s", job, type(failure).__name__)


def _text(error: Exception) -> str:
    """Return the kind of an error and what may be shown of it: the message of a foreign one may hold data."""
    name = type(error).__name__
    if isinstance(error, WorkbenchError):
        return f"{name}: {detail_of(error)}"
    return f"{name}: {error.strerror}" if isinstance(error, OSError) and error.strerror else name


def _frames(error: Exception) -> str:
    """Return where a foreign error was raised, on lines of their own, without its message."""
    if isinstance(error, WorkbenchError):
        return ""
    return "\n" + "".join(traceback.format_tb(error.__traceback__)).rstrip()
