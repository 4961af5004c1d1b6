"""`workbench assess` and `workbench approve`: assess a model, and approve it or the version of a job."""

from __future__ import annotations

import datetime as dt
import sys
from typing import TYPE_CHECKING, Any

import click

from workbench import config
from workbench.cli.output import Json, show
from workbench.errors import ConfigError

if TYPE_CHECKING:
    from workbench.display import Shown


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
@click.argument("reference", metavar="KIND/NAME")
@click.option("--role", default="", help="The office in which you approve, such as risk officer.")
@click.option("--reason", default="", help="Why the remaining risk is acceptable.")
@click.option(
    "--until", metavar="DATE", help="The day on which it ends [default: the assessment's, or in a year]."
)
@click.option("--to", "label", metavar="LABEL", help="A job's label that it is for [default: production].")
@click.option("--revoke", is_flag=True, help="Revoke your approval of a job's version.")
@click.option("--commit", is_flag=True, help="Commit the approval, a model's with the assessment.")
@Json()
def approve(reference: str, until: str | None, as_json: bool, **stated: Any) -> None:
    """Approve a version of a job for production, or the card of a model with its assessment, until a day.

    The approval counts for exactly this version, or this card and these answers. It is refused to the person
    who made them. Examples:

        workbench approve job/answers@8 --reason "the sample's answers are right"
        workbench approve model/served-7b --role "risk officer" --reason "staff read every answer"
    """
    stated["until"] = _day(until, reference)
    approved = _approve_job if reference.startswith("job/") else _approve_model
    show(approved(reference, stated), as_json=as_json)


def _approve_job(reference: str, stated: dict[str, Any]) -> Shown:
    from workbench.promotion.approve_job import JobApprovalOptions, approve_version

    label = stated.pop("label") or "production"
    return approve_version(config.find_root(), reference, JobApprovalOptions(label=label, **stated))


def _approve_model(reference: str, stated: dict[str, Any]) -> Shown:
    """Approve a model; ConfigError for an option that only a job's version has."""
    from workbench.promotion.approve import ApprovalOptions, approve

    label, revoke = stated.pop("label"), stated.pop("revoke")
    if label is not None or revoke:
        raise ConfigError(
            f"{'--revoke' if revoke else '--to'} is for the version of a job, and {reference!r} is none",
            hint="to withdraw the approval of a model, remove its line (docs/assessments.md)",
        )
    return approve(config.find_root(), reference, ApprovalOptions(**stated))


def _day(text: str | None, reference: str) -> dt.date | None:
    """Return a day; ConfigError for another text."""
    if text is None:
        return None
    config.check_day(text, where=f"workbench approve {reference} --until")
    return dt.date.fromisoformat(text)
