"""Labels of a blind review decide a gate: a person reviews the judged run, and a line demands it."""

from __future__ import annotations

import contextlib
import json
import re

import pytest
from judged_small import RESULTS, judged, unconfined
from reviewed_runs import decide, run_of
from small_use_case import QUESTIONS, small_repository

import workbench as wb
from workbench import config
from workbench.diagnostics.check import check_all
from workbench.errors import ConfigError, NotFoundError, WorkbenchError
from workbench.experiments.runs import save_runs
from workbench.pipeline import settings, stages
from workbench.promotion.judgement import judged as gate_of_run

FILE = "pipelines/reviews/small/candidate-few_shot.jsonl"
#: A task that asks no model: its answers are the same each time.
TASK = '''import workbench as wb

ws = wb.connect("small")


@wb.task
def answer(ws, case: wb.Question) -> dict:
    """Return what a rule says, with a key that is a method of mappings."""
    return {"text": f"The rule of {case.question}", "items": [1, 0.5], "sources": []}
'''
pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A small repository with a judged run of its rule, and another arm."""
    root = small_repository(tmp_path_factory.mktemp("human") / "small")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for stage in ("settings", "prepare", "remember"):
            assert stages.main([stage, "small"]) == 0
        judged(root, task=TASK)
        with contextlib.closing(wb.connect("small")) as ws:
            cases = ws.cases()
        outputs = [f"another answer to {case.id}" for case in cases]
        save_runs([run_of("few_shot", cases, outputs, use_case="small")], root / RESULTS.runs)
        yield root


def stated(root, bound):
    """State the labels as a scorer, and a gate line on it."""
    path = root / "params.yaml"
    text = path.read_text().replace(
        "    gates:\n",
        f"    scorers:\n      accuracy: contains\n      human: {{human: {{labels: {FILE}}}}}\n    gates:\n",
    )
    path.write_text(text.replace("{accuracy: {min: 0.05}", f"{{human: {{min: {bound}}}"))


def report(root):
    case = config.use_case(config.load_params(root), "small")
    run = wb.connect("small").review("small/candidate", "small/few_shot").runs.run
    return gate_of_run(root, "small", case, run, results=RESULTS)


def test_a_review_of_the_judged_run_decides_a_line_of_its_gate(root):
    review = wb.connect("small").review("small/candidate", "small/few_shot")
    assert len(review) == len(QUESTIONS)
    for _ in range(3):
        decide(review, "candidate")
    stated(root, 0.3)
    assert check_all(root).passed, str(check_all(root))
    run = judged(root, task=TASK)
    assert run.cases["score.human"].drop_nulls().to_list() == [1.0, 1.0, 1.0]
    assert run.n_unscored == 0  # a case without a label has no score of this name alone

    found = report(root)
    (line,) = [line for line in found.lines if line.metric == "human"]
    assert found.stated_before and (line.value, line.n, line.verdict) == (1.0, 3, "pass")
    assert "1 of 4 cases without a value" in line.note

    # Another label is another gate: the judged run did not know it.
    before = settings.labels_of_stage(root, "judge", config.use_case(config.load_params(root), "small"))
    decide(review, "few_shot")
    assert not report(root).stated_before
    case = config.use_case(config.load_params(root), "small")
    after = settings.labels_of_stage(root, "judge", case)
    assert list(before) == list(after) == [FILE] and before != after
    assert settings.labels_of_stage(root, "remember", case) == {}
    assert judged(root, task=TASK).metric("human").value == 0.75 and report(root).stated_before

    # Labels are of answers, not of names of arms: other answers of the same arm have none.
    other = judged(root, task=TASK.replace("The rule", "Another rule"))
    assert other.cases["score.human"].is_null().all()


def test_a_run_that_is_gone_or_of_another_use_case_is_named(root):
    ws = wb.connect("small")
    with pytest.raises(NotFoundError, match="there is no run 'small/few_shots'"):
        ws.review("small/candidate", "small/few_shots")
    foreign = run_of("few_shot", ws.cases(), ["a", "b", "c", "d"], use_case="answers")
    with pytest.raises(ConfigError, match="of the use case 'answers'"):
        ws.review("small/candidate", foreign)
    with pytest.raises(ConfigError, match="takes runs, found dict"):
        ws.review({}, foreign)


def test_wb_review_finds_the_use_case_of_its_runs(root):
    runs = wb.connect("small").review("small/candidate", "small/few_shot", name="second").runs
    review = wb.review(runs.run, runs.other, k=2, seed=3, name="second")
    assert len(review) == 2 and review.seed == 3 and json.dumps(review.to_json())
    assert review.file.relative.as_posix() == "pipelines/reviews/small/second.jsonl"


@pytest.mark.parametrize("confined", [True, False])
def test_the_frozen_notebook_may_not_read_the_labels(root, confined):
    task = TASK.replace('    """Return what', f'    open("../{FILE}").read()\n    """Return what')
    told = "candidate-few_shot.jsonl" if confined else f"the judged notebook opened {FILE}, where expected"
    with pytest.raises(WorkbenchError, match=re.escape(told)):
        judged(root if confined else unconfined(root), task=task)
