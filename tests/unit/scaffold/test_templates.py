"""The shipped use cases are instances of the templates: rendering gives their files byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from workbench.scaffold import rendering

ROOT = Path(__file__).resolve().parents[3]
ANSWERS = {
    "name": "answers",
    "title": "Answers from the company handbook",
    "heading": "Answers from the handbook",
    "asks": (
        "Can a small embedded model answer staff questions from the company handbook, well enough to go on?"
    ),
    "purpose": (
        "Staff ask a question in their own words and get a short answer from the page in force, "
        "with its source."
    ),
    "owner": "people operations",
    "notebook": "notebooks/answers.ipynb",
    "served": ["acme", "globex", "python"],
    "groups": ["everyone", "people", "personnel", "finance", "operations"],
    "data": "data/handbook",
    "as_of": "2026-11-01",
    "memory": "handbook",
    "memory_version": 2,
    "prompt": "answer",
    "prompt_version": 2,
    "model": "smollm2-135m",
    "baseline": "few_shot",
    "report": "reports/readiness",
    "parameters": {"corpus": "handbook", "tenants": ["acme", "globex"]},
    "page": True,
    "dataset": "data/handbook/questions.jsonl",
    "brief": True,
    "gate_notes": [],
    "accuracy": "0.55",
    "recall": "0.80",
    "cases": "100",
    "unscored": "0.02",
    "mlvp": True,
    "sample": "data/inbox/sample.jsonl",
    "input": "data/inbox/{date}.parquet",
    "corpus_note": "; python-reference is real text",
    "documents": "the handbook",
    "few_shot": "answer@1",
    "role": "You answer questions of staff.",
    "reason": (
        "No examples: the embedded model copies the answer from the passage more often without them, "
        "for less than half of the tokens."
    ),
    "describes": "Answer a question of staff from the best passage of the handbook.",
    "parent": 1,
    "system": "You answer questions of staff about the company handbook.",
    "contents": "The company handbook: short pages of two tenants, with versions, access lists and expiry.",
    "source": "data/handbook",
    "tenants_from": "",
    "access": "",
    "chunking": "{kind: sentences, size: 2}",
    "questions": "data/handbook/questions.jsonl",
}


@pytest.mark.parametrize(
    ("template", "shipped"),
    [
        (rendering.NOTEBOOK, "notebooks/answers.ipynb"),
        (rendering.PROMPT, "pipelines/prompts/answer/2.prompty"),
        (rendering.MEMORY, "pipelines/memories/handbook/2.yaml"),
    ],
)
def test_the_files_of_answers_are_instances_of_the_template_answer(template, shipped):
    assert rendering.text("answer", template, ANSWERS).encode() == (ROOT / shipped).read_bytes()


def test_the_blocks_of_answers_in_params_are_instances_of_the_template_answer():
    params = (ROOT / "params.yaml").read_text(encoding="utf-8")
    use_case = rendering.text("answer", rendering.USE_CASE, ANSWERS)
    job = rendering.text("answer", rendering.JOB, ANSWERS)
    assert f"use_cases:\n{use_case}" in params and f"jobs:\n{job}" in params
