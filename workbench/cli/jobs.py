"""`workbench jobs …`: running promoted jobs, their history, schedules and environments."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from workbench import config, files
from workbench.cli.output import Json, say, show


@click.group()
def jobs() -> None:
    """Run promoted jobs on today's input, and see what ran."""


@jobs.command("run")
@click.argument("job", metavar="JOB")
@click.option(
    "--input", "source", metavar="FILE", help="Its rows, .parquet or .jsonl; without it, the job's own."
)
@click.option(
    "--at", metavar="TIME", help="The logical time: a day, or 2026-11-24T06:00Z; without it, the last due."
)
@click.option("--tenant", metavar="NAME", help="Only this tenant's rows, as a slot of its own.")
@click.option("--replace", is_flag=True, help="Publish in the place of what the slot has.")
@Json()
def run_job(
    job: str, source: str | None, at: str | None, tenant: str | None, replace: bool, as_json: bool
) -> None:
    """Run JOB on an input and publish its output once, whole.

    JOB is a name (the version in production) or NAME@VERSION. Broken rows are set aside with their
    reasons; too many hold the output back (exit 1). The same input again changes nothing. Example:

        workbench jobs run answers --input data/inbox/2026-11-24.parquet
    """
    from workbench.jobs.run import run as run_it
    from workbench.jobs.slots import RunRequest

    task = RunRequest(reference=job, input=source, at=at, tenant=tenant, replace=replace, show=not as_json)
    done = run_it(config.find_root(), task)
    show(done, as_json=as_json)
    sys.exit(done.exit_code)


@jobs.command("list")
@Json()
def list_jobs(as_json: bool) -> None:
    """Every job: its versions and labels, when it is due next, and how it ended last."""
    from workbench.jobs.overview import overview

    found = overview(config.find_root())
    show(found, as_json=as_json)


@jobs.command()
@click.argument("job", metavar="JOB")
@click.option("--limit", type=int, default=20, show_default=True, help="How many, newest first.")
@Json()
def history(job: str, limit: int, as_json: bool) -> None:
    """What ran of JOB: when, which version, how it ended, rows, cost, output."""
    from workbench.jobs.overview import history_of

    found = history_of(config.find_root(), job, limit=limit)
    show(found, as_json=as_json)


@jobs.command()
@click.argument("job", metavar="JOB")
@click.option("--to", "target", type=click.Choice(["cron", "systemd"]), required=True, help="For what.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the files into this folder.")
@Json()
def export(job: str, target: str, out: Path | None, as_json: bool) -> None:
    """Write JOB's schedule as plain files that call `workbench jobs run`.

    The next five fire times are printed with it. Nothing is installed: each file says how.
    """
    from workbench.jobs.overview import exported

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
    """Install the environment of JOB's own lock, for a version whose lock is not today's."""
    from workbench.jobs.overview import install_environment

    python = install_environment(config.find_root(), job, say=lambda text: click.echo(text, err=True))
    say({"python": python}, python, as_json=as_json)


@jobs.command()
@click.option("--dry-run", is_flag=True, help="Only list them, with their sizes.")
@Json()
def prune(dry_run: bool, as_json: bool) -> None:
    """Remove the installed environments that no labelled version needs; each takes about 1 GB.

    One in which a process runs stays. `workbench jobs install` installs a removed one again.
    """
    from workbench.jobs.overview import prune as pruned

    found = pruned(config.find_root(), dry_run=dry_run)
    show(found, as_json=as_json)
