"""Use cases without memory and prompt: every stage, the page, rules and a promotion, on a test's endpoint."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path

import polars as pl
import pytest
import yaml
from dvc_commands import committed, dvc, with_environment
from endpoint import endpoint, speaking
from optional_use_cases import KINDS, add, answered, plain_repository
from small_use_case import small_repository, with_pipeline

from workbench import config, files, layout
from workbench.diagnostics.check import check_all
from workbench.jobs import run as jobs
from workbench.jobs import spec as jobspec
from workbench.jobs.ready import reproduce
from workbench.jobs.slots import RunRequest
from workbench.layout import Results
from workbench.memory.snapshot import read_manifest
from workbench.pipeline import stages
from workbench.pipeline.repro import ask_again
from workbench.promotion.freezing import judged_run
from workbench.promotion.promote import ReleaseOptions, promote
from workbench.testing.fakes import FakeModel
from workbench.workspace import connection, quality

STAGES = ("settings", "prepare", "remember", "judge", "experiment", "gate", "plots", "report")
pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def served():
    """An endpoint that answers every task, and what it was asked."""
    model = FakeModel(answered)
    with endpoint(speaking(model)) as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", "k-123")
        yield url, model


@pytest.fixture
def repository(tmp_path, monkeypatch, served):
    """Make a repository of one kind of use case, and stand in it."""

    def make(kind: str) -> Path:
        root = plain_repository(tmp_path / kind, kind, endpoint=served[0])
        monkeypatch.chdir(root)
        return root

    return make


SCORES = {
    "classify": {"accuracy": 1.0},
    "extract": {"amount": 1.0, "due": 2 / 3},
    "write": {"polite": 1.0},
}


@pytest.mark.drawn("kinds of use cases without memory", 1)
@pytest.mark.parametrize("kind", KINDS)
def test_every_stage_of_a_use_case_without_memory_and_prompt_runs_and_the_page_has_no_empty_table(
    repository, kind
):
    root = repository(kind)
    found = check_all(root)
    assert found.passed, str(found)
    for stage in STAGES:
        assert stages.main([stage, kind]) == 0, stage
    case = config.use_case(config.load_params(root), kind)
    run = judged_run(root, kind, case)
    assert {name: run.metric(name).value for name in run.score_names} == pytest.approx(SCORES[kind])
    assert not {"prompt", "memory", "prompt_digest", "memory_digest"} & run.settings.keys()
    manifest = read_manifest(root / Results(use_case=kind).memory)
    assert (manifest.memory, manifest.tenants) == ("", {})
    page = (root / f"reports/{kind}.md").read_text()
    assert "params.yaml names no memory and no prompt for this use case" in page
    assert "passages |" not in page and "snapshot" not in page and "| prompt |" not in page
    html = (root / f"reports/{kind}.html").read_text()
    assert (
        "names no memory and no prompt" in html and "passages" not in html and "<tbody></tbody>" not in html
    )
    assert files.parse_json((root / f"results/{kind}/plots/recall.json").read_text(), where="r") == []
    with contextlib.closing(connection.connect(kind, root=root)) as ws:
        assert len(ws.cases()) == len(KINDS[kind].rows)
    again = ask_again(root, kind, case, sample=None)
    assert again.asked == again.identical == again.judged == len(KINDS[kind].rows)


RULES = """\
columns:
  text: {required: true, length: {min: 3, max: 200}}
  label: {type: category, required: true, allowed: [billing, hardware]}
anomalies:
  encoding: {columns: [text]}
