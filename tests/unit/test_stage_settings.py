from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from workbench import config
from workbench.config import UseCase
from workbench.pipeline.plots import numbers
from workbench.pipeline.settings import READ, UNREAD, of_stage

ROOT = Path(__file__).parents[2]
KEYS = {field.name for field in dataclasses.fields(UseCase)}


@pytest.fixture
def case():
    return config.load_params(ROOT).use_cases["answers"]


def test_every_key_that_a_stage_names_is_a_key_of_a_use_case():
    assert set().union(*READ.values(), UNREAD) == KEYS
    assert not READ["experiment"] & UNREAD


def test_an_optional_key_that_params_yaml_leaves_out_has_its_default(case):
    assert of_stage("experiment", case, "")["clearance"] == 0
    assert of_stage("experiment", case, "")["provider"] is None


@pytest.mark.parametrize("stage", READ)
def test_a_key_changes_the_settings_of_the_stages_that_name_it_alone(case, stage):
    before = of_stage(stage, case, "")
    for key in KEYS - {"gates", "phase"}:
        changed = of_stage(stage, dataclasses.replace(case, **{key: "other"}), "")
        assert (changed != before) == (key in READ[stage]), key


def test_only_the_report_sees_the_gate_of_another_phase(case):
    other = dataclasses.replace(case, gates={**case.gates, "mlvp": {"accuracy": {"min": 0.99}}})
    active = dataclasses.replace(case, gates={**case.gates, "mvp": {"accuracy": {"min": 0.99}}})

    def differ(changed):
        return {stage for stage in READ if of_stage(stage, changed, "") != of_stage(stage, case, "")}

    assert differ(other) == {"report"}
    assert differ(active) == {"experiment", "gate", "judge", "plots", "report"}


def test_dataset_and_scorers_rerun_the_judge_and_not_the_experiment(case):
    for changed in ({"dataset": "data/x.jsonl"}, {"scorers": {"accuracy": "exact"}}):
        other = dataclasses.replace(case, **changed)
        differ = {stage for stage in READ if of_stage(stage, other, "") != of_stage(stage, case, "")}
        assert {"judge", "gate", "report"} <= differ and "experiment" not in differ


def test_a_key_that_the_notebook_reads_counts_for_the_experiment(case):
    source = (ROOT / "notebooks/answers.ipynb").read_text()
    assert of_stage("experiment", case, source)["seed"] == case.seed
    assert "title" not in of_stage("experiment", case, source)
    assert of_stage("experiment", case, 'ws.use_case.title + "!"')["title"] == case.title
    assert "title" not in of_stage("gate", case, "ws.use_case.title")


def test_the_numbers_are_the_gate_s_and_a_comparison_has_its_own_name():
    from made_runs import a_run, of

    from workbench.experiments.gates import GateSpec, judge

    spec = GateSpec.parse(
        {
            "accuracy": {"min": 0.5, "versus": "production", "margin": 0.05},
            "cost_usd_per_case": {"max": 1.0},
            "cases": {"min": 10},
            "confidence": 0.9,
        },
        where="here",
    )
    run = a_run("candidate", accuracy=of(30, 40))
    report = judge(run, spec, phase="mvp", baseline=a_run("before", accuracy=of(20, 40)))
    found = numbers(report)
    assert (found["accuracy"], found["accuracy_versus_production"], found["cases"]) == (0.75, 0.25, 40.0)
    values = [line["value"] for line in report.to_json()["lines"] if line["value"] is not None]
    assert sorted(v for k, v in found.items() if k != "verdict") == sorted(values)
    assert found["verdict"] == report.verdict
