"""Two writers of one memory, of which the second begins and ends in the middle of the first."""

from __future__ import annotations

import asyncio

import pytest
from memory_bench import Bench, Killed, either_store, write_page  # noqa: F401

from workbench import retrieval
from workbench.errors import NotFoundError
from workbench.memory.sqlite.store import SQLiteMemory
from workbench.memory.tombstones import TombstoneLog
from workbench.ports import Selector
from workbench.testing.fake_memory import FakeMemory

#: Calls of a restore of a snapshot: lacking twice, stage three times, publish, remember.
CALLS = range(1, 8)


@pytest.fixture
def folder(tmp_path):
    """Pages of which one is of Ann."""
    for name, subject in (("ann", "ann"), ("train", "none"), ("hotel", "none")):
        folder = write_page(tmp_path, f"acme/{name}.md", body=f"{name} is paid.", subject=subject)
    return folder


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch):
    monkeypatch.setattr("workbench.retrieval.maintenance.TEXTS", 1)


def before_call(bench, number, act):
    """Let another writer act as a whole before the call of that number from now on."""
    asked, left = bench.ask, [number]

    async def ask(call):
        left[0] -= 1
        if left[0] == 0:
            await act()
        return await asked(call)

    bench.ask = ask
    return left


def within(monkeypatch, kind, verb, act, *, when="before"):
    """Let another writer act inside the first use of a store's verb."""
    real, acted = getattr(kind, verb), []

    async def wrapped(self, *given, **named):
        first = not acted
        acted.append(verb)
        if first and when == "before":
            await act()
        done = await real(self, *given, **named)
        if first and when == "after":
            await act()
        return done

    monkeypatch.setattr(kind, verb, wrapped)
    return acted


def forgetting(handle, **what):
    return lambda: handle.view.forget(Selector(**what), now=handle.now())


def there(handle):
    return {(item.source, item.text) for item in asyncio.run(handle.view.items())}


def with_ann(bench):
    """A snapshot with a page of Ann, what was said of her, and what was made of both."""
    handle = bench.handle_of()
    handle.ingest()
    page = next(hit for hit in handle.search("ann", k=9) if hit.source == "ann")
    talk = handle.remember("Ann was here.", subject="ann")
    handle.remember("A summary.", kind="summary", parents=[page.id])
    handle.remember("Another.", kind="summary", parents=[talk.id])
    handle.remember("It rained.")
    handle.snapshot(bench.root / "snap")
    return handle


KEPT = {("train", "train is paid."), ("hotel", "hotel is paid.")}


@pytest.mark.parametrize("number", CALLS)
def test_a_forget_before_any_call_of_a_restore_wins(tmp_path, folder, store, number):
    with_ann(Bench(tmp_path, folder, kind="episodic"))
    bench = Bench(tmp_path, folder, kind="episodic", store=store)
    left = before_call(bench, number, forgetting(bench.handle_of(), subject="ann"))
    bench.handle_of().restore(tmp_path / "snap")
    assert left[0] <= 0, "the other writer was there"
    assert there(bench.handle_of()) == {*KEPT, ("u", "It rained.")}
    bench.handle_of().restore(tmp_path / "snap")
    assert there(bench.handle_of()) == {*KEPT, ("u", "It rained.")}


@pytest.mark.parametrize("number", range(1, 7))
def test_a_forget_before_any_call_of_a_version_restore_wins(tmp_path, folder, store, number):
    bench = Bench(tmp_path, folder, store=store)
    bench.handle_of().ingest()
    bench.handle_of().ingest([page for page in retrieval.load(folder) if page.source == "train"])
    left = before_call(bench, number, forgetting(bench.handle_of(), subject="ann"))
    bench.handle_of().restore(1)
    assert left[0] <= 0 and there(bench.handle_of()) == KEPT


@pytest.mark.parametrize("verb", ["stage", "remember"])
def test_a_forget_during_the_write_of_a_restore_removes_the_restored_item(
    tmp_path, folder, store, verb, monkeypatch
):
    with_ann(Bench(tmp_path, folder, kind="episodic"))
    bench, begun = Bench(tmp_path, folder, kind="episodic", store=store), []

    async def begin():
        begun.append(asyncio.create_task(forgetting(bench.handle_of(), subject="ann")()))
        await asyncio.wait(begun, timeout=0.2)  # as long as it takes, if nothing makes it wait

    within(monkeypatch, FakeMemory if store is None else SQLiteMemory, verb, begin)

    async def both():
        await retrieval.maintenance.restore(bench.handle_of(), tmp_path / "snap")
        await begun[0]

    asyncio.run(both())
    assert {source for source, _ in there(bench.handle_of())} <= {"train", "hotel", "u"}
    assert not {text for _, text in there(bench.handle_of())} & {"Ann was here.", "A summary.", "Another."}


