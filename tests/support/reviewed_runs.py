"""Two made runs over the same cases and a review of them, with answers as a test wants them."""

from __future__ import annotations

import json

import polars as pl

from workbench.experiments.dataset import Case, Dataset
from workbench.experiments.runs import Run
from workbench.reviews.blind_review import Review
from workbench.reviews.label_file import LabelFile
from workbench.reviews.sampling import ReviewedRuns

NAME = "candidate-few_shot"


def cases_of(n, *, question="What is {}?", expected="answer {}"):
    made = [
        Case(
            id=f"q{i:05}",
            tenant="acme",
            inputs={"question": question.format(i)},
            expected={"answers": [expected.format(i)], "page": []},
        )
        for i in range(n)
    ]
    return Dataset(name="questions", cases=tuple(made))


def run_of(arm, cases, outputs, *, use_case="answers", **scores):
    """A run with one output a case, as a task returned it; None is a case that was not answered."""
    rows = []
    for i, (case, output) in enumerate(zip(cases, outputs, strict=True)):
        failed = output is None
        rows.append(
            {
                "case": case.id, "repeat": 0, "tenant": case.tenant,
                "status": "unscored" if failed else "scored", "error": "empty" if failed else None,
                "output": None if failed else json.dumps(output, ensure_ascii=False, sort_keys=True),
                "sources": [], "latency_s": 0.5, "cost_usd": 0.0, "input_tokens": 1, "output_tokens": 1,
                "calls": 1, **{f"score.{name}": given[i] for name, given in scores.items()},
            }
        )  # fmt: skip
    text, real = pl.String, pl.Float64
    schema = {
        "case": text, "repeat": pl.Int64, "tenant": text, "status": text, "error": text, "output": text,
        "sources": pl.List(text), "latency_s": real, "cost_usd": real, "input_tokens": pl.Int64,
        "output_tokens": pl.Int64, "calls": pl.Int64, **{f"score.{name}": real for name in scores},
    }  # fmt: skip
    return Run(
        use_case=use_case, experiment=use_case, arm=arm, task_digest="", gate_digest=None, settings={},
        dataset_digest=cases.digest, cases=pl.DataFrame(rows, schema=schema),
    )  # fmt: skip


def two_runs(n=6, *, ours=None, theirs=None, **scores):
    """The cases, and the runs `candidate` and `few_shot`; `scores` are pairs of lists."""
    cases = cases_of(n)
    ours = ours or [f"candidate says {i}" for i in range(n)]
    theirs = theirs or [f"few shot says {i}" for i in range(n)]
    first = run_of("candidate", cases, ours, **{name: given[0] for name, given in scores.items()})
    second = run_of("few_shot", cases, theirs, **{name: given[1] for name, given in scores.items()})
    return cases, first, second


def review_of(root, cases, run, other, *, reviewer="ana", name=NAME, **how):
    return Review(
        ReviewedRuns.of(run, other), cases, LabelFile(root, "answers", name), reviewer=reviewer, **how
    )


def decide(review, arm="candidate"):
    """Decide for the answer of an arm on the pair that is shown, which the reviewer cannot see."""
    pair = review._pairs[review._at]
    review.choose("left" if pair.left.arm == arm else "right")
