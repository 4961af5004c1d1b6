"""A use case that `workbench init` creates, run through all stages on an endpoint that answers at once."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from endpoint import endpoint, speaking
from small_use_case import small_repository

from workbench import config
from workbench.diagnostics.check import check_all
from workbench.experiments.gates import GateReport
from workbench.experiments.runs import Run
from workbench.pipeline import stages
from workbench.pipeline.explore import find, judged
from workbench.scaffold.init import init
from workbench.scaffold.order import InitOrder
from workbench.testing.fakes import FakeModel

#: tests/unit/scaffold has what each kind of use case is made of.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(180), pytest.mark.drawn("kinds of created use cases", 2)]
STAGES = ("settings", "prepare", "remember", "judge", "experiment", "gate", "plots", "report")


def spoken(payload) -> str:
    """The passage it was shown, the label of the nearest example, a record, or a few words."""
    turns = [turn["content"] for turn in payload["messages"]]
    if "grammar" in payload:
        return turns[-2] if len(turns) > 2 else "billing"
    if "response_format" in payload:
        total = turns[-1].rpartition(" ")[2].rstrip(".")
        return json.dumps({"name": turns[-1].split()[0], "total": total})
    return turns[-1].split("Question:")[0].strip()


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A small repository on an endpoint, and its documents and questions elsewhere."""
    with endpoint(speaking(FakeModel(spoken))) as url:
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
    start, model, rest = params.read_text().rpartition("    model: smollm2-135m\n")
    assert model
    params.write_text(f"{start}{model}    provider: openai\n    base_url: {url}\n{rest}")


def run(name: str) -> None:
    for stage in STAGES:
        assert stages.main([stage, name]) == 0, stage


def verdict(root: Path, order: InitOrder) -> tuple[GateReport, Run, str]:
    """The verdict on the judged run of a created use case, the run, and its readiness page."""
    init(root, order)
    found = check_all(root)
    assert found.passed, str(found)
    on_endpoint(root, os.environ["ENDPOINT"])
    run(order.name)
    case = config.load_params(root).use_cases[order.name]
    judged_run = find(root, f"{order.name}/{case.candidate}")
    return judged(root, judged_run), judged_run, (root / f"{case.report}.md").read_text()


def table(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_documents_and_questions_come_to_a_verdict_through_all_stages(root, tmp_path):
    order = InitOrder(name="claims", docs=tmp_path / "docs", questions=tmp_path / "questions.jsonl")
    report, judged_run, page = verdict(root, order)
    assert len(judged_run.cases) == 4 and report.verdict in {"pass", "undecided"}
    assert judged_run.metric("recall_at_5").value == 1
    assert "Answers from claims" in page and "closed_book" in page


def test_questions_without_a_page_come_to_a_verdict_without_recall(root, tmp_path):
    asked = table(tmp_path / "asked.csv", "question,answer", "When?,ten at night", "Which bird?,a heron")
    order = InitOrder(name="birds", docs=tmp_path / "docs/acme", questions=asked, tenant="acme")
    report, judged_run, page = verdict(root, order)
    assert judged_run.metric("accuracy").value in {0, 0.5} and report.verdict != "pass"
    assert "recall_at_5" not in page and "wrong_passage" in page


def test_texts_are_classified_with_solved_examples_and_by_a_vote(root, tmp_path):
    solved = table(
        tmp_path / "solved.csv", "text,label", "my bill is too high,billing", "the bill came twice,billing",
        "the frame is broken,damage", "a wheel is broken,damage",
    )  # fmt: skip
    cases = table(
        tmp_path / "cases.csv", "text;label", "a bill I do not know;billing", "a broken bell;damage",
        "my bill;billing", "broken again;damage",
    )  # fmt: skip
    order = InitOrder(name="mail", kind="classify", docs=solved, questions=cases)
    report, judged_run, page = verdict(root, order)
    assert judged_run.metric("accuracy").value >= 0.75 and judged_run.n_unscored == 0
    assert all(arm in page for arm in ("zero_shot", "vote")) and report.verdict != "fail"


def test_fields_are_extracted_into_a_record(root, tmp_path):
    cases = table(
        tmp_path / "bills.csv",
        "text,Name,total",
        "Ann owes 12.,Ann,12",
        "Bob owes 7.,Bob,7",
        "Cy owes 3.,Cy,4",
    )
    report, judged_run, page = verdict(root, InitOrder(name="bills", kind="extract", questions=cases))
    assert judged_run.metric("fields").value == pytest.approx(5 / 6) and judged_run.n_unscored == 0
    assert "fields" in page
    assert report.verdict in {"pass", "undecided"}


def test_texts_are_written_without_accepted_answers(root, tmp_path):
    asks = table(
        tmp_path / "asks.csv", "request,text", "1,Thank Ann for her help with the move", "2,Say hello"
    )
    report, judged_run, page = verdict(root, InitOrder(name="notes", kind="write", questions=asks))
    assert judged_run.metric("length").value == pytest.approx(0.5) and "length" in page
    assert report.verdict != "pass"
