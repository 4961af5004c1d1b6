"""Exported evidence: verified by a public key alone; what was changed, lost or added is named."""

from __future__ import annotations

import random
import shutil
import time

import pytest
from second_verifier import faults_of
from signed_statements import AT, entry_of, key_of, made_bundle, statement_of, trust_in, written
from sizes import drawn

from workbench import files
from workbench.attestations import Statement, Subject
from workbench.attestations.bundle import EXPORT, Bundle
from workbench.attestations.verification import verify_bundle, verify_export
from workbench.errors import ConfigError

ADA, BOB, EVE = key_of("ada", 1), key_of("bob", 2), key_of("eve", 3)
KEYS = [ADA.key.public_key()]


@pytest.fixture
def export(tmp_path):
    return written(tmp_path / "export", made_bundle(decisions=2), by=ADA)


def faults(folder, keys=KEYS) -> set[str]:
    """The names of what does not verify; the second verifier finds the same."""
    found = {fault.file for fault in verify_export(folder, keys).faults}
    assert bool(found) == bool(faults_of(folder, ADA.public_pem())), found
    return found


def test_an_intact_export_names_each_statement_and_its_signer(export):
    found = verify_export(export, KEYS)
    assert found.passed and {(item.name, item.principal) for item in found.statements} == {
        ("evidence", "ada"), ("provenance", "ada"), ("sbom", "ada"), ("approval-0", "bob"),
        ("approval-1", "bob"),
    }  # fmt: skip
    assert faults(export) == set() and "exported by ada" in str(found)


