"""`workbench doctor`."""

from __future__ import annotations

import sys

import click

from workbench import config
from workbench.cli.output import Json, show


@click.command()
@Json()
def doctor(*, as_json: bool) -> None:
    """Say what is installed, what runs and what is missing, each with the command that fixes it.

    Nothing is started and no secret is shown. Exit 1 when anything is missing or broken that the use
    cases of params.yaml need.
    """
    from workbench.diagnostics.doctor import examine

    found = examine(config.find_root())
    show(found, as_json=as_json)
    sys.exit(0 if found.passed else 1)
