from __future__ import annotations

import decimal
import fractions
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import ConfigError, InvalidOutputError
from workbench.experiments.dataset import Case
from workbench.experiments.scorers import (
    Outcome,
    Scorer,
    contains,
    cross_tenant_hits,
    exact,
    grounded,
    ndcg_at,
    recall_at,
    scorer,
)
from workbench.experiments.task import Answer
from workbench.types import Hit


def outcome(text, *, answers=("46 euros",), searches=(), passages=(), page="travel"):
    case = Case(id="a", tenant="acme", inputs={}, expected={"answers": answers, "page": page})
    records = [
        {"operation": "search", "hits": [dict(zip(("source", "tenant"), h, strict=True)) for h in hits]}
        for hits in searches
    ]
    return Outcome(case=case, output=Answer(text=text), records=records, passages=passages)


def hit(text):
    return Hit(
        id="h", text=text, source="travel", title="", version=1, score=1.0, tenant="acme",
        as_of="2026-01-01", stale=False, digest="d", memory="m",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("said", "whole", "inside"),
    [
        ("46 euros", 1, 1), ("46 Euros.", 1, 1), ("It is 46 euros per day.", 0, 1), ("146 euros", 0, 0),
        ("46 eurosceptics", 0, 0), ("", 0, 0), ("46\n euros", 1, 1),
    ],
)  # fmt: skip
def test_an_accepted_text_counts_as_whole_words_whatever_case_and_punctuation(said, whole, inside):
    assert exact()(outcome(said)) == whole
    assert contains()(outcome(said)) == inside


def test_recall_looks_at_the_first_search_down_to_k_and_says_nothing_without_one():
    found = [[("a", "acme"), ("b", "acme"), ("travel", "acme")], [("travel", "acme")]]
    assert recall_at(3)(outcome("", searches=found)) == 1
    assert recall_at(2)(outcome("", searches=found)) == 0
    assert recall_at(5)(outcome("")) is None


def ranked(*sources):
    return [[(source, "acme") for source in sources]]


def test_recall_is_the_share_of_the_pages_that_answer_when_there_are_several():
    seen = outcome("", searches=ranked("travel", "travel", "a", "taxi"), page=["travel", "taxi"])
    assert [recall_at(k)(seen) for k in (2, 4)] == [0.5, 1]
    assert recall_at(2)(outcome("", searches=ranked("a"), page=[])) is None


@pytest.mark.parametrize(
    ("sources", "page", "k", "gain"),
    [
        (["travel", "a", "b"], "travel", 5, 1.0),
        (["a", "travel"], "travel", 5, 1 / math.log2(3)),
        (["a", "b", "travel"], "travel", 2, 0.0),
        (["a", "travel", "travel"], "travel", 5, 1 / math.log2(3)),  # one page counts once
        (["b", "a"], ["a", "b"], 5, 1.0),
        (["a", "x", "b"], ["a", "b"], 5, (1 + 1 / 2) / (1 + 1 / math.log2(3))),
        (["a", "x"], ["a", "b", "c"], 2, 1 / (1 + 1 / math.log2(3))),
        ([], "travel", 5, 0.0),
    ],
)
def test_ndcg_is_worked_out_by_hand(sources, page, k, gain):
    assert ndcg_at(k)(outcome("", searches=ranked(*sources), page=page)) == pytest.approx(gain)


def test_ndcg_says_nothing_without_a_search_or_a_page_that_answers():
    assert ndcg_at(5)(outcome("")) is None
    assert ndcg_at(5)(outcome("", searches=ranked("a"), page=[])) is None
    assert ndcg_at(10).name == "ndcg_at_10"


