"""Whether a gate's text can decide anything with the cases that there are."""

from __future__ import annotations

import pytest

from workbench.experiments.gate_spec import GateSpec, check_spec


@pytest.mark.parametrize(
    ("metric", "rule"),
    [
        ("accuracy", {"min": 155}),
        ("recall_at_5", {"min": 80}),
        ("unscored_rate", {"max": -0.1}),
        ("exact", {"max": -1}),
    ],
)
def test_a_bound_outside_the_scale_of_a_score_can_never_pass(metric, rule):
    spec = GateSpec.parse({metric: rule, "confidence": 0.9}, where="gates.mvp")
    assert "can never pass" in check_spec(spec, 100)[0] and "between 0 and 1" in check_spec(spec, 100)[0]
