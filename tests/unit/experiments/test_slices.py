"""Slices: read from the cases, judged on intervals, and the planted bad one is named."""

import dataclasses

import numpy as np
import pytest
import scipy
from hypothesis import given, settings
from hypothesis import strategies as st
from made_runs import a_run, of
from sizes import SOAK

from workbench import files
from workbench.errors import ConfigError
from workbench.experiments.compare import compare
from workbench.experiments.dataset import Case, Dataset
from workbench.experiments.gate_spec import stated_digest
from workbench.experiments.gates import GateSpec, check_spec, check_tightens, judge
from workbench.experiments.loosening import Verdicted, loosened
from workbench.experiments.slices import MOST, NONE, Slicing

LINE = {"min": 0.55, "worst_slice": 0.3}
GATES = 2_000 if SOAK else 20


def cases_of(labels, **columns):
    """One case a label; a column is a list with a value for each case."""
    return Dataset(
        name="tickets",
        cases=tuple(
            Case(
                id=f"q{n:04}",
                tenant=("acme", "globex")[n % 2],
                inputs={"question": "Why?"},
                expected={"label": label, **{name: values[n] for name, values in columns.items()}},
            )
            for n, label in enumerate(labels)
        ),
    )


def spec(slices=("label",), confidence=0.9, **lines):
    return GateSpec.parse({**lines, "confidence": confidence}, where="params.yaml: gates.mvp", slices=slices)


def judged(labels, scores, names=("label",), **line):
    """The report of a gate on the accuracy of these cases, as if its text was stated before the run."""
    gate = spec(names, accuracy=line or LINE)
    run = a_run(accuracy=scores, gate=gate.digest)
    return judge(run, gate, phase="mvp", slicing=Slicing.of(cases_of(labels), names))


def worst_of(report):
    (line,) = [line for line in report.lines if line.rule.startswith("worst slice")]
    return line


# Values


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("billing", "billing"),
        (None, NONE),
        (["a", "b"], NONE),
        (("a",), NONE),
        ({"a": 1}, NONE),
        ("", NONE),
        (" two\n words ", "two words"),
        (3, "3"),
        (0.5, "0.5"),
        (True, "true"),
    ],
)
def test_a_scalar_names_its_slice_and_everything_else_is_none(value, key):
    slicing = Slicing.of(cases_of(["other", value]), ["label"])
    assert slicing.sizes == {"label": {"other": 1, key: 1}}


def test_slices_are_by_tenant_input_expected_and_provenance():
    cases = tuple(
        dataclasses.replace(case, provenance={"generator": "g", "seed": n % 3})
        for n, case in enumerate(cases_of(["x"] * 6))
    )
    slicing = Slicing.of(Dataset(name="d", cases=cases), ["tenant", "question", "label", "seed"])
    assert slicing.sizes == {
        "tenant": {"acme": 3, "globex": 3},
        "question": {"Why?": 6},
        "label": {"x": 6},
        "seed": {"0": 2, "1": 2, "2": 2},
    }


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["lable"], r"'lable' is no column of a case \(nearest: 'label'"),
        (["label", "label"], "'label' is named twice"),
        (["answers"], "no case has a single value in answers"),
        (["number"], f"number has {MOST + 1} values, and at most {MOST} make slices"),
    ],
)
def test_slices_that_do_not_exist_or_are_too_many_are_one_error(names, said):
    n = MOST + 1
    cases = cases_of(["x"] * n, answers=[["a"]] * n, number=list(range(n)))
    with pytest.raises(ConfigError, match=said) as caught:
        Slicing.of(cases, names, where="use_cases.triage.slices")
    assert caught.value.message.startswith("use_cases.triage.slices: ") and caught.value.hint


def test_fifty_values_are_slices():
    assert len(Slicing.of(cases_of(list(range(MOST))), ["label"]).sizes["label"]) == MOST


