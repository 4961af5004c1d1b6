"""Which approach pays for itself: the rule, the recorded decision, the page and the warning."""

from __future__ import annotations

import dataclasses
import re

import polars as pl
import pytest
from made_evidence import ROOT, N, an_evidence
from made_runs import a_run, of
from test_readiness import read

from workbench import config
from workbench.config import Approach
from workbench.diagnostics import check
from workbench.errors import ConfigError
from workbench.experiments.dataset import Case, Dataset
from workbench.experiments.runs import save_runs
from workbench.layout import Results
from workbench.pipeline.report import pages
from workbench.promotion.approach import measured

RECORDED = Approach(decision="model", reason="calls cost | nothing", instead_of="vote", margin=0.02)
DETERMINISTIC = dataclasses.replace(RECORDED, decision="deterministic", instead_of="candidate")


def ruled(right, arm="vote"):
    """A run of an arm that asks no model."""
    run = a_run(arm, accuracy=of(right, N))
    silent = pl.lit(0, pl.Int64).alias("calls"), pl.lit(None, pl.Float64).alias("latency_s")
    return dataclasses.replace(run, cases=run.cases.with_columns(*silent))


def cases_of(run):
    rows = [
        Case(
            id=case, tenant=("acme", "globex")[n % 2], inputs={"text": "t"}, expected={"label": "ab"[n // 20]}
        )
        for n, case in enumerate(run.case_ids)
    ]
    return Dataset(name="d", cases=tuple(rows))


def found(ours, theirs, recorded=RECORDED):
    case = dataclasses.replace(an_evidence().use_case, approach=recorded)
    run = a_run("candidate", accuracy=of(ours, N))
    if recorded.decision == "deterministic":
        return measured(case, ruled(theirs), [run], cases_of(run))
    return measured(case, run, [ruled(theirs)], cases_of(run))


@pytest.mark.parametrize("recorded", [RECORDED, DETERMINISTIC])
@pytest.mark.parametrize(
    ("ours", "theirs", "pays", "said"),
    [
        (38, 10, "costlier", "candidate pays for itself"),
        (10, 38, "simpler", "vote pays for itself"),
        (22, 20, "undecided", "Neither is shown to pay for itself, so vote, the simpler one, is enough"),
    ],
)
def test_the_whole_interval_decides_whichever_arm_was_judged(recorded, ours, theirs, pays, said):
    measure = found(ours, theirs, recorded)
    assert measure.pays == pays and measure.sentence.startswith(said)
    assert "vote asks no model" in measure.sentence and "s and 0.001 USD a case" in measure.sentence
    assert "more than 0.02" in measure.rule


def test_a_gain_below_the_margin_does_not_pay():
    """Better for sure and still not worth its price, when the margin says so."""
    assert found(38, 10).pays == "costlier"
    assert found(38, 10, dataclasses.replace(RECORDED, margin=0.95)).pays == "simpler"


@pytest.mark.parametrize(
    ("recorded", "ours", "theirs", "said"),
    [
        (RECORDED, 10, 38, "the recorded approach is model, but vote pays for itself"),
        (DETERMINISTIC, 38, 10, "the recorded approach is deterministic, but candidate pays for itself"),
        (RECORDED, 38, 10, ""),
        (RECORDED, 22, 20, ""),
        (DETERMINISTIC, 10, 38, ""),
    ],
)
def test_only_a_decision_that_is_surely_wrong_is_contradicted(recorded, ours, theirs, said):
    assert found(ours, theirs, recorded).contradiction == said


def test_the_decided_arm_may_be_an_explored_one_and_then_the_page_says_what_is_judged():
    recorded = dataclasses.replace(DETERMINISTIC, arm="vote")
    case = dataclasses.replace(an_evidence().use_case, approach=recorded)
    run = a_run("candidate", accuracy=of(10, N))
    measure = measured(case, run, [ruled(38)], cases_of(run))
    assert measure.pays == "simpler" and not measure.contradiction
    assert measure.note == "The decision is vote; what is judged is candidate."
    assert measure.note in pages(an_evidence(approach=measure))[1].decode()
    assert not found(38, 10).note


def test_an_arm_that_was_not_explored_is_named_with_the_nearest():
    misspelt = dataclasses.replace(RECORDED, instead_of="vtoe")
    case = dataclasses.replace(an_evidence().use_case, approach=misspelt)
    measure = measured(case, a_run("candidate", accuracy=of(9, N)), [ruled(3)], None)
    assert measure.pays is None and "no arm 'vtoe' (nearest: 'vote'" in measure.sentence


def with_approach(ours, theirs, recorded=RECORDED):
    evidence = an_evidence(approach=found(ours, theirs, recorded))
    return dataclasses.replace(evidence, use_case=dataclasses.replace(evidence.use_case, approach=recorded))


def test_the_page_compares_the_arms_for_each_tenant_and_label():
    html, markdown = pages(with_approach(38, 10))
    text, said = read(html), markdown.decode()
    assert (
        "## Which approach\n\ncandidate pays for itself: accuracy of candidate against vote is +0.7" in said
    )
    assert "Recorded in params.yaml as **model**: calls cost \\| nothing" in said
    for name in ("all cases", "tenant acme", "tenant globex", "label a", "label b"):
        assert f"| {name} |" in said and name in text
    assert "| label b | 20 | +0.9 " in said and "| +18 -0 | candidate |" in said
    assert said.index("## Which approach") < said.index("## Cost, tokens, time")


def test_the_page_warns_of_a_contradiction_and_has_no_section_without_a_record():
    assert (
        "**the recorded approach is model, but vote pays for itself**"
        in pages(with_approach(10, 38))[1].decode()
    )
    assert b"Which approach" not in pages(an_evidence())[1]
    unnamed = Approach(decision="model", reason="no rule answers")
    case = dataclasses.replace(an_evidence().use_case, approach=unnamed)
    alone = an_evidence(approach=measured(case, a_run("candidate", accuracy=of(9, N)), [], None))
    assert "Recorded as model; no other arm is named, so nothing is compared." in pages(alone)[1].decode()


@pytest.mark.parametrize(
    ("ours", "theirs", "warned"), [(10, 38, "but vote pays for itself"), (38, 10, ""), (22, 20, "")]
)
def test_check_warns_when_the_results_contradict_the_record(tmp_path, ours, theirs, warned):
    results = Results(use_case="answers")
    save_runs([a_run("candidate", accuracy=of(ours, N))], tmp_path / results.judged)
    save_runs([ruled(theirs)], tmp_path / results.runs)
    case = dataclasses.replace(an_evidence().use_case, approach=RECORDED)
    problems = [item.problem for item in check._approach(tmp_path, "answers", case) if item.warning]
    assert (warned in problems[0] and "make repro" in problems[0]) if warned else not problems


def test_check_says_nothing_before_the_first_reproduction(tmp_path):
    case = dataclasses.replace(an_evidence().use_case, approach=RECORDED)
    assert not list(check._approach(tmp_path, "answers", case))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{decision: model, reason: r, arm: vote, instead_of: vote}", "the arm of the decision itself"),
        ("{decision: modle, reason: r}", "approach.decision"),
        ("{decision: model, reason: ' '}", "reason is empty"),
        ("{decision: model, reason: r, margin: 2}", "margin must be 0 or more and below 1, found 2"),
        ("{decision: model, reason: r, instead_of: candidate}", "the arm of the decision itself"),
    ],
)
def test_a_wrong_record_is_one_clear_error(tmp_path, text, said):
    shipped = (ROOT / "params.yaml").read_text(encoding="utf-8")
    changed, count = re.subn(
        r"    approach: +#.*?\n\n", f"    approach: {text}\n\n", shipped, count=1, flags=re.DOTALL
    )
    assert count == 1
    (tmp_path / "params.yaml").write_text(changed, encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        config.load_params(tmp_path)


def test_an_arm_without_a_model_has_no_tokens_and_a_label_is_shown_as_it_is():
    run = ruled(3)
    said = pl.lit('{"label":"billing"}').alias("output")
    evidence = an_evidence(explored=[run])
    judged = dataclasses.replace(evidence.judged, cases=evidence.judged.cases.with_columns(said))
    page = pages(dataclasses.replace(evidence, judged=judged))[1].decode()
    assert "| vote | 0.001 | 200 | 10 | none | none |" in page
    assert "| acme | billing | page |" in page or "| globex | billing | page |" in page
