"""The card of a dataset."""

from __future__ import annotations

from IPython.lib.pretty import pretty
from made_runs import a_run, of

from workbench.experiments.compare import compare
from workbench.experiments.dataset import Case, Dataset


def cases(n, **fields):
    return Dataset(
        name="questions",
        cases=tuple(
            Case(
                id=f"q{i:03}", tenant=("acme", "globex")[i % 2],
                inputs={"question": f"How much is {i}? " + "x" * 500},
                expected={"answers": ["46 euros", "forty-six"], "label": f"l{i % 3}"},
                provenance={"synthetic": True, "author": "us"},
            )
            for i in range(n)
        ),
    )  # fmt: skip


def test_the_card_says_how_many_cases_of_whom_with_which_columns_and_shows_five():
    text = str(cases(188))
    for said in (
        "questions · 188 cases",
        "tenants: acme 94, globex 94",
        "inputs: question; expected: answers, label",
        "columns that make slices: tenant (2 values), label (3 values)",
        "188 of 188 cases are synthetic",
        "the first 5 of 188 by id",
        "46 euros or forty-six",
        "next: ws.experiment().compare(",
    ):
        assert said in text, said
    assert "q004" in text and "q005" not in text and len(text) < 2_000


def test_no_screen_of_raw_values_is_printed_in_a_console_either():
    data, run = cases(188), a_run(accuracy=of(3, 9))
    assert repr(data) == "Dataset(name='questions')"
    for shown in (data, run, compare(run, run)):
        assert pretty(shown) == str(shown)


def test_a_hostile_case_is_shown_as_it_is():
    case = Case(
        id="<b>1",
        tenant="acme",
        inputs={"text": "<script>\x1b[31m\nrm"},
        expected={"label": ["\u202e", None, 3]},
    )
    hostile = Dataset(name="<i>", cases=(case,))
    assert "<script>" not in hostile._repr_html_() and "&lt;script&gt;" in hostile._repr_html_()
    assert "\x1b" not in str(hostile) and "\u202e" not in str(hostile)


def test_no_cases_and_cases_of_different_columns_have_a_card():
    assert "nothing · 0 cases" in str(Dataset(name="nothing", cases=()))
    mixed = Dataset(
        name="m",
        cases=(
            Case(id="1", tenant="t", inputs={"a": {"deep": 1}}, expected={}),
            Case(id="2", tenant="t", inputs={"b": 2.5}, expected={"page": []}),
        ),
    )
    assert "inputs: a, b; expected: page" in str(mixed) and "2.5" in str(mixed)
