"""What is known of each job now: its versions and labels, its runs, its health, and what holds it up.

`statuses` reads it; `status_card` and `jobs_frame` show it as a card and as a polars frame.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import gc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import config, files, registry
from workbench.config.operations import JobOperation, load_operations
from workbench.context import Clock, SystemClock
from workbench.display import number, percent
from workbench.errors import WorkbenchError
from workbench.experiments.intervals import rounded
from workbench.jobs import run as jobs
from workbench.jobs import slots
from workbench.jobs import spec as jobspec
from workbench.jobs.health import JobHealth
from workbench.jobs.ledger import JobLedger, JobRun, Pause, PostedNotice, Withdrawal
from workbench.jobs.overview import JobTable, damage_notes, stopped
from workbench.jobs.schedule import Schedule
from workbench.registry import Asset

if TYPE_CHECKING:
    import polars as pl

#: Runs of one job that are read: a run a minute for more than half a year.
_MOST_RUNS = 300_000
#: The runs that are shown of a job without any in its window, and the longest time from queued to ended.
_LAST_RUNS, _LONGEST = 20, dt.timedelta(days=2)
#: Coming fire times from which the number of slots in a window is estimated.
_FIRES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """One job: its page in the registry, how it is operated, its runs of the window, newest first.

    `schedule` is that of the version in production. `gates` are the verdicts that versions were promoted on.
    `problem` says why the page of the version in production, or rows of the ledger, cannot be read.
    """

    job: str
    asset: Asset
    operation: JobOperation
    schedule: Schedule | None
    runs: tuple[JobRun, ...]
    health: JobHealth
    gates: Mapping[int, str]
    pauses: tuple[Pause, ...] = ()
    withdrawals: tuple[Withdrawal, ...] = ()
    notices: tuple[PostedNotice, ...] = ()
    problem: str = ""

    @property
    def production(self) -> int | None:
        """The version in production, or None."""
        return self.asset.labels.get("production")

    @property
    def stopped(self) -> list[str]:
        """What stops the job now: an unreadable version, pauses, a labelled version that is withdrawn."""
        said = [self.problem] if self.problem else []
        return said + stopped(self.pauses, self.withdrawals, self.asset)

    def due(self, now: dt.datetime) -> dt.datetime | None:
        """Return the next fire time, or None without a schedule in production."""
        return self.schedule.after(now, 1)[0] if self.schedule else None


def statuses(root: Path, job: str | None = None, *, clock: Clock | None = None) -> list[JobStatus]:
    """Return the status of every declared or promoted job, or of one; NotFoundError for an unknown one."""
    clock = clock or SystemClock()
    params, operations = config.load_params(root), load_operations(root)
    names = sorted({*params.jobs, *registry.names(root, "job")})
    if job is not None and job not in names:
        config.job(params, job)  # its error names the known jobs
    book = jobs.ledger(root, clock)
    chosen = names if job is None else [job]
    with _uncollected():
        return [_status(root, name, operations.of(name), book, clock.now()) for name in chosen]


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Search for no garbage in the block: among runs that are all kept, that takes a tenth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _status(root: Path, name: str, operation: JobOperation, book: JobLedger, now: dt.datetime) -> JobStatus:
    first = now - dt.timedelta(days=operation.objective.days) - _LONGEST
    runs = book.history(name, since=first, limit=_MOST_RUNS) or book.history(name, limit=_LAST_RUNS)
    asset = registry.load_or_new(root, "job", name)
    schedule, problem = None, ""
    try:
        live = asset.labels.get("production")
        page = live and registry.resolve(root, "job", f"{name}@{live}").path
        schedule = slots.schedule_of(jobspec.read(page)) if page else None
    except WorkbenchError as error:  # one bad version does not hide the other jobs
        problem = error.message
    problem = "; ".join(filter(None, [problem, *damage_notes(book, name)]))
    health = JobHealth.of(
        runs, operation, now,
        scheduled=schedule is not None, expected=_expected(schedule, operation, now),
    )  # fmt: skip
    return JobStatus(
        job=name, asset=asset, operation=operation, schedule=schedule, runs=tuple(runs), health=health,
        pauses=tuple(pause for pause in book.pauses() if pause.job == name),
        withdrawals=tuple(book.withdrawals(name)), notices=tuple(book.notices(name)),
        gates={n: _gate(root, name, n) for n in {*asset.labels.values(), *health.versions}}, problem=problem,
    )  # fmt: skip


def _gate(root: Path, name: str, version: int) -> str:
    """Return the gate's verdict in a version's evidence; "" where there is none to read."""
    path = registry.folder_of(root, "job", name) / str(version) / "evidence" / "gate.json"
    try:
        verdict = files.parse_json(files.read_text(path), where=str(path)).get("verdict")
    except (WorkbenchError, AttributeError):
        return ""
    return verdict if verdict in {"pass", "fail", "undecided"} else ""


def _expected(schedule: Schedule | None, operation: JobOperation, now: dt.datetime) -> int:
    """Return about how many slots a schedule fires in the days of the objective; 0 without one."""
    if schedule is None:
        return 0
    fires = schedule.after(now, _FIRES)
    days = (fires[-1] - fires[0]) / dt.timedelta(days=1) / (len(fires) - 1)
    return round(operation.objective.days / days) * max(1, len(operation.tenants))


def status_card(root: Path, job: str | None = None, *, clock: Clock | None = None) -> JobTable:
    """Return a card with a row for each job: success, time, budget and cost against its objective."""
    clock = clock or SystemClock()
    found = statuses(root, job, clock=clock)
    head = (
        "job", "production", "verdict", "good slots", "objective", "budget", "burn", "p95 s", "cost USD",
        "last run", "due next", "stopped",
    )  # fmt: skip
    rows = tuple(_row(status, clock.now()) for status in found)
    one = found[0].job if len(found) == 1 else ""
    about = one or f"{len(rows)} jobs"
    return JobTable(
        title=f"{about} against the objective",
        head=head,
        rows=rows,
        command=f"workbench jobs report {one}".rstrip(),
    )


def _row(status: JobStatus, now: dt.datetime) -> tuple[str, ...]:
    health, objective = status.health, status.operation.objective
    total, burn, due = health.total, health.budget.burn, status.due(now)
    production = "" if status.production is None else str(status.production)
    last = status.runs[0] if status.runs else None
    return (
        status.job,
        production,
        health.verdict or "",
        share_text(total.good.good, total.good.n),
        f"{percent(objective.success)} in {number(objective.seconds)} s, {objective.days} days",
        str(health.budget),
        "" if burn is None else f"{number(round(burn, 3))}x",
        seconds_text(total.quantile(0.95)),
        cost_text(total.cost_usd, total.unpriced, total.good.n),
        f"{last.outcome or last.state} {last.slot.at:%Y-%m-%d %H:%MZ}" if last else "no runs yet",
        f"{due:%Y-%m-%d %H:%MZ}" if due else "",
        "; ".join(status.stopped),
    )


def share_text(good: int, n: int) -> str:
    """Return a count of slots as `27 of 28`, or that there is none."""
    return f"{good} of {n}" if n else "no runs yet"


def seconds_text(seconds: float | None) -> str:
    """Return seconds in three digits, "" for None."""
    return "" if seconds is None else number(round(seconds, 3))


def cost_text(cost: float | None, unpriced: int, n: int) -> str:
    """Return a sum of known costs, and how many runs have none; "" of no slots, "unknown" of no cost."""
    if not n or cost is None:
        return "unknown" if n else ""
    return f"{number(cost)}, and {unpriced} unknown" if unpriced else number(cost)


def jobs_frame(root: Path, *, clock: Clock | None = None) -> pl.DataFrame:
    """Return one row for each version of each job, with its slots of the objective's days.

    What was not measured is null: a version without slots has no success, no seconds and no verdict. `gate`
    is the verdict that a version was promoted on, `verdict` that of its slots on the interval of `success`.
    """
    import polars as pl

    rows = [row for status in statuses(root, clock=clock) for row in _version_rows(status)]
    return pl.DataFrame(rows, schema=_schema())


def _schema() -> dict[str, Any]:
    import polars as pl

    numbers = (
        "success", "success_low", "success_high", "seconds_p50", "seconds_p95", "objective_success",
        "objective_seconds", "budget_left", "burn",
    )  # fmt: skip
    return {
        "job": pl.String(),
        "version": pl.Int64(),
        "labels": pl.List(pl.String()),
        "since": pl.Datetime("us", "UTC"),
        **dict.fromkeys(("slots", "published", "good"), pl.Int64()),
        **dict.fromkeys(numbers, pl.Float64()),
        **dict.fromkeys(("gate", "verdict"), pl.String()),
        **dict.fromkeys(("rows", "quarantined"), pl.Int64()),
        "cost_usd": pl.Float64(),
        **dict.fromkeys(("author", "reason"), pl.String()),
    }


def _version_rows(status: JobStatus) -> Iterator[dict[str, Any]]:
    objective, budget = status.operation.objective, status.health.budget
    for version in sorted({*status.asset.versions, *status.health.versions}):
        entry = status.asset.versions.get(version)
        total = status.health.versions.get(version)
        n = total.good.n if total else 0
        measured = total if n else None
        interval = measured and measured.good.interval
        live = version == status.production
        yield {
            "job": status.job,
            "version": version,
            "labels": labels_of(status.asset, version),
            "since": since(status.asset, version),
            "slots": n,
            "published": total.published.good if total else 0,
            "good": total.good.good if total else 0,
            "success": measured and rounded(measured.good.value),
            "success_low": interval and rounded(interval.low),
            "success_high": interval and rounded(interval.high),
            "seconds_p50": measured and measured.quantile(0.5),
            "seconds_p95": measured and measured.quantile(0.95),
            "objective_success": objective.success,
            "objective_seconds": objective.seconds,
            "budget_left": rounded(budget.left) if live else None,  # of the job, whatever version ran
            "burn": rounded(budget.burn) if live else None,
            "gate": status.gates.get(version, ""),
            "verdict": measured and measured.good.against(objective.success),
            "rows": total.rows if total else 0,
            "quarantined": total.quarantined if total else 0,
            "cost_usd": measured and measured.cost_usd,
            "author": entry.author if entry else "",
            "reason": entry.reason if entry else "",
        }


def labels_of(asset: Asset, version: int) -> list[str]:
    """Return the labels of a version, sorted."""
    return sorted(label for label, number in asset.labels.items() if number == version)


def since(asset: Asset, version: int) -> dt.datetime | None:
    """Return when a label last moved to a version, or None."""
    moves = [dt.datetime.fromisoformat(move.at) for move in asset.moves if move.version == version]
    return moves[-1] if moves else None
