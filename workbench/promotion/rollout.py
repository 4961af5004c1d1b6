"""Decide on versions on trial after each run: better, worse or undecided; take back the one that is worse.

The decision is a function of the ledger's history since the label moved, so it is the same on every host and
after every kill; feedback alone lies in one clone. It may be made after each run: the comparison is valid at
any time.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from workbench import registry
from workbench.config.operations import load_operations
from workbench.config.rollout import Rollout
from workbench.context import Clock
from workbench.display import Card, Shown, number
from workbench.errors import CorruptError
from workbench.experiments.sequential import (
    CountedDifferences,
    GuardComparison,
    Verdict,
    compare_guards,
    verdict_of,
)
from workbench.jobs import after_run, roles
from workbench.jobs.ledger import JobLedger, JobRun, PostedNotice, Role, RunOrder
from workbench.notices.notice import JobNotice
from workbench.promotion.feedback_guard import feedback_differences
from workbench.promotion.withdrawal import TakenBack, finish_withdrawals, take_back
from workbench.records.outcomes import FEEDBACK

#: Most runs of a trial that a decision reads, the newest.
_MOST_RUNS = 10_000
_ENDED_WELL = frozenset({"published", "shadowed", "unchanged"})
_ENDED = frozenset({*_ENDED_WELL, "failed", "deadline", "held", "rolled_back"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialReport:
    """What a version on trial did beside production since its label moved.

    `slots` counts the slots that it ended, `failed` those that it failed in; `usd` is what its runs cost at
    least, because `unpriced` of them do not say. `breach` says why it is taken back, "" for no reason, and
    `paused` why it has no runs any more until a person or a new version ends that.
    """

    job: str
    version: int
    role: Role
    against: int | None
    since: str
    slots: int
    failed: int
    usd: float
    unpriced: int
    guards: tuple[GuardComparison, ...]
    breach: str = ""
    paused: str = ""

    @property
    def verdict(self) -> Verdict:
        """Worse with a breach, else the verdict of the guards: better only when all are."""
        return "worse" if self.breach else verdict_of(self.guards)

    @property
    def reason(self) -> str:
        """Why the version is worse, in one line; "" when it is not."""
        worse = [item for item in self.guards if item.verdict == "worse" and item.mean is not None]
        lines = [
            f"{item.metric} differs by {item.mean:+.3f} from {self.job}@{self.against} "
            f"({item.interval.low:+.3f} to {item.interval.high:+.3f}, accepted -{item.margin:g}, "
            f"{item.n:.0f} compared)"
            for item in worse
        ]
        return "; ".join(filter(None, (self.breach, *lines)))

    def to_json(self) -> dict[str, Any]:
        """Return the value that `--json` prints."""
        plain = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        said = {"verdict": self.verdict, "reason": self.reason}
        return {**plain, **said, "guards": [item.to_json() for item in self.guards]}

    def rows(self) -> list[tuple[str, ...]]:
        """Return a row for each guard: its differences, their interval and the verdict."""
        return [
            (
                self.role, item.metric, f"{item.n:.0f}", "" if item.mean is None else f"{item.mean:+.3f}",
                f"{item.interval.low:+.3f} to {item.interval.high:+.3f}", f"-{item.margin:g}", item.verdict,
            )
            for item in self.guards
        ]  # fmt: skip

    def notes(self) -> list[str]:
        """Return the slots and cost, and why the version is worse."""
        cost = f"{number(self.usd)} USD" + (
            f" and {self.unpriced} runs of unknown cost" * bool(self.unpriced)
        )
        counted = f"{self.role}: {self.slots} slots since {self.since}, {self.failed} failed, cost {cost}"
        worse = [f"{self.role}: worse: {self.reason}"] if self.reason else []
        return [counted, *worse, *([self.paused] if self.paused else [])]

    @property
    def title(self) -> str:
        """What is on trial against what, and the verdict."""
        against = "no version" if self.against is None else f"@{self.against}"
        return f"{self.job}@{self.version} in {self.role} against {against}: {self.verdict}"

    @property
    def command(self) -> str:
        """The next step of the rollout, or its end."""
        if self.verdict == "worse":
            return f"workbench rollback job/{self.job} --label {self.role} --commit"
        if self.verdict == "better":
            label = "canary --share 10%" if self.role == "shadow" else "production"
            return f"workbench promote job/{self.job}@{self.version} --to {label}"
        return f"workbench jobs history {self.job}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutReport(Shown):
    """The trials of a job, and its withdrawn versions with their reasons."""

    job: str
    trials: tuple[TrialReport, ...]
    withdrawn: tuple[tuple[str, str, str], ...]

    def to_json(self) -> dict[str, Any]:
        """Return the value that `--json` prints."""
        names = ("version", "at", "reason")
        return {
            "job": self.job,
            "trials": [item.to_json() for item in self.trials],
            "withdrawn": [dict(zip(names, item, strict=True)) for item in self.withdrawn],
        }

    def card(self) -> Card:
        """Return the guards of each trial, and the withdrawn versions."""
        notes = [note for item in self.trials for note in item.notes()]
        notes += [f"{version} was withdrawn at {at}: {why}" for version, at, why in self.withdrawn]
        none = f"{self.job}: no version is on trial"
        return Card(
            title="; ".join(item.title for item in self.trials) or none,
            head=("role", "guard", "compared", "difference", "interval", "accepted", "verdict"),
            rows=[row for item in self.trials for row in item.rows()],
            notes=notes,
            command=next(
                (item.command for item in self.trials),
                f"workbench promote job/{self.job}@VERSION --to shadow",
            ),
        )


def rollout_of(root: Path, ledger: JobLedger, job: str) -> RolloutReport:
    """Return the trials of a job as they stand, and its withdrawn versions; NotFoundError for no such job."""
    withdrawn = ledger.withdrawals(job)
    return RolloutReport(
        job=job,
        trials=tuple(_reports(root, ledger, job)),
        withdrawn=tuple(
            (f"{job}@{item.version}", item.at.isoformat(timespec="seconds"), item.reason)
            for item in withdrawn
        ),
    )


def settle_trials(root: Path, ledger: JobLedger, job: str, *, clock: Clock | None = None) -> list[TakenBack]:
    """Take back each version of a job that is worse on trial, or whose output in production was rolled back.

    Interrupted withdrawals are finished first. A trial that was paused is told, once for each pause. Call it
    after each run, whatever became of the run.
    """
    done = finish_withdrawals(root, ledger, clock=clock)
    reports = list(_reports(root, ledger, job))
    _tell_paused(root, ledger, reports)
    worse = {item.version: item.reason for item in reports if item.verdict == "worse"}
    last = roles.last_rolled_back(ledger, job)
    if last is not None and _is_open(root, ledger, last):
        worse[_suspect(last)] = last.detail or f"a check of run {last.run} failed"
    for version, reason in worse.items():
        done.append(take_back(root, ledger, job, version, reason=reason, clock=clock))
    if last is not None:
        _run_again(root, ledger, last)
    return done


def _tell_paused(root: Path, ledger: JobLedger, reports: Sequence[TrialReport]) -> None:
    """Post the notice of each trial that another model answered: production's run, which tells, is well."""
    for item in reports:
        pause = after_run.pause_of(ledger, item.job, item.version)
        if pause is not None:
            notice = JobNotice.of_version(
                "model_changed", item.job, item.version, pause.at, detail=pause.reason
            )
            ledger.post(PostedNotice(**notice.posting(load_operations(root).of(item.job).notify)))


