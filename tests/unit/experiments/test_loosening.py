"""A gate text that was loosened after a verdict is found, whatever happened in between."""

import dataclasses
import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from made_runs import a_run, of

from workbench import files
from workbench.errors import ConfigError
from workbench.experiments.gates import GateSpec, check_tightens, judge
from workbench.experiments.loosening import Loosening, Verdicted, loosened

SCORERS = {"accuracy": "contains/1", "recall": "recall_at/1 k=5"}


def spec(confidence=0.9, **lines):
    return GateSpec.parse({**lines, "confidence": confidence}, where="params.yaml: gates.mvp")


def at_least(bound, **rest):
    return spec(accuracy={"min": bound}, **rest)


def a_verdict(gate=None, verdict="fail", **fields):
    plain = {"task": "t1", "settings": "s1", "dataset": "d1", "n": 30, "scorers": SCORERS, "phase": "mvp"}
    return Verdicted(**{**plain, **fields}, gate=gate or at_least(0.9), verdict=verdict)


FAILED = a_verdict()
NOW = a_verdict(at_least(0.3), "pass")

BOUNDS = st.sampled_from([0.1, 0.3, 0.5, 0.9])
VERSUS = st.one_of(
    st.just({}),
    st.fixed_dictionaries(
        {"versus": st.sampled_from(["production", "candidate"]), "margin": st.sampled_from([0.0, 0.05, 0.1])}
    ),
)
LINES = {
    "accuracy": st.builds(lambda bound, versus: {"min": bound, **versus}, BOUNDS, VERSUS),
    "recall": st.builds(lambda name, bound: {name: bound}, st.sampled_from(["min", "max"]), BOUNDS),
    "cross_tenant_hits": st.builds(lambda count: {"count": count}, st.integers(0, 2)),
    "cases": st.builds(lambda cases: {"min": cases}, st.integers(1, 3)),
    "unscored_rate": st.builds(lambda bound: {"max": bound}, BOUNDS),
}
GATES = st.builds(
    lambda confidence, lines: spec(confidence, **lines),
    st.sampled_from([0.8, 0.9, 0.95]),
    st.fixed_dictionaries({}, optional=LINES).filter(bool),
)
VERDICTS = st.builds(
    a_verdict,
    GATES,
    st.sampled_from(["pass", "fail", "undecided"]),
    task=st.sampled_from(["t1", "t2"]),
    settings=st.sampled_from(["s1", "s2"]),
    dataset=st.sampled_from(["d1", "d2"]),
    phase=st.sampled_from(["mvp", "mlvp"]),
    scorers=st.sampled_from([SCORERS, {**SCORERS, "accuracy": "polite.py 9f"}]),
)


def is_tighter(earlier: GateSpec, later: GateSpec) -> bool:
    try:
        check_tightens(earlier, later)
    except ConfigError:
        return False
    return True


# -- what counts


def test_a_bound_lowered_after_a_fail_is_said_with_both_bounds_and_the_verdict():
    found = loosened(NOW, [FAILED])
    assert found == Loosening(
        same_task=True,
        text="loosened: a text with accuracy >= 0.9 judged the same task and cases before and said fail; "
        "it is >= 0.3 now",
        earlier=FAILED,
    )


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (spec(recall={"min": 0.8}, accuracy={"min": 0.3}), at_least(0.3), "recall >= 0.8.*the line is gone"),
        (at_least(0.3, confidence=0.95), at_least(0.3), "confidence 0.95.*it is 0.9 now"),
        (spec(hits={"count": 0}), spec(hits={"count": 2}), "hits at most 0.*it is at most 2 now"),
        (spec(cost_usd_per_case={"max": 0.1}), spec(cost_usd_per_case={"max": 0.2}), "<= 0.1.*<= 0.2 now"),
        (spec(recall={"min": 0.8}), spec(recall={"max": 0.8}), "recall >= 0.8.*it is <= 0.8 now"),
        (
            spec(accuracy={"min": 0.3, "versus": "production", "margin": 0.05}),
            spec(accuracy={"min": 0.3, "versus": "production", "margin": 0.2}),
            "versus production with margin 0.05.*versus production with margin 0.2 now",
        ),
        (
            spec(accuracy={"min": 0.3, "versus": "production"}),
            at_least(0.3),
            "versus production with margin 0 .*it is >= 0.3 now",
        ),
        (
            spec(0.95, accuracy={"min": 0.9}, recall={"min": 0.8}),
            at_least(0.3),
            "accuracy >= 0.9.*it is >= 0.3 now, and 2 more changed",
        ),
    ],
)
def test_every_way_to_loosen_a_text_is_named(before, now, said):
    earlier, present = a_verdict(before, "undecided"), a_verdict(now, "pass")
    found = loosened(present, [earlier])
    assert found is not None
    assert found.same_task
    assert "said undecided; " in found.text
    assert re.search(said, found.text)


