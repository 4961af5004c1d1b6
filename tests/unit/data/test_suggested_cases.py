"""Drafted cases: what is asked, whose documents are read, and what is accepted, edited and saved."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_bench import Bench, write_page

from workbench.errors import ConfigError, NotFoundError
from workbench.experiments.dataset import Dataset
from workbench.experiments.matching import mentions
from workbench.experiments.synthetic import Synthetic
from workbench.retrieval.cloze import GAP, drafts
from workbench.retrieval.suggested_cases import SuggestedCases
from workbench.types import Item

HOTEL = "A hotel room may cost 135 euros a night. Breakfast is paid in addition to the price of the room."
TAXI = (
    "# Taxis after 22:00\n\nA taxi is booked with the firm Albatross in the evening. "
    "Keep it for 30 days, please."
)


def item(text, source="taxi", number=0):
    return Item(id=f"{source}-{number}", text=text, vector=(), source=source, source_digest="d")


@pytest.fixture
def bench(tmp_path):
    write_page(tmp_path, "acme/hotel.md", body=HOTEL, title="hotel")
    write_page(
        tmp_path,
        "acme/old.md",
        body="An old rule paid 17 euros for every single meal.",
        title="old",
        expires="2025-06-01",
    )
    write_page(
        tmp_path,
        "acme/secret.md",
        body="The board is paid 900 euros for every meeting.",
        title="s",
        access="[board]",
    )
    folder = write_page(tmp_path, "acme/taxi.md", body=TAXI, title="taxi")
    made = Bench(tmp_path, folder)
    made.handle_of().ingest()
    return made


def test_a_case_is_a_sentence_with_a_gap_whose_answer_stands_in_its_page():
    rows = drafts([item(TAXI), item(HOTEL, "hotel")], 10, tenant="acme", seed=7)
    asked = {row["question"]: (row["page"], row["answers"]) for row in rows}
    assert asked == {
        f'What belongs in the gap? "A hotel room may cost {GAP} a night."': ("hotel", ["135 euros"]),
        f'What belongs in the gap? "A taxi is booked with the firm {GAP} in the evening."': (
            "taxi",
            ["Albatross"],
        ),
        f'What belongs in the gap? "Keep it for {GAP}, please."': ("taxi", ["30 days"]),
    }
    row = rows[0]
    assert (row["synthetic"], row["generator"], row["generator_version"], row["seed"]) == (
        True,
        "cloze",
        1,
        7,
    )


def test_the_same_documents_and_seed_give_the_same_rows_and_sources_take_turns():
    items = [
        item(f"The room number {n} of the house is paid with {n} euros a week.", f"s{n % 3}", n)
        for n in range(10, 40)
    ]
    first = drafts(items, 6, tenant="acme", seed=1)
    assert first == drafts(reversed(items), 6, tenant="acme", seed=1)
    assert [row["page"] for row in first] == ["s0", "s1", "s2"] * 2
    assert first != drafts(items, 6, tenant="acme", seed=2)
    assert len({row["id"] for row in drafts(items, 100, tenant="acme", seed=1)}) == 30


@given(st.lists(st.text() | st.text("Aa 1.,\n|#", max_size=80), max_size=6))
def test_any_text_gives_rows_whose_answer_is_in_the_text_and_not_in_the_question(texts):
    rows = drafts([item(text, f"s{n}") for n, text in enumerate(texts)], 50, tenant="acme", seed=3)
    for row in rows:
        text = " ".join(texts[int(row["page"][1:])].split())
        assert row["answers"][0] in text and row["question"].count(GAP) >= 1
    assert len({row["id"] for row in rows}) == len(rows)


def test_the_drafts_come_from_valid_documents_that_the_principal_may_see(bench):
    cases = bench.handle_of(name="ann").suggest_cases(10)
    assert {row["page"] for row in cases.rows} == {"hotel", "taxi"}
    assert "secret" in {
        row["page"] for row in bench.handle_of(groups=("board", "everyone")).suggest_cases(10).rows
    }
    assert len(bench.handle_of().suggest_cases(2)) == 2
    with pytest.raises(ConfigError, match="n is 0"):
        bench.handle_of().suggest_cases(0)


def test_without_documents_the_error_names_the_command_that_reads_them(bench):
    with pytest.raises(NotFoundError, match="no document") as caught:
        bench.handle_of(tenant="globex").suggest_cases(3)
    assert "workbench memory ingest" in caught.value.hint


@pytest.fixture
def cases():
    return SuggestedCases(
        drafts([item(TAXI), item(HOTEL, "hotel")], 10, tenant="acme", seed=7), reviewer="ann"
    )


def test_only_accepted_rows_are_saved_and_they_are_cases_that_say_what_made_them(cases, tmp_path):
    first, second, third = cases.states
    assert cases.accepted() == []
    cases.accept(first).reject(second).edit(
        third, question="  How long is it kept? ", answers=["thirty days", "30 days"]
    )
    assert list(cases.states.values()) == ["accepted", "rejected", "accepted"]
    path = tmp_path / "cases.jsonl"
    assert cases.save(path) == 2
    saved = Dataset.from_file(path)
    assert {case.id for case in saved} == {first, third}
    edited = next(case for case in saved if case.id == third)
    assert edited.inputs["question"] == "How long is it kept?" and edited.provenance["author"] == "ann"
    assert (
        edited.provenance["generator"] == "cloze"
        and "author" not in next(c for c in saved if c.id == first).provenance
    )
    assert (
        "2 of 2 cases are synthetic (cloze, version 1, seed 7)"
        in Synthetic.of(saved, pl.Series([first, third])).text
    )
    assert all(mentions(TAXI + HOTEL, row["answers"][-1]) for row in cases.accepted())


def test_saving_adds_to_a_file_once_and_never_replaces_a_row(cases, tmp_path):
    path = tmp_path / "cases.jsonl"
    path.write_text('{"id": "own", "tenant": "acme"}\n')
    with pytest.raises(ConfigError, match="no case is accepted"):
        cases.save(path)
    cases.accept()
    assert cases.save(path) == 3 and cases.save(path) == 0
    before = path.read_bytes()
    assert [json.loads(line)["id"] for line in before.splitlines()] == ["own", *cases.states]
    name = next(iter(cases.states))
    cases.edit(name, question="Another question?")
    with pytest.raises(ConfigError, match="another row") as caught:
        cases.save(path)
    assert name in str(caught.value) and path.read_bytes() == before


def test_an_unknown_id_and_an_empty_edit_are_errors_that_change_nothing(cases):
    name = next(iter(cases.states))
    with pytest.raises(NotFoundError, match="nearest") as caught:
        cases.accept(name[:-1])
    assert repr(name) in str(caught.value)
    with pytest.raises(ConfigError, match="question is empty"):
        cases.edit(name, question=" ")
    with pytest.raises(ConfigError, match="answers is empty"):
        cases.edit(name, answers=["a", " "])
    assert set(cases.states.values()) == {"open"}


def test_the_card_shows_the_state_and_says_what_is_synthetic(cases):
    cases.accept(next(iter(cases.states)))
    text = str(cases)
    assert (
        "3 drafted cases: 2 open, 1 accepted, 0 rejected" in text
        and "generator cloze, version 1, seed 7" in text
    )
    assert "cases.save" in text and set(cases._repr_mimebundle_()) == {"text/plain", "text/html"}
    assert "no passage has a number" in str(SuggestedCases([], reviewer="ann"))


def test_the_widgets_edit_the_same_rows(cases):
    first, second, _ = cases.states
    lines = cases.table().children
    question, answers, state = lines[0].children
    question.value = "What does a room cost?"
    assert (
        cases.states[first] == "accepted" == state.value and cases.accepted()[0]["question"] == question.value
    )
    answers.value = "135 euros; 135 €"
    assert cases.accepted()[0]["answers"] == ["135 euros", "135 €"]
    lines[1].children[2].value = "rejected"
    assert cases.states[second] == "rejected" and len(cases.accepted()) == 1


def test_the_code_of_the_page_runs_as_it_stands(bench, tmp_path, monkeypatch):
    page = (Path(__file__).resolve().parents[3] / "docs" / "suggested-cases.md").read_text(encoding="utf-8")
    handle = bench.handle_of(name="ann")
    ws = SimpleNamespace(memory=lambda name: {"handbook": handle}[name])
    ws.bind = lambda *, tenant: {"acme": ws}[tenant]
    monkeypatch.setattr("workbench.connect", lambda name: {"answers": ws}[name], raising=False)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(block, "docs/suggested-cases.md", "exec"), names)
    saved = Dataset.from_file(tmp_path / "data/handbook/drafted.jsonl")
    assert len(saved) == 2 and {case.provenance["generator"] for case in saved} == {"cloze"}
