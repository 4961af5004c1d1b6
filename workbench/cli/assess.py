"""`workbench assess` and `workbench approve`: the impact assessment of a model, and its approval."""

from __future__ import annotations

import datetime as dt
import sys

import click

from workbench import config
from workbench.cli.output import Json, show


@click.command()
@click.argument("model", metavar="MODEL")
@Json()
def assess(model: str, as_json: bool) -> None:
    """Write the form of MODEL's impact assessment, or show what the written one still lacks.

    The form is pipelines/assessments/MODEL.yaml. Exit with 1 while a question has no answer, or while the
    assessment is expired or not approved. Example: workbench assess smollm2-135m
    """
    from workbench.workspace.assess import assess as assessed

    found = assessed(config.find_root(), model)
    show(found, as_json=as_json)
    sys.exit(0 if found.complete or found.written else 1)


@click.command()
@click.argument("reference", metavar="model/NAME")
@click.option("--role", default="", help="The office in which you approve, such as risk officer.")
@click.option("--reason", default="", help="Why the remaining risk is acceptable.")
@click.option(
    "--until", metavar="DATE", help="The day on which it ends [default: when the assessment expires]."
)
@click.option("--commit", is_flag=True, help="Commit the approval with the assessment.")
@Json()
def approve(reference: str, role: str, reason: str, until: str | None, commit: bool, as_json: bool) -> None:
    """Approve the card of a model with its assessment as it is, until a day.

    The approval counts for exactly this card and these answers. It is refused to the person who wrote
    either. Example:

        workbench approve model/served-7b --role "risk officer" --reason "staff read every answer"
    """
    from workbench.promotion.approve import ApprovalOptions
    from workbench.promotion.approve import approve as approved

    order = ApprovalOptions(role=role, reason=reason, until=_day(until, reference), commit=commit)
    show(approved(config.find_root(), reference, order), as_json=as_json)


def _day(text: str | None, reference: str) -> dt.date | None:
    """Return a day; ConfigError for another text."""
    if text is None:
        return None
    config.check_day(text, where=f"workbench approve {reference} --until")
    return dt.date.fromisoformat(text)
