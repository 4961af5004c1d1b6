"""The shipped use case triage, reproduced from its tapes: memory helps, and the vote is an honest rival."""

from __future__ import annotations

from collections import Counter

import pytest

from workbench import config
from workbench.diagnostics.check import check_all
from workbench.experiments.compare import compare
from workbench.experiments.runs import load_runs
from workbench.layout import Results
from workbench.promotion.approach import measured
from workbench.promotion.judgement import prepared_cases

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
RESULTS = Results(use_case="triage")


@pytest.fixture(scope="module")
def root(shipped):
    return shipped.folder


@pytest.fixture(scope="module")
def judged(root):
    return load_runs(root / RESULTS.judged)[0]


@pytest.fixture(scope="module")
def arms(root):
    return {run.arm: run for run in load_runs(root / RESULTS.runs) if run.experiment == "triage"}


def accuracy(run):
    return run.metric("accuracy").value


def test_solved_tickets_in_memory_gain_significantly_over_none_and_over_one_flat_text(judged, arms):
    for arm, least in (("zero_shot", 0.3), ("flat_text", 0.1)):
        gain = compare(judged, arms[arm], metric="accuracy")
        assert gain.verdict == "better" and gain.lines[0].interval.low > least, arm
    assert judged.n_unscored == 0 and judged.n_cases == arms["vote"].n_cases


def test_the_vote_is_far_above_chance_and_the_tickets_are_not_solved_by_it(root, judged, arms):
    case = config.load_params(root).use_cases["triage"]
    labels = Counter(case.expected["label"] for case in prepared_cases(root, case, RESULTS))
    commonest = max(labels.values()) / labels.total()
    assert 2 * commonest < accuracy(arms["vote"]) < 0.9
    assert not arms["vote"].cases["calls"].sum(), "the vote asks no model"


def test_the_arm_of_the_candidates_name_answers_as_the_judged_run(judged, arms):
    assert judged.cases["output"].equals(arms["candidate"].cases["output"])


def test_the_page_says_which_approach_pays_for_itself_for_each_tenant_and_label(root, judged, arms):
    case = config.load_params(root).use_cases["triage"]
    found = measured(case, judged, list(arms.values()), prepared_cases(root, case, RESULTS))
    page = (root / f"{case.report}.md").read_text(encoding="utf-8")
    assert found.pays in {"costlier", "simpler", "undecided"} and f"\n{found.sentence}\n" in page
    names = [f"{part.by} {part.key}" for part in found.comparison.slices]
    assert len(names) == 2 + 6 and all(f"\n| {name} | " in page for name in names)
    assert not found.contradiction, "what ships is not contradicted by its own results"
    assert not [item for item in check_all(root).findings if item.what == "triage: approach"]


def test_the_gate_that_was_stated_beforehand_passes(root):
    import orjson

    report = orjson.loads((root / RESULTS.gate).read_bytes())
    assert report["verdict"] == "pass" and report["stated_before"]
