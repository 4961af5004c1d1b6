"""Read a notebook strictly: its cells, its declared parameters and its task's digest."""

from __future__ import annotations

import ast
import contextlib
import datetime as dt
import functools
import json
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from workbench import files
from workbench.errors import ConfigError, nearest
from workbench.notebooks import canonical as notebooks

PARAMETERS_TAG = "parameters"
EXPLORE_TAG = "explore"
#: The parameter that names a job's input; its value changes with every run and is no part of the task.
INPUTS = "inputs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """A declared parameter: its name, its default (a literal) and its type ("" without one)."""

    name: str
    default: Any
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Notebook:
    """A notebook's path, declared parameters and code cells, each as (number from 1, source, tags)."""

    path: Path
    parameters: Mapping[str, Declared]
    cells: tuple[tuple[int, str, frozenset[str]], ...]

    def digest(self, parameters: Mapping[str, Any]) -> str:
        """Return the task's SHA-256, over syntax trees of cells not tagged `explore` and parameter values.

        Comments, spaces and outputs do not change it; any code that a job would run does, also in the
        cell of the parameters. The value of `inputs` is excluded.
        """
        trees = []
        for _, source, tags in self.cells:
            if EXPLORE_TAG not in tags:
                tree = ast.parse(plain(source))
                trees.append(_without_parameters(tree) if PARAMETERS_TAG in tags else tree)
        cells = [ast.dump(tree, include_attributes=False) for tree in trees if tree.body]
        return files.digest({"cells": cells, "parameters": self.values(parameters)})

    def values(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the given or default value of every parameter except `inputs`."""
        return {name: given.get(name, p.default) for name, p in self.parameters.items() if name != INPUTS}

    def frozen(self) -> str:
        """Return the text of the notebook as a job runs it, without the cells tagged `explore`."""
        raw = notebooks.read(self.path)
        kept = [cell for cell in raw["cells"] if EXPLORE_TAG not in notebooks.tags_of(cell)]
        return notebooks.as_text({**raw, "cells": kept})

    def typed(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Convert texts in `given` to the declared types; ConfigError for an unknown name or wrong value.

        A parameter without a type (`n = None`) takes any literal, and other text as it is. A date is
        passed as ISO text, as papermill does.
        """
        typed = {}
        for name, value in given.items():
            if name not in self.parameters:
                raise ConfigError(
                    f"{self.path}: no parameter {name!r} ({nearest(name, self.parameters)})",
                    hint="parameters are the names assigned in the cell tagged `parameters`",
                )
            typed[name] = _as_declared(value, self.parameters[name], self.path)
        return typed


def read(path: Path) -> Notebook:
    """Read a notebook; ConfigError when it cannot run as a pipeline step."""
    raw = notebooks.read(path)
    if language := notebooks.foreign_language(raw["metadata"]):
        raise ConfigError(
            f"{path}: the notebook's kernel is for {language}; a pipeline step runs Python",
            hint="choose a Python kernel in JupyterLab (Kernel, Change Kernel)",
        )
    cells = tuple(
        (number, notebooks.source_of(cell), notebooks.tags_of(cell))
        for number, cell in enumerate(raw["cells"], start=1)
        if cell["cell_type"] == "code"
    )
    for number, source, _ in cells:
        _parse(path, number, source)
    tagged = [cell for cell in cells if PARAMETERS_TAG in cell[2]]
    if len(tagged) != 1:
        found = "none" if not tagged else f"{len(tagged)}"
        raise ConfigError(
            f"{path}: a notebook needs one cell tagged `parameters`, found {found}",
            hint="in JupyterLab: property inspector (gear), Cell Tags, add `parameters`",
        )
    return Notebook(path=path, parameters=_declared(path, *tagged[0][:2]), cells=cells)


def _parse(path: Path, number: int, source: str) -> ast.Module:
    try:
        return ast.parse(plain(source))
    except SyntaxError as error:
        place = f", line {error.lineno}" if error.lineno else ""
        problem = f"{place}: {error.msg}: {files.shortened((error.text or '').strip())}"
    except (ValueError, RecursionError, MemoryError):  # a null byte, or thousands of brackets
        problem = ": Python cannot parse the cell"
    raise ConfigError(f"{path}: cell {number}{problem}", hint="open it with `make lab` and correct the cell")


def plain(source: str) -> str:
    """Return a cell as Python, as IPython reads it.

    Magics, shell lines and help become calls. Leading indentation and the prompts of IPython and
    doctest are removed. The result of a cell that is not Python in IPython either is not Python.
    """
    if not _may_be_changed(source) and _is_python(source):
        return source
    python = _transformed(source)
    if len(python.splitlines()) == 1 and not _is_python(python) and _is_automagic(python):
        return _transformed(f"%{python}")
    return python


def _may_be_changed(source: str) -> bool:
    """Return whether IPython may change a cell, even one that is Python.

    Python has no magic, shell line or help outside of its texts and comments, but IPython looks for prompts
    and strips spaces inside of them too. IPython takes an eighth of a second to import.
    """
    if not any(sign in source for sign in "%!?"):
        return False
    prompted = any(prompt in source for prompt in (">>>", "In [", "...:"))
    lines = source.removesuffix("\n").split("\n")
    return prompted or source.splitlines() != lines or textwrap.dedent(source) != source


def _is_python(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _transformed(source: str) -> str:
    from IPython.core.inputtransformer2 import TransformerManager

    transformed: str = TransformerManager().transform_cell(source)  # type: ignore[no-untyped-call]
    return transformed


def _is_automagic(line: str) -> bool:
    """Return whether IPython runs a line, the only one of its cell, as a magic without `%`."""
    name, _, rest = line.partition(" ")
    return name.strip() in _line_magics() and not rest.lstrip().startswith(("=", ","))


@functools.cache
def _line_magics() -> frozenset[str]:
    """Return the names of IPython's and ipykernel's line magics and shell aliases."""
    from ipykernel.zmqshell import KernelMagics
    from IPython.core import magics
    from IPython.core.alias import default_aliases

    names = {name for name, _ in default_aliases()}
    for group in (*(getattr(magics, name) for name in dir(magics)), KernelMagics):
        names.update(getattr(group, "magics", {}).get("line", ()))
    return frozenset(names)


def _declared(path: Path, number: int, source: str) -> dict[str, Declared]:
    found: dict[str, Declared] = {}
    for statement in _parse(path, number, source).body:
        if not isinstance(statement, ast.Assign | ast.AnnAssign) or not (name := _parameter(statement)):
            continue
        try:
            default = ast.literal_eval(statement.value) if statement.value else None
            files.check_exact(default, where=name)  # 1e999 is infinite
        except (TypeError, ValueError, ConfigError):
            raise ConfigError(
                f"{path}: cell {number}: parameter {name!r} must be a literal (a string, number, list …)",
                hint=f"write {name} = None in this cell and compute it in the next cell",
            ) from None
        written = ast.unparse(statement.annotation) if isinstance(statement, ast.AnnAssign) else ""
        kind = written or ("" if default is None else type(default).__name__)
        found[name] = Declared(name=name, default=default, type=kind)
    return found


def _parameter(statement: ast.stmt) -> str:
    """Return the name of the parameter that a statement declares, "" when it declares none."""
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return name
    return ""


def _without_parameters(tree: ast.Module) -> ast.Module:
    """Return the parameters cell up to its last statement of code; without code it is empty.

    Parameters before code are kept: the code may read their defaults. The values of all parameters
    are in the digest by themselves.
    """
    code = [place for place, statement in enumerate(tree.body, start=1) if _is_code(statement)]
    return ast.Module(body=tree.body[: max(code, default=0)], type_ignores=[])


def _is_code(statement: ast.stmt) -> bool:
    """Return whether a statement of the parameters cell does more than declare a parameter."""
    if isinstance(statement, ast.Pass) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    ):
        return False
    if isinstance(statement, ast.AnnAssign):  # Python evaluates the annotation
        calls = any(isinstance(node, ast.Call) for node in ast.walk(statement.annotation))
        return calls or not _parameter(statement)
    return not _parameter(statement)


#: The last part of an annotation's name and the type of its values; papermill passes a date as text.
_ANNOTATIONS: Final[Mapping[str, type]] = {
    "bool": bool, "float": float, "int": int, "str": str,
    "dict": dict, "Dict": dict, "list": list, "List": list, "tuple": tuple, "Tuple": tuple,
    "date": dt.date, "datetime": dt.datetime, "None": type(None), "NoneType": type(None),
}  # fmt: skip


def _as_declared(value: Any, declared: Declared, path: Path) -> Any:
    """Convert a text from the command line to the declared type; other values must have that type."""
    types = _types(declared.type)
    if declared.default is None or not types & {dt.date, dt.datetime}:
        types.add(type(declared.default))
    value = _without_dates(value)
    read = _literal(value) if isinstance(value, str) and types != {str} else value
    for item in [value] if isinstance(read, str) else [read, value]:
        with contextlib.suppress(TypeError, ValueError):
            return _of_type(item, types)
    raise ConfigError(
        f"{path}: parameter {declared.name!r} is {declared.type}, got {value!r}",
        hint=f"for example -p {declared.name}={declared.default!r}",
    )


def _types(annotation: str) -> set[type]:
    """Return the types that an annotation names, `object` for one that is missing or unknown."""
    try:
        node = ast.parse(annotation, mode="eval").body
    except SyntaxError:
        return {object}
    match node:
        case ast.BinOp(op=ast.BitOr()):
            return _types(ast.unparse(node.left)) | _types(ast.unparse(node.right))
        case ast.Constant(value=str(quoted)):
            return _types(quoted)
        case ast.Subscript(slice=inner):
            parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
            return _subscripted(ast.unparse(node.value), list(map(ast.unparse, parts)))
    return {_ANNOTATIONS.get(annotation.rpartition(".")[2], object)}


def _subscripted(name: str, parts: list[str]) -> set[type]:
    """Return the types that `name[parts]` names."""
    match name.rpartition(".")[2]:
        case "Optional" | "Union" as union:
            types = {kind for part in parts for kind in _types(part)}
            return types | {type(None)} if union == "Optional" else types
        case "Annotated" | "Final":
            return _types(parts[0])
        case "Literal":
            return {type(_literal(part)) for part in parts}
    return _types(name)


def _without_dates(value: Any) -> Any:
    """Return a value of YAML with its dates as ISO texts."""
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return type(value)(map(_without_dates, value))
    return {k: _without_dates(v) for k, v in value.items()} if isinstance(value, dict) else value


def _literal(text: str) -> Any:
    """Return the value of a Python or JSON literal, the text itself when it is neither."""
    for read in (ast.literal_eval, json.loads):
        with contextlib.suppress(ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            return read(text)
    return text


def _of_type(value: Any, types: set[type]) -> Any:
    """Return `value` as one of `types`; ValueError or TypeError when it is of none, or no JSON holds it."""
    if json.loads(files.canonical(value)) != json.loads(json.dumps(value)):
        raise ValueError("not a finite number")
    if type(value) in types:
        return value
    if float in types and type(value) is int:
        return float(value)
    if tuple in types and type(value) is list:
        return tuple(value)
    if isinstance(value, str) and (days := types & {dt.date, dt.datetime}):
        for kind in days:
            kind.fromisoformat(value)  # type: ignore[attr-defined]
        return value
    if object not in types:
        raise ValueError("of another type")
    return value
