"""Simulated gates: how often a verdict is wrong, and how often an interval misses, against what is stated.

`python tests/unit/experiments/test_simulated_gates.py` prints the table of docs/benchmarks.md, with 2,000
gates a line.
"""

import dataclasses
import sys

import numpy as np
import polars as pl
import pytest
import scipy
from sizes import SOAK

from workbench.experiments.compare import compare
from workbench.experiments.gates import GateSpec, judge
from workbench.experiments.runs import Run

GATES = 2_000 if SOAK else 20
LEVEL, SIDE = 0.9, 0.05
RATINGS = [1.0, 2.0, 3.0, 4.0, 5.0]
#: What each score is drawn from, and its mean.
SCORES = {
    "right or wrong": (lambda random, n: (random.random(n) < 0.8) * 1.0, 0.8),
    "rare success": (lambda random, n: (random.random(n) < 0.05) * 1.0, 0.05),
    "share of words": (lambda random, n: random.beta(4, 2, n), 2 / 3),
    "rating from 1 to 5": (lambda random, n: random.choice(RATINGS, n, p=[0.1, 0.1, 0.2, 0.3, 0.3]), 3.6),
}  # fmt: skip


def a_run_of(arm="new", **scores):
    """A run with these scores and nothing else of interest, made as fast as can be."""
    n = len(next(iter(scores.values())))
    text, number = pl.lit("x"), pl.lit(1, dtype=pl.Int64)
    frame = pl.select(
        case=pl.format("q{}", pl.int_range(n).cast(pl.String).str.zfill(5)),
        repeat=pl.lit(0, dtype=pl.Int64),
        tenant=text,
        status=pl.lit("scored"),
        error=pl.lit(None, dtype=pl.String),
        output=text,
        sources=pl.concat_list(text),
        **{f"score.{name}": pl.Series(values) for name, values in scores.items()},
        latency_s=pl.lit(0.5),
        cost_usd=pl.lit(0.0),
        input_tokens=number,
        output_tokens=number,
        calls=number,
    )
    return Run(
        use_case="u", experiment="e", arm=arm, task_digest="t", gate_digest="g", settings={},
        dataset_digest="d", cases=frame,
    )  # fmt: skip


def gate_of(**lines):
    return GateSpec.parse({**lines, "confidence": LEVEL}, where="x")


def of_one_line(kind, n, gates, seed=1):
    """Shares of gates at the true mean that pass, that fail, and whose interval misses the mean."""
    draw, mean = SCORES[kind]
    random, counts = np.random.default_rng(seed), np.zeros(3)
    for _ in range(gates):
        line = judge(a_run_of(s=draw(random, n)), gate_of(s={"min": mean}), phase="x").lines[0]
        ends = line.interval
        missed = ends is not None and not ends.low - 1e-9 <= mean <= ends.high + 1e-9
        counts += line.verdict == "pass", line.verdict == "fail", missed
    return counts / gates


def of_a_family(n, gates, seed=2):
    """Of three lines at their true means and one met by far: shares of passes, and of any fail."""
    random, counts = np.random.default_rng(seed), np.zeros(2)
    text = gate_of(a={"min": 0.8}, b={"min": 0.5}, c={"min": 0.3}, d={"min": 0.5})
    for _ in range(gates):
        scores = {
            name: (random.random(n) < p) * 1.0
            for name, p in (("a", 0.8), ("b", 0.5), ("c", 0.3), ("d", 0.99))
        }
        verdict = dataclasses.replace(judge(a_run_of(**scores), text, phase="x"), stated_before=True).verdict
        counts += verdict == "pass", verdict == "fail"
    return counts / gates


def of_two_arms(n, gates, shift=0.0, seed=3):
    """Shares of comparisons: better, worse, a margin at the true difference passed, the difference missed.

    The arms answer the same cases; 30 % of the cases are answered anew by the second arm.
    """
    random, counts = np.random.default_rng(seed), np.zeros(4)
    for _ in range(gates):
        old = random.random(n) < 0.6
        new = np.where(random.random(n) < 0.3, random.random(n) < 0.6, old)
        new = np.where(~new & (random.random(n) < shift / 0.4), True, new)
        found = compare(a_run_of(s=new * 1.0), a_run_of("old", s=old * 1.0), level=LEVEL, margin=0.0)["s"]
        held = found.interval.low >= shift - 1e-9
        missed = not found.interval.low - 1e-9 <= shift <= found.interval.high + 1e-9
        counts += found.verdict == "better", found.verdict == "worse", held, missed
    return counts / gates


def at_most(share, gates):
    """The largest observed share that a true share of `share` explains, at one in 10,000."""
    return scipy.stats.binom.ppf(0.9999, gates, share) / gates


@pytest.mark.timeout(3_600 if SOAK else 120)
@pytest.mark.parametrize("n", [30, 100, 1_000])
@pytest.mark.parametrize("kind", SCORES)
def test_a_gate_at_the_true_mean_errs_as_often_as_stated(kind, n):
    gates = GATES if n < 1_000 or SOAK else GATES // 2
    passed, failed, missed = of_one_line(kind, n, gates)
    exact = kind in {"right or wrong", "rare success"}
    side = SIDE if exact else 0.07  # a bootstrap keeps its level on average only
    assert max(passed, failed) <= at_most(side, gates)
    assert missed <= at_most(2 * side, gates)


@pytest.mark.timeout(3_600 if SOAK else 120)
@pytest.mark.parametrize("n", [30, 100, 1_000])
def test_a_family_of_lines_at_their_true_means_errs_no_more_often(n):
    passed, failed = of_a_family(n, GATES)
    assert max(passed, failed) <= at_most(SIDE, GATES)


@pytest.mark.timeout(3_600 if SOAK else 120)
@pytest.mark.parametrize("n", [30, 100, 1_000])
@pytest.mark.parametrize("shift", [0.0, 0.1])
def test_two_arms_are_told_apart_as_often_as_stated(n, shift):
    better, worse, held, missed = of_two_arms(n, GATES, shift)
    assert worse <= at_most(SIDE, GATES) and max(held, missed / 2) <= at_most(0.065, GATES)
    if not shift:
        assert better <= at_most(SIDE, GATES)
    if shift and n == 1_000:
        assert better >= 0.99


def table(gates):
    """The lines of the table, a pair of them for each number of cases."""
    for n in (30, 100, 1_000):
        for kind in SCORES:
            passed, failed, missed = of_one_line(kind, n, gates)
            yield f"| {kind}, bound at the true mean | {n} | {passed:.1%} | {failed:.1%} | {1 - missed:.1%} |"
        passed, failed = of_a_family(n, gates)
        yield f"| three lines at their true means, one met | {n} | {passed:.1%} | {failed:.1%} | |"
        for shift in (0.0, 0.1):
            better, worse, _, missed = of_two_arms(n, gates, shift)
            title = f"two arms, the second better by {shift:g}"
            yield f"| {title} | {n} | {better:.1%} | {worse:.1%} | {1 - missed:.1%} |"


if __name__ == "__main__":
    for line in table(int(sys.argv[1]) if len(sys.argv) > 1 else 2_000):
        print(line, flush=True)
