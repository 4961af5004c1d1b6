"""Statistics of many cases: the same answers as of few, without a loop over cases."""

import dataclasses

import numpy as np
import polars as pl
import pytest
import scipy
from hypothesis import given, settings
from hypothesis import strategies as st
from made_runs import a_run
from sizes import SOAK

from workbench.errors import ConfigError
from workbench.experiments import distributions, intervals
from workbench.experiments.compare import compare
from workbench.experiments.gates import GateSpec, judge
from workbench.experiments.metrics import sample
from workbench.experiments.pairs import Pairs
from workbench.experiments.runs import Run

N = 1_000_000 if SOAK else 20_000
SHAPES = ["exponential", "rare", "negative", "lognormal", "beta", "two of a kind"]
SCORES = st.sampled_from([None, 0.0, 0.25, 1.0])


def many(n=N, arm="new", seed=1, **columns):
    """A run of `n` cases with the given score columns; a case in 500 is unscored."""
    random = np.random.default_rng(seed)
    scores = columns or {"accuracy": (random.random(n) < 0.8) * 1.0, "grounded": random.beta(4, 2, n)}
    failed = pl.Series(np.arange(n) % 500 == seed)
    tenant = pl.when(pl.int_range(n) % 2 == 0).then(pl.lit("acme")).otherwise(pl.lit("globex"))
    frame = pl.select(
        case=pl.format("q{}", pl.int_range(n).cast(pl.String).str.zfill(7)),
        repeat=pl.lit(0, dtype=pl.Int64),
        tenant=tenant,
        status=pl.when(failed).then(pl.lit("unscored")).otherwise(pl.lit("scored")),
        error=pl.when(failed).then(pl.lit("refusal: no")),
        output=pl.lit("x"),
        sources=pl.concat_list(pl.lit("page")),
        **{f"score.{name}": pl.when(~failed).then(pl.Series(values)) for name, values in scores.items()},
        latency_s=pl.Series(random.lognormal(size=n)),
        cost_usd=pl.Series(random.gamma(4.0, 0.0002, n)),
        input_tokens=pl.lit(1, dtype=pl.Int64),
        output_tokens=pl.lit(1, dtype=pl.Int64),
        calls=pl.lit(1, dtype=pl.Int64),
    )
    return Run(
        use_case="u", experiment="e", arm=arm, task_digest="t", gate_digest="g", settings={},
        dataset_digest="d", cases=frame,
    )  # fmt: skip


@pytest.mark.parametrize("n", [5_001, 20_000, 300_000, 1_000_000])
@pytest.mark.parametrize("p", [1e-6, 0.0003, 0.2, 0.5, 0.83, 0.9999])
def test_tails_and_exact_intervals_of_many_cases_are_scipys(n, p):
    for k in scipy.stats.binom.ppf([1e-6, 0.05, 0.5, 0.95, 0.999999], n, p).astype(int):
        expected = scipy.stats.binom.cdf(k, n, p), scipy.stats.binom.sf(k - 1, n, p)
        found = distributions.binomial_cdf(k, n, p), distributions.binomial_sf(k, n, p)
        assert found == pytest.approx(expected, rel=1e-6)
        interval = intervals.proportion_interval(k, n, level=0.95)
        low = scipy.stats.beta.ppf(0.025, k, n - k + 1) if k else 0.0
        high = scipy.stats.beta.ppf(0.975, k + 1, n - k) if k < n else 1.0
        assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-9)


