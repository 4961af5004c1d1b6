"""Every formula against published values, or against scipy and statsmodels, which is slow to import."""

import math

import numpy as np
import pytest
import scipy
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.experiments import distributions, intervals, sample_size, significance

COUNTS = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
LEVELS = st.sampled_from([0.8, 0.9, 0.95, 0.99])


@given(COUNTS, st.floats(0.001, 0.999))
def test_binomial_tails_are_scipys(count, p):
    k, n = count
    assert distributions.binomial_cdf(k, n, p) == pytest.approx(scipy.stats.binom.cdf(k, n, p), rel=1e-9)
    assert distributions.binomial_sf(k, n, p) == pytest.approx(scipy.stats.binom.sf(k - 1, n, p), rel=1e-9)


def test_binomial_tail_of_a_large_sample_is_scipys():
    ours = distributions.binomial_cdf(99_000, 200_000, 0.5)
    assert ours == pytest.approx(scipy.stats.binom.cdf(99_000, 200_000, 0.5), rel=1e-7)


@pytest.mark.parametrize(
    ("count", "n", "exact"),
    [  # Newcombe (1998), Statistics in Medicine 17:857, table I
        (81, 263, (0.2527, 0.3676)),
        (15, 148, (0.0578, 0.1617)),
        (0, 20, (0.0, 0.1684)),
        (1, 29, (0.0009, 0.1776)),
    ],
)
def test_proportion_intervals_are_newcombes(count, n, exact):
    found = intervals.proportion_interval(count, n, level=0.95)
    assert (found.low, found.high) == pytest.approx(exact, abs=5e-5)


@settings(max_examples=40)
@given(COUNTS, LEVELS)
def test_proportion_intervals_are_statsmodels(count, level):
    from statsmodels.stats.proportion import proportion_confint

    k, n = count
    found = intervals.proportion_interval(k, n, level=level)
    expected = proportion_confint(k, n, alpha=1 - level, method="beta")
    assert (found.low, found.high) == pytest.approx(expected, abs=1e-10)


def test_a_fractional_sum_is_widened_to_whole_counts():
    found = intervals.proportion_interval(96.4, 100, level=0.9)
    assert found.low == intervals.proportion_interval(96, 100, level=0.9).low
    assert found.high == intervals.proportion_interval(97, 100, level=0.9).high


def test_count_bounds():
    assert intervals.count_bound(0, 300, level=0.95) == pytest.approx(0.00994, abs=5e-6)
    assert intervals.count_bound(0, 100, level=0.95) == pytest.approx(3 / 100, rel=0.02)  # rule of three
    assert intervals.count_bound(0, 0, level=0.95) == 1.0
    for count in (0, 1, 7, 50):
        expected = scipy.stats.beta.ppf(0.95, count + 1, 50 - count) if count < 50 else 1.0
        assert intervals.count_bound(count, 50, level=0.95) == pytest.approx(expected, abs=1e-10)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_statsmodels(improved, worsened):
    from statsmodels.stats.contingency_tables import mcnemar

    expected = mcnemar([[9, improved], [worsened, 9]], exact=True).pvalue
    assert significance.mcnemar(improved, worsened) == pytest.approx(min(1.0, expected), abs=1e-12)


def test_mcnemar_of_the_published_example():
    # Airway hyper-responsiveness, 1 and 7 flips: Fagerland, Lydersen & Laake (2013), table 5
    assert significance.mcnemar(1, 7) == pytest.approx(0.0703, abs=5e-5)
    assert significance.mcnemar(0, 0) == 1.0


def test_holm_is_statsmodels():
    from statsmodels.stats.multitest import multipletests

    p_values = [0.01, 0.04, 0.03, 0.005]
    assert significance.holm(p_values) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    random = np.random.default_rng(3)
    for n in (1, 2, 9):
        ps = list(random.random(n) ** 3)
        assert significance.holm(ps) == pytest.approx(multipletests(ps, method="holm")[1])
    assert significance.holm([]) == []


def test_the_bootstrap_of_a_mean_is_scipys_bca():
    data = np.random.default_rng(11).lognormal(size=120)
    found = intervals.mean_interval(data, level=0.9)
    theirs = scipy.stats.bootstrap(
        (data,), np.mean, n_resamples=20_000, confidence_level=0.9, method="BCa", rng=5
    ).confidence_interval
    width = theirs.high - theirs.low
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.04 * width)


