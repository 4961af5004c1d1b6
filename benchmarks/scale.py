"""Measure the statistics of 10,000 to 1,000,000 scored cases: `python -m benchmarks.scale`.

Each size runs in a process of its own. Two runs of the cases are made first, which is not timed: two
right/wrong scores, a real score, a count, latency and cost, for two tenants, with one case in 500
unscored. Timed are `wb.compare`, `judge` of a gate of eight lines (two of them against the baseline), and
the id of the run, each once and in this order, as a notebook does. Memory is the process's peak.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from benchmarks.measuring import Row, run, timed

if TYPE_CHECKING:
    from workbench.experiments.runs import Run

SIZES = (10_000, 100_000, 1_000_000)
GATE = {
    "accuracy": {"min": 0.55, "versus": "production", "margin": 0.05},
    "recall_at_5": {"min": 0.80},
    "grounded": {"min": 0.3, "versus": "production", "margin": 0.05},
    "cross_tenant_hits": {"count": 0},
    "cases": {"min": 100},
    "unscored_rate": {"max": 0.02},
    "cost_usd_per_case": {"max": 0.002},
    "latency_p95_s": {"max": 2.0},
    "confidence": 0.90,
}


def made_run(arm: str, n: int, seed: int) -> Run:
    """Return a run of `n` cases; the same seed gives the same run."""
    import numpy as np
    import polars as pl

    from workbench.experiments.runs import Run

    random, number, lit = np.random.default_rng(seed), pl.col("number"), pl.lit
    failed = number % 500 == seed
    scores = {
        "accuracy": (random.random(n) < 0.8) * 1.0,
        "recall_at_5": (random.random(n) < 0.95) * 1.0,
        "grounded": random.beta(4, 2, n),
        "cross_tenant_hits": np.zeros(n),
    }
    frame = pl.select(number=pl.int_range(n)).select(
        case=pl.format("case-{}", number.cast(pl.String).str.zfill(8)),
        repeat=lit(0, dtype=pl.Int64),
        tenant=pl.when(number % 2 == 0).then(lit("acme")).otherwise(lit("globex")),
        status=pl.when(failed).then(lit("unscored")).otherwise(lit("scored")),
        error=pl.when(failed).then(lit("InvalidOutputError: not one of the labels")),
        output=pl.concat_str(lit('{"text":"The answer to question '), number, lit(' is a sentence."}')),
        sources=pl.concat_list(pl.format("page-{}", number % 40)),
        **{f"score.{name}": pl.when(~failed).then(pl.Series(values)) for name, values in scores.items()},
        latency_s=pl.Series(random.lognormal(-1.0, 0.4, n)),
        cost_usd=pl.Series(random.gamma(4.0, 0.0002, n)),
        input_tokens=pl.Series(random.integers(100, 900, n)),
        output_tokens=pl.Series(random.integers(5, 60, n)),
        calls=lit(1, dtype=pl.Int64),
    )
    return Run(
        use_case="scale", experiment="scale", arm=arm, task_digest="t", gate_digest="g", settings={},
        dataset_digest="d", cases=frame,
    )  # fmt: skip


def measured(n: int) -> str:
    """Return seconds of compare, gate and id, and the peak of memory, for `n` cases in this process."""
    import workbench as wb
    from workbench.experiments.gates import GateSpec, judge

    candidate, baseline = made_run("candidate", n, 1), made_run("baseline", n, 2)
    made_mb = _peak_mb()
    gate = GateSpec.parse(GATE, where="benchmark")
    parts = {
        "compare": _seconds(lambda: wb.compare(candidate, baseline)),
        "gate": _seconds(lambda: judge(candidate, gate, phase="mvp", baseline=baseline)),
        "id": _seconds(lambda: candidate.id),
    }
    wall, cpu = (sum(part) for part in zip(*parts.values(), strict=True))
    each = ", ".join(f"{name} {seconds:.2f} ({own:.2f})" for name, (seconds, own) in parts.items())
    return (
        f"{wall:.2f} s, {cpu:.2f} s of CPU: {each}; peak {_peak_mb():.0f} MB, "
        f"of which making the runs {made_mb:.0f} MB (load {os.getloadavg()[0]:.0f})"
    )


def _seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds that have passed and those of CPU, of all threads."""
    cpu = time.process_time()
    return timed(work), time.process_time() - cpu


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def statistics_at_scale(n: int) -> Row:
    """Measure one size in a fresh process."""
    target = {100_000: "<= 0.6 s", 1_000_000: "<= 5 s, <= 1 GB"}.get(n, "reported")
    return (
        f"`wb.compare`, gate and id of {n:,} scored cases",
        run(sys.executable, "-m", "benchmarks.scale", str(n)).strip(),
        target,
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.stdout.write(measured(int(sys.argv[1])) + "\n")
    else:
        sys.stdout.writelines(" | ".join(statistics_at_scale(size)) + "\n" for size in SIZES)
