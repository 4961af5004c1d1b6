"""`workbench init`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from workbench import config
from workbench.cli.output import Json, show
from workbench.errors import ConfigError, NotFoundError

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("name")
@click.option(
    "--docs", type=_PATH, metavar="DIR", help="The folder of documents; a table of solved examples."
)
@click.option("--access", type=_PATH, metavar="FILE", help="Who may read which documents: a file of rules.")
@click.option(
    "--unreadable",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="What happens with unreadable documents.",
)
@click.option("--questions", type=_PATH, metavar="FILE", help="The table of questions with accepted answers.")
@click.option(
    "--kind", default="answer", show_default=True, help="The template: answer, classify, extract or write."
)
@click.option(
    "--from-notebook", "notebook", type=_PATH, metavar="FILE", help="Take a copy of this notebook instead."
)
@click.option(
    "--column", "columns", multiple=True, metavar="KEY=NAME", help="Name a column of the questions."
)
@click.option("--tenant", metavar="TENANT", help="The tenant of all documents and questions.")
@click.option("--title", default="", help="The title of the readiness page.")
@click.option("--owner", default="", help="Who answers for the use case [default: your name in git].")
@click.option("--purpose", default="", help="One sentence on the use.")
@click.option("--undo", is_flag=True, help="Take NAME away again, while nothing of it is committed.")
@click.option("--force", is_flag=True, help="With --undo: remove changed and added files too.")
@click.option("--dry-run", is_flag=True, help="Check everything and list the files; write nothing.")
@Json()
def init(
    *,
    name: str,
    undo: bool,
    force: bool,
    dry_run: bool,
    as_json: bool,
    columns: tuple[str, ...],
    **given: Any,
) -> None:
    """Create the use case NAME from documents and questions, with the files that the shipped ones have.

    Everything is checked first, and nothing is created after an error. Example:

        workbench init claims --docs ~/claims --questions ~/claims.csv

    Then make repro asks the embedded model each question and prints the verdict. To take everything
    away again, while nothing is committed:

        workbench init claims --undo
    """
    from workbench.scaffold.init import init as created
    from workbench.scaffold.order import InitOrder
    from workbench.scaffold.undo import undo as undone

    _check_together(undo, force, given)
    root = _root()
    if undo:
        show(undone(root, name, force=force, dry_run=dry_run), as_json=as_json)
        return
    order = InitOrder(name=name, columns=_pairs(columns), **given)
    show(created(root, order, dry_run=dry_run, say=_told), as_json=as_json)


def _check_together(undo: bool, force: bool, given: dict[str, Any]) -> None:
    """Raise UsageError for options that the command would ignore."""
    if force and not undo:
        raise click.UsageError("--force goes with --undo alone")
    named = [key for key in ("docs", "questions", "notebook", "access") if given[key] is not None]
    if undo and named:
        raise click.UsageError(f"--undo takes a use case away and reads no --{named[0]}")


def _root() -> Path:
    """Return the repository; NotFoundError, with the command that lays a new one, outside of any."""
    try:
        return config.find_root()
    except NotFoundError as error:
        hint = "change into the repository, or lay a new one: workbench new FOLDER"
        raise NotFoundError(error.message, hint=hint) from None


def _pairs(texts: tuple[str, ...]) -> dict[str, str]:
    """Return KEY=NAME options as a mapping; ConfigError for a text of another form."""
    pairs = {}
    for text in texts:
        key, equals, column = text.partition("=")
        if not equals or not key or not column:
            raise ConfigError(
                f"--column {text!r} is not KEY=NAME", hint="for example --column question=Frage"
            )
        pairs[key] = column
    return pairs


def _told(line: str) -> None:
    click.echo(line, err=True)
