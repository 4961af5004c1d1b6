"""The exceptions of the workbench.

    WorkbenchError              .hint is the next command or fix; .retryable: a later retry may succeed
    ├─ ConfigError              invalid file, key or argument; names file and key (exit code 2)
    │  └─ CorruptError          a tape, snapshot or saved version is damaged or was edited
    ├─ NotFoundError            unknown name; lists the nearest names (exit code 2)
    ├─ RefusedError             a control or a server refused the call; a retry does not help
    │  ├─ UnauthenticatedError   the request has no valid key or token; .status is 401
    │  ├─ BudgetExceededError   a budget has no room for the call; .budget, .limit, .spent, .needed, .renews
    │  ├─ LimitExceededError    a run or a job reached one of its limits; .limit, .spent
    │  ├─ PolicyError           no policy permits the action, or one forbids it; .policies, .decision
    │  ├─ PrivacyError          a class of data may not go to its destination; .kinds, .destination
    │  ├─ ModerationError       a check on the request or the answer refused it; .check, .direction
    │  ├─ NoAnswerError         the endpoint answered, but without an answer; .reason is one word
    │  └─ ReplayMissError       the tape has no recording of the call; shows the nearest one
    ├─ UnavailableError         no answer, or an incomplete one; retryable (exit code 3)
    │  ├─ RateLimitedError      HTTP 429; .retry_after_s if the server states it
    │  │  └─ OverloadedError    our own queue cannot serve the call in time; .retry_after_s
    │  ├─ CircuitOpenError      the endpoint failed too often and is not asked; .retry_after_s
    │  └─ DeadlineError         the call's deadline has passed
    ├─ InvalidOutputError       the answer violates its schema after one repair; .violations
    ├─ RunStoppedError          a person stopped a run; what was finished is kept
    ├─ GateFailedError          a gate failed or is undecided (exit code 1)
    └─ NotebookError            a notebook's cell failed; names the cell

A message never holds personal data or a secret; values it quotes come from files and names.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

#: Characters of a name that are compared with the known ones: the time grows by the square.
_COMPARED = 200


class WorkbenchError(Exception):
    """Base class: `hint` is the next command or fix, `otherwise` the default hint of the class.

    `reason` is one stable word for counting failed calls, empty where the class says enough.
    """

    retryable: bool = False
    reason: str = ""
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
    otherwise = "workbench check   # after the fix"


class CorruptError(ConfigError):
    """A file written by the workbench was edited or truncated."""


class NotFoundError(WorkbenchError):
    """A name is unknown."""

    exit_code = 2


class RefusedError(WorkbenchError):
    """A control or a server refused the call; the same call would be refused again.

    `status` is the server's HTTP status and `body` its wire JSON, when a server refused. `reason` is
    `filtered` when its content filter did.
    """

    def __init__(
        self, message: str, *, hint: str = "", status: int | None = None, body: object = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.body = body
        error = body.get("error") if isinstance(body, dict) else None
        if isinstance(error, dict) and error.get("code") == "content_filter":
            self.reason = "filtered"


class UnauthenticatedError(RefusedError):
    """The request has no valid key or token; the text is the same whatever is wrong with it."""

    reason = "unauthenticated"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint, status=401)


class NoAnswerError(RefusedError):
    """The endpoint answered, and the answer cannot be used.

    Its `reason` is `malformed`, `no_choices`, `error` (stated inside the answer) or `too_large` for a fault
    of the endpoint, which is never recorded. It is `refusal`, `filtered`, `truncated`, `tool_call` or `empty`
    for an answer without the text that was due.
    """

    def __init__(
        self, message: str, *, reason: str, hint: str = "", status: int | None = None, retryable: bool = False
    ) -> None:
        super().__init__(message, hint=hint, status=status)
        self.reason = reason
        self.retryable = retryable


class BudgetExceededError(RefusedError):
    """A budget has no room for the call, which was not made.

    `budget` names the budget and its key, `measure` is its unit (`usd`, `tokens`, `calls` or `seconds`).
    `limit`, `spent`, `reserved` and `needed` are in that unit. `renews` is the ISO time at which the budget
    is renewed, or None for a budget without a period.
    """

    reason = "budget"

    def __init__(
        self, message: str, *, hint: str = "", budget: str = "", measure: str = "", **amounts: Any
    ) -> None:
        super().__init__(message, hint=hint)
        self.budget = budget
        self.measure = measure
        self.limit: float | None = amounts.get("limit")
        self.spent: float | None = amounts.get("spent")
        self.reserved: float | None = amounts.get("reserved")
        self.needed: float | None = amounts.get("needed")
        self.renews: str | None = amounts.get("renews")


class LimitExceededError(RefusedError):
    """A run or a job reached one of its limits and ends; what was finished is kept.

    `limit` names the limit (`calls`, `tokens`, `usd`, `seconds` or `repeated`), and `spent` maps each measure
    that the run counted to what it had spent.
    """

    reason = "limit"

    def __init__(
        self, message: str, *, hint: str = "", limit: str = "", spent: Mapping[str, float] | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.limit = limit
        self.spent = dict(spent or {})


class PolicyError(RefusedError):
    """No policy permits the action, or a policy forbids it.

    `policies` are the `@id`s that determined the decision, none for the default deny. `decision` is the id of
    the recorded decision, which `workbench audit explain ID` explains.
    """

    reason = "policy"

    def __init__(
        self, message: str, *, hint: str = "", policies: Iterable[str] = (), decision: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.policies = tuple(policies)
        self.decision = decision


class PrivacyError(RefusedError):
    """Data of a class may not go to the destination of the call; the call was not made.

    `kinds` names the kinds of data that were found, never the data. `destination` is one of `external`,
    `embedded`, `recordings`, `logs` and `outputs`.
    """

    reason = "privacy"

    def __init__(
        self, message: str, *, hint: str = "", kinds: Iterable[str] = (), destination: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.kinds = tuple(kinds)
        self.destination = destination


class ModerationError(RefusedError):
    """A check refused the request or the answer, or holds the answer for review.

    `check` is its name and `direction` is "in" or "out". `held` is the id of an answer that waits for review.
    """

    reason = "moderation"

    def __init__(
        self, message: str, *, hint: str = "", check: str = "", direction: str = "", held: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.check = check
        self.direction = direction
        self.held = held


class ReplayMissError(RefusedError):
    """No recording answers this call. `path` is the first place where the nearest one differs."""

    def __init__(self, message: str, *, hint: str = "", path: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.path = path


class UnavailableError(WorkbenchError):
    """The answer is missing or incomplete."""

    retryable = True
    otherwise = "run the same command again; received answers are kept"

    def __init__(self, message: str, *, hint: str = "", status: int | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class RateLimitedError(UnavailableError):
    """The server limits the rate; `retry_after_s` is the wait that it demands in seconds, or None."""

    def __init__(self, message: str, *, hint: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message, hint=hint, status=429)
        self.retry_after_s = retry_after_s


class OverloadedError(RateLimitedError):
    """Our own queue cannot serve the call before its deadline; `retry_after_s` says when it could.

    The endpoint was not asked, so nothing counts as its failure.
    """

    retryable = False


class CircuitOpenError(UnavailableError):
    """The endpoint failed too often and is not asked for `retry_after_s` seconds."""

    retryable = False

    def __init__(self, message: str, *, hint: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message, hint=hint, status=503)
        self.retry_after_s = retry_after_s


class DeadlineError(UnavailableError):
    """The deadline for all attempts of the call has passed."""

    retryable = False


class InvalidOutputError(WorkbenchError):
    """The answer violates its schema. `violations` name paths and rules, never parts of the answer."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", violations: Iterable[str] = ()) -> None:
        super().__init__(message, hint=hint)
        self.violations = tuple(violations)


