"""`workbench doctor`: the command."""

from __future__ import annotations

import sys

import click

from workbench import config, files


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Write the result as JSON.")
def doctor(*, as_json: bool) -> None:
    """Say what is installed, what runs and what is missing, each with the command that mends it.

    Nothing is started and no secret is shown. Exit 1 when anything is missing or broken that the use
    cases of params.yaml need.
    """
    from workbench.diagnostics.doctor import examine

    found = examine(config.find_root())
    click.echo(files.pretty(found.to_json()).decode() if as_json else found, nl=not as_json)
    sys.exit(0 if found.passed else 1)
