"""Quality rules in a use case: the stage prepare, checks, a job's input and the commands."""

from __future__ import annotations

import dataclasses
import json
import sys
from dataclasses import dataclass

import polars as pl
import pytest
from made_runs import a_run
from optional_use_cases import plain_repository

from workbench import config
from workbench.cli import app
from workbench.data.profile import profile_of, read_profile
from workbench.data.rules import read_rules
from workbench.diagnostics.check import check_all
from workbench.errors import ConfigError
from workbench.experiments.dataset import Dataset
from workbench.pipeline import settings, stages
from workbench.promotion.judgement import judged
from workbench.workspace import connection, quality

RULES = """\
columns:
  id: {required: true}
  text: {required: true, length: {min: 3, max: 200}}
  label: {type: category, required: true, allowed: [billing, hardware]}
  region: {type: category, allowed: [north, south]}
unique:
  - {columns: [tenant, text]}
anomalies:
  encoding: {columns: [text]}
  drift: {false_alarms: 0.01, distance: 0.1}
cleaning: {steps: [trim], map: {label: {Billing: billing}}}
profile: pipelines/quality/classify.profile.json
""".replace("  id:", "  tenant: {required: true}\n  id:", 1)
ROWS = [
    {"id": "c0", "tenant": "acme", "text": "The bill is too high. ", "label": "billing", "region": "north"},
    {"id": "c1", "tenant": "acme", "text": "The screen is broken.", "label": "hardware"},
    {"id": "c2", "tenant": "acme", "text": "The bill came twice.", "label": "Billing"},
]
BROKEN = [
    {"id": "b0", "tenant": "acme", "text": "  ", "label": "billing"},
    {"id": "b1", "tenant": "acme", "text": "A label of no list.", "label": "biling"},
    {"id": "b2", "tenant": "acmee", "text": "A tenant that is not served.", "label": "billing"},
    {"id": "c1", "tenant": "acme", "text": "An id that is taken.", "label": "billing"},
    {"id": "b3", "tenant": "acme", "text": "The screen is broken.", "label": "hardware"},
    {"id": "b4", "tenant": "acme", "text": "Die KÃ¼che ist zu.", "label": "billing"},
    {
        "id": "b5",
        "tenant": "acme",
        "text": "A key that nobody declared.",
        "label": "billing",
        "colour": "red",
    },
    {
        "id": "b6",
        "tenant": "acme",
        "text": "Synthetic without an author.",
        "label": "billing",
        "synthetic": True,
    },
]
#: The rule that each broken row breaks.
REASONS = {
    4: "text: required", 5: "label: allowed", 6: "tenant: known", 7: "id: unique", 8: "tenant, text: unique",
    9: "text: encoding", 10: "usable: unknown key 'colour'", 11: "usable", 12: "not a JSON object",
}  # fmt: skip


@dataclass(frozen=True)
class Message:
    text: str


