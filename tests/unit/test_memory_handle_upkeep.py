from __future__ import annotations

import asyncio
import dataclasses

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memory_bench import Bench, Killed, either_store, write_page  # noqa: F401

from workbench import context, retrieval
from workbench.errors import ConfigError, CorruptError, NotFoundError
from workbench.memory.parquet import logical_digest


def page(tmp_path, name, body, **front):
    return write_page(tmp_path, f"acme/{name}.md", body=body, **front)


def contents(handle):
    return logical_digest(handle.tenant, asyncio.run(handle.view.items()))


def test_an_ingest_replaces_all_knowledge_and_repeating_it_changes_nothing(tmp_path, store):
    page(tmp_path, "taxi", "Taxis are paid.")
    page(tmp_path, "train", "Trains are paid.")
    folder = write_page(tmp_path, "globex/hotel.md", tenant="globex")
    bench = Bench(tmp_path, folder, store=store)
    first = bench.handle_of().ingest()
    assert (first.added, first.other_tenants, first.version) == (2, 1, 1)
    embedded = len(bench.texts)
    again = bench.handle_of().ingest()
    assert (again.added, again.unchanged, again.replaced, again.version) == (0, 2, 0, 1)
    (folder / "acme/taxi.md").unlink()
    page(tmp_path, "train", "Trains are paid. Trams too.")
    third = bench.handle_of().ingest()
    assert (third.added, third.replaced, third.version) == (2, 2, 2)
    assert len(bench.texts) == embedded + 2, "only what is new is embedded"
    assert {hit.source for hit in bench.handle_of().search("taxis trains", k=9)} == {"train"}
    assert [one.number for one in bench.handle_of().versions()] == [1, 2]
    assert bench.handle_of("globex").count() == 0


LONG = " ".join(f"Sentence number {n} ends." for n in range(9))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(deaths=st.lists(st.integers(1, 9), max_size=5))
def test_an_ingest_killed_at_any_call_resumes_and_embeds_no_staged_text_again(tmp_path, deaths):
    folder = write_page(tmp_path, "acme/long.md", body=LONG)
    whole, bench, lost = Bench(tmp_path, folder), Bench(tmp_path, folder), 0
    whole.handle_of().ingest()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workbench.retrieval.maintenance.TEXTS", 2)
        for calls_left in deaths:
            bench.die_at = len(bench.calls) + calls_left
            try:
                bench.handle_of().ingest()
            except Killed:
                lost += bench.calls[-1] == "memory.stage"
        bench.die_at = None
        bench.handle_of().ingest()
    assert contents(bench.handle_of()) == contents(whole.handle_of())
    assert set(bench.texts) == set(whole.texts)
    assert len(bench.texts) <= len(whole.texts) + 2 * lost, "only a batch that was not staged yet"
    assert bench.handle_of().ingest().added == 0
    assert [one.number for one in bench.handle_of().versions()] == [1]


def test_another_writer_that_publishes_in_between_does_not_stop_an_ingest(tmp_path, store):
    folder = page(tmp_path, "taxi", "Taxis are paid.")
    bench, other = Bench(tmp_path, folder, store=store), []
    asked = bench.ask

    async def ask(call):
        if call.operation == "publish" and not other:
            other.append(call)  # whoever publishes nothing takes away what is staged
            await bench.store.tenant("acme").publish([], now="")
        return await asked(call)

    bench.ask = ask
    assert bench.handle_of().ingest().added == 1
    assert bench.handle_of().search("taxis").sources == ("taxi",)


def test_an_ingest_of_nothing_never_empties_a_memory(tmp_path):
    folder = write_page(tmp_path)
    bench = Bench(tmp_path, folder)
    bench.handle_of().ingest()
    with pytest.raises(NotFoundError, match="no page to ingest for 'acme'") as caught:
        bench.handle_of().ingest([])
    assert "workbench memory forget" in caught.value.hint
    with pytest.raises(ConfigError, match="names no source"):
        Bench(tmp_path, "", kind="episodic").handle_of().ingest()
    assert bench.handle_of().count() == 2


def test_a_pinned_memory_takes_an_ingest_that_changes_nothing_and_refuses_another(tmp_path):
    bench = Bench(tmp_path, write_page(tmp_path))
    bench.handle_of().ingest()
    assert bench.handle_of(pinned="f" * 64).ingest().added == 0
    write_page(tmp_path, body="Taxis cost too much.")
    with pytest.raises(ConfigError, match="lacks 1 of 1 chunks") as caught:
        bench.handle_of(pinned="f" * 64).ingest()
    assert caught.value.hint == "dvc repro"


