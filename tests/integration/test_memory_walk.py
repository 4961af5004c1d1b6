"""One memory on a real server: ingested, asked, changed, asked as it was, forgotten, never found again."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
from small_use_case import page, write
from switched_use_case import Nobody, replaced, switch, switched_repository

import workbench as wb
from workbench import _sync
from workbench.config import EXECUTION_VARIABLE, Execution
from workbench.errors import NotFoundError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
NUMBERS = itertools.count()
ASKED = ("When is a taxi paid?", "What may a hotel room cost?", "Ann Berg and her knee", "breakfast")


@pytest.fixture
def root(tmp_path, weaviate):
    """A repository whose memory, which is also written by use, is on the session's server."""
    name = f"walk-{next(NUMBERS)}"
    return switched_repository(tmp_path / "r", memory=name, server=weaviate, spec="kind: episodic\n")


@pytest.fixture
def connected(root):
    """Makes workspaces, and closes them."""
    made = []

    def connect():
        made.append(wb.connect("small", root=root))
        return made[-1]

    yield connect
    for ws in made:
        ws.close()


def found(handle, **how):
    """Sources and texts that any of the questions finds."""
    hits = [hit for text in ASKED for hit in handle.search(text, k=9, **how)]
    assert all(not hit.degraded for hit in hits)
    return {hit.source for hit in hits}, {hit.text for hit in hits}


def changed(root):
    replaced(root / "data/small/acme/taxi.md", "after ten at night", "after nine at night")


def test_an_answer_names_its_source_and_a_source_that_changes_is_flagged_until_it_is_ingested(
    root, connected
):
    ws = connected()
    memory = ws.memory()
    done = memory.ingest()
    assert (done.version, done.unchanged) == (1, 0) and memory.stats().store == "weaviate"
    assert memory.ingest().added == 0 and [one.number for one in memory.versions()] == [1]
    hits = memory.search(ASKED[0])
    reply = ws.model().chat(ws.prompt().render(question=ASKED[0], passages=hits))
    assert reply.text and "taxi" in reply.sources
    (first,) = memory.search(ASKED[0], k=1)
    assert (first.source, first.stale, first.memory_version, first.memory) == ("taxi", False, 1, memory.name)
    assert "everyone" in first.allowed and first.age_days == 669

    changed(root)
    (stale,) = memory.search(ASKED[0], k=1)
    assert stale == dataclasses.replace(first, stale=True)
    assert "changed" in str(memory.diff_sources()) and "taxi" in str(memory.diff_sources())

    done = memory.ingest()
    assert done.version == 2 and done.replaced >= 1 and done.unchanged >= 1
    (fresh,) = memory.search(ASKED[0], k=1)
    assert not fresh.stale and fresh.memory_version == 2 and "nine at night" in fresh.text
    (old,) = memory.search(ASKED[0], k=1, version=1)
    assert old.stale and old.memory_version == 1 and "ten at night" in old.text
    assert memory.at(1).search(ASKED[0], k=1)[0] == old
    assert memory.search(ASKED[0], as_of="2024-12-31") == [], "nothing was valid yet"
    another = connected().memory()
    assert another.search(ASKED[0], k=1)[0] == fresh, "another process reads the moved pointer"

    write(root, "elsewhere/acme/ship.md", page("ship", "A ship is never paid."))
    memory.add(wb.load(root / "elsewhere"))
    (root / "data/small/acme/hotel.md").unlink()
    found = {hit.source: (hit.stale, hit.trust) for hit in memory.search("Is a hotel or a ship paid?", k=9)}
    assert (found["ship"], found["hotel"], found["taxi"]) == ((False, 1), (True, 3), (False, 3))


def test_a_forgotten_item_is_found_on_no_path(root, connected, tmp_path, monkeypatch):
    memory = connected().memory()
    memory.ingest()
    changed(root)
    memory.ingest()
    about = memory.search(ASKED[2], k=1)[0]
    note = memory.remember("Somebody needs a taxi for a knee.", kind="summary", parents=[about.id])
    kept = memory.remember("The weather was fine.", kind="episode")
    memory.snapshot()
    before = memory.snapshot(tmp_path / "before")
    assert found(memory)[0] >= {"taxi", "hotel", "ann"}
    assert {"taxi", "hotel", "ann"} <= found(memory, version=1)[0]

    (root / "data/small/acme/hotel.md").unlink()
    (root / "data/small/acme/ann.md").unlink()
    assert memory.forget(source="hotel").items >= 1
    gone = memory.forget(subject="ann")
    assert gone.derived == 1 and note.id in gone.ids and kept.id not in gone.ids

    def clean(handle, **how):
        sources, texts = found(handle, **how)
        assert not sources & {"hotel", "ann"} and "taxi" in sources
        assert not any("knee" in text or "Breakfast" in text for text in texts)

    clean(memory)
    clean(memory, version=1)
    for version in (None, 1, 2):
        ids = {item.id for item in _sync.run(memory.view.items(version))}
        assert ids and not ids & set(gone.ids)
    memory.restore(tmp_path / "before")
    clean(memory)
    memory.restore(1)
    clean(memory)
    assert memory.ingest().added == 1, "the page as it is now"
    clean(memory)
    assert memory.count() == memory.stats().items
    assert memory.snapshot(tmp_path / "after").digest != before.digest

    clean(pinned_of_a_job(root, before.folder, connected, monkeypatch))
    monkeypatch.delenv(EXECUTION_VARIABLE)
    switch(root, Nobody(), memory_fallback="snapshot")
    away = connected().memory()
    for text in ASKED:
        hits = away.search(text, k=9)
        assert all(hit.degraded for hit in hits) and note.id not in {hit.id for hit in hits}
        assert {hit.source for hit in hits if hit.kind == "document"} == {"taxi"}


def pinned_of_a_job(root, folder, connected, monkeypatch):
    """The memory as a job of today sees it that was promoted with the snapshot in `folder`."""
    execution = Execution(
        notebook="n.ipynb", use_case="small", memory=str(folder), job="answers", run="r", live_memory=True
    )
    monkeypatch.setenv(EXECUTION_VARIABLE, execution.environment()[EXECUTION_VARIABLE])
    memory = connected().memory()
    assert memory.pinned is not None
    return memory


def test_a_memory_that_was_never_ingested_finds_nothing_and_says_so(root, connected):
    memory = connected().memory()
    assert memory.search(ASKED[0]) == [] and memory.versions() == [] and memory.count() == 0
    with pytest.raises(NotFoundError):
        memory.search(ASKED[0], version=3)
