"""The section on slices of the readiness page, and the sentence on synthetic cases."""

from __future__ import annotations

import dataclasses
import re

from made_evidence import N, an_evidence
from test_readiness import read

from workbench.experiments.dataset import Case, Dataset
from workbench.experiments.gates import GateSpec, judge
from workbench.experiments.slices import Slicing
from workbench.experiments.synthetic import Generator, Synthetic
from workbench.pipeline.report import pages

HOSTILE = "<b>re|fund</b>"


def sliced_evidence(right=0.9, worst=0.3, names=("label", "tenant"), labels=None, **fields):
    """Evidence of a gate with a demand on its slices: the last quarter of the cases has the hostile label."""
    gate = {"accuracy": {"min": 0.5, **({"worst_slice": worst} if worst else {})}, "confidence": 0.9}
    spec = GateSpec.parse(gate, where="here", slices=names)
    evidence = an_evidence(right)
    labels = labels or ["billing"] * (3 * N // 4) + [HOSTILE] * (N // 4)
    cases = tuple(
        Case(id=case, tenant="acme", inputs={"question": "?"}, expected={"label": label})
        for case, label in zip(evidence.judged.case_ids, labels, strict=True)
    )
    slicing = Slicing.of(Dataset(name="d", cases=cases), names)
    run = dataclasses.replace(evidence.judged, gate_digest=spec.digest)
    report = dataclasses.replace(judge(run, spec, phase="mvp", slicing=slicing), **fields)
    return dataclasses.replace(evidence, gate=report, judged=run)


def test_the_page_has_a_table_a_column_with_the_worst_slice_named_above():
    html, markdown = pages(
        sliced_evidence(0.75, worst=0.6)
    )  # the last ten cases are wrong: the hostile label
    text = read(html)
    assert f"The worst of 2 is label={HOSTILE}: 0 [0, 0.259] over 10 cases; it fails." in text
    assert "accuracy by label, each slice >= 0.6; the worst first. Intervals at 90 %." in text
    assert "accuracy by tenant, each slice >= 0.6" in text
    assert text.index(f"worst of 2 is label={HOSTILE}") < text.index("accuracy by label")
    assert f"{HOSTILE} 0 [0, 0.259] 10 fail" in text and "billing 1 [0.905, 1] 30 pass" in text
    assert HOSTILE.encode() not in html and b"stroke-dasharray" in html
    said = markdown.decode()
    assert "| &lt;b>re\\|fund&lt;/b> | 0 | [0, 0.259] | 10 | fail |" in said
    tables = [line for line in said.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in tables)


def test_an_undecided_slice_says_the_cases_that_it_lacks():
    labels = ["billing"] * 33 + ["rare"] * 7
    for page in map(bytes.decode, pages(sliced_evidence(1.0, labels=labels))):
        assert "label=rare: 1 [0.652, 1] over 7 cases; it is undecided, 3 more cases needed." in page
        assert re.search(r"accuracy worst slice >=|accuracy worst slice &gt;=", page)
        assert "(label=rare): 1 [0.652, 1]; about 3 more cases" in page


def test_slices_without_a_demand_have_a_dash_for_a_verdict_and_no_bound():
    html, markdown = pages(sliced_evidence(0.75, worst=None))
    assert "no line demands anything of it" in read(html) and "10 —" in read(html)
    assert b"stroke-dasharray" not in html and "| 10 | — |" in markdown.decode()


def test_a_use_case_without_slices_has_no_section():
    assert not any("Slices" in page.decode() for page in pages(an_evidence()))


def test_synthetic_cases_are_said_beside_the_verdict():
    made = Synthetic(n=N, n_cases=N, generators=(Generator(name="tickets | <i>", version=1, seed=7),))
    html, markdown = pages(sliced_evidence(synthetic=made))
    said = "40 of 40 cases are synthetic (tickets | <i>, version 1, seed 7)"
    assert said in read(html).partition("The gate")[0]
    assert "40 of 40 cases are synthetic (tickets \\| &lt;i>, version 1, seed 7)" in markdown.decode()
