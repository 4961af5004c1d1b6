"""What a gate says of a run in which every case is unscored."""

from __future__ import annotations

import dataclasses

from made_runs import a_run

from workbench.experiments.gates import GateSpec, judge


def judged(run, **lines):
    """The report on the run, had it been made under these lines."""
    gate = GateSpec.parse({**lines, "confidence": 0.9}, where="params.yaml: gates.mvp")
    return judge(dataclasses.replace(run, gate_digest=gate.digest), gate, phase="mvp")


def test_more_cases_decide_nothing_when_every_case_is_unscored():
    report = judged(a_run(accuracy=[None] * 10), accuracy={"min": 0.5}, cases={"min": 16})
    assert [(line.verdict, line.needed) for line in report.lines] == [("undecided", None)] * 2
    assert report.needed is None and report.all_unscored and "more cases)" not in str(report)
    assert "every case is unscored (10 InvalidOutputError)" in report.lines[1].note
    assert str(report).endswith("repair of what leaves every case unscored: 10 InvalidOutputError")


def test_a_failed_gate_of_unscored_cases_asks_for_a_repair_and_not_for_a_comparison():
    report = judged(a_run(accuracy=[None] * 10), accuracy={"min": 0.5}, unscored_rate={"max": 0.1})
    assert report.verdict == "fail" and "next: dvc repro   # after a repair" in str(report)
    partly = judged(a_run(accuracy=[None] * 9 + [1.0]), accuracy={"min": 0.5}, unscored_rate={"max": 0.1})
    assert partly.verdict == "fail" and "next: workbench compare" in str(partly)


def test_one_scored_case_is_enough_to_count_the_cases_that_are_missing():
    report = judged(a_run(accuracy=[None] * 9 + [1.0]), accuracy={"min": 0.5}, cases={"min": 16})
    assert report.lines[1].needed == 15 and not report.all_unscored
    assert "(15 more cases)" in str(report)
