"""A window of the embedded model: tokens counted exactly, recorded, filled again and asked again."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from calls import finish
from hypothesis import given, settings
from hypothesis import strategies as st

import workbench as wb
from workbench import _sync
from workbench.context import InvocationScope, invocation_scope
from workbench.models import load_card
from workbench.pipeline.repro import _all_asked, _answers
from workbench.prompts.tokens import ESTIMATE
from workbench.records.tape import compare_answers
from workbench.workspace.boundary import Boundary, StatePaths, open_tape

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "data/handbook/acme/annual-holiday.md").read_text(encoding="utf-8")


def workspace(home, mode="auto"):
    made = Boundary(ROOT, mode=mode, tape=open_tape(home / "tape.jsonl"), places=StatePaths(home=home))
    return wb.connect("answers", root=ROOT, through=made)


def filled(ws):
    """A conversation of twelve turns that does not fit, filled in one case of an experiment."""
    window = ws.window(budget=200)
    window.system("Answer in one sentence.").note(PAGE[:300])
    for n in range(6):
        window.say("user", PAGE[n * 90 : n * 90 + 90]).say("assistant", "It says so: ü, 12.5 %.")
    with invocation_scope(InvocationScope(case="one", repeat=0)):
        return window.fill()


def test_the_budget_is_in_the_model_s_own_tokens_and_a_recorded_window_needs_no_model(tmp_path):
    ws = workspace(tmp_path)
    first = filled(ws)
    used = ws.model().chat(first, max_tokens=1).usage.input_tokens
    assert first.report.used == used <= 200
    assert first.report.counter == "the model smollm2-135m"
    assert {line.fate for line in first.report.lines} == {"kept", "summarised", "evicted"}
    assert ESTIMATE.count([turn.wire() for turn in first.messages]) > used
    finish(ws.boundary.replay)
    ws.close()
    again = workspace(tmp_path, "replay")
    assert filled(again) == first
    assert not again.boundary._models, "a model was opened"


def test_recorded_counts_asked_again_are_the_same(tmp_path):
    ws = workspace(tmp_path)
    filled(ws)
    finish(ws.boundary.replay)
    ws.close()
    entries = list(open_tape(tmp_path / "tape.jsonl").entries())
    counts = [entry for entry in entries if entry.question.operation == "model.count"]
    # A binary search over the note and five exchanges, with and without the summary; no request twice.
    assert len(counts) == len({str(entry.question.request) for entry in counts}) == 7
    assert [entry for entry in entries if entry not in counts] == _answers(entries)
    live = workspace(tmp_path, "live")
    context = dataclasses.replace(live.context, purpose="verify")
    answers = _sync.run(_all_asked(live.boundary, counts, {"": context}, 2))
    assert not any(compare_answers(entry, events) for entry, (events, _) in zip(counts, answers, strict=True))
    live.close()


turns = st.lists(st.text(max_size=80), min_size=1, max_size=4)


def test_a_count_is_what_the_answer_s_usage_says_of_any_text(tmp_path):
    ws = workspace(tmp_path, "live")
    model = ws.model()

    @settings(max_examples=6, deadline=None)
    @given(texts=turns)
    def check(texts):
        asked = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]
        assert model.count_tokens(asked) == model.chat(asked, max_tokens=1).usage.input_tokens

    check()
    ws.close()


def test_more_than_the_model_takes_can_be_counted(tmp_path):
    ws = workspace(tmp_path, "live")
    context = load_card(ROOT, "smollm2-135m").limits.context_tokens
    assert ws.model().count_tokens("word " * (2 * context)) > 2 * context
    ws.close()
