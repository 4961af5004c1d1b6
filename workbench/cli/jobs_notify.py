"""`workbench jobs notify`: tell the channels of a job how its last run ended, or test a channel."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from workbench import _sync, config
from workbench.cli.output import Json, say
from workbench.errors import ConfigError, NotFoundError, WorkbenchError, nearest

if TYPE_CHECKING:
    from workbench.config.operations import Operations
    from workbench.jobs.ledger import JobLedger

#: Runs of a job in which the last run, and the event before it, are looked for.
_LOOK_BACK = 20


@click.command()
@click.argument("job", metavar="[JOB]", required=False)
@click.option(
    "--test", "channel", metavar="CHANNEL", help="Send a test notice to this channel, and nothing else."
)
@Json()
def notify(job: str | None, channel: str | None, as_json: bool) -> None:
    """Tell how JOB's last run ended, or test a channel.

    It is told once, and notices that wait are delivered. A timer calls it after a failed run;
    `workbench jobs serve` tells by itself. Without JOB it only delivers the notices that are due. Exit
    3 when a channel did not take one: it is tried again, with growing pauses. Example:

        workbench jobs notify --test oncall
    """
    from workbench.config.operations import load_operations
    from workbench.context import SystemClock
    from workbench.jobs.run import ledger
    from workbench.notices import deliver

    root, clock = config.find_root(), SystemClock()
    operations = load_operations(root)
    if channel is not None:
        _test(root, operations, channel, job or "example")
        say({"channel": channel, "taken": True}, f"channel {channel} took the test notice", as_json=as_json)
        return
    book = ledger(root, clock)
    told = "" if job is None else _tell(root, book, operations, job)
    done = deliver(root, book, operations.channels, clock=clock)
    lines = [f"told: {told}" if told else "", *(f"not taken: {said}" for said in done.said)]
    text = "\n".join(filter(None, [*lines, f"{done.made} delivered, {done.failed} to be tried again"]))
    say({"told": told, "delivered": done.made, "failed": done.failed, "given_up": done.given_up,
         "said": list(done.said)}, text, as_json=as_json)  # fmt: skip
    sys.exit(3 if done.said else 0)


def _test(root: Path, operations: Operations, channel: str, job: str) -> None:
    """Send a test notice to a channel; NotFoundError for an unknown one."""
    from workbench.config.operations import OPERATIONS
    from workbench.notices import JobNotice, channels

    settings = operations.channels.get(channel)
    if settings is None:
        raise NotFoundError(
            f"{OPERATIONS} has no channel {channel!r} ({nearest(channel, operations.channels)})",
            hint=f"add channels: {{{channel}: {{webhook_env: ONCALL_WEBHOOK}}}} to {OPERATIONS}",
        )
    notice = JobNotice(event="test", job=job)
    _sync.run(channels.send(root, channel, settings, notice))


def tell_recovery(root: Path, job: str, *, server: bool) -> None:
    """Tell that a job recovered by its last run, which no `server` started; an error changes nothing.

    A timer hears of failures only, so that the run itself tells of the first output after one.
    """
    from workbench.config.operations import load_operations
    from workbench.context import SystemClock
    from workbench.jobs.ledger import open_ledger
    from workbench.notices import deliver

    with contextlib.suppress(WorkbenchError):
        operations, clock = load_operations(root), SystemClock()
        if server or not operations.of(job).notify:
            return
        book = open_ledger(root, clock)
        if _posted(book, operations, job, only="recovered"):
            deliver(root, book, operations.channels, clock=clock)


def _tell(root: Path, book: JobLedger, operations: Operations, job: str) -> str:
    """Post the notice of a job's last run, and return its key; "" when nobody is told or was told before."""
    from workbench.config.operations import OPERATIONS

    config.job(config.load_params(root), job)  # its error names the known jobs
    if not operations.of(job).notify:
        raise ConfigError(
            f"{OPERATIONS} names no channel for job {job}",
            hint=f"add jobs: {{{job}: {{notify: [CHANNEL]}}}} to {OPERATIONS}",
        )
    return _posted(book, operations, job)


def _posted(book: JobLedger, operations: Operations, job: str, *, only: str = "") -> str:
    """Post the notice of a job's last run, if it is `only` this event; return its key, or ""."""
    from workbench.jobs.ledger import PostedNotice
    from workbench.notices import JobNotice, event_of_run

    runs = book.history(job, role="production", limit=_LOOK_BACK)
    if not runs or runs[0].server:  # its server tells, when no retry follows
        return ""
    last, *earlier = runs
    event = event_of_run(last, earlier)
    if event is None or (only and event != only):
        return ""
    notice = JobNotice.of_slot(
        event, job, last.slot.tenant, last.slot.at, detail=last.detail, version=last.version, run=last.run
    )
    posted = PostedNotice(**notice.posting(operations.of(job).notify))
    return notice.key if book.post(posted) else ""