def test_another_scorer_of_a_metric_that_the_text_names_loosens_it():
    other = {**SCORERS, "accuracy": {"file": "polite.py", "digest": "9f"}}
    found = loosened(a_verdict(at_least(0.9), "pass", scorers=other), [FAILED])
    assert found is not None
    assert "another scorer gives accuracy now" in found.text
    unnamed = {**SCORERS, "recall": "other"}
    assert loosened(a_verdict(at_least(0.9), "pass", scorers=unnamed), [FAILED]) is None


@pytest.mark.parametrize("change", [{"task": "t2"}, {"settings": "s2"}])
def test_a_text_that_judged_another_task_is_a_note_only(change):
    found = loosened(NOW, [dataclasses.replace(FAILED, **change)])
    assert found is not None
    assert not found.same_task
    assert found.text == (
        "an earlier text with accuracy >= 0.9 judged another task on the same cases and said fail; "
        "it is >= 0.3 now"
    )
    assert loosened(NOW, [FAILED, dataclasses.replace(FAILED, **change)]).same_task


@pytest.mark.parametrize(
    "change", [{"dataset": "d2"}, {"dataset": "d2", "n": 29}, {"phase": "mlvp"}, {"verdict": "pass"}]
)
def test_other_cases_another_phase_and_a_pass_do_not_count(change):
    assert loosened(NOW, [dataclasses.replace(FAILED, **change)]) is None


# -- the order


def test_a_text_that_passed_before_the_stricter_one_was_tried_stays_a_pass():
    assert loosened(NOW, [NOW, FAILED]) is None
    assert loosened(NOW, [NOW, FAILED, a_verdict(at_least(0.95))]) is None
    assert loosened(NOW, [a_verdict(at_least(0.95)), NOW, FAILED]).earlier.gate == at_least(0.95)


def test_a_pass_after_the_fail_does_not_excuse_itself_the_next_time():
    assert loosened(NOW, [FAILED, NOW]).same_task
    assert loosened(NOW, [FAILED, NOW, a_verdict(at_least(0.95)), NOW]).same_task


@pytest.mark.parametrize(
    "pretext",
    [
        {"verdict": "fail"},
        {"verdict": "undecided"},
        {"task": "t2"},
        {"settings": "s2"},
        {"scorers": {**SCORERS, "accuracy": "always right"}},
    ],
)
def test_a_text_tried_on_something_else_first_excuses_no_fail_of_this_task(pretext):
    assert loosened(NOW, [dataclasses.replace(NOW, **pretext), FAILED]).same_task


def test_a_text_that_stood_before_a_stricter_one_of_another_task_has_no_note():
    elsewhere = dataclasses.replace(FAILED, task="t2")
    stated = dataclasses.replace(NOW, task="t3", verdict="fail")
    assert loosened(NOW, [stated, elsewhere]) is None
    assert loosened(NOW, [elsewhere, stated]) is not None


def test_a_merge_that_leaves_a_pass_on_both_sides_of_the_fail_excuses_nothing():
    assert loosened(NOW, [NOW, FAILED, NOW]).same_task
    assert loosened(NOW, [FAILED, NOW, FAILED]).same_task


# -- properties


@given(GATES, GATES)
def test_a_text_is_loosened_exactly_if_it_does_not_tighten(earlier, later):
    found = loosened(a_verdict(later, "pass"), [a_verdict(earlier)])
    assert (found is None) == is_tighter(earlier, later)


@given(GATES, GATES)
def test_only_equal_texts_loosen_each_other_in_no_direction(one, other):
    there = loosened(a_verdict(other), [a_verdict(one)])
    back = loosened(a_verdict(one), [a_verdict(other)])
    assert (there is None and back is None) == (one.to_json() == other.to_json())


@given(VERDICTS, st.lists(VERDICTS, max_size=6))
def test_verdicts_under_the_present_text_alone_never_loosen_it(now, before):
    assert loosened(now, [dataclasses.replace(v, gate=now.gate, scorers=now.scorers) for v in before]) is None


@given(VERDICTS, st.lists(VERDICTS, max_size=8))
def test_new_cases_clear_it(now, before):
    assert loosened(dataclasses.replace(now, dataset="d3"), before) is None


