"""Marked words: what differs between two texts, and what was sought; cards and pages as nodes."""

from __future__ import annotations

import time

import hypothesis.strategies as st
import pytest
from hypothesis import given

from workbench.display import Card
from workbench.widgets.card_node import CardNode
from workbench.widgets.nodes import Words
from workbench.widgets.table import Grid, Heading
from workbench.widgets.word_marks import COMPARED, differing, matching


def whole(marked):
    return "".join(text for text, _ in marked.parts)


@given(st.text(), st.text())
def test_the_parts_are_the_texts_and_what_is_equal_is_unmarked(before, after):
    left, right = differing(before, after)
    assert (whole(left), whole(right)) == (before, after)
    assert {mark for _, mark in left.parts} <= {"", "removed"}
    assert {mark for _, mark in right.parts} <= {"", "added"}
    same, also = differing(before, before)
    assert {mark for _, mark in (*same.parts, *also.parts)} <= {""}


@given(st.text(), st.sets(st.text(min_size=1)), st.lists(st.text()))
def test_marked_matches_are_the_text(text, words, phrases):
    assert whole(matching(text, words, phrases)) == text


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        ("It costs 46 euros a day.", "It costs 64 euros a day.", "It costs {+64+} euros a day."),
        ("yes", "yes, of course", "yes{+, of course+}"),
        ("休假二十天", "休假三十天", "休假{+三+}十天"),
        ("one of the two", "three of us", "{+three of us+}"),  # `of` alone parts no change
        ("", "new", "{+new+}"),
    ],
)
def test_words_that_differ_are_marked(before, after, shown):
    assert differing(before, after)[1].text == shown


def test_texts_with_hardly_a_word_in_common_have_no_marks():
    before, after = "The meal allowance per day is 46 euros.", "A business trip can be a unique opportunity"
    assert [shown.parts for shown in differing(before, after)] == [((before, ""),), ((after, ""),)]
    like = "The meal allowance is not known to me."
    assert "{+not known to me+}" in differing(before, like)[1].text or differing(before, like)[1].parts[1][1]


def test_words_and_phrases_are_marked_whatever_their_case_and_number():
    found = matching(
        "Meal ALLOWANCES are 46  Euros; a class", {"allowance", "meal", "clas"}, ["46 euros", ""]
    )
    assert [text for text, mark in found.parts if mark] == ["Meal ALLOWANCES", "46  Euros"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a b " * 250_000, "b a " * 250_000),
        ("." * 1_000_000, ",." * 500_000),
        ("x y z " * 1_000, "z y x " * 1_000),
    ],
)
def test_long_texts_are_compared_at_their_beginning_in_a_moment(before, after):
    began = time.process_time()
    left, right = differing(before, after)
    assert time.process_time() - began < 1
    assert whole(right) == after
    assert sum(len(text) for text, mark in left.parts if mark) <= COMPARED


def test_a_card_is_drawn_as_a_table_and_printed_as_its_text():
    card = Card(
        title="t", verdict="better", head=("metric", "value", "none", "verdict"), notes=["n"], command="go",
        rows=[("accuracy", "1", "", "▲ better")],
    )  # fmt: skip
    node = CardNode(card=card)
    assert "\n".join(node.lines()) == card.text()
    grid, note, command = node.to_json()["nodes"]
    assert grid["caption"] == "t · BETTER"
    assert [head["label"] for head in grid["headings"]] == ["metric", "value", "verdict"]
    assert [head["numeric"] for head in grid["headings"]] == [False, True, False]
    assert grid["rows"][0][2]["tone"] == "good"
    assert note["text"] == "n" and command["text"] == "next: go"
    empty = CardNode(card=Card(title="t", head=(), rows=())).to_json()["nodes"]
    assert empty[0]["text"] == "t"


def test_the_pages_of_a_table_have_its_size():
    rows = [[Words(text=str(n))] for n in range(8)]
    grid = Grid(caption="c", headings=[Heading(label="n")], rows=rows, first=8, total=20, page="page", size=8)
    assert [button["value"] for button in grid.to_json()["pages"]] == [0, 0, 16, 16]
