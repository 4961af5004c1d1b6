"""Forgetting removes recorded answers from the journals; what holds or fails removes none."""

from __future__ import annotations

import pytest
from journals import entry, journal_of
from memory_bench import Bench, Killed, either_store, write_page  # noqa: F401

from workbench import layout
from workbench.errors import ConfigError, RefusedError
from workbench.memory.sqlite.store import SQLiteStore
from workbench.records.journal import Journal

OLD, NEW, OTHER = "Taxis are paid at night.", "Taxis are paid by day.", "Hotels are paid."
NAMES = (layout.JOURNAL, layout.JUDGE_JOURNALS / "u.jsonl", layout.JOB_STATE / "u/2026-01-01/3.jsonl")
CONTENTS = (OLD, NEW, OTHER, "Ann travels.", "nothing of it")


@pytest.fixture
def bench(tmp_path, store):
    folder = write_page(tmp_path, "acme/taxi.md", body=OLD)
    write_page(tmp_path, "acme/hotel.md", body=OTHER)
    made = Bench(tmp_path, folder, store=store, kind="episodic")
    made.handle_of().ingest()
    write_page(tmp_path, "acme/taxi.md", body=NEW)
    made.handle_of().ingest()
    made.handle_of().remember("Ann travels.", subject="ann")
    return made


def recorded(root, names=NAMES):
    """Journals in which each text is asked about once."""
    return [journal_of(root / name, *(entry(text, content=text) for text in CONTENTS)) for name in names]


def left(journals):
    """The texts that each journal still answers, for every reader the same."""
    found = [[text for text in CONTENTS if j.get(entry(text, content=text).key)] for j in journals]
    fresh = [Journal(journal.path) for journal in journals]
    assert [[t for t in CONTENTS if j.get(entry(t, content=t).key)] for j in fresh] == found
    assert all(found[0] == each for each in found)
    return found[0]


def test_forgetting_a_source_removes_its_texts_of_every_version_from_every_journal(bench):
    journals = recorded(bench.root)
    handle = bench.handle_of()
    dry = handle.forget(source="taxi", dry_run=True)
    assert (dry.items, dry.journal_entries) == (2, 0) and left(journals) == list(CONTENTS)
    done = handle.forget(source="taxi")
    assert (done.items, done.journal_entries) == (2, 6) and left(journals) == list(CONTENTS[2:])
    done = handle.forget(subject="ann")
    assert (done.items, done.journal_entries) == (1, 3) and left(journals) == [OTHER, "nothing of it"]
    assert handle.forget(subject="ann").journal_entries == 0


def test_what_was_derived_goes_too_and_what_is_held_stays(bench):
    handle = bench.handle_of()
    (hit,) = handle.search("Hotels", sources=["hotel"])
    handle.remember("nothing of it", kind="summary", parents=[hit.id], subject="ann")
    handle.hold(subject="ann")
    journals = recorded(bench.root)
    done = handle.forget(source="hotel")
    assert (done.items, done.held, done.journal_entries) == (1, 1, 3)
    assert left(journals) == [OLD, NEW, "Ann travels.", "nothing of it"]
    handle.release(subject="ann")
    assert handle.forget(subject="ann").journal_entries == 6 and left(journals) == [OLD, NEW]


def test_the_journals_are_those_of_the_home_when_the_code_is_a_copy(bench, tmp_path):
    journals = recorded(tmp_path / "home", NAMES[:1])
    code = recorded(bench.root, NAMES[:1])
    assert bench.handle_of(home=tmp_path / "home").forget(source="hotel").journal_entries == 1
    assert OTHER not in left(journals) and OTHER in left(code)


def test_killed_at_any_call_the_same_forget_finds_the_texts_again(bench):
    journals = recorded(bench.root)
    calls = 0
    while True:
        calls += 1
        bench.calls.clear()
        bench.die_at = calls
        try:
            bench.handle_of().forget(source="taxi")
        except Killed:
            bench.die_at = None
            assert bench.handle_of().forget(source="taxi", dry_run=True).items == 2
            continue
        break
    assert calls > 4 and left(journals) == list(CONTENTS[2:])


def test_killed_right_after_the_items_are_deleted_no_journal_holds_their_texts(bench, monkeypatch):
    journals, answer = recorded(bench.root), bench.stores.answer

    async def deadly(call):
        done = await answer(call)
        if call.operation == "forget" and not call.payload["dry_run"]:
            raise Killed
        return done

    with monkeypatch.context() as patch:
        patch.setattr(bench.stores, "answer", deadly)
        with pytest.raises(Killed):
            bench.handle_of().forget(source="taxi")
    assert bench.handle_of().forget(source="taxi", dry_run=True).items == 0
    assert left(journals) == list(CONTENTS[2:])


def test_an_answer_that_arrives_while_the_items_are_deleted_is_removed_too(bench, monkeypatch):
    (journal,) = recorded(bench.root, NAMES[:1])
    late, answer = entry("late", content=NEW), bench.stores.answer

    async def slowly(call):
        done = await answer(call)
        if call.operation == "forget" and not call.payload["dry_run"]:
            Journal(journal.path).append(late.key, late.line())
        return done

    monkeypatch.setattr(bench.stores, "answer", slowly)
    assert bench.handle_of().forget(source="taxi").journal_entries == 3
    assert journal.get(late.key) is None and left([journal]) == list(CONTENTS[2:])


def test_who_may_not_forget_and_a_pinned_snapshot_remove_no_entry(bench, tmp_path):
    journals = recorded(bench.root)
    with pytest.raises(RefusedError, match="admin"):
        bench.handle_of(admin=False).forget(source="taxi")
    with pytest.raises(ConfigError, match="exactly one"):
        bench.handle_of().forget()
    assert left(journals) == list(CONTENTS)


def test_a_journal_that_cannot_be_purged_stops_before_anything_is_forgotten(bench, monkeypatch):
    recorded(bench.root, NAMES[:1])
    monkeypatch.setattr("os.pwrite", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(Exception, match="cannot write"):
        bench.handle_of().forget(source="taxi")
    assert bench.handle_of().forget(source="taxi", dry_run=True).items == 2


def test_without_journals_no_item_is_read(bench):
    bench.calls.clear()
    bench.handle_of().forget(source="taxi")
    assert bench.calls == ["memory.forget"]


def test_with_a_journal_the_items_of_the_active_and_of_each_version_are_read_once(tmp_path):
    folder = write_page(tmp_path, "acme/taxi.md", body=OLD)
    store = SQLiteStore(tmp_path / "m.sqlite", name="m")
    made = Bench(tmp_path, folder, store=store, kind="episodic")
    made.handle_of().ingest()
    recorded(tmp_path, NAMES[:1])
    made.calls.clear()
    made.handle_of().forget(source="taxi")
    assert made.calls == ["memory.forget", "memory.versions", "memory.items", "memory.items", "memory.forget"]
    store.close()
