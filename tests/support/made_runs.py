"""Runs made of given scores, for the tests of this folder."""

import dataclasses

import polars as pl

from workbench.experiments.runs import Run

COLUMNS = {
    "case": pl.String,
    "repeat": pl.Int64,
    "tenant": pl.String,
    "status": pl.String,
    "error": pl.String,
    "output": pl.String,
    "sources": pl.List(pl.String),
}
AMOUNTS = {
    "latency_s": pl.Float64,
    "cost_usd": pl.Float64,
    "input_tokens": pl.Int64,
    "output_tokens": pl.Int64,
    "calls": pl.Int64,
}


def a_run(arm="new", *, repeats=1, latency=None, cost=0.001, dataset="d", gate="gate", **scores):
    """One row per case and repeat. A score is a list with one value per row; None is unscored."""
    n = len(next(iter(scores.values())))
    rows = []
    for i in range(n):
        values = {f"score.{name}": given[i] for name, given in scores.items()}
        failed = all(value is None for value in values.values())
        rows.append(
            {
                "case": f"q{i // repeats:04}",
                "repeat": i % repeats,
                "tenant": ("acme", "globex")[i // repeats % 2],
                "status": "unscored" if failed else "scored",
                "error": "InvalidOutputError: not one of the labels" if failed else None,
                "output": None if failed else '{"text":"x"}',
                "sources": [] if failed else ["page"],
                **values,
                "latency_s": latency[i] if latency else 0.5 + i % 7 / 10,
                "cost_usd": cost,
                "input_tokens": 200,
                "output_tokens": 10,
                "calls": 1,
            }
        )
    return made_of(arm, rows, list(scores), dataset=dataset, gate=gate)


def made_of(arm, rows, scores, *, dataset="d", gate="gate"):
    """A run of these rows, in whatever order they come."""
    schema = {**COLUMNS, **{f"score.{name}": pl.Float64 for name in scores}, **AMOUNTS}
    return Run(
        use_case="answers",
        experiment="prompts",
        arm=arm,
        task_digest="task",
        gate_digest=gate,
        settings={"prompt": "answer@2", "k": 5},
        dataset_digest=dataset,
        cases=pl.DataFrame(rows, schema=schema),
    )


def degraded_run(searches, **scores):
    """A run whose first case made so many searches that the last snapshot answered."""
    run = a_run(**scores)
    first = pl.Series("degraded", [searches] + [0] * (run.cases.height - 1))
    return dataclasses.replace(run, cases=run.cases.with_columns(first))


def as_control(run):
    """The run as that of an arm with the setting `control`."""
    return dataclasses.replace(run, settings={**run.settings, "control": True})


def of(right, n):
    """`right` ones, then zeros: `n` in all."""
    return [1.0] * right + [0.0] * (n - right)
