"""How several workers share the tests, and how much the tests try."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import sharing
import sizes
from hypothesis import given
from hypothesis import strategies as st
from made_once import made_once

TESTS = Path(__file__).resolve().parents[1]


def test_every_file_that_is_named_is_there():
    stems = {path.stem for path in TESTS.rglob("test_*.py")}
    assert stems >= sharing.APART


def test_a_file_stays_together_unless_it_is_named():
    alone = min(sharing.APART)
    assert sharing.unit_of("tests/unit/test_x.py::T::test_a[x::y]") == "tests/unit/test_x.py"
    assert sharing.unit_of(f"tests/x/{alone}.py::test_a") != sharing.unit_of(f"tests/x/{alone}.py::test_b")


def test_what_may_take_longest_begins_first_and_unit_tests_come_last():
    def item(name, folder, seconds=None, *fixtures, slow=False):
        limit = SimpleNamespace(args=[seconds]) if seconds else None
        return SimpleNamespace(
            name=name,
            path=TESTS / folder / "test_x.py",
            fixturenames=fixtures,
            keywords={"slow"} if slow else set(),
            get_closest_marker=lambda _: limit,
        )

    items = [
        item("unit", "unit"),
        item("quick", "faults"),
        item("long", "integration", 600, slow=True),
        item("other unit", "unit"),
        item("waits for it", "integration", 900, "shipped", slow=True),
        item("makes a clone", "integration", 1000, "shipped", slow=True),
        item("longest", "integration", 900, slow=True),
    ]
    sharing.first_the_long(items)
    names = ["makes a clone", "longest", "long", "waits for it", "quick", "unit", "other unit"]
    assert [item.name for item in items] == names


@pytest.fixture(params=[False, True], ids=["sample", "soak"])
def soak(request, monkeypatch):
    monkeypatch.setattr(sizes, "SOAK", request.param)
    return request.param


def test_a_run_generates_a_fifth_of_the_examples_and_a_soak_all(soak):
    assert [sizes.examples(full) for full in (8, 10, 40, 100, 150)] == (
        [8, 10, 40, 100, 150] if soak else [8, 10, 10, 20, 30]
    )
    assert sizes.histories(15) == (500 if soak else 15)


def test_a_run_kills_at_two_points_of_its_seed_in_their_order_and_a_soak_at_all(soak, monkeypatch):
    points, chosen = [f"step {n:02}" for n in range(12)], set()
    for seed in range(40):
        monkeypatch.setattr(sizes, "SEED", seed)
        kills = sizes.kill_points(points)
        assert kills == sizes.kill_points(points) == sorted(kills)
        assert len(kills) == (12 if soak else 2)
        chosen.update(kills)
    assert chosen == set(points)
    assert sizes.kill_points(points[:2]) == points[:2]


def test_a_run_takes_some_tests_of_a_family_by_its_seed_and_a_soak_all(soak, monkeypatch):
    def item(name, family=None):
        mark = family and SimpleNamespace(args=(family, 2))
        return SimpleNamespace(nodeid=name, get_closest_marker=lambda _: mark)

    items = [item("other"), *(item(f"long {n}", "long") for n in range(5)), item("alone", "another")]
    left = set()
    for seed in range(40):
        monkeypatch.setattr(sizes, "SEED", seed)
        out = [item.nodeid for item in sizes.left_to_soak(items)]
        assert out == [item.nodeid for item in sizes.left_to_soak(items[::-1])]
        assert len(out) == (0 if soak else 3)
        left.update(out)
    assert left == (set() if soak else {f"long {n}" for n in range(5)})


def test_the_number_of_examples_reaches_hypothesis(soak):
    asked = []

    @given(st.integers())
    def holds(value):
        asked.append(value)

    items = [SimpleNamespace(obj=holds), SimpleNamespace(obj=holds), SimpleNamespace(name="no function")]
    sizes.limit_examples(items)
    holds()
    assert len(asked) == (100 if soak else 20)


def test_a_folder_is_made_once_and_one_half_made_is_made_again(tmp_path, monkeypatch):
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    factory = SimpleNamespace(getbasetemp=lambda: tmp_path)

    def dies(folder):
        (folder / "half").write_text("")
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        made_once(factory, "clone", dies)
    folder = made_once(factory, "clone", lambda folder: (folder / "whole").write_text(""))
    assert [path.name for path in folder.iterdir()] == ["whole"]
    assert made_once(factory, "clone", dies) == folder


def test_the_workers_of_a_run_share_what_is_made(tmp_path, monkeypatch):
    made = []
    for worker in ("gw0", "gw1"):
        (tmp_path / worker).mkdir()
        monkeypatch.setenv("PYTEST_XDIST_WORKER", worker)
        factory = SimpleNamespace(getbasetemp=lambda worker=worker: tmp_path / worker)
        made_once(factory, "clone", made.append)
    assert len(made) == 1