@pytest.mark.parametrize("shape", SHAPES if SOAK else SHAPES[:3])
def test_the_limit_for_many_values_is_the_bootstrap_to_3_percent_of_its_width(shape):
    random, n = np.random.default_rng(7), 6_000
    data = {
        "exponential": lambda: random.exponential(size=n),
        "lognormal": lambda: random.lognormal(0, 1.5, n),
        "beta": lambda: random.beta(4, 2, n),
        "negative": lambda: -random.exponential(size=n),
        "two of a kind": lambda: np.concatenate([random.normal(0, 1, n // 2), random.normal(50, 9, n // 2)]),
        "rare": lambda: (random.random(n) < 0.01) * random.exponential(size=n),
    }[shape]()
    found = intervals.mean_interval(data, level=0.9)
    rows = [data[random.integers(0, n, size=(500, n))].mean(axis=1) for _ in range(20)]
    means, sign = np.concatenate(rows), 1 if data.mean() >= 0 else -1
    low, high = intervals._bca(sign * means, (sign * data, np.ones(1)), sign * data.mean(), 0.05)
    low, high = (low, high) if sign > 0 else (-high, -low)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.03 * (high - low))
    assert found == intervals.mean_interval(data, level=0.9)  # no random numbers


def test_few_distinct_values_of_many_cases_are_drawn_as_counts_and_weighted():
    data = np.repeat([-1.0, 0.0, 1.0], [20, 9_950, 30])
    np.random.default_rng(0).shuffle(data)
    found = intervals.mean_interval(data, level=0.9)
    means = np.random.default_rng(3).multinomial(10_000, [0.002, 0.995, 0.003], 20_000) @ [-1, 0, 1] / 10_000
    low, high = intervals._bca(means, (data, np.ones(1)), data.mean(), 0.05)
    assert (found.low, found.high) == pytest.approx((low, high), abs=2e-4)  # two cases
    later = np.concatenate([np.zeros(5_000), np.arange(100.0)])  # the distinct values come last
    assert intervals.mean_interval(later, level=0.9).low > 0


@settings(deadline=None)
@given(st.lists(st.tuples(SCORES, SCORES), min_size=1, max_size=12), st.integers(1, 3))
def test_pairs_are_those_of_a_dictionary_by_case(pairs, repeats):
    ours, theirs = ([x for pair in pairs for x in (pair[i],) * repeats] for i in (0, 1))
    one, two = a_run("one", s=ours, repeats=repeats), a_run("two", s=theirs, repeats=repeats)
    found, expected = Pairs.of(one, two, "s"), {}
    for i, (a, b) in enumerate(pairs):
        if a is not None and b is not None:
            expected[f"q{i:04}"] = (a, b)
    assert found.cases.to_list() == list(expected)
    assert list(zip(found.ours, found.theirs, strict=True)) == list(expected.values())
    assert found.left_out == len(pairs) - len(expected)


@settings(deadline=None)
@given(st.lists(st.lists(SCORES, min_size=2, max_size=2), min_size=1, max_size=9))
def test_a_sample_has_one_value_a_case_and_the_spread_between_repeats(cases):
    found = sample(a_run(s=[x for case in cases for x in case], repeats=2).cases, "s")
    known = [[x for x in case if x is not None] for case in cases]
    assert found.by_case.to_list() == [np.mean(case) if case else None for case in known]
    assert found.n == sum(map(bool, known)) and len(found.rows) == sum(map(len, known))
    spare = sum(max(0, len(case) - 1) for case in known)
    spread = sum(np.var(case) * len(case) for case in known if case)
    assert found.repeat_sd == (pytest.approx((spread / spare) ** 0.5, abs=1e-12) if spare else None)


def test_many_cases_are_compared_and_judged():
    run, base = many(), many(arm="today", seed=2)
    found = compare(run, base, margin=0.05)
    line = found["accuracy"]
    left_out = 2 * len(range(2, N, 500))
    assert line.left_out == pytest.approx(left_out, abs=1) and line.n == N - line.left_out
    both = run.cases["score.accuracy"] - base.cases["score.accuracy"]
    assert (len(line.improved), len(line.worsened)) == ((both > 0).sum(), (both < 0).sum())
    assert line.improved == tuple(run.cases.filter(both > 0)["case"])
    assert line.effect == pytest.approx(both.mean()) and line.interval.low < line.effect < line.interval.high
    half = 1.96 * both.std() / both.count() ** 0.5
    assert line.interval.high - line.interval.low == pytest.approx(2 * half, rel=0.06)
    text = {"accuracy": {"min": 0.7, "versus": "production", "margin": 0.05}, "latency_p95_s": {"max": 9}}
    report = judge(run, GateSpec.parse({**text, "confidence": 0.9}, where="x"), phase="mvp", baseline=base)
    assert [item.verdict for item in report.lines] == ["pass"] * 3
    assert {name: m.n for name, m in report.lines[0].tenants.items()} == {
        "acme": N // 2,
        "globex": N // 2 - len(range(1, N, 500)),
    }
    assert report.unscored == {"refusal": len(range(1, N, 500))}


def test_the_id_of_many_cases_is_the_same_on_every_machine_and_however_the_frame_is_cut():
    small = many(6_000, s=np.arange(6_000) / 7)
    small = dataclasses.replace(
        small, cases=small.cases.with_columns(latency_s=pl.lit(0.5), cost_usd=pl.lit(0.25))
    )
    assert small.id == "fcf0a303f394"
    halves = pl.concat([small.cases[:17], small.cases[17:]], rechunk=False)
    assert dataclasses.replace(small, cases=halves).id == small.id
    assert (
        dataclasses.replace(small, cases=small.cases.sample(fraction=1, shuffle=True, seed=1)).id == small.id
    )


def changed(run, name, row, value):
    values = run.cases[name].to_list()
    values[row] = value
    column = pl.Series(name, values, dtype=run.cases.schema[name])
    return dataclasses.replace(run, cases=run.cases.with_columns(column))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("output", "y"), ("output", None), ("output", ""), ("output", "xx"), ("sources", []),
        ("sources", None), ("sources", ["page", "page"]), ("sources", ["pag", "e"]), ("sources", [""]),
        ("score.s", None), ("score.s", 0.0), ("latency_s", None), ("calls", 2), ("calls", None),
        ("tenant", "globe"), ("error", "refusal: n"), ("status", ""),
    ],
)  # fmt: skip
def test_the_id_of_many_cases_differs_with_every_value(name, value):
    run = many(6_000, s=np.arange(6_000) / 7)
    assert len({run.id, changed(run, name, 2, value).id, changed(run, name, 5_999, value).id}) == 3


def test_the_id_tells_texts_apart_that_are_equal_when_joined():
    run = many(6_000, s=np.zeros(6_000))
    ids = {
        changed(changed(run, "output", 8, first), "output", 9, second).id
        for first, second in (
            ("ab", "c"),
            ("a", "bc"),
            ("abc", ""),
            ("", "abc"),
            (None, "abc"),
            ("abc", None),
        )
    }
    assert len(ids) == 6


def test_rows_in_any_order_are_sorted_and_a_case_that_is_there_twice_is_refused():
    run = many(6_000)
    shuffled = run.cases.sample(fraction=1, shuffle=True, seed=3)
    assert dataclasses.replace(run, cases=shuffled).cases.equals(run.cases)
    with pytest.raises(ConfigError, match="the same case and repeat twice"):
        dataclasses.replace(run, cases=pl.concat([run.cases, run.cases[77:78]]))
