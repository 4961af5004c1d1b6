"""Record in the ledger how a run ends that raises an error, and renew the lease of one that works."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from workbench.context import Clock
from workbench.errors import DeadlineError, UnavailableError, WorkbenchError
from workbench.jobs.ledger import JobLedger, Outcome, RunEnd
from workbench.jobs.ledger.opening import published_end

_BEAT_S = 10.0
#: A cell's error up to its kind. The rest may quote a row, which a ledger does not keep.
_CELL = re.compile(r"(, cell \d+: \w+).*")


@contextmanager
def recorded(root: Path, book: JobLedger, run: str) -> Iterator[None]:
    """Record the outcome of a claimed run that raises an error: "published" when its output is published."""
    try:
        yield
    except BaseException as error:
        if not book.is_alive(run):
            raise
        outcome: Outcome = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        outcome = "deadline" if isinstance(error, DeadlineError) else outcome
        outcome, end = published_end(root, book.run(run)) or (outcome, RunEnd())
        end["detail"] = detail_of(error)
        book.finished(run, outcome, **end)
        raise


def detail_of(error: BaseException) -> str:
    """Return the line of an error that a ledger keeps: of an error of the workbench its first line.

    Identifiers and secrets in it are masked: a message may quote a row, and notices and pages show the line.
    """
    from workbench.privacy.repository import masked_output  # a failed run alone needs it

    said = error.message if isinstance(error, WorkbenchError) else type(error).__name__
    return masked_output(_CELL.sub(r"\1", said.partition("\n")[0]))


class Beat:
    """Renews the lease every ten seconds; raises RefusedError when the run was declared lost.

    A ledger that does not answer ends no run: it is asked once more before the output is published.
    """

    def __init__(self, book: JobLedger, run: str, clock: Clock) -> None:
        self._book, self._run, self._clock, self._last = book, run, clock, clock.monotonic()

    def __call__(self) -> None:
        """Renew the lease when ten seconds have passed."""
        if self._clock.monotonic() - self._last > _BEAT_S:
            self._last = self._clock.monotonic()
            with suppress(UnavailableError):
                self._book.beat(self._run)
