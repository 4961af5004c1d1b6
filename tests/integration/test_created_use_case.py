"""A use case that `workbench init` creates, run through all stages on an endpoint that answers at once."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from endpoint import endpoint, speaking
from small_use_case import small_repository

from workbench import config
from workbench.diagnostics.check import check_all
from workbench.pipeline import stages
from workbench.pipeline.explore import find, judged
from workbench.scaffold.init import init
from workbench.scaffold.order import InitOrder
from workbench.testing.fakes import FakeModel

pytestmark = pytest.mark.timeout(180)
STAGES = ("settings", "prepare", "remember", "judge", "experiment", "gate", "plots", "report")


def passage(payload) -> str:
    """The passage it was shown, as an answer."""
    return payload["messages"][-1]["content"].split("Question:")[0].strip()


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A small repository on an endpoint, and its documents and questions elsewhere."""
    with endpoint(speaking(FakeModel(passage))) as url:
        folder = small_repository(tmp_path / "small")
        shutil.copytree(folder / "data/small/acme", tmp_path / "docs/acme")
        shutil.copy(folder / "data/small/questions.jsonl", tmp_path / "questions.jsonl")
        monkeypatch.chdir(folder)
        monkeypatch.setenv("OPENAI_API_KEY", "k-123")
        monkeypatch.setenv("ENDPOINT", url)
        yield folder


def on_endpoint(root: Path, url: str) -> None:
    """Send the model's calls to the endpoint."""
    params = root / "params.yaml"
    text = params.read_text()
    before = "    # provider: openai\n    # base_url: https://api.openai.com/v1\n"
    assert before in text
    params.write_text(text.replace(before, f"    provider: openai\n    base_url: {url}\n"))


def run(name: str) -> None:
    for stage in STAGES:
        assert stages.main([stage, name]) == 0, stage


def test_documents_and_questions_come_to_a_verdict_through_all_stages(root, tmp_path):
    order = InitOrder(name="claims", docs=tmp_path / "docs", questions=tmp_path / "questions.jsonl")
    init(root, order)
    assert check_all(root).passed
    on_endpoint(root, os.environ["ENDPOINT"])
    run("claims")
    case = config.load_params(root).use_cases["claims"]
    run_of = find(root, f"claims/{case.candidate}")
    assert len(run_of.cases) == 4
    verdict = judged(root, run_of)
    assert verdict.verdict in {"pass", "undecided"}
    page = (root / f"{case.report}.md").read_text()
    assert "Answers from claims" in page and "closed_book" in page
