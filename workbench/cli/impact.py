"""`workbench impact`: what depends on an asset, what a change of it reruns, and what that costs."""

from __future__ import annotations

import click

from workbench import config
from workbench.cli.output import Json, show


@click.command()
@click.argument("reference", metavar="KIND/NAME")
@Json()
def impact(reference: str, as_json: bool) -> None:
    """Show what depends on KIND/NAME, what a change of it reruns, and what that costs at most.

    KIND is prompt, memory, model or job; NAME@VERSION asks about one version. The cost is that of the
    recorded answers: their tokens at today's prices, and their recorded seconds. Nothing is run. Example:

        workbench impact prompt/answer@2
    """
    from workbench.pipeline.dependents import dependents

    show(dependents(config.find_root(), reference), as_json=as_json)
