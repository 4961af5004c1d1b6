"""Every error the workbench raises, in one tree.

    WorkbenchError              .hint says what to type next; .retryable says whether waiting helps
    ├─ ConfigError              a file is wrong: which file, which key, what is known (exit code 2)
    │  └─ CorruptError          a file we wrote is not as we wrote it: tape, snapshot, saved version
    ├─ NotFoundError            nothing of that name; lists the nearest names (exit code 2)
    ├─ RefusedError             a control or the model's server said no; asking again will not help
    │  └─ ReplayMissError       the tape holds no such call; shows the nearest recording
    ├─ UnavailableError         nobody answered, or "later"; retryable (exit code 3)
    │  ├─ RateLimitedError      429; .retry_after_s when the server said
    │  └─ DeadlineError         out of time
    ├─ InvalidOutputError       the answer breaks its schema, also after one repair; .violations
    ├─ GateFailedError          a gate said no (exit code 1)
    └─ NotebookError            a notebook's cell failed: which cell, its source, how to rerun it

A message never holds personal data or a secret; values it quotes come from files and names.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class WorkbenchError(Exception):
    """Base of all: `hint` is the next thing to type; `otherwise` is it when nobody knew a nearer one."""

    retryable: bool = False
    exit_code: int = 3
    otherwise: str = ""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.otherwise

    def __str__(self) -> str:
        return f"{self.message}\n  -> {self.hint}" if self.hint else self.message


class ConfigError(WorkbenchError):
    """A file, a key or an argument is wrong."""

    exit_code = 2
    otherwise = "workbench check   # when that is mended"


class CorruptError(ConfigError):
    """A file the workbench wrote has changed by another hand, or is cut off."""


class NotFoundError(WorkbenchError):
    """Nothing is known under that name."""

    exit_code = 2


class RefusedError(WorkbenchError):
    """A control or the server refused; the same call will be refused again.

    `status` is the server's HTTP status and `body` its wire JSON, when a server refused.
    """

    def __init__(
        self, message: str, *, hint: str = "", status: int | None = None, body: object = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.body = body


class ReplayMissError(RefusedError):
    """No recording answers this call. `path` is the first place where the nearest one differs."""

    def __init__(self, message: str, *, hint: str = "", path: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.path = path


class UnavailableError(WorkbenchError):
    """Nobody answered, or the answer was cut off."""

    retryable = True
    otherwise = "run the same command again; what was answered is kept"

    def __init__(self, message: str, *, hint: str = "", status: int | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class RateLimitedError(UnavailableError):
    """The server asks to come back later; `retry_after_s` is in seconds, when it said."""

    def __init__(self, message: str, *, hint: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message, hint=hint, status=429)
        self.retry_after_s = retry_after_s


class DeadlineError(UnavailableError):
    """The time given for the call, all attempts together, is used up."""

    retryable = False


class InvalidOutputError(WorkbenchError):
    """The answer does not fit its schema. `violations` name paths and rules, never the answer."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", violations: Iterable[str] = ()) -> None:
        super().__init__(message, hint=hint)
        self.violations = tuple(violations)


class GateFailedError(WorkbenchError):
    """A gate judged fail or undecided where pass was needed."""

    exit_code = 1


class NotebookError(WorkbenchError):
    """A notebook did not run to its end."""


def items_gone(missing: int, of: int) -> NotFoundError:
    """What is raised when some of those that an item may only be written with are not in force."""
    return NotFoundError(
        f"{missing} of {of} items that this was to be written with are not there any more",
        hint="search again, and name ids of hits that it gives",
    )


def nearest(name: str, known: Iterable[str], *, most: int = 3) -> str:
    """`known` names for a message: the nearest first, all of them when there are few."""
    names = sorted(set(known))
    close = difflib.get_close_matches(name, names, n=most, cutoff=0.5)
    shown = close or names[: 2 * most]
    if not shown:
        return "none exist yet"
    lead = "nearest: " if close else "known: "
    return lead + ", ".join(map(repr, shown)) + (" …" if len(names) > len(shown) else "")
