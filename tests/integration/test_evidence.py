"""The evidence of the shipped versions, verified by three other implementations, and built once more."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import random
import shlex
import shutil
import subprocess

import pytest
from click.testing import CliRunner
from clones import ROOT, Clone
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from made_once import made_once
from made_repositories import git
from second_verifier import faults_of
from securesystemslib import dsse
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey
from sizes import SOAK

from workbench import registry
from workbench.attestations import Trust, folder_of
from workbench.attestations.keys import KEY_VARIABLE
from workbench.attestations.trust import KEYS
from workbench.cli.app import cli
from workbench.errors import ConfigError, CorruptError, NotFoundError, WorkbenchError
from workbench.files import ed25519
from workbench.promotion import evidence, trusting
from workbench.promotion.evidence import EvidenceOptions

SHIPPED = [
    (name, number)
    for name in registry.names(ROOT, "job")
    for label, number in registry.load(ROOT, "job", name).labels.items()
    if label == "production"
]
BUILT = {"assessment", "evidence", "provenance", "sbom", "test-result", "vulnerabilities"}
EXPORTER = ed25519.new_private_pem()


@pytest.fixture(autouse=True)
def _exporter(monkeypatch):
    """No test creates a key in this repository."""
    monkeypatch.setenv(KEY_VARIABLE, EXPORTER.decode())


@pytest.fixture(scope="module")
def public() -> bytes:
    return ed25519.public_pem(ed25519.private_key(EXPORTER, where="test", hint="").public_key())


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """An export of each shipped version in production, by its reference."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(KEY_VARIABLE, EXPORTER.decode())
        folder = tmp_path_factory.mktemp("exports")
        made = {}
        for name, number in SHIPPED:
            made[f"job/{name}@{number}"] = folder / f"{name}-{number}"
            evidence.export(ROOT, f"job/{name}@{number}", folder / f"{name}-{number}")
        yield made


@pytest.fixture
def home(tmp_path_factory, tmp_path):
    """A clone of this repository, with its own versions and without their evidence."""
    clone = Clone.at(made_once(tmp_path_factory, "head", Clone.of_head)).copied(tmp_path)
    for name in ("evidence", "trust"):
        shutil.rmtree(clone.folder / "pipelines" / name, ignore_errors=True)
    return clone.folder


def said(folder, name) -> dict:
    """The payload of a statement, without verifying it."""
    return json.loads(base64.b64decode(json.loads((folder / f"{name}.dsse.json").read_bytes())["payload"]))


def typed(folder, command):
    """Type a command; return its exit code and what it says."""
    with contextlib.chdir(folder):
        done = CliRunner().invoke(cli, shlex.split(command)[1:])
    if isinstance(done.exception, WorkbenchError):
        return done.exception.exit_code, str(done.exception)
    return done.exit_code, done.output


@pytest.mark.parametrize(("name", "number"), SHIPPED)
def test_the_evidence_of_each_version_in_production_verifies(name, number):
    found = evidence.verify(ROOT, f"job/{name}@{number}")
    assert found.passed, found
    assert {item.name for item in found.statements} >= BUILT


def test_no_private_key_is_committed():
    folders = [ROOT / "pipelines" / name for name in ("evidence", "trust")]
    text = b"".join(path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file())
    assert text and b"PRIVATE" not in text and base64.b64encode(b"PRIVATE KEY") not in text


def test_a_second_implementation_verifies_the_shipped_evidence(exports, public, tmp_path):
    """Our second verifier, securesystemslib's envelopes, and the crypto of Node."""
    trusted = {item.id: item.public for item in Trust.load(ROOT).keys.values()}
    keys = [
        SSlibKey.from_crypto(load_pem_public_key(pem.encode()), keyid=key_id)
        for key_id, pem in trusted.items()
    ]
    (tmp_path / "keys.json").write_text(json.dumps(trusted), encoding="utf-8")
    for folder in exports.values():
        assert faults_of(folder, public) == set()
        for path in (folder / "statements").iterdir():
            assert dsse.Envelope.from_dict(json.loads(path.read_bytes())).verify(keys, 1)
        assert by_node(folder / "statements", tmp_path / "keys.json") == []
        bill = json.dumps(said(folder / "statements", "sbom")["predicate"])
        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill) is None