def test_a_gate_on_slices_by_provenance_covers_their_values_and_any_other_only_the_dataset():
    """The dataset's digest leaves provenance out: relabelled slices are another gate."""

    def digest(by, author):
        cases = [dataclasses.replace(c, provenance={"author": author}) for c in cases_of(["x"] * 3)]
        slicing = Slicing.of(Dataset(name="d", cases=tuple(cases)), ["author", "label"])
        gate = spec(("author", "label"), accuracy={**LINE, "by": by})
        beyond = slicing.digest_beyond(gate)
        return stated_digest(gate, dataset="d", scorers={}, slices=beyond), beyond

    assert digest(["author"], "ann")[0] != digest(["author"], "bob")[0]
    assert digest(["label"], "ann") == digest(["label"], "bob") and digest(["label"], "ann")[1] is None
    gate = spec(("label",), accuracy={"min": 0.5})
    before = files.digest({"gate": gate.to_json(), "dataset": "d", "scorers": {}})
    assert stated_digest(gate, dataset="d", scorers={}) == before


# The text of the gate


def test_a_line_names_its_columns_in_the_digest_whatever_the_order():
    gate = spec(("tenant", "label"), accuracy=LINE)
    assert gate.to_json()["accuracy"] == {"min": 0.55, "worst_slice": 0.3, "by": ["label", "tenant"]}
    assert GateSpec.parse(gate.to_json(), where="x") == gate
    assert spec(("label", "tenant"), accuracy=LINE).digest == gate.digest
    assert spec(("label",), accuracy=LINE).digest != gate.digest
    assert spec(("label", "tenant"), accuracy={**LINE, "by": ["label"]}).digest != gate.digest


def test_slices_that_no_line_judges_change_no_digest():
    assert spec(("tenant",), accuracy={"min": 0.5}).digest == spec(None, accuracy={"min": 0.5}).digest


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"min": 0.5, "worst_slice": "low"}, "worst_slice must be a number, found 'low'"),
        ({"min": 0.5, "worst_slice": True}, "worst_slice must be a number, found True"),
        ({"min": 0.5, "worst_slice": None}, "worst_slice must be a number, found None"),
        ({"min": 0.5, "worst_slice": float("nan")}, "worst_slice must be a number"),
        ({"min": 0.5, "worst_slice": 0}, "worst_slice can never fail"),
        ({"max": 0.5, "worst_slice": 1}, "worst_slice can never fail"),
        ({"count": 0, "worst_slice": 0.1}, "worst_slice stands beside min or max"),
        ({"min": 0.5, "by": ["label"]}, "by names the columns of worst_slice"),
        ({"min": 0.5, "worst_slice": 0.3, "by": "label"}, "by must be a list"),
        ({"min": 0.5, "worst_slice": 0.3, "by": []}, "there are no slices to judge"),
        ({"min": 0.5, "worst_slice": 0.3, "by": ["labl"]}, r"'labl' is not declared \(nearest: 'label'"),
        ({"min": 0.5, "worst_slices": 0.3}, r"unknown key 'worst_slices' \(nearest: 'worst_slice'"),
    ],
)
def test_a_wrong_demand_is_one_clear_error(line, said):
    with pytest.raises(ConfigError, match=said) as caught:
        spec(accuracy=line)
    assert "params.yaml: gates.mvp.accuracy" in str(caught.value)


def test_a_demand_needs_declared_slices_and_the_number_of_cases_has_none():
    with pytest.raises(ConfigError, match="there are no slices to judge") as caught:
        spec((), accuracy=LINE)
    assert "slices: [tenant]" in caught.value.hint
    with pytest.raises(ConfigError, match="worst_slice stands beside"):
        spec(cases={"min": 100, "worst_slice": 10})


def test_check_names_the_slices_that_can_never_be_decided():
    gate, sizes = spec(accuracy=LINE), {"label": {"billing": 40, "refund": 9, "other": 3}}
    (problem,) = check_spec(gate, 52, sizes=sizes)
    assert "accuracy worst slice >= 0.3 can never pass: too few cases by label: other 3, refund 9" in problem
    assert "billing" not in problem
    assert not check_spec(gate, 52, sizes={"label": {"billing": 40, "refund": 10}})
    (problem,) = check_spec(spec(accuracy={"min": 0.5, "worst_slice": 0.9}), 52, sizes={"label": {"a": 20}})
    assert "20 perfect cases show" in problem and "it takes 29" in problem


