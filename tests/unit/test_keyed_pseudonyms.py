"""Keyed pseudonyms in logs and published tables, and the texts of tables and runs."""

import polars as pl
import pytest
from planted import EMAIL, PERSON, PHONE, SECRET, SmallDetector

from workbench.config import DataClass, data_rules
from workbench.errors import PrivacyError
from workbench.layout import AUDIT_KEYS
from workbench.privacy import repository
from workbench.privacy.detection import PatternDetector
from workbench.workspace import privacy


@pytest.fixture
def ruled(monkeypatch):
    def stated(**classes):
        rules = data_rules({name: DataClass(**fields) for name, fields in classes.items()})
        for module in (privacy, repository):
            monkeypatch.setattr(module, "detector_of", lambda _: SmallDetector())
            monkeypatch.setattr(module, "rules_of", lambda _: rules)

    return stated


def test_the_same_value_has_the_same_pseudonym_in_logs_and_tables_while_the_key_stays(ruled, tmp_path):
    ruled(personal={"logs": "pseudonymise", "outputs": "pseudonymise"})
    told = repository.redaction_of(tmp_path).text(f"{EMAIL}, {EMAIL}, {PHONE}, {SECRET}")
    first, second, phone, secret = told.split(", ")
    assert first == second and first.startswith("[EMAIL_") and phone.startswith("[PHONE_")
    assert secret == "[SECRET]" and EMAIL not in told
    table = privacy.protected(tmp_path, pl.DataFrame({"text": [EMAIL, PERSON]}))
    assert table["text"][0] == first and table["text"][1].startswith("[PERSON_")
    (key,) = (tmp_path / AUDIT_KEYS).iterdir()
    assert key.stat().st_mode & 0o777 == 0o600
    assert repository.redaction_of(tmp_path).text(EMAIL) == first
    key.unlink()
    assert repository.redaction_of(tmp_path).text(EMAIL) != first
    assert not PatternDetector().find(told)  # it passes the next sink as it is


def test_no_key_is_made_before_a_value_needs_one(ruled, tmp_path):
    ruled(personal={"logs": "pseudonymise"})
    assert repository.redaction_of(tmp_path).text("nothing here") == "nothing here"
    assert not (tmp_path / AUDIT_KEYS).exists()


def nested():
    kinds = {
        "list": pl.List(pl.String()), "deep": pl.List(pl.Struct({"who": pl.String(), "n": pl.Int64()})),
        "kind": pl.Categorical(), "chosen": pl.Enum([EMAIL, "b"]), "pair": pl.Array(pl.String(), 2),
        "n": pl.Int64(), "none": pl.Null(), "clean": pl.List(pl.String()),
    }  # fmt: skip
    rows = {
        "list": [[PERSON, None], None], "deep": [[{"who": SECRET, "n": 1}], []], "kind": [EMAIL, None],
        "chosen": [EMAIL, "b"], "pair": [[PHONE, "x"], None], "n": [1, None], "none": [None, None],
        "clean": [["a"], []],
    }  # fmt: skip
    return pl.DataFrame(rows, schema=kinds)


def test_a_published_table_is_masked_in_lists_structures_and_categories(ruled, tmp_path):
    ruled(personal={"outputs": "mask"})
    frame = nested()
    made = privacy.protected(tmp_path, frame)
    assert made["list"].to_list() == [["[PERSON]", None], None]
    assert made["deep"].to_list() == [[{"who": "[SECRET]", "n": 1}], []]
    assert made["kind"].to_list() == ["[EMAIL]", None] and made["chosen"].to_list() == ["[EMAIL]", "b"]
    assert made["pair"].to_list() == [["[PHONE]", "x"], None]
    for name in ("list", "deep", "pair", "n", "none", "clean"):
        assert made[name].dtype == frame[name].dtype
    clean = frame.select("n", "none", "clean")
    assert privacy.protected(tmp_path, clean).equals(clean)
    ruled(personal={"outputs": "refuse"})
    with pytest.raises(PrivacyError, match="person"):
        privacy.protected(tmp_path, frame.select("list"))


def test_a_run_keeps_answers_as_tables_hold_them_and_errors_as_logs_do(ruled, tmp_path):
    rows = pl.DataFrame({"case": [EMAIL], "output": [f"{PERSON} {SECRET}"], "error": [f"KeyError: {EMAIL}"]})
    ruled()
    (row,) = privacy.protected_run(tmp_path, rows).rows()
    assert row == (EMAIL, f"{PERSON} [SECRET]", "KeyError: [EMAIL]")
    ruled(personal={"outputs": "refuse"})
    (row,) = privacy.protected_run(tmp_path, rows).rows()
    assert row[1] == "[PERSON] [SECRET]"
