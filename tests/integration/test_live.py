"""The recordings are real: asked again, the embedded model gives the same answers, also on one core."""

from __future__ import annotations

import dataclasses
import json
import sys

import polars as pl
import pytest
import sizes
from clone_edits import replaced

from workbench import layout
from workbench.records.keys import Entry
from workbench.records.tape import Tape, compare_answers, write

pytest_plugins = ("promoted_clones",)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
#: By the verb and by the command; tests/unit/test_asking_again.py has both without the model.
OTHERWISE = pytest.mark.drawn("answers that are otherwise", 1)
JUDGE_TAPE = "pipelines/tapes/answers.judge.jsonl"
TAPES = (JUDGE_TAPE, "pipelines/tapes/answers.jsonl")
AGAIN = f"""
import json, sys
from pathlib import Path
from workbench import config
from workbench.pipeline.repro import ask_again
root = Path()
case = config.load_params(root).use_cases["answers"]
asked = ask_again(root, "answers", case, sample={sizes.QUESTIONS})
differences = [[d.case, d.differs, d.now] for d in asked.differences]
print("ASKED", json.dumps([asked.asked, asked.identical, asked.same_processor, differences, asked.refused]))
"""


def kept(clone) -> dict[str, pl.DataFrame]:
    """Every answer of the last explored run, by arm."""
    (folder,) = (clone.folder / ".workbench/cache/runs").iterdir()
    return {path.stem: pl.read_parquet(path).drop("latency_s") for path in folder.glob("*.parquet")}


def asked(clone, *before: str) -> list:
    output = clone.run(*before, sys.executable, "-c", AGAIN, network=False)
    return json.loads(output.rsplit("ASKED", 1)[1])


@pytest.mark.drawn("answers of the model that are the same again", 1)
def test_two_passes_over_a_seeded_sample_agree_one_of_them_on_one_core(fresh_clone):
    everywhere = asked(fresh_clone)
    (fresh_clone.folder / layout.CONFIRMED).unlink()  # or the second pass would ask other questions
    one_core = asked(fresh_clone, "taskset", "-c", "0")
    assert everywhere == one_core
    number, identical, same_processor, differences, refused = everywhere
    assert (number, refused) == (sizes.QUESTIONS, "")
    if same_processor:
        assert identical == sizes.QUESTIONS, differences
    else:
        print("recorded on another type of processor; differences:", differences)


@pytest.mark.drawn("documents of others", 1)
def test_the_notebook_runs_on_real_text(fresh_clone):
    questions = fresh_clone.folder / "data/python-reference/questions.jsonl"
    lines = questions.read_text().splitlines(keepends=True)[: sizes.QUESTIONS]
    questions.write_text("".join(lines))
    before = fresh_clone.status()
    command = ("workbench", "run", "notebooks/answers.ipynb", "-p", "corpus=python-reference", "--json")
    output = fresh_clone.run(*command, network=False)
    runs, answers = json.loads(output[output.index("{\n") :])["runs"], kept(fresh_clone)
    assert set(runs) == set(answers) == {"closed_book", "candidate"}
    for rows in answers.values():
        assert rows.height == sizes.QUESTIONS and rows["output"].null_count() == 0
    accuracy, recall = (runs["candidate"]["metrics"][name] for name in ("accuracy", "recall_at_5"))
    assert accuracy["n"] == recall["n"] == sizes.QUESTIONS
    for metric in (accuracy, recall):
        assert metric["interval"]["low"] <= metric["value"] <= metric["interval"]["high"]
    assert fresh_clone.status() == before