def test_few_distinct_values_are_drawn_as_counts_from_the_same_distribution():
    data = np.repeat([-1.0, 0.0, 1.0], [20, 60, 40])
    by_count = intervals.mean_interval(data, level=0.95)
    by_index = intervals.mean_interval(data + np.linspace(0, 1e-7, len(data)), level=0.95)
    assert (by_count.low, by_count.high) == pytest.approx((by_index.low, by_index.high), abs=0.012)


def test_a_very_large_sample_is_resampled_in_blocks():
    data = np.random.default_rng(2).exponential(size=60_000)
    found = intervals.mean_interval(data, level=0.95)
    half = 1.96 * data.std() / math.sqrt(len(data))
    assert found.high - found.low == pytest.approx(2 * half, rel=0.1)
    assert found.low < data.mean() < found.high


def test_resampling_gives_the_same_digits_on_every_machine():
    data = [((i * 37) % 101) / 101 for i in range(80)]
    found = intervals.mean_interval(data, level=0.9)
    assert found.to_json() == {"low": 0.442288, "high": 0.54989, "level": 0.9, "method": "bootstrap"}
    assert significance.sign_flip_p([x - 0.42 for x in data]) == 0.0257


def test_the_bootstrap_covers_the_mean_about_as_often_as_it_says():
    random, covered = np.random.default_rng(8), 0
    for _ in range(70):
        found = intervals.mean_interval(random.exponential(size=60), level=0.9)
        covered += found.low <= 1.0 <= found.high
    assert covered >= scipy.stats.binom.ppf(0.001, 70, 0.87)
    assert covered <= scipy.stats.binom.ppf(0.999, 70, 0.92)


def test_nearly_equal_scores_do_not_make_a_bootstrap_too_sure():
    perfect = intervals.score_interval([1.0] * 30, level=0.9)
    assert perfect.low == pytest.approx(0.05 ** (1 / 30))
    nearly = intervals.score_interval([1.0] * 28 + [0.9, 0.95], level=0.9)
    assert nearly.low < 0.9
    paired = intervals.paired_interval([0.0] * 20, level=0.95)
    assert paired.high == pytest.approx(1 - 0.0125 ** (1 / 20)) and paired.low == -paired.high


def test_few_flips_are_bounded_at_least_as_widely_as_the_truth_asks():
    """Exact coverage by enumeration of all outcomes of 12 pairs."""
    n, gain, loss, level = 12, 0.25, 0.1, 0.9
    missed = 0.0
    for up in range(n + 1):
        for down in range(n + 1 - up):
            if up + down >= intervals.FEW:
                continue
            same = n - up - down
            found = intervals.paired_interval([1.0] * up + [-1.0] * down + [0.0] * same, level=level)
            probability = scipy.stats.multinomial.pmf([up, down, same], n, [gain, loss, 1 - gain - loss])
            missed += probability * (not found.low <= gain - loss <= found.high)
    assert missed <= 1 - level


@pytest.mark.parametrize("size", [5, 12, 30])
def test_sign_flip_p_is_scipys_permutation_test(size):
    differences = np.random.default_rng(size).normal(0.4, 1, size)
    theirs = scipy.stats.permutation_test(
        (differences,), np.sum, permutation_type="samples", n_resamples=20_000, rng=1, vectorized=False
    ).pvalue
    exact = size <= 12
    assert significance.sign_flip_p(differences) == pytest.approx(theirs, abs=1e-12 if exact else 0.015)


def test_sign_flip_p_edges():
    assert significance.sign_flip_p([0.0, 0.0]) == 1.0
    assert significance.sign_flip_p([1.0] * 40) == pytest.approx(1e-4)  # never 0
    many = np.random.default_rng(4).normal(0.02, 1, 8_000)
    assert significance.sign_flip_p(many) == pytest.approx(scipy.stats.ttest_1samp(many, 0).pvalue, abs=0.002)


def test_quantile_interval_by_order_statistics():
    # Median of 10: 2nd and 9th value at 97.9 % (Conover 1999, table A3 and section 3.2)
    found = intervals.quantile_interval(range(1, 11), 0.5, level=0.95)
    assert (found.low, found.high) == (2, 9)
    # 0.95^n <= 0.05 from n = 59 on, 0.025 from 72 on: the largest value bounds p95 (Wilks 1941)
    for level, n in ((0.9, 59), (0.95, 72)):
        assert intervals.quantile_interval(range(n), 0.95, level=level).high == n - 1
        assert math.isinf(intervals.quantile_interval(range(n - 1), 0.95, level=level).high)


