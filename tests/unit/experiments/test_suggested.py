"""Suggested cases: deciding on drafts by ids and in a panel, and saving what was accepted."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest

import workbench.widgets.front  # noqa: F401  (before a test puts another IPython in its place)
from workbench.data.questions import read_questions
from workbench.errors import ConfigError, NotFoundError
from workbench.experiments.dataset import Dataset
from workbench.experiments.suggested import suggest
from workbench.experiments.suggestion_panel import SuggestionPanel
from workbench.experiments.synthetic import Synthetic
from workbench.types import Page

TEXT = (
    "Full-time employees of Acme have 29 days of annual holiday. "
    "Acme pays a grant of 150 euros for a desk at home. "
    "Exceptions outside the pay round are recorded on form W-31."
)
FIRST, SECOND, THIRD = "acme-s7-001", "acme-s7-002", "acme-s7-003"


@pytest.fixture
def drafts():
    page = Page(source="holiday", title="Holiday", text=TEXT, tenant="acme", digest="0" * 64)
    return suggest([page], n=5, seed=7, author="ann", docs="data/my docs")


def test_nothing_is_accepted_by_default_and_nothing_is_saved(drafts, tmp_path):
    assert drafts.ids == (FIRST, SECOND, THIRD) and drafts.accepted == []
    assert [drafts.decision(name) for name in drafts.ids] == ["undecided"] * 3
    with pytest.raises(ConfigError, match="accepted") as caught:
        drafts.reject(FIRST).save(tmp_path / "q.jsonl")
    assert "drafts.accept" in caught.value.hint
    assert not list(tmp_path.iterdir())


def test_the_accepted_rows_alone_are_saved_as_a_dataset_that_says_it_is_synthetic(drafts, tmp_path):
    path = tmp_path / "new" / "q.jsonl"
    saved = drafts.accept(FIRST, THIRD).reject(SECOND).save(path)
    assert f"workbench init NAME --docs 'data/my docs' --questions {path}" in str(saved) and saved.n == 2
    cases = Dataset.from_file(path)
    assert [case.id for case in cases] == [FIRST, THIRD]
    assert {case.expected["page"] for case in cases} == {"holiday"}
    import polars as pl

    found = Synthetic.of(cases, pl.Series([case.id for case in cases]))
    assert found.text == "2 of 2 cases are synthetic (cases, version 1, seed 7)"
    assert drafts.save(path).n == 2  # the same rows again


def test_an_edited_row_keeps_its_provenance_and_says_who_edited_it(drafts, tmp_path):
    drafts.edit(FIRST, question=" How long is  the holiday? ", answers=["29 days", "four weeks"]).accept(
        FIRST
    )
    drafts.save(tmp_path / "q.jsonl")
    (row,) = map(json.loads, (tmp_path / "q.jsonl").read_text().splitlines())
    assert row == {
        "id": FIRST, "tenant": "acme", "page": "holiday", "question": "How long is the holiday?",
        "answers": ["29 days", "four weeks"], "synthetic": True, "generator": "cases",
        "generator_version": 1, "seed": 7, "edited": True, "author": "ann",
    }  # fmt: skip
    (case,) = Dataset.from_file(tmp_path / "q.jsonl")
    assert case.provenance["edited"] is True and case.provenance["author"] == "ann"
    (read,) = read_questions(tmp_path / "q.jsonl", kind="answer")  # as `workbench init` reads it
    assert read["question"] == row["question"] and read["edited"] is True and read["generator"] == "cases"


def test_an_edit_that_changes_nothing_is_none(drafts):
    row = drafts.rows[0]
    drafts.edit(FIRST, question=row["question"], answers=row["answers"])
    assert drafts.rows[0] == row and drafts.note(FIRST) == ""


def test_an_answer_that_the_page_does_not_have_is_told(drafts):
    assert drafts.edit(SECOND, answers=["a month"]).note(SECOND) == "edited, no answer stands on the page"
    assert "no answer stands on the page" in str(drafts)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"question": "  "}, "empty"), ({"question": 5}, "question"), ({"answers": []}, "empty"),
        ({"answers": ["x", " "]}, "empty"), ({"answers": "29 days"}, "list"), ({"answers": [3]}, "answers"),
        ({"question": "taken"}, "same question"), ({"question": "new?", "answers": [""]}, "empty"),
    ],
)  # fmt: skip
def test_a_bad_edit_is_an_error_and_changes_nothing(drafts, change, word):
    before = drafts.rows
    if change.get("question") == "taken":
        change = {"question": before[1]["question"].upper()}
    with pytest.raises(ConfigError, match=word):
        drafts.edit(FIRST, **change)
    assert drafts.rows == before


def test_an_unknown_id_is_an_error_and_nothing_is_decided(drafts):
    with pytest.raises(NotFoundError, match=f"nearest.*{FIRST}"):
        drafts.accept(SECOND, "acme-s7-01")
    assert drafts.accepted == []
    for verb in (drafts.accept, drafts.reject, drafts.reset):
        with pytest.raises(ConfigError, match="no id"):
            verb()
        with pytest.raises(ConfigError, match="id is"):
            verb(3)


def test_a_file_with_other_rows_is_replaced_on_demand_only(drafts, tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_text("mine\n")
    drafts.accept(*drafts.ids)
    with pytest.raises(ConfigError, match="exists") as caught:
        drafts.save(path)
    assert "replace=True" in caught.value.hint and path.read_text() == "mine\n"
    assert drafts.save(path, replace=True).n == 3 and len(Dataset.from_file(path)) == 3
    with pytest.raises(ConfigError, match="exists"):
        drafts.save(tmp_path)


def test_the_rows_that_are_handed_out_are_copies(drafts):
    drafts.rows[0]["answers"].append("x")
    drafts.accept(FIRST).accepted[0]["question"] = "x"
    assert drafts.rows[0]["answers"] != ["x"] and drafts.rows[0]["question"] != "x"
    assert len(drafts.rows[0]["answers"]) == 1


def test_the_table_shows_decisions_reasons_and_the_next_command(drafts):
    drafts.accept(FIRST).reject(SECOND).edit(THIRD, answers=["W-31", "form W-31"])
    text = str(drafts)
    assert "1 accepted, 1 rejected, 1 undecided; every row says that it is synthetic" in text
    assert "3 of 5: 3 of the possible questions of 1 pages are usable" in text
    assert "W-31 | form W-31" in text and 'next: drafts.save("questions.jsonl")' in text
    page = drafts.card().html()
    assert "Exceptions outside the pay round are recorded on form W-31." in page  # the sentence, to judge by
    frame = drafts.to_frame()
    assert frame["decision"].to_list() == ["accepted", "rejected", "undecided"]
    assert frame["edited"].to_list() == [False, False, True] and frame["synthetic"].all()
    assert drafts.to_json()["rows"] == drafts.rows


def test_no_pages_draft_nothing_and_the_frame_has_its_columns(tmp_path):
    drafts = suggest([], n=3, seed=7)
    assert len(drafts) == 0 and drafts.to_frame().height == 0 and "0 of 3" in str(drafts)
    with pytest.raises(ConfigError, match="nothing to save"):
        drafts.save(tmp_path / "q.jsonl")


@pytest.mark.parametrize("bad", [{"n": 0}, {"n": -1}, {"n": 2.5}, {"n": True}, {"seed": -1}, {"seed": "7"}])
def test_a_number_of_cases_and_a_seed_are_whole_numbers(bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        suggest([], **bad)


# -- in a notebook --------------------------------------------------------------------------


def test_the_panel_decides_and_goes_on_to_the_next_undecided_draft(drafts):
    panel = SuggestionPanel(drafts)
    assert panel.current == FIRST and "0 accepted, 0 rejected, 3 undecided" in str(panel)
    panel.act("accept")
    assert [row["id"] for row in drafts.accepted] == [FIRST] and panel.current == SECOND
    panel.act("reject")
    assert drafts.decision(SECOND) == "rejected" and panel.current == THIRD
    panel.act("open", FIRST)
    panel.act("reset")
    assert drafts.decision(FIRST) == "undecided" and panel.current == FIRST
    panel.act("next")
    panel.act("accept")
    assert drafts.decision(SECOND) == "accepted" and panel.current == THIRD
    panel.act("open", "none")
    assert "no draft has the id" in panel.notice


def test_an_edit_in_the_panel_changes_the_draft_and_a_refused_one_changes_nothing(drafts):
    panel = SuggestionPanel(drafts)
    panel.act("question", "How long is the holiday?")
    panel.act("answers", "29 days | four weeks")
    assert drafts.rows[0]["question"] == "How long is the holiday?"
    assert drafts.rows[0]["answers"] == ["29 days", "four weeks"] and "edited" in str(panel)
    panel.act("open", SECOND)
    panel.act("answers", "  ")
    assert "empty" in panel.notice and "edited" not in drafts.rows[1]
    panel.act("question", drafts.rows[0]["question"])
    assert "asks the same question" in panel.notice and "edited" not in drafts.rows[1]


def test_a_kernel_is_given_the_panel_beside_text_and_html_and_another_place_is_not(drafts, monkeypatch):
    plain = drafts._repr_mimebundle_()
    assert set(plain) == {"text/plain", "text/html"} and plain["text/plain"] == str(drafts)
    shell = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object()))
    monkeypatch.setitem(sys.modules, "IPython", shell)
    shown = drafts._repr_mimebundle_()
    view = shown.pop("application/vnd.jupyter.widget-view+json")
    assert shown == plain
    assert len(view["model_id"]) == 32
    monkeypatch.setenv("WORKBENCH_WIDGETS", "0")  # a program runs the notebook
    assert drafts._repr_mimebundle_() == plain


def test_many_drafts_are_shown_by_pages():
    pages = [
        Page(source=f"p{n}", title="p", text=f"The tariff of hall {word} costs {n} euros in all its shops.",
             tenant="acme", digest="0" * 64)
        for n, word in ((n, "abcdefghij"[n % 10] * (n // 10 + 3)) for n in range(101))
    ]  # fmt: skip
    drafts = suggest(pages, n=200, seed=7)
    panel = SuggestionPanel(drafts)
    assert len(drafts) == 101 and "1 to 8 of 101" in str(panel)
    panel.act("page", 96)
    assert "97 to 101 of 101" in str(panel) and panel.current == drafts.ids[96]
    panel.act("page", 10**9)
    assert panel.current == drafts.ids[-1]
    panel.act("next")
    assert panel.current == drafts.ids[-1] and not panel.notice
    assert "no case was drafted" in str(SuggestionPanel(suggest([], n=3, seed=7)))