def test_every_changed_byte_of_every_file_is_refused_by_name(export):
    """Each byte of each file in soak, and a sample of them otherwise."""
    chosen = random.Random(7)
    for path in sorted(p for p in export.rglob("*") if p.is_file()):
        name, data = path.relative_to(export).as_posix(), path.read_bytes()
        for place in drawn(range(len(data)), 6):
            path.write_bytes(
                data[:place] + bytes([data[place] ^ chosen.randrange(1, 256)]) + data[place + 1 :]
            )
            assert faults(export) == {name}, place
        for other in (data + b"\n", data[:-1], b"", data[: len(data) // 2], data + data):
            path.write_bytes(other)
            assert faults(export) == {name}
        path.write_bytes(data)
    assert faults(export) == set()


def test_missing_and_added_files_and_links_are_refused_by_name(export):
    for path in sorted(p for p in export.rglob("*") if p.is_file() and p.name != EXPORT):
        name, data = path.relative_to(export).as_posix(), path.read_bytes()
        path.unlink()
        assert faults(export) == {name}
        path.symlink_to(shutil.copy(export / EXPORT, export.parent / "elsewhere"))
        assert name in faults(export)
        path.unlink()
        path.write_bytes(data)
    for name in ("new.txt", "version/.hidden", "statements/approval-9.dsse.json", "version/deep/er/file"):
        (export / name).parent.mkdir(parents=True, exist_ok=True)
        (export / name).write_bytes(b"{}")
        assert faults(export) == {name}
        (export / name).unlink()
    (export / "folder").symlink_to(export / "version")
    assert faults(export) == {"folder"}


def test_an_export_that_another_key_signed_is_refused(export, tmp_path):
    assert faults(written(tmp_path / "forged", made_bundle(), by=EVE)) == {EXPORT}
    assert {fault.file for fault in verify_export(export, [EVE.key.public_key()]).faults} == {EXPORT}
    assert {fault.file for fault in verify_export(export, []).faults} == {EXPORT}
    other = ADA.sign(statement_of(at=AT)).to_bytes()
    (export / EXPORT).write_bytes(other)
    found = verify_export(export, KEYS).faults
    assert [fault.file for fault in found] == [EXPORT] and "urn:workbench:test:1" in found[0].what


@pytest.mark.parametrize("name", ["", "missing", "statements"])
def test_what_is_no_export_is_bad_usage(export, name):
    with pytest.raises(ConfigError, match="workbench evidence export"):
        verify_export(export / name if name else export / EXPORT, KEYS)


#: What an exporter signs although it does not hold: the change, the file, and a word of the fault.
WRONG = {
    "a statement of another version": (
        "statements/sbom.dsse.json", lambda: ADA.sign(statement_of(at=AT)).to_bytes(), "another version"),
    "a statement by an unknown key": (
        "statements/approval-0.dsse.json", lambda: EVE.sign(about_version()).to_bytes(), "not trusted"),
    "an approval by a promoter": (
        "statements/approval-0.dsse.json", lambda: ADA.sign(about_version()).to_bytes(), "not as approver"),
    "a statement without a time": (
        "statements/approval-0.dsse.json", lambda: BOB.sign(about_version(at=None)).to_bytes(), "no time"),
    "a statement whose time is in no year": (
        "statements/approval-0.dsse.json",
        lambda: BOB.sign(about_version(at="0001-01-01T00:00:00+23:59")).to_bytes(), "no time"),
    "an approval after the key's end": (
        "statements/approval-0.dsse.json",
        lambda: BOB.sign(about_version(at="2027-06-01T00:00:00Z")).to_bytes(), "until"),
    "the index of another time": (
        "statements/provenance.dsse.json", lambda: made_bundle()["statements/sbom.dsse.json"], "changed"),
    "keys that are no keys": ("keys.yaml", lambda: b"format: 1\nkeys: 7\n", "keys"),
    "a file that is no statement": ("statements/notes.txt", lambda: b"hello", "does not belong"),
    "a file beside the evidence": ("readme.txt", lambda: b"hello", "does not belong"),
    "a file beside the version's": ("version/extra.py", lambda: b"hello", "does not belong"),
    "a changed page": ("version/job.yaml", lambda: b"job: answers\nversion: 8\n", "changed"),
}  # fmt: skip


def about_version(at: str | None = AT) -> Statement:
    page = Subject(name="job.yaml", sha256=files.digest(made_bundle()["version/job.yaml"]))
    said = {"at": at} if at else {}
    return Statement(predicate_type="urn:workbench:approval:1", subjects=(page,), predicate=said)


@pytest.mark.parametrize("name", WRONG)
def test_an_export_that_its_owner_made_wrong_is_refused(tmp_path, name):
    """The signature of an export covers what is wrong, so only the statements tell."""
    file, change, word = WRONG[name]
    contents = made_bundle(decisions=1)
    folder = written(tmp_path / "export", {**contents, file: change()}, by=ADA)
    found = {fault.file: fault.what for fault in verify_export(folder, KEYS).faults}
    assert word in found[file]


def test_a_version_without_evidence_and_one_that_lost_a_statement_do_not_verify(tmp_path):
    contents = made_bundle()
    for name in ("statements/evidence.dsse.json", "statements/sbom.dsse.json", "version/task.ipynb"):
        rest = {key: data for key, data in contents.items() if key != name}
        folder = written(tmp_path / files.digest(name.encode()), rest, by=ADA)
        assert {fault.file for fault in verify_export(folder, KEYS).faults} == {name}


def test_statements_are_verified_in_their_repository_by_its_trusted_keys(export):
    places = {
        p.relative_to(export).as_posix(): p for p in export.rglob("*") if p.is_file() and p.name != EXPORT
    }
    assert verify_bundle(Bundle.of("job/answers@7", places)).passed
    revoked = trust_in(entry_of(ADA, revoked_at="2026-11-01T00:00:00Z"), entry_of(BOB))
    (export / "keys.yaml").write_bytes(revoked.to_bytes())
    found = verify_bundle(Bundle.of("job/answers@7", places))
    assert [fault.file for fault in found.faults] == ["statements/evidence.dsse.json"]
    assert "revoked" in found.faults[0].what


def test_a_thousand_decisions_are_signed_and_verified_in_time(tmp_path):
    number = len(drawn(range(1_000), 100))
    begun = time.process_time()
    folder = written(tmp_path / "export", made_bundle(decisions=number), by=ADA)
    found = verify_export(folder, KEYS)
    assert found.passed and len(found.statements) == number + 3
    assert time.process_time() - begun < 5 * number / 1_000 + 0.5
