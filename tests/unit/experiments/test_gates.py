"""Gates: read strictly, judged on intervals, sound over several lines."""

import dataclasses

import orjson
import pytest
import scipy
from hypothesis import given, settings
from hypothesis import strategies as st
from made_runs import a_run, degraded_run, of

from workbench import files
from workbench.errors import ConfigError, GateFailedError, NotFoundError
from workbench.experiments.gates import GateSpec, check_spec, check_tightens, judge

ORDER = {"fail": 0, "undecided": 1, "pass": 2}
TEXT = {
    "accuracy": {"min": 0.55},
    "recall_at_5": {"min": 0.80},
    "cross_tenant_hits": {"count": 0},
    "cases": {"min": 100},
    "confidence": 0.90,
}


def spec(confidence=0.9, **lines):
    return GateSpec.parse({**lines, "confidence": confidence}, where="params.yaml: gates.mvp")


def one_line(run, confidence=0.9, **lines):
    report = judge(run, spec(confidence, **lines), phase="mvp")
    assert len(report.lines) == 1
    return report.lines[0]


def judged_as_stated(run, gate):
    """The report on the run, had it been made under this very text."""
    return judge(dataclasses.replace(run, gate_digest=gate.digest), gate, phase="mvp")


# Reading


def test_the_gate_of_the_design_is_read_and_hashed():
    read = GateSpec.parse(TEXT, where="x")
    assert read.to_json() == TEXT
    assert read.digest == GateSpec.parse(dict(reversed(TEXT.items())), where="y").digest
    assert read.digest == GateSpec.parse({**TEXT, "cases": {"min": 100.0}}, where="x").digest
    assert read.digest != GateSpec.parse({**TEXT, "accuracy": {"min": 0.56}}, where="x").digest
    assert read.digest != GateSpec.parse({**TEXT, "confidence": 0.95}, where="x").digest


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ({"accuracy": {"mim": 0.5}}, r"accuracy: unknown key 'mim' \(nearest: 'min'"),
        ({"accuracy": {"min": 0.5, "max": 0.9}}, "exactly one of min, max, count"),
        ({"accuracy": {}}, "exactly one of min, max, count; found none"),
        ({"accuracy": 0.5}, r"must be a mapping such as \{min: 0.5\}"),
        ({"accuracy": {"min": True}}, "min must be a number"),
        ({"accuracy": {"min": float("nan")}}, "min must be a number"),
        ({"hits": {"count": 0.5}}, "whole number"),
        ({"cost_usd_per_case": {"count": 0}}, "whole number of a score"),
        ({"cases": {"max": 5}}, "takes min only"),
        ({"accuracy": {"min": 0.5, "margin": 0.1}}, "beside versus; found 0.1"),
        ({"accuracy": {"min": 0.5, "versus": "production", "margin": -0.1}}, "0 or more"),
        ({"accuracy": {"min": 0.5, "versus": 3}}, "names a label"),
        ({"latency_p95_s": {"max": 2, "versus": "production"}}, "a percentile has no pairs"),
        ({"accuracy": {"min": 0.5}, "score.accuracy": {"min": 0.6}}, "two lines for one metric"),
        ({}, "has no line"),
    ],
)
def test_a_wrong_gate_text_is_one_clear_error(lines, said):
    with pytest.raises(ConfigError, match=said) as caught:
        spec(**lines)
    assert "params.yaml: gates.mvp" in str(caught.value)


NAMED = {"versus": "production", "margin": 0.05}


@pytest.mark.parametrize(
    ("metric", "line", "part"),
    [
        ("accuracy", {"min": 0}, "min"),
        ("accuracy", {"min": -1}, "min"),
        ("accuracy", {"max": 1}, "max"),
        ("accuracy", {"max": 1.5}, "max"),
        ("score.accuracy", {"min": 0.0}, "min"),
        ("recall_at_5", {"min": 0}, "min"),
        ("ndcg_at_10", {"max": 1.0}, "max"),
        ("grounded", {"min": -0.1}, "min"),
        ("contains", {"min": -0.0}, "min"),
        ("politeness", {"min": 0}, "min"),
        ("unscored_rate", {"max": 1}, "max"),
        ("unscored_rate", {"max": 50}, "max"),
        ("unscored_rate", {"min": 0}, "min"),
        ("cost_usd_per_case", {"min": 0}, "min"),
        ("latency_p95_s", {"min": 0}, "min"),
        ("latency_mean_s", {"min": -2}, "min"),
        ("cases", {"min": 0}, "min"),
        ("cases", {"min": -5}, "min"),
        ("cases", {"min": 0.5}, "min"),
        ("accuracy", {"min": 0.5, "versus": "production", "margin": 1}, "margin"),
        ("unscored_rate", {"max": 0.1, "versus": "production", "margin": 2}, "margin"),
    ],
)
def test_a_line_that_no_run_can_fail_is_refused(metric, line, part):
    with pytest.raises(ConfigError, match=rf"gates.mvp.{metric}.{part} can never fail") as caught:
        spec(**{metric: line})
    assert "write" in caught.value.message


