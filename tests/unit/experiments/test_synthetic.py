"""Synthetic cases: counted, and named with the generator, its version and its seed."""

import dataclasses

import polars as pl
import pytest
from made_runs import a_run, of

from workbench.experiments.dataset import Case, Dataset
from workbench.experiments.gates import GateSpec, judge
from workbench.experiments.synthetic import Synthetic

MADE = {"synthetic": True, "generator": "tickets", "generator_version": 2, "seed": 7}


def cases_of(*provenances):
    return Dataset(
        name="d",
        cases=tuple(
            Case(id=f"q{n:04}", tenant="acme", inputs={}, expected={}, provenance=provenance)
            for n, provenance in enumerate(provenances)
        ),
    )


def of_all(*provenances):
    return Synthetic.of(cases_of(*provenances), pl.Series([f"q{n:04}" for n in range(len(provenances))]))


def test_the_sentence_counts_the_cases_and_names_what_made_them():
    found = of_all(MADE, MADE, {}, {"author": "ann"})
    assert found.text == "2 of 4 cases are synthetic (tickets, version 2, seed 7)"
    assert found.to_json() == {
        "n": 2, "share": 0.5, "generators": [{"name": "tickets", "version": 2, "seed": 7}]
    }  # fmt: skip


@pytest.mark.parametrize("real", [{}, {"synthetic": False, "author": "ann"}, {"author": "ann"}])
def test_cases_that_do_not_say_so_are_not_synthetic(real):
    assert of_all(real, real) is None


def test_only_the_cases_of_the_run_count():
    assert Synthetic.of(cases_of(MADE, MADE), pl.Series(["q0001", "other"])).text.startswith("1 of 2 cases")
    assert Synthetic.of(cases_of(MADE), pl.Series(["other"])) is None


def test_an_author_stands_for_a_generator_and_many_are_counted():
    found = of_all(*({"synthetic": True, "author": f"author {n}"} for n in range(5)))
    assert found.text == "5 of 5 cases are synthetic (author 0; author 1; author 2; 2 more)"
    assert len(found.to_json()["generators"]) == 5


def test_card_and_json_of_the_gate_say_it_and_the_verdict_is_the_same():
    spec = GateSpec.parse({"accuracy": {"min": 0.5}, "confidence": 0.9}, where="x")
    report = judge(a_run(accuracy=of(40, 40), gate=spec.digest), spec, phase="mvp")
    made = dataclasses.replace(report, synthetic=of_all(MADE))
    assert "synthetic" not in report.to_json() and "synthetic" not in str(report)
    assert made.to_json()["synthetic"]["share"] == 1.0 and made.verdict == report.verdict == "pass"
    assert "1 of 1 cases are synthetic (tickets, version 2, seed 7)" in str(made)
    assert made.gate_digest == report.gate_digest
