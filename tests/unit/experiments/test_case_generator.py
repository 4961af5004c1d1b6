"""Drafted cases: what becomes a question, what does not, and that nothing but pages and seed decides it."""

from __future__ import annotations

import hashlib
import json
import re
import runpy
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import workbench as wb
from workbench import registry
from workbench.experiments import case_generator
from workbench.experiments.case_generator import draft
from workbench.experiments.dataset import Dataset
from workbench.types import Page

ROOT = Path(__file__).resolve().parents[3]
#: The digest of the first 100 drafts from data/handbook.
PINNED = "137fc7eece0558100b9714968638506c32e9d2f7d4dbb77e721df5e726cb2942"


def page(text, source="p", tenant="acme"):
    return Page(source=source, title=source, text=text, tenant=tenant, digest="0" * 64)


def asked(text, n=9):
    """The questions of one page, each with its answer."""
    return [(case.question, *case.answers) for case in draft([page(text)], n=n, seed=7).cases]


@pytest.mark.parametrize(
    ("sentence", "question", "answer"),
    [
        (
            "Full-time employees of Acme have 29 days of annual holiday, and others have a share of that.",
            "Full-time employees of Acme have how many days of annual holiday?",
            "29 days",
        ),
        (
            "Acme pays a grant of 150 euros for a desk at home.",
            "Acme pays a grant of how much for a desk at home?",
            "150 euros",
        ),
        (
            "The parcel tariff for islands rises to €1,250.50 next winter.",
            "The parcel tariff for islands rises to how much next winter?",
            "€1,250.50",
        ),
        (
            "A single rise of more than 12 percent needs a written memo.",
            "A single rise of more than what percentage needs a written memo?",
            "12 percent",
        ),
        (
            "Claims of last winter are accepted until 31 March 2026 at the front desk.",
            "Claims of last winter are accepted until which date at the front desk?",
            "31 March 2026",
        ),
        (
            "The public counter in Ashfell closes at 17:30 during winter.",
            "The public counter in Ashfell closes at what time during winter?",
            "17:30",
        ),
        (
            "Exceptions outside the pay round are recorded on form W-31.",
            "Exceptions outside the pay round are recorded on which form?",
            "W-31",
        ),
        (
            "Holiday is requested in the calendar program, named Sundial, by everyone.",
            "Holiday is requested in the calendar program, named what, by everyone?",
            "Sundial",
        ),
        (
            "The old warehouse beside the river was built in 1987.",
            "The old warehouse beside the river was built in which year?",
            "1987",
        ),
        (
            "Visitors to the Zürich depot wait fünf Minuten, as the café serves two hot drinks.",
            "Visitors to the Zürich depot wait fünf Minuten, as the café serves how many hot drinks?",
            "two hot drinks",
        ),
    ],
)
def test_a_sentence_asks_for_its_number_amount_date_or_name(sentence, question, answer):
    assert (question, answer) in asked(sentence)


def test_a_german_sentence_is_asked_with_a_gap_and_keeps_its_umlauts():
    text = "Für Übernachtungen erhält jede Kollegin höchstens 135 Euro, z. B. in Köln."
    assert asked(text) == [
        (
            "Was fehlt hier: „Für Übernachtungen erhält jede Kollegin höchstens ___, z. B. in Köln“?",
            "135 Euro",
        )
    ]
    assert asked("Die Pflegezeit für Angehörige dauert höchstens zwölf Wochen.")[0][1] == "zwölf Wochen"


def test_a_table_asks_for_a_cell_by_row_and_column():
    text = (
        "| room | seats | deposit |\n|---|---:|---|\n| Larch room | 36 | 20 euros |\n| Birch room | 8 | no |"
    )
    assert ("What does the table say under “seats” for the room “Larch room”?", "36") in asked(text)
    assert ("What does the table say under “deposit” for the room “Birch room”?", "no") in asked(text)
    plain = text.replace("|---|---:|---|\n", "").replace("| room", "room")  # as HTML and DOCX are read
    assert len(asked(plain)) == len(asked(text)) == 4


def test_a_definition_asks_for_its_term_and_a_quoted_name_leaves_a_gap():
    text = "Bellows is a folding passage between two carriages of a train."
    assert asked(text)[-1] == (
        "Which term is described as “a folding passage between two carriages of a train”?",
        "Bellows",
    )
    text = 'When the name is unbound, a "NameError" exception will be raised.'
    assert asked(text) == [
        ("What is missing here: “When the name is unbound, a ___ exception will be raised”?", "NameError")
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   \n\n\t",
        "Taxis are paid.",
        "# All 29 days of annual holiday for the employees of Acme",
        "It gives the employees of Acme 29 days of annual holiday.",  # what `it` is stands before
        "Everyone at Acme may take a long holiday in summer or in winter.",
        "In all three cases the managers of Acme decide without delay.",  # the number refers to other text
        "```\nThe employees of Acme have 29 days of annual holiday.\n```",
        "statement ::= first_part | second_part\n          | third_part | fourth_part",
        "The employees of Acme have 29 days of holiday in summer and 29 days in winter.",
        "word " * 60 + "costs 5 euros.",
        "a | b\n1 | 2 | 3",
        "🚂🚃🚃 1 | 2 | 3 ",
    ],
)
def test_what_has_no_usable_sentence_drafts_nothing_and_says_why(text):
    found = draft([page(text)], n=5, seed=7)
    assert found.cases == ()
    assert found.reasons[:2] == (
        "0 of the possible questions of 1 pages are usable",
        "1 of 1 pages have no sentence with a number, an amount, a date or a name",
    )


