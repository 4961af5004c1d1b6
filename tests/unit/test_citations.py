from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.experiments.dataset import Case
from workbench.experiments.scorers import Outcome, scorer
from workbench.experiments.task import Answer
from workbench.retrieval import citations
from workbench.types import Hit


def hit(source, n=0):
    return Hit(
        id=f"{source}-{n}", text="text", source=source, title="", version=1, score=1.0, tenant="acme",
        as_of="2026-01-01", stale=False, digest="d", memory="m",
    )  # fmt: skip


TRAVEL, TAXI, AGAIN, SPACED = hit("travel"), hit("taxi"), hit("travel", 1), hit("Rules, part two")
PASSAGES = [TRAVEL, TAXI, AGAIN, SPACED]


@pytest.mark.parametrize(
    ("answer", "marks", "cited"),
    [
        ("It is 46 euros [1].", ["1"], [TRAVEL]),
        ("It is 46 euros. [2]", ["2"], [TAXI]),
        ("It is 46 euros.[2][1]", ["2", "1"], [TAXI, TRAVEL]),
        ("It is 46 euros [1, 3].", ["1", "3"], [TRAVEL, AGAIN]),
        ("It is 46 euros [1-3].", ["1", "2", "3"], [TRAVEL, TAXI, AGAIN]),
        ("It is 46 euros [taxi].", ["taxi"], [TAXI]),
        ("It is 46 euros [travel; 2].", ["travel", "2"], [TRAVEL, AGAIN, TAXI]),
        ("It is 46 euros [Rules, part two].", ["Rules, part two"], [SPACED]),
        ("It is 46 euros [2] and [2].", ["2", "2"], [TAXI]),
    ],
)
def test_a_number_a_source_a_list_and_a_range_cite_passages(answer, marks, cited):
    found = citations.check(answer, PASSAGES)
    assert (list(found.marks), list(found.cited)) == (marks, cited)
    assert found.ok
    assert (found.precision, found.coverage) == (1, 1)


@pytest.mark.parametrize("mark", ["5", "0", "00000001", "hotel", "Travel", "3-1", "99999"])
def test_a_citation_that_points_at_no_passage_is_unknown_and_supports_no_sentence(mark):
    found = citations.check(f"It is 46 euros [{mark}].", PASSAGES)
    assert found.unknown == (mark,)
    assert found.uncited == (f"It is 46 euros [{mark}].",)
    assert not found.cited
    assert not found.ok
    assert (found.precision, found.coverage) == (0, 0)


def test_a_link_and_a_bracket_around_several_words_are_no_citations():
    found = citations.check("See [travel](page.html) and [what we said].", PASSAGES)
    assert (found.marks, found.precision, found.coverage) == ((), None, 0)


def test_sentences_without_a_citation_are_named_and_one_behind_a_full_stop_belongs_to_it():
    answer = (
        "Taxis are paid. [2] Keep receipts, e.g. the bill. No. 5 is free [9]! [1]\n- Trains too\n[1]\n---\n"
    )
    found = citations.check(answer, PASSAGES)
    assert found.sentences == 5
    assert found.uncited == ("Keep receipts, e.g. the bill.", "No.")
    assert found.unknown == ("9",)
    assert found.cited == (TAXI, TRAVEL)


def test_an_answer_that_says_nothing_is_not_cited_well():
    for answer in ("", " \n", "[1]", "..."):
        found = citations.check(answer, PASSAGES)
        assert (found.sentences, found.ok, found.coverage) == (0, False, None)


def test_what_is_shown_of_citations_holds_no_content():
    assert "secret" not in repr(citations.check("The secret is out. It is [1].", PASSAGES))


@given(st.text(alphabet="ab A.!?[]()1,;-\n 9ü", max_size=60), st.integers(0, 3))
def test_any_text_is_read_and_its_account_adds_up(answer, n):
    found = citations.check(answer, PASSAGES[:n])
    assert len(found.uncited) <= found.sentences
    assert len(found.unknown) <= len(found.marks)
    assert set(found.cited) <= set(PASSAGES[:n])
    assert (not found.cited) == (len(found.unknown) == len(found.marks))
    assert bool(found.cited) == (len(found.uncited) < found.sentences)


def test_citation_precision_scores_an_outcome_and_says_nothing_where_nothing_is_cited():
    precision = scorer(citations.citation_precision)
    case = Case(id="a", tenant="acme", inputs={}, expected={})

    def seen(text):
        return Outcome(case=case, output=Answer(text=text), passages=PASSAGES)

    assert precision.name == "citation_precision"
    assert precision(seen("It is 46 [1] or 47 [8].")) == 0.5
    assert precision(seen("It is 46.")) is None
