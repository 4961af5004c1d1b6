"""Rules files: read strictly, each contradiction one error that names the key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.data.rules import ColumnRule, QualityRules, Unique, read_rules
from workbench.data.validation import repeats, typed, violations
from workbench.errors import ConfigError

WHOLE = """\
columns:
  id: {required: true, pattern: "t-[0-9]+"}
  tenant: {type: category, required: true}
  text: {required: true, length: {min: 10, max: 200}, language: [en], severities: {language: note}}
  label: {type: category, required: true, allowed: [billing, access, hardware]}
  amount: {type: number, range: {min: 0}}
  other: {type: any}
unique:
  - {columns: [id], severity: stop}
  - {columns: [tenant, text]}
anomalies:
  range: {columns: [amount]}
  length: {columns: [text], spread: 8}
  category: {columns: [label]}
  encoding: {columns: [text]}
  near_duplicate: {columns: [text], threshold: 0.8, severity: quarantine}
  drift: {false_alarms: 0.01, distance: 0.1, severity: stop}
cleaning:
  steps: [trim, nfc, line_ends, control_characters]
  map: {label: {Billing: billing}}
unreadable: stop
profile: pipelines/quality/tickets.profile.json
"""


def read(folder, text):
    path = folder / "tickets.yaml"
    path.write_text(text)
    return read_rules(path)


def test_a_file_with_every_key_is_read(tmp_path):
    rules = read(tmp_path, WHOLE)
    assert rules.columns["text"].severity_of("language") == "note"
    assert rules.columns["text"].severity_of("length") == "quarantine"
    assert rules.unique[0] == Unique(columns=("id",), severity="stop") and rules.unreadable == "stop"
    assert rules.texts == ("id", "tenant", "text", "label") and rules.columns["label"].is_category


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("required: true", "requird: true", ("columns.id.requird", "nearest: 'required'")),
        ("type: number", "type: numbre", ("columns.amount.type", "number")),
        ("severity: stop}\n  - ", "severity: halt}\n  - ", ("unique.0.severity", "stop")),
        ('"t-[0-9]+"', '"t-[0-9"', ("columns.id.pattern", "regular expression")),
        ('"t-[0-9]+"', '"(?=t)"', ("columns.id.pattern", "look-around")),
        ("{min: 0}", "{min: 3, max: 1}", ("columns.amount.range", "accepts no value")),
        ("{min: 0}", "{}", ("columns.amount.range", "every value")),
        ("type: number, range", "type: boolean, range", ("columns.amount.range", "boolean")),
        ("language: [en]", "language: [english]", ("columns.text.language", "english")),
        ("language: [en]", "language: []", ("columns.text.language", "empty")),
        ("allowed: [billing, access, hardware]", "allowed: [1, 2]", ("columns.label.allowed", "category")),
        ("columns: [tenant, text]", "columns: [tenant, txt]", ("unique.1.columns", "nearest: 'text'")),
        ("columns: [tenant, text]", "columns: [tenant, other]", ("unique.1.columns", "any")),
        ("range: {columns: [amount]}", "range: {columns: [text]}", ("anomalies.range", "text")),
        ("length: {columns: [text], ", "length: {columns: [amount], ", ("anomalies.length", "number")),
        ("category: {columns: [label]}", "category: {columns: [text]}", ("anomalies.category", "text")),
        ("threshold: 0.8", "threshold: 8", ("near_duplicate.threshold", "8")),
        ("false_alarms: 0.01", "false_alarms: 0", ("drift.false_alarms", "0.001")),
        ("spread: 8", "spread: 0", ("length.spread", "1 or more")),
        ("Billing: billing", "Billing: biling", ("cleaning.map.label", "nearest: 'billing'")),
        ("Billing: billing", "a: billing, billing: access", ("cleaning.map.label", "'access'")),
        ("Billing: billing", "access: billing", ("cleaning.map.label", "'access' is an allowed value")),
        ("profile: pipelines/quality/tickets.profile.json", "", ("category", "profile")),
        ("steps: [trim,", "steps: [trimm,", ("cleaning.steps", "trim")),
    ],
)  # fmt: skip
def test_a_contradiction_is_one_error_that_names_the_key(tmp_path, old, new, words):
    assert old in WHOLE
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, WHOLE.replace(old, new, 1))
    assert all(word in str(caught.value) for word in ("tickets.yaml", *words)), caught.value
    assert caught.value.hint


def test_rules_of_some_columns_leave_out_what_needs_another(tmp_path):
    rules = read(tmp_path, WHOLE).of_columns(["id", "tenant", "text"])
    assert set(rules.columns) == {"id", "tenant", "text"} and rules.anomalies.category is None
    assert rules.anomalies.encoding is not None and rules.cleaning.map == {} and len(rules.unique) == 2
    assert [item.columns for item in rules.of_columns(["id", "text"]).unique] == [("id",)]


def test_required_columns_are_added_and_ids_are_unique():
    rules = QualityRules(columns={"text": ColumnRule()}).requiring(["id", "text", "page"])
    assert all(rules.columns[name].required for name in ("id", "text", "page"))
    assert rules.unique == (Unique(columns=("id",)),)


# -- validation


def broken(row, *others, **columns):
    """Rule and reason of each violation of the first row."""
    rules = QualityRules(columns={name: ColumnRule(**rule) for name, rule in columns.items()})
    return {item.rule: item.reason for item in violations([row, *others], rules) if item.index == 0}


@pytest.mark.parametrize(
    ("value", "rule", "expected"),
    [
        (5, {}, "type"), (True, {"type": "integer"}, "type"), (1.5, {"type": "integer"}, "type"),
        (2**70, {"type": "integer"}, "type"), (3, {"type": "number"}, None),
        (True, {"type": "number"}, "type"),
        ("1", {"type": "number"}, "type"), (1, {"type": "boolean"}, "type"), ("a", {"type": "texts"}, "type"),
        (["a", 1], {"type": "texts"}, "type"), ("2026-02-30", {"type": "day"}, "type"),
        ("2026-02-28", {"type": "day"}, None), ({"a": 1}, {"type": "any", "required": True}, None),
        (None, {}, None), ("", {"length": {"min": 3}}, None), (None, {"required": True}, "required"),
        (" \n\u200b ", {"required": True}, "required"), ([], {"type": "texts", "required": True}, "required"),
        ([" "], {"type": "texts", "required": True}, "required"),
        (0, {"type": "any", "required": True}, None),
        ("ab", {"pattern": "a"}, "pattern"), ("ab", {"pattern": "a|ab"}, None),
        ("ü" * 5, {"length": {"max": 5}}, None), ("ü" * 6, {"length": {"max": 5}}, "length"),
        (["ok", "much longer"], {"type": "texts", "length": {"max": 5}}, "length"),
        (1, {"type": "integer", "range": {"min": 1, "max": 1}}, None),
        (2.5, {"type": "number", "range": {"max": 2}}, "range"),
        ("Billing", {"allowed": ("billing",)}, "allowed"), (2, {"type": "integer", "allowed": (1, 2)}, None),
        (["a", "z"], {"type": "texts", "allowed": ("a", "b")}, "allowed"),
    ],
)  # fmt: skip
def test_the_known_answer_of_each_check(value, rule, expected):
    from workbench.data.rules import Bounds

    rule = {key: Bounds(**item) if isinstance(item, dict) else item for key, item in rule.items()}
    assert set(broken({"c": value}, c=rule)) == ({f"c: {expected}"} if expected else set())


def test_a_reason_names_the_nearest_allowed_value_and_quotes_no_free_text():
    rules = {"label": {"allowed": ("billing", "access")}, "text": {"pattern": "[a-z]+"}}
    found = broken({"label": "biling", "text": "Jane Doe, 12 Elm Street"}, **rules)
    assert "nearest: 'billing'" in found["label: allowed"] and "Jane" not in found["text: pattern"]


def test_the_first_of_equal_rows_is_kept_and_missing_values_equal_nothing():
    rules = QualityRules(
        columns={"a": ColumnRule(), "b": ColumnRule(type="integer")}, unique=(Unique(columns=("a", "b")),)
    )
    rows = [{"a": "x", "b": 1}, {"a": "x"}, {"a": "x", "b": 1}, {"a": "x"}, {"a": "x", "b": 2}]
    assert [(item.index, item.rule) for item in repeats(rows, rules)] == [(2, "a, b: unique")]
    assert list(violations(rows, rules)) == [] == list(repeats([], rules))


def test_a_column_may_have_any_name():
    names = ["#row", "c0", "unique0", "a|b", "with space", "", "primary_key"]
    rules = QualityRules(
        columns={name: ColumnRule(required=True) for name in names}, unique=(Unique(columns=("c0",)),)
    )
    rows = [dict.fromkeys(names, "x"), dict.fromkeys(names), dict.fromkeys(names, "x")]
    found = [item.rule for item in violations(rows, rules)]
    assert sorted(found) == sorted(f"{name}: required" for name in names)
    assert [(item.index, item.rule) for item in repeats(rows, rules)] == [(2, "c0: unique")]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)
TYPES = ["text", "category", "texts", "integer", "number", "boolean", "day", "any"]


@given(st.sampled_from(TYPES), st.lists(VALUES, max_size=6))
def test_any_value_is_judged_without_an_error(kind, values):
    rules = QualityRules(
        columns={"c": ColumnRule(type=kind, required=True)}, unique=(Unique(columns=("c",)),)
    )
    found = list(violations([{"c": value} for value in values], rules))
    wrong = {index for index, value in enumerate(values) if not typed(value, rules.columns["c"])[1]}
    assert {item.index for item in found if item.rule == "c: type"} == wrong
    assert not {item.index for item in found if item.rule == "c: required"} & wrong