@pytest.mark.parametrize(
    ("later", "said"),
    [
        ({"min": 0.55}, "demands nothing of its worst slice"),
        ({"min": 0.55, "worst_slice": 0.2}, "worst slice >= 0.2 is looser than >= 0.3"),
        ({"min": 0.6, "worst_slice": 0.3, "by": ["tenant"]}, "judges no slices by label"),
    ],
)
def test_mlvp_may_only_tighten_the_demand_and_its_removal_is_a_loosening(later, said):
    names = ("label", "tenant")
    mvp, mlvp = spec(names, accuracy=LINE), spec(names, accuracy=later)
    with pytest.raises(ConfigError, match=said):
        check_tightens(mvp, mlvp)
    check_tightens(mlvp, spec(names, accuracy={"min": 0.6, "worst_slice": 0.4}))
    plain = {"task": "t", "settings": "s", "dataset": "d", "n": 9, "scorers": {}, "phase": "mvp"}
    before, now = (Verdicted(**plain, verdict="fail", gate=gate) for gate in (mvp, mlvp))
    assert Verdicted.parse(before.line(), where="x") == before
    found = loosened(now, [before])
    assert found and found.same_task and "worst slice >= 0.3 by label, tenant" in found.text
    assert loosened(dataclasses.replace(now, gate=mvp), [before]) is None


# The verdict


def test_a_planted_bad_slice_fails_the_gate_and_is_named():
    labels = ["billing"] * 40 + ["refund"] * 40 + ["other"] * 40
    report = judged(labels, of(38, 40) + of(2, 40) + of(38, 40))
    line = worst_of(report)
    assert (report.verdict, line.verdict, report.lines[0].verdict) == ("fail", "fail", "pass")
    assert (line.value, line.n, line.needed) == (0.05, 40, None) and "label=refund of 3 slices" in line.note
    assert line.interval.high < 0.3 and line.rule == "worst slice >= 0.3"
    assert [item.key for item in line.slices] == ["refund", "billing", "other"]
    assert [item.verdict for item in line.slices] == ["fail", "pass", "pass"]
    assert "accuracy by label, worst first: refund 0.05 [0.00896, 0.149] n 40 fail; billing" in str(report)
    assert "refund" in report._repr_html_()


def test_a_good_set_passes_and_names_the_worst_too():
    report = judged(["a"] * 40 + ["b"] * 40, of(40, 40) + of(30, 40))
    line = worst_of(report)
    assert report.verdict == "pass" and "label=b of 2 slices" in line.note and line.value == 0.75


@pytest.mark.parametrize("n", [1, 5, 9])
def test_a_small_slice_is_undecided_with_the_cases_it_lacks_however_good(n):
    report = judged(["a"] * 60 + ["rare"] * n, of(60 + n, 60 + n))
    line = worst_of(report)
    assert (report.verdict, line.verdict, line.n) == ("undecided", "undecided", n)
    assert "label=rare" in line.note and "fewer than 10 cases never pass" in line.note
    assert line.needed >= 10 - n


def test_a_small_slice_of_an_equal_amount_does_not_pass_either():
    gate = spec(latency_mean_s={"max": 2.0, "worst_slice": 3.0})
    run = a_run(accuracy=of(61, 61), latency=[0.5] * 61, gate=gate.digest)
    report = judge(run, gate, phase="mvp", slicing=Slicing.of(cases_of(["a"] * 60 + ["rare"]), ["label"]))
    assert report.lines[0].verdict == "pass" and worst_of(report).verdict == "undecided"


def test_a_slice_of_which_no_case_is_scored_is_undecided():
    report = judged(["a"] * 60 + ["rare"] * 12, [*of(60, 60), *[None] * 12])
    assert (worst_of(report).verdict, worst_of(report).n, worst_of(report).needed) == ("undecided", 0, None)


def test_a_line_whose_slices_are_unknown_is_undecided_and_says_why():
    gate = spec(accuracy=LINE)
    run = a_run(accuracy=of(60, 60), gate=gate.digest)
    for slicing in (None, Slicing.of(cases_of(["a"] * 59), ["label"])):
        report = judge(run, gate, phase="mvp", slicing=slicing)
        assert report.verdict == "undecided" and worst_of(report).verdict == "undecided"
        missing = 60 if slicing is None else 1
        assert f"the slices of {missing} of 60 cases are unknown" in worst_of(report).note


