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
    "handles": ["internal"],
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
    "quality": "",
    "approach": "model",
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
    "fenced": False,  # it was saved before there was a fence
    "questions": "data/handbook/questions.jsonl",
}

LABELS = ["account", "billing", "booking", "damage", "delivery", "technical"]
TRIAGE = {
    "name": "triage",
    "title": "Routing of tickets",
    "heading": "Routing of tickets",
    "thing": "ticket",
    "things": "tickets",
    "sorted_things": "tickets of customers",
    "purpose": (
        "Each ticket of a customer gets one of six labels, by the solved tickets that are nearest to it."
    ),
    "owner": "customer service",
    "notebook": "notebooks/triage.ipynb",
    "served": ["acme", "globex"],
    "data": "data/triage",
    "handles": ["internal", "personal"],
    "as_of": "2026-11-01",
    "memory": "solved",
    "memory_version": 1,
    "prompt": "route",
    "prompt_version": 1,
    "model": "smollm2-135m",
    "baseline": "zero_shot",
    "report": "reports/triage",
    "parameters": {"corpus": "solved", "tenants": ["acme", "globex"]},
    "dataset": "data/triage/cases.jsonl",
    "quality": "pipelines/quality/triage.yaml",
    "approach": "deterministic",
    "worst_slice": "0.20",
    "gate_notes": [],
    "accuracy": "0.50",
    "commonest": "0.22",
    "by_chance": "0.17",
    "cases": "150",
    "unscored": "0.02",
    "mlvp": True,
    "sample": "data/inbox/triage-sample.jsonl",
    "input": "data/inbox/triage-{date}.jsonl",
    "minute": "30",
    "labels": LABELS,
    "grammar": "root ::= " + " | ".join(f'"{label}"' for label in LABELS),
    "most_tokens": 8,
    "reason": (
        "The three nearest solved tickets as earlier turns: as one text they gain less than half as much."
    ),
    "describes": "Sort a ticket like the nearest solved tickets, the nearest one last.",
    "contents": (
        "Solved tickets of two tenants, one page a ticket. "
        "The title of a page is the label that the ticket was given."
    ),
    "source": "data/triage/solved.jsonl",
}
SHIPPED = (("answer", ANSWERS), ("classify", TRIAGE))


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


@pytest.mark.parametrize(
    ("template", "shipped"),
    [
        (rendering.NOTEBOOK, "notebooks/triage.ipynb"),
        (rendering.PROMPT, "pipelines/prompts/route/1.prompty"),
        (rendering.MEMORY, "pipelines/memories/solved/1.yaml"),
    ],
)
def test_the_files_of_triage_are_instances_of_the_template_classify(template, shipped):
    assert rendering.text("classify", template, TRIAGE) == (ROOT / shipped).read_text(encoding="utf-8")


def test_the_blocks_of_params_are_instances_of_the_templates():
    params = (ROOT / "params.yaml").read_text(encoding="utf-8")
    blocks = {
        template: [rendering.text(kind, template, values) for kind, values in SHIPPED]
        for template in (rendering.USE_CASE, rendering.JOB)
    }
    assert f"use_cases:\n{chr(10).join(blocks[rendering.USE_CASE])}\n#" in params
    assert params.endswith(f"jobs:\n{''.join(blocks[rendering.JOB])}")
