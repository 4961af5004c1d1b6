"""The check of a dataset: what is kept, what is set aside and why, and that the kept rows pass again."""

from __future__ import annotations

import dataclasses
import random

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sizes import SOAK

from workbench.data.checked import check_rows
from workbench.data.detector_rules import Anomalies, Damage, Drift, Outliers, Similar, Unknown
from workbench.data.profile import profile_of
from workbench.data.report import QualityReport
from workbench.data.rules import Bounds, Cleaning, ColumnRule, QualityRules
from workbench.errors import ConfigError
from workbench.experiments.inputs import InputRow

LABELS = ("billing", "access", "hardware", "software", "travel", "other")
RULES = QualityRules(
    columns={
        "id": ColumnRule(pattern="t-[0-9]+"),
        "text": ColumnRule(required=True, length=Bounds(min=10, max=400), language=("en",)),
        "label": ColumnRule(type="category", required=True, allowed=LABELS),
        "amount": ColumnRule(type="number", range=Bounds(min=0)),
    },
    anomalies=Anomalies(
        range=Outliers(columns=("amount",), spread=8, scale="log"),
        length=Outliers(columns=("text",), spread=8),
        category=Unknown(columns=("label",)),
        encoding=Damage(columns=("text",)),
        near_duplicate=Similar(columns=("text",), threshold=0.8, severity="quarantine"),
        drift=Drift(false_alarms=0.001, distance=0.1),
    ),
    cleaning=Cleaning(steps=("trim", "nfc", "line_ends"), map={"label": {"Billing": "billing"}}),
    profile="p.json",
).requiring(["id", "tenant", "text", "label"])
TENANTS = ("acme", "globex")
SUBJECTS = ["invoice", "laptop", "password", "printer", "screen", "account", "train", "hotel", "phone"]
VERBS = ["broke", "vanished", "failed", "stopped", "changed", "froze", "doubled", "expired", "crashed"]
PLACES = [
    f"{side} {room} of building {n}"
    for side in ("north", "south")
    for room in ("hall", "lab")
    for n in range(9)
]


def tickets(seed, n=300):
    """Clean rows: sentences of varied words, so that no two are near-duplicates."""
    draw = random.Random(seed)
    rows = []
    for number in range(n):
        words = [draw.choice(SUBJECTS), draw.choice(VERBS), draw.choice(PLACES), draw.choice(SUBJECTS)]
        hour = f"{draw.randint(1, 9)}:{draw.randint(10, 59)}"
        day = f"{draw.randint(1, 28)} {draw.choice(['May', 'June'])} at {hour}"
        rows.append(
            {
                "id": f"t-{number}", "tenant": draw.choice(TENANTS), "label": draw.choice(LABELS),
                "text": f"Hello, on {day} the {words[0]} {words[1]} in the {words[2]}, "
                f"case {draw.randint(1, 10**9)}; since then my {words[3]} number "
                f"{draw.randint(1, 10**6)} is not usable either.",
                "amount": round(draw.lognormvariate(3, 0.5), 2),
            }
        )  # fmt: skip
    return rows


def numbered(rows):
    return [
        row if isinstance(row, InputRow) else InputRow(number=n, columns=row)
        for n, row in enumerate(rows, start=1)
    ]


PROFILE = profile_of(tickets(0, 1_000), RULES)


def check(rows, rules=RULES, **given):
    return check_rows("tickets", numbered(rows), rules, tenants=TENANTS, profile=PROFILE, **given)


def broken_rules(found):
    """Rules of severity above note by row number."""
    told = {}
    for rule in found.report.broken:
        for row in rule.first:
            told.setdefault(row.row, set()).add(rule.rule)
    return told


