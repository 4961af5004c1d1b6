from __future__ import annotations

import asyncio
import dataclasses

import pytest
from memory_bench import Bench, write_page

from workbench import retrieval
from workbench.errors import ConfigError, RefusedError
from workbench.ports import Memory, Query
from workbench.retrieval.hits import Hits
from workbench.types import Hit


def of_three(tmp_path, **spec):
    """A bench over three pages of acme, ingested."""
    for name in ("taxi", "train", "hotel"):
        folder = write_page(tmp_path, f"acme/{name}.md", body=f"A {name} is paid.", title=name)
    bench = Bench(tmp_path, folder, **spec)
    bench.handle_of().ingest()
    return bench


def test_a_search_asks_as_the_principal_at_the_clocks_instant_and_as_the_spec_says(tmp_path):
    bench = of_three(tmp_path, mode="vector", exact=True, candidates=7)
    handle = bench.handle_of(groups=("finance",), name="ann", clearance=3)
    handle.search("taxi", k=2, sources=["taxi"], kinds=["document"], version=1)
    (query,) = bench.queries
    assert isinstance(query, Query)
    assert (query.groups, query.clearance) == (("finance", "principal:ann"), 3)
    assert (query.as_of, query.now, query.version) == ("2026-01-01", "2026-01-01T12:00:00Z", 1)
    assert (query.mode, query.exact, query.candidates, query.k) == ("vector", True, 7, 2)
    assert (query.sources, query.kinds) == (("taxi",), ("document",))


def test_hits_carry_the_class_of_data_of_the_spec_and_change_in_nothing_else(tmp_path):
    plain = of_three(tmp_path / "plain").handle_of().search("taxi")
    handle = of_three(tmp_path / "classed", data_class="health").handle_of()
    found = handle.search("taxi")
    assert {hit.data_class for hit in plain} == {""} and {hit.data_class for hit in found} == {"health"}
    assert [dataclasses.replace(hit, data_class="") for hit in found] == plain
    assert list(map(repr, found)) == list(map(repr, plain))


def test_without_a_day_a_search_uses_today_and_a_pinned_snapshot_ignores_the_clock(tmp_path):
    bench = of_three(tmp_path)
    bench.clock.set("2026-03-04T05:06:07")
    bench.handle_of(as_of=None).search("taxi")
    bench.handle_of(pinned="f" * 64).search("taxi")
    bench.handle_of(pinned="f" * 64, today=True).search("taxi")  # a job: what has expired by now is gone
    assert [(query.as_of, query.now) for query in bench.queries] == [
        ("2026-03-04", "2026-03-04T05:06:07Z"), ("2026-01-01", None), ("2026-01-01", "2026-03-04T05:06:07Z"),
    ]  # fmt: skip


def test_a_handle_at_a_version_searches_that_version_and_the_one_named_in_a_search_wins(tmp_path):
    bench = of_three(tmp_path)
    old = bench.handle_of().at(1)
    (tmp_path / "pages/acme/hotel.md").unlink()
    bench.handle_of().ingest()
    assert old.search("hotel").sources[0] == "hotel"
    assert "hotel" not in bench.handle_of().search("hotel").sources
    assert "hotel" not in old.search("hotel", version=2).sources
    assert old.at(None).search("hotel") == bench.handle_of().search("hotel")


def test_a_passage_whose_source_has_changed_is_flagged_dropped_or_refused_as_the_spec_says(tmp_path):
    found = {}
    for stale in ("flag", "drop", "refuse"):
        bench = of_three(tmp_path, stale=stale)
        write_page(tmp_path, "acme/taxi.md", body="A taxi is not paid.", title="taxi")
        found[stale] = bench
    (first, second) = found["flag"].handle_of().search("taxi", k=2)
    assert (first.source, first.stale, second.stale) == ("taxi", True, False)
    kept = found["drop"].handle_of().search("taxi", k=2)
    assert len(kept) == 2 and "taxi" not in kept.sources, "what is dropped gives way to the next"
    with pytest.raises(RefusedError, match="'taxi' changed after m@1") as refused:
        found["refuse"].handle_of().search("taxi")
    assert refused.value.hint == "workbench memory ingest --use-case u --memory m@1 --tenant acme"
    assert found["refuse"].handle_of().search("hotel", k=1, sources=["hotel"]).sources == ("hotel",)


def test_a_missing_page_is_stale_and_an_earlier_version_only_flags_it(tmp_path):
    for stale in ("drop", "refuse"):
        bench = of_three(tmp_path, stale=stale)
        (tmp_path / "pages/acme/taxi.md").unlink()
        (hit,) = bench.handle_of().search("taxi", k=1, version=1)
        assert (hit.source, hit.stale) == ("taxi", True)


