from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from workbench import config
from workbench.config import DatasetFile, UseCase
from workbench.config.data_classes import LEXICA
from workbench.moderation import topics
from workbench.pipeline.plots import numbers
from workbench.pipeline.settings import READ, UNREAD, of_stage, rules_of_stage
from workbench.policy import source as policies

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


GOVERNED = {"remember", "judge", "experiment", "plots"}


@pytest.fixture
def root(tmp_path):
    for name in ("params.yaml", "pipelines/policies"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile)(ROOT / name, tmp_path / name)
    return tmp_path


def rules(root):
    return {stage: rules_of_stage(root, stage, config.load_params(root)) for stage in READ}


def differing(root, change):
    before = rules(root)
    change()
    after = rules(root)
    return {stage for stage in READ if after[stage] != before[stage]}


def append(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text((path.read_text() if path.exists() else "") + text)


def test_a_policy_reruns_the_stages_whose_calls_it_decides(root):
    policy = root / "pipelines/policies/workbench.cedar"
    assert differing(root, lambda: append(policy, "\n// another word\n")) == GOVERNED
    assert differing(root, lambda: shutil.rmtree(root / "pipelines/policies")) == GOVERNED
    assert all(rules(root)[stage] == {} for stage in set(READ) - GOVERNED)


def test_the_classes_of_data_and_the_own_terms_rerun_the_stages_that_ask_models_and_the_report(root):
    asking, params, terms = (
        GOVERNED - {"remember"} | {"report"},
        root / "params.yaml",
        root / LEXICA / "terms.txt",
    )
    append(terms, "Heron\n")
    stated = "data_classes: {personal: {embedded: mask}}\n"
    assert differing(root, lambda: append(params, stated)) == asking
    assert differing(root, lambda: append(params, f"privacy: {{lexicon: {LEXICA}/terms.txt}}\n")) == asking
    assert differing(root, lambda: append(terms, "Goose\n")) == asking


def test_the_stage_that_writes_the_settings_reruns_when_anything_that_they_hold_changes():
    stages = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    deps = set(stages["settings"]["do"]["deps"])
    assert {"params.yaml", policies.FOLDER, topics.FOLDER, LEXICA} < deps


def test_dataset_and_scorers_rerun_the_judge_and_not_the_experiment(case):
    for changed in ({"dataset": "data/x.jsonl"}, {"scorers": {"accuracy": "exact"}}):
        other = dataclasses.replace(case, **changed)
        differ = {stage for stage in READ if of_stage(stage, other, "") != of_stage(stage, case, "")}
        assert {"judge", "gate", "report"} <= differ and "experiment" not in differ


def test_a_class_of_a_column_reruns_the_stages_that_answer_cases_and_none_changes_nothing(case):
    plain = dataclasses.replace(case, dataset=DatasetFile(file="data/x.jsonl"))
    classed = DatasetFile(file="data/x.jsonl", classes={"question": "personal"})
    other = dataclasses.replace(case, dataset=classed)
    differ = {stage for stage in READ if of_stage(stage, other, "") != of_stage(stage, plain, "")}
    assert differ == {"judge", "experiment", "report"}  # the report shows cases
    assert set(of_stage("judge", plain, "")["dataset"]) == {"file", "inputs", "expected"}
    assert "column_classes" not in of_stage("judge", plain, "")


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
