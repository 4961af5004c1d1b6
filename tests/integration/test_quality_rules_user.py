"""Quality rules through DVC, every stage, a promotion and a job, on an endpoint of a test."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
import yaml
from dvc_commands import committed, dvc, with_environment
from endpoint import endpoint, speaking
from optional_use_cases import add, answered
from small_use_case import small_repository, with_pipeline

from workbench import files, layout
from workbench.jobs import run as jobs
from workbench.jobs import spec as jobspec
from workbench.jobs.slots import RunRequest
from workbench.promotion.promote import ReleaseOptions, promote
from workbench.testing.fakes import FakeModel

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


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_rules_decide_on_cases_and_on_the_input_of_a_promoted_job(tmp_path, monkeypatch):
    model = FakeModel(answered)
    monkeypatch.setenv("OPENAI_API_KEY", "k-123")
    with endpoint(speaking(model)) as url:
        root = with_pipeline(small_repository(tmp_path / "both", endpoint=url))
        monkeypatch.chdir(root)
        add(root, "classify", endpoint=url)
        with_rules(root)
        committed(root)
        dvc(root, "repro", "report@classify")
        assert len(model.calls) == 3
        page = (root / "reports/classify.md").read_text()
        assert (
            "3 of 5 rows of the dataset pass the rules" in page
            and "| label: allowed | quarantine | 1 |" in page
        )

        # A comment in the rules changes the report of the stage prepare alone; the judge replays its answers.
        rules = root / "pipelines/quality/classify.yaml"
        rules.write_text(f"# Reviewed.\n{RULES}")
        said = dvc(root, "repro", "judge@classify")  # as far as a promotion asks for
        assert "Running stage 'prepare@classify'" in said and len(model.calls) == 3

        committed(root)
        with_environment(root)
        monkeypatch.setattr("workbench.promotion.promote._reproduce", lambda root, *, show: None)
        card = promote(root, "job/classify", ReleaseOptions(show=False))
        spec, folder = jobspec.load(root, "classify", card.version)
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
        result = jobs.run(
            root, RunRequest(reference="classify", input="data/classify/today.jsonl", show=False)
        )
        assert result.outcome == "published"
        aside = pl.read_parquet(root / result.folder / "quarantine.parquet")
        reasons = dict(zip(aside["id"], aside["reason"], strict=True))
        assert reasons.keys() == {"t1", "t2"}
        assert reasons["t1"].startswith("text: encoding") and reasons["t2"].startswith("text: required")
        assert pl.read_parquet(root / result.folder / "answers.acme.parquet")["id"].to_list() == ["t0"]
