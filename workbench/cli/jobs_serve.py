"""`workbench jobs serve|trigger|backfill|pause|resume`: run jobs on schedule, and order runs by hand."""

from __future__ import annotations

import datetime as dt
import sys
from pathlib import Path
from typing import Any

import click

from workbench import config, files, rehearsal
from workbench.cli.output import Json, say, show
from workbench.context import SystemClock
from workbench.errors import ConfigError

_tenant = click.option("--tenant", metavar="NAME", help="This tenant's slots only.")


@click.command()
@click.option("--once", is_flag=True, help="Run what is due now, and end when it has ended.")
@click.option(
    "--runs", type=click.IntRange(1, 1_000), help="Run this many jobs at once [default: capacity.runs]."
)
@click.option(
    "--address",
    metavar="HOST:PORT",
    help="Answer /health, /ready, /metrics and /jobs [default: 127.0.0.1:8350].",
)
@click.option(
    "--grace", type=click.FloatRange(0, 86_400), default=30.0, show_default=True, metavar="SECONDS",
    help="How long runs may go on after SIGTERM; then they wait for the next server.",
)  # fmt: skip
@click.option("--warm", is_flag=True, help="Fork runs from processes that have imported what they need.")
@click.option("--from", "start", metavar="TIME", help="Rehearse: a clock that begins at this time.")
@click.option(
    "--speed", type=click.FloatRange(0, 1_000_000, min_open=True), help="Rehearse: its seconds in a second."
)
@click.option("--until", metavar="TIME", help="Start nothing after this time, and end when all has ended.")
@Json()
def serve(as_json: bool, **given: Any) -> None:
    """Run jobs on their schedules.

    The server runs the versions in production, and shadows, until SIGTERM or Ctrl-C.
    pipelines/operations.yaml states tenants, catch-up, retries, overlap and capacity. Several servers
    may serve one ledger: no slot runs twice. A rehearsal runs the schedules of other days in fast
    motion, in a clone that has no runs yet. With --once or --until, exit with 1 when a run failed or
    was held. Example:

        workbench jobs serve --from 2026-11-24T05:59Z --speed 3600 --until 2026-11-24T07:00Z
    """
    from workbench.scheduler.server import ServeOptions
    from workbench.scheduler.serving import log_to_stderr
    from workbench.scheduler.starting import open_server

    log_to_stderr()
    root = config.find_root()
    begin, speed = given["start"], given["speed"]
    if begin is None and speed is not None:
        raise ConfigError("--speed is of a rehearsal", hint="workbench jobs serve --from TIME --speed 3600")
    until = None if given["until"] is None else _time(given["until"], "--until")
    if begin is not None:
        start = _time(begin, "--from")
        check_unused(root)
        rehearsal.begin(start, 1.0)  # in fast motion as soon as the server looks
    options = ServeOptions(
        runs=given["runs"], once=given["once"], until=until, speed=speed or 1.0, warm=given["warm"]
    )
    opened = open_server(root, options, address=given["address"], rehearsal=begin is not None)
    click.echo(opened.greeting, err=True)
    outcomes = opened.run(grace_s=given["grace"])
    text = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items())) or "no runs"
    say(outcomes, f"the server ended: {text}", as_json=as_json)
    if (options.once or until is not None) and (opened.server.measures.broken or opened.server.damaged):
        sys.exit(1)


def check_unused(root: Path) -> None:
    """Raise ConfigError when the ledger of a repository has runs: a rehearsal would run among them."""
    from workbench.jobs.ledger import open_ledger

    if found := open_ledger(root, SystemClock()).history(limit=1):
        raise ConfigError(
            f"this repository has runs of jobs, the last of {found[0].slot.key}: a rehearsal is not for it",
            hint="git clone . ../rehearsal && cd ../rehearsal   # then the same command",
        )


