"""Each line of docs/threats.md names the test that shows it."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

from workbench.experiments.gate_spec import GateSpec, stated_digest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/threats.md").read_text(encoding="utf-8")
LINES = [
    line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith(("| way", "| ---"))
]
NAMED = re.compile(r"`(test_\w+\.py)::(test_\w+)`")


@functools.cache
def known_in(name: str) -> set[str]:
    """The tests of the one file with this name."""
    (path,) = (ROOT / "tests").rglob(name)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("line", LINES)
def test_a_line_of_the_page_names_tests_that_exist(line):
    cells = [cell.strip() for cell in line.strip("|").split(" | ")]
    assert len(cells) == 3 and all(cells)
    named = NAMED.findall(cells[-1])
    assert named and ", ".join(f"`{file}::{test}`" for file, test in named) == cells[-1]
    assert [test for file, test in named if test not in known_in(file)] == []


@pytest.mark.parametrize("file", ["test_fooling_the_gate.py", "test_reaching_around.py", "test_red_team.py"])
def test_every_test_of_a_way_around_is_on_the_page(file):
    named = {test for where, test in NAMED.findall(PAGE) if where == file}
    ways = {name for name in known_in(file) if name.startswith("test_")}
    assert named == ways - {"test_every_try_is_expected", "test_every_try_was_made"}


def test_what_a_gate_states_is_its_text_its_cases_and_its_scorers():
    def stated(bound=0.5, dataset="d1", scorers="contains"):
        spec = GateSpec.parse({"accuracy": {"min": bound}, "confidence": 0.9}, where="gate")
        return stated_digest(spec, dataset=dataset, scorers={"accuracy": scorers})

    assert stated() == stated()
    assert len({stated(), stated(bound=0.4), stated(dataset="d2"), stated(scorers="exact")}) == 4
