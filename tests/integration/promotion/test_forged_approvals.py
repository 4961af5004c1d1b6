"""Ways around the second person: what an author of a version can commit, hide or take away by hand."""

from __future__ import annotations

import dataclasses
import shutil

import pytest
from approved_versions import (
    ADA,
    BOB,
    CAROL,
    NOW,
    ROLES,
    SEEDS,
    acting,
    approve,
    clock,
    committed,
    mlvp_repository,
)
from made_jobs import copied, judged_repository
from made_repositories import git, saved
from signed_statements import entry_of, key_of

from workbench import files, registry
from workbench.attestations import Statement, Subject, Trust, folder_of, store
from workbench.attestations.trust import KEYS
from workbench.errors import PolicyError, RefusedError
from workbench.jobs import run as jobs
from workbench.promotion import requirements
from workbench.promotion.job_approvals import JobApproval, approvals_of
from workbench.promotion.promote import ReleaseOptions, promote
from workbench.promotion.run_rights import authorise_run

FOLDER = folder_of("answers", 2)
PAGE = "pipelines/jobs/answers/asset.yaml"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Version 2 is in production, and nobody has approved it."""
    with pytest.MonkeyPatch.context() as patch:
        acting(patch, ADA)
        root = mlvp_repository(judged_repository(tmp_path_factory.mktemp("forged") / "repo"))
        (root / PAGE).write_text((root / PAGE).read_text().replace("production: 1", "production: 2"))
        committed(root)
    return root


@pytest.fixture
def root(made, tmp_path, monkeypatch):
    """A copy in which the author acts."""
    monkeypatch.setattr(requirements, "not_assessed", lambda *_: [])
    acting(monkeypatch, ADA)
    return copied(made, tmp_path / "repo")


def forged(root, key=None, *, commit=True, **changed):
    """Write an approval of version 2 by hand, signed with a key."""
    key = key or key_of(BOB, SEEDS[BOB])
    version = registry.resolve(root, "job", "answers@2")
    stated = JobApproval(
        job="answers", version=2, label="production", principal=key.principal, assurance="authenticated",
        author=key.principal, role="", reason="", at="2026-11-24T05:00:00Z", until="2027-01-01",
        nonce="a" * 32,
    )  # fmt: skip
    stated = dataclasses.replace(stated, **changed)
    store(
        root, "answers", 2, f"approval-{stated.nonce}", key.sign(stated.statement(version.digest)),
        replace=True,
    )  # fmt: skip
    if commit:
        committed(root)


def found(root):
    return approvals_of(root, "answers", 2, "production", now=clock(NOW).now())


def refusal(root):
    """Why the one approval does not count."""
    ((_, reason),) = found(root).refused
    assert found(root).counted == ()
    return reason


def provenance(root, principal, *, digest=""):
    """Write the statement that names who promoted version 2."""
    digest = digest or registry.resolve(root, "job", "answers@2").digest
    about = (Subject(name="job.yaml", sha256=digest),)
    stated = Statement(predicate_type="https://slsa.dev/provenance/v1", subjects=about, predicate={})
    signed = key_of(principal, SEEDS[principal]).sign(stated)
    return store(root, "answers", 2, "provenance", signed, replace=True)


def forbidden(root):
    with pytest.raises(PolicyError, match="publish-approved"):
        authorise_run(root, "answers", None, clock=clock())
    return True


def test_an_approval_counts_for_a_year_at_most_whatever_it_states(root):
    forged(root, until="2027-11-24")
    assert len(found(root).counted) == 1
    forged(root, until="2027-11-25")
    assert "365 days at most" in refusal(root)
    forged(root, until="9999-12-31")
    assert "365 days at most" in refusal(root)


@pytest.mark.parametrize("way", ["ignored", "linked", "unlooked"])
def test_an_approval_that_git_is_told_not_to_see_is_not_committed(root, tmp_path, way):
    if way == "ignored":
        saved(root, **{".gitignore": "/.workbench/\n/pipelines/evidence/\n"})
        forged(root, commit=False)
    elif way == "linked":
        (root / FOLDER).parent.mkdir(parents=True)
        (root / FOLDER).symlink_to(tmp_path / "elsewhere")
        committed(root)
        (tmp_path / "elsewhere").mkdir()
        forged(root, commit=False)
    else:
        forged(root, key_of("mallory", 7))
        git(root, "update-index", "--assume-unchanged", str(FOLDER / f"approval-{'a' * 32}.dsse.json"))
        forged(root, commit=False)
    assert git(root, "status", "--porcelain", "--", "pipelines") == ""
    assert refusal(root) == "it is not committed" and forbidden(root)


def test_the_promoter_stays_the_author_when_the_provenance_is_removed_or_exchanged(root, monkeypatch):
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Zoe")
    monkeypatch.setenv("GIT_AUTHOR_EMAIL", "zoe@acme.example")
    path = provenance(root, BOB)
    forged(root)
    assert "is the author of the version" in refusal(root)
    path.unlink()
    committed(root)
    assert "its provenance was removed" in refusal(root)
    provenance(root, CAROL, digest="b" * 64)
    committed(root)
    assert "its provenance is of another version" in refusal(root)


def test_who_commits_a_version_a_second_time_is_not_its_only_author(root, monkeypatch):
    page = root / PAGE
    page.write_text(page.read_text().replace('author: "Ada"', 'author: "Zoe"'))
    kept = (root / "pipelines/jobs/answers/2/job.yaml").read_bytes()
    (root / "pipelines/jobs/answers/2/job.yaml").unlink()
    committed(root)
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Zoe")
    monkeypatch.setenv("GIT_AUTHOR_EMAIL", "zoe@acme.example")
    saved(root, **{"pipelines/jobs/answers/2/job.yaml": kept})
    trust = Trust.load(root)
    own = entry_of(key_of(ADA, SEEDS[ADA]), roles=("promoter", "approver"))
    files.write_atomic(root / KEYS, Trust(keys={**trust.keys, own.id: own}).to_bytes())
    forged(root, key_of(ADA, SEEDS[ADA]), author="Yan")
    assert "is the author of the version" in refusal(root)


def test_a_key_of_an_approver_that_the_author_added_is_said_at_the_promotion(root, monkeypatch):
    (root / PAGE).write_text((root / PAGE).read_text().replace("production: 2", "production: 1"))
    forged(root)
    (note,) = promote(root, "job/answers@2", options()).notes
    assert "the key" in note and "of bob, who approved, was added by Ada, an author of the version" in note
    entries = [entry_of(key_of(name, seed), roles=ROLES[name]) for name, seed in SEEDS.items()]
    saved(root, "None", **{str(KEYS): "format: 1\nkeys: []\n"})
    git(root, "checkout", "--quiet", "--orphan", "other")  # the list of keys by Carol, from the beginning
    git(root, "rm", "--quiet", "--cached", str(KEYS))
    committed_without_keys(root)
    acting(monkeypatch, CAROL)
    saved(root, "Keys", **{str(KEYS): Trust(keys={item.id: item for item in entries}).to_bytes()})
    acting(monkeypatch, ADA)
    assert promote(root, "job/answers@2", options()).notes == ()


def committed_without_keys(root):
    shutil.move(root / KEYS, root.parent / "keys.yaml")
    committed(root, "Start again")


def options():
    return ReleaseOptions(clock=clock(), show=False, dry_run=True)


@pytest.mark.parametrize("way", ["no job", "another use case", "no use case"])
def test_a_job_keeps_its_phase_whatever_params_yaml_says_of_it(root, way):
    cases, _, rest = (root / "params.yaml").read_text().partition("jobs:\n")
    declared, _, identity = rest.partition("\nidentity:")
    other = cases.removeprefix("use_cases:\n").replace("answers:", "others:", 1).replace("mlvp\n", "mvp\n")
    moved = declared.replace("use_case: answers", "use_case: others")
    changed = {
        "no job": cases,
        "another use case": f"{cases}{other}jobs:\n{moved}",
        "no use case": f"use_cases:\n{other}",
    }
    saved(root, **{"params.yaml": f"{changed[way]}\nidentity:{identity}"})
    assert forbidden(root)


def test_a_label_that_is_moved_by_hand_behind_git_s_back_is_not_committed(root):
    path = root / PAGE
    git(root, "update-index", "--assume-unchanged", PAGE)
    jobs._check_committed(root, "answers")
    path.write_text(path.read_text().replace("production: 2", "production: 1"))
    assert git(root, "status", "--porcelain") == ""
    with pytest.raises(RefusedError, match="not committed"):
        jobs._check_committed(root, "answers")
    git(root, "update-index", "--no-assume-unchanged", "--skip-worktree", PAGE)
    with pytest.raises(RefusedError, match="not committed"):
        jobs._check_committed(root, "answers")


def test_the_real_second_person_still_counts(root, monkeypatch):
    acting(monkeypatch, BOB)
    approve(root)
    assert authorise_run(root, "answers", None, clock=clock()).allowed
