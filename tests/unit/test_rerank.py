from __future__ import annotations

import asyncio
import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import ConfigError, UnavailableError
from workbench.retrieval import rerank
from workbench.retrieval.hits import Hits
from workbench.types import Hit


def hit(id_, text="", score=0.5, title=""):
    return Hit(
        id=id_, text=text, source=id_, title=title, version=1, score=score, tenant="acme",
        as_of="2026-01-01", stale=False, digest="d", memory="m",
    )  # fmt: skip


def reranked(chosen, query, hits, k=5):
    return asyncio.run(rerank.reranked(chosen, query, hits, k=k))


LEXICAL = rerank.reranker("lexical")


def test_without_a_reranker_the_first_k_stay_as_they_are():
    hits = [hit("b"), hit("a"), hit("c")]
    assert rerank.reranker(None) is None
    found = reranked(None, "taxi", hits, k=2)
    assert found == hits[:2]
    assert isinstance(found, Hits)


def test_a_reranker_that_does_not_exist_is_named_with_the_nearest():
    with pytest.raises(ConfigError, match=r"no reranker 'lexcal' \(nearest: 'lexical'\)"):
        rerank.reranker("lexcal")


def test_the_passage_with_the_rarer_word_of_the_question_comes_first():
    hits = [
        hit("a", "the fare of the bus"),
        hit("b", "the fare of the taxi"),
        hit("c", "the fare of the train"),
    ]
    found = reranked(LEXICAL, "What is the taxi fare?", hits)
    assert [one.id for one in found] == ["b", "a", "c"]
    assert found[0].score > found[1].score == found[2].score


def test_a_words_place_in_the_title_and_its_case_count():
    found = reranked(LEXICAL, "TAXI", [hit("a", "fares"), hit("b", "fares", title="Taxis and the Taxi")])
    assert found[0].id == "b"
    assert found[1].score == 0


@given(
    texts=st.lists(st.text(alphabet="abc ", max_size=20), max_size=8),
    query=st.text(alphabet="abcd ", max_size=10),
    seed=st.randoms(use_true_random=False),
)
def test_the_order_depends_on_neither_the_order_given_nor_the_old_scores(texts, query, seed):
    hits = [hit(str(n), text) for n, text in enumerate(texts)]
    mixed = [dataclasses.replace(one, score=seed.random()) for one in seed.sample(hits, len(hits))]
    found = reranked(LEXICAL, query, hits, k=99)
    assert found == reranked(LEXICAL, query, mixed, k=99)
    assert sorted(one.id for one in found) == sorted(one.id for one in hits)
    assert all(0 <= one.score <= 1 for one in found)


def test_equal_scores_are_ordered_by_id_and_an_async_reranker_is_awaited():
    class Constant:
        async def scores(self, query, hits):
            return [0.12345] * len(hits)

    found = reranked(Constant(), "q", [hit("c"), hit("a"), hit("b")], k=2)
    assert [(one.id, one.score) for one in found] == [("a", 0.1235), ("b", 0.1235)]


@pytest.mark.parametrize("scores", [[1.0], [1.0, math.nan], [1.0, math.inf], []])
def test_scores_that_are_missing_or_no_numbers_are_refused(scores):
    class Broken:
        def scores(self, query, hits):
            return scores

    with pytest.raises(UnavailableError, match="for 2 passages"):
        reranked(Broken(), "q", [hit("a"), hit("b")])