@pytest.mark.parametrize(
    ("metric", "line"),
    [
        ("accuracy", {"min": 0.01}),
        ("accuracy", {"max": 0.99}),
        ("accuracy", {"min": 0, **NAMED}),
        ("accuracy", {"max": 1, **NAMED}),
        ("words", {"max": 1}),
        ("rating", {"max": 5}),
        ("sentiment", {"min": -0.2}),
        ("rating", {"min": 4, "versus": "production", "margin": 1}),
        ("cases", {"min": 1}),
        ("hits", {"count": 0}),
        ("cost_usd_per_case", {"max": 0}),
        ("latency_p95_s", {"max": 2.0}),
    ],
)
def test_a_line_that_some_run_can_fail_is_read(metric, line):
    assert spec(**{metric: line}).rules[0].metric == metric


@pytest.mark.parametrize("confidence", [None, 95, 0.5, "0.9", True])
def test_confidence_is_asked_for(confidence):
    with pytest.raises(ConfigError, match="confidence must be between"):
        spec(confidence, accuracy={"min": 0.5})


def test_a_metric_the_run_does_not_have_names_the_nearest():
    with pytest.raises(ConfigError, match=r"no metric 'acuracy' in this run .*nearest: 'accuracy'"):
        judge(a_run(accuracy=of(3, 4)), spec(acuracy={"min": 0.5}), phase="mvp")


# Judging


@pytest.mark.parametrize(("right", "verdict"), [(75, "pass"), (60, "undecided"), (40, "fail")])
def test_a_min_is_judged_on_the_interval_never_on_the_point(right, verdict):
    line = one_line(a_run(accuracy=of(right, 100)), accuracy={"min": 0.55})
    exact = scipy.stats.beta.ppf([0.05, 0.95], [right, right + 1], [101 - right, 100 - right])
    assert [line.interval.low, line.interval.high] == pytest.approx(exact)
    assert line.verdict == verdict
    assert (line.needed is None) == (verdict != "undecided")


@pytest.mark.parametrize(("bad", "verdict"), [(10, "pass"), (18, "undecided"), (40, "fail")])
def test_a_max_is_the_mirror(bad, verdict):
    assert one_line(a_run(toxic=of(bad, 100)), toxic={"max": 0.2}).verdict == verdict


def test_the_cases_still_needed_decide_when_they_come():
    line = one_line(a_run(accuracy=of(60, 100)), accuracy={"min": 0.55})
    n = 100 + line.needed
    more = one_line(a_run(accuracy=of(int(0.6 * n), n)), accuracy={"min": 0.55})
    assert more.verdict == "pass"
    on_the_bound = one_line(a_run(accuracy=of(55, 100)), accuracy={"min": 0.55})
    assert on_the_bound.needed is None and "no number of cases decides" in on_the_bound.note


def test_a_count_judges_the_count_and_states_the_bound_it_supports():
    line = one_line(a_run(hits=of(0, 300)), 0.95, hits={"count": 0})
    assert (line.verdict, line.note) == ("pass", "0 of 300: below 1.0 % at 95 %")
    line = one_line(a_run(hits=[2.0, 1.0] + [0.0] * 98), hits={"count": 2})
    assert (line.verdict, line.value) == ("fail", 3.0)
    assert line.note.startswith("2 of 100: below 5.3 %")  # scipy: beta.ppf(0.9, 3, 98) = 0.0523
    unseen = one_line(a_run(accuracy=of(3, 5), hits=[None] * 5), hits={"count": 0})
    assert unseen.verdict == "undecided"
    assert unseen.note == "no case has this score; 5 of 5 cases without a value"


