"""`workbench promote` and `workbench rollback`."""

from __future__ import annotations

import sys

import click

from workbench import config
from workbench.cli.output import Json, show


@click.command()
@click.argument("reference", metavar="KIND/NAME")
@click.option("--to", "label", default="production", show_default=True, help="candidate or production.")
@click.option("--reason", default="", help="The reason, kept with the version and the move.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Show what would be frozen, what would change and what is missing; write nothing.",
)
@click.option("--commit", is_flag=True, help="Commit the staged files.")
@Json()
def promote(reference: str, label: str, reason: str, dry_run: bool, commit: bool, as_json: bool) -> None:
    """Freeze a job's notebook as its next version and put it into production.

    KIND/NAME is job/answers, or an existing version: job/answers@2, prompt/answer@3, model/NAME@1,
    memory/NAME@2. The written files are staged in git, and the command that commits them is printed.
    """
    from workbench.promotion.promote import ReleaseOptions
    from workbench.promotion.promote import promote as promoted

    order = ReleaseOptions(label=label, reason=reason, dry_run=dry_run, commit=commit, show=not as_json)
    card = promoted(config.find_root(), reference, order)
    show(card, as_json=as_json)
    sys.exit(1 if card.missing else 0)


@click.command()
@click.argument("reference", metavar="KIND/NAME")
@click.option("--to", type=int, metavar="VERSION", help="The target version [default: the version before].")
@click.option("--label", default="production", show_default=True, help="candidate or production.")
@click.option("--reason", default="", help="The reason, kept with the move.")
@click.option("--dry-run", is_flag=True, help="Show what would change; write nothing.")
@click.option("--commit", is_flag=True, help="Commit the move and no other change.")
@Json()
def rollback(
    reference: str, to: int | None, label: str, reason: str, dry_run: bool, commit: bool, as_json: bool
) -> None:
    """Move the label back to the version before, with its code, prompt, model and memory.

    The tree may have uncommitted changes. The rollback takes effect with its commit, whose command
    is printed.
    """
    from workbench.promotion.promote import ReleaseOptions
    from workbench.promotion.promote import rollback as rolled_back

    order = ReleaseOptions(label=label, reason=reason, dry_run=dry_run, commit=commit)
    card = rolled_back(config.find_root(), reference, order, to=to)
    show(card, as_json=as_json)
