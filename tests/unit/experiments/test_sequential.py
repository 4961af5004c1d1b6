"""The sequential comparison: it errs with its stated probability when looked at after every batch."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import sizes
from workbench.errors import CorruptError
from workbench.experiments.sequential import (
    CountedDifferences,
    compare_guards,
    group_differences,
    relative_saving,
    verdict_of,
)

ALPHA, MARGIN = 0.05, 0.05
STREAMS = 2_000 if sizes.SOAK else 200
BATCHES, BATCH = 80, 10


def looked_at(worse: float, better: float, *, streams: int) -> list[str]:
    """The verdict of each stream of differences at which looking stopped: after each batch it may."""
    draws = np.random.default_rng(11)
    stopped = []
    for _ in range(streams):
        found, verdict = CountedDifferences(), "undecided"
        for _ in range(BATCHES):
            found += CountedDifferences.of(
                draws.choice([-1.0, 0.0, 1.0], size=BATCH, p=[worse, 1 - worse - better, better])
            )
            loses = found.evidence_below(-MARGIN) >= math.log(1 / ALPHA)
            holds = found.evidence_above(-MARGIN) >= math.log(1 / ALPHA)
            verdict = "worse" if loses else "better" if holds else "undecided"
            if verdict != "undecided":
                break
        stopped.append(verdict)
    return stopped


@pytest.mark.drawn("streams at the bound", 1)
@pytest.mark.parametrize(("worse", "better"), [(0.05, 0.0), (0.15, 0.10)])
def test_looking_after_every_batch_keeps_the_error(worse, better):
    """At the bound itself, the worst mean that is no regression, each side errs with ALPHA at most."""
    verdicts = looked_at(worse, better, streams=STREAMS)
    most = ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / STREAMS)
    assert verdicts.count("worse") / STREAMS <= most
    assert verdicts.count("better") / STREAMS <= most


def test_a_fixed_sample_test_that_is_looked_at_as_often_errs_more():
    """The simulation notices a test that is not valid at any time."""
    draws = np.random.default_rng(11)
    data = draws.choice([-1.0, 0.0, 1.0], size=(STREAMS, BATCHES * BATCH), p=[0.15, 0.75, 0.10]) + MARGIN
    n = np.arange(1, BATCHES * BATCH + 1)
    z = np.cumsum(data, axis=1) / np.sqrt(np.maximum(np.cumsum(data**2, axis=1), 1e-9))
    early = (z[:, (n >= 30) & (n % BATCH == 0)] < -1.645).any(axis=1).mean()
    assert early > 2 * ALPHA


def test_a_clear_regression_is_found_and_an_equal_version_is_as_good():
    assert looked_at(0.22, 0.02, streams=40).count("worse") >= 39
    assert looked_at(0.02, 0.02, streams=40).count("better") >= 36


differences = st.lists(st.floats(-1, 1), max_size=40)


@given(differences, differences)
def test_counts_of_several_hosts_add_up_in_any_order(left, right):
    one = CountedDifferences.of([*left, *right])
    other = CountedDifferences.of(right) + CountedDifferences.of(left)
    assert one.weights == pytest.approx(other.weights)
    assert one.n == pytest.approx(len(left) + len(right))
    assert one.evidence_below(-0.05) == pytest.approx(other.evidence_below(-0.05), abs=1e-6)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30), st.sampled_from([-0.5, -0.05, 0.0, 0.3]))
def test_counting_never_raises_the_capital(values, bound):
    """A difference between two counted values adds to both, which lowers the capital of every bet."""
    bets = 0.95 * 0.75 ** np.arange(14) / (1 + bound)
    exact = np.log1p(bets[:, None] * (np.asarray(values)[None, :] - bound)).sum(axis=1)
    top = exact.max()
    assert (
        CountedDifferences.of(values).evidence_above(bound)
        <= top + math.log(np.exp(exact - top).mean()) + 1e-9
    )


def test_what_is_stored_is_bounded_and_read_strictly():
    many = CountedDifferences.of(np.random.default_rng(3).uniform(-1, 1, 5_000))
    stored = many.to_json()
    assert len(stored) <= 41
    assert CountedDifferences.from_json(stored).weights == pytest.approx(many.weights, abs=1e-6)
    for raw in ({"41": 1}, {"x": 1}, {"1": -1}, {"1": True}, {"1": "2"}, {"1": math.inf}, {"1": math.nan}):
        with pytest.raises(CorruptError):
            CountedDifferences.from_json(raw)


@pytest.mark.parametrize("value", [1.01, -2.0, math.nan])
def test_a_difference_out_of_range_is_no_difference(value):
    with pytest.raises(ValueError, match="difference"):
        CountedDifferences.of([0.1, value])


def test_the_interval_holds_the_mean_and_narrows():
    draws = np.random.default_rng(5)
    widths = []
    for n in (0, 50, 1_000):
        found = CountedDifferences.of(draws.choice([-1.0, 0.0], size=n, p=[0.3, 0.7]))
        interval = found.interval(ALPHA)
        assert interval.low <= -0.3 <= interval.high
        widths.append(interval.high - interval.low)
    assert widths[0] == 2 > widths[1] > 2 * widths[2]


def test_one_guard_takes_back_and_all_guards_let_pass():
    good, bad = CountedDifferences.of([0.0] * 500), CountedDifferences.of([-1.0] * 60)
    margins = {"success": 0.05, "latency": 0.2}
    compared = compare_guards({"success": good, "latency": bad}, margins, alpha=ALPHA)
    assert [item.verdict for item in compared] == ["better", "worse"]
    assert verdict_of(compared) == "worse"
    assert verdict_of(compare_guards({"success": good, "latency": good}, margins, alpha=ALPHA)) == "better"
    assert verdict_of(compare_guards({"success": good}, margins, alpha=ALPHA)) == "undecided"
    assert verdict_of(()) == "undecided"


def test_unpaired_samples_give_independent_differences():
    assert group_differences([1.0, 0.0], [1.0, 1.0, 0.0, 1.0]) == [1.0 - 0.5, 0.0 - 1.0]
    assert group_differences([], [1.0]) == []
    assert (relative_saving(3, 1), relative_saving(1, 2), relative_saving(0, 0)) == (-2 / 3, 0.5, 0.0)