def test_the_second_implementations_refuse_a_forged_statement_too(exports, tmp_path):
    folder = shutil.copytree(next(iter(exports.values())) / "statements", tmp_path / "forged")
    path = folder / "test-result.dsse.json"
    envelope = json.loads(path.read_bytes())
    forged = base64.b64decode(envelope["payload"]).replace(b"PASSED", b"FAILED")
    path.write_text(json.dumps({**envelope, "payload": base64.b64encode(forged).decode()}))
    trusted = {item.id: item.public for item in Trust.load(ROOT).keys.values()}
    (tmp_path / "keys.json").write_text(json.dumps(trusted), encoding="utf-8")
    assert by_node(folder, tmp_path / "keys.json") == ["test-result.dsse.json"]
    keys = [SSlibKey.from_crypto(load_pem_public_key(p.encode()), keyid=i) for i, p in trusted.items()]
    with pytest.raises(VerificationError):
        dsse.Envelope.from_dict(json.loads(path.read_bytes())).verify(keys, 1)


def by_node(folder, keys) -> list[str]:
    script = ROOT / "tests/support/javascript/verify_evidence.cjs"
    done = subprocess.run(
        ["node", script, folder, keys], capture_output=True, text=True, timeout=60, check=True
    )
    return json.loads(done.stdout)


def test_a_changed_byte_of_the_shipped_evidence_is_refused_by_name(exports, public, tmp_path):
    chosen = random.Random(7)
    (tmp_path / "public.pem").write_bytes(public)
    folder = shutil.copytree(next(iter(exports.values())), tmp_path / "export")
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name, data = path.relative_to(folder).as_posix(), path.read_bytes()
        for place in chosen.sample(range(len(data)), min(len(data), 50 if SOAK else 1)):
            other = bytes([data[place] ^ chosen.randrange(1, 256)])
            path.write_bytes(data[:place] + other + data[place + 1 :])
            code, text = typed(tmp_path, "workbench evidence verify export --key public.pem")
            assert code == 1 and name in text
            assert name in faults_of(folder, public)
        path.write_bytes(data)
    assert typed(tmp_path, "workbench evidence verify export --key public.pem")[0] == 0


@pytest.mark.parametrize(("name", "number"), SHIPPED)
def test_the_provenance_names_what_git_and_the_version_hold(exports, name, number):
    folder = exports[f"job/{name}@{number}"]
    inputs = said(folder / "statements", "provenance")["predicate"]["buildDefinition"]["resolvedDependencies"]
    digests = {item["name"]: item["digest"] for item in inputs}
    commit = digests.pop("commit")["gitCommit"]
    git(ROOT, "merge-base", "--is-ancestor", commit, "HEAD")
    for path, digest in digests.items():
        if object_id := digest.get("gitTree") or digest.get("gitBlob"):
            assert git(ROOT, "rev-parse", f"{commit}:{path}") == object_id
        if "gitBlob" in digest or path.startswith("pipelines/"):
            if "sha256" in digest:
                shown = subprocess.run(
                    ["git", "-C", ROOT, "show", f"{commit}:{path}"], capture_output=True, check=True
                )
                assert hashlib.sha256(shown.stdout).hexdigest() == digest["sha256"]
        elif path.startswith("version/"):
            assert hashlib.sha256((folder / path).read_bytes()).hexdigest() == digest["sha256"]
    assert {"workbench", "locks/workbench.lock", "version/tape.jsonl", "dataset"} <= digests.keys()
    assert any(path.startswith("pipelines/policies/") for path in digests)


def test_evidence_is_built_once_and_a_report_is_added(home):
    name, number = SHIPPED[0]
    reference = f"job/{name}@{number}"
    assert [fault.file for fault in evidence.verify(home, reference).faults] == [
        "statements/evidence.dsse.json"
    ]
    built = evidence.build(home, reference, EvidenceOptions())
    assert set(built.statements) == BUILT and not built.trusted and "evidence trust" in str(built)
    assert not evidence.verify(home, reference).passed
    trusting.trust_key(home, trusting.TrustOptions())
    assert evidence.verify(home, reference).passed
    index = said(home / folder_of(name, number), "evidence")
    assert index["predicate"]["built"] == "after the promotion"
    assert "nobody looked" in str(evidence.stated(home, reference))
    with pytest.raises(ConfigError, match="already"):
        evidence.build(home, reference, EvidenceOptions())
    report = home / "audit.json"
    found = {"name": "click", "version": pinned(home, "click"), "vulns": [{"id": "PYSEC-1"}]}
    report.write_text(json.dumps({"dependencies": [found]}), encoding="utf-8")
    added = evidence.build(home, reference, EvidenceOptions(report=report, commit=True))
    assert len(added.statements) == 1 and "1 known vulnerabilities" in str(evidence.stated(home, reference))
    assert evidence.verify(home, reference).passed and "evidence verify" in added.command
    assert not git(home, "status", "--porcelain", folder_of(name, number).as_posix())