def test_many_pages_added_at_once_are_one_version_and_only_changed_ones_are_embedded(tmp_path, store):
    for n in range(150):
        folder = page(tmp_path, f"p{n}", f"Page {n} is here.")
    bench = Bench(tmp_path, folder, store=store)
    assert bench.handle_of().add(retrieval.load(folder)).version == 1
    page(tmp_path, "p7", "Page 7 is new.")
    before = len(bench.texts)
    done = bench.handle_of().add(retrieval.load(folder))
    assert (done.added, done.unchanged, done.replaced, done.version) == (1, 149, 1, 2)
    assert len(bench.texts) == before + 1


def test_adding_pages_of_which_some_are_staged_activates_all(tmp_path, store):
    page(tmp_path, "taxi", "Taxis are paid.")
    folder = page(tmp_path, "train", "Trains are paid.")
    bench = Bench(tmp_path, folder, store=store)
    bench.die_at = 4  # lacking, embed, stage, and then no publish
    with pytest.raises(Killed):
        bench.handle_of().ingest()
    bench.die_at = None
    page(tmp_path, "taxi", "Taxis are not paid.")
    bench.handle_of().add(retrieval.load(folder))
    found = bench.handle_of().search("paid", k=9)
    assert {hit.text for hit in found} == {"Taxis are not paid.", "Trains are paid."}


def test_a_diff_names_changed_sources_and_hides_those_not_visible(tmp_path, store):
    page(tmp_path, "taxi", "Taxis are paid.")
    page(tmp_path, "train", "Trains are paid.")
    page(tmp_path, "gone", "Ships are paid.")
    folder = page(tmp_path, "salary", "Salaries.", access="[board]")
    bench = Bench(tmp_path, folder, store=store)
    handle = bench.handle_of()
    handle.ingest()
    page(tmp_path, "taxi", "Taxis are paid. By card.")
    page(tmp_path, "fresh", "Bicycles are paid.")
    (folder / "acme/gone.md").unlink()
    ahead = handle.diff_sources()
    handle.ingest()
    behind = handle.diff(1, 2)
    for found in (ahead, behind):
        assert [found.of(what) for what in ("added", "removed", "changed")] == [
            ("fresh",),
            ("gone",),
            ("taxi",),
        ]
        assert found.of("same") == ("train",) and found.withheld == 1 and found.any
        assert "salary" not in str(found) + found._repr_html_() + str(found.to_json())
        assert found.frame().filter(source="taxi").row(0)[2:4] == (1, 2)
    assert not handle.diff_sources().any and "2 same" not in str(behind)
    assert bench.handle_of(groups=("everyone", "board")).diff(1, 2).withheld == 0


def test_restoring_a_version_makes_a_new_one_and_embeds_nothing(tmp_path, store):
    folder = page(tmp_path, "taxi", "Taxis are paid.")
    bench = Bench(tmp_path, folder, store=store, kind="episodic")
    handle = bench.handle_of()
    handle.ingest()
    before = contents(handle)
    page(tmp_path, "taxi", "Taxis are not paid.")
    handle.ingest()
    embedded = len(bench.texts)
    back = handle.restore(1)
    assert (back.version, back.added, back.replaced, len(bench.texts)) == (3, 1, 1, embedded)
    assert contents(handle) == before
    note = handle.remember("It rained.")
    assert handle.restore(1).unchanged == 1 and handle.count() == 2, "what was written by use stays"
    assert handle.search("rained", kinds=["episode"])[0].id == note.id
    with pytest.raises(NotFoundError):
        handle.restore(99)


def test_a_snapshot_restored_into_an_empty_store_holds_the_same_and_searches_the_same(tmp_path, store):
    page(tmp_path, "train", "Trains are paid.")
    folder = page(tmp_path, "taxi", "Taxis are paid. Keep the receipt.")
    bench = Bench(tmp_path, folder, kind="episodic")
    handle = bench.handle_of()
    handle.ingest()
    handle.remember("It rained on Monday.", access=["everyone"])
    written = handle.snapshot(tmp_path / "snap")
    assert written.items == {"acme": 4} and written.folder == tmp_path / "snap"
    empty = Bench(tmp_path, folder, store=store, kind="episodic")
    done = empty.handle_of().restore(tmp_path / "snap")
    assert (done.added, done.episodic, empty.texts) == (3, 1, [])
    assert contents(empty.handle_of()) == contents(handle)
    found = [[(h.id, h.score) for h in one.search("paid rained")] for one in (handle, empty.handle_of())]
    assert found[0] == found[1] and len(found[0]) == 4
    again = empty.handle_of().restore(tmp_path / "snap")
    assert (again.added, again.episodic, again.version) == (0, 0, 1)
    assert empty.handle_of().snapshot(tmp_path / "other").digest == written.digest


