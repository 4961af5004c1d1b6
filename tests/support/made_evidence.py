"""The evidence of a readiness page, made of given scores, for the tests of the page."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import polars as pl
from made_runs import a_run, degraded_run, of

from workbench import config
from workbench.experiments.gates import GateSpec, judge
from workbench.pipeline.evidence import AssetUse, Evidence, Exploration

ROOT = Path(__file__).parents[2]
SPEC = GateSpec.parse({"accuracy": {"min": 0.5}, "cases": {"min": 10}, "confidence": 0.9}, where="here")


SCORERS = {
    "accuracy": {"contains": {"answers": "answers"}},
    "recall_at_5": {"recall_at": {"k": 5, "page": "page"}},
    "brief": {"file": "pipelines/scorers/brief.py", "sha256": "5" * 64},
}
N = 40


def saying(run, text):
    """The run with this text as each output that it has."""
    said = pl.when(pl.col("output").is_not_null()).then(pl.lit(json.dumps({"text": text})))
    return dataclasses.replace(run, cases=run.cases.with_columns(said.alias("output")))


def failing(run, errors):
    """The run with these cases unscored: error by case."""
    gone = pl.col("case").is_in(list(errors))
    score = [pl.when(~gone).then(pl.col(name)).alias(name) for name in ("score.accuracy", "output")]
    error = pl.col("case").replace_strict(errors, default=None, return_dtype=pl.String).alias("error")
    status = pl.when(gone).then(pl.lit("unscored")).otherwise("status").alias("status")
    return dataclasses.replace(run, cases=run.cases.with_columns(*score, error, status))


def an_evidence(
    right=0.9, *, text="It is <b>46</b> | euros", degraded=0, errors=None, explored=None, **fields
):
    """The evidence of a run with this share of right answers, beside the explored arms."""
    case = dataclasses.replace(
        config.load_params(ROOT).use_cases["answers"], title="Answers & <more>", scorers=None
    )
    case = dataclasses.replace(case, baseline=fields.pop("baseline", "few_shot"))
    scores = {"arm": "candidate", "accuracy": of(round(right * N), N), "gate": SPEC.digest}
    run = degraded_run(degraded, **scores) if degraded else a_run(**scores)
    run = failing(saying(run, text), errors or {})
    arms = [a_run("few_shot", accuracy=of(0, N))] if explored is None else explored
    return Evidence(
        **{
            "name": "answers",
            "use_case": case,
            "dataset": "data/handbook/questions.jsonl",
            "scorers": SCORERS,
            "gate": judge(run, SPEC, phase="mvp"),
            "other": judge(run, SPEC, phase="mlvp"),
            "judged": run,
            "explored": Exploration.of("answers", case, run, arms),
            "memory": {
                "memory": "handbook",
                "logical_digest": "d" * 64,
                "embedding": "wordllama-256",
                "dimensions": 256,
                "tenants": {"acme": {"rows": 7}},
            },
            "versions": (
                AssetUse(kind="prompt", reference="answer@2", digest="e" * 64, reason="r", author="a"),
            ),
            "tape": {
                "entries": 80,
                "tapes": [{"path": "pipelines/tapes/a.jsonl", "entries": 80, "digest": "7" * 64}],
                "processors": [{"machine": "x86_64"}],
            },
            **fields,
        }
    )
