"""`workbench new`."""

from __future__ import annotations

from pathlib import Path

import click

from workbench.cli.output import Json, check_names, show


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--empty", is_flag=True, help="Leave the example use case out.")
@click.option("--dry-run", is_flag=True, help="Show what would be written, and write nothing.")
@Json()
def new(folder: Path, *, empty: bool, dry_run: bool, as_json: bool) -> None:
    """Lay a new repository into FOLDER: pipeline, locks, Makefile, an example use case, a first commit.

    FOLDER is absent, empty, or a git repository without files. Nothing is installed and nothing is
    overwritten; after an interruption the same command continues. In FOLDER, make repro installs what is
    missing and prints the verdict, and make test runs its tests. Example: workbench new ~/claims
    """
    from workbench.scaffold.new import lay

    check_names(folder, again="workbench new claims")
    show(lay(folder, empty=empty, dry_run=dry_run), as_json=as_json)
