"""The jobs page, reports/jobs.html: each job against its objective, its versions, runs, drift and changes.

The page shows the ledger and the registry of one clone at one moment, so git and DVC do not track it. What
was not measured is said in words. Every text is escaped: the detail of a run may hold markup.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from workbench import files
from workbench.context import Clock, SystemClock, moment
from workbench.display import number, percent, span
from workbench.errors import WorkbenchError
from workbench.jobs.health import SlotSummary
from workbench.jobs.ledger import JobRun
from workbench.jobs.overview import paused
from workbench.jobs.status import (
    JobStatus,
    cost_text,
    labels_of,
    seconds_text,
    share_text,
    since,
    statuses,
)
from workbench.pipeline.jobs_charts import ShownDays, charts
from workbench.pipeline.report import environment
from workbench.promotion.job_approvals import approvals_of

PAGE = Path("reports/jobs.html")
#: The newest runs and changes that a section lists.
_RUNS, _CHANGES = 20, 30
#: An approval for any label holds for this one.
_LEAST_LABEL = "candidate"
_VERDICTS = {
    "pass": "The objective is kept.",
    "fail": "The objective is missed: more slots are bad than the window may hold.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEntry:
    """A line of the timeline: what was changed, when, by whom and why."""

    at: dt.datetime
    what: str
    by: str
    reason: str


def write_jobs_page(
    root: Path, job: str | None = None, *, path: Path | None = None, clock: Clock | None = None
) -> Path:
    """Write the page of all jobs, or of one, and return its path, by default reports/jobs.html.

    NotFoundError for an unknown job.
    """
    clock = clock or SystemClock()
    path = path or root / PAGE
    found = statuses(root, job, clock=clock)
    approvals = {status.job: list(_approvals(root, status, clock.now())) for status in found}
    files.write_atomic(path, jobs_page(found, clock.now(), approvals=approvals))
    return path


def jobs_page(
    found: Sequence[JobStatus],
    now: dt.datetime,
    *,
    approvals: Mapping[str, Sequence[TimelineEntry]] = MappingProxyType({}),
) -> bytes:
    """Return the page of these jobs as HTML, with their approvals by job."""
    page = environment(autoescape=True).get_template("jobs.html.j2")
    jobs = [_section(status, now, approvals.get(status.job, ())) for status in found]
    return page.render(now=f"{now:%Y-%m-%d %H:%MZ}", jobs=jobs).encode()


def _approvals(root: Path, status: JobStatus, now: dt.datetime) -> Iterator[TimelineEntry]:
    """Yield the approvals that count of the versions with a label; one that does not count is said too."""
    for version in sorted(set(status.asset.labels.values())):
        try:
            found = approvals_of(root, status.job, version, _LEAST_LABEL, now=now)
        except WorkbenchError as error:
            what = f"the approvals of version {version} cannot be read"
            yield TimelineEntry(at=now, what=what, by="", reason=error.message)
            continue
        for approval in found.counted:
            yield TimelineEntry(
                at=moment(approval.at),
                what=f"version {version} is approved for {approval.label}, until {approval.until}",
                by=approval.principal.partition("@")[0],
                reason=approval.reason,
            )
        for name, reason in found.refused:
            yield TimelineEntry(
                at=now, what=f"version {version}: {name} does not count", by="", reason=reason
            )


def _section(status: JobStatus, now: dt.datetime, approvals: Sequence[TimelineEntry]) -> dict[str, Any]:
    """Return the facts of one job's section."""
    objective, total, due = status.operation.objective, status.health.total, status.due(now)
    window = ShownDays(first=now - dt.timedelta(days=objective.days), last=now)
    changes = sorted([*_changes(status), *approvals], key=lambda change: change.at, reverse=True)
    last = status.runs[0] if status.runs else None
    return {
        "name": status.job,
        "verdict": status.health.verdict or "",
        "sentence": _VERDICTS.get(status.health.verdict or "") or _silence(status),
        "warnings": status.stopped,
        "objective": f"{percent(objective.success)} of the slots of {objective.days} days are published"
        f" within {number(objective.seconds)} s of their time",
        "production": status.production,
        "due": f"{due:%Y-%m-%d %H:%MZ}" if due else "when asked" if status.production else "",
        "last": f"{last.outcome or last.state}, {last.slot.at:%Y-%m-%d %H:%MZ}" if last else "",
        "good": share_text(total.good.good, total.good.n),
        "interval": span(total.good.interval),
        "budget": str(status.health.budget),
        "used_up": status.health.budget.used_up,
        "burn": _burn(status),
        "seconds": [seconds_text(total.quantile(q)) for q in (0.5, 0.95)],
        "cost": cost_text(total.cost_usd, total.unpriced, total.good.n),
        "charts": charts(status.health, window, seconds=objective.seconds),
        "first": f"{window.first:%Y-%m-%d}",
        "until": f"{window.last:%Y-%m-%d}",
        "marks": [f"{window.x(change.at):.2f}" for change in changes if change.at >= window.first],
        "versions": [_version(status, version) for version in _versions(status)],
        "checked": _checked(status),
        "runs": [_run(run) for run in status.runs[:_RUNS]],
        "n_runs": len(status.runs),
        "changes": [_shown(change) for change in changes[:_CHANGES]],
        "more_changes": max(0, len(changes) - _CHANGES),
    }


