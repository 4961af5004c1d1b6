"""Comparing two runs, and several as one family."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_runs import a_run, as_control, made_of, of

from workbench.errors import ConfigError, NotFoundError
from workbench.experiments.compare import compare, compare_all
from workbench.experiments.significance import mcnemar

OPPOSITE = {"better": "worse", "worse": "better", "undecided": "undecided", "same": "same"}
WRONG_RIGHT = st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 1.0])), min_size=8)


def test_a_better_arm_is_better_with_effect_flips_and_an_exact_p():
    old = of(50, 100)
    new = [1.0] * 45 + [0.0] * 5 + [1.0] * 30 + [0.0] * 20
    found = compare(a_run(accuracy=new), a_run("today", accuracy=old))
    line = found["accuracy"]
    assert (found.verdict, line.test, line.needed) == ("better", "exact McNemar", None)
    assert (line.baseline, line.value, line.effect) == (0.5, 0.75, 0.25)
    assert (len(line.improved), line.worsened) == (30, tuple(f"q{i:04}" for i in range(45, 50)))
    assert line.p == mcnemar(30, 5)
    assert 0.1 < line.interval.low < 0.25 < line.interval.high < 0.4


def test_scores_are_tested_by_permutation():
    random = np.random.default_rng(1)
    old = list(random.random(60) / 2)
    new = [value + 0.1 + shift for value, shift in zip(old, random.random(60) / 10, strict=True)]
    found = compare(a_run(grounded=new), a_run("today", grounded=old))
    assert (found["grounded"].test, found.verdict) == ("paired permutation", "better")


@settings(max_examples=25, deadline=None)
@given(WRONG_RIGHT)
def test_better_one_way_is_worse_the_other_way(pairs):
    one, two = a_run("one", s=[a for a, _ in pairs]), a_run("two", s=[b for _, b in pairs])
    there, back = compare(one, two)["s"], compare(two, one)["s"]
    assert there.verdict == OPPOSITE[back.verdict]
    assert (there.p, there.effect, there.improved) == (back.p, -back.effect, back.worsened)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=8), st.randoms())
def test_the_order_of_cases_changes_nothing(pairs, random):
    one, two = a_run("one", s=[a for a, _ in pairs]), a_run("two", s=[b for _, b in pairs])
    rows = one.cases.to_dicts()
    random.shuffle(rows)
    assert compare(made_of("one", rows, ["s"]), two).lines == compare(one, two).lines


def test_less_is_better_where_it_is():
    clean, leaky = a_run("clean", cross_tenant_hits=of(0, 60)), a_run("leaky", cross_tenant_hits=of(30, 60))
    assert compare(leaky, clean).verdict == "worse"
    assert compare(clean, leaky).verdict == "better"
    words = compare(a_run(words=[5.0] * 30), a_run("today", words=[9.0] * 30), lower_is_better={"words"})
    assert (words.verdict, words["words"].effect) == ("better", -4.0)


def test_undecided_says_how_many_cases_are_missing():
    new = of(50, 100)
    new[55:60] = [1.0] * 5
    new[:2] = [0.0] * 2
    found = compare(a_run(s=new), a_run("today", s=of(50, 100)))
    assert found.verdict == "undecided"
    assert found["s"].needed == 509  # (1.96 sqrt(0.07) + 0.8416 sqrt(0.07 - 0.03^2))^2 / 0.03^2 = 608.1
    assert "509 more cases" in str(found) and "dvc repro   # after adding about 509 cases" in str(found)
    draft = replace(a_run(s=new), settings={"prompt": "answer@draft-1f2e3d4c"})
    assert "next: ws.cases().sample(609, seed=1)" in str(compare(draft, a_run("today", s=of(50, 100))))


def test_arms_that_agree_on_every_case_are_the_same_and_not_undecided():
    same = compare(a_run(s=of(50, 100)), a_run("today", s=of(50, 100)))
    assert (same.verdict, same["s"].needed, same["s"].p) == ("same", None, 1.0)
    assert "· SAME" in str(same) and "= same" in str(same) and same.to_json()["verdict"] == "same"
    moved = compare(a_run(s=of(50, 100)), a_run("today", s=of(50, 100)[::-1]))
    assert (moved.verdict, moved["s"].effect) == ("undecided", 0.0)  # as good, on other cases


def test_a_case_with_a_score_on_one_side_only_is_no_agreement():
    lacking = [None, *of(49, 99)]
    one_sided = compare(a_run(s=lacking), a_run("today", s=of(50, 100)))
    assert (one_sided.verdict, one_sided["s"].left_out) == ("undecided", 1)
    both = compare(a_run(s=lacking), a_run("today", s=lacking))
    assert (both.verdict, both["s"].left_out) == ("same", 1)


def test_a_control_that_is_worse_is_as_expected_and_one_that_is_better_is_not():
    today = a_run("today", s=of(50, 100), t=of(50, 100))
    none, odd = (
        as_control(run) for run in (a_run("none", s=of(0, 100), t=of(90, 100)), a_run("odd", s=of(90, 100)))
    )
    low, high, new = compare_all([none, odd, a_run("new", s=of(9, 100))], baseline=today)
    assert (low.verdict, low.standing) == ("worse", "control, as expected")
    assert "○ control, as expected" in str(low) and "↑ higher" in str(low)
    assert "worse" not in str(low).replace("got worse", "") and "#d64545" not in low.card().html()
    assert "next:" not in str(low) and 'next: result.flips(arm="odd")' in str(high)
    assert low.to_json()["control"] == "control, as expected"
    assert high.standing == "control, not as expected"
    assert (new.standing, "control" in new.to_json()) == ("worse", False) and "#d64545" in new.card().html()


def test_a_margin_tells_not_worse_from_not_known():
    today = a_run("today", s=of(240, 300))
    slightly = of(240, 300)
    slightly[:3] = [0.0] * 3
    assert compare(a_run(s=slightly), today, margin=0.05)["s"].non_inferior == "pass"
    assert compare(a_run(s=slightly), today, margin=0.005)["s"].non_inferior == "undecided"
    assert compare(a_run(s=of(150, 300)), today, margin=0.05)["s"].non_inferior == "fail"


def test_a_case_unscored_on_either_side_is_left_out_and_counted():
    one = a_run("one", s=[None, 1.0, 1.0, 0.0])
    two = a_run("two", s=[1.0, None, 0.0, 0.0])
    line = compare(one, two)["s"]
    assert (line.n, line.left_out, line.effect) == (2, 2, 0.5)
    assert "having no score on one side: s 2" in str(compare(one, two))


def test_a_score_only_one_arm_can_have_is_not_compared():
    one = a_run("closed book", s=of(2, 9), recall=[None] * 9)
    two = a_run("retrieved", s=of(8, 9), recall=of(8, 9))
    assert [line.metric for line in compare(two, one).lines] == ["s"]
    with pytest.raises(ConfigError, match="no case has recall in both retrieved and closed book"):
        compare(two, one, metric="recall")
    with pytest.raises(ConfigError, match="no case has a common score"):
        compare(a_run(s=of(2, 9)), a_run("other", t=of(2, 9)))


def test_unmatched_runs_are_refused_naming_cases():
    with pytest.raises(ConfigError, match=r"3 only in new: q0010, q0011, q0012") as caught:
        compare(a_run(s=of(5, 13)), a_run("today", s=of(5, 10)))
    assert "exp.compare" in caught.value.hint
    with pytest.raises(ConfigError, match="different datasets"):
        compare(a_run(s=of(5, 10)), a_run("today", s=of(5, 10), dataset="other"))
    with pytest.raises(ConfigError, match="level must be"):
        compare(a_run(s=of(5, 10)), a_run("today", s=of(5, 10)), level=95)


def test_repeats_are_one_piece_of_evidence_per_case():
    one = a_run("one", s=[1.0, 1.0, 0.0] * 4, repeats=3)
    two = a_run("two", s=[0.0, 1.0, 0.0] * 4, repeats=3)
    line = compare(one, two)["s"]
    assert (line.n, line.test) == (4, "paired permutation")
    assert line.effect == pytest.approx(1 / 3)
    assert (line.p, line.verdict) == (0.125, "undecided")  # 4 cases can do no better than 2 / 2^4


def test_more_arms_and_metrics_do_not_make_more_winners():
    base = a_run("today", s=of(50, 100))
    lucky = of(50, 100)
    lucky[50:58], lucky[0] = [1.0] * 8, 0.0  # p = 0.039 alone
    alone = compare(a_run("lucky", s=lucky), base)
    assert alone.verdict == "better"
    arms = [a_run("lucky", s=lucky), a_run("same", s=of(50, 100)), a_run("else", s=of(50, 100))]
    several = compare_all(arms, baseline=base)
    assert several["lucky"]["s"].p == pytest.approx(3 * mcnemar(8, 1))
    assert several["lucky"].verdict == "undecided"
    assert several.frame.select("arm", "metric").height == 9
    with pytest.raises(NotFoundError, match="nearest: 'lucky'"):
        several["luky"]


def test_two_arms_of_the_same_quality_rarely_differ():
    random, found = np.random.default_rng(5), 0
    for _ in range(60):
        flips = random.binomial(20, 0.5)
        found += mcnemar(int(flips), int(20 - flips)) <= 0.05
        old, new = random.random(25), random.random(25)
        found += compare(a_run(g=list(new)), a_run("today", g=list(old))).verdict != "undecided"
    assert found <= 13  # of 120 at 5 %: 6 expected, 13 is the 99.7 % quantile


def test_cost_and_latency_stand_beside_without_a_verdict():
    found = compare(a_run(s=of(5, 10), cost=0.004), a_run("today", s=of(5, 10), cost=0.001))
    line = found["cost_usd_per_case"]
    assert line.effect == pytest.approx(0.003)
    assert (line.verdict, line.p) == (None, None)
    assert found.frame["metric"].to_list() == ["s", "cost_usd_per_case", "latency_mean_s"]


def test_the_card_shows_the_verdict_and_the_next_command():
    new, today = a_run(s=of(90, 100)), a_run("today", s=of(50, 100))
    found = compare(new, today)
    assert str(found).startswith("new against today · s · BETTER")
    assert str(found).endswith(f"next: workbench gate {new.id}")
    assert "▲ better" in found._repr_html_() and new.id in found._repr_html_()
    worse = compare(today, new)
    assert f"workbench gate {new.id}   # keep new" in str(worse)
    ungated = compare(a_run(s=of(90, 100), gate=None), today)
    assert str(ungated).endswith("next: make lab   # no gate is stated for these runs")
