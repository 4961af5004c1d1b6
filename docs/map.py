"""Write docs/map.md: every room of the package by floor, every file with its docstring's first line.

`make check` runs it: `python docs/map.py`. A file over 500 lines is there with the reason in `LONG`.
"""

from __future__ import annotations

import ast
import inspect
import sys
import tokenize
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "map.md"
#: Files of more than 500 lines, and why they are one thing.
LONG: dict[str, str] = {}
#: Where a stranger looks first: the question, and the one file that answers it.
QUESTIONS = {
    "the locked-file helper": "workbench/locking.py",
    "the table printer": "workbench/display.py",
    "the path of the state": "workbench/layout.py",
    "git": "workbench/repository/git.py",
    "the tape": "workbench/records/tape.py",
    "cron": "workbench/jobs/schedule.py",
    "the order of the controls": "workbench/controls/stack.py",
    "the pipeline": "dvc.yaml",
    "what people tune": "params.yaml",
}
HEAD = """\
# Map

Which file holds what. `make check` writes this page from the first lines of docstrings (docs/map.py).
A room imports from lower floors only, never from its neighbours; pyproject.toml has that as a contract.

| where is …? | file |
| --- | --- |
"""
TAIL = """\
For people: docs/why.md, docs/glossary.md, docs/params.md, docs/cli.md, docs/jobs.md, docs/memory.md,
docs/weaviate.md and docs/window.md; docs/promote-a-notebook.md makes a job of a plain notebook.
Decisions are in docs/design/, measurements in docs/benchmarks.md. Helpers of the tests are in tests/support/.
"""


def docstring(path: Path) -> list[str]:
    """The lines of a module's docstring."""
    with tokenize.open(path) as file:  # no further than its end: to parse each file takes seconds
        tokens = tokenize.generate_tokens(file.readline)
        first = next(token for token in tokens if token.type not in (tokenize.COMMENT, tokenize.NL))
    text = ast.literal_eval(first.string) if first.type == tokenize.STRING else ""
    return inspect.cleandoc(text).splitlines() or [""]


def floors() -> list[list[str]]:
    """The rooms of each floor, the highest first, as the import contract says."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    layers = contracts["contracts"][0]["layers"]
    return [[room.strip() for room in layer.split("|") if "(" not in room] for layer in layers]


def row(path: Path) -> str:
    """A file and what it holds."""
    name = path.relative_to(ROOT).as_posix()
    why = f" ({LONG[name]})" if name in LONG else ""
    return f"| {name} | {docstring(path)[0].rstrip('.')}{why} |"


def page() -> str:
    """The whole page."""
    lines = [HEAD + "\n".join(f"| {what} | {where} |" for what, where in QUESTIONS.items())]
    lines += ["", "## The package", "", "| file | what it holds |", "| --- | --- |"]
    lines.append(row(ROOT / "workbench" / "__init__.py"))
    rooms = floors()
    for number, names in zip(range(len(rooms), 0, -1), rooms, strict=True):
        lines += ["", f"## Floor {number}"]
        single = [path for name in names if (path := ROOT / "workbench" / f"{name}.py").is_file()]
        if single:
            lines += ["", "| file | what it holds |", "| --- | --- |", *map(row, single)]
        for name in names:
            folder = ROOT / "workbench" / name
            if not folder.is_dir():
                continue
            first = docstring(folder / "__init__.py")[0]
            lines += ["", f"### {name}", "", first, "", "| file | what it holds |", "| --- | --- |"]
            lines += [row(path) for path in sorted(folder.rglob("*.py")) if path.name != "__init__.py"]
    return "\n".join([*lines, "", TAIL])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.exit(0)
