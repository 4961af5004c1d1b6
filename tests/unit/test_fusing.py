"""Several rankings become one, and names are asked for where they decide something."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.memory import ranking
from workbench.memory.weaviate import search

#: One ranking: scores of some of forty rows, few enough that many tie.
scored = st.dictionaries(st.integers(0, 39), st.integers(0, 9), max_size=40)
several = st.lists(scored, min_size=1, max_size=3)
names = st.permutations([f"n{place:02}" for place in range(40)])


def ordered(scores, name):
    return sorted(scores, key=lambda one: (-scores[one], name(one)))


@given(rankings=several, k=st.integers(1, 50), called=names)
def test_fusion_equals_its_formula(rankings, k, called):
    ranked = [ordered(scores, called.__getitem__) for scores in rankings]
    scores = {}
    for ids in ranked:
        for rank, one in enumerate(ids, start=1):
            scores[one] = scores.get(one, 0.0) + 1 / (60 + rank)
    whole = {one: round(score * (61 / len(ranked)), 4) for one, score in scores.items()}
    expected = [(one, whole[one]) for one in ordered(whole, called.__getitem__)]
    assert ranking.fuse(ranked, k=k, name=called.__getitem__) == expected[:k]


@given(rankings=several, k=st.integers(1, 50), called=names)
def test_the_names_of_deciding_rows_give_the_result_of_all_names(rankings, k, called):
    grouped = [search.grouped(scores.items()) for scores in rankings]
    chosen, others = search.deciding(grouped, k=k)
    assert not set(chosen) & set(others)
    found = search.settled(grouped, {one: called[one] for one in (*chosen, *others)}, k=k)
    ranked = [ordered(scores, called.__getitem__) for scores in rankings]
    assert found == ranking.fuse(ranked, k=k, name=called.__getitem__)
    assert {one for one, _ in found} <= set(chosen)


def test_two_rows_of_one_name_count_as_one():
    found = search.settled([[[1, 2]], [[3], [2]]], {3: "b", 2: "a", 1: "a"}, k=3)
    assert found == ranking.fuse([[1], [3, 1]], k=3)


def test_without_ties_only_the_best_names_are_read():
    ranking = [[place] for place in range(100)]
    assert search.deciding([ranking], k=10) == (list(range(10)), [])


def test_ties_below_the_best_need_no_names():
    ranking = [[0], [1], [*range(2, 50)]]
    assert sorted(search.deciding([ranking], k=2)[0]) == [0, 1]


def test_rows_that_tie_with_a_best_row_are_read():
    chosen, others = search.deciding([[[0], [1], [2]], [[*range(5, 9)], [0, 9]]], k=1)
    assert (chosen, others) == ([0], [9])


@pytest.mark.parametrize("rankings", [[[]], [[], []]])
def test_empty_rankings_have_no_result(rankings):
    assert search.deciding(rankings, k=3) == ([], [])
    assert search.settled(rankings, {}, k=3) == ranking.fuse(rankings, k=3) == []