def test_lists_are_asked_item_by_item_and_an_abbreviation_ends_no_sentence():
    text = (
        "- Small shops of Acme keep 40 euros in the till.\n- Large shops, e.g. Dunmore, keep 90 euros in it."
    )
    assert {answer for _, answer in asked(text)} == {"40 euros", "90 euros"}


def test_a_question_with_two_answers_is_left_out_wherever_they_stand():
    old = page("The night shift of the depot earns 5 euros an hour extra.", "old")
    new = page("The night shift of the depot earns 6 euros an hour extra.", "new")
    found = draft([old, new], n=5, seed=7)
    assert found.cases == () and "2 questions have several answers" in found.reasons


def test_an_answer_on_too_many_pages_is_left_out_and_a_question_is_asked_once():
    topics = ("drivers", "lorries", "warehouses", "gardens", "kitchens", "offices")
    pages = [page(f"Requests about {name} are answered within 5 days.", name) for name in topics]
    found = draft(pages, n=9, seed=7)
    assert found.cases == () and "6 answers stand on too many pages" in found.reasons
    text = "The winter storage of bicycles costs 15 euros."
    both = draft([page(text), page(text, tenant="globex")], n=5, seed=7)
    assert len(both.cases) == 1 and "1 questions are equal to another one" in both.reasons


def handbook():
    return [p for p in wb.load("data/handbook", root=ROOT) if p.expires is None]


def test_cases_are_spread_over_tenants_and_pages():
    cases = draft(handbook(), n=40, seed=7).cases
    assert [case.tenant for case in cases] == ["acme", "globex"] * 20
    assert len({(case.tenant, case.page) for case in cases}) == 40


def test_the_same_seed_drafts_the_same_cases_in_any_order_and_a_larger_number_only_adds():
    pages = handbook()
    first = draft(pages, n=30, seed=7).cases
    assert draft(reversed(pages), n=30, seed=7).cases == first
    assert draft(pages, n=50, seed=7).cases[:30] == first
    assert {case.question for case in draft(pages, n=30, seed=8).cases} != {case.question for case in first}


def test_version_1_drafts_what_it_always_drafted():
    rows = [case.row() for case in draft(handbook(), n=100, seed=7).cases]
    text = json.dumps(rows, sort_keys=True, ensure_ascii=False)
    assert case_generator.VERSION == 1, "a change of what is drafted is another version of the asset"
    assert hashlib.sha256(text.encode()).hexdigest() == PINNED


def test_the_code_is_the_saved_version_of_the_asset_byte_for_byte():
    name, number = case_generator.NAME, case_generator.VERSION
    asset = registry.load(ROOT, "generator", name)
    saved = ROOT / "pipelines" / "generators" / name / f"{number}.py"
    assert saved.read_bytes() == Path(case_generator.__file__).read_bytes()
    assert asset.versions[number].digest == hashlib.sha256(saved.read_bytes()).hexdigest()
    assert max(asset.versions) == number
    assert runpy.run_path(str(saved))["NAME"] == name  # it runs alone, with the standard library


WORDS = st.sampled_from([
    "The", "a", "of", "depot", "Zürich", "café", "costs", "5", "29", "euros", "percent", "called", "Sundial",
    "is", "an", "old", "It", "form", "W-31", "|", " | ", "#", "- ", "\n", "three days", "in 1987", "17:30",
    "31 March", '"', "``", ".", ". ", "\n\n", "🚂", "\x00", "\u202e", "::=", "+--", "der Tarif", "Wochen",
])  # fmt: skip
TEXTS = st.lists(WORDS, max_size=60).map(" ".join) | st.text(max_size=200)


@given(texts=st.lists(TEXTS, max_size=6), n=st.integers(1, 12), seed=st.integers(0, 3))
def test_any_pages_give_valid_rows_or_fewer_with_a_reason(texts, n, seed):
    pages = [page(text, f"p{i}", ("acme", "globex")[i % 2]) for i, text in enumerate(texts)]
    found = draft(pages, n=n, seed=seed)
    rows = [case.row() for case in found.cases]
    assert len(rows) == n or (len(rows) < n and found.reasons)
    assert len({" ".join(row["question"].casefold().split()) for row in rows}) == len(rows)
    by_name = {(p.tenant, p.source): " ".join(p.text.split()) for p in pages}
    for row in rows:
        text = by_name[row["tenant"], row["page"]]
        assert all(answer in text and answer not in row["question"] for answer in row["answers"])
        assert row["question"].endswith("?") and row["question"].isprintable()
        assert row["synthetic"] is True and (row["generator"], row["generator_version"]) == ("cases", 1)
        assert row["seed"] == seed and re.fullmatch(rf"{row['tenant']}-s{seed}-\d{{3}}", row["id"])
    import polars as pl

    frame = pl.DataFrame(rows, infer_schema_length=None) if rows else None
    assert frame is None or len(Dataset.from_frame(frame)) == len(rows)