def test_too_few_scored_cases_are_missing_evidence():
    line = one_line(a_run(accuracy=[None] * 5 + of(60, 75)), cases={"min": 100})
    assert (line.verdict, line.value, line.needed, line.note) == ("undecided", 75.0, 25, "5 unscored")
    assert one_line(a_run(accuracy=of(60, 100)), cases={"min": 100}).verdict == "pass"


def test_unscored_cases_are_shown_and_can_be_bounded():
    run = a_run(accuracy=[None] * 30 + of(70, 70))
    report = judge(run, spec(accuracy={"min": 0.9}, unscored_rate={"max": 0.05}), phase="mvp")
    accuracy, unscored = report.lines
    assert (accuracy.verdict, accuracy.n) == ("pass", 70)
    assert accuracy.note == "30 of 100 cases without a value"
    assert (unscored.value, unscored.verdict, report.verdict) == (0.3, "fail", "fail")


def test_latency_and_cost():
    latency = [0.1 + i / 200 for i in range(200)]
    run = a_run(accuracy=of(150, 200), latency=latency, cost=0.0)
    bounds = {"cost_usd_per_case": 0.002, "latency_mean_s": 0.7, "latency_p95_s": 1.2}
    report = judge(run, spec(**{name: {"max": bound} for name, bound in bounds.items()}), phase="mvp")
    assert [line.verdict for line in report.lines] == ["pass", "pass", "pass"]
    assert report.lines[2].value == pytest.approx(latency[189])
    slow = judge(run, spec(latency_p95_s={"max": 0.9}), phase="mvp")
    assert slow.verdict == "fail"
    unsure = judge(run, spec(latency_p95_s={"max": 1.06}), phase="mvp").lines[0]
    assert unsure.verdict == "undecided" and unsure.needed > 0


def test_all_tenants_are_pooled_and_each_is_shown():
    line = one_line(a_run(accuracy=[1.0, 0.0] * 50), accuracy={"min": 0.3})
    assert line.verdict == "pass"
    assert {name: metric.value for name, metric in line.tenants.items()} == {"acme": 1.0, "globex": 0.0}


RATINGS = {
    "a single rating": [4.0],
    "three equal ratings": [4.0] * 3,
    "many equal ratings": [4.0] * 200,
    "equal percentages": [100.0] * 40,
    "one that differs": [4.0] * 29 + [5.0],
    "nine that differ": [4.0] * 40 + [5.0] * 9,
    "a single negative score": [-0.5],
    "equal negative scores": [-1.0] * 25,
    "equal counts": [2.0] * 60,
    "few ratings, all different": [1.0, 2.0, 3.0, 4.0, 5.0],
    "two ratings": [4.0, 4.5],
    "equal tiny and negative": [-1e-12] * 12,
}


@pytest.mark.parametrize("rating", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("bound", [{"max": 2}, {"min": 4}, {"min": -0.5}])
def test_a_bound_outside_0_to_1_shows_that_equal_ratings_from_0_to_1_prove_nothing(rating, bound):
    line = one_line(a_run(rating=[rating] * 50), rating=bound)
    assert (line.verdict, line.interval, line.needed) == ("undecided", None, None)


@pytest.mark.parametrize("ratings", RATINGS.values(), ids=RATINGS)
def test_nearly_equal_ratings_on_another_scale_are_undecided_with_the_reason(ratings):
    """A bootstrap of equal values is [4, 4], which would be certain."""
    run = a_run(rating=ratings)
    for bound in ({"min": min(ratings) - 0.25}, {"max": max(ratings) + 0.25}, {"min": ratings[0] or -1}):
        line = one_line(run, rating=bound)
        assert (line.verdict, line.interval, line.needed) == ("undecided", None, None)
        assert "no interval" in line.note and "divide the score by its maximum" in line.note
        assert line.to_json()["interval"] is None and line.value == pytest.approx(sum(ratings) / len(ratings))


def test_ratings_that_differ_have_an_interval_and_scaled_ones_always_do():
    ratings = [3.0, 4.0, 5.0] * 20
    line = one_line(a_run(rating=ratings), rating={"min": 3.5})
    assert line.verdict == "pass" and 3.5 < line.interval.low < 4 < line.interval.high
    line = one_line(a_run(rating=[value / 5 for value in RATINGS["many equal ratings"]]), rating={"min": 0.7})
    assert (line.verdict, line.interval.method) == ("pass", "exact")
    equal_price = one_line(a_run(accuracy=of(5, 10), cost=2.0), cost_usd_per_case={"max": 2.5})
    assert (equal_price.verdict, equal_price.interval.low) == ("pass", 2.0)


# Against a baseline


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ([4.0], [4.0]), ([4.0] * 30, [4.0] * 30), ([4.0] * 30, [3.0] * 30), ([3.0] * 30, [4.0] * 30),
        ([4.0] * 29 + [5.0], [4.0] * 30), ([5.0] * 9 + [4.0] * 21, [4.0] * 30), ([100.0] * 50, [100.0] * 50),
        ([-1.0] * 20, [-1.0] * 20), ([0.0] * 20, [2.0] * 20), ([2.0] * 20, [0.0] * 20),
    ],
)  # fmt: skip
def test_nearly_equal_differences_of_ratings_are_undecided_against_a_baseline(ours, theirs):
    text = {"min": -1.5, "versus": "production", "margin": 0.5}
    report = judge(
        a_run(rating=ours), spec(rating=text), phase="mlvp", baseline=a_run("today", rating=theirs)
    )
    versus = report.lines[1]
    assert (versus.verdict, versus.interval, versus.needed) == ("undecided", None, None)
    assert "no interval" in versus.note and "no number of cases" not in versus.note


