"""What a memory forgets is in no copy of a run on trial any more, living or killed."""

from __future__ import annotations

import shutil

import pytest
from calls import context

from workbench import _sync
from workbench.layout import CACHE, COPIES
from workbench.memory.copies import MemoryCopies, forget_in_copies
from workbench.memory.sqlite.store import SQLiteStore
from workbench.ports import Budget, Call, Selector
from workbench.testing.fake_memory import FakeStore
from workbench.testing.memory_items import NOW, make_episode

SECRET = "max lives in the blue house"


def call(verb, *, target="talks", **payload):
    return Call(
        port="memory", operation=verb, target=target, payload=payload, context=context(),
        identity={"version": 1},
    )  # fmt: skip


async def nothing(_call, _items):
    return frozenset()


@pytest.fixture
def live():
    store = FakeStore(name="talks")
    items = [make_episode(SECRET, subject="max"), make_episode("it rained", subject="eva")]
    _sync.run(store.tenant("acme").remember(items, budget=Budget(), now=NOW))
    return store.tenant("acme")


def copied(root, run, live):
    """The copies of a run on trial, with what the run itself remembered of the subject."""
    copies = MemoryCopies(root / CACHE / run / COPIES, nothing)

    async def changed():
        view = await copies.view(call("remember"), live)
        await view.remember([make_episode(f"{SECRET}, says {run}", subject="max")], budget=Budget(), now=NOW)
        return view

    return copies, _sync.run(changed())


def holding(root):
    """The files below a folder that hold the secret."""
    found = [path for path in root.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    return sorted({path.relative_to(root / CACHE).parts[1] for path in found})


@pytest.mark.parametrize(
    "run", ["jobs/r1", "judging/r1", "promoting/r1", "promoting/r1/judged", "reproducing/r1"]
)
def test_a_killed_run_on_trial_keeps_no_copy_of_what_is_forgotten(tmp_path, live, run):
    copies, view = copied(tmp_path / "alive", run, live)
    shutil.copytree(tmp_path / "alive" / CACHE, tmp_path / "root" / CACHE)  # with the log of an open file
    _sync.run(copies.aclose())
    assert holding(tmp_path / "root") == ["r1"]
    forget_in_copies(tmp_path / "root" / CACHE, call("forget", what=Selector(subject="max")))
    assert holding(tmp_path / "root") == []
    path = tmp_path / "root" / CACHE / run / COPIES / "answers/talks/1.sqlite"
    left = SQLiteStore(path, name="talks")
    assert [item.text for item in left.tenant("acme").all_items()] == ["it rained"]
    left.database.close()
    assert view.tenant == "acme"


def test_a_living_run_on_trial_forgets_too_and_goes_on(tmp_path, live):
    copies, view = copied(tmp_path, "jobs/r1", live)
    forget_in_copies(tmp_path / CACHE, call("forget", target="other", what=Selector(subject="max")))
    assert holding(tmp_path) == ["r1"], "of another memory"
    forget_in_copies(tmp_path / CACHE, call("forget", what=Selector(subject="max")))
    assert holding(tmp_path) == []
    assert [item.text for item in _sync.run(view.items())] == ["it rained"]
    _sync.run(copies.aclose())


def test_what_is_forgotten_while_it_is_copied_is_not_in_the_copy(tmp_path, live):
    async def forgotten(_call, items):
        return frozenset(item.id for item in items if item.subject == "max")

    copies = MemoryCopies(tmp_path / CACHE / "jobs/r1" / COPIES, forgotten)
    view = _sync.run(copies.view(call("remember"), live))
    assert [item.text for item in _sync.run(view.items())] == ["it rained"] and holding(tmp_path) == []
    _sync.run(copies.aclose())


def test_a_copy_that_cannot_be_read_is_removed(tmp_path):
    path = tmp_path / CACHE / "jobs/r1" / COPIES / "answers/talks/1.sqlite"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"torn, and " + SECRET.encode() * 200)
    path.with_name("1.sqlite-wal").write_bytes(SECRET.encode())
    forget_in_copies(tmp_path / CACHE, call("forget", what=Selector(subject="max")))
    assert holding(tmp_path) == [] and list(path.parent.iterdir()) == []