def pinned(home, name) -> str:
    lock = (home / "locks/workbench.lock").read_text(encoding="utf-8")
    return next(line for line in lock.splitlines() if line.startswith(f"{name}==")).split("==")[1].split()[0]


def test_a_build_that_was_killed_is_made_anew_and_a_wrong_version_is_not_stated(home):
    name, number = SHIPPED[0]
    reference, folder = f"job/{name}@{number}", home / folder_of(name, number)
    evidence.build(home, reference, EvidenceOptions())
    (folder / "evidence.dsse.json").unlink()  # the index is written last
    (folder / "sbom.dsse.json").write_bytes(b"half")
    (folder / ".sbom.dsse.json.0123abcd").write_bytes(b"half")
    evidence.build(home, reference, EvidenceOptions())
    assert len(list(folder.iterdir())) == len(BUILT)
    trusting.trust_key(home, trusting.TrustOptions())
    left = folder / ".approval-1.dsse.json.0123abcd"
    left.write_bytes(b"half")  # of a killed `approve`
    assert evidence.verify(home, reference).passed and "FAIL" not in str(evidence.stated(home, reference))
    evidence.export(home, reference, home / "exported")
    assert not list((home / "exported").rglob(".*")) and left.exists()
    tape = registry.path_of(home, "job", name, number).parent / "tape.jsonl"
    tape.write_bytes(tape.read_bytes() + b"\n")
    assert [fault.file for fault in evidence.verify(home, reference).faults] == ["version/tape.jsonl"]
    with pytest.raises(CorruptError, match=r"not exported: .*tape\.jsonl"):
        evidence.export(home, reference, home / "out")
    shutil.rmtree(folder)
    with pytest.raises(CorruptError, match=r"tape\.jsonl"):
        evidence.build(home, reference, EvidenceOptions())
    assert not list(folder.glob("*")) and not (home / "out").exists()


def test_statements_of_another_version_are_refused_by_name(home):
    name, number = SHIPPED[0]
    other = number - 1
    trusting.trust_key(home, trusting.TrustOptions())
    for version in (number, other):
        evidence.build(home, f"job/{name}@{version}", EvidenceOptions())
    source, target = home / folder_of(name, other), home / folder_of(name, number)
    shutil.copy(source / "sbom.dsse.json", target)
    found = evidence.verify(home, f"job/{name}@{number}").faults
    assert {fault.file for fault in found} == {"statements/sbom.dsse.json"}
    assert any("another version" in fault.what for fault in found)
    (target / "sbom.dsse.json").write_bytes(b"{")  # what can be read is shown all the same
    code, text = typed(home, f"workbench evidence show job/{name}@{number}")
    assert code == 0 and "FAIL" in text and "sbom.dsse.json" in text and "gate PASSED" in text


def test_the_commands_say_what_is_wrong_with_what_they_are_given(home, tmp_path, public):
    (tmp_path / "public.pem").write_bytes(public)
    name, number = SHIPPED[0]
    for command, word in (
        ("workbench evidence build prompt/answer@1", "no job"),
        (f"workbench evidence show job/{name}@99", "99"),
        ("workbench evidence verify nowhere", "--key"),
        ("workbench evidence verify nowhere --key public.pem", "nowhere"),
        ("workbench evidence verify nowhere --key missing.pem", "missing.pem"),
        (f"workbench evidence export job/{name}@{number} pipelines", "exists"),
        ("workbench evidence trust public.pem", "--principal"),
        ("workbench evidence trust params.yaml --principal ada", "public key"),
        (f"workbench evidence build job/{name}@{number} --vulnerabilities params.yaml", "params.yaml"),
    ):
        shutil.copy(tmp_path / "public.pem", home)
        code, text = typed(home, command)
        assert (code, word in text) == (2, True), (command, text)
    assert not (home / KEYS).exists()


def test_a_missing_key_of_an_auditor_is_named(exports):
    folder = next(iter(exports.values()))
    with pytest.raises(NotFoundError, match=r"none\.pem"):
        CliRunner().invoke(
            cli, ["evidence", "verify", str(folder), "--key", "none.pem"],
            standalone_mode=False, catch_exceptions=False,
        )  # fmt: skip
