"""List jobs with their next times, environments and runs, and export their schedules."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench import config, files, registry
from workbench.config.operations import load_operations
from workbench.context import Clock, SystemClock
from workbench.display import Card, Shown
from workbench.errors import ConfigError
from workbench.jobs import exports, slots, versions
from workbench.jobs import run as jobs
from workbench.jobs import spec as jobspec
from workbench.jobs.exports import JobEntry
from workbench.jobs.exports.variables import variables_of
from workbench.jobs.ledger import JobLedger, JobRun, Pause, Withdrawal
from workbench.jobs.result import run_row
from workbench.layout import LOCK
from workbench.registry import Asset
from workbench.repository import environments

_WRITERS: Mapping[str, Callable[..., Mapping[str, str]]] = {
    "systemd": exports.to_systemd,
    "kubernetes": exports.to_kubernetes,
    "github": exports.to_github,
    "airflow": exports.to_airflow,
}
_LABELS = ("production", "candidate", "shadow", "canary")
#: The schedulers that a job's schedule is exported to.
TARGETS = ("cron", *_WRITERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobTable(Shown):
    """A table about jobs, as a card and as JSON; `command` is the suggested next command.

    `notes` are sentences below the table, which JSON leaves out.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    command: str
    notes: tuple[str, ...] = ()

    def to_json(self) -> list[dict[str, str]]:
        """Return one object per row."""
        return [dict(zip(self.head, row, strict=True)) for row in self.rows]

    def card(self) -> Card:
        """Return the table as a card."""
        notes = [*self.notes] if self.rows else ["nothing yet", *self.notes]
        return Card(title=self.title, head=self.head, rows=self.rows, notes=notes, command=self.command)


def overview(root: Path, *, clock: Clock | None = None) -> JobTable:
    """Return every declared or promoted job with its versions, labels, next time, last run and pauses."""
    clock = clock or SystemClock()
    declared = config.load_params(root).jobs
    names = sorted({*declared, *registry.names(root, "job")})
    book = jobs.ledger(root, clock)
    missing = [spec.reference for spec in versions.without_environment(root)]
    pauses = book.pauses()
    rows = []
    for name in names:
        absent = ", ".join(reference for reference in missing if reference.partition("@")[0] == name)
        asset = registry.load_or_new(root, "job", name)
        held = stopped((p for p in pauses if p.job == name), book.withdrawals(name), asset)
        row = _overview_row(root, asset, clock, book.history(name, limit=1))
        held += damage_notes(book, name)
        rows.append((*row, absent and f"missing for {absent}", "; ".join(held)))
    live = [name for name, production, *_ in rows if production]
    command = f"workbench promote job/{(names or ['NAME'])[0]} --to production --dry-run"
    if live:
        running = [name for name in live if name not in {pause.job for pause in pauses}]
        command = f"workbench jobs run {running[0]}" if running else f"workbench jobs resume {live[0]}"
    if missing:
        command = f"workbench jobs install {missing[0]}"
    return JobTable(
        title=f"{len(rows)} {'job' if len(rows) == 1 else 'jobs'}",
        head=("job", *_LABELS, "versions", "due next", "last run", "environment", "stopped"),
        rows=tuple(rows),
        command=command,
    )


def damage_notes(book: JobLedger, job: str | None = None) -> list[str]:
    """Return a sentence about the rows of a job, or of all, that a read left out because they are damaged."""
    found = [row for row in book.damaged() if job in {None, row.job}]
    if not found:
        return []
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return [f"{found[0].name} of the ledger{more} cannot be read: workbench jobs repair --dry-run"]


def paused(pause: Pause) -> str:
    """Return what a pause stops."""
    version = f"version {pause.version}" if pause.version else "the job"
    return f"{version} is paused{f' for {pause.tenant}' if pause.tenant else ''}"


def stopped(pauses: Iterable[Pause], withdrawals: Iterable[Withdrawal], asset: Asset) -> list[str]:
    """Return what stops a job: its pauses, withdrawn versions that still have a label, the off switch."""
    live, last = asset.labels.values(), asset.last_move("production")
    said = [
        f"{paused(p)} since {p.at:%Y-%m-%d %H:%MZ}" + (f": {p.reason}" if p.reason else "") for p in pauses
    ]
    if last is not None and last.version == registry.NO_VERSION:
        said.append(f"switched off by {last.by}" + (f": {last.reason}" if last.reason else ""))
    return said + [
        f"version {gone.version} is withdrawn and does not run: {gone.reason}"
        for gone in withdrawals
        if gone.version in live
    ]


