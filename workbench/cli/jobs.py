"""`workbench jobs …`: run promoted jobs; show their history, schedules and environments."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from workbench import config, files
from workbench.cli.output import Json, check_names, say, show


@click.group()
def jobs() -> None:
    """Run promoted jobs, and show their runs, schedules and environments."""


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
@Json()
def run_job(
    job: str, source: str | None, at: str | None, tenant: str | None, replace: bool, as_json: bool
) -> None:
    """Run JOB on an input and publish its output, completely or not at all.

    JOB is a name (the version in production) or NAME@VERSION. Broken rows go into quarantine with
    their reasons; too many hold the output back (exit 1). A second run of the same input changes
    nothing. Example:

        workbench jobs run answers --input data/inbox/2026-11-24.parquet
    """
    from workbench.audit.acts import Act, refusals_audited
    from workbench.identity import of_job
    from workbench.jobs.run import run as run_it
    from workbench.jobs.slots import RunRequest
    from workbench.policy.authorise import authorise_publication
    from workbench.promotion.assured import check_authenticated

    root = config.find_root()
    check_authenticated(root, "job", job.partition("@")[0], verb="run")
    name = job.partition("@")[0]
    refused = Act(activity="publish", principal=of_job(name), type="Job", name=job, tenant=tenant or "")
    with refusals_audited(root, refused):
        decision = authorise_publication(root, name, tenant)
    task = RunRequest(
        reference=job, input=source, at=at, tenant=tenant, replace=replace, show=not as_json,
        decision=decision.to_json(),
    )  # fmt: skip
    done = run_it(root, task)
    show(done, as_json=as_json)
    sys.exit(done.exit_code)


@jobs.command("list")
@Json()
def list_jobs(as_json: bool) -> None:
    """List every job with its versions, labels, next time and last run."""
    from workbench.jobs.overview import overview

    found = overview(config.find_root())
    show(found, as_json=as_json)


@jobs.command()
@click.argument("job", metavar="JOB")
@click.option(
    "--limit",
    type=click.IntRange(1, 1_000_000),
    default=20,
    show_default=True,
    help="Show this many runs, the newest first.",
)
@Json()
def history(job: str, limit: int, as_json: bool) -> None:
    """Show the runs of JOB: time, version, outcome, rows, cost and output."""
    from workbench.jobs.overview import history_of

    found = history_of(config.find_root(), job, limit=limit)
    show(found, as_json=as_json)


@jobs.command()
@click.argument("job", metavar="JOB")
@click.option("--to", "target", type=click.Choice(["cron", "systemd"]), required=True, help="The scheduler.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the files into this folder.")
@Json()
def export(job: str, target: str, out: Path | None, as_json: bool) -> None:
    """Export JOB's schedule as plain files that call `workbench jobs run`.

    Each file lists the next five fire times and says how to install it. Nothing is installed.
    """
    from workbench.jobs.overview import exported

    if out is not None:
        check_names(out, again=f"workbench jobs export {job} --to {target} --out schedule")
    found = exported(config.find_root(), job, target=target)
    if out is not None:
        for name, text in found.items():
            files.write_atomic(out / name, text.encode())
    text = "\n".join(found.values() if out is None else (str(out / name) for name in found))
    say(found, text, as_json=as_json)


@jobs.command()
@click.argument("job", metavar="JOB")
@Json()
def install(job: str, as_json: bool) -> None:
    """Install the environment of JOB's lock, when it differs from today's lock."""
    from workbench.jobs.overview import install_environment

    python = install_environment(config.find_root(), job, say=lambda text: click.echo(text, err=True))
    say({"python": python}, python, as_json=as_json)


@jobs.command()
@click.option("--dry-run", is_flag=True, help="List them with their sizes; remove nothing.")
@Json()
def prune(dry_run: bool, as_json: bool) -> None:
    """Remove the installed environments that no labelled version needs; each takes about 1 GB.

    An environment with a running process stays. `workbench jobs install` installs a removed one again.
    """
    from workbench.jobs.overview import prune as pruned

    found = pruned(config.find_root(), dry_run=dry_run)
    show(found, as_json=as_json)
