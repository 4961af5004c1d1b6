"""How several workers share the tests."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import sharing

TESTS = Path(__file__).resolve().parents[1]


def test_every_file_that_is_named_is_there():
    stems = {path.stem for path in TESTS.rglob("test_*.py")}
    named = {*sharing.TOGETHER, *sharing.APART}
    assert named <= stems
    assert not sharing.TOGETHER & sharing.APART


def test_a_file_stays_together_unless_it_is_named():
    alone, joined = min(sharing.APART), sorted(sharing.TOGETHER)
    assert sharing.unit_of("tests/unit/test_x.py::T::test_a[x::y]") == "tests/unit/test_x.py"
    assert sharing.unit_of(f"tests/x/{alone}.py::test_a") != sharing.unit_of(f"tests/x/{alone}.py::test_b")
    assert len({sharing.unit_of(f"tests/{name}/{name}.py::test_{name}") for name in joined}) == 1


def test_what_may_take_longest_begins_first_and_unit_tests_come_last():
    def item(name, folder, seconds=None, *, slow=False):
        limit = SimpleNamespace(args=[seconds]) if seconds else None
        return SimpleNamespace(
            name=name,
            path=TESTS / folder / "test_x.py",
            keywords={"slow"} if slow else set(),
            get_closest_marker=lambda _: limit,
        )

    items = [
        item("unit", "unit"),
        item("quick", "faults"),
        item("long", "integration", 600, slow=True),
        item("other unit", "unit"),
        item("longest", "integration", 900, slow=True),
    ]
    sharing.first_the_long(items)
    assert [one.name for one in items] == ["longest", "long", "quick", "unit", "other unit"]
