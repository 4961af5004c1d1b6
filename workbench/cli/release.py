"""`workbench promote` and `workbench rollback`."""

from __future__ import annotations

import sys
from typing import Any, Literal

import click

from workbench import config
from workbench.cli.output import Json, show


class ShareType(click.ParamType[float]):
    """A share, written as a percentage or a number: 10% or 0.1."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the share as a number."""
        text = str(value).strip()
        try:
            return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            self.fail(f"{text[:40]!r} is not a share; write 10% or 0.1", param, ctx)


class TargetVersion(click.ParamType[int | Literal["none"]]):
    """The number of a version, or `none`."""

    name = "version"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | Literal["none"]:
        """Return the number or "none"."""
        text = str(value)
        if text == "none":
            return "none"
        if not text.isascii() or not text.isdigit() or not 0 < len(text) < 10 or int(text) == 0:
            self.fail(f"{text[:40]!r} is neither the number of a version nor none", param, ctx)
        return int(text)


@click.command()
@click.argument("reference", metavar="KIND/NAME")
@click.option(
    "--to", "label", default="production", show_default=True, help="candidate, shadow, canary or production."
)
@click.option(
    "--share", type=ShareType(), metavar="SHARE", help="The share of a canary, such as 10% [default: 10%]."
)
@click.option("--reason", default="", help="The reason, kept with the version and the move.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Show what would be frozen, what would change and what is missing; write nothing.",
)
@click.option("--commit", is_flag=True, help="Commit the staged files.")
@Json()
def promote(
    reference: str, label: str, share: float | None, reason: str, dry_run: bool, commit: bool, as_json: bool
) -> None:
    """Freeze a job's notebook as its next version and put it into production.

    KIND/NAME is job/answers, or an existing version: job/answers@2, prompt/answer@3, model/NAME@1,
    memory/NAME@2. --to shadow runs a job's version in the same slots and publishes nothing; --to canary
    lets it answer a share of the rows.

    The written files are staged in git, and the command that commits them is printed.
    """
    from workbench.promotion.promote import ReleaseOptions
    from workbench.promotion.promote import promote as promoted

    order = ReleaseOptions(
        label=label, share=share, reason=reason, dry_run=dry_run, commit=commit, show=not as_json
    )
    card = promoted(config.find_root(), reference, order)
    show(card, as_json=as_json)
    sys.exit(1 if card.missing else 0)


@click.command()
@click.argument("reference", metavar="KIND/NAME")
@click.option(
    "--to",
    type=TargetVersion(),
    metavar="VERSION",
    help="The target version, or none: then the job is off [default: the version before].",
)
@click.option(
    "--label", default="production", show_default=True, help="candidate, shadow, canary or production."
)
@click.option("--reason", default="", help="The reason, kept with the move.")
@click.option("--dry-run", is_flag=True, help="Show what would change; write nothing.")
@click.option("--commit", is_flag=True, help="Commit the move and no other change.")
@Json()
def rollback(
    reference: str,
    to: int | Literal["none"] | None,
    label: str,
    reason: str,
    dry_run: bool,
    commit: bool,
    as_json: bool,
) -> None:
    """Move the label back to the version before, with its code, prompt, model and memory.

    --label shadow and --label canary end the trial. The tree may have uncommitted changes. The
    rollback takes effect with its commit, whose command is printed.
    """
    from workbench.promotion.promote import ReleaseOptions
    from workbench.promotion.promote import rollback as rolled_back

    order = ReleaseOptions(label=label, reason=reason, dry_run=dry_run, commit=commit)
    card = rolled_back(config.find_root(), reference, order, to=to)
    show(card, as_json=as_json)