def test_a_restore_killed_at_any_call_is_finished_by_the_next(tmp_path):
    folder = write_page(tmp_path, "acme/long.md", body=LONG)
    full = Bench(tmp_path, folder)
    full.handle_of().ingest()
    full.handle_of().snapshot(tmp_path / "snap")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workbench.retrieval.maintenance.TEXTS", 2)
        for die_at in range(1, 8):
            bench = Bench(tmp_path, folder)
            bench.die_at = die_at
            with pytest.raises(Killed):
                bench.handle_of().restore(tmp_path / "snap")
            bench.die_at = None
            assert bench.handle_of().search("sentence") == [], (
                "nothing of a version is found before the whole"
            )
            bench.handle_of().restore(tmp_path / "snap")
            assert contents(bench.handle_of()) == contents(full.handle_of())


def test_no_older_snapshot_restores_a_forgotten_item(tmp_path, store):
    page(tmp_path, "ann", "Ann takes a taxi.", subject="ann")
    folder = page(tmp_path, "train", "Trains are paid.")
    bench = Bench(tmp_path, folder, store=store)
    handle = bench.handle_of()
    handle.ingest()
    handle.snapshot(tmp_path / "snap")
    assert handle.forget(subject="ann", dry_run=True).items == 1 and handle.search("ann", sources=["ann"])
    assert handle.forget(subject="ann").items == 1
    handle.restore(tmp_path / "snap")
    handle.restore(1)
    assert handle.search("ann taxi", k=9).sources == ("train",)
    handle.ingest()
    assert "ann" in handle.search("ann taxi", k=9).sources
    handle.forget(source="train")
    handle.restore(tmp_path / "snap")
    assert handle.search("ann trains", k=9).sources == ("ann",), "what was added again may come back"


def test_the_memorys_own_place_keeps_the_other_tenants_and_takes_no_earlier_version(tmp_path):
    page(tmp_path, "taxi", "Taxis are paid.")
    folder = write_page(tmp_path, "globex/hotel.md", tenant="globex", body="Hotels are paid.")
    bench = Bench(tmp_path, folder)
    for tenant in ("acme", "globex"):
        bench.handle_of(tenant).ingest()
    bench.handle_of("acme").snapshot()
    both = bench.handle_of("globex").snapshot()
    assert both.items == {"acme": 1, "globex": 1}
    assert both.folder == tmp_path / "state/snapshots/m@1"
    bench.handle_of("acme").forget(source="taxi")
    assert bench.handle_of("globex").snapshot().items == {"acme": 0, "globex": 1}
    with pytest.raises(ConfigError, match="not for version 1"):
        bench.handle_of("acme").at(1).snapshot()
    bench.spec = dataclasses.replace(bench.spec, digest="e")
    assert bench.handle_of("globex").snapshot().items == {"globex": 1}, "of another spec nothing is kept"


def test_a_snapshot_of_another_memory_tenant_or_embedding_is_refused_and_a_changed_one_noticed(tmp_path):
    folder = page(tmp_path, "taxi", "Taxis are paid.")
    bench = Bench(tmp_path, folder)
    bench.handle_of().ingest()
    bench.handle_of().snapshot(tmp_path / "snap")
    with pytest.raises(NotFoundError, match="holds nothing of 'globex'"):
        bench.handle_of("globex").restore(tmp_path / "snap")
    with pytest.raises(NotFoundError, match="snapshot of 'm' and holds nothing"):
        Bench(tmp_path, folder, name="n").handle_of().restore(tmp_path / "snap")
    with pytest.raises(ConfigError, match="embedded with 'hash'"):
        Bench(tmp_path, folder, embedding="other").handle_of().restore(tmp_path / "snap")
    data = (tmp_path / "snap/acme.parquet").read_bytes()
    (tmp_path / "snap/acme.parquet").write_bytes(data[:-1])
    with pytest.raises(CorruptError):
        bench.handle_of().restore(tmp_path / "snap")
    with pytest.raises(ConfigError, match="has no store of snapshots"):
        bench.handle_of(snapshot_store=None).snapshot()


def test_an_instant_has_one_form():
    assert context.is_instant("2026-01-01T00:00:00Z")
    for text in ("2026-01-01", "2026-1-1T00:00:00Z", "soon", "", "2026-01-01T00:00:00+00:00"):
        assert not context.is_instant(text)
