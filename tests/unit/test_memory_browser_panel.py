"""The browser of a memory without a front end: what its actions do, what it prints, and what it refuses."""

from __future__ import annotations

import dataclasses

import pytest
from memory_bench import Bench, write_page

from workbench import identity
from workbench.errors import ConfigError, NotFoundError, RefusedError
from workbench.identity import Principal
from workbench.memory.stemming import stems
from workbench.retrieval import Chunking, source_changes
from workbench.retrieval.matched_words import marked
from workbench.retrieval.source_changes import CHANGES
from workbench.widgets.table import PAGE

HOSTILE = "<script>window.injected=1</script>\x1b[31m\u202e שלום"


def of_pages(tmp_path, **spec):
    """A bench over pages of acme with other groups, levels and days, and one page of globex."""
    folder = write_page(tmp_path, "acme/taxi.md", body="Taxis are paid on trips.", title="Taxi")
    write_page(tmp_path, "acme/board.md", body="Taxis of the board.", title="Board", access="[board]")
    write_page(tmp_path, "acme/salary.md", body="Taxis and salaries.", title="Salary", classification=2)
    write_page(tmp_path, "acme/future.md", body="Taxis next year.", title="Future", valid_from="2027-01-01")
    bench = Bench(tmp_path, folder, **spec)
    bench.handle_of(groups=("everyone", "board"), clearance=2).ingest()
    return bench


def handle_of(bench, *, groups=("everyone", "board"), clearance=2, admin=False, **more):
    own = Principal(name="p", groups=groups, clearance=clearance, admin=admin)

    def narrowed(wanted):
        if raised := identity.beyond(wanted, own):
            raise RefusedError("; ".join(raised))
        return handle_of(bench, groups=wanted.groups, clearance=wanted.clearance, admin=wanted.admin, **more)

    made = bench.handle_of(groups=groups, clearance=clearance, admin=admin, stems=stems, **more)
    return dataclasses.replace(made, narrowed=narrowed)


@pytest.fixture
def bench(tmp_path):
    return of_pages(tmp_path)


def test_a_search_shows_passages_with_their_ranks_and_facts(bench):
    panel = handle_of(bench).browse()
    panel.act("question", "are taxis paid on trips?")
    panel.act("k", "2")
    panel.act("search")
    assert panel.hits == handle_of(bench).search("are taxis paid on trips?", k=2) and not panel.notice
    panel.act("open", 1)
    text = str(panel)
    for told in (
        "2 passages for 'are taxis paid on trips?', valid on 2026-01-01", "[1] or [taxi]", "trust",
        "1.0000, from rank 1 by words and 1 by meaning", "from 2025-01-01", "embedding hash",
        """ws.memory("m").search('are taxis paid on trips?', k=2)""",
    ):  # fmt: skip
        assert told in text, told
    assert panel.card_html().count("<tr>") == 3


def test_the_form_is_that_of_the_last_search_whoever_made_it(bench):
    panel = handle_of(bench).browse()
    panel.search("taxis", k=3, as_of="2027-02-01", version=1, sources=["taxi", "future"], kinds=["document"])
    assert set(panel.hits.sources) == {"taxi", "future"}
    found = list(panel.hits)
    panel.act("search")
    assert list(panel.hits) == found and not panel.notice


@pytest.mark.parametrize(
    ("action", "value", "told"),
    [
        ("k", "five", "not a whole number"),
        ("k", "0", "k is 0"),
        ("k", "1" * 30, "not a whole number"),
        ("as_of", "tomorrow", "not a day"),
        ("version", "7", "version"),
        ("version", "-1", "not a whole number"),
        ("kind", "secret", "no kind"),
        ("question", 7, "text"),
        ("open", 99, "no passage 99"),
        ("open", "1", "number"),
        ("open", -1, "number"),
        ("list", "all", "first"),
        ("group", "admins", "not in the group"),
        ("group", ["board"], "not in the group"),
        ("clearance", "9", "clearance 9"),
        ("clearance", 1, "not a whole number"),
        ("compare", None, "no two versions"),
        ("tenant", "globex", "no action"),
    ],
)
def test_what_a_page_should_not_send_becomes_the_notice_and_the_passages_stay(bench, action, value, told):
    panel = handle_of(bench).browse()
    found = panel.search("taxis")
    panel.act(action, value)
    if not panel.notice:  # entered, and read by the next search
        panel.act("search")
    assert told in panel.notice and panel.hits is found, panel.notice


