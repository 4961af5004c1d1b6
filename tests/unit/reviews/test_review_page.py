"""The section of docs/jupyter.md on reviews: its block runs, and so does each call that it names."""

from __future__ import annotations

import contextlib
import re

import pytest
from documented_pages import blocks_of, copy_to, page_of
from reviewed_runs import run_of

import workbench as wb
from workbench.experiments.runs import save_runs
from workbench.layout import Results
from workbench.reviews.blind_review import CHOICES

RESULTS = Results(use_case="answers")
SECTION = page_of("jupyter.md").partition("## Review blindly")[2].partition("\n## ")[0]


@pytest.fixture
def names(tmp_path, monkeypatch):
    """What the section's block leaves, in a copy with two runs of the cases."""
    root = copy_to(tmp_path)
    monkeypatch.chdir(root)
    with contextlib.closing(wb.connect("answers")) as ws:
        cases = ws.cases()
    for folder, arm in ((RESULTS.judged, "candidate"), (RESULTS.runs, "few_shot")):
        run = run_of(arm, cases, [f"{arm} {case.id}" for case in cases], accuracy=[1.0] * len(cases))
        save_runs([run], root / folder)
    (block,) = blocks_of(SECTION, "python")
    found = {}
    exec(block, found)
    return found


def test_the_block_opens_the_review_of_20_pairs_and_every_call_works(names):
    review, ws = names["review"], names["ws"]
    assert len(review) == 20 and review.current.question in str(review)
    calls = re.findall(r"`(review\.[a-z_]+\([^`]*\))`", SECTION)
    assert len(calls) >= 8
    for call in calls:
        eval(call, {"review": review})
    report = review.report()
    for call in re.findall(r"`(report\.[a-z_]+\([^`]*\))`", SECTION):
        assert eval(call, {"report": report}) is not None, call
    assert wb.review(review.runs.run, review.runs.other).decided == review.decided == 4
    assert ws.review("answers/candidate", "answers/few_shot", seed=8)._pairs != review._pairs
    assert ws.runs().height == 2


def test_the_table_names_every_button_and_key():
    rows = [row for row in SECTION.splitlines() if row.startswith("|")]
    table = "\n".join(rows)
    for choice, (label, key) in CHOICES.items():
        assert label in table and f"`{key}`" in table and f'"{choice}"' in table