def _silence(status: JobStatus) -> str:
    """Return why nothing is measured."""
    if not status.runs:
        return "There are no runs yet on this machine."
    return f"No slot ended in the last {status.operation.objective.days} days."


def _burn(status: JobStatus) -> str:
    """Return the burn of the budget in words, "" where it is unknown."""
    burn, days = status.health.budget.burn, status.operation.objective.days
    if burn is None:
        return ""
    lasts = "" if burn <= 1 else f"; at this rate a whole budget lasts {number(round(days / burn, 1))} days"
    rate = f"{number(round(burn, 2))} times the rate that the objective allows"
    return f"{rate} in the last quarter of the window{lasts}"


def _versions(status: JobStatus) -> list[int]:
    """Return the versions with a label or with slots in the window, the newest first."""
    return sorted({*status.asset.labels.values(), *status.health.versions}, reverse=True)


def _version(status: JobStatus, version: int) -> dict[str, Any]:
    moved, total = since(status.asset, version), status.health.versions.get(version)
    return {
        "version": version or "none",  # a run that failed before its version was known
        "labels": ", ".join(labels_of(status.asset, version)),
        "since": f"{moved:%Y-%m-%d}" if moved else "",
        "gate": status.gates.get(version, ""),
        **_measured(total),
    }


def _measured(total: SlotSummary | None) -> dict[str, str]:
    """Return the measures of a version's slots; "no runs yet" and empty texts without any."""
    if total is None or not total.good.n:
        return {"good": "no runs yet"} | dict.fromkeys(("interval", "p95", "broken", "cost"), "")
    broken = total.quarantine_rate
    return {
        "good": share_text(total.good.good, total.good.n),
        "interval": span(total.good.interval),
        "p95": seconds_text(total.quantile(0.95)),
        "broken": "" if broken is None else f"{number(round(broken * 100, 2))} %",
        "cost": cost_text(total.cost_usd, total.unpriced, total.good.n),
    }


def _run(run: JobRun) -> dict[str, Any]:
    took = run.finished_at - run.started_at if run.started_at and run.finished_at else None
    return {
        "slot": f"{run.slot.at:%Y-%m-%d %H:%MZ}",
        "tenant": run.slot.tenant or "all",
        "version": f"{run.version or ''}{'' if run.role == 'production' else f' ({run.role})'}".strip(),
        "ended": run.outcome or run.state,
        "verdict": _COLOURS.get(run.outcome, "fail" if run.state == "lost" else ""),
        "rows": run.rows or "",
        "quarantined": run.quarantined or "",
        "seconds": seconds_text(took.total_seconds()) if took else "",
        "cost": "" if run.cost_usd is None else number(run.cost_usd),
        "detail": run.detail,
        "run": run.run,
    }


_COLOURS: Mapping[str, str] = {
    "published": "pass", "unchanged": "pass", "held": "undecided", "missed": "fail", "failed": "fail",
    "deadline": "fail", "refused": "fail", "rolled_back": "fail", "interrupted": "fail",
}  # fmt: skip


def _checked(status: JobStatus) -> dict[str, Any]:
    """Return the checks of the newest run whose output was checked, and what is said of its models."""
    for run in status.runs:
        checks, changed = run.facts.get("checks"), run.facts.get("model_changed")
        if checks or changed:
            return {
                "slot": f"{run.slot.at:%Y-%m-%d %H:%MZ}",
                "models": [str(line) for line in changed or ()],
                "rows": [_check(check) for check in checks or () if isinstance(check, Mapping)],
            }
    return {}


def _check(check: Mapping[str, Any]) -> dict[str, str]:
    """Return one check of a run's facts as the texts of a row."""
    value, state = check.get("value"), str(check.get("state", ""))
    measured = isinstance(value, int | float) and not isinstance(value, bool)
    then = f", else {check['then']}" if check.get("then") else ""
    return {
        "name": str(check.get("name", "")),
        "value": number(round(value, 4)) if measured else "undecided",  # type: ignore[arg-type]
        "bound": f"{check.get('bound', '')}{then}",
        "state": state,
        "verdict": {"breach": "fail"}.get(state, state),
        "note": str(check.get("note", "")),
    }


def _changes(status: JobStatus) -> Iterator[TimelineEntry]:
    """Yield the changes of a job: moves of its labels, withdrawals, pauses that last, and who was told."""
    for move in status.asset.moves:
        yield TimelineEntry(
            at=dt.datetime.fromisoformat(move.at),
            what=f"{move.label} is version {move.version}" if move.version else f"no version is {move.label}",
            by=move.by,
            reason=move.reason,
        )
    for gone in status.withdrawals:
        what = f"version {gone.version} is withdrawn"
        yield TimelineEntry(at=gone.at, what=what, by=gone.by, reason=gone.reason)
    for pause in status.pauses:
        yield TimelineEntry(at=pause.at, what=paused(pause), by=pause.by, reason=pause.reason)
    for notice in status.notices:
        if notice.posted_at is not None:
            what, to = f"notice: {notice.event.replace('_', ' ')}", ", ".join(notice.channels) or "no channel"
            yield TimelineEntry(at=notice.posted_at, what=what, by=f"to {to}", reason="")


def _shown(change: TimelineEntry) -> dict[str, str]:
    at = f"{change.at:%Y-%m-%d %H:%MZ}"
    return {"at": at, "what": change.what, "by": change.by, "reason": change.reason}
