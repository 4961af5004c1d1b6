"""Synthetic rows beside real ones: known distances and coverage, and what the report says."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sizes import SOAK

from workbench.data.checked import check_rows
from workbench.data.detector_rules import Anomalies, NearReal
from workbench.data.rules import ColumnRule, QualityRules
from workbench.data.synthetic_rows import coverage, grams, nearest_real
from workbench.experiments.inputs import InputRow

RULES = QualityRules(
    columns={"text": ColumnRule(), "label": ColumnRule(type="category"), "n": ColumnRule(type="integer")},
    anomalies=Anomalies(near_real=NearReal(columns=("text",), threshold=0.8, severity="quarantine")),
)


def test_grams_are_runs_of_four_characters_without_case_and_repeated_space():
    assert (
        grams("Ab  cde") == {"ab c", "b cd", " cde"}
        and grams("abc") == {"abc"}
        and grams("  ") == frozenset()
    )


def test_a_copy_has_distance_zero_and_another_text_distance_one():
    real = ["My invoice 4711 is wrong.", "A door is broken.", None]
    found = nearest_real(["my  INVOICE 4711 is wrong.", "xyz", None, ""], real)
    assert [(item.index, item.real, item.similarity) for item in found] == [(0, 0, 1.0), (1, 0, 0.0)]


def test_the_similarity_is_that_of_jaccard():
    """abcdef has 3 grams and abcdex 3; they share 2 of 4."""
    [found] = nearest_real(["abcdef"], ["zzzzz", "abcdex"])
    assert (found.real, found.similarity) == (1, pytest.approx(2 / 4))
    assert nearest_real(["abcdef"], []) == []


@given(st.lists(st.text("abc ", max_size=12), max_size=8), st.lists(st.text("abc ", max_size=12), max_size=8))
def test_the_nearest_is_that_of_comparing_all_pairs(synthetic, real):
    for item in nearest_real(synthetic, real):
        own = grams(synthetic[item.index])
        every = [len(own & grams(t)) / max(len(own | grams(t)), 1) for t in real]
        assert item.similarity == pytest.approx(max(every)) and every[item.real] == pytest.approx(max(every))


def test_coverage_is_the_share_of_real_rows_in_bins_with_a_synthetic_row():
    real = [{"label": label, "n": n} for n, label in enumerate(["a"] * 6 + ["b"] * 3 + ["c"])]
    found = coverage([{"label": "a", "n": 0}, {"label": "c", "n": 3}, {"label": "new", "n": 99}], real, RULES)
    assert found["label"] == pytest.approx(0.7)
    assert found["n"] == pytest.approx(3 / 10)  # ten values have a bin each; 99 is in the last one
    assert coverage([], real, RULES)["label"] == 0.0


def rows(*columns):
    return [InputRow(number=n, columns={"id": str(n), **row}) for n, row in enumerate(columns, start=1)]


def test_a_synthetic_row_that_is_nearly_a_real_one_is_set_aside_and_the_report_says_what_is_covered():
    found = check_rows(
        "mixed",
        rows(
            {"text": "My invoice 4711 of May is wrong, Jane Doe.", "label": "billing"},
            {"text": "The door is broken.", "label": "damage"},
            {"text": "My invoice 4711 of May is wrong, Jane Do.", "label": "billing", "synthetic": True},
            {"text": "Nobody can open my laptop any more.", "label": "billing", "synthetic": True},
        ),
        RULES,
    )
    [broken] = found.broken
    assert broken.row.number == 3 and "real row '1'" in broken.reason and "Jane" not in broken.reason
    [note] = [note for note in found.report.notes() if "synthetic" in note]
    assert note.startswith("1 of 3 rows are synthetic") and "label 50%" in note


def test_without_real_rows_the_report_says_that_nothing_is_compared():
    only = check_rows("made", rows({"text": "Text.", "synthetic": True}), RULES).report
    assert "1 of 1 rows are synthetic: there is no real row to compare them with" in only.notes()
    assert check_rows("real", rows({"text": "Text."}), RULES).report.synthetic == {}


def test_thousands_of_rows_by_thousands_take_seconds():
    size, seconds = (5_000, 20) if SOAK else (1_500, 6)
    draw = random.Random(3)
    words = [f"word{n}" for n in range(400)]
    texts = [" ".join(draw.choices(words, k=15)) for _ in range(2 * size)]
    begun = time.process_time()
    found = nearest_real(texts[:size], texts[size:])
    assert len(found) == size and time.process_time() - begun < seconds
