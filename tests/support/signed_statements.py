"""Keys, trust and statements for tests."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from workbench import files
from workbench.attestations import SigningKey, Statement, Subject, Trust, TrustedKey
from workbench.attestations.bundle import EXPORT
from workbench.attestations.verification import EXPORT_TYPE

NOON = dt.datetime(2026, 11, 30, 12, tzinfo=dt.UTC)
AT = "2026-11-30T12:00:00Z"


def key_of(principal: str, seed: int) -> SigningKey:
    """The same key for the same seed."""
    return SigningKey(principal=principal, key=Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))


def entry_of(key: SigningKey, **changed) -> TrustedKey:
    """The key, trusted in every role for the year around NOON."""
    known = {
        "id": key.key_id, "public": key.public_pem().decode(), "principal": key.principal,
        "roles": ("promoter", "approver", "scheduler"),
        "since": "2026-06-01T00:00:00Z", "until": "2027-06-01T00:00:00Z",
    }  # fmt: skip
    return TrustedKey(**{**known, **changed})


def trust_in(*entries: TrustedKey) -> Trust:
    return Trust(keys={entry.id: entry for entry in entries})


def statement_of(**predicate) -> Statement:
    subjects = (Subject(name="job.yaml", sha256="a" * 64), Subject(name="task.ipynb", sha256="b" * 64))
    return Statement(predicate_type="urn:workbench:test:1", subjects=subjects, predicate=predicate)


def made_bundle(*, decisions: int = 0) -> dict[str, bytes]:
    """The files of a small version's export, by name: three statements, and so many approvals by Bob."""
    ada, bob = key_of("ada", 1), key_of("bob", 2)
    version = {"job.yaml": b"job: answers\nversion: 7\n", "task.ipynb": b"{}", "evidence/gate.json": b"[1]"}
    subjects = tuple(Subject(name=name, sha256=files.digest(data)) for name, data in version.items())
    page = subjects[:1]

    def said(key: SigningKey, kind: str, about: tuple[Subject, ...], **predicate) -> bytes:
        statement = Statement(predicate_type=kind, subjects=about, predicate=predicate)
        return key.sign(statement).to_bytes()

    stated = {
        "provenance": said(ada, "https://slsa.dev/provenance/v1", subjects, buildDefinition={}),
        "sbom": said(ada, "https://cyclonedx.org/bom", page, components=[]),
    }
    listed = tuple(Subject(name=f"{n}.dsse.json", sha256=files.digest(data)) for n, data in stated.items())
    stated["evidence"] = said(ada, "urn:workbench:evidence:1", (*subjects, *listed), at=AT, built="with")
    for number in range(decisions):
        kind, role = "urn:workbench:approval:1", f"officer {number}"
        stated[f"approval-{number}"] = said(bob, kind, page, at=AT, role=role, job="answers", version=7)
    trust = trust_in(entry_of(ada, roles=("promoter",)), entry_of(bob, roles=("approver",)))
    return {
        "keys.yaml": trust.to_bytes(),
        **{f"statements/{name}.dsse.json": data for name, data in stated.items()},
        **{f"version/{name}": data for name, data in version.items()},
    }


def written(folder: Path, contents: Mapping[str, bytes], *, by: SigningKey) -> Path:
    """Write an export of these files into a new folder, signed by a key."""
    for name, data in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    subjects = tuple(Subject(name=name, sha256=files.digest(data)) for name, data in contents.items())
    predicate = {"at": AT, "by": by.principal, "job": "answers", "version": 7}
    statement = Statement(predicate_type=EXPORT_TYPE, subjects=subjects, predicate=predicate)
    (folder / EXPORT).write_bytes(by.sign(statement).to_bytes())
    return folder
