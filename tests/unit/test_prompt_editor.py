"""The editor of a prompt without a front end: preview, trial, saving, texts that outlive a kernel."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import edited_prompts
import pytest
from edited_prompts import Around, answer, dataset, editor, no_cases

from workbench import registry
from workbench.errors import ConfigError, NotFoundError, UnavailableError
from workbench.prompts import kept_drafts
from workbench.prompts import prompt as prompts
from workbench.prompts.editor import PromptEditor
from workbench.widgets.panel import SWITCH

HOSTILE = ("<script>alert(1)</script>", "\x1b[31mred", "\u202e\u05e9\u05dc\u05d5\u05dd", "a" * (1 << 20))


@pytest.fixture
def around(tmp_path):
    return Around(tmp_path)


# -- preview -----------------------------------------------------------------------------


def test_the_preview_is_filled_from_the_case_and_from_a_search_as_its_tenant(around):
    made = editor(around)
    shown = made.preview()
    assert around.searched == [("acme", "What is asked in 0?", 5)]
    assert [turn.content for turn in shown.rendered.messages] == [
        "Answer.", "passage 1 for acme\nQuestion: What is asked in 0?",
    ]  # fmt: skip
    assert (shown.tokens, shown.estimated, len(shown.passages), shown.problem) == (42, False, 5, "")
    assert shown.amount == (
        "42 tokens of input, counted by the model tiny · "
        "at most 0.084 USD with an answer of 48 tokens (price on the model's card)"
    )
    made.step_case()
    assert "editor.preview()" in made.shown().problem, "the passages of the case before are not this one's"
    assert "passage 1 for globex" in made.preview().rendered.messages[1].content
    made.preview()
    assert len(around.searched) == len(around.counts) == 2, "the same is not asked twice"


def test_an_estimate_says_that_it_is_one_and_why(around):
    made = editor(around)
    assert made.shown().estimated and "an estimate" in made.shown().amount
    around.counting_fails = True
    assert "about " in made.preview().amount and made.preview().amount.count("it does not count") == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("one\n{{ qestion }}", "undefined variable 'qestion' (nearest: 'question'"),
        ("one\n{{ question", "system turn, line 2"),
        ("{% if question %}", "system turn, line 1"),
        ("one\n{{ question + 1 }}", "system turn, line 2, with question"),
        ("{{ passages[9].text }}", "system turn, line 1, with passages"),
        ("a\nuser:\nb", "system turn, line 2: 'user:' alone on a line begins a turn"),
    ],
)
def test_what_is_wrong_with_a_template_is_shown_and_nothing_is_raised(around, text, said):
    made = editor(around)
    made.system = text
    shown = made.preview()
    assert said in shown.problem and shown.rendered is None and shown.amount == ""
    assert said in str(made) and made.system == text
    made.system = "Right again."
    assert made.preview().problem == ""


def test_a_search_that_fails_is_part_of_the_preview(around):
    made = editor(around)
    around.fails = UnavailableError("the store is down", hint="start it")
    shown = made.preview()
    assert (
        "no passages: the store is down" in shown.problem and "nothing" in shown.rendered.messages[1].content
    )


def test_typed_variables_replace_those_of_the_case_until_another_is_shown(around):
    made = editor(around)
    made.act("input_question", "Mine?")
    assert "Question: Mine?" in made.preview().rendered.messages[1].content
    assert around.searched[-1] == ("acme", "Mine?", 5)
    made.passages_wanted = 2
    assert len(made.preview().passages) == 2
    made.step_case(-1)
    assert "asked in 39?" in made.preview().rendered.messages[1].content
    with pytest.raises(NotFoundError, match="no input 'qestion'"):
        made.fill(qestion="x")


def test_without_cases_the_variables_are_what_is_typed(tmp_path):
    made = editor(Around(tmp_path, cases=no_cases()))
    assert "needs the input 'question'" in made.preview().problem and "a job is given inputs" in str(made)
    made.fill(question="Mine?")
    assert "Question: Mine?" in made.preview().rendered.messages[1].content
    with pytest.raises(ConfigError, match="a job is given inputs"):
        made.step_case()
    with pytest.raises(ConfigError, match="a job is given inputs"):
        made.run(2)


def test_a_case_is_found_by_its_id_and_by_a_text(around):
    made = editor(around)
    made.show_case("q00007")
    assert (made.shown_case.id, made.shown_case.tenant, made.shown_case.place) == ("q00007", "globex", 7)
    made.show_case("ASKED IN 3")
    assert made.shown_case.id == "q00030", "the next one after the shown case"
    made.act("case", "q0000x")
    assert "no case has the id 'q0000x'" in made.notice and made.shown_case.id == "q00030"


def test_ten_thousand_cases_take_no_longer_to_show_than_ten(tmp_path):
    few, many = (editor(Around(tmp_path / str(n), cases=dataset(n))) for n in (10, 10_000))
    spent = []
    for made in (few, many):
        before = time.process_time()
        for _ in range(20):
            made.step_case()
            made.to_json()
        spent.append(time.process_time() - before)
    assert spent[1] < 3 * spent[0] + 0.2
    assert "of 10,000" in str(many)


# -- turns -------------------------------------------------------------------------------


def test_turns_are_changed_by_their_number_and_examples_come_and_go(around):
    made = editor(around)
    made.act("turn_1", "Q: {{ question }}")
    assert made.user == "Q: {{ question }}" and made.changed and not made.notice
    made.add_example("one?", "1")
    assert [role for role, _ in made.turns] == ["system", "user", "assistant", "user"]
    assert made.draft.turns[1:3] == (("user", "one?"), ("assistant", "1"))
    made.act("remove_example")
    made.act("remove_example")
    assert "no example" in made.notice and len(made.turns) == 2
    made.set(system="", examples=[("a", "b")], parameters={"max_tokens": 3})
    assert [role for role, _ in made.turns] == ["user", "assistant", "user"]
    assert made.draft.header.parameters == {"max_tokens": 3}
    made.act("turn_9", "x")
    assert "no turn 9" in made.notice
    made.act("turn_0", "half \ud800")
    assert "surrogate" in made.notice and made.turns[0] == ("user", "a")


@pytest.mark.parametrize("text", HOSTILE, ids=["html", "ansi", "right-to-left", "a megabyte"])
def test_any_text_is_edited_and_printed_without_effect(around, text):
    made = editor(around)
    made.system = text
    around.text = text
    made.ask()
    printed = str(made)
    assert "\x1b" not in printed and "\u202e" not in printed and len(printed) < 200_000
    assert made.preview().rendered.messages[0].content == text
    assert "<script>" not in made.card_html()


def test_the_draft_verb_stays_what_it_was_and_takes_no_task(around):
    prompt = around.version("answer@1")
    assert prompt.edit(system="Short.").turns[0] == ("system", "Short.")
    with pytest.raises(ConfigError, match="not both"):
        prompt.edit(system="x", task=answer)
    with pytest.raises(ConfigError, match="belongs to no workspace"):
        prompt.edit()
    with pytest.raises(ConfigError, match="begins a turn"):
        prompt.edit(system="a\nuser:\nb")
    with pytest.raises(ConfigError, match="is not a task"):
        PromptEditor(prompt, around, task=print)


# -- trial -------------------------------------------------------------------------------


def test_a_trial_compares_with_the_opened_version_and_says_what_it_cannot_decide(around):
    made = editor(around)
    made.system = "Be short."
    trial = made.run(4)
    assert "too few to decide" in trial.verdict and len(trial.cases) == 4
    assert trial.comparison.baseline.settings["prompt"] == "answer@1"
    trial = made.run(40)
    assert trial.verdict == "accuracy: the draft is better than answer@1 on 40 cases"
    assert len(trial.flips) == 30 and {(f.today, f.draft) for f in trial.flips} == {("long", "short")}
    printed = str(made)
    assert "1 to 20 of 30" in printed and "the draft is better than answer@1" in printed
    made.act("flips", 20)
    assert "21 to 30 of 30" in str(made)
    made.act("case", trial.flips[0].case)
    assert made.shown_case.id == trial.flips[0].case
    assert "BETTER" in str(trial) and "editor.save" in str(trial)
    assert "since this run" not in str(made)
    made.ask()
    made.system = "Be very short."
    assert "the texts have changed since this run" in str(made) and made.reply is None


def test_a_trial_on_which_nothing_changes_says_so(around):
    made = editor(around)
    made.system = "Answer well."
    assert "the same on all 12 cases" in made.run().verdict
    made.refresh()
    assert "the same on all 12 cases" in str(made) and "SAME" in str(made.trial)


def test_a_trial_needs_a_task_a_change_and_a_number(around):
    made = editor(around, task=None)
    made.system = "x"
    with pytest.raises(ConfigError, match="without a task") as caught:
        made.run(3)
    assert "edit(task=answer)" in caught.value.hint
    made = editor(around)
    made.reset()
    with pytest.raises(ConfigError, match=r"nothing differs from answer@1"):
        made.run(3)
    made.system = "x"
    with pytest.raises(ConfigError, match="1 or more"):
        made.run(0)
    for text in ("0", "41", "many", "9" * 5000, "-1"):
        made.act("cases", text)
        assert "whole number from 1 to 40" in made.notice and made.n_cases == 12
    made.system = "{{ wrong }}"
    with pytest.raises(ConfigError, match="undefined variable"):
        made.run(3)


def test_a_trial_goes_on_beside_the_cell_and_can_be_stopped(around):
    made = editor(around)
    made.system = "Be short."
    seen = []

    async def go():
        made.act("cases", "40")
        made.act("run")
        assert made.busy == "run"
        await made._task
        assert made.trial.first.n == 40 and not made.busy and not made.notice
        made.trial = None
        held = asyncio.Event()

        async def waits(*_):
            seen.append(made.total)
            await held.wait()

        around.compare = waits
        made.act("run")
        while not seen:
            await asyncio.sleep(0)
        assert "0 of 80 answers" in str(made)
        made.act("stop")
        await made._task
        assert made.notice == "stopped" and made.trial is None and made.total == 0

    asyncio.run(go())


# -- saving ------------------------------------------------------------------------------


def test_saving_needs_a_reason_and_makes_the_next_version(around):
    made = editor(around)
    with pytest.raises(ConfigError, match="nothing differs"):
        made.save(reason="none")
    made.system = "Be short."
    made.act("save")
    assert "needs a reason" in made.notice and made.changed
    made.act("reason", "shorter answers")
    made.act("save")
    assert made.notice.startswith("saved as answer@2: name it under prompt") and not made.changed
    saved = around.version("answer@2")
    assert saved.turns[0] == ("system", "Be short.") and saved.header.parent == 1
    assert registry.load(around.root, "prompt", "answer").versions[2].reason == "shorter answers"
    assert made.base.reference == "answer@2" and made.reason == "" and not list(around.drafts.glob("*"))


def test_what_somebody_saved_meanwhile_is_named_and_nothing_is_lost(around):
    mine = editor(around)
    mine.system = "Mine."
    theirs = prompts.load(around.root, "answer@1", author="bob")
    theirs.edit(system="Theirs.").save(reason="longer answers")
    mine.act("reason", "shorter")
    mine.act("save")
    assert "answer@2 was saved meanwhile by bob: longer answers; nothing was saved" in mine.notice
    assert mine.system == "Mine." and len(registry.load(around.root, "prompt", "answer").versions) == 2
    assert editor(around).system == "Mine.", "it outlives the kernel too"
    assert "Save after answer@2: editor.save" in str(mine)
    mine.act("save", 2)
    assert mine.base.reference == "answer@3" and around.version("answer@3").turns[0][1] == "Mine."


def test_theirs_can_be_taken_over(around):
    mine = editor(around)
    mine.system = "Mine."
    prompts.load(around.root, "answer@1", author="bob").edit(system="Theirs.").save(reason="longer")
    with pytest.raises(ConfigError, match="saved meanwhile"):
        mine.save(reason="shorter")
    mine.act("reset", 2)
    assert mine.system == "Theirs." and mine.base.reference == "answer@2" and not mine.changed
    assert not list(around.drafts.glob("*"))


# -- texts that outlive the kernel -------------------------------------------------------


def test_an_unsaved_text_is_restored_with_a_note_and_ends_with_reset(around):
    editor(around).set(system="Unsaved {{ ", parameters={"max_tokens": 9})
    again = editor(around)
    assert again.system == "Unsaved {{ " and again.parameters == {"max_tokens": 9}
    assert "restored: what was not saved on 2026-11-01 12:00 UTC, begun from answer@1" in str(again)
    again.user = "More: {{ question }}"
    (path,) = around.drafts.glob("*.json")
    assert path.stat().st_mode & 0o077 == 0
    again.act("reset")
    assert again.system == "Answer." and not list(around.drafts.glob("*"))
    assert editor(around).kept_note == ""


def test_a_text_outlives_a_killed_kernel(around):
    code = (
        "import os, pathlib, signal\nfrom edited_prompts import Around, editor\n"
        f"editor(Around(pathlib.Path({str(around.root)!r}))).system = 'Typed just now.'\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    path = os.pathsep.join(str(Path(edited_prompts.__file__).parents[n]) for n in (0, 2))
    ended = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True, check=False
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert editor(around).system == "Typed just now."


def test_a_text_as_before_leaves_no_file(around):
    made = editor(around)
    made.system = "x"
    made.system = "Answer."
    assert not made.changed and not list(around.drafts.glob("*"))


def test_two_editors_of_one_person_do_not_overwrite_each_other(around):
    one = editor(around)
    one.system = "One."
    two = editor(around)
    two.system = "Two."
    one.system = "One, longer."
    assert editor(around).system == "One, longer." and len(list(around.drafts.glob("*.json"))) == 2
    one.reset()
    assert editor(around).system == "Two."
    two.save(reason="two")
    assert not list(around.drafts.glob("*"))


def test_a_program_that_runs_the_notebook_neither_sees_nor_keeps_an_unsaved_text(around, monkeypatch):
    editor(around).system = "A person's."
    (kept,) = around.drafts.iterdir()
    before = kept.read_bytes()
    monkeypatch.setenv(SWITCH, "0")
    again = editor(around)
    assert not again.changed and "restored" not in str(again)
    again.system = "A program's."
    assert [path.read_bytes() for path in around.drafts.iterdir()] == [before]
    monkeypatch.delenv(SWITCH)
    assert editor(around).system == "A person's."


def test_a_text_of_another_person_is_not_restored(around):
    editor(around).set(system="Of ada.")
    assert editor(Around(around.root, author="bob")).system == "Answer."


def test_a_damaged_text_is_named_and_stays(around):
    editor(around).set(system="Unsaved.")
    (path,) = around.drafts.glob("*.json")
    for data in (b"{", b"\xff", b'{"format": 1}', path.read_bytes().replace(b'"user"', b'"robot"')):
        path.write_bytes(data)
        made = editor(around)
        assert made.system == "Answer." and str(path) in made.kept_note and path.read_bytes() == data


def test_texts_are_bounded_in_size_and_number(around, monkeypatch):
    monkeypatch.setattr(kept_drafts, "MOST_BYTES", 2_000)
    made = editor(around)
    made.system = "x" * 3_000
    assert "too long to outlive the kernel" in made.kept_note and not list(around.drafts.glob("*"))
    for n in range(14):
        one = editor(around)
        one._kept._begun = None  # as if all were opened before any of them was changed
        one.system = f"Draft {n}."
    assert len(list(around.drafts.glob("*.json"))) == 10


def test_a_folder_that_cannot_be_written_becomes_a_note(around):
    around.drafts.parent.mkdir(parents=True)
    around.drafts.write_text("a file where the folder should be")
    made = editor(around)
    made.system = "Kept in the kernel."
    assert "ends with the kernel" in made.kept_note and made.system == "Kept in the kernel."
