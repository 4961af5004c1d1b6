"""Render the templates of a use case: its notebook, prompt, memory spec and blocks of params.yaml.

A template is the canonical file of a shipped use case with `[[ value ]]` in place of its own values, and
`[% if … %]` around its own lines. A prompt's `{{ … }}` stays as it is.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import files
from workbench.notebooks import canonical as notebooks

if TYPE_CHECKING:
    from jinja2 import Environment, Template

FOLDER = Path(__file__).parent / "templates"
NOTEBOOK, PROMPT, MEMORY = "notebook.ipynb", "prompt.prompty", "memory.yaml"
USE_CASE, JOB, SCORER = "use_case.yaml", "job.yaml", "scorer.py.j2"
QUALITY = "quality.yaml"
#: The column of comments in params.yaml, counted from the keys of a use case.
_COMMENTS = 40


def text(kind: str, name: str, values: Mapping[str, Any]) -> str:
    """Return the template `name` of a kind of use case with its values; a notebook is in its stored form."""
    path = FOLDER / kind / name
    template = files.read_text(path)
    if path.suffix != ".ipynb":
        return _compiled(template).render(values)
    raw = notebooks.parse(template, path)
    cells = [{**cell, "source": _cell(notebooks.source_of(cell), values)} for cell in raw["cells"]]
    return notebooks.as_text({**raw, "cells": [cell for cell in cells if cell["source"].strip()]})


def has(kind: str, name: str) -> bool:
    """Return whether a kind of use case has the template `name`."""
    return (FOLDER / kind / name).is_file()


def kinds() -> list[str]:
    """Return the kinds of use cases that have templates, sorted."""
    return sorted(path.name for path in FOLDER.iterdir() if (path / USE_CASE).is_file())


def one_line(value: str) -> str:
    """Return a text without line breaks and repeated spaces, for a place that holds one line."""
    return " ".join(value.split())


def _cell(source: str, values: Mapping[str, Any]) -> str:
    return _compiled(source).render(values).rstrip("\n")


@functools.lru_cache(maxsize=256)
def _compiled(source: str) -> Template:
    """Return a template of ours, compiled once in a process."""
    return _environment().from_string(source)


@functools.cache
def _environment() -> Environment:
    """Return the reader of templates. It renders files of ours and nothing that becomes HTML."""
    from jinja2 import Environment, StrictUndefined

    made = Environment(
        block_start_string="[%", block_end_string="%]", variable_start_string="[[", variable_end_string="]]",
        comment_start_string="[#", comment_end_string="#]", trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, undefined=StrictUndefined, autoescape=False,  # noqa: S701
    )  # fmt: skip
    made.filters |= {"yaml": _scalar, "flow": _flow, "beside": _beside, "quoted": _quoted}
    return made


def _scalar(value: Any) -> str:
    """Return a scalar as YAML, in quotes where YAML would read it as something else."""
    return files.yaml_text({"x": value})[len("x: ") :].rstrip("\n")


def _flow(value: Any) -> str:
    """Return a scalar, a list or a mapping as YAML on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_item(key)}: {_flow(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return _item(value)


def _quoted(values: Sequence[str]) -> str:
    """Return a list of texts as Python writes it in double quotes."""
    return "[" + ", ".join(files.canonical(value).decode() for value in values) + "]"


def _item(value: Any) -> str:
    """Return a scalar inside of a list, in quotes where a comma or a bracket would end it."""
    if isinstance(value, str) and set(value) & set(",[]{}#"):
        return files.canonical(value).decode()
    return _scalar(value)


def _beside(line: str) -> str:
    """Return a line filled up to the column of comments, or with two spaces after a longer line."""
    return line.ljust(_COMMENTS) if len(line) <= _COMMENTS - 1 else f"{line}  "
