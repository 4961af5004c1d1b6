"""In-toto statements: read strictly."""

from __future__ import annotations

import json

import pytest
from signed_statements import statement_of

from workbench.attestations import Statement, Subject
from workbench.errors import ConfigError, CorruptError


def raw_of(statement: Statement) -> dict:
    return json.loads(statement.payload())


def test_a_statement_has_the_form_of_in_toto_and_is_read_again():
    statement = statement_of(verdict="pass", lines=[1, 2.5, None])
    raw = raw_of(statement)
    assert raw["_type"] == "https://in-toto.io/Statement/v1"
    assert raw["subject"][0] == {"name": "job.yaml", "digest": {"sha256": "a" * 64}}
    assert Statement.parse(statement.payload(), where="s") == statement
    assert statement.digest_of("task.ipynb") == "b" * 64 and statement.digest_of("other") == ""


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"_type": "https://in-toto.io/Statement/v0.1"}, "_type"),
        ({"extra": 1}, "extra"),
        ({"predicateType": "javascript:1"}, "predicateType"),
        ({"predicateType": "urn:a b"}, "predicateType"),
        ({"predicate": []}, "predicate"),
        ({"subject": []}, "subject"),
        ({"subject": [{"name": "", "digest": {"sha256": "a" * 64}}]}, "subject"),
        ({"subject": [{"name": "a", "digest": {"sha256": "A" * 64}}]}, "SHA-256"),
        ({"subject": [{"name": "a", "digest": {"md5": "a"}}]}, "md5"),
        ({"subject": [{"name": "a", "digest": {"sha256": "a" * 64}}] * 2}, "repeated"),
    ],
)
def test_a_statement_of_another_form_is_refused_by_name(change, word):
    with pytest.raises(CorruptError, match=word):
        Statement.parse(json.dumps(raw_of(statement_of()) | change).encode(), where="s")


@pytest.mark.parametrize("payload", [b"", b"[]", b"null", b"\xff", b'{"_type":1,"_type":1}', b"{" * 9_999])
def test_what_is_no_statement_is_refused(payload):
    with pytest.raises(CorruptError, match=r"^s: "):
        Statement.parse(payload, where="s")


def test_a_wrong_statement_is_not_written():
    with pytest.raises(ConfigError, match="SHA-256"):
        Statement(predicate_type="urn:x", subjects=(Subject(name="a", sha256="b"),), predicate={}).payload()