VERSUS = {"min": 0.5, "versus": "production", "margin": 0.05}


def test_versus_asks_for_not_worse_than_the_baseline_by_more_than_the_margin():
    base = a_run("today", accuracy=of(240, 300))
    slightly = of(240, 300)
    slightly[:3] = [0.0] * 3
    report = judge(a_run(accuracy=slightly), spec(accuracy=VERSUS), phase="mlvp", baseline=base)
    own, versus = report.lines
    assert (own.verdict, versus.verdict, report.baseline) == ("pass", "pass", base.id)
    assert versus.rule == ">= -0.05 versus production"
    worse = judge(a_run(accuracy=of(190, 300)), spec(accuracy=VERSUS), phase="mlvp", baseline=base)
    assert [line.verdict for line in worse.lines] == ["pass", "fail"]


def test_without_a_baseline_the_min_decides_and_says_so():
    line = one_line(a_run(accuracy=of(240, 300)), accuracy=VERSUS)
    assert (line.verdict, line.note) == ("pass", "no baseline: the min decides")


def test_dearer_than_the_baseline_fails_a_max_with_versus():
    text = {"max": 1.0, "versus": "production", "margin": 0.001}
    base = a_run("today", accuracy=of(5, 10), cost=0.001)
    dear = a_run(accuracy=of(5, 10), cost=0.004)
    gate = spec(cost_usd_per_case=text)
    assert [x.verdict for x in judge(dear, gate, phase="mlvp", baseline=base).lines] == ["pass", "fail"]
    assert [x.verdict for x in judge(base, gate, phase="mlvp", baseline=dear).lines] == ["pass", "pass"]


def test_a_baseline_over_other_cases_is_refused():
    with pytest.raises(ConfigError, match="different cases"):
        judge(a_run(s=of(5, 10)), spec(s=VERSUS), phase="mlvp", baseline=a_run("today", s=of(5, 11)))


# Several lines


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(15, 60), min_size=1, max_size=5))
def test_fails_are_holms_over_the_family(counts):
    """The set of failed lines is what Holm's procedure rejects, by statsmodels."""
    run = a_run(**{f"s{i}": of(count, 80) for i, count in enumerate(counts)})
    report = judge(run, spec(**{f"s{i}": {"min": 0.55} for i in range(len(counts))}), phase="mvp")
    from statsmodels.stats.multitest import multipletests

    p_values = [scipy.stats.binom.cdf(count, 80, 0.55) for count in counts]
    rejected = multipletests(p_values, alpha=0.05, method="holm")[0]
    assert [line.verdict == "fail" for line in report.lines] == list(rejected)


