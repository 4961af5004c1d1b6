"""A planted bad slice, from params.yaml to the verdict, on an endpoint that answers at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from endpoint import endpoint, speaking
from small_use_case import QUESTIONS, small_repository

import workbench as wb
from workbench.diagnostics.check import check_all
from workbench.experiments.runs import load_runs
from workbench.layout import Results
from workbench.pipeline import stages
from workbench.pipeline.explore import compared, find, judged
from workbench.promotion.verdicts import read
from workbench.testing.fakes import FakeModel

RESULTS = Results(use_case="small")
DATASET = """\
    dataset: {file: data/small/questions.jsonl, expected: [answers, page, topic]}
    slices: [tenant, topic]
"""
GATES = "{accuracy: {min: 0.05, worst_slice: 0.5}"
#: The number of cases of each question; two of the four are about each topic.
COPIES = 12
pytestmark = pytest.mark.timeout(180)


def passage_but_no_hotel(payload) -> str:
    """The passage it was shown, but nothing that a question about a hotel accepts."""
    said = payload["messages"][-1]["content"]
    question = said.partition("Question:")[2]
    return "I do not know." if "hotel" in question or "breakfast" in question else said


def question_rows(copies: int = COPIES):
    made = {"synthetic": True, "generator": "tests", "generator_version": 1, "seed": 7}
    for n in range(copies):
        for name, page, question, answer in QUESTIONS:
            asked = {"question": f"{question} ({n})", "page": page, "answers": [answer], "topic": page}
            yield {"id": f"{name}-{n:02}", "tenant": "acme", **asked, **made}


def write_questions(root: Path, copies: int = COPIES) -> None:
    lines = [json.dumps(row) + "\n" for row in question_rows(copies)]
    (root / "data/small/questions.jsonl").write_text("".join(lines))


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A small repository whose model fails on one topic."""
    with endpoint(speaking(FakeModel(passage_but_no_hotel))) as url:
        folder = small_repository(tmp_path / "small", model="served/Some-7B", endpoint=url)
        params = folder / "params.yaml"
        text = params.read_text().replace("    gates:\n", DATASET + "    gates:\n")
        params.write_text(text.replace("{accuracy: {min: 0.05}", GATES))
        write_questions(folder)
        monkeypatch.chdir(folder)
        monkeypatch.setenv("OPENAI_API_KEY", "k-123")
        yield folder


def test_the_gate_fails_on_the_planted_slice_every_view_names_it_and_an_explored_run_cannot_pass(root):
    assert check_all(root).passed, str(check_all(root))
    for stage in ("prepare", "remember", "judge", "experiment", "gate", "report"):
        assert stages.main([stage, "small"]) == 0
    gate = json.loads((root / RESULTS.gate).read_bytes())
    (line,) = [line for line in gate["lines"] if line["rule"] == "worst slice >= 0.5"]
    assert (gate["verdict"], line["verdict"], line["value"], line["n"]) == ("fail", "fail", 0.0, 24)
    assert line["note"].startswith("topic=hotel of 3 slices")
    verdicts = {(item["by"], item["key"]): item["verdict"] for item in line["slices"]}
    assert verdicts[("topic", "hotel")] == "fail" and verdicts[("topic", "taxi")] == "pass"
    assert gate["synthetic"] == {
        "n": 48, "share": 1.0, "generators": [{"name": "tests", "version": 1, "seed": 7}]
    }  # fmt: skip
    assert json.loads((root / RESULTS.metrics).read_bytes())["accuracy_worst_slice"] == 0.0
    assert (root / "reports/small.md").read_text().count("topic=hotel") >= 2
    (kept,) = read(root, "small")
    assert kept.gate.rules[0].by == ("tenant", "topic") and kept.verdict == "fail"

    run = find(root, "small/candidate")
    report = judged(root, run)
    assert report.verdict == "fail" and "48 of 48 cases are synthetic (tests, version 1, seed 7)" in str(
        report
    )
    assert "topic=hotel" in str(report) and "topic=hotel" in report._repr_html_()
    found = compared(root, run, find(root, "small/plain"))
    assert "accuracy by topic, unadjusted: hotel +0" in str(found)

    (run,) = [run for run in load_runs(root / RESULTS.runs) if run.arm == "candidate"]
    report = wb.connect("small", root=root).gate(run)
    assert report.explored and report.verdict == "fail" and "topic=hotel" in str(report)
    assert "accuracy by topic, worst first: hotel 0 [" in str(report)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("[tenant, topic]", "[tenant, topc]", "'topc' is no column of a case (nearest: 'topic'"),
        ("[tenant, topic]", "[]", "there are no slices to judge"),
        ("worst_slice: 0.5", "worst_slice: 0.5, by: [label]", "'label' is not declared"),
        ("worst_slice: 0.5", "worst_slice: 0.95", "too few cases by topic: hotel 24, taxi 24"),
    ],
)
def test_check_refuses_slices_that_do_not_exist_or_can_never_be_decided(root, before, after, said):
    path = root / "params.yaml"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    found = check_all(root)
    (wrong, *others) = [item for item in found.findings if item.problem and not item.warning]
    assert said in wrong.problem and not found.passed
    assert all("gates.mlvp" in item.what for item in others)