GERMAN = "Ich habe eine falsche Rechnung bekommen und möchte mein Geld bitte zurück haben."
FAULTS = {
    "text: required": lambda row, _: {**row, "text": " \n"},
    "text: type": lambda row, _: {**row, "text": 17},
    "text: length": lambda row, _: {**row, "text": "short"},
    "text: language": lambda row, _: {**row, "text": GERMAN},
    "text: encoding": lambda row, _: {**row, "text": f"{row['text']} KÃ¼che"},
    "text: near_duplicate": lambda row, other: {**row, "text": f"{other['text']} Thanks"},
    "label: required": lambda row, _: {k: v for k, v in row.items() if k != "label"},
    "label: allowed": lambda row, _: {**row, "label": "biling"},
    "id: pattern": lambda row, _: {**row, "id": "ticket"},
    "id: unique": lambda row, other: {**row, "id": other["id"]},
    "tenant: known": lambda row, _: {**row, "tenant": "acmee"},
    "amount: range": lambda row, _: {**row, "amount": -5},
    "amount: type": lambda row, _: {**row, "amount": "12"},
}


@pytest.mark.parametrize("rule", FAULTS)
def test_a_planted_fault_is_caught_with_the_right_reason_and_nothing_else(rule):
    rows = tickets(1)
    rows[200] = FAULTS[rule](rows[200], rows[20])
    found = check(rows)
    assert [item.row.number for item in found.broken] == [201]
    assert rule in broken_rules(found)[201] and rule in found.broken[0].reason
    assert found.report.kept == 299 and found.report.rejected == 1
    assert found.quarantine()["row"].to_list() == [201]


def test_a_row_that_is_broken_otherwise_takes_no_id_from_a_later_one():
    rows = tickets(1, 60)
    rows[3] = {**rows[3], "id": rows[40]["id"], "label": "biling"}
    found = check(rows)
    assert [item.row.number for item in found.broken] == [4] and "unique" not in found.broken[0].reason


def test_an_unreadable_line_is_set_aside_with_its_text():
    rows = [*numbered(tickets(1, 30)), InputRow(number=31, columns={}, fault="not a JSON object", text="[1]")]
    found = check(rows)
    [line] = found.quarantine().to_dicts()
    assert (line["row"], line["reason"], line["columns"]) == (31, "not a JSON object", "[1]")
    assert found.report.broken[-1].rule == "readable"


def test_five_percent_of_broken_rows_are_caught_each_with_its_reason():
    rows, draw, planted = tickets(3, 600), random.Random(9), {}
    for place in draw.sample(range(100, 600), 30):
        rule = draw.choice(sorted(FAULTS))
        rows[place] = FAULTS[rule](rows[place], rows[draw.randrange(100)])
        planted[place + 1] = rule
    found = check(rows)
    reasons = {item.row.number: item.reason for item in found.broken}
    assert set(reasons) == set(planted)
    assert all(rule in reasons[row] for row, rule in planted.items())


def test_clean_sets_give_no_false_alarm():
    """Drift may alarm for 1 set in 1,000: of 200 sets, two alarms have a chance of 2 %."""
    alarms = 0
    for seed in range(100, 300 if SOAK else 130):
        found = check(tickets(seed, 60))
        assert found.report.broken == () and found.report.kept == 60
        alarms += not found.report.is_clean
    assert alarms <= 1


def test_a_shifted_set_raises_drift_and_keeps_its_rows():
    shifted = [{**row, "label": "billing"} if n % 2 else row for n, row in enumerate(tickets(4))]
    report = check(shifted).report
    assert [item.column for item in report.drift if item.state == "drift"] == ["label"]
    assert not report.is_clean and report.kept == 300 and report.broken == ()
    assert any("drift of label" in note for note in report.notes())


def test_outliers_are_noted_and_kept_unless_the_rules_set_them_aside():
    rows = tickets(5)
    rows[7] = {**rows[7], "amount": 1e9}
    noted = check(rows).report
    assert (noted.kept, noted.suspicious) == (300, 1) and noted.broken[0].rule == "amount: outlying range"
    anomalies = Anomalies(range=Outliers(columns=("amount",), scale="log", severity="quarantine"))
    strict = check(rows, dataclasses.replace(RULES, anomalies=anomalies))
    assert [item.row.id for item in strict.broken] == ["t-7"]


