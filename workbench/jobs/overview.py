"""List jobs with their next times, environments and runs, and export their schedules."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench import config, registry
from workbench.context import Clock, SystemClock
from workbench.display import Card, Shown
from workbench.errors import ConfigError
from workbench.jobs import export, slots, versions
from workbench.jobs import run as jobs
from workbench.jobs import spec as jobspec
from workbench.jobs.ledger import JobRun
from workbench.jobs.result import run_row


@dataclass(frozen=True, slots=True, kw_only=True)
class JobTable(Shown):
    """A table about jobs, as a card and as JSON; `command` is the suggested next command."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    command: str

    def to_json(self) -> list[dict[str, str]]:
        """Return one object per row."""
        return [dict(zip(self.head, row, strict=True)) for row in self.rows]

    def card(self) -> Card:
        """Return the table as a card."""
        notes = [] if self.rows else ["nothing yet"]
        return Card(title=self.title, head=self.head, rows=self.rows, notes=notes, command=self.command)


def overview(root: Path, *, clock: Clock | None = None) -> JobTable:
    """Return every declared or promoted job with its versions, labels, next time and last run."""
    clock = clock or SystemClock()
    declared = config.load_params(root).jobs
    names = sorted({*declared, *registry.names(root, "job")})
    book = jobs.ledger(root, clock)
    missing = [spec.reference for spec in versions.without_environment(root)]
    rows = []
    for name in names:
        absent = ", ".join(reference for reference in missing if reference.partition("@")[0] == name)
        row = _overview_row(root, name, clock, book.history(name, limit=1))
        rows.append((*row, absent and f"missing for {absent}"))
    live = [name for name, production, *_ in rows if production]
    first = (live or names or ["NAME"])[0]
    command = f"workbench promote job/{first} --to production --dry-run"
    if live:
        command = f"workbench jobs run {first}"
    if missing:
        command = f"workbench jobs install {missing[0]}"
    return JobTable(
        title=f"{len(rows)} {'job' if len(rows) == 1 else 'jobs'}",
        head=("job", "production", "candidate", "versions", "due next", "last run", "environment"),
        rows=tuple(rows),
        command=command,
    )


def _overview_row(root: Path, name: str, clock: Clock, last: Sequence[JobRun]) -> tuple[str, ...]:
    asset = registry.load_or_new(root, "job", name)
    live = asset.labels.get("production")
    due = ""
    if live is not None:
        schedule = slots.schedule_of(jobspec.load(root, name, live)[0])
        due = f"{schedule.after(clock.now(), 1)[0]:%Y-%m-%d %H:%MZ}" if schedule else "when asked"
    ended = f"{last[0].outcome or last[0].state} {last[0].slot.at:%Y-%m-%d %H:%MZ}" if last else "never here"
    shown = [str(asset.labels.get(label, "")) for label in ("production", "candidate")]
    return (name, *shown, ", ".join(map(str, sorted(asset.versions))), due, ended)


def history_of(root: Path, name: str, *, limit: int = 20, clock: Clock | None = None) -> JobTable:
    """Return the runs of a job on this machine, the newest first; NotFoundError for an unknown job."""
    known = {*config.load_params(root).jobs, *registry.names(root, "job")}
    if name not in known:
        config.job(config.load_params(root), name)  # its error names the known jobs
    rows = [run_row(run) for run in jobs.ledger(root, clock or SystemClock()).history(name, limit=limit)]
    head = ("when", "slot", "version", "ended", "rows", "set aside", "cost", "seconds", "output")
    return JobTable(
        title=f"{name}: {len(rows)} runs", head=head, rows=tuple(rows), command=f"workbench jobs run {name}"
    )


def exported(root: Path, name: str, *, target: str, clock: Clock | None = None) -> Mapping[str, str]:
    """Return the schedule of the version in production as files by name, for cron or systemd.

    ConfigError when the version has no schedule or no input.
    """
    clock = clock or SystemClock()
    job, number = jobs.number_of(root, name)
    spec, _ = jobspec.load(root, job, number)
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
    case = config.load_params(root).use_cases.get(spec.use_case)
    entry = export.JobEntry(
        name=job,
        root=root,
        command=(str(Path(sys.executable).with_name("workbench")), "jobs", "run", name),
        schedule=schedule,
        seconds=spec.limits.seconds,
        description=case.title if case else "",
    )
    now = clock.now()
    if target == "systemd":
        return export.to_systemd(entry, now=now)
    return {f"{job}.cron": export.to_cron(entry, system_timezone=export.system_timezone(), now=now)}


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
