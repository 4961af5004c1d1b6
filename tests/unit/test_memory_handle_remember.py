from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memory_bench import Bench, write_page

from workbench.errors import ConfigError, NotFoundError, RefusedError
from workbench.ports import Budget
from workbench.retrieval import Retention


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path, kind="episodic")


def item_of(handle, note):
    (found,) = [item for item in asyncio.run(handle.view.items()) if item.id == note.id]
    return found


def test_a_remembered_item_is_private_and_its_trust_is_set_by_the_workbench(bench):
    ann = bench.handle_of(name="ann")
    note = ann.remember("The client prefers trains.", subject="client-7", kind="fact")
    item = item_of(ann, note)
    assert (item.access, item.owner, item.subject, item.kind) == (
        ("principal:ann",),
        "ann",
        "client-7",
        "fact",
    )
    assert (item.created, item.expires, item.trust, note.new) == ("2026-01-01T12:00:00Z", None, 1, True)
    assert item.source == "u" and ann.search("trains").sources == ("u",)
    assert not bench.handle_of(name="bob").search("trains")
    assert (
        item_of(ann, bench.handle_of(name="ann", assurance="authenticated").remember("It is so.")).trust == 2
    )


def test_the_same_text_in_the_same_second_is_stored_once(bench):
    handle = bench.handle_of()
    first, again = handle.remember("It rained."), handle.remember("It rained.")
    assert (first.id, first.new, again.id, again.new) == (first.id, True, first.id, False)
    bench.clock.set("2026-01-01T12:00:01")
    assert handle.remember("It rained.").id != first.id and handle.count() == 2


def test_retention_counts_from_the_clock_by_the_most_specific_rule_and_an_earlier_end_wins(tmp_path):
    rules = (
        Retention(keep_days=100), Retention(keep_days=30, kind="fact"),
        Retention(keep_days=50, classification=2), Retention(keep_days=3, kind="fact", classification=2),
    )  # fmt: skip
    handle = Bench(tmp_path, kind="episodic", retention=rules).handle_of()
    expires = [
        handle.remember("one").expires, handle.remember("two", kind="fact").expires,
        handle.remember("three", classification=2).expires,
        handle.remember("four", kind="fact", classification=2).expires,
        handle.remember("five", expires="2026-01-05T00:00:00Z").expires,
        handle.remember("six", expires="2036-01-05T00:00:00Z").expires,
    ]  # fmt: skip
    assert [one[:10] for one in expires] == [
        "2026-04-11", "2026-01-31", "2026-02-20", "2026-01-04", "2026-01-05", "2026-04-11",
    ]  # fmt: skip


def test_an_item_is_not_found_from_its_expiry_on(tmp_path):
    bench = Bench(tmp_path, kind="episodic", retention=(Retention(keep_days=1),))
    bench.handle_of().remember("It rained.")
    for at, found in (("2026-01-02T11:59:59", 1), ("2026-01-02T12:00:00", 0)):
        bench.clock.set(at)
        assert len(bench.handle_of().search("rained")) == found
    assert bench.handle_of().stats().expired == 1
    assert bench.handle_of().purge().expired == 1 and bench.handle_of().count() == 0


def test_the_budget_of_the_spec_holds_and_evicted_items_are_named(tmp_path):
    bench = Bench(tmp_path, kind="episodic", budget=Budget(items=2))
    notes = []
    for second in range(3):
        bench.clock.set(f"2026-01-01T12:00:0{second}")
        notes.append(bench.handle_of().remember(f"Note {second}."))
    assert notes[2].evicted == (notes[0].id,) and bench.handle_of().count() == 2


@pytest.mark.parametrize(
    "text",
    [
        "a" * 401,
        "a" * 100_000,
        "é" * 201,
        "安" * 134,
        "\U0001f600" * 101,
        "a " * 201,
        "\n".join(["a"] * 300),
        " " * 400 + "a",
        "a" * 399 + "é",
        "e\u0301" * 134,
        "word " * 60_000,
    ],
)
def test_a_text_larger_than_the_whole_budget_is_refused_and_evicts_nothing(tmp_path, text):
    bench = Bench(tmp_path, kind="episodic", budget=Budget(items=9, tokens=100))
    kept = [bench.handle_of().remember(f"Note {number}.").id for number in range(3)]
    with pytest.raises(RefusedError, match="budget") as caught:
        bench.handle_of().remember(text)
    assert "budget.tokens" in caught.value.hint
    assert sorted(item.id for item in asyncio.run(bench.handle_of().view.items())) == sorted(kept)


@pytest.mark.parametrize("text", ["a" * 400, "é" * 200, "\U0001f600" * 100])
def test_a_text_of_the_whole_budget_is_stored_and_evicts_the_others(tmp_path, text):
    bench = Bench(tmp_path, kind="episodic", budget=Budget(tokens=100))
    first = bench.handle_of().remember("Note.")
    bench.clock.set("2026-01-01T12:00:01")
    assert bench.handle_of().remember(text).evicted == (first.id,) and bench.handle_of().count() == 1