def test_texts_are_cleaned_before_they_are_checked_and_the_original_is_set_aside():
    rows = tickets(6, 40)
    rows[0] = {**rows[0], "label": " Billing", "text": f"{rows[0]['text']}\r\n"}
    rows[1] = {**rows[1], "label": " biling "}
    found = check(rows)
    cleaned = found.kept[0].columns
    assert cleaned["label"] == "billing" and cleaned["text"] == rows[0]["text"].strip()
    assert found.broken[0].row.columns["label"] == " biling "
    assert found.report.repaired == 1
    assert {(line["id"], line["step"]) for line in found.ledger().to_dicts()} == {
        ("t-0", "trim"), ("t-0", "map"), ("t-0", "line_ends"), ("t-1", "trim"),
    }  # fmt: skip


def test_a_rule_of_severity_stop_stops_with_its_rows_and_the_next_command():
    stop = dataclasses.replace(RULES.columns["label"], severities={"allowed": "stop"})
    rules = dataclasses.replace(RULES, columns={**RULES.columns, "label": stop})
    rows = tickets(7)
    for place in range(10, 15):
        rows[place] = {**rows[place], "label": "biling"}
    report = check(rows, rules).report
    with pytest.raises(ConfigError, match="label: allowed") as caught:
        report.check_stopped(hint="workbench data check tickets")
    assert "row 11 (t-10)" in str(caught.value) and "2 more" in str(caught.value)
    assert "workbench data check" in caught.value.hint
    check(tickets(7), rules).report.check_stopped(hint="")


def test_a_row_that_the_caller_cannot_use_is_set_aside_with_the_callers_reason():
    def fits(columns):
        if "colour" in columns:
            raise ConfigError("unknown key 'colour'")

    rows = tickets(8, 30)
    rows[3] = {**rows[3], "colour": "red"}
    [broken] = check(rows, fits=fits).broken
    assert broken.row.number == 4 and broken.reason == "usable: unknown key 'colour'"


def test_the_report_is_the_same_after_a_round_trip_and_names_ten_rows_of_a_rule():
    rows = [{**row, "label": "biling"} if n < 25 else row for n, row in enumerate(tickets(9))]
    report = check(rows).report
    assert QualityReport.from_json(orjson.loads(orjson.dumps(report.to_json())), where="q") == report
    [rule] = [item for item in report.broken if item.rule == "label: allowed"]
    assert rule.count == 25 and [row.row for row in rule.first] == list(range(1, 11))
    text = str(report)
    assert "275 of 300 rows kept" in text and "22 more" in text and "nearest: 'billing'" in text
    assert "<table" in report._repr_html_()


def test_with_faults_gives_every_row_in_the_order_of_the_file():
    rows = tickets(10, 30)
    rows[5] = {**rows[5], "label": "x"}
    found = check(rows).with_faults()
    assert [row.number for row in found] == list(range(1, 31))
    assert [row.number for row in found if row.fault] == [6] and "label: allowed" in found[5].fault


COLUMNS = st.fixed_dictionaries(
    {},
    optional={
        "id": st.sampled_from(["t-1", "t-2", "t-3", "x", 5, None]),
        "tenant": st.sampled_from(["acme", "globex", "other", None, 3]),
        "label": st.sampled_from(["billing", "Billing", " access", "x", None]),
        "text": st.sampled_from(
            ["a text of some length", "a text of some length ", "Caf\u00c3\u00a9 is a broken text", ""]
        )
        | st.text(max_size=30),
        "amount": st.none() | st.floats() | st.integers() | st.text(max_size=2),
    },
)


@given(st.lists(COLUMNS, max_size=30))
def test_no_row_vanishes_and_the_kept_rows_pass_again_unchanged(columns):
    first = check(columns)
    assert sorted(row.number for row in first.kept) + sorted(item.row.number for item in first.broken) != [0]
    numbers = [row.number for row in first.kept] + [item.row.number for item in first.broken]
    assert sorted(numbers) == list(range(1, len(columns) + 1))
    again = check([row.columns for row in first.kept])
    assert again.broken == () and again.repairs == ()
    assert [row.columns for row in again.kept] == [row.columns for row in first.kept]