def test_only_what_the_principal_may_see_on_the_day_is_found_listed_counted_and_compared(bench):
    panel = handle_of(bench, groups=("everyone",), clearance=0).browse()
    panel.search("taxis", k=50)
    assert panel.hits.sources == ("taxi",)
    assert [item.source for item in panel.list_page().rows] == ["taxi"] and panel.list_page().total == 1
    panel.act("as_of", "2027-02-01")
    panel.act("list", 0)
    assert {item.source for item in panel.list_page().rows} == {"taxi", "future"}
    panel.list_versions()
    shown = str(panel) + str(panel.to_json())
    assert "board" not in shown.lower() and "salar" not in shown.lower()


def test_an_admin_sees_no_count_of_what_its_groups_do_not_open(bench, tmp_path):
    handle = handle_of(bench, groups=("everyone",), clearance=0, admin=True)
    write_page(tmp_path, "acme/board.md", body="Another board.", title="Board", access="[board]")
    handle.ingest()
    assert handle.diff(1, 2).withheld, "the verb of an admin counts them"
    panel = handle.browse()
    panel.list_versions()
    assert not panel.compare(1, 2).withheld and "hidden" not in str(panel)


def test_fewer_rights_take_away_what_was_found_and_all_rights_bring_it_back(bench):
    panel = handle_of(bench, admin=True).browse()
    assert set(panel.search("taxis", k=50).sources) == {"taxi", "board", "salary"}
    panel.act("clearance", "0")
    assert panel.hits is None and not panel.principal.admin
    assert set(panel.search("taxis", k=50).sources) == {"taxi", "board"}
    panel.act("group", "board")
    assert panel.principal.groups == ("board",) and panel.principal.clearance == 0
    assert panel.search("taxis", k=50).sources == ("board",)
    panel.act("group", "")
    panel.act("clearance", "2")
    assert panel.principal.admin and len(panel.search("taxis", k=50)) == 3
    with pytest.raises(RefusedError, match="groups admins"):
        panel.act_as(groups=["admins"])
    with pytest.raises(RefusedError, match="clearance 3"):
        panel.act_as(clearance=3)


def test_a_handle_without_a_workspace_narrows_nobody(bench):
    panel = bench.handle_of().browse()
    with pytest.raises(ConfigError, match="cannot narrow"):
        panel.act_as(groups=[])


def test_what_was_forgotten_is_on_no_later_page(bench):
    panel = handle_of(bench, admin=True).browse()
    panel.list_page()
    handle_of(bench, admin=True).forget(source="board")
    assert "board" not in {item.source for item in panel.list_page().rows}


@pytest.mark.parametrize(("stale", "listed"), [("flag", True), ("drop", False), ("refuse", False)])
def test_a_passage_that_a_search_drops_or_refuses_is_not_listed(tmp_path, stale, listed):
    bench = of_pages(tmp_path, stale=stale)
    write_page(tmp_path, "acme/board.md", body="Changed.", title="Board", access="[board]")
    panel = handle_of(bench).browse()
    assert ("board" in {item.source for item in panel.list_page().rows}) == listed
    if stale == "flag":
        panel.search("taxis of the board")
        panel.open(1)
        assert "its source has changed since it was added" in str(panel)