def _is_open(root: Path, ledger: JobLedger, last: JobRun) -> bool:
    """Return whether nobody was blamed yet for a rolled-back output of the version that is in production.

    A version that was restored and promoted again is not blamed for what it did before.
    """
    move = registry.load(root, "job", last.slot.job).last_move("production")
    moved = move is not None and last.queued_at < dt.datetime.fromisoformat(move.at)
    return not moved and _suspect(last) not in roles.withdrawn_in(ledger, last.slot.job)


def _suspect(last: JobRun) -> int:
    """Return the version that a rolled-back output is blamed on: the canary that answered some of its rows.

    The slot's retry is without the canary; if its output is rolled back too, production is to blame.
    """
    canary = last.facts.get("canary")
    return canary if isinstance(canary, int) else last.version


def _run_again(root: Path, ledger: JobLedger, last: JobRun) -> None:
    """Let a server run a slot again whose output was rolled back, by the version that remains; once."""
    job, withdrawn = last.slot.job, roles.withdrawn_in(ledger, last.slot.job)
    remains = roles.roles_of(root, job, withdrawn=withdrawn).production is not None
    if last.server and remains and _suspect(last) in withdrawn:
        # A second order of this attempt is none: the ledger knows which attempts of a slot fired.
        ledger.enqueue(
            RunOrder(slot=last.slot, trigger="retry", attempt=last.attempt + 1, priority=last.priority)
        )


