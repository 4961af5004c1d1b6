"""Feedback on a reply: an outcome of its call, one a person, with a note in which identifiers are masked."""

from __future__ import annotations

import dataclasses
import json

import pytest
from test_record_verbs import other, ws  # noqa: F401 - the fixture

import workbench as wb
from workbench import layout
from workbench.errors import ConfigError, NotFoundError
from workbench.records.outcomes import MOST_NOTE, outcomes_of
from workbench.types import Reply
from workbench.workspace.gateway_verbs import decoded, encoded

SECRET = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"


@pytest.fixture
def reply(ws):  # noqa: F811
    return ws.session("chat-1").model("m").chat("hello")


def said(ws):  # noqa: F811
    return [(row["principal"], row["value"], row["note"]) for row in ws.outcomes().to_dicts()]


def test_feedback_is_an_outcome_and_saying_it_again_replaces_it(ws, reply):  # noqa: F811
    given = ws.feedback(reply, good=False, note="too long")
    assert (given.name, given.value, given.trace_id, given.session) == (
        "feedback",
        0.0,
        reply.trace_id,
        "chat-1",
    )
    ws.feedback(reply.trace_id, good=True)
    assert said(ws) == [(ws.context.principal.name, 1.0, "")]
    impact = ws.impact(by=["model"])
    assert [(row.name, row.outcome.value) for row in impact.rows] == [("feedback", 1.0)]


def test_each_person_has_one_and_impact_takes_their_mean(ws, reply):  # noqa: F811
    ws.feedback(reply, good=True)
    guest = other(ws)
    guest.feedback(reply, good=False, note="wrong page")
    ws.outcome(reply, "resolved", value=0.0)
    guest.outcome(reply, "resolved", value=1.0)
    assert [(row[0], row[1]) for row in said(ws)] == [
        (ws.context.principal.name, 1.0), ("guest", 0.0), ("guest", 1.0),
    ]  # fmt: skip
    rows = {row.name: row.outcome.value for row in ws.impact(by=["model"]).rows}
    assert rows == {"feedback": 0.5, "resolved": 1.0}
    assert guest.feedback(reply).good is False and ws.feedback(reply).good is True


def test_a_gateway_answers_with_the_note(ws, reply):  # noqa: F811
    given = ws.feedback(reply, good=True, note="right page")
    assert decoded(json.loads(json.dumps(encoded(given)))) == given


def test_a_note_is_masked_before_it_is_kept(ws, reply):  # noqa: F811
    ws.feedback(reply, good=False, note=f"it told the key {SECRET} to jane@example.org")
    kept = (ws.boundary.home / layout.OUTCOMES).read_text()
    assert SECRET not in kept and "jane@example.org" not in kept and "it told the key" in kept
    assert ws.outcome(reply, "resolved", note=SECRET).note == "[SECRET]"


@pytest.mark.parametrize(
    ("note", "said"),
    [("x" * (MOST_NOTE + 1), "2,001 characters"), (3, "not a text"), ("\ud800", "surrogate")],
    ids=["too long", "a number", "half a pair"],
)
def test_a_note_that_is_none_is_refused(ws, reply, note, said):  # noqa: F811
    with pytest.raises(ConfigError, match=said):
        ws.feedback(reply, good=True, note=note)
    assert ws.outcomes().is_empty()


def test_feedback_needs_a_call_of_this_record(ws, reply):  # noqa: F811
    with pytest.raises(ConfigError, match="no trace id"):
        ws.feedback(Reply(text="made", model="m"), good=True)
    with pytest.raises(NotFoundError, match="no call with trace"):
        ws.feedback(dataclasses.replace(reply, trace_id="0" * 32), good=True)
    with pytest.raises(NotFoundError, match="no call with trace"):
        other(ws, "globex").feedback(reply, good=True)


def test_a_line_from_before_there_were_notes_is_read_and_an_odd_note_is_left_out(ws, reply):  # noqa: F811
    ws.feedback(reply, good=True, note="x")
    path = ws.boundary.home / layout.OUTCOMES
    record = json.loads(path.read_text())
    old = {name: value for name, value in record.items() if name != "note"} | {"name": "resolved"}
    odd = record | {"name": "odd", "note": 3}
    path.write_text("".join(json.dumps(line) + "\n" for line in (record, old, odd)))
    assert [(row["name"], row["note"]) for row in outcomes_of(path).to_dicts()] == [
        ("feedback", "x"), ("resolved", ""),
    ]  # fmt: skip


def test_the_panel_records_what_is_pressed_and_a_note_that_is_written_later(ws, reply):  # noqa: F811
    panel = ws.feedback(dataclasses.replace(reply, text="<b>\x1b[31m" + "long " * 400))
    printed = str(panel)
    assert (
        "ws.feedback(reply, good=True" in printed and "more characters" in printed and "\x1b" not in printed
    )
    assert "<b>" not in panel.card_html()
    panel.act("note", "too long")
    assert ws.outcomes().is_empty(), "a note alone says neither good nor bad"
    panel.act("give", False)
    assert said(ws)[0][1:] == (0.0, "too long") and "bad, by" in str(panel) and "bad, by" in panel.card_html()
    panel.act("note", f"too long, {SECRET}")
    assert said(ws)[0][1:] == (0.0, "too long, [SECRET]") and panel.note == "too long, [SECRET]"
    panel.act("give", "yes")
    assert "good or bad" in panel.notice and len(said(ws)) == 1
    again = ws.feedback(reply)
    assert again.good is False and "too long, [SECRET]" in str(again)
    assert again.give(good=True, note="").value == 1.0 and said(ws)[0][1:] == (1.0, "")


def test_without_a_workspace_the_record_says_which_it_is(ws, reply, monkeypatch):  # noqa: F811
    asked = []

    class Connected:
        def feedback(self, reply, **how):
            asked.append((reply, how))
            return "given"

    def connected(*names, **where):
        asked.append((names, where))
        return Connected()

    from workbench.workspace import feedback as module

    monkeypatch.setattr(module, "connect", connected)
    monkeypatch.setattr(module.config, "find_root", lambda _: ws.boundary.home)
    monkeypatch.setattr(module, "chosen_of_process", lambda root: ws._chosen())
    assert wb.feedback(reply, good=True, note="n") == "given"
    assert asked[0][0] == ("answers",) and asked[0][1]["tenant"] == "acme" and asked[1][1] == {
        "good": True, "note": "n",
    }  # fmt: skip
    with pytest.raises(NotFoundError, match="no call with trace"):
        wb.feedback("f" * 32, good=True)