def test_where_only_searches_know_the_sources_nothing_is_listed(tmp_path):
    panel = handle_of(of_pages(tmp_path, stale="drop"), marked=True).browse()
    with pytest.raises(ConfigError, match="only its searches"):
        panel.list_page()


def test_a_pinned_snapshot_lists_nothing_that_has_expired_on_its_day(bench):
    handle = handle_of(bench)
    pinned = dataclasses.replace(handle, pinned="f" * 64, as_of="2026-01-01")
    assert {item.source for item in pinned.browse().list_page().rows} == {"taxi", "board", "salary"}


def test_the_pages_of_a_list_hold_every_passage_once(tmp_path):
    for n in range(2 * PAGE + 3):
        folder = write_page(tmp_path, f"acme/page{n:02}.md", body=f"Passage {n}.", title=f"Page {n}")
    bench = Bench(tmp_path, folder)
    bench.handle_of().ingest()
    panel = bench.handle_of().browse()
    seen = [item.source for first in (0, PAGE, 2 * PAGE) for item in panel.list_page(first).rows]
    assert len(seen) == len(set(seen)) == 2 * PAGE + 3
    assert panel.list_page(10**6).first == 2 * PAGE and not panel.list_page().rows[0].vector
    with pytest.raises(NotFoundError):
        panel.open(PAGE + 1)


def test_versions_and_what_differs_between_them(bench, tmp_path):
    write_page(tmp_path, "acme/taxi.md", body="Taxis are never paid.", title="Taxi")
    handle_of(bench, admin=True).ingest()
    panel = handle_of(bench).browse()
    panel.act("versions")
    panel.act("compare")
    assert panel.notice == "" and "changed  taxi" in str(panel)
    panel.act("before", "2")
    panel.act("after", "2")
    panel.act("compare")
    assert "nothing that you may see differs" in str(panel)
    panel.act("version", "1")
    panel.act("question", "taxis paid on trips")
    panel.act("search")
    assert panel.hits[0].text == "Taxis are paid on trips."


def test_the_words_of_the_question_are_marked_by_their_stems():
    text = "Taxis are paid; a TAXI is cheap, a train is not. VAT applies."
    found = marked(text, "is a taxi paid with VAT?", stems=stems)
    assert "".join(part for part, _ in found.parts) == text
    assert [part for part, mark in found.parts if mark] == ["Taxis", "paid", "TAXI", "VAT"]
    plain = marked(text, "taxi paid", stems=None)
    assert [part for part, mark in plain.parts if mark] == ["paid", "TAXI"]
    assert marked("", "taxi", stems=stems).parts == ()


def test_a_megabyte_is_marked_up_to_what_is_shown():
    text = "taxi " * 200_000
    found = marked(text, "taxi", stems=stems)
    assert "".join(part for part, _ in found.parts) == text
    assert sum(mark == "match" for _, mark in found.parts) == 4_000


def test_texts_that_a_terminal_obeys_are_escaped(tmp_path):
    folder = write_page(tmp_path, "acme/taxi.md", body=f"Taxis {HOSTILE}.", title="T")
    bench = Bench(tmp_path, folder)
    bench.handle_of().ingest()
    panel = bench.handle_of().browse()
    panel.search(HOSTILE + " taxis")
    panel.open(1)
    assert not {"\x1b", "\u202e"} & set(str(panel)) and "<script>" not in panel.card_html()


def test_a_handle_as_the_last_line_of_a_cell_asks_the_memory_nothing(bench):
    handle = handle_of(bench)
    before = len(bench.calls)
    shown = handle._repr_mimebundle_()
    assert len(bench.calls) == before and "Search: ws.memory" in shown["text/plain"]
    assert "embedding" in shown["text/html"] and repr(handle).startswith("MemoryHandle(")


def changed_by(bench, tmp_path, *, before, after, name="acme/taxi.md", **front):
    """A browser after the page of a source had one body, then another."""
    for body in (before, after):
        write_page(tmp_path, name, body=body, **({"title": "Taxi"} | (front if body is after else {})))
        handle_of(bench, admin=True).ingest()
    panel = handle_of(bench).browse()
    panel.list_versions()
    panel.act("compare")
    assert panel.notice == ""
    return panel