def test_a_derived_item_has_the_lowest_trust_of_its_parents(tmp_path):
    folder = write_page(tmp_path, classification=2, access="[finance, board]")
    bench = Bench(tmp_path, folder, kind="episodic")
    handle = bench.handle_of(groups=("finance",), clearance=2, assurance="authenticated")
    handle.ingest()
    (page, *_) = handle.search("taxis")
    talk = handle.remember("We spoke.", expires="2026-01-09T00:00:00Z")
    low = bench.handle_of(name="p", groups=("finance",), clearance=2).remember("Asserted.")
    first = handle.remember("A summary.", kind="summary", parents=[page.id], access=["finance"])
    assert item_of(handle, first).access == ("finance",) and (first.trust, first.expires) == (2, None)
    both = item_of(handle, handle.remember("Of all.", kind="summary", parents=[page.id, talk.id, low.id]))
    assert (both.trust, both.classification, both.expires) == (1, 2, "2026-01-09T00:00:00Z")
    assert both.parents == tuple(sorted([page.id, talk.id, low.id]))
    assert handle.forget(ids=[talk.id]).derived == 1


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_nothing_derived_is_more_trusted_or_less_guarded_than_any_parent(tmp_path, data):
    bench, known, items = Bench(tmp_path, kind="episodic"), [], {}
    for number in range(data.draw(st.integers(2, 8))):
        handle = bench.handle_of(
            assurance=data.draw(st.sampled_from(["asserted", "authenticated"])),
            clearance=9,
            groups=("a", "b"),
        )
        parents = data.draw(st.lists(st.sampled_from(known), unique=True, max_size=3)) if known else []
        access = data.draw(st.sampled_from([None, ["a"], ["a", "b"]]))
        try:
            note = handle.remember(
                f"n{number}", classification=data.draw(st.integers(0, 3)), parents=parents, access=access
            )
        except RefusedError:
            wider = [one for one in access if any(one not in items[parent].access for parent in parents)]
            assert wider
            continue
        known.append(note.id)
        made = items[note.id] = item_of(handle, note)
        for parent in (items[one] for one in parents):
            assert made.trust <= parent.trust and made.classification >= parent.classification
            assert set(made.access) <= {*parent.access, "principal:p"}


@pytest.mark.parametrize("hidden", ["other", "classified", "unknown", "expired"])
def test_a_hidden_parent_is_reported_as_missing(bench, hidden):
    writer = bench.handle_of(name="ann" if hidden == "other" else "p", clearance=5)
    parent = writer.remember(
        "Hidden.", classification=4 if hidden == "classified" else 0,
        expires="2026-01-01T12:00:01Z" if hidden == "expired" else None,
    ).id  # fmt: skip
    bench.clock.set("2026-01-01T12:00:02")
    with pytest.raises(NotFoundError, match="1 of 1 parents") as caught:
        bench.handle_of().remember("Derived.", parents=["none" if hidden == "unknown" else parent])
    assert "Hidden" not in str(caught.value)
    assert asyncio.run(bench.handle_of().unfiltered.count()) == 1


def test_an_invalid_note_is_refused_and_nothing_is_written(bench, tmp_path):
    handle = bench.handle_of()
    for said, how in (
        ("text to remember", {"text": " "}),
        ("a document comes from a source", {"text": "x", "kind": "document"}),
        ("access is", {"text": "x", "access": []}),
        ("access is", {"text": "x", "access": "everyone"}),
        ("access is", {"text": "x", "access": ["everyone", " "]}),
        ("expires is 'soon'", {"text": "x", "expires": "soon"}),
        ("half of a surrogate", {"text": "\ud800"}),
        ("valid_from is 'soon'", {"text": "x", "valid_from": "soon"}),
        ("classification is 10", {"text": "x", "classification": 10}),
        ("kind is 'episodes'", {"text": "x", "kind": "episodes"}),
    ):
        with pytest.raises(ConfigError, match=said):
            handle.remember(how.pop("text"), **how)
    with pytest.raises(ConfigError, match="read-only"):
        bench.handle_of(pinned="f" * 64).remember("x")
    with pytest.raises(ConfigError, match="is built from sources"):
        Bench(tmp_path, "pages").handle_of().remember("x")
    assert handle.count() == 0


def test_a_note_may_have_a_last_valid_day(bench):
    handle = bench.handle_of(as_of=None)
    handle.remember("The lift is broken.", valid_from="2026-01-01", valid_to="2026-01-03")
    assert len(handle.search("lift")) == 1 and not handle.search("lift", as_of="2026-01-03")


def test_a_hold_covers_later_notes_and_forget_counts_the_held_ones(bench):
    handle = bench.handle_of()
    handle.remember("One.", subject="ann")
    assert handle.hold(subject="ann") == 1
    handle.remember("Two.", subject="ann")
    gone = handle.forget(subject="ann")
    assert (gone.items, gone.held, handle.count()) == (0, 2, 2)
    assert handle.release(subject="ann") == 2 and handle.forget(subject="ann").items == 2
    with pytest.raises(ConfigError, match="exactly one"):
        handle.forget(subject="ann", source="u")
