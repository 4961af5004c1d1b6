"""Decide which event an ended run is: once for a slot, not for each retry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from workbench.notices.notice import Event

#: Outcomes of a run that gave no output; a lost run has the state "lost" and no outcome.
_BROKEN = frozenset({"failed", "deadline", "refused"})
_HELD = frozenset({"held", "rolled_back"})
_TOLD = ("breached", "model_changed")
_GOOD = frozenset({"published", "unchanged"})


class EndedRun(Protocol):
    """What of a run of the ledger decides on its notice."""

    @property
    def slot(self) -> Any:
        """The run's slot."""

    @property
    def role(self) -> str:
        """The role: "production", "shadow" or "canary"."""

    @property
    def trigger(self) -> str:
        """What started it; "retry" for a run that repeats a failed one."""

    @property
    def state(self) -> str:
        """The state; only "finished" and "lost" have an event."""

    @property
    def outcome(self) -> str:
        """The outcome, "" for a lost run."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """The run's facts."""


def event_of_run(run: EndedRun, earlier: Iterable[EndedRun], *, retried: bool = False) -> Event | None:
    """Return the event of an ended run, or None when nobody is told.

    `earlier` are the runs of the same job and tenant before it, the newest first. `retried` says that a
    retry follows, so that a failure is not told yet.
    """
    if run.role != "production" or run.state not in {"finished", "lost"}:
        return None
    if is_broken(run):
        return None if retried else "failed"
    if run.outcome == "rolled_back" and retried:
        return None  # who took the version back told that, and the slot runs again by the version before
    if run.outcome in _HELD:
        return "model_changed" if run.facts.get("paused") else "held"
    return "missed" if run.outcome == "missed" else _of_output(run, earlier)


def _of_output(run: EndedRun, earlier: Iterable[EndedRun]) -> Event | None:
    """Return the event of a run that has an output: a recovery, or what was published against a check."""
    if run.outcome not in _GOOD:
        return None
    if _was_told(run, earlier):
        return "recovered"
    told = run.facts.get("told")
    return told if run.outcome == "published" and told in _TOLD else None


def is_broken(run: EndedRun) -> bool:
    """Return whether a run ended without an output, by an error, its deadline or the loss of its process."""
    return run.state == "lost" or run.outcome in _BROKEN


def _was_told(run: EndedRun, earlier: Iterable[EndedRun]) -> bool:
    """Return whether the last told event of the job and tenant is a failure.

    A failure that a retry of its slot followed was not told.
    """
    newer = run
    for item in earlier:
        if item.role != "production" or item.slot.tenant != run.slot.tenant:
            continue
        if is_broken(item) and not (newer.trigger == "retry" and newer.slot == item.slot):
            return True
        if item.outcome in _GOOD:
            return False
        newer = item
    return False