@pytest.mark.parametrize("stale", ["flag", "drop", "refuse"])
def test_a_page_from_elsewhere_is_not_stale_when_missing_from_the_declared_source(tmp_path, stale):
    bench = of_three(tmp_path, stale=stale)
    elsewhere = write_page(tmp_path / "other", "acme/ship.md", body="A ship is paid.", title="ship")
    bench.handle_of().add(retrieval.load(elsewhere))
    (hit,) = bench.handle_of().search("ship", k=1)
    assert (hit.source, hit.stale, hit.trust) == ("ship", False, 1)
    write_page(tmp_path / "other", "acme/ship.md", body="A ship is dear.", title="ship")
    assert bench.handle_of().search("ship", k=1) == [hit], "only the declared source is looked at"
    write_page(tmp_path, "acme/ship.md", body="A ship is not paid.", title="ship")
    if stale == "refuse":
        with pytest.raises(RefusedError, match="'ship' changed after m@1"):
            bench.handle_of().search("ship")
        return
    found = bench.handle_of().search("ship")
    assert [hit.stale for hit in found if hit.source == "ship"] == ([True] if stale == "flag" else [])


def test_a_page_from_another_folder_is_stale_only_when_the_declared_source_differs(
    tmp_path,
):
    bench = of_three(tmp_path)
    other = tmp_path / "other"
    write_page(other, "acme/ship.md", body="A ship is paid.", title="ship")
    write_page(other, "acme/train.md", body="A train is paid.", title="train")
    bench.handle_of().ingest(write_page(other, "acme/taxi.md", body="A taxi is dear.", title="taxi"))
    found = {hit.source: (hit.stale, hit.trust) for hit in bench.handle_of().search("paid", k=9)}
    assert found == {"ship": (False, 1), "train": (False, 3), "taxi": (True, 1)}


def test_a_page_that_changes_during_an_ingest_is_stale_at_once(tmp_path):
    bench = of_three(tmp_path)
    read = retrieval.load(write_page(tmp_path, "acme/taxi.md", body="A taxi is dear.", title="taxi"))
    write_page(tmp_path, "acme/taxi.md", body="A taxi is cheap.", title="taxi")
    bench.handle_of().ingest(read)
    (hit,) = bench.handle_of().search("taxi", k=1)
    assert (hit.text, hit.stale, hit.trust) == ("A taxi is dear.", True, 1)
    bench.handle_of().ingest()
    assert [(hit.text, hit.stale) for hit in bench.handle_of().search("taxi", k=1)] == [
        ("A taxi is cheap.", False)
    ]


def test_a_snapshot_keeps_what_came_from_the_declared_source(tmp_path):
    bench = of_three(tmp_path)
    bench.handle_of().add(retrieval.load(write_page(tmp_path / "other", "acme/ship.md", title="ship")))
    bench.handle_of().snapshot(tmp_path / "snap")
    again = Bench(tmp_path, tmp_path / "pages")
    again.handle_of().restore(tmp_path / "snap")
    (tmp_path / "pages/acme/taxi.md").unlink()
    found = {hit.source: hit.stale for hit in again.handle_of().search("taxi", k=9)}
    assert found == {"taxi": True, "ship": False, "train": False, "hotel": False}


def test_a_memory_without_a_source_has_nothing_to_be_stale_against(tmp_path):
    pages = retrieval.load(write_page(tmp_path))
    bench = Bench(tmp_path, "", kind="episodic", stale="refuse")
    bench.handle_of().add(pages)
    assert [hit.stale for hit in bench.handle_of().search("taxis", k=1)] == [False]


def test_a_search_that_drops_stale_passages_sees_all_candidates(tmp_path):
    bench = of_three(tmp_path, stale="drop", candidates=9)
    (hit,) = bench.handle_of().search("hotel", k=1)
    assert (hit.source, bench.queries[-1].k) == ("hotel", 9)
    with pytest.raises(ConfigError, match="k is 0"):
        bench.handle_of().search("hotel", k=0)


def test_trust_is_highest_for_a_page_as_its_declared_source_has_it(tmp_path):
    folder = write_page(tmp_path)
    pages = retrieval.load(folder)
    assert {item.trust for item in Bench(tmp_path, folder).handle_of().items_of(pages[0])} == {3}
    other = Bench(tmp_path, tmp_path / "elsewhere")
    assert {item.trust for item in other.handle_of().items_of(pages[0])} == {1}
    assert {item.trust for item in other.handle_of(assurance="authenticated").items_of(pages[0])} == {2}