cleaning: {steps: [trim]}
"""
BROKEN = [
    {"id": "b1", "tenant": "acme", "text": "Of no label.", "label": "biling"},
    {"id": "b2", "tenant": "acme", "text": "Die KÃ¼che.", "label": "billing"},
]


def with_rules(root: Path) -> None:
    """Give the use case classify rules, and broken rows beside its three good ones."""
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["use_cases"]["classify"]["quality"] = "pipelines/quality/classify.yaml"
    params["jobs"]["classify"]["limits"] = {"seconds": 300, "broken": 0.7}
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    files.write_atomic(root / "pipelines/quality/classify.yaml", RULES.encode())
    with (root / "data/classify/cases.jsonl").open("a") as cases:
        cases.writelines(json.dumps(row) + "\n" for row in BROKEN)


def check_a_comment_in_the_rules(root: Path, rules: Path) -> None:
    """It reruns the stage prepare, and changes its report alone: no case that is judged."""
    prepared = root / "results/classify/prepared"
    before = {path.name: path.read_bytes() for path in prepared.iterdir()}
    rules.write_text(f"# Reviewed.\n{RULES}")
    assert "pipelines/quality" in dvc(root, "status", "prepare@classify")
    shutil.rmtree(prepared)
    assert stages.main(["prepare", "classify"]) == 0
    now = {path.name: path.read_bytes() for path in prepared.iterdir()}
    assert before.keys() == now.keys()
    assert {name for name, data in now.items() if data != before[name]} == {quality.REPORT}
    rules.write_text(RULES)
    (prepared / quality.REPORT).write_bytes(before[quality.REPORT])


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_use_case_with_rules_and_without_memory_is_added_beside_another_promoted_and_run(
    tmp_path, monkeypatch, served
):
    """Through DVC: what reruns of it, and that its rules decide on its cases and on the input of its job."""
    url, model = served
    root = with_pipeline(small_repository(tmp_path / "both", endpoint=url))
    monkeypatch.chdir(root)
    dvc(root, "repro", "remember@small")
    add(root, "classify", endpoint=url)
    with_rules(root)
    committed(root)
    status = dvc(root, "status", "settings@small", "remember@small")
    assert "remember@small" not in status and "modified:           params.yaml" in status
    said = dvc(root, "repro", "gate@classify")  # as far as a promotion asks for
    assert "Running stage 'judge@classify'" in said
    assert len(model.calls) == 3 and (root / layout.judge_tape_of("classify")).is_file()
    kept = quality.written(root / "results/classify/prepared")  # tests/unit/data has the page of it
    assert (kept.kept, kept.rows) == (3, 5)

    # A prompt of the other use case reruns the stage settings of both, and nothing else of this one.
    prompt = root / "pipelines/prompts/brief/asset.yaml"
    prompt.write_text(prompt.read_text().replace('"small"', '"another reason"'))
    again = dvc(root, "repro", "gate@classify")
    assert "Running stage 'settings@classify'" in again and again.count("Running stage") == 1

    rules = root / "pipelines/quality/classify.yaml"
    check_a_comment_in_the_rules(root, rules)

    committed(root)
    with_environment(root)
    monkeypatch.setattr("workbench.promotion.promote._reproduce", lambda root, *, show: None)
    card = promote(root, "job/classify", ReleaseOptions(show=False))
    spec, folder = jobspec.load(root, "classify", card.version)
    assert spec.pins == {"model": "smollm2-135m@1"} and ("snapshot", "", "none") in card.rows
    assert spec.digests["memory"] == read_manifest(root / "results/classify/memory").logical_digest
    assert not (folder / "prompts").exists() and len(model.calls) == 3
    assert (folder / "quality/classify.yaml").read_bytes() == rules.read_bytes()
    assert spec.code[layout.QUALITY] and "quality/classify.yaml" in spec.files

    # Later rules do not change the version: it reads those of its own commit.
    rules.write_text(RULES.replace("max: 200", "max: 4"))
    today = [
        {"id": f"t{n}", "tenant": "acme", "text": text}
        for n, text in enumerate([" The bill. ", "Die KÃ¼che.", ""])
    ]
    (root / "data/classify/today.jsonl").write_text("".join(json.dumps(row) + "\n" for row in today))
    committed(root)
    result = jobs.run(root, RunRequest(reference="classify", input="data/classify/today.jsonl", show=False))
    assert result.outcome == "published" and result.manifest.settings == spec.pins
    aside = pl.read_parquet(root / result.folder / "quarantine.parquet")
    reasons = dict(zip(aside["id"], aside["reason"], strict=True))
    assert reasons.keys() == {"t1", "t2"}
    assert reasons["t1"].startswith("text: encoding") and reasons["t2"].startswith("text: required")
    assert pl.read_parquet(root / result.folder / "answers.acme.parquet")["id"].to_list() == ["t0"]
    shutil.rmtree(root / ".workbench/cache/memories")
    reproduce(root, "classify", card.version, tmp_path / "sample")
