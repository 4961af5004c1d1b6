"""Cleaning: each step's known answer, a second run that changes nothing, and what the ledger holds."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.data.cleaning import by_step, clean, ledger
from workbench.data.rules import Cleaning, ColumnRule, QualityRules

STEPS = ("trim", "nfc", "line_ends", "control_characters")


def rules(*steps, **spellings):
    columns = {"text": ColumnRule(), "n": ColumnRule(type="integer"), "many": ColumnRule(type="texts")}
    return QualityRules(columns=columns, cleaning=Cleaning(steps=steps, map=spellings))


@pytest.mark.parametrize(
    ("step", "before", "after"),
    [
        ("trim", " \n a b\t\u00a0", "a b"),
        ("nfc", "Cafe\u0301", "Caf\u00e9"),
        ("line_ends", "a\r\nb\rc\u2028d\x85e\n", "a\nb\nc\nd\ne\n"),
        ("control_characters", "a\x00b\x07\u200b\ufeffc\u202e\td\n", "abc\td\n"),
    ],
)
def test_each_step_has_its_known_answer_and_is_recorded(step, before, after):
    [row], [repair] = clean([{"text": before, "n": 1}], rules(step))
    assert row == {"text": after, "n": 1}
    assert (repair.index, repair.column, repair.step) == (0, "text", step)
    others = [name for name in STEPS if name != step]
    assert clean([{"text": "plain \u0639\u200d text"}], rules(*others, step))[1] == []


def test_joiners_of_emoji_and_texts_in_lists_stay_what_they_are():
    family = "\U0001f468\u200d\U0001f469"
    [row], repairs = clean([{"text": family, "many": ["a ", family], "n": " "}], rules(*STEPS))
    assert row == {"text": family, "many": ["a", family], "n": " "} and len(repairs) == 1


def test_spellings_are_mapped_after_the_other_steps():
    [row], repairs = clean([{"text": " Billing\r"}], rules("trim", "line_ends", text={"Billing": "billing"}))
    assert row["text"] == "billing" and [item.step for item in repairs] == ["line_ends", "trim", "map"]
    assert list(by_step(repairs)) == [("text", "line_ends", 1), ("text", "map", 1), ("text", "trim", 1)]


def test_the_ledger_names_the_change_and_holds_no_text():
    _, repairs = clean([{"text": "kept"}, {"text": "Jane Doe "}], rules("trim"))
    [line] = ledger(repairs, [(1, "t-1"), (4, "t-4")]).to_dicts()
    digests = [hashlib.sha256(f'"{text}"'.encode()).hexdigest()[:16] for text in ("Jane Doe ", "Jane Doe")]
    assert line == {
        "row": 4, "id": "t-4", "column": "text", "step": "trim", "before": digests[0], "after": digests[1],
    }  # fmt: skip


SIGNS = "ae\u0301\u0300\r\n\x85\u2028\x00\u200b\u00a0 \t\ufeffBb\u1100\u1161"


@given(st.text(st.sampled_from(SIGNS)) | st.text())
def test_a_second_run_changes_nothing(text):
    declared = rules(*STEPS, text={"B": "b", "a": "b"})
    cleaned, _ = clean([{"text": text}], declared)
    assert clean(cleaned, declared) == (cleaned, [])