def test_declared_slices_without_a_demand_are_shown_and_decide_nothing():
    report = judged(["a"] * 40 + ["b"] * 40, of(40, 40) + of(0, 40), min=0.3)
    assert report.verdict == "pass" and len(report.lines) == 1
    assert [(item.key, item.verdict) for item in report.lines[0].slices] == [("b", None), ("a", None)]
    assert "accuracy by label, worst first: b 0 " in str(report)
    assert report.to_json()["lines"][0]["slices"][0]["key"] == "b"


def test_without_declared_slices_a_line_has_the_form_it_had():
    gate = spec((), accuracy={"min": 0.5})
    line = judge(a_run(accuracy=of(40, 40)), gate, phase="mvp").to_json()["lines"][0]
    assert set(line) == {"interval", "metric", "n", "needed", "note", "rule", "tenants", "value", "verdict"}


def test_more_columns_never_improve_a_verdict_and_a_versus_line_stands_beside():
    labels, scores = ["a"] * 30 + ["b"] * 30, of(30, 30) + of(12, 30)
    one, two = (judged(labels, scores, names=names) for names in (("label",), ("label", "tenant")))
    order = {"fail": 0, "undecided": 1, "pass": 2}
    assert order[worst_of(two).verdict] <= order[worst_of(one).verdict] < 2
    report = judged(labels, scores, versus="production", margin=0.1, **LINE)
    assert [line.rule for line in report.lines] == [">= 0.55", "worst slice >= 0.3"]
    assert "no baseline" in report.lines[0].note


def test_a_maximum_has_its_worst_slice_at_the_highest_value():
    report = judged(["a"] * 40 + ["b"] * 40, of(2, 40) + of(36, 40), max=0.8, worst_slice=0.6)
    assert worst_of(report).verdict == "fail" and "label=b" in worst_of(report).note


def test_a_slice_of_ratings_of_1_is_not_taken_for_right_answers():
    """On a scale from 1 to 5, twenty ones bound nothing, though each lies between 0 and 1."""
    labels, scores = ["a"] * 40 + ["b"] * 20, [5.0, 4.0, 3.0, 2.0] * 10 + [1.0] * 20
    for line in ({"min": 1.1}, {"min": 1.1, "worst_slice": 0.5}):
        (worst, _) = judged(labels, scores, **line).lines[-1].slices
        assert (worst.key, worst.value, worst.interval) == ("b", 1.0, None) and worst.verdict != "pass"
    new, old = a_run(rating=scores), a_run("old", rating=[5.0, 4.0, 3.0, 2.0] * 10 + [0.0] * 20)
    effects = compare(new, old).by_slice(Slicing.of(cases_of(labels), ["label"])).slices
    assert next(effect for effect in effects if effect.key == "b").interval.is_open


def test_repeats_add_no_cases_to_a_slice():
    labels, gate = ["a"] * 20 + ["rare"] * 5, spec(accuracy=LINE)
    run = a_run(accuracy=of(100, 100), repeats=4, gate=gate.digest)
    line = worst_of(judge(run, gate, phase="mvp", slicing=Slicing.of(cases_of(labels), ["label"])))
    assert (line.n, line.verdict) == (5, "undecided")


@settings(max_examples=40)
@given(
    sizes=st.lists(st.integers(20, 60), min_size=1, max_size=12),
    bad=st.integers(0, 12),
    n_bad=st.integers(30, 60),
    seed=st.integers(0, 9),
)
def test_whatever_the_slices_a_planted_bad_one_is_named_and_no_other_fails(sizes, bad, n_bad, seed):
    rows = [(f"s{n:02}", right) for n, size in enumerate(sizes) for right in of(size - 2, size)]
    place = bad * len(rows) // 13
    rows[place:place] = [("planted", 0.0)] * n_bad
    np.random.default_rng(seed).shuffle(rows)
    labels, scores = [label for label, _ in rows], [float(score) for _, score in rows]
    line = worst_of(judged(labels, scores, names=("tenant", "label"), min=0.05, worst_slice=0.3))
    assert line.verdict == "fail" and "label=planted" in line.note.partition(";")[0]
    failed = [item for item in line.slices if item.verdict == "fail"]
    assert failed[0].key == "planted" and all(item.by == "tenant" for item in failed[1:])


