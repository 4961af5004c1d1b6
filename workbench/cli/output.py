"""The output of commands: text, or with --json the result as JSON."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import click

from workbench import files
from workbench.display import harmless
from workbench.errors import ConfigError

#: Most bytes of a file name, without those of its temporary name.
_MOST_NAME = 240
#: A sign that a text may hold a secret or an identifier.
_LOOKS = re.compile(r"\d|@|[\w-]{16}|://|[:=]")
Json = functools.partial(click.option, "--json", "as_json", is_flag=True, help="Write the result as JSON.")


def say(result: Any, text: object, *, as_json: bool) -> None:
    """Print `result` as JSON, or `text`; dataclasses and paths in the result become plain JSON."""
    if as_json:
        click.echo(masked(files.pretty(_plain(result)).decode()), nl=False)
    else:
        click.echo(masked(str(text)))


def masked(text: str) -> str:
    """Return a text for the terminal, with masks in place of secrets and identifiers.

    Names of people and addresses of machines stay: the output of commands is full of what looks alike.
    What a terminal obeys is shown as escapes: texts of notebooks, rows and approvals may hold it.
    """
    text = harmless(text)
    if not _LOOKS.search(text):
        return text
    from workbench.privacy.repository import masked_output

    return masked_output(text)


def show(result: Any, *, as_json: bool) -> None:
    """Print a result that has a `to_json`: its JSON, or its text."""
    say(result.to_json() if as_json else None, result, as_json=as_json)


def check_names(path: Path, *, again: str) -> None:
    """Raise ConfigError when a name in a path is too long for a disk; `again` is a command with another."""
    if any(len(os.fsencode(part)) > _MOST_NAME for part in path.parts):
        raise ConfigError(
            f"{files.shortened(str(path))} has a name of more than {_MOST_NAME} bytes", hint=again
        )


def check_out(path: Path, *, again: str, option: str = "--out") -> None:
    """Raise ConfigError when no file can be written at `path`; `again` is a command that can."""
    check_names(path, again=again)
    name = files.shortened(str(path))
    if not path.name or path.is_dir():
        raise ConfigError(f"{option} {name} is not the name of a file", hint=again)
    if not path.parent.is_dir():
        raise ConfigError(
            f"{option} {name}: there is no folder {path.parent}", hint=f"mkdir -p {path.parent}"
        )


def _plain(value: Any) -> Any:
    """Return `value` in the types that JSON has."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