def _overview_row(root: Path, asset: Asset, clock: Clock, last: Sequence[JobRun]) -> tuple[str, ...]:
    name = asset.name
    live = asset.labels.get("production")
    due = ""
    if live is not None:
        schedule = slots.schedule_of(jobspec.load(root, name, live)[0])
        due = f"{schedule.after(clock.now(), 1)[0]:%Y-%m-%d %H:%MZ}" if schedule else "when asked"
    ended = f"{last[0].outcome or last[0].state} {last[0].slot.at:%Y-%m-%d %H:%MZ}" if last else "never here"
    shown = [str(asset.labels.get(label, "")) for label in _LABELS]
    return (name, *shown, ", ".join(map(str, sorted(asset.versions))), due, ended)


def history_of(root: Path, name: str | None, *, limit: int = 20, clock: Clock | None = None) -> JobTable:
    """Return the runs of a job, or of all jobs, newest first; NotFoundError for an unknown job."""
    params = config.load_params(root)
    if name is not None and name not in {*params.jobs, *registry.names(root, "job")}:
        config.job(params, name)  # its error names the known jobs
    book = jobs.ledger(root, clock or SystemClock())
    rows = [run_row(run) for run in book.history(name, limit=limit)]
    head = ("when", "slot", "version", "ended", "rows", "set aside", "cost", "seconds", "output")
    title = f"{name or 'all jobs'}: {len(rows)} {'run' if len(rows) == 1 else 'runs'}"
    command = f"workbench jobs run {name}" if name else "workbench jobs list"
    notes = tuple(damage_notes(book, name))
    return JobTable(title=title, head=head, rows=tuple(rows), command=command, notes=notes)


def exported(root: Path, name: str, *, target: str, clock: Clock | None = None) -> Mapping[str, str]:
    """Return the schedule of the version in production as files by name, for one of `TARGETS`.

    ConfigError when the version has no schedule or no input, RefusedError when the target cannot express it.
    """
    entry, now = _entry(root, name), (clock or SystemClock()).now()
    if target == "cron":
        text = exports.to_cron(entry, system_timezone=exports.system_timezone(), now=now)
        return {f"{entry.name}.cron": text}
    return _WRITERS[target](entry, now=now)


def without_environment(root: Path, name: str) -> str:
    """Return the version that a job's name means when its environment is not installed here, else ""."""
    job, number = jobs.number_of(root, name)
    spec = jobspec.load(root, job, number)[0]
    return "" if versions.has_environment(root, spec) else spec.reference


def _entry(root: Path, name: str) -> JobEntry:
    job, number = jobs.number_of(root, name)
    spec, folder = jobspec.load(root, job, number)
    schedule = slots.schedule_of(spec)
    if schedule is None:
        raise ConfigError(
            f"{spec.reference} has no schedule",
            hint=f'add jobs.{job}.schedule: {{cron: "0 6 * * *"}} to params.yaml, and promote it',
        )
    if spec.input is None:
        raise ConfigError(
            f"{spec.reference} does not say where a scheduled run finds its input",
            hint=f"add jobs.{job}.input: data/inbox/{{date}}.parquet to params.yaml, and promote it",
        )
    params, operations = config.load_params(root), load_operations(root)
    case = params.use_cases.get(spec.use_case)
    program = str(Path(sys.executable).with_name("workbench"))
    return JobEntry(
        name=job,
        root=root,
        command=(program, "jobs", "run", name),
        failed=(program, "jobs", "notify", job),
        schedule=schedule,
        seconds=spec.limits.seconds,
        description=case.title if case else "",
        variables=variables_of(params, operations, spec, folder),
        start_deadline_s=math.ceil(operations.of(job).start_deadline_s),
        image=f"workbench:{environments.digest(files.read_bytes(root / LOCK))}",
    )


def install_environment(root: Path, name: str, *, say: Callable[[str], Any]) -> Path:
    """Install a version's environment when it is missing; return its interpreter."""
    job, number = jobs.number_of(root, name)
    return versions.install(root, jobspec.load(root, job, number)[0], say=say)


def prune(root: Path, *, dry_run: bool = False) -> JobTable:
    """Remove the environments that no labelled version needs; return them with their sizes in MB."""
    found = versions.prune(root, dry_run=dry_run)
    megabytes = sum(environment.size for environment in found) / 1e6
    count = f"{len(found)} {'environment' if len(found) == 1 else 'environments'}"
    return JobTable(
        title=f"{count}, {megabytes:.0f} MB, {'would be' if dry_run else ''} removed".replace("  ", " "),
        head=("environment", "MB"),
        rows=tuple((str(e.folder.relative_to(root)), f"{e.size / 1e6:.0f}") for e in found),
        command="workbench jobs prune" if dry_run and found else "workbench jobs list",
    )