def test_a_changed_source_shows_what_changed_by_word(bench, tmp_path):
    before = "Taxis are paid on trips. Keep the receipt. A hotel costs at most 120 euros a night."
    after = before.replace("120", "140").replace("Keep the receipt. ", "") + " Breakfast is paid."
    panel = changed_by(bench, tmp_path, before=before, after=after, title="Cabs")
    panel.act("source", "taxi")
    text = str(panel)
    for told in (
        "[-Keep the receipt.-]",
        "[-120-]",
        "{+140+}",
        "{+Breakfast is paid.+}",
        "title     Taxi    Cabs",
    ):
        assert told in text, text
    assert panel.notice == "" and "Passage 2" in text
    found = panel.compare_source("taxi", *panel._compared)
    assert found.facts == (("title", "Taxi", "Cabs"),) and not found.cut
    panel.act("source", "nothing")
    assert "no version" in panel.notice and "taxi" in panel.notice
    panel.act("clearance", "0")
    assert "receipt" not in str(panel) + str(panel.to_json()), "found with other rights"


def test_no_group_and_no_hidden_source_is_told_of_a_change(bench, tmp_path):
    body = "Taxis are paid."
    write_page(tmp_path, "acme/board.md", body="Another board.", title="Board", access="[board]")
    panel = changed_by(bench, tmp_path, before=body, after=body + " ", access="[everyone, secretgroup]")
    found = panel.compare_source("taxi")
    assert found.texts == () == found.facts and "are the same" in str(panel)
    assert "secretgroup" not in str(panel) + str(panel.to_json())
    eve = handle_of(bench, groups=("everyone",), clearance=0, admin=True).browse()
    for source in ("board", "boar"):
        with pytest.raises(NotFoundError) as told:
            eve.compare_source(source, *panel._compared)
        assert "'board'" not in str(told.value).replace(f"source {source!r}", "")


def test_a_sentence_that_only_moves_into_the_next_passage_is_no_change(tmp_path):
    folder = write_page(tmp_path, "acme/taxi.md")
    bench = Bench(tmp_path, folder, chunking=Chunking(kind="sentences", size=2))
    sentences = [f"Rule {n} holds." for n in range(9)]
    panel = changed_by(
        bench, tmp_path, before=" ".join(sentences), after=" ".join(["A new rule.", *sentences])
    )
    (change,) = panel.compare_source("taxi").texts
    assert (change.before, change.after, change.passage) == (
        "Rule 0 holds.", "A new rule. Rule 0 holds.", 1
    )  # fmt: skip


def test_a_big_text_is_compared_in_pages_and_up_to_a_bound(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(source_changes, "MOST_SENTENCES", 60)
    lines = [f"Line {n} of the text costs {n} euros today." for n in range(200)]
    other = [line.replace("today", "tomorrow") if n % 2 and n < 50 else line for n, line in enumerate(lines)]
    panel = changed_by(bench, tmp_path, before="\n".join(lines), after="\n".join(other))
    found = panel.compare_source("taxi")
    assert len(found.texts) == 25 and not found.cut, "equal ends cost nothing"
    panel.act("changes", 2 * CHANGES)
    assert "changes 21 to 25 of 25" in str(panel) and "Line 49 of" in str(panel)
    panel.act("changes", 10**9)
    assert "changes 21 to 25 of 25" in str(panel) and panel.notice == ""
    for value in (-1, None, "1"):
        panel.act("changes", value)
        assert panel.notice
    panel = changed_by(bench, tmp_path, before="\n".join(lines), after="x" * 50_000)
    assert panel.compare_source("taxi").cut
    assert "first 60 sentences" in str(panel) and len(str(panel.to_json())) < 60_000