@given(VERDICTS, st.lists(VERDICTS, max_size=8), st.lists(VERDICTS, max_size=3))
def test_no_line_that_is_appended_clears_it(now, before, more):
    found = loosened(now, before)
    again = loosened(now, [*before, *more])
    assert found is None or (again is not None and again.same_task >= found.same_task)


@given(VERDICTS, st.lists(VERDICTS, max_size=8))
def test_the_present_line_in_the_file_changes_nothing(now, before):
    assume(now.line() not in {verdict.line() for verdict in before})
    assert loosened(now, [*before, now]) == loosened(now, before)


@given(VERDICTS)
def test_a_line_reads_back_as_it_is_and_has_one_form(verdict):
    line = verdict.line()
    read = Verdicted.parse(line, where="v.jsonl:1")
    assert read.line() == line
    assert "\n" not in line
    assert read.judges_as(verdict)
    backwards = dataclasses.replace(
        verdict.gate, rules=tuple(reversed(verdict.gate.rules))
    )  # params.yaml in another order
    assert dataclasses.replace(verdict, gate=backwards).line() == line


# -- the line


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"task": None}, "task must be text, found None"),
        ({"settings": ""}, "settings must be text"),
        ({"dataset": 5}, "dataset must be text, found 5"),
        ({"n": "30"}, "n must be a number of cases"),
        ({"phase": ["mvp"]}, "phase must be text"),
        ({"scorers": "contains"}, "scorers must be an object"),
        ({"gate": []}, "gate must be an object"),
        ({"gate": {"confidence": 0.9}}, "gate has no line"),
        ({"gate": {"confidence": 0.9, "accuracy": {"mim": 1}}}, "accuracy: unknown key 'mim'"),
        ({"verdict": "passed"}, "verdict must be pass, fail or undecided, found 'passed'"),
        ({"verdict": ["pass"]}, "verdict must be pass, fail or undecided"),
        ({"verdicts": "pass"}, r"unknown key 'verdicts' \(nearest: 'verdict'"),
    ],
)
def test_a_wrong_line_is_one_clear_error_with_its_place(change, said):
    text = files.canonical({**files.parse_json(FAILED.line(), where="x"), **change}).decode()
    with pytest.raises(ConfigError, match=f"^verdicts.jsonl:7: .*{said}"):
        Verdicted.parse(text, where="verdicts.jsonl:7")


@pytest.mark.parametrize("text", ["", "null", "[]", "{", '{"task": "t", "task": "t"}', "[" * 5_000, "NaN"])
def test_what_is_no_line_is_one_clear_error(text):
    with pytest.raises(ConfigError, match=r"^verdicts.jsonl:7: "):
        Verdicted.parse(text, where="verdicts.jsonl:7")


def test_the_line_of_a_report_holds_what_was_judged():
    gate = at_least(0.3)
    settings = {"prompt": "answer@2", "prompt_digest": "p", "model": "m@1", "model_digest": "m", "k": 5}
    run = dataclasses.replace(a_run(accuracy=of(60, 100)), gate_digest=gate.digest, settings=settings)
    line = Verdicted.of(judge(run, gate, phase="mvp"), gate, run, SCORERS)
    assert (line.task, line.dataset, line.phase, line.verdict) == (
        run.task_digest,
        files.digest(run.case_ids.to_list()),
        "mvp",
        "pass",
    )
    assert line.settings == files.digest({"prompt_digest": "p", "model_digest": "m"})
    assert line.judges_as(dataclasses.replace(line, verdict="fail", task="other"))


def test_a_fail_is_not_passed_by_setting_cases_aside():
    fewer = a_verdict(FAILED.gate, "pass", dataset="d2", n=FAILED.n - 1)
    found = loosened(fewer, [FAILED, fewer])
    assert found.same_task and f"{FAILED.n} cases" in found.text and f"{FAILED.n - 1} cases now" in found.text
    assert loosened(dataclasses.replace(fewer, task="other"), [FAILED]) is None
    assert loosened(dataclasses.replace(fewer, n=FAILED.n + 1), [FAILED]) is None
    passed = dataclasses.replace(FAILED, verdict="pass")
    assert loosened(fewer, [passed]) is None


def test_fewer_cases_are_no_new_cases():
    fewer = a_verdict(at_least(0.3), "pass", dataset="d2", n=29)
    assert loosened(fewer, [FAILED]).same_task
    assert loosened(a_verdict(at_least(0.3), "pass", dataset="d2", n=30), [FAILED]) is None
