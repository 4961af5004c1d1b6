"""The recordings are real: asked again, the embedded model gives the same answers, also on one core."""

from __future__ import annotations

import json
import shutil
import sys

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
AGAIN = """
import json, sys
from pathlib import Path
from workbench import config
from workbench.reproduction import ask_again
root = Path()
case = config.load_params(root).use_cases["answers"]
asked = ask_again(root, "answers", case, sample=30)
differences = [[d.case, d.differs, d.now] for d in asked.differences]
print("ASKED", json.dumps([asked.asked, asked.identical, asked.same_processor, differences, asked.refused]))
"""


def asked(clone, *before: str) -> list:
    output = clone.run(*before, sys.executable, "-c", AGAIN, network=False)
    return json.loads(output.rsplit("ASKED", 1)[1])


def test_two_passes_over_a_seeded_thirty_agree_one_of_them_on_one_core(fresh_clone):
    everywhere = asked(fresh_clone)
    one_core = asked(fresh_clone, "taskset", "-c", "0")
    assert everywhere == one_core
    number, identical, same_processor, differences, refused = everywhere
    assert (number, refused) == (30, "")
    if same_processor:
        assert identical == 30, differences
    else:
        print("recorded on another type of processor; differences:", differences)


def test_the_notebook_runs_on_real_text_twice_with_the_same_answers(fresh_clone):
    command = ("workbench", "run", "notebooks/answers.ipynb", "-p", "corpus=python-reference", "--json")
    runs = []
    for _ in range(2):
        output = fresh_clone.run(*command, network=False)
        runs.append(json.loads(output[output.index("{\n") :])["runs"])
        shutil.rmtree(fresh_clone.folder / ".workbench")  # so that the second pass asks again
    assert {arm: run["id"] for arm, run in runs[0].items()}.keys() == {"closed_book", "candidate"}
    for arm in runs[0]:
        answers = [[row["output"] for row in run[arm]["answers"]] for run in runs]
        scores = [{k: v for k, v in run[arm]["metrics"].items() if "latency" not in k} for run in runs]
        assert answers[0] == answers[1] and scores[0] == scores[1]
    accuracy, recall = (runs[0]["candidate"]["metrics"][name] for name in ("accuracy", "recall_at_5"))
    assert accuracy["n"] == recall["n"] == 30
    for metric in (accuracy, recall):
        assert metric["interval"]["low"] <= metric["value"] <= metric["interval"]["high"]
    assert fresh_clone.status() == ""


def test_a_different_answer_is_reported_and_recorded_only_when_told(fresh_clone):
    code = """
import dataclasses, json
from pathlib import Path
from workbench import config
from workbench.boundary import open_tape
from workbench.controls.tape import compare_answers, write
from workbench.reproduction import ask_again

root = Path()
case = config.load_params(root).use_cases["answers"]
path = root / config.tape_of("answers")
three = list(open_tape(path).entries())[:3]
event = json.loads(json.dumps(three[1].result["events"][0]))
event["choices"][0]["message"]["content"] = "Something else."
altered = dataclasses.replace(three[1], result={"events": [event]})
write(path, [e.line() for e in (three[0], altered, three[2])])
before = path.read_bytes()
asked = ask_again(root, "answers", case)
assert (asked.asked, asked.identical, path.read_bytes()) == (3, 2, before), asked
(difference,) = asked.differences
assert difference.differs == ("text",) and difference.recorded == "Something else.", difference
assert json.loads((root / ".workbench/live/answers.json").read_bytes())["identical"] == 2
assert "2 of 3 answers asked again are identical" in str(asked) and "Something else." in str(asked)
ask_again(root, "answers", case, record=True)
now = list(open_tape(path).entries())
assert [compare_answers(old, new.events()) for old, new in zip(three, now)] == [[], [], []]
assert (now[0], now[2]) == (three[0], three[2])
"""
    fresh_clone.run(sys.executable, "-c", code, network=False)
