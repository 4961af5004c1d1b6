"""The gate of a new use case can pass and fail with its number of cases, whatever the number is."""

from __future__ import annotations

import re

import pytest

from workbench.experiments.gate_spec import GateSpec, check_spec
from workbench.experiments.intervals import proportion_interval
from workbench.scaffold.gate_defaults import CONFIDENCE, bounds


def gate(cases: int) -> GateSpec:
    found = bounds(cases)
    lines = {
        "accuracy": {"min": float(found["accuracy"])},
        "recall_at_5": {"min": float(found["recall"])},
        "cross_tenant_hits": {"count": 0},
        "cases": {"min": int(found["cases"])},
        "unscored_rate": {"max": float(found["unscored"])},
        "confidence": CONFIDENCE,
    }
    return GateSpec.parse(lines, where="gate")


@pytest.mark.parametrize("cases", [*range(1, 60), 99, 100, 101, 150, 300, 1_000, 10_000])
def test_check_refuses_no_line_of_a_new_gate(cases):
    assert check_spec(gate(cases), cases) == []


@pytest.mark.parametrize("cases", [1, 4, 8, 30, 100, 10_000])
def test_the_comment_says_from_which_number_of_right_answers_on_it_passes(cases):
    found = bounds(cases)
    passes, fails = re.search(
        r"passes from (\d+) right answers on and (.*)\.$", found["gate_notes"][1]
    ).groups()
    least = float(found["accuracy"])

    def ends(right):
        return proportion_interval(right, cases, level=CONFIDENCE)

    assert ends(int(passes)).low >= least > ends(int(passes) - 1).low
    last = re.search(r"\d+", fails)
    assert (
        ends(0).high >= least
        if last is None
        else ends(int(last[0])).high < least <= ends(int(last[0]) + 1).high
    )
