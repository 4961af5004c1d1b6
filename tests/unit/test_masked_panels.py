"""What panels show is masked in executed copies, as the outputs of every cell are."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import pytest
from edited_prompts import Around, dataset, editor
from explored_runs import compared
from explored_runs import dataset as explored_cases
from memory_bench import Bench, write_page
from planted import EMAIL, PERSON, PHONE, QUOTED, SECRET, SmallDetector
from reviewed_runs import review_of, two_runs

import workbench
from workbench.experiments.progress import Progress
from workbench.experiments.progress_display import ProgressPanel
from workbench.experiments.suggested import suggest
from workbench.experiments.suggestion_panel import SuggestionPanel
from workbench.memory.stemming import stems
from workbench.notebooks.masks import cleaned_notebook
from workbench.records.feedback import FeedbackPanel
from workbench.types import Page, Reply
from workbench.widgets.cutting import beginning
from workbench.wire.redaction import Redaction

MASK = Redaction(SmallDetector().find, passes=lambda _kind, _class: False)
PLANTED = f"Ask {PERSON} or {QUOTED} at {EMAIL}, {PHONE}; the key is {SECRET}."
#: Other identifiers that share words with those above: marks of differing words would divide each.
OTHER = PLANTED.replace("jane@", "max@").replace("170 ", "171 ").replace("Jane O'Neil", "Max Muster")
#: Parts of what is planted, as a text that is divided or cut would leave them.
PARTS = ("jane", "neil", "muster", "pepe", "acme.example", "1234567", "a1b2c3d4")
#: Lengths of texts before an identifier, so that whatever a table cuts falls into one.
LEADS = range(18, 48, 3)


def before(lead):
    """A text of `lead` characters, then identifiers."""
    return ("word " * 10)[:lead].rstrip() + " "


def explorer(tmp_path):
    cases = explored_cases(len(LEADS), question="{} " + PLANTED)
    texts = {case.id: before(lead) + OTHER for case, lead in zip(cases, LEADS, strict=True)}
    scores = [1] + [0] * (len(LEADS) - 1)
    result = compared(tmp_path, cases=cases, old=scores, new=scores[::-1], answers=texts)
    told = {case: text.replace(OTHER, PLANTED) for case, text in texts.items()}
    result.runs["old"] = compared(tmp_path, cases=cases, old=scores, new=scores, answers=told).runs["old"]
    panel = result.explore().filter(kind="all", text="Ask")
    panel.open("q0001")
    return panel


def review(tmp_path):
    cases, ours, theirs = two_runs(2, ours=[PLANTED, "a"], theirs=[OTHER, "b"])
    panel = review_of(tmp_path, cases, ours, theirs)
    if PLANTED not in str(panel):
        panel.forward()
    panel.write_note(PLANTED)
    panel.show_expected()
    return panel


def memory(tmp_path):
    bench = None
    for body in (PLANTED, OTHER):
        for n, lead in enumerate(LEADS):
            title = json.dumps(f"{PERSON} {n}")
            folder = write_page(tmp_path, f"acme/p{n:02}.md", body=before(lead) + body, title=title)
        bench = bench or Bench(tmp_path, folder)
        bench.handle_of().ingest()
    panel = bench.handle_of(stems=stems).browse()
    panel.search(PLANTED, k=20)
    panel.open(1)
    panel.list_versions()
    panel.compare(1, 2)
    panel.compare_source("p01")
    return panel


def listed(tmp_path):
    panel = memory(tmp_path)
    panel.list_page()
    return panel


def prompt(tmp_path):
    around = Around(tmp_path, cases=dataset(2, question="{} " + PLANTED))
    around.text = OTHER
    panel = editor(around)
    panel.system = PLANTED
    panel.ask()
    return panel


def suggestions(_):
    text = " ".join(f"The grant {n} for a desk of {PERSON} costs {n + 20} euros a year." for n in range(9))
    page = Page(source="p", title=PERSON, text=text, tenant="acme", digest="0" * 64)
    panel = SuggestionPanel(suggest([page], n=9, seed=7, author=PERSON))
    panel.act("question", PLANTED)
    panel.act("answers", OTHER)
    return panel


def feedback(_):
    reply = Reply(text=PLANTED, model="m", cost_usd=0.0)
    panel = FeedbackPanel(reply, lambda note, *, said: None)
    panel.note = OTHER
    return panel


def progress(_):
    return ProgressPanel(Progress(3, f"answers · {PLANTED}", metric=OTHER))


PANELS = {
    made.__name__: made
    for made in (explorer, review, memory, listed, prompt, suggestions, feedback, progress)
}


@pytest.mark.parametrize("name", PANELS)
def test_an_executed_copy_of_a_panel_holds_nothing_that_was_planted(tmp_path, monkeypatch, name):
    monkeypatch.setenv("WORKBENCH_WIDGETS", "0")
    panel = PANELS[name](tmp_path)
    data = panel.mimebundle(
        html=panel.card_html() or f"<p title='{html.escape(OTHER)}'>{html.escape(PLANTED)}</p>"
    )
    assert {"text/plain", "text/html"} == set(data)
    assert any(part in data["text/plain"].lower() for part in PARTS), "nothing was planted"
    output = {"output_type": "execute_result", "execution_count": 1, "metadata": {}, "data": data}
    copy = {"cells": [{"cell_type": "code", "metadata": {}, "outputs": [output]}], "metadata": {}}
    cleaned_notebook(copy, MASK.text)
    (kept,) = copy["cells"][0]["outputs"]
    for text in kept["data"].values():
        told = html.unescape("".join(text)).lower()
        left = {part: told[max(0, told.index(part) - 60) :][:120] for part in PARTS if part in told}
        assert not left, left


def test_every_kind_of_panel_is_among_them(tmp_path):
    sources = (path.read_text(encoding="utf-8") for path in Path(workbench.__file__).parent.rglob("*.py"))
    kinds = {
        name for source in sources for name in re.findall(r"^class (\w+)\(Panel\)", source, re.MULTILINE)
    }
    made = set()
    for name, make in PANELS.items():
        (tmp_path / name).mkdir()
        made.add(type(make(tmp_path / name)).__name__)
    assert kinds == made


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("ask jane@acme.example about it", "ask"),
        ("ask for Jane O'Neil today", "ask for"),
        ("call +49 170 1234567", "call"),
        ("pay the bill of a hotel", "pay the bill"),
        ("jane@acme.example", "jane@acme.ex"),  # nothing would be left
        ("日本語の文には空白がありません。", "日本語の文には空白がありま"),
        ("a short text", "a short text"),
    ],
)
def test_a_text_is_cut_before_what_a_mask_needs_whole(text, kept):
    assert kept in {beginning(text, 12).strip(), beginning(text, 13).strip()}
    assert len(beginning(text, 12)) <= 12
