"""A repository in phase mlvp with two versions of a job, and persons who have a token and a key each."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from issuer import AUDIENCE, ISSUER, Issuer
from made_jobs import PARAMS, copied, frozen, judged_repository
from made_repositories import git, saved
from signed_statements import entry_of, key_of

from workbench import files
from workbench.attestations.trust import KEYS, Trust
from workbench.promotion import requirements
from workbench.promotion.approve_job import JobApprovalOptions, approve_version
from workbench.testing.fakes import FakeClock

IDENTITY = f"""
identity:
  provider: oidc
  issuer: {ISSUER}
  audience: {AUDIENCE}
  keys: jwks.json
  token_env: ID_TOKEN
  claims: {{name: email}}
"""
#: Ada promotes, Bob and Carol may approve.
SEEDS = {"ada@acme.example": 1, "bob@acme.example": 2, "carol@acme.example": 3}
ADA, BOB, CAROL = SEEDS
ROLES = {ADA: ("promoter",), BOB: ("approver",), CAROL: ("approver",)}
NOW = "2026-11-24T06:00:00Z"
issuer = Issuer()


def clock(at=NOW):
    return FakeClock(at)


def mlvp_repository(root, *, versions=(1, 2)):
    """Ada's versions, the first in production, of a use case that demands authenticated principals."""
    params = PARAMS.replace("phase: mvp\n", "phase: mlvp\n    assurance: authenticated\n")
    gate = "      mlvp: {accuracy: {min: 0.5}, cases: {min: 10}, confidence: 0.9}\n"
    params = params.replace("    gates:\n", f"    gates:\n{gate}")
    saved(root, "Phase mlvp", **{"params.yaml": params + IDENTITY, "jwks.json": issuer.jwks()})
    trusted(root, *(entry_of(key_of(name, seed), roles=ROLES[name]) for name, seed in SEEDS.items()))
    for number in versions:
        frozen(root, number, label="production" if number == 1 else None)
    return root


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Ada's repository in phase mlvp: version 1 in production, version 2 without a label."""
    with pytest.MonkeyPatch.context() as patch:
        acting(patch, ADA)
        return mlvp_repository(judged_repository(tmp_path_factory.mktemp("mlvp") / "repo"))


@pytest.fixture
def root(made, tmp_path, monkeypatch):
    """A copy, in which Bob acts; models are assessed elsewhere."""
    monkeypatch.setattr(requirements, "not_assessed", lambda *_: [])
    acting(monkeypatch, BOB)
    return copied(made, tmp_path / "repo")


def trusted(root, *entries):
    """Commit a file of exactly these trusted keys."""
    page = (
        Trust(keys={entry.id: entry for entry in entries}).to_bytes() if entries else b"format: 1\nkeys: []\n"
    )
    files.write_atomic(root / KEYS, page)
    saved(root, "Trusted keys")


def acting(patch, principal, *, name=""):
    """From here on the process is a person's: the token, the signing key and the name in git."""
    key = key_of(principal, SEEDS.get(principal, 9)).key
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    patch.setenv("ID_TOKEN", issuer.token(email=principal))
    patch.setenv("WORKBENCH_SIGNING_KEY", pem)
    patch.setenv("GIT_AUTHOR_NAME", name or principal.partition("@")[0].title())
    patch.setenv("GIT_AUTHOR_EMAIL", principal)


def approve(root, reference="job/answers@2", **given):
    """An approval that is committed, unless told otherwise."""
    return approve_version(root, reference, JobApprovalOptions(**{"clock": clock(), "commit": True, **given}))


def committed(root, message="edited"):
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--allow-empty", "--message", message)
