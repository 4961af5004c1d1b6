"""Who signed: keys of this machine, trusted keys, and the folder of statements."""

from __future__ import annotations

import dataclasses
import datetime as dt
from types import SimpleNamespace

import pytest
from signed_statements import NOON, entry_of, key_of, statement_of, trust_in

from workbench.attestations import SigningKey, Trust, dsse, folder, signed, store, stored, trust, verified
from workbench.attestations.keys import KEY_VARIABLE, path_of
from workbench.diagnostics import operations
from workbench.errors import ConfigError, CorruptError, NotFoundError, RefusedError
from workbench.jobs import runner

ADA, BOB = key_of("ada", 1), key_of("bob", 2)
DAY = dt.timedelta(days=1)


def test_a_trusted_statement_names_its_principal():
    found = verified(ADA.sign(statement_of(a=1)), trust_in(entry_of(ADA)), NOON, "approver")
    assert (found.principal, found.key_id, found.statement.predicate) == ("ada", ADA.key_id, {"a": 1})


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"roles": ("promoter",)}, "role"),
        ({"since": "2026-11-30T12:00:01Z"}, "early"),
        ({"until": "2026-11-30T12:00:00Z"}, "expired"),
        ({"revoked_at": "2026-11-30T12:00:00Z"}, "revoked"),
    ],
)
def test_a_key_counts_in_its_roles_and_its_time(changed, reason):
    envelope = ADA.sign(statement_of())
    with pytest.raises(RefusedError) as error:
        verified(envelope, trust_in(entry_of(ADA, **changed)), NOON, "approver")
    assert error.value.reason == reason and "ada" in str(error.value)


def test_a_key_counts_until_it_is_revoked():
    known = trust_in(entry_of(ADA, revoked_at="2026-11-30T12:00:00Z"))
    assert verified(ADA.sign(statement_of()), known, NOON - DAY, "approver").principal == "ada"


def test_forged_unknown_and_other_payloads_are_refused():
    envelope, known = ADA.sign(statement_of()), trust_in(entry_of(ADA))
    for wrong, reason in (
        (BOB.sign(statement_of()), "unknown"),
        (dataclasses.replace(BOB.sign(statement_of()), key_id=ADA.key_id), "forged"),
        (dataclasses.replace(envelope, payload=statement_of(a=2).payload()), "forged"),
        (dataclasses.replace(envelope, payload_type="application/json"), "forged"),
    ):
        with pytest.raises(RefusedError) as error:
            verified(wrong, known, NOON, "approver")
        assert error.value.reason == reason
    other = dsse.sign(statement_of().payload(), ADA.key, payload_type="application/json")
    with pytest.raises(CorruptError, match="payloadType"):
        verified(other, known, NOON, "approver")
    with pytest.raises(CorruptError, match="_type"):
        verified(dsse.sign(b"{}", ADA.key), known, NOON, "approver")


def test_the_key_of_a_principal_is_made_once_for_its_owner_alone(tmp_path):
    first = signed(tmp_path, statement_of(), "ada@example.com", environment={})
    again = SigningKey.load(tmp_path, "ada@example.com", environment={})
    other = SigningKey.load(tmp_path, "ada@example.org", environment={})
    assert first.key_id == again.key_id != other.key_id
    path = tmp_path / path_of("ada@example.com")
    assert path.stat().st_mode & 0o777 == 0o600 and "PRIVATE" not in repr(again)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        SigningKey.load(tmp_path, "ada@example.com", environment={})


def test_the_environment_names_the_key_as_text_or_as_a_file(tmp_path):
    SigningKey.load(tmp_path, "ada", environment={})
    path = tmp_path / path_of("ada")
    text = path.read_text(encoding="ascii")
    for stated in (text, str(path)):
        found = SigningKey.load(tmp_path / "other", "ci:build", environment={KEY_VARIABLE: stated})
        assert found.key_id == SigningKey.load(tmp_path, "ada", environment={}).key_id
    assert not (tmp_path / "other").exists()
    for wrong in ("-----BEGIN nonsense", str(tmp_path / "missing.pem")):
        with pytest.raises((ConfigError, NotFoundError)) as error:
            SigningKey.load(tmp_path, "ada", environment={KEY_VARIABLE: wrong})
        assert "nonsense" not in str(error.value)
    with pytest.raises(ConfigError, match="principal"):
        SigningKey.load(tmp_path, "", environment={})


def test_the_worker_of_a_job_does_not_get_the_key(monkeypatch, tmp_path):
    monkeypatch.setenv(KEY_VARIABLE, "secret")
    environment = runner._environment(SimpleNamespace(root="code"), tmp_path / "bin" / "python")
    assert KEY_VARIABLE not in environment and "PATH" in environment


def page(tmp_path, text: str) -> None:
    (tmp_path / "pipelines" / "trust").mkdir(parents=True, exist_ok=True)
    (tmp_path / trust.KEYS).write_text(text, encoding="utf-8")


