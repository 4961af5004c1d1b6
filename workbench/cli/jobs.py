"""`workbench jobs …`: run promoted jobs; show their history, schedules and environments."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from workbench import config, files
from workbench.cli.jobs_notify import notify, tell_recovery
from workbench.cli.jobs_report import purge, report, status
from workbench.cli.jobs_rollout import restore, rollout, trials_settled
from workbench.cli.jobs_serve import backfill, pause, repair, resume, serve, trigger
from workbench.cli.output import Json, check_names, say, show

if TYPE_CHECKING:
    from workbench.jobs.result import JobResult
    from workbench.jobs.slots import RunRequest

#: The schedulers that run a job in this folder.
_LOCAL = frozenset({"cron", "systemd", "airflow"})


@click.group()
def jobs() -> None:
    """Run promoted jobs by hand or on schedule, and show what they did."""


@jobs.command("run")
@click.argument("job", metavar="JOB")
@click.option(
    "--input",
    "source",
    metavar="FILE",
    help="The input rows, .parquet or .jsonl [default: the job's own input].",
)
@click.option(
    "--at",
    metavar="TIME",
    help="The logical time: a day, or 2026-11-24T06:00Z [default: the last fire time].",
)
@click.option("--tenant", metavar="NAME", help="Run this tenant's rows only, as a separate slot.")
@click.option("--replace", is_flag=True, help="Replace the output that the slot has.")
@click.option("--run", "run_id", metavar="ID", hidden=True, help="The run that a server took.")
@click.option(
    "--role",
    type=click.Choice(["production", "shadow"]),  # a canary has no runs of its own
    default="production",
    show_default=True,
    help="The label that a bare name means; a shadow's output is kept and not published.",
)
@Json()
def run_job(job: str, *, as_json: bool, **asked: Any) -> None:
    """Run JOB and publish its output.

    The output is published completely or not at all. JOB is a name (the version in production) or
    NAME@VERSION. Broken rows go into quarantine with their reasons; too many hold the output back (exit
    1). A second run of the same input changes nothing. Example:

        workbench jobs run answers --input data/inbox/2026-11-24.parquet
    """
    from workbench.jobs.run import failures_recorded
    from workbench.jobs.slots import RunRequest

    root = config.find_root()
    given = {"input": asked["source"], "at": asked["at"], "tenant": asked["tenant"], "role": asked["role"]}
    if asked["run_id"]:
        given["run"] = asked["run_id"]
    task = RunRequest(reference=job, replace=asked["replace"], show=not as_json, **given)
    with _terminated_as_interrupted(), trials_settled(root, job), failures_recorded(root, task):
        done = _run_authorised(root, task)
    tell_recovery(root, job.partition("@")[0], server=bool(asked["run_id"]))
    show(done, as_json=as_json)
    sys.exit(done.exit_code)


def _run_authorised(root: Path, task: RunRequest) -> JobResult:
    """Run a job that the policies permit to publish."""
    from workbench.audit.acts import Act, refusals_audited
    from workbench.identity import of_job
    from workbench.jobs.run import run
    from workbench.promotion.assured import check_authenticated
    from workbench.promotion.confinement_level import level_of_job
    from workbench.promotion.run_rights import authorise_run

    name = task.reference.partition("@")[0]
    check_authenticated(root, "job", name, verb="run")
    tenant = task.tenant or ""
    refused = Act(activity="publish", principal=of_job(name), type="Job", name=task.reference, tenant=tenant)
    with refusals_audited(root, refused):
        decision = authorise_run(root, task.reference, task.tenant, role=task.role)
    level = level_of_job(root, name)
    return run(root, dataclasses.replace(task, decision=decision.to_json(), confinement=level))


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM interrupt the run, so that its processes are ended and its line is written."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@jobs.command("list")
@Json()
def list_jobs(as_json: bool) -> None:
    """List all jobs: labels, next time, last run.

    The column `stopped` names pauses and withdrawn versions, `environment` what must be installed here.
    """
    from workbench.jobs.overview import overview

    found = overview(config.find_root())
    show(found, as_json=as_json)


@jobs.command()
@click.argument("job", metavar="[JOB]", required=False)
@click.option(
    "--limit",
    type=click.IntRange(1, 1_000_000),
    default=20,
    show_default=True,
    help="Show this many runs, the newest first.",
)
@Json()
def history(job: str | None, limit: int, as_json: bool) -> None:
    """Show the runs of JOB, or of all jobs.

    Each slot has its lines: when it was ordered or started, the version, how it ended, its rows and
    cost, and its output or the reason why it has none.
    """
    from workbench.jobs.overview import history_of

    found = history_of(config.find_root(), job, limit=limit)
    show(found, as_json=as_json)


@jobs.command()
@click.argument("job", metavar="JOB")
@click.option(
    "--to",
    "target",
    type=click.Choice(["cron", "systemd", "kubernetes", "github", "airflow"]),
    required=True,
    help="The scheduler.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Write the files into this folder.")
@Json()
def export(job: str, target: str, out: Path | None, as_json: bool) -> None:
    """Write JOB's schedule for another scheduler.

    The files are plain and call `workbench jobs run`. Each lists the next five fire times and says how
    to install it. Nothing is installed. A schedule that the scheduler cannot express is refused.
    docs/deploy.md describes each kind of file.
    """
    from workbench.jobs.overview import exported, without_environment

    root = config.find_root()
    if out is not None:
        check_names(out, again=f"workbench jobs export {job} --to {target} --out schedule")
    found = exported(root, job, target=target)
    if target in _LOCAL and (missing := without_environment(root, job)):
        click.echo(f"warning: the environment of {missing} is not installed here, so its runs fail", err=True)
        click.echo(f"  -> workbench jobs install {missing}", err=True)
    if out is not None:
        for name, text in found.items():
            files.write_atomic(out / name, text.encode())
    text = "\n".join(found.values() if out is None else (str(out / name) for name in found))
    say(found, text, as_json=as_json)


@jobs.command()
@click.argument("job", metavar="JOB")
@Json()
def install(job: str, as_json: bool) -> None:
    """Install the environment of JOB's lock.

    A version that was promoted with today's lock needs none of its own.
    """
    from workbench.jobs.overview import install_environment

    python = install_environment(config.find_root(), job, say=lambda text: click.echo(text, err=True))
    say({"python": python}, python, as_json=as_json)


@jobs.command()
@click.option("--dry-run", is_flag=True, help="List them with their sizes; remove nothing.")
@Json()
def prune(dry_run: bool, as_json: bool) -> None:
    """Remove environments that no label needs.

    Each takes about 1 GB. An environment with a running process stays. `workbench jobs install`
    installs a removed one again.
    """
    from workbench.jobs.overview import prune as pruned

    found = pruned(config.find_root(), dry_run=dry_run)
    show(found, as_json=as_json)


for _command in (
    notify, serve, trigger, backfill, pause, resume, repair, report, status, purge, rollout, restore,
):  # fmt: skip
    jobs.add_command(_command)