def lines(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A use case with three good rows and rules, whose endpoint is never asked."""
    folder = plain_repository(tmp_path / "r", "classify", endpoint="http://127.0.0.1:9")
    params = folder / "params.yaml"
    params.write_text(
        params.read_text().replace("    data: ", "    quality: pipelines/quality/classify.yaml\n    data: ")
    )
    (folder / "pipelines/quality").mkdir()
    (folder / "pipelines/quality/classify.yaml").write_text(RULES)
    (folder / "data/classify/cases.jsonl").write_text(lines(*ROWS))
    monkeypatch.chdir(folder)
    return folder


def plant(root, *rows, more=""):
    (root / "data/classify/cases.jsonl").write_text(lines(*ROWS, *rows) + more)


def prepared(root):
    stages.prepare(root, "classify")
    return root / "results/classify/prepared"


def case_of(root):
    return config.load_params(root).use_cases["classify"]


# -- the stage prepare


def test_the_stage_keeps_the_clean_rows_and_writes_what_it_set_aside_and_changed(root):
    plant(root, *BROKEN, more="[1]\n")
    folder = prepared(root)
    cases = Dataset.from_file(folder / "cases.parquet", inputs=["text"], expected=["label"])
    assert [(case.id, case.expected["label"]) for case in cases] == [
        ("c0", "billing"), ("c1", "hardware"), ("c2", "billing"),
    ]  # fmt: skip
    assert cases.cases[0].inputs == {"text": "The bill is too high."}
    aside = pl.read_parquet(folder / quality.QUARANTINE)
    assert dict(zip(aside["row"], aside["reason"], strict=True)).keys() == REASONS.keys()
    assert all(
        reason.startswith(REASONS[row]) for row, reason in zip(aside["row"], aside["reason"], strict=True)
    )
    assert json.loads(aside["columns"][1]) == BROKEN[1] and aside["columns"][-1] == "[1]"
    ledger = pl.read_parquet(folder / quality.LEDGER)
    assert ledger.select("id", "column", "step").rows() == [
        ("c0", "text", "trim"), ("c2", "label", "map"), ("b0", "text", "trim"),
    ]  # fmt: skip
    report = quality.written(folder)
    assert (report.rows, report.kept, report.rejected, report.repaired) == (12, 3, 9, 2)


def test_the_card_of_the_gate_says_how_the_rules_changed_what_is_judged(root, monkeypatch):
    monkeypatch.setattr("workbench.promotion.judgement.baseline_of", lambda *given: None)
    run = a_run(accuracy=[1.0] * 3)
    run = dataclasses.replace(run, cases=run.cases.with_columns(case=pl.Series(["c0", "c1", "c2"])))
    line = {"accuracy": {"min": 0.5}, "confidence": 0.9}
    case = dataclasses.replace(case_of(root), gates={case_of(root).phase: line})
    plant(root, *BROKEN, more="[1]\n")
    prepared(root)
    report = judged(root, "classify", case, run)
    assert report.selected.startswith("9 of 12 rows are set aside by quality rules (")
    assert report.selected.endswith("cleaning changes what is judged: label 1 by map")
    assert report.selected in str(report) and report.to_json()["selected"] == report.selected
    clean = [{**row, "text": row["text"].strip(), "label": row["label"].lower()} for row in ROWS]
    (root / "data/classify/cases.jsonl").write_text(lines(*clean))
    prepared(root)
    report = judged(root, "classify", case, run)
    assert report.selected == "" and "selected" not in report.to_json()


def test_the_same_rows_give_the_same_bytes_and_the_rules_are_part_of_them(root):
    plant(root, *BROKEN)
    folder = prepared(root)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    stages.prepare(root, "classify")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    rules = root / "pipelines/quality/classify.yaml"
    rules.write_text(rules.read_text() + "# a comment\n")
    stages.prepare(root, "classify")
    changed = [path.name for path in folder.iterdir() if path.read_bytes() != before[path.name]]
    assert changed == [quality.REPORT]


def test_without_rules_nothing_is_written_and_a_broken_row_is_an_error_as_before(root):
    prepared(root)
    params = root / "params.yaml"
    params.write_text(params.read_text().replace("    quality: pipelines/quality/classify.yaml\n", ""))
    (root / "data/classify/cases.jsonl").write_text(
        lines(*[{k: v for k, v in row.items() if k != "region"} for row in ROWS])
    )
    written = {path.name for path in prepared(root).iterdir()}
    assert "cases.parquet" in written
    assert not written & {quality.REPORT, quality.QUARANTINE, quality.LEDGER}
    assert quality.written(root / "results/classify/prepared") is None
    plant(root, BROKEN[0])
    with pytest.raises(ConfigError, match="region"):
        stages.prepare(root, "classify")


def test_a_rule_of_severity_stop_stops_the_stage_and_keeps_what_it_wrote_before(root):
    folder = prepared(root)
    before = (folder / "cases.parquet").read_bytes()
    path = root / "pipelines/quality/classify.yaml"
    path.write_text(RULES.replace("[billing, hardware]}", "[billing, hardware], severity: stop}"))
    plant(root, BROKEN[1])
    with pytest.raises(ConfigError, match="label: allowed") as caught:
        stages.prepare(root, "classify")
    assert "row 4 (b1)" in str(caught.value) and "workbench data check classify" in caught.value.hint
    assert (folder / "cases.parquet").read_bytes() == before


def test_rules_that_leave_no_row_are_an_error(root):
    (root / "data/classify/cases.jsonl").write_text(lines(BROKEN[0]))
    with pytest.raises(ConfigError, match="no row") as caught:
        stages.prepare(root, "classify")
    assert "workbench data check" in caught.value.hint


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("rules.yaml", "pipelines/quality"),
        ("../rules.yaml", "inside"),
        ("pipelines/quality/x/y.yaml", "pipelines/quality"),
    ],
)
def test_rules_outside_of_the_tracked_folder_are_an_error_with_the_place_to_move_them_to(root, value, word):
    params = root / "params.yaml"
    params.write_text(params.read_text().replace("pipelines/quality/classify.yaml", value))
    with pytest.raises(ConfigError, match=r"use_cases\.classify\.quality") as caught:
        config.load_params(root)
    assert word in str(caught.value)


def test_the_settings_of_prepare_name_the_rules_and_its_folder_is_made(root):
    settings.write(root, "classify")
    found = json.loads((root / "results/classify/settings/prepare.json").read_text())
    assert found["quality"] == "pipelines/quality/classify.yaml"
    (root / "pipelines/quality/classify.yaml").unlink()
    (root / "pipelines/quality").rmdir()
    settings.make_missing(root, "classify")
    assert (root / "pipelines/quality").is_dir()


def test_the_cases_of_a_notebook_are_those_of_the_stage(root):
    plant(root, *BROKEN)
    stage = Dataset.from_file(prepared(root) / "cases.parquet", inputs=["text"], expected=["label"])
    assert connection.connect("classify", root=root).cases().digest == stage.digest


# -- workbench check


def test_check_names_the_rows_of_each_broken_rule_and_passes(root):
    plant(root, *BROKEN[:2])
    found = check_all(root)
    told = {f.what: f.problem for f in found.findings if "classify.yaml" in f.what}
    assert found.passed, str(found)
    assert "classify: pipelines/quality/classify.yaml: 3 of 5 rows kept" in told
    [problem] = [text for what, text in told.items() if what.endswith("label: allowed")]
    assert "row 5 (b1)" in problem and "nearest: 'billing'" in problem and "workbench data check" in problem


def test_check_names_ten_rows_and_counts_the_rest(root):
    plant(root, *[{**BROKEN[1], "id": f"m{n}", "text": f"Text number {n}."} for n in range(15)])
    [problem] = [f.problem for f in check_all(root).findings if f.what.endswith("label: allowed")]
    assert problem.count("row ") == 10 and "and 5 more" in problem and "15 rows (quarantine)" in problem


def test_check_fails_for_broken_rules_and_for_a_rule_that_stops(root):
    path = root / "pipelines/quality/classify.yaml"
    path.write_text(RULES.replace("allowed: [billing, hardware]", "alowed: [billing]"))
    wrong = [f for f in check_all(root).findings if f.problem and not f.warning]
    assert any("nearest: 'allowed'" in f.problem for f in wrong)
    path.write_text(RULES.replace("[billing, hardware]}", "[billing, hardware], severity: stop}"))
    plant(root, BROKEN[1])
    assert not check_all(root).passed


# -- a job's input


def inputs_of(root, *rows, tenant=None, more=""):
    path = root / "data/classify/today.jsonl"
    path.write_text(lines(*rows) + more)
    execution = config.Execution(notebook="n.ipynb", use_case="classify", tenant=tenant)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in execution.environment().items():
            patch.setenv(name, value)
        return connection.connect("classify", root=root).inputs("data/classify/today.jsonl")


def unlabelled(*rows):
    return [{key: value for key, value in row.items() if key not in {"label", "synthetic"}} for row in rows]


def test_a_jobs_input_passes_the_rules_of_its_columns_and_a_broken_row_has_the_reason(root):
    found = inputs_of(root, *unlabelled(*ROWS, *BROKEN), more="[1]\n")
    faults = {row.number: row.fault for row in found.rows if row.fault}
    assert set(faults) == {4, 6, 8, 9, 12}
    assert all(faults[row].startswith(REASONS[row]) for row in faults)
    assert found.rows[0].columns["text"] == "The bill is too high."
    good, broken = found.fitted(Message, task="answer")
    reasons = {item.row.number: item.reason for item in broken}
    assert len(good) == 6 and reasons == {**faults, 7: "'id' is the id of an earlier row"}
    assert {item.kind for item in broken} == {"input"} and found.exceeded_by(broken) is False


def test_a_row_of_a_run_for_one_tenant_may_leave_the_tenant_out(root):
    found = inputs_of(root, {"id": "a", "text": "Without a tenant."}, tenant="acme")
    assert [row.fault for row in found.rows] == [""]


def test_a_rule_of_severity_stop_stops_the_job_with_the_command_that_names_the_rows(root):
    path = root / "pipelines/quality/classify.yaml"
    path.write_text(RULES.replace("length: {min: 3, max: 200}", "length: {min: 3, max: 200}, severity: stop"))
    with pytest.raises(ConfigError, match="text: required") as caught:
        inputs_of(root, *unlabelled(BROKEN[0]))
    assert "workbench data check data/classify/today.jsonl --rules" in caught.value.hint


def test_the_prepared_inputs_pass_unchanged(root):
    plant(root, *BROKEN)
    rows = pl.read_parquet(prepared(root) / "inputs.parquet").to_dicts()
    found = inputs_of(root, *rows)
    assert [row.columns for row in found.rows] == rows and not any(row.fault for row in found.rows)


# -- the commands


@pytest.fixture
def ended(root, monkeypatch, capsys):
    """Run a command as the console script does; return its exit code, its output and its error."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["workbench", *words])
        with pytest.raises(SystemExit) as done:
            app.main()
        return done.value.code, *capsys.readouterr()

    return run


def test_data_check_tells_what_is_rejected_and_exits_by_it(root, ended):
    assert ended("data", "check", "classify")[0] == 0
    plant(root, *BROKEN)
    code, out, _ = ended("data", "check")
    assert code == 1 and "3 of 11 rows kept" in out and "label: allowed" in out
    code, out, _ = ended("data", "check", "classify", "--json")
    assert code == 1 and json.loads(out)[0]["rejected"] == 8


def test_data_check_reads_any_file_by_rules(root, ended):
    (root / "other.jsonl").write_text(lines(*ROWS, BROKEN[1]))
    code, out, _ = ended("data", "check", "other.jsonl", "--rules", "pipelines/quality/classify.yaml")
    assert code == 1 and "3 of 4 rows kept" in out
    code, _, error = ended("data", "check", "other.jsonl")
    assert code == 2 and "--rules" in error
    code, _, error = ended("data", "check", "no.jsonl", "--rules", "pipelines/quality/classify.yaml")
    assert code == 2 and "no.jsonl" in error
    assert ended("data", "check", "--rules", "pipelines/quality/classify.yaml")[0] == 2


def test_data_profile_writes_the_profile_of_the_kept_rows_once(root, ended):
    plant(root, *BROKEN)
    path = root / "pipelines/quality/classify.profile.json"
    code, out, _ = ended("data", "profile", "classify")
    assert code == 0 and "3 rows" in out and "git add" in out
    profile, before = read_profile(path), path.read_bytes()
    assert profile.rows == 3 and b"bill is" not in before
    assert ended("data", "profile", "classify")[0] == 0 and path.read_bytes() == before


def test_a_shifted_dataset_drifts_in_check_and_in_the_report(root):
    many = [{**ROWS[n % 3], "id": f"m{n}", "text": f"The bill number {n} came twice."} for n in range(90)]
    rules = read_rules(root / "pipelines/quality/classify.yaml")
    profile = profile_of([{**row, "label": "billing"} for row in many], rules)
    (root / "pipelines/quality/classify.profile.json").write_bytes(profile.to_bytes())
    (root / "data/classify/cases.jsonl").write_text(lines(*many))
    report = quality.written(prepared(root))
    assert [item.column for item in report.drift if item.state == "drift"] == ["label"]
    warned = [f for f in check_all(root).findings if "drift of label" in f.problem]
    assert warned and warned[0].warning and "workbench data profile classify" in warned[0].problem
