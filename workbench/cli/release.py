"""`workbench promote` and `workbench rollback`."""

from __future__ import annotations

import sys

import click

from workbench import config
from workbench.cli.output import Json, show


@click.command()
@click.argument("reference", metavar="KIND/NAME")
@click.option("--to", "label", default="production", show_default=True, help="candidate or production.")
@click.option("--reason", default="", help="Why; kept with the version and the move.")
@click.option(
    "--dry-run", is_flag=True, help="Say what would be frozen, changed and is missing; write nothing."
)
@click.option("--commit", is_flag=True, help="Commit what was staged.")
@Json()
def promote(reference: str, label: str, reason: str, dry_run: bool, commit: bool, as_json: bool) -> None:
    """Freeze a job's notebook as its next version and put it into production.

    KIND/NAME is job/answers, or a version that exists: job/answers@2, prompt/answer@3, model/NAME@1,
    memory/NAME@2. What is written is staged in git; the command that commits it is printed.
    """
    from workbench.promotion.promote import ReleaseOptions
    from workbench.promotion.promote import promote as promoted

    order = ReleaseOptions(label=label, reason=reason, dry_run=dry_run, commit=commit, show=not as_json)
    card = promoted(config.find_root(), reference, order)
    show(card, as_json=as_json)
    sys.exit(1 if card.missing else 0)


@click.command()
@click.argument("reference", metavar="KIND/NAME")
@click.option("--to", type=int, metavar="VERSION", help="Which version; without it, the one before.")
@click.option("--label", default="production", show_default=True, help="candidate or production.")
@click.option("--reason", default="", help="Why; kept with the move.")
@click.option("--dry-run", is_flag=True, help="Say what would change; write nothing.")
@click.option("--commit", is_flag=True, help="Commit the move, and nothing else of the tree.")
@Json()
def rollback(
    reference: str, to: int | None, label: str, reason: str, dry_run: bool, commit: bool, as_json: bool
) -> None:
    """Give the label back to the version before, with its code, prompt, model and memory.

    Works on a dirty tree. Takes effect with the commit, whose command is printed.
    """
    from workbench.promotion.promote import ReleaseOptions
    from workbench.promotion.promote import rollback as rolled_back

    order = ReleaseOptions(label=label, reason=reason, dry_run=dry_run, commit=commit)
    card = rolled_back(config.find_root(), reference, order, to=to)
    show(card, as_json=as_json)