def test_the_file_of_trusted_keys_is_written_and_read(tmp_path):
    assert Trust.load(tmp_path).keys == {}
    trust.trusted(tmp_path, entry_of(ADA))
    trust.trusted(tmp_path, entry_of(BOB, revoked_at="2026-12-01T00:00:00Z", roles=("approver",)))
    assert Trust.load(tmp_path).keys == trust_in(
        entry_of(ADA), entry_of(BOB, revoked_at="2026-12-01T00:00:00Z", roles=("approver",))
    ).keys  # fmt: skip
    assert "from: " in (tmp_path / trust.KEYS).read_text(encoding="utf-8")
    with pytest.raises(ConfigError, match="already"):
        trust.trusted(tmp_path, entry_of(ADA))


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("format: 1", "format: 2", "format"),
        ('principal: "ada"', "principal: ' '", "principal"),
        ('principal: "ada"', "principle: ada", "principle"),
        ("[promoter", "[king", "roles"),
        ("from:", "since:", "since"),
        ("from:", "begin:", "from"),
        ("2026-06-01T00:00:00Z", "2026-06-01", "from"),
        ("2026-06-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "from"),
        ("2027-06-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "until"),
        ("2027-06-01T00:00:00Z", "2026-05-01T00:00:00Z", "until"),
        ("BEGIN PUBLIC KEY", "BEGIN PRIVATE KEY", "public key"),
        (f"id: {ADA.key_id}", f"id: {BOB.key_id}", "id is not"),
        ("format: 1", "format: 1\nformat: 1", "format"),
    ],
)
def test_a_wrong_file_of_trusted_keys_is_refused_by_name(tmp_path, old, new, word):
    text = trust_in(entry_of(ADA)).to_bytes().decode()
    assert old in text
    page(tmp_path, text.replace(old, new, 1))
    with pytest.raises(ConfigError, match=word) as error:
        Trust.load(tmp_path)
    assert str(trust.KEYS) in str(error.value)


def test_check_reads_the_trusted_keys_as_strictly(tmp_path):
    page(tmp_path, trust_in(entry_of(ADA)).to_bytes().decode())
    assert [(item.what, item.problem) for item in operations.trusted_keys(tmp_path)] == [
        (str(trust.KEYS), "")
    ]
    page(tmp_path, "format: 1\nkeys: [7]\n")
    (found,) = operations.trusted_keys(tmp_path)
    assert "keys.0" in found.problem and not found.warning


def test_a_key_that_is_listed_twice_is_refused(tmp_path):
    text = trust_in(entry_of(ADA)).to_bytes().decode()
    page(tmp_path, text + text.partition("\nkeys:\n")[2].replace("ada", "eve"))
    with pytest.raises(ConfigError, match="twice"):
        Trust.load(tmp_path)


def test_statements_are_stored_beside_the_versions_and_never_overwritten(tmp_path):
    envelope = ADA.sign(statement_of(a=1))
    path = store(tmp_path, "answers", 7, "approval-1", envelope)
    assert path == tmp_path / "pipelines/evidence/answers/7/approval-1.dsse.json"
    assert store(tmp_path, "answers", 7, "approval-1", envelope) == path
    assert list(stored(tmp_path, "answers", 7)) == [("approval-1", envelope)]
    assert list(stored(tmp_path, "answers", 8)) == []
    with pytest.raises(ConfigError, match="never overwritten"):
        store(tmp_path, "answers", 7, "approval-1", ADA.sign(statement_of(a=2)))
    other = store(tmp_path, "answers", 7, "approval-1", ADA.sign(statement_of(a=2)), replace=True)
    assert folder.read(other).payload == statement_of(a=2).payload()


@pytest.mark.parametrize(("job", "version", "name"), [
    ("../x", 1, "a"), ("answers", 0, "a"), ("answers", 1, "../a"), ("answers", 1, "A"), ("answers", 1, ""),
])  # fmt: skip
def test_a_name_that_leads_elsewhere_is_refused(tmp_path, job, version, name):
    with pytest.raises(ConfigError):
        store(tmp_path, job, version, name, ADA.sign(statement_of()))
    assert not any(tmp_path.iterdir())


def test_links_and_other_files_among_the_statements_are_refused(tmp_path):
    path = store(tmp_path, "answers", 7, "a", ADA.sign(statement_of()))
    (path.parent / "b.dsse.json").symlink_to(path)
    with pytest.raises(CorruptError, match="link"):
        list(stored(tmp_path, "answers", 7))
    (path.parent / "b.dsse.json").unlink()
    (path.parent / "notes.txt").write_text("x", encoding="utf-8")
    with pytest.raises(CorruptError, match="does not belong"):
        list(stored(tmp_path, "answers", 7))
    with pytest.raises(NotFoundError, match=r"c\.dsse\.json"):
        folder.read(path.parent / "c.dsse.json")
