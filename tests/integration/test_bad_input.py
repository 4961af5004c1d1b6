"""Bad input: one clear error with the next command in it, and everything else as it was."""

from __future__ import annotations

import json
import re

import pytest

TAPE = "pipelines/tapes/answers.jsonl"
NOTEBOOK = "notebooks/answers.ipynb"
QUESTIONS = "data/handbook/questions.jsonl"


def replaced(path, before, after):
    def edit(folder):
        text = (folder / path).read_text()
        assert before in text
        (folder / path).write_text(text.replace(before, after, 1))

    return edit


def cell(change):
    def edit(folder):
        notebook = json.loads((folder / NOTEBOOK).read_text())
        change(notebook["cells"])
        (folder / NOTEBOOK).write_text(json.dumps(notebook))

    return edit


def twice(folder):
    lines = (folder / QUESTIONS).read_text().splitlines(keepends=True)
    (folder / QUESTIONS).write_text("".join([*lines, lines[0]]))


def truncated(folder):
    path = folder / TAPE
    path.write_bytes(path.read_bytes()[:-300])


CASES = {
    "missing key": (
        replaced("params.yaml", "    title: Answers from the company handbook\n", ""),
        "missing key",
    ),
    "unknown key": (replaced("params.yaml", "    owner:", "    onwer:"), r"unknown key .*nearest: 'owner'"),
    "unknown prompt": (replaced("params.yaml", "name: answer,", "name: anser,"), "nearest: 'answer'"),
    "unknown version": (
        replaced("params.yaml", "answer, version: 2", "answer, version: 9"),
        "has no version 9",
    ),
    "unknown model": (replaced("params.yaml", "smollm2-135m", "smollm"), "nearest: 'smollm2-135m'"),
    "edited version": (
        replaced("pipelines/prompts/answer/2.prompty", "staff", "stuff"),
        "changed after it was saved",
    ),
    "no parameters cell": (
        cell(lambda cells: cells[1]["metadata"].pop("tags")),
        "needs one cell tagged `parameters`, found none",
    ),
    "syntax error": (cell(lambda cells: cells[2].update(source="x = (1")), "cell 3, line 1"),
    "unknown parameter": (replaced("params.yaml", "      corpus:", "      corpsu:"), "nearest: 'corpus'"),
    "duplicate ids": (twice, "case id 'acme-001' is there twice"),
    "other tape format": (replaced(TAPE, "workbench-tape/1", "workbench-tape/9"), "tape of format"),
    "edited tape": (replaced(TAPE, '"content":"', '"content":" '), "edited by hand"),
    "truncated tape": (truncated, "cut off|ends here|digest"),
    "hopeless gate": (replaced("params.yaml", "cases: {min: 100}", "cases: {min: 1000}"), "can never pass"),
    "looser mlvp": (
        replaced("params.yaml", "accuracy: {min: 0.70", "accuracy: {min: 0.40"),
        "may only tighten",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_check_names_it_and_the_pipeline_changes_nothing(fresh_clone, name):
    edit, said = CASES[name]
    edit(fresh_clone.folder)
    changed, tape = fresh_clone.status(), (fresh_clone.folder / TAPE).read_bytes()
    code = 2 if "key" in name else 1
    found = fresh_clone.run("workbench", "check", code=code)
    assert re.search(said, found, flags=re.DOTALL), found
    assert "Traceback" not in found
    assert fresh_clone.status() == changed and (fresh_clone.folder / TAPE).read_bytes() == tape


@pytest.mark.parametrize("name", ["unknown version", "syntax error", "duplicate ids", "truncated tape"])
def test_a_stage_stops_with_the_same_words(fresh_clone, name):
    edit, said = CASES[name]
    edit(fresh_clone.folder)
    tape = (fresh_clone.folder / TAPE).read_bytes()
    found = fresh_clone.run("workbench", "repro", code=2, network=False)
    assert re.search(said, found, flags=re.DOTALL), found
    assert "Traceback" not in found and "next: make repro" in found
    assert (fresh_clone.folder / TAPE).read_bytes() == tape


def test_a_snapshot_with_a_wrong_digest_stops_the_experiment(fresh_clone):
    fresh_clone.run("dvc", "repro", "experiment@answers", network=False)
    manifest = fresh_clone.folder / "results/answers/memory/manifest.json"
    text = manifest.read_text()
    manifest.unlink()  # a link into DVC's cache
    manifest.write_text(re.sub(r'"logical_digest": "\w{4}', '"logical_digest": "0000', text))
    tape = (fresh_clone.folder / TAPE).read_bytes()
    found = fresh_clone.run("python", "-m", "workbench.stages", "experiment", "answers", code=3)
    assert re.search("CorruptError|its digests do not fit|holds other items", found), found
    assert (fresh_clone.folder / TAPE).read_bytes() == tape


def test_a_failing_cell_is_named_with_its_source_and_the_way_to_run_it_again(fresh_clone):
    cell(lambda cells: cells[3].update(source="ratio = 1 / 0"))(fresh_clone.folder)
    found = fresh_clone.run("workbench", "run", NOTEBOOK, code=3)
    assert re.search(r"cell 4: ZeroDivisionError: .*ratio = 1 / 0", found, flags=re.DOTALL), found
    assert f"-> workbench run {NOTEBOOK}" in found and "Traceback" not in found


def test_a_kernel_killed_for_memory_is_said_and_answers_are_kept(fresh_clone):
    cell(lambda cells: cells[3].update(source="import os, signal; os.kill(os.getpid(), signal.SIGKILL)"))(
        fresh_clone.folder
    )
    found = fresh_clone.run("workbench", "run", NOTEBOOK, code=3)
    assert "the kernel died" in found and "workbench run" in found and "Traceback" not in found


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (("report", "anwsers"), 2, "nearest: 'answers'"),
        (("gate", "answers/candidate"), 2, "there is no run"),
        (("run", "notebooks/none.ipynb"), 2, "there is no file"),
        (("run", NOTEBOOK, "-p", "corpus"), 2, "is not NAME=VALUE"),
        (("run", NOTEBOOK, "-p", "corpsu=x"), 2, "nearest: 'corpus'"),
        (("frobnicate",), 2, "No such command"),
    ],
)
def test_the_command_line_answers_with_the_next_command(fresh_clone, command, code, said):
    found = fresh_clone.run("workbench", *command, code=code)
    assert said in found and "Traceback" not in found


def test_a_replay_miss_after_one_changed_character_shows_where(fresh_clone):
    code = """
import workbench as wb
from workbench.context import Occurrence, occurring

ws = wb.connect("answers", mode="replay")
case = next(iter(ws.cases()))
mine = ws.bind(tenant=case.tenant)
mine.memory().add(wb.load("data/handbook"))
hits = mine.memory().search(case.inputs["question"], k=5)
question = case.inputs["question"].replace("What", "Whot")
with occurring(Occurrence(case=case.id)):
    mine.model().chat(mine.prompt().render(question=question, passages=hits[:1]))
"""
    found = fresh_clone.run("python", "-c", code, code=1)
    for said in (
        "ReplayMissError",
        "nearest recording",
        "messages[1].content",
        "Whot is",
        "What is",
        "dvc repro",
    ):
        assert said in found, found
