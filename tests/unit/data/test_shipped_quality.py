"""The shipped rules of triage: every planted fault of its raw tickets, and no false alarm."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from workbench import files
from workbench.data import detector_rules, rules
from workbench.data.checked import check_rows
from workbench.experiments.inputs import read
from workbench.workspace.quality import StatedRules

ROOT = Path(__file__).resolve().parents[3]
TRIAGE = ROOT / "data" / "triage"
STATED = StatedRules.read(ROOT, "pipelines/quality/triage.yaml")
PAGE = (ROOT / "docs" / "quality.md").read_text(encoding="utf-8")
#: The rule that each kind of planted fault breaks.
RULE = {
    "damaged_encoding": "text: encoding",
    "unknown_label": "label: allowed",
    "missing_label": "label: required",
    "empty_text": "text: required",
    "wrong_tenant": "tenant: known",
    "duplicate_id": "id: unique",
    "duplicate_text": "tenant, text: unique",
    "wrong_type": "text: type",
}


def checked(name):
    needed = STATED.rules.requiring(["id", "tenant", "text", "label"])
    rows = read(TRIAGE / f"{name}.jsonl")
    return check_rows(name, rows, needed, tenants=("acme", "globex"), profile=STATED.profile)


def test_every_planted_fault_of_the_tickets_is_caught_with_the_right_reason_and_nothing_else():
    planted = [json.loads(line) for line in (TRIAGE / "broken.jsonl").read_text().splitlines()]
    found = {item.row.number: item.reason for item in checked("tickets").broken}
    assert {fault["fault"] for fault in planted} == set(RULE) and len(planted) >= 30
    assert found.keys() == {fault["line"] for fault in planted}
    wrong = [fault for fault in planted if not found[fault["line"]].startswith(RULE[fault["fault"]])]
    assert wrong == []


@pytest.mark.parametrize("name", ["cases", "solved"])
def test_the_clean_tickets_give_no_rejection_and_no_drift(name):
    report = checked(name).report
    assert report.rejected == report.repaired == 0 and report.kept == report.rows > 150
    assert not [item for item in report.drift if item.state != "none"]
    assert not [item for item in report.broken if item.rule != "text: near_duplicate"]


def test_a_label_that_is_used_more_often_drifts():
    rows = [
        dataclasses.replace(row, columns={**row.columns, "label": "billing"}) if row.number % 3 == 0 else row
        for row in read(TRIAGE / "cases.jsonl")
    ]
    report = check_rows("cases", rows, STATED.rules, profile=STATED.profile).report
    assert [item.column for item in report.drift if item.state == "drift"] == ["label"]


def test_the_page_shows_the_shipped_rules_and_describes_every_key():
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    shown = next(text for text in blocks if text.startswith("columns:"))
    shipped = files.read_yaml(ROOT / "pipelines/quality/triage.yaml")
    assert files.parse_yaml(shown, where="docs") == shipped
    keys = {
        field.name
        for module in (rules, detector_rules)
        for kind in vars(module).values()
        if dataclasses.is_dataclass(kind)
        for field in dataclasses.fields(kind)
    }
    assert {"near_duplicate", "severities", "scale"} <= keys
    assert not [
        key for key in keys if f"`{key}" not in PAGE and f"{key}`" not in PAGE and f"{key}:" not in PAGE
    ]