@pytest.mark.parametrize("number", CALLS[:-1])
def test_a_killed_restore_leaves_no_forgotten_item_not_even_staged(tmp_path, folder, number):
    with_ann(Bench(tmp_path, folder, kind="episodic"))
    bench = Bench(tmp_path, folder, kind="episodic")
    before_call(bench, number, forgetting(bench.handle_of(), subject="ann"))
    bench.die_at = number + 2  # the forgetting is a call too
    with pytest.raises(Killed):
        bench.handle_of().restore(tmp_path / "snap")
    left = bench.store.by_tenant["acme"].stored().values()
    assert not [item for item in left if item.subject == "ann" or item.parents]


def test_an_item_forgotten_while_it_is_added_again_stays_forgotten(tmp_path, folder, store, monkeypatch):
    bench = Bench(tmp_path, folder, store=store)
    handle = bench.handle_of()
    handle.ingest()
    handle.snapshot(tmp_path / "snap")
    handle.forget(subject="ann")
    kind = FakeMemory if store is None else SQLiteMemory
    acted = within(monkeypatch, kind, "add", forgetting(handle, subject="ann"), when="after")
    handle.add(retrieval.load(folder))
    assert acted and there(handle) == KEPT
    handle.restore(tmp_path / "snap")
    assert there(handle) == KEPT
    handle.add(retrieval.load(folder))
    handle.ingest([page for page in retrieval.load(folder) if page.source == "train"])
    handle.restore(tmp_path / "snap")
    assert there(handle) == {*KEPT, ("ann", "ann is paid.")}, "added again, and nobody forgot it since"


@pytest.mark.parametrize("verb", ["ingest", "add"])
def test_a_page_whose_writer_died_before_lifting_its_tombstone_is_missing(
    tmp_path, folder, store, monkeypatch, verb
):
    bench = Bench(tmp_path, folder, store=store)
    handle = bench.handle_of()
    pages = retrieval.load(folder)
    handle.ingest()
    handle.forget(subject="ann")

    def killed(*given, **named):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(TombstoneLog, "admit", killed)
        with pytest.raises(Killed):
            getattr(handle, verb)(pages)
    getattr(handle, verb)(pages)
    whole = {*KEPT, ("ann", "ann is paid.")}
    assert there(handle) == whole
    handle.snapshot(tmp_path / "snap")
    handle.restore(tmp_path / "snap")
    assert there(handle) == whole


def test_no_item_is_derived_from_a_parent_forgotten_during_the_embedding(tmp_path, store):
    bench = Bench(tmp_path, kind="episodic", store=store)
    handle = bench.handle_of()
    talk = handle.remember("Ann was here.", subject="ann")
    before_call(bench, 2, forgetting(handle, ids=(talk.id,)))  # items, embed, remember
    with pytest.raises(NotFoundError, match="1 of 1 items") as caught:
        handle.remember("A summary.", kind="summary", parents=[talk.id])
    assert caught.value.hint and handle.count() == 0 and bench.calls[-1] == "memory.count"
    assert bench.calls.count("model.embed") == 2


def test_a_held_item_is_restored_until_it_is_released_and_forgotten(tmp_path, folder, store):
    bench = Bench(tmp_path, folder, store=store, kind="episodic")
    handle = with_ann(bench)
    talk = next(hit for hit in handle.search("Ann was here.", k=9) if hit.text == "Ann was here.")
    handle.hold(ids=[talk.id])
    done = handle.forget(subject="ann")
    assert (done.kept, done.held, done.items) == ((talk.id,), 1, 2)
    rest = {*KEPT, ("u", "Ann was here."), ("u", "Another."), ("u", "It rained.")}
    assert there(handle) == rest, "what was made of it stays with it"
    empty = Bench(tmp_path, folder, kind="episodic").handle_of()
    empty.restore(tmp_path / "snap")
    assert there(empty) == rest
    handle.release(ids=[talk.id])
    assert handle.forget(subject="ann").derived == 1
    for one in (handle, Bench(tmp_path, folder, kind="episodic").handle_of()):
        one.restore(tmp_path / "snap")
        assert there(one) == {*KEPT, ("u", "It rained.")}


def test_a_held_item_forgotten_by_another_process_is_not_restored(tmp_path, folder, store, monkeypatch):
    bench = Bench(tmp_path, folder, store=store, kind="episodic")
    handle = with_ann(bench)
    handle.hold(subject="ann")

    async def other():
        await handle.view.release(Selector(subject="ann"))
        await handle.view.forget(Selector(subject="ann"), now=handle.now())

    acted = within(monkeypatch, FakeMemory if store is None else SQLiteMemory, "forget", other, when="after")
    assert handle.forget(subject="ann").held == 2 and len(acted) == 2
    handle.restore(tmp_path / "snap")
    assert there(handle) == {*KEPT, ("u", "It rained.")}