def test_a_line_beyond_its_bound_only_by_itself_is_undecided_in_a_family():
    right = 46  # P(X <= 46 | 100, 0.55) = 0.044: below 0.05, not below 0.05 / 2
    assert one_line(a_run(a=of(right, 100)), a={"min": 0.55}).verdict == "fail"
    run = a_run(a=of(right, 100), b=of(80, 100))
    report = judge(run, spec(a={"min": 0.55}, b={"min": 0.55}), phase="mvp")
    assert [line.verdict for line in report.lines] == ["undecided", "pass"]
    assert "not surely as one of 2 lines" in report.lines[0].note
    n = 100 + report.lines[0].needed
    more = a_run(a=of(-int(-0.46 * n // 1), n), b=of(n, n))
    assert judge(more, spec(a={"min": 0.55}, b={"min": 0.55}), phase="mvp").verdict == "fail"


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 60), st.floats(0.01, 0.99), st.floats(0, 0.5))
def test_a_tighter_gate_never_judges_better(right, bound, more):
    run = a_run(accuracy=of(right, 60), other=of(20, 60))
    lines = {"other": {"min": 0.45}}
    loose = judge(run, spec(accuracy={"min": bound}, **lines), phase="x").lines[0].verdict
    tight = judge(run, spec(accuracy={"min": min(0.999, bound + more)}, **lines), phase="x").lines[0].verdict
    assert ORDER[tight] <= ORDER[loose]


def test_the_report_is_as_its_worst_line():
    run = a_run(a=of(90, 100), b=of(60, 100), c=of(5, 100))
    a, b, c = {"a": {"min": 0.5}}, {"b": {"min": 0.55}}, {"c": {"min": 0.5}}
    for lines, verdict, code in (({**a}, "pass", 0), ({**a, **b}, "undecided", 4), ({**b, **c}, "fail", 1)):
        report = judged_as_stated(run, spec(**lines))
        assert (report.verdict, report.exit_code) == (verdict, code)
        if verdict == "pass":
            report.raise_if_not_passed()
            continue
        with pytest.raises(GateFailedError, match=f"the mvp gate says {verdict} of new") as caught:
            report.raise_if_not_passed()
        assert caught.value.exit_code == code


def test_the_report_carries_the_hash_and_whether_it_was_stated_before():
    gate = spec(accuracy={"min": 0.5})
    before = judge(a_run(accuracy=of(60, 80), gate=gate.digest), gate, phase="mvp")
    after = judge(a_run(accuracy=of(60, 80), gate="another"), gate, phase="mvp")
    assert (before.gate_digest, before.stated_before, after.stated_before) == (gate.digest, True, False)
    assert "stated before the run" in str(before) and "NOT stated before this run" in str(after)


def test_a_verdict_on_another_text_than_was_stated_is_no_pass():
    gate = spec(accuracy={"min": 0.5})
    report = judge(a_run(accuracy=of(60, 80), gate="another"), gate, phase="mvp")
    assert (report.provisional_verdict, report.verdict, report.exit_code) == ("pass", "undecided", 4)
    assert "· UNDECIDED" in str(report) and "next: dvc repro   # when params.yaml states" in str(report)
    assert report.to_json()["verdict"] == "undecided"
    with pytest.raises(GateFailedError, match="undecided of new: its text was not stated before the run"):
        report.raise_if_not_passed()
    assert judge(a_run(accuracy=of(5, 80), gate="another"), gate, phase="mvp").exit_code == 1


def test_a_report_says_how_many_searches_the_last_snapshot_answered_and_nothing_without_any():
    gate = spec(accuracy={"min": 0.5})
    report = judged_as_stated(degraded_run(2, accuracy=of(60, 80)), gate)
    assert (report.verdict, report.to_json()["n_degraded"]) == ("pass", 2)
    assert "degraded: 2 searches were answered by the last snapshot: the server was away" in str(report)
    healthy = judged_as_stated(a_run(accuracy=of(60, 80)), gate)
    assert "n_degraded" not in healthy.to_json() and "degraded" not in str(healthy)


def test_the_report_as_json_is_the_same_bytes_each_time():
    run = a_run(accuracy=of(60, 80), grounded=[i / 80 for i in range(80)])
    gate = spec(accuracy={"min": 0.5}, grounded={"min": 0.3})
    first, second = (files.canonical(judged_as_stated(run, gate).to_json()) for _ in range(2))
    assert first == second
    read, low = orjson.loads(first), round(float(scipy.stats.beta.ppf(0.05, 60, 21)), 6)
    assert (read["verdict"], read["lines"][0]["interval"]["low"]) == ("pass", low)


# Before any run


def test_a_gate_that_can_never_pass_is_named_with_the_cases_it_takes():
    gate = spec(
        accuracy={"min": 0.99},
        recall={"min": 1.0},
        toxic={"max": 0.0},
        latency_p95_s={"max": 2.0},
        unscored_rate={"max": 0.05},
        cases={"min": 100},
        words={"max": 40.0},
        hits={"count": 0},
        cost_usd_per_case={"max": 0.1},
    )
    found = check_spec(gate, 50)
    assert [problem.split()[0] for problem in found] == [
        "accuracy",
        "recall",
        "toxic",
        "latency_p95_s",
        "unscored_rate",
        "cases",
    ]
    assert "it takes 299" in found[0]  # log(0.05) / log(0.99) = 298.1
    assert "use count: 0" in found[2]
    assert "takes 59 cases" in found[3]
    assert [problem.split()[0] for problem in check_spec(gate, 299)] == ["recall", "toxic"]
    assert len(check_spec(gate, 0)) == len(gate.rules)


def test_what_check_spec_lets_through_perfect_cases_pass():
    for n in (5, 29, 58, 59, 298, 299):
        gate = spec(s={"min": 0.99}, t={"max": 0.05}, latency_p95_s={"max": 9})
        report = judge(a_run(s=of(n, n), t=of(0, n)), gate, phase="x")
        hopeless = {problem.split()[0] for problem in check_spec(gate, n)}
        assert {line.metric for line in report.lines if line.verdict != "pass"} == hopeless


def test_mlvp_may_only_tighten():
    mvp = GateSpec.parse(TEXT, where="x")
    tighter = {**TEXT, "accuracy": {"min": 0.7, "versus": "production", "margin": 0.05}, "confidence": 0.95}
    check_tightens(mvp, GateSpec.parse(tighter, where="x"))
    check_tightens(mvp, GateSpec.parse({**tighter, "latency_p95_s": {"max": 2.0}}, where="x"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"accuracy": {"min": 0.5}}, "accuracy >= 0.5 is looser than >= 0.55"),
        ({"accuracy": {"max": 0.9}}, "accuracy changes from min to max"),
        ({"cross_tenant_hits": {"count": 1}}, "cross_tenant_hits at most 1 is looser"),
        ({"cases": {"min": 60}}, "cases >= 60 is looser"),
        ({"confidence": 0.8}, "confidence 0.8 is below 0.9"),
        ({"recall_at_5": None}, "recall_at_5 is missing"),
    ],
)
def test_a_looser_or_missing_line_is_named(change, said):
    mlvp = {name: line for name, line in {**TEXT, **change}.items() if line is not None}
    with pytest.raises(ConfigError, match=said):
        check_tightens(GateSpec.parse(TEXT, where="x"), GateSpec.parse(mlvp, where="x"))


