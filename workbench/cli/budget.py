"""`workbench budget`."""

from __future__ import annotations

import click

from workbench import config
from workbench.cli.output import Json, show


@click.command()
@click.option(
    "--phase",
    type=click.Choice(["mvp", "mlvp"]),
    default="mvp",
    show_default=True,
    help="Show whether a budget refuses or observes in this phase.",
)
@Json()
def budget(*, phase: str, as_json: bool) -> None:
    """Show every budget that calls have taken from: limit, spent, reserved, left, when it renews.

    A budget with `enforce: observe` shows how many calls it would have refused, and when the last.
    """
    from workbench import _sync
    from workbench.workspace.interrupted import recover_interrupted
    from workbench.workspace.spending import Spending

    root = config.find_root()
    recover_interrupted(root)
    spending = Spending(root)
    try:
        found = _sync.run(spending.all(phase=phase))
    finally:
        spending.ledger.close()
    show(found, as_json=as_json)
