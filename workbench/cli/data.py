"""`workbench data …`: check a dataset or a table by its quality rules, and store its profile."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from workbench import config
from workbench.cli.output import Json, say
from workbench.config import UseCase
from workbench.errors import ConfigError, NotFoundError


@click.group()
def data() -> None:
    """Check datasets and inputs by their quality rules. docs/quality.md describes the rules file."""


@data.command()
@click.argument("source", metavar="[NAME|FILE]", required=False)
@click.option("--rules", metavar="FILE", help="The rules; by default those of the use case NAME.")
@Json()
def check(source: str | None, rules: str | None, as_json: bool) -> None:
    """Check the dataset of the use case NAME, or FILE by --rules; exit 1 when a row is rejected.

    FILE is a JSON lines or Parquet file. Nothing is written. Without an argument every use case that
    states rules is checked. Examples:

        workbench data check triage

        workbench data check data/triage/tickets.jsonl --rules pipelines/quality/triage.yaml
    """
    from workbench.workspace import quality
    from workbench.workspace.use_case import stated_dataset

    root = config.find_root()
    if rules is not None:
        if source is None:
            raise ConfigError(
                "--rules needs a file to check", hint=f"workbench data check FILE --rules {rules}"
            )
        reports = [quality.check_file(root, Path(source), rules, tenants=_tenants(root, rules)).report]
    else:
        chosen = _chosen(root, source)
        checked = (quality.checked_dataset(root, n, case, stated_dataset(root, case)) for n, case in chosen)
        reports = [found.report for found in checked]
    if as_json:
        say([report.to_json() for report in reports], "", as_json=True)
    else:
        click.echo("\n\n".join(map(str, reports)))
    sys.exit(1 if any(report.rejected or report.stopped for report in reports) else 0)


@data.command()
@click.argument("use_case", metavar="NAME")
@Json()
def profile(use_case: str, as_json: bool) -> None:
    """Write the profile of the dataset of use case NAME, with which later data is compared.

    The profile holds counts of lengths, numbers and categories, and no text. Example:

        workbench data profile triage
    """
    from workbench.workspace import quality
    from workbench.workspace.use_case import stated_dataset

    root = config.find_root()
    case = config.use_case(config.load_params(root), use_case)
    path, made = quality.store_profile(root, use_case, case, stated_dataset(root, case))
    columns = sorted(made.columns)
    text = f"{path}: {made.rows} rows, columns {', '.join(columns)}\nnext: git add {path}"
    say({"path": path, "rows": made.rows, "columns": columns}, text, as_json=as_json)


def _chosen(root: Path, name: str | None) -> list[tuple[str, UseCase]]:
    """Return the use case `name`, or all that state rules; raise NotFoundError when there is none."""
    params = config.load_params(root)
    if name is not None and (root / name).is_file() and name not in params.use_cases:
        raise ConfigError(
            f"{name} is a file, and a file needs rules",
            hint=f"workbench data check {name} --rules pipelines/quality/NAME.yaml",
        )
    names = [name] if name else [key for key, case in params.use_cases.items() if case.quality]
    if not names:
        raise NotFoundError(
            "no use case states quality rules",
            hint="add quality: pipelines/quality/NAME.yaml to a use case in params.yaml",
        )
    return [(key, config.use_case(params, key)) for key in names]


def _tenants(root: Path, rules: str) -> tuple[str, ...]:
    """Return the tenants of the use cases that state these rules; none when no use case does."""
    cases = config.load_params(root).use_cases.values()
    return tuple(dict.fromkeys(tenant for case in cases if case.quality == rules for tenant in case.tenants))
