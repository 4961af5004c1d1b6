"""The output of commands: text, or with --json the result as JSON."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import click

from workbench import files

Json = functools.partial(click.option, "--json", "as_json", is_flag=True, help="Write the result as JSON.")


def say(result: Any, text: object, *, as_json: bool) -> None:
    """Print `result` as JSON, or `text`; dataclasses and paths in the result become plain JSON."""
    if as_json:
        click.echo(files.pretty(_plain(result)).decode(), nl=False)
    else:
        click.echo(text)


def show(result: Any, *, as_json: bool) -> None:
    """Print a result that has a `to_json`: its JSON, or its text."""
    say(result.to_json() if as_json else None, result, as_json=as_json)


def _plain(value: Any) -> Any:
    """Return `value` in the types that JSON has."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