def test_a_documents_stamps_depend_on_its_page_and_spec_alone(tmp_path):
    keep = retrieval.Retention(keep_days=10, classification=2)
    folder = write_page(tmp_path, classification=2, subject="ann", expires="2027-01-01")
    bench = Bench(tmp_path, folder, retention=(keep,))
    (item, _) = bench.handle_of().items_of(retrieval.load(folder)[0])
    assert (item.classification, item.subject, item.created) == (2, "ann", None)
    assert (item.valid_from, item.valid_to, item.expires) == (
        "2025-01-01", "2027-01-01", "2025-01-11T00:00:00Z",
    )  # fmt: skip
    bench.clock.set("2031-01-01")
    assert bench.handle_of(name="somebody").items_of(retrieval.load(folder)[0])[0] == item


def test_a_view_of_a_handle_is_the_memory_port_and_each_verb_of_it_a_call(tmp_path):
    bench = of_three(tmp_path)
    view = bench.handle_of().view
    assert isinstance(view, Memory)
    bench.calls.clear()
    assert view.tenant == "acme" and len(asyncio.run(view.items())) == 3
    assert bench.calls == ["memory.items"]


def test_an_async_twin_does_what_its_verb_does(tmp_path):
    bench = of_three(tmp_path)
    handle = bench.handle_of()

    async def twins():
        return [
            await handle.search_async("taxi", k=1), await handle.count_async(), await handle.ingest_async(),
            await handle.versions_async(), await handle.diff_sources_async(), await handle.stats_async(),
            await handle.hold_async(source="taxi"), await handle.release_async(source="taxi"),
            await handle.forget_async(source="taxi", dry_run=True), await handle.diff_async(1, 1),
            await handle.add_async(retrieval.load(tmp_path / "pages")), await handle.restore_async(1),
            await handle.purge_async(),
        ]  # fmt: skip

    assert asyncio.run(twins()) == [
        handle.search("taxi", k=1), handle.count(), handle.ingest(), handle.versions(),
        handle.diff_sources(), handle.stats(), handle.hold(source="taxi"), handle.release(source="taxi"),
        handle.forget(source="taxi", dry_run=True), handle.diff(1, 1),
        handle.add(retrieval.load(tmp_path / "pages")), handle.restore(1), handle.purge(),
    ]  # fmt: skip


def made_hit(**more):
    fields = {
        "id": "i", "text": "Taxis <b>are</b> paid.", "source": "taxi", "title": "Taxi", "version": 4,
        "score": 0.5, "tenant": "acme", "as_of": "2026-01-01", "stale": False, "digest": "0123456789abcdef",
        "memory": "handbook", "trust": 3, "memory_version": 7, "age_days": 12,
        "allowed": "everyone; classification 0 <= clearance 0",
    }  # fmt: skip
    return Hit(**fields | more)


@pytest.mark.parametrize("show", [str, Hits._repr_html_])
def test_hits_show_where_each_is_from_how_old_it_is_and_why_it_was_allowed(show):
    shown = show(Hits([made_hit()]))
    for said in ("taxi, version 4, 0123456789ab", "12 days old", "memory version 7", "trust 3", "0.5000"):
        assert said in shown
    assert "everyone; classification 0" in shown and "changed" not in shown and "degraded" not in shown
    marked = show(Hits([made_hit(stale=True, degraded=True, kind="fact", memory_version=0)]))
    assert "source changed" in marked and "degraded: from the last snapshot" in marked and "fact" in marked
    assert "No passage" in show(Hits([])) and "degraded" not in show(Hits([]))
    assert "No passage that you may see is valid on that day (degraded: from" in show(Hits(degraded=True))


def test_an_answer_of_the_last_snapshot_says_so_even_when_nothing_is_found(tmp_path):
    bench = of_three(tmp_path, stale="drop")
    assert not bench.handle_of().search("taxi", as_of="2001-01-01").degraded

    async def away(call):
        if call.operation == "search":
            call.span.note(degraded=True)
        async for event in bench.handle(call):
            yield event

    handle = dataclasses.replace(bench.handle_of(), handler=away)
    found = handle.search("taxi", as_of="2001-01-01")
    assert (found, found.degraded) == ([], True)
    for name in ("taxi", "train", "hotel"):
        (tmp_path / f"pages/acme/{name}.md").unlink()
    found = handle.search("taxi")
    assert (found, found.degraded) == ([], True), "all of it was dropped"


def test_a_card_holds_text_as_text_and_says_whether_any_hit_is_degraded():
    assert "<b>" not in Hits([made_hit()])._repr_html_()
    assert (Hits([made_hit(), made_hit(degraded=True)]).degraded, Hits([made_hit()]).degraded) == (
        True,
        False,
    )
