"""`workbench jobs rollout` and `restore`: versions on trial, and versions that were taken back."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from workbench import config
from workbench.cli.output import Json, masked, say, show
from workbench.errors import WorkbenchError


@click.command()
@click.argument("job", metavar="JOB")
@click.option("--settle", is_flag=True, help="Take back what is worse, and finish what was interrupted.")
@Json()
def rollout(job: str, settle: bool, as_json: bool) -> None:
    """Compare versions on trial with production.

    The card also names the versions of JOB that are withdrawn. The comparison may be looked at any
    time. Exit 0 better or nothing on trial, 1 worse, 4 undecided.
    """
    from workbench.context import SystemClock
    from workbench.jobs.run import ledger
    from workbench.promotion.rollout import rollout_of, settle_trials

    root = config.find_root()
    book = ledger(root, SystemClock())
    if settle:
        done = settle_trials(root, book, job)
        text = "\n\n".join(map(str, done)) or f"nothing of {job} is to be taken back"
        say([item.to_json() for item in done], text, as_json=as_json)
        return
    found = rollout_of(root, book, job)
    show(found, as_json=as_json)
    verdicts = {item.verdict for item in found.trials}
    sys.exit(1 if "worse" in verdicts else 4 if "undecided" in verdicts else 0)


@click.command()
@click.argument("version", metavar="JOB@VERSION")
@click.option("--reason", required=True, help="The reason, kept in the audit log.")
@Json()
def restore(version: str, reason: str, as_json: bool) -> None:
    """End the withdrawal of JOB@VERSION.

    It can then be promoted again.

    No label moves: `workbench promote job/JOB@VERSION` does that.
    """
    from workbench.context import SystemClock
    from workbench.jobs.run import ledger
    from workbench.promotion.withdrawal import restore_version

    root = config.find_root()
    restore_version(root, ledger(root, SystemClock()), version, reason=reason)
    text = f"{version} is no longer withdrawn\n  -> workbench promote job/{version} --to shadow"
    say({"restored": version}, text, as_json=as_json)


@contextlib.contextmanager
def trials_settled(root: Path, reference: str) -> Iterator[None]:
    """Decide on the trials of a job after the run in the block, also after one that failed.

    What is taken back is said on standard error; an error of the decision does not change the run's
    end.
    """
    try:
        yield
    except Exception:
        _settle(root, reference.partition("@")[0])
        raise
    _settle(root, reference.partition("@")[0])


def _settle(root: Path, job: str) -> None:
    from workbench import registry
    from workbench.context import SystemClock
    from workbench.jobs.ledger import open_ledger
    from workbench.jobs.roles import is_to_be_decided

    try:
        book = open_ledger(root, SystemClock())
        if job not in registry.names(root, "job") or not is_to_be_decided(root, book, job):
            return
        from workbench.promotion.rollout import settle_trials

        done = settle_trials(root, book, job)
    except WorkbenchError as error:
        click.echo(f"error: the trials of {job} were not decided on: {masked(str(error))}", err=True)
        return
    for item in done:
        click.echo(masked(str(item)), err=True)