@pytest.mark.parametrize("n", [40, 150, 401])
def test_quantile_interval_is_scipys(n):
    data = np.random.default_rng(n).lognormal(size=n)
    theirs = scipy.stats.quantile_test(data, p=0.8).confidence_interval(0.95)
    ours = intervals.quantile_interval(data, 0.8, level=0.95)
    assert (ours.low, ours.high) == (theirs.low, theirs.high)
    assert intervals.quantile(data, 0.8) == np.quantile(data, 0.8, method="inverted_cdf")


def test_values_of_one_case_do_not_make_a_quantile_surer():
    alone = np.random.default_rng(1).lognormal(size=100)
    once = intervals.quantile_interval(alone, 0.5, level=0.9)
    thrice = intervals.quantile_interval(np.repeat(alone, 3), 0.5, level=0.9, clusters=100)
    assert (once.low, once.high) == (thrice.low, thrice.high)


def test_non_inferiority():
    def interval(low, high):
        return intervals.Interval(low=low, high=high, level=0.95, method="")

    assert intervals.non_inferior(interval(-0.04, 0.1), 0.05) == "pass"
    assert intervals.non_inferior(interval(-0.2, -0.06), 0.05) == "fail"
    assert intervals.non_inferior(interval(-0.06, 0.1), 0.05) == "undecided"


@pytest.mark.parametrize("rate", [0.62, 0.8, 1.0, 0.4, 0.03])
@pytest.mark.parametrize("threshold", [0.55, 0.9, 0.05])
def test_cases_needed_for_a_proportion_is_the_first_n_that_clears(rate, threshold):
    def clears(n):
        up = rate > threshold
        count = math.floor(rate * n + 1e-9) if up else math.ceil(rate * n - 1e-9)
        found = intervals.proportion_interval(count, n, level=0.9)
        return found.low >= threshold if up else found.high <= threshold

    n = sample_size.for_proportion(rate, threshold, level=0.9)
    assert n == next(m for m in range(1, 20_000) if clears(m))


def test_cases_needed_edges():
    assert sample_size.for_proportion(0.9, 0.9, level=0.9) is None
    assert sample_size.for_mean(1.0, 0.0, level=0.9) is None
    assert sample_size.for_pairs(0.1, 0.1) is None
    far = sample_size.for_proportion(0.551, 0.55, level=0.9)
    assert far == pytest.approx(1.6449**2 * 0.55 * 0.45 / 0.001**2, rel=0.01)


def test_cases_needed_for_a_mean_is_the_textbooks():
    assert sample_size.for_mean(10, 5, level=0.95, power=0.8) == 32  # ((1.96 + 0.84) 10 / 5)^2 = 31.4
    assert sample_size.for_mean(1, 0.5, level=0.95) == 16  # (1.96 / 0.5)^2 = 15.4


def test_pairs_needed_have_the_power_they_promise():
    """Power of the exact test, summed over all outcomes: conservative, so somewhat below 80 %."""
    improved, worsened = 0.15, 0.05
    n = sample_size.for_pairs(improved, worsened)
    assert n == 155  # (1.96 sqrt(0.2) + 0.8416 sqrt(0.2 - 0.01))^2 / 0.01, by hand
    power = 0.0
    for flips in range(n + 1):
        weight = scipy.stats.binom.pmf(flips, n, improved + worsened)
        if weight < 1e-6:
            continue
        ups = np.arange(flips + 1)
        rejected = np.array([significance.mcnemar(int(up), int(flips - up)) <= 0.05 for up in ups])
        power += weight * scipy.stats.binom.pmf(ups, flips, 0.75)[rejected].sum()
    assert 0.7 < power < 0.85


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=12, max_size=40))
def test_a_negated_difference_has_the_negated_interval_and_the_same_p(values):
    data = np.round(values, 3)
    there, back = (intervals.paired_interval(sign * data, level=0.95, bounded=False) for sign in (1, -1))
    assert significance.sign_flip_p(data) == significance.sign_flip_p(-data)
    if abs(data.mean()) > 1e-9:
        assert there == back.mirrored()