@OTHERWISE
def test_a_different_answer_is_reported_and_recorded_only_when_told(fresh_clone):
    code = """
import dataclasses, json
from pathlib import Path
from workbench import config, layout
from workbench.workspace.boundary import open_tape
from workbench.records.tape import compare_answers, write
from workbench.pipeline.repro import ask_again

root = Path()
case = config.load_params(root).use_cases["answers"]
path = root / layout.judge_tape_of("answers")
(root / layout.tape_of("answers")).write_bytes(b"")
first, second = list(open_tape(path).entries())[:2]
event = json.loads(json.dumps(second.result["events"][0]))
event["choices"][0]["message"]["content"] = "Something else."
altered = dataclasses.replace(second, result={"events": [event]})
write(path, [first.line(), altered.line()])
before = path.read_bytes()
asked = ask_again(root, "answers", case)
assert (asked.asked, asked.identical, path.read_bytes()) == (2, 1, before), asked
(difference,) = asked.differences
assert difference.differs == ("text",) and difference.recorded == "Something else.", difference
assert json.loads((root / ".workbench/live/answers.json").read_bytes())["identical"] == 1
assert "1 of 2 answers asked again are identical" in str(asked) and "Something else." in str(asked)
ask_again(root, "answers", case, record=True)
now = list(open_tape(path).entries())
assert now[0] == first and compare_answers(second, now[1].events()) == []
"""
    fresh_clone.run(sys.executable, "-c", code, network=False)


def bytes_of(clone) -> dict[str, bytes]:
    """What asking again must leave alone: the tapes, and whatever the pipeline wrote."""
    paths = [clone.folder / name for name in (*TAPES, "dvc.lock")]
    paths += [p for folder in ("results", "reports") for p in (clone.folder / folder).rglob("*")]
    return {str(path): path.read_bytes() for path in paths if path.is_file()}


def lines_of(clone) -> dict[str, bytes]:
    tapes = [Tape.read(clone.folder / name) for name in TAPES]
    return {entry.key: tape.line(entry.key) for tape in tapes for entry in tape.entries()}


def reported(clone, *, asked: int) -> tuple[set[str], bool]:
    """The keys of the answers that came back otherwise, and whether they may on this processor."""
    report = json.loads((clone.folder / ".workbench/live/answers.json").read_bytes())
    differ = {one["key"] for one in report["differences"]}
    assert report["recorded"] == report["asked"] == asked == report["identical"] + len(differ)
    return differ, not report["same_processor"]


def with_two_cases(clone) -> None:
    """Leave one question of each tenant and a gate for that many, because each is asked twice."""
    questions = clone.folder / "data/handbook/questions.jsonl"
    lines = questions.read_text().splitlines(keepends=True)
    questions.write_text("".join(line for line in lines if '-001"' in line))
    replaced(clone, "params.yaml", "accuracy: {min: 0.4}, ", "")
    replaced(clone, "params.yaml", "cases: {min: 6}", "cases: {min: 2}")


@OTHERWISE
def test_live_asks_all_again_and_changes_nothing_unless_told_to_record(reproduced_clone):
    clone, tape = reproduced_clone, reproduced_clone.folder / JUDGE_TAPE
    entries = list(Tape.read(tape).entries())
    first = next(entry for entry in entries if entry.question.case == "acme-001")
    event = json.loads(json.dumps(first.result["events"][0]))
    event["choices"][0]["message"]["content"] = "Something else."
    altered = dataclasses.replace(first, result={"events": [event]})
    write(tape, [(altered if entry is first else entry).line() for entry in entries])
    with_two_cases(clone)
    said = clone.run("workbench", "repro", "--live", network=False)
    before, recorded = bytes_of(clone), lines_of(clone)
    assert len(recorded) == 5  # two cases in two arms, and the cell that looks at one of them
    assert recorded[first.key] == altered.line()
    differ, may_differ = reported(clone, asked=len(recorded))
    assert differ == {first.key} or (may_differ and first.key in differ), said
    assert f"{len(recorded) - len(differ)} of {len(recorded)} answers asked again are identical" in said
    assert "'Something else.' ->" in said

    alone = clone.run("workbench", "repro", "--record", network=False, code=2)
    assert "-> make repro LIVE=1 RECORD=1" in alone and bytes_of(clone) == before
    again = clone.run("make", "repro", "LIVE=1", "RECORD=1", network=False)
    assert "Running stage" not in again, "what the pipeline read and wrote was as it had left it"
    now = lines_of(clone)
    assert now.keys() == recorded.keys() and {key for key in now if now[key] != recorded[key]} == differ
    assert may_differ or not compare_answers(first, Entry.parse(Tape.read(tape).line(first.key)).events())