class RunStoppedError(WorkbenchError):
    """A person stopped a run before its end. A notebook shows the message alone, no traceback."""

    reason = "stopped"
    otherwise = "ws.runs() has what is kept; another run does not ask again what was recorded"

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows in place of a traceback."""
        return [f"{type(self).__name__}: {self}"]


class GateFailedError(WorkbenchError):
    """A gate failed or is undecided, and a pass is required."""

    exit_code = 1


class NotebookError(WorkbenchError):
    """A notebook did not run to its end."""


def items_gone(missing: int, of: int) -> NotFoundError:
    """Return the error for a write whose `while_there` items are not in the active version."""
    return NotFoundError(
        f"{missing} of {of} items in while_there are no longer in the active version",
        hint="search again, and pass ids of its hits",
    )


def nearest(name: str, known: Iterable[str], *, most: int = 3) -> str:
    """Return the `known` names nearest to `name` as text for a message, or some known names."""
    names = sorted(set(known))
    close = difflib.get_close_matches(name[:_COMPARED], names, n=most, cutoff=0.5)
    shown = close or names[: 2 * most]
    if not shown:
        return "none exist yet"
    lead = "nearest: " if close else "known: "
    return lead + ", ".join(map(repr, shown)) + (" …" if len(names) > len(shown) else "")
