"""What depends on an asset of this repository, what a change reruns, and what it costs by the tapes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from workbench.cli.app import cli
from workbench.errors import ConfigError, NotFoundError
from workbench.pipeline.dependents import dependents

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def prompt():
    return dependents(ROOT, "prompt/answer@2")


def names(found, kind):
    return [item.name for item in found.found if item.kind == kind]


def test_a_prompt_has_the_use_case_its_gate_and_the_jobs_that_froze_it(prompt):
    assert names(prompt, "use case") == ["answers"]
    assert names(prompt, "gate") == ["answers mvp"]
    jobs = names(prompt, "job")
    live = yaml.safe_load((ROOT / "pipelines/jobs/answers/asset.yaml").read_text())["labels"]["production"]
    assert jobs[0] == f"answers@{live}" and len(jobs) == live  # each version froze answer@2
    assert "triage" not in str(prompt)


def test_the_calls_are_those_of_both_tapes_counted_by_other_code(prompt):
    calls = tokens = seconds = 0
    for tape in ("answers", "answers.judge"):
        for line in (ROOT / f"pipelines/tapes/{tape}.jsonl").read_text().splitlines()[1:]:
            entry = json.loads(line)
            usage = entry["result"]["events"][-1]["usage"]
            calls, tokens = calls + 1, tokens + usage["total_tokens"]
            seconds += entry["timing"]["latency_s"]
    rerun = prompt.reruns[0]
    assert (rerun.calls, rerun.input_tokens + rerun.output_tokens) == (calls, tokens)
    assert rerun.seconds == pytest.approx(seconds) and rerun.cost_usd == 0.0


def test_the_stages_are_those_that_dvc_reaches_by_their_results(prompt):
    """By the outs and deps of dvc.yaml alone, read here by a walk from results to readers."""
    blocks = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    outs = {
        stage: [next(iter(o)) if isinstance(o, dict) else o for kind in ("outs", "plots", "metrics")
                for o in block["do"].get(kind, [])]
        for stage, block in blocks.items()
    }  # fmt: skip
    reached, fresh = set(), {"prepare", "judge", "experiment", "report"}
    while fresh:
        reached |= fresh
        written = [path for stage in fresh for path in outs[stage]]
        fresh = {
            stage for stage, block in blocks.items()
            for dep in block["do"]["deps"] for path in written
            if dep == path or dep.startswith(f"{path}/")
        } - reached  # fmt: skip
    assert set(prompt.reruns[0].stages) == reached


def test_a_version_that_is_not_used_says_which_one_is():
    found = dependents(ROOT, "memory/handbook@1")
    assert "uses handbook@2; it would rerun with handbook@1" in str(found)
    assert not names(found, "job")


def test_a_chat_model_has_its_own_calls_and_an_embedding_model_those_of_its_memories():
    chat, embedding = dependents(ROOT, "model/smollm2-135m"), dependents(ROOT, "model/wordllama-256")
    assert names(embedding, "memory") == ["handbook@1", "handbook@2", "python-reference@1", "solved@1"]
    assert names(chat, "use case") == names(embedding, "use case") == ["answers", "triage"]
    assert [r.calls for r in chat.reruns] == [r.calls for r in embedding.reruns] and chat.reruns[
        1
    ].calls > 100
    assert "prepare" not in chat.reruns[0].stages


def test_a_job_has_its_label_stage_timer_and_the_gate_that_compares_with_it():
    found = dependents(ROOT, "job/answers")
    kinds = [item.kind for item in found.found]
    assert kinds == ["label", "stage", "use case", "timer", "gate"]
    assert "0 6 * * * UTC" in str(found) and names(found, "gate") == ["answers mlvp"]
    assert not found.reruns
    old = dependents(ROOT, "job/answers@1")
    assert "label" not in {item.kind for item in old.found}


@pytest.mark.parametrize("wrong", ["answer", "promt/answer", "/answer", "prompt", "use_case/answers"])
def test_what_is_no_asset_is_refused_with_the_form(wrong):
    with pytest.raises(ConfigError, match="KIND/NAME") as error:
        dependents(ROOT, wrong)
    assert "workbench impact prompt/NAME" in error.value.hint


def test_an_unknown_name_or_version_is_not_found():
    for wrong in ("prompt/answr", "prompt/answer@99"):
        with pytest.raises(NotFoundError, match="answer"):
            dependents(ROOT, wrong)


def test_the_command_says_it_as_json(prompt, monkeypatch):
    monkeypatch.chdir(ROOT)
    told = CliRunner().invoke(cli, ["impact", "prompt/answer@2", "--json"], catch_exceptions=False)
    assert json.loads(told.stdout) == json.loads(json.dumps(prompt.to_json()))
