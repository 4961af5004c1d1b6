"""Take an existing notebook into a new use case: check that a judge and a job can run it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import ConfigError
from workbench.notebooks import canonical as notebooks
from workbench.notebooks import inspection
from workbench.notebooks.inspection import EXPLORE_TAG, INPUTS, PARAMETERS_TAG


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptedNotebook:
    """A notebook in its stored form, and the values of its parameters for the use case."""

    text: str
    parameters: dict[str, Any]


def adopted(path: Path, *, name: str, memory: str | None) -> AdoptedNotebook:
    """Return the notebook for the use case `name`; the file itself is only read.

    Raise ConfigError with every missing line: the parameter `inputs`, a task, a cell that publishes, and the
    use case that it connects to.
    """
    try:
        raw = notebooks.read(path)
    except ConfigError as error:
        raise ConfigError(error.message, hint="repair the notebook, or name another one") from None
    cells = [
        (notebooks.source_of(cell), notebooks.tags_of(cell))
        for cell in raw["cells"]
        if cell["cell_type"] == "code"
    ]
    _check_syntax(path, raw["cells"])
    missing = list(_missing(cells, name))
    if missing:
        steps = "\n".join(f"     {line}" for step in missing for line in step.split("\n"))
        raise ConfigError(
            f"{path}: a judge and a job cannot run this notebook yet; {_parts(len(missing))} missing",
            hint=f"add to a copy of it, then name the copy:\n{steps}",
        )
    declared = inspection.read(path).parameters
    values = {"use_case": name, "corpus": memory}
    given = {key: value for key, value in values.items() if key in declared and value is not None}
    return AdoptedNotebook(text=notebooks.as_text(raw), parameters=given)


def _parts(number: int) -> str:
    return "1 part is" if number == 1 else f"{number} parts are"


def _check_syntax(path: Path, cells: list[dict[str, Any]]) -> None:
    """Raise ConfigError with cell and line of the first syntax error outside of the `explore` cells."""
    for number, cell in enumerate(cells, start=1):
        if cell["cell_type"] != "code" or EXPLORE_TAG in notebooks.tags_of(cell):
            continue
        try:
            ast.parse(inspection.plain(notebooks.source_of(cell)))
        except SyntaxError as error:
            raise ConfigError(
                f"{path}: cell {number}, line {error.lineno}: {error.msg}",
                hint="correct the cell, then run the same command again",
            ) from None
        except (ValueError, RecursionError, MemoryError):
            continue  # `inspection.read` refuses it with its own words


def _missing(cells: list[tuple[str, frozenset[str]]], name: str) -> Iterator[str]:
    """Yield what a notebook lacks, each with the lines to add."""
    trees = [(_tree(source), tags) for source, tags in cells]
    frozen = [tree for tree, tags in trees if tree is not None and EXPLORE_TAG not in tags]
    parameters = [tree for tree, tags in trees if tree is not None and PARAMETERS_TAG in tags]
    if not any(INPUTS in _assigned(tree) for tree in parameters):
        yield f'in one cell tagged `{PARAMETERS_TAG}`:\n{INPUTS} = ""'
    if not any(_has_task(tree) for tree in frozen):
        yield (
            "in a cell without the tag `explore`:\n"
            "@wb.task\ndef answer(ws, case: wb.Question) -> wb.Answer:\n"
            "    return ws.model().chat(ws.prompt().render(question=case.question, passages=[]))"
        )
    if not any(_calls(tree, "publish") for tree in frozen):
        publish = f'ws.publish(answer.map(ws.inputs({INPUTS})), "answers")'
        yield f"in the last cell, without the tag `explore`:\n{publish}"
    others = {other for tree in frozen for other in _connected(tree)} - {name}
    if others:
        yield f"in place of wb.connect({min(others)!r}):\nws = wb.connect({name!r})"


def _tree(source: str) -> ast.Module | None:
    """Return the syntax tree of a cell; None for one that `inspection.read` refuses."""
    try:
        return ast.parse(inspection.plain(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _assigned(tree: ast.Module) -> set[str]:
    """Return the names that a cell assigns at its top level."""
    found: set[str] = set()
    for part in tree.body:
        targets = part.targets if isinstance(part, ast.Assign) else [getattr(part, "target", None)]
        found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def _has_task(tree: ast.Module) -> bool:
    """Return whether a cell defines a function with the decorator `wb.task`."""
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    found = (ast.unparse(decorator) for function in functions for decorator in function.decorator_list)
    return any(text.rpartition(".")[2] == "task" for text in found)


def _calls(tree: ast.Module, verb: str) -> bool:
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return any(isinstance(call, ast.Attribute) and call.attr == verb for call in calls)


def _connected(tree: ast.Module) -> Iterator[str]:
    """Yield the use cases that a cell connects to by a literal name."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).rpartition(".")[2] == "connect"
            and node.args
        ):
            first = node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value
