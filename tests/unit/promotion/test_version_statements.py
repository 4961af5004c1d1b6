"""What is stated about a version, from its folder and the files of its commit."""

from __future__ import annotations

import dataclasses
import json

import pytest
from clones import ROOT
from signed_statements import AT

from workbench import files, registry
from workbench.attestations import Statement, Subject
from workbench.jobs import spec as jobspec
from workbench.promotion import version_statements as stated
from workbench.promotion.version_statements import StatedVersion

NUMBER = registry.load(ROOT, "job", "answers").labels["production"]


@pytest.fixture(scope="module")
def version() -> StatedVersion:
    """The shipped version, with the files of today as those of its commit."""
    spec, folder = jobspec.load(ROOT, "answers", NUMBER)
    return StatedVersion(spec=spec, folder=folder, code=ROOT, commit=spec.commit, at=AT, by="ada")


def test_each_statement_is_about_the_page_and_the_provenance_about_every_file(version):
    page = files.digest((version.folder / jobspec.PAGE).read_bytes())
    for made in (stated.provenance(version), stated.test_result(version), stated.impact_assessment(version)):
        assert made.digest_of(jobspec.PAGE) == page
    subjects = {item.name: item.sha256 for item in stated.provenance(version).subjects}
    assert subjects == {jobspec.PAGE: page, **version.spec.files}


def test_the_provenance_states_parameters_pins_and_the_run(version):
    built = stated.provenance(version).predicate["buildDefinition"]
    assert built["externalParameters"]["parameters"] == version.spec.values()
    assert built["externalParameters"]["pins"] == version.spec.pins
    assert built["internalParameters"]["run"] == version.spec.run


@pytest.mark.parametrize(
    ("verdicts", "result", "counts"),
    [
        (["pass", "pass"], "PASSED", (2, 0, 0)),
        (["pass", "fail"], "FAILED", (1, 1, 0)),
        (["pass", "undecided"], "WARNED", (1, 0, 1)),
    ],
)
def test_the_result_has_each_line_of_the_gate_by_its_verdict(version, tmp_path, verdicts, result, counts):
    overall = next((v for v in ("fail", "undecided") if v in verdicts), "pass")
    lines = [{"metric": f"m{n}", "rule": ">= 1", "verdict": v} for n, v in enumerate(verdicts)]
    files.write_atomic(tmp_path / stated.GATE, json.dumps({"verdict": overall, "lines": lines}).encode())
    files.write_atomic(tmp_path / jobspec.PAGE, b"page")
    said = stated.test_result(dataclasses.replace(version, folder=tmp_path)).predicate
    named = [said[key] for key in ("passedTests", "failedTests", "warnedTests")]
    assert said["result"] == result and tuple(map(len, named)) == counts


def test_the_assessment_has_the_text_that_was_committed_and_what_phase_mlvp_would_refuse(version):
    models = {item["model"]: item for item in stated.impact_assessment(version).predicate["models"]}
    text = (ROOT / "pipelines/assessments/smollm2-135m.yaml").read_text(encoding="utf-8")
    assert models["smollm2-135m@1"]["assessment"]["text"] == text
    assert any("not approved" in problem for problem in models["smollm2-135m@1"]["problems"])


def test_the_models_of_a_commit_that_cannot_be_read_are_those_that_are_pinned(version, tmp_path):
    said = stated.impact_assessment(dataclasses.replace(version, code=tmp_path)).predicate["models"]
    assert [item["model"] for item in said] == [version.spec.pins["model"]]
    assert said[0]["assessment"] is None and "not examined" in said[0]["problems"][0]


@pytest.mark.parametrize(
    ("kind", "predicate", "text"),
    [
        ("urn:workbench:approval:1", {"label": "production", "until": "2027-01-01"}, "production until 2027"),
        ("urn:workbench:revocation:1", {}, "revoked"),
        ("urn:workbench:withdrawal:1", {"reason": "worse"}, "withdrawn: worse"),
        ("urn:workbench:withdrawal:1", {}, "another form"),
        ("https://in-toto.io/attestation/vulns/v0.1", {"scanner": 7}, "another form"),
        ("urn:example:1", {}, "urn:example:1"),
    ],
)
def test_a_statement_is_summed_up_also_in_a_form_that_is_not_known(kind, predicate, text):
    about = (Subject(name="job.yaml", sha256="a" * 64),)
    made = Statement(predicate_type=kind, subjects=about, predicate=predicate)
    assert text in stated.summary_of(made)
