"""`workbench status`."""

from __future__ import annotations

import click

from workbench import config
from workbench.cli.output import Json, show


@click.command()
@Json()
def status(*, as_json: bool) -> None:
    """Show each use case, blind review and job: how it stands, and its next command.

    JupyterLab opens on the same as a page with links (make lab).
    """
    from workbench.pipeline.start_page import status_of

    show(status_of(config.find_root()), as_json=as_json)