@settings(max_examples=40)
@given(
    right=st.lists(st.integers(0, 25), min_size=2, max_size=6),
    bounds=st.lists(st.floats(0.05, 0.95), min_size=2, max_size=2, unique=True),
)
def test_raising_the_demand_never_improves_the_verdict(right, bounds):
    labels = [f"s{n}" for n in range(len(right)) for _ in range(25)]
    scores = [score for n in right for score in of(n, 25)]
    order = {"fail": 0, "undecided": 1, "pass": 2}
    low, high = (
        order[worst_of(judged(labels, scores, min=0.01, worst_slice=bound)).verdict]
        for bound in sorted(bounds)
    )
    assert high <= low


# Comparisons


def test_a_comparison_shows_its_effect_by_slice_and_where_cases_got_worse():
    labels = ["a"] * 20 + ["b"] * 20
    new, old = a_run(accuracy=of(20, 20) + of(0, 20)), a_run("old", accuracy=of(10, 20) + of(10, 20))
    plain = compare(new, old)
    found = plain.by_slice(Slicing.of(cases_of(labels), ["label", "tenant"]))
    assert [(s.by, s.key, s.effect, s.n, s.improved, s.worsened) for s in found.slices[:2]] == [
        ("label", "b", -0.5, 20, 0, 10),
        ("label", "a", 0.5, 20, 10, 0),
    ]
    assert all(s.interval.low < s.effect < s.interval.high for s in found.slices[:2])
    assert "accuracy by label, unadjusted: b -0.5 [" in str(found) and "+0 -10 of 20; a +0.5" in str(found)
    assert found.to_json()["slices"][0]["key"] == "b" and "slices" not in plain.to_json()
    assert found.verdict == plain.verdict and found.lines == plain.lines


def test_a_slice_without_a_pair_is_left_out_of_a_comparison():
    new, old = a_run(accuracy=of(20, 20) + [None] * 5), a_run("old", accuracy=of(10, 25))
    found = compare(new, old).by_slice(Slicing.of(cases_of(["a"] * 20 + ["b"] * 5), ["label"]))
    assert [s.key for s in found.slices] == ["a"]


def at_most(share, gates):
    """The largest observed share that a true share of `share` explains, at one in 10,000."""
    return scipy.stats.binom.ppf(0.9999, gates, share) / gates


@pytest.mark.timeout(3_600 if SOAK else 120)
@pytest.mark.parametrize("n", [30, 100])
def test_slices_at_the_bound_fail_and_pass_as_rarely_as_stated(n):
    """Eight slices and two tenants whose true mean is the bound itself: the worst case of a false fail."""
    random, counts = np.random.default_rng(5), np.zeros(2)
    labels = [f"s{i % 8}" for i in range(8 * n)]
    for _ in range(GATES):
        scores = list((random.random(8 * n) < 0.3) * 1.0)
        line = worst_of(judged(labels, scores, names=("tenant", "label"), min=0.01, worst_slice=0.3))
        counts += line.verdict == "fail", line.verdict == "pass"
    failed, passed = counts / GATES
    assert failed <= at_most(0.05, GATES) and passed <= at_most(0.05, GATES)


@pytest.mark.timeout(3_600 if SOAK else 120)
def test_one_bad_slice_among_good_ones_passes_as_rarely_as_stated():
    """One slice at the bound, seven far above it: the worst case of a false pass."""
    random, passed = np.random.default_rng(6), 0
    labels = [f"s{i % 8}" for i in range(8 * 40)]
    for _ in range(GATES):
        rates = np.where(np.arange(8 * 40) % 8 == 3, 0.5, 0.99)
        scores = list((random.random(8 * 40) < rates) * 1.0)
        passed += worst_of(judged(labels, scores, min=0.01, worst_slice=0.5)).verdict == "pass"
    assert passed / GATES <= at_most(0.05, GATES)