@given(
    sources=st.lists(st.sampled_from("abcdefgh"), max_size=12),
    pages=st.sets(st.sampled_from("abcdefgh"), min_size=1),
    k=st.integers(1, 12),
)
def test_ndcg_lies_between_0_and_1_and_is_0_exactly_when_recall_is(sources, pages, k):
    seen = outcome("", searches=ranked(*sources), page=sorted(pages))
    gain, share = ndcg_at(k)(seen), recall_at(k)(seen)
    assert 0 <= gain <= 1 + 1e-12
    assert 0 <= share <= 1
    assert (gain == 0) == (share == 0)


def test_grounded_is_the_share_of_words_that_stand_in_the_passages():
    assert grounded()(outcome("46 euros daily", passages=[hit("The limit is 46 euros.")])) == pytest.approx(
        2 / 3
    )
    assert grounded()(outcome("46 euros")) is None
    assert grounded()(outcome("", passages=[hit("x")])) == 0


def test_hits_of_another_tenant_are_counted_over_all_searches():
    found = [[("a", "acme"), ("b", "globex")], [("c", "globex")]]
    assert cross_tenant_hits()(outcome("", searches=found)) == 2


def test_any_function_of_an_outcome_is_a_scorer():
    @scorer
    def length(seen):
        return len(seen.text)

    assert (length.name, length(outcome("four"))) == ("length", 4.0)


@pytest.mark.parametrize(
    "accepted",
    [
        "46 euros",
        "tq",
        "e u r",
        "46",
        "46 euros 46 euros",
        "It is 46 euros",
        "euros 46",
        "€46",
        "x" * 500,
        "46, euros",
    ],
)
def test_one_text_where_a_list_is_meant_is_one_answer_and_never_its_letters(accepted):
    said = outcome("Sorry, that is not a question for me: 460 euros.", answers=accepted)
    assert contains()(said) == exact()(said) == 0
    assert contains()(outcome(f"So: {accepted}!", answers=accepted)) == 1
    assert exact()(outcome(accepted, answers=accepted)) == 1


@pytest.mark.parametrize(
    "kind", [contains(), exact(), recall_at(5, page="answers"), ndcg_at(5, page="answers")]
)
@pytest.mark.parametrize(
    "accepted", [46, 4.6, True, None, {"a": 1}, [46], ["a", None], [["a"]], {"a"}, [b"a"], b"a"]
)
def test_an_accepted_value_that_is_no_text_is_refused_by_case_and_name(kind, accepted):
    with pytest.raises(ConfigError, match="case a: expected value 'answers'") as caught:
        kind(outcome("46", answers=accepted, searches=ranked("a")))
    assert '"answers": [' in caught.value.hint


@pytest.mark.parametrize("accepted", ["...", "", " ", "**", "“”", "—", "?!", "()", "\u200b", "_", "。"])
def test_an_accepted_text_without_a_word_is_refused_for_it_would_match_an_empty_answer(accepted):
    for kind in (contains(), exact()):
        with pytest.raises(ConfigError, match="case a: 'answers' accepts"):
            kind(outcome("", answers=["46 euros", accepted]))


@pytest.mark.parametrize(
    ("value", "score"),
    [
        (1, 1.0),
        (True, 1.0),
        (np.bool_(True), 1.0),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3.0),
        (decimal.Decimal("0.25"), 0.25),
        (fractions.Fraction(1, 4), 0.25),
        (-0.5, -0.5),
        (None, None),
        (np.array(2.0), 2.0),
    ],
)
def test_a_score_is_any_number(value, score):
    assert scorer(lambda _: value)(outcome("")) == score


@pytest.mark.parametrize(
    "value",
    ["0.5", "nan", "inf", "", b"1", [1.0], (1,), {}, 1j, object(), 10**400, np.array([1.0, 2.0])],
    ids=lambda value: f"{type(value).__name__} {value!r}"[:12],  # without the address of an object
)
def test_a_score_that_is_no_number_is_refused_with_the_scorers_name(value):
    with pytest.raises(InvalidOutputError, match="scorer odd returned") as caught:
        Scorer(name="odd", function=lambda _: value)(outcome(""))
    assert type(value).__name__ in caught.value.message