def _reports(root: Path, ledger: JobLedger, job: str) -> Iterator[TrialReport]:
    """Yield the report of each trial of a job."""
    asset = registry.load(root, "job", job)
    stated = load_operations(root).of(job).rollout
    found = roles.roles_of(root, job, withdrawn=roles.withdrawn_in(ledger, job))
    for role, version in (("shadow", found.shadow), ("canary", found.canary)):
        last = asset.last_move(role)
        if version is not None and last is not None:
            since = dt.datetime.fromisoformat(last.at)
            runs = ledger.history(job, since=since, limit=_MOST_RUNS)
            against = found.production
            trial = _Trial(job, version, role, against, last.at)  # type: ignore[arg-type]
            report = _report(trial, runs, stated, _heard(root, trial, runs, stated, since))
            pause = after_run.pause_of(ledger, job, version)
            yield dataclasses.replace(report, paused=after_run.said_of(pause) if pause else "")


class _Trial(NamedTuple):
    job: str
    version: int
    role: Role
    against: int | None
    since: str


def _heard(
    root: Path, trial: _Trial, runs: Sequence[JobRun], stated: Rollout, since: dt.datetime
) -> Mapping[str, CountedDifferences]:
    """Return what people said of a canary's answers, when a guard asks for it; nobody sees a shadow's."""
    if FEEDBACK not in stated.guards or trial.role != "canary":
        return {}
    shown = [run for run in runs if run.outcome == "published" and not run.facts.get("paused")]
    new = {run.run for run in shown if (run.role, run.version) == ("canary", trial.version)}
    old = {run.run for run in shown if run.role == "production" and run.version == trial.against}
    return {FEEDBACK: feedback_differences(root, new, old, since=since)}


def _report(
    trial: _Trial, runs: Sequence[JobRun], stated: Rollout, heard: Mapping[str, CountedDifferences]
) -> TrialReport:
    own = [run for run in runs if run.role == trial.role and run.version == trial.version]
    # The last one counts; none counts that another model answered than the version's judged one.
    ended = {
        run.slot.key: run.outcome
        for run in reversed(own)
        if run.outcome in _ENDED and not run.facts.get("paused")
    }
    failed = sum(outcome not in _ENDED_WELL for outcome in ended.values())
    costs = [run.cost_usd for run in own if run.outcome in _ENDED_WELL]
    usd = math.fsum(cost for cost in costs if cost is not None)
    left_out = {FEEDBACK} if trial.role == "shadow" else set()
    wanted = {name: margin for name, margin in stated.guards.items() if name not in left_out}
    guards = compare_guards({**_differences(trial, runs), **heard}, wanted, alpha=stated.alpha)
    return TrialReport(
        **trial._asdict(), slots=len(ended), failed=failed, usd=usd, unpriced=costs.count(None),
        guards=guards, breach=_breached_check(own) or _breach(len(ended), failed, usd, stated),
    )  # fmt: skip


def _breached_check(runs: Sequence[JobRun]) -> str:
    """Return the newest check of a trial's own runs whose breach takes a version back, "" for none."""
    for run in runs:
        for check in run.facts.get("checks", ()):
            if (check["state"], check["then"]) == ("breach", "roll_back"):
                said = after_run.OutputCheckResult(**check).sentence
                return f"{said}, in {run.slot.key}"
    return ""


def _breach(slots: int, failed: int, usd: float, stated: Rollout) -> str:
    """Return the limit that a trial has used up, "" for none."""
    if slots >= stated.slots and failed > stated.failures * slots:
        return f"{failed} of {slots} slots failed, above {stated.failures:.0%}"
    if stated.usd is not None and usd >= stated.usd:
        return f"the trial cost {number(usd)} USD, and its limit is {number(stated.usd)} USD"
    return ""


def _differences(trial: _Trial, runs: Sequence[JobRun]) -> Mapping[str, CountedDifferences]:
    """Return the differences of a trial by metric, each slot once: the newest run that compared it."""
    total: dict[str, CountedDifferences] = {}
    seen: set[str] = set()
    for run in runs:
        for item in _compared(run):
            if (item.get("version"), item.get("role")) == (trial.version, trial.role) and (
                run.slot.key not in seen
            ):
                seen.add(run.slot.key)
                for metric, raw in item["guards"].items():
                    total[metric] = total.get(metric, CountedDifferences()) + CountedDifferences.from_json(
                        raw
                    )
    return total


def _compared(run: JobRun) -> list[Mapping[str, Any]]:
    """Return the comparisons in a run's facts; CorruptError for facts of another form."""
    found = run.facts.get("trials", [])
    if not isinstance(found, list) or not all(
        isinstance(item, dict) and isinstance(item.get("guards"), dict) for item in found
    ):
        raise CorruptError(
            f"the facts of run {run.run} hold no comparisons", hint=f"workbench jobs history {run.slot.job}"
        )
    return found