@click.command()
@click.argument("job", metavar="JOB")
@click.option("--at", metavar="TIME", help="The logical time [default: the last fire time].")
@_tenant
@Json()
def trigger(job: str, at: str | None, tenant: str | None, as_json: bool) -> None:
    """Order the run of one slot of JOB.

    A server runs it as soon as it has room (`workbench jobs serve`); `workbench jobs run` does it at
    once. A slot that is published already is not published again.
    """
    from workbench.scheduler.orders import trigger as triggered

    root, ledger = _opened()
    show(triggered(root, ledger, job, clock=SystemClock(), tenant=tenant, at=at), as_json=as_json)


@click.command()
@click.argument("job", metavar="JOB")
@click.argument("first", metavar="FROM")
@click.argument("last", metavar="TO")
@click.option("--again", is_flag=True, help="Also the slots that fired before.")
@click.option("--dry-run", is_flag=True, help="List the slots; enqueue none.")
@_tenant
@Json()
def backfill(
    job: str, first: str, last: str, again: bool, dry_run: bool, tenant: str | None, as_json: bool
) -> None:
    """Order the slots from FROM to TO.

    A server runs the slots of JOB's schedule in this span that did not fire yet (`workbench jobs
    serve`). FROM and TO are days, of the schedule's time zone, or times. Scheduled slots go first. Example:

        workbench jobs backfill answers 2026-11-01 2026-11-23 --dry-run
    """
    from workbench.scheduler.orders import backfill as ordered

    root, ledger = _opened()
    found = ordered(root, ledger, job, (first, last), tenant=tenant, again=again, dry_run=dry_run)
    show(found, as_json=as_json)


@click.command()
@click.argument("job", metavar="JOB")
@click.option("--reason", default="", help="The reason, shown with the pause.")
@_tenant
@Json()
def pause(job: str, reason: str, tenant: str | None, as_json: bool) -> None:
    """Start no run of JOB until it is resumed.

    No server starts one, and `workbench jobs run JOB`, as timers call it, is refused. Runs that have
    begun go on. JOB@VERSION can still be run by hand. `workbench jobs resume JOB` ends the pause.
    """
    from workbench.scheduler.orders import pause as paused

    root, ledger = _opened()
    text = paused(root, ledger, job, tenant=tenant or "", reason=reason)
    say({"job": job, "tenant": tenant or "", "paused": True}, text, as_json=as_json)


@click.command()
@click.argument("job", metavar="JOB")
@click.option("--reason", default="", help="Why a version may run on a model that was not judged.")
@_tenant
@Json()
def resume(job: str, reason: str, tenant: str | None, as_json: bool) -> None:
    """End the pause of JOB.

    What it missed is caught up as operations.yaml states. A version that is paused because another model
    answered is resumed with a reason only, which the audit log keeps.
    """
    from workbench.scheduler.orders import resume as resumed

    root, ledger = _opened()
    text = resumed(root, ledger, job, tenant=tenant or "", reason=reason)
    say({"job": job, "tenant": tenant or "", "paused": False}, text, as_json=as_json)


@click.command()
@click.option("--dry-run", is_flag=True, help="List the rows; set none aside.")
@Json()
def repair(*, dry_run: bool, as_json: bool) -> None:
    """Set aside damaged rows of the job ledger.

    A row that no workbench wrote cannot be read. It stops its job when it is of a run that has not ended.
    Each row is moved into .workbench/state/jobs-set-aside.jsonl; other rows are not touched.
    """
    from workbench.scheduler.repair import repair as repaired

    root, ledger = _opened()
    show(repaired(root, ledger, dry_run=dry_run), as_json=as_json)


def _opened() -> tuple[Path, Any]:
    from workbench.jobs.ledger import open_ledger

    root = config.find_root()
    return root, open_ledger(root, SystemClock())


def _time(text: str, option: str) -> dt.datetime:
    """Return the time that an option names, in whole seconds; ConfigError without a time zone."""
    try:
        at = dt.datetime.fromisoformat(text)
        if at.tzinfo is not None:
            return at.astimezone(dt.UTC).replace(microsecond=0)
    except (ValueError, OverflowError):  # the offset may lead out of the years 1 to 9999
        pass
    raise ConfigError(
        f"{option} {files.shortened(text)!r} is not a time with a time zone",
        hint=f"{option} 2026-11-24T05:59Z",
    )