def test_a_wider_margin_or_no_comparison_is_looser():
    mvp = spec(accuracy=VERSUS)
    for line in ({**VERSUS, "margin": 0.1}, {"min": 0.5}):
        with pytest.raises(ConfigError, match="loosens its comparison versus production"):
            check_tightens(mvp, spec(accuracy=line))


# Cards


def test_the_card_ends_with_the_next_command_by_verdict():
    run = a_run(accuracy=of(60, 100))
    for bound, form in ((0.4, "workbench report"), (0.9, "workbench compare {} BASELINE")):
        report = judged_as_stated(run, spec(accuracy={"min": bound}))
        command = form.format(report.run)
        assert f"next: {command}" in str(report) and command in report._repr_html_()
    report = judged_as_stated(run, spec(accuracy={"min": 0.55}))
    assert f"after adding about {report.needed} cases" in str(report)
    assert f"◐ undecided ({report.needed} more cases)" in report._repr_html_()


def test_a_phase_without_a_gate_is_named_with_the_nearest_one():
    gates = {"mvp": {"confidence": 0.9, "accuracy": {"min": 0.5}}}
    assert GateSpec.of_phase(gates, "mvp", where="params.yaml: gates").confidence == 0.9
    with pytest.raises(NotFoundError, match=r"no phase 'mlvp' \(nearest: 'mvp'\)") as caught:
        GateSpec.of_phase(gates, "mlvp", where="params.yaml: gates")
    assert "gates.mlvp" in caught.value.hint
