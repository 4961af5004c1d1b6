"""Approving a job's version: who may, what is refused before it is written, and the command."""

# ruff: noqa: F811 - fixtures are imported

from __future__ import annotations

import json
import shutil

import pytest
from approved_versions import (  # noqa: F401 - fixtures
    ADA,
    BOB,
    CAROL,
    SEEDS,
    acting,
    approve,
    clock,
    issuer,
    made,
    root,
    trusted,
)  # fmt: skip
from click.testing import CliRunner
from made_repositories import git, tree
from signed_statements import entry_of, key_of

from workbench.attestations import folder_of
from workbench.audit import Filter, rows_of
from workbench.cli.app import cli
from workbench.errors import ConfigError, NotFoundError, PolicyError, RefusedError
from workbench.layout import AUDIT, AUDIT_KEYS
from workbench.policy.source import BUILTIN, FOLDER

REASON = "the sample's answers are right"


def refused(root, monkeypatch, error, match, reference="job/answers@2", **given):
    before = tree(root / "pipelines"), git(root, "diff", "--cached")
    with pytest.raises(error, match=match) as caught:
        approve(root, reference, **given)
    assert (tree(root / "pipelines"), git(root, "diff", "--cached")) == before and caught.value.hint
    return caught.value


@pytest.mark.parametrize("name", ["Ada", "Nobody In Particular"])
def test_the_author_may_not_approve_under_any_name(root, monkeypatch, name):
    trusted(root, entry_of(key_of(ADA, SEEDS[ADA])))
    acting(monkeypatch, ADA, name=name)
    error = refused(root, monkeypatch, RefusedError, "is the author of job/answers@2")
    assert error.exit_code == 2 and "another person" in error.hint


def test_a_person_with_the_author_s_name_in_git_may_not_approve(root, monkeypatch):
    acting(monkeypatch, BOB, name="ADA")
    refused(root, monkeypatch, RefusedError, "is the author")


def test_a_key_that_nobody_trusts_approves_nothing(root, monkeypatch):
    acting(monkeypatch, "eve@acme.example")
    refused(root, monkeypatch, RefusedError, "would not count: .*not trusted")
    monkeypatch.setenv("ID_TOKEN", issuer.token(email=CAROL))
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Carol")
    refused(root, monkeypatch, RefusedError, "not trusted")


def test_a_person_without_a_token_and_a_job_approve_nothing(root, monkeypatch):
    monkeypatch.delenv("ID_TOKEN")
    refused(root, monkeypatch, RefusedError, "demands an authenticated")
    monkeypatch.setenv("ID_TOKEN", issuer.token(email=BOB, now=clock("2020-01-01T00:00:00Z").now()))
    refused(root, monkeypatch, RefusedError, "expired")
    policy = (
        '@id("nobody") @reason("Nobody approves.") '
        'forbid (principal, action == Workbench::Action::"approve", resource);'
    )
    shutil.copytree(BUILTIN, root / FOLDER)
    (root / FOLDER / "nobody.cedar").write_text(policy)
    monkeypatch.setenv("ID_TOKEN", issuer.token(email=BOB))
    refused(root, monkeypatch, PolicyError, "Nobody approves")


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        ({"reference": "job/answers"}, ConfigError, "names no version"),
        ({"reference": "job/answers@9"}, NotFoundError, "no version 9"),
        ({"reference": "job/nothing@1"}, NotFoundError, "nothing"),
        ({"label": "prod"}, NotFoundError, "no label 'prod'"),
        ({"until": clock("2026-11-24T00:00:00Z").now().date()}, ConfigError, "2026-11-24"),
        ({"until": clock("2027-11-25T00:00:00Z").now().date()}, ConfigError, "2027-11-25"),
        ({"revoke": True}, NotFoundError, "no approval"),
    ],
)
def test_a_wrong_request_writes_nothing(root, monkeypatch, given, error, match):
    refused(root, monkeypatch, error, match, **given)


def test_a_text_without_end_writes_nothing(root):
    with pytest.raises(ConfigError, match="1,000"):
        approve(root, reason="x" * 1_001)
    assert not (root / folder_of("answers", 2)).exists()


def test_a_version_that_is_changed_or_not_committed_is_not_approved(root, monkeypatch):
    task = root / "pipelines/jobs/answers/2/task.ipynb"
    task.write_text("{ }")
    refused(root, monkeypatch, ConfigError, "was changed")
    task.write_text("{}")
    git(root, "rm", "--quiet", "--cached", "pipelines/jobs/answers/2/task.ipynb")
    refused(root, monkeypatch, RefusedError, "not committed")


def test_an_approval_that_adds_nothing_is_refused(root, monkeypatch):
    approve(root)
    refused(root, monkeypatch, ConfigError, "has approved job/answers@2")


def test_an_approval_commits_its_statement_alone_and_the_audit_log_has_it(root):
    (root / "params.yaml").write_text((root / "params.yaml").read_text() + "\n# mine\n")
    done = approve(root, reason=REASON)
    assert git(root, "show", "--format=", "--name-only", done.committed).split() == [*done.paths]
    assert git(root, "status", "--porcelain") == "M params.yaml"
    rows = [row for row in rows_of(root / AUDIT, Filter(), root / AUDIT_KEYS) if "resource" in row]
    assert [(row["activity"], row["status"]) for row in rows] == [
        ("approve", "Begun"),
        ("approve", "Success"),
    ]
    assert rows[-1]["facts"]["nonces"] == [done.approvals[0].nonce] and rows[-1]["decision"]["allowed"]
    assert REASON in str(done) and "approved by bob" in str(done)


def test_the_same_command_completes_an_approval_that_was_interrupted_before_its_commit(root):
    folder = root / folder_of("answers", 2)
    approve(root, reason=REASON, commit=False)
    git(root, "reset", "--quiet")
    first = approve(root, reason=REASON)
    assert len(list(folder.iterdir())) == 1 and git(root, "status", "--porcelain") == ""
    approve(root, revoke=True, commit=False)
    git(root, "reset", "--quiet")
    done = approve(root, revoke=True)
    assert done.approvals == first.approvals and git(root, "status", "--porcelain") == ""
    assert len(list(folder.iterdir())) == 2
    with pytest.raises(NotFoundError, match="no approval"):
        approve(root, revoke=True)


# -- the command


def typed(root, monkeypatch, *words):
    monkeypatch.chdir(root)
    return CliRunner().invoke(cli, ["approve", *words])


def test_the_command_approves_and_revokes_a_version_and_a_model_has_no_revocation(root, monkeypatch):
    done = typed(root, monkeypatch, "job/answers@2", "--reason", REASON, "--commit", "--json")
    assert done.exit_code == 0 and json.loads(done.stdout)["approvals"][0]["label"] == "production"
    done = typed(root, monkeypatch, "job/answers@2", "--revoke")
    assert "no longer approved by bob" in done.stdout and "git commit" in done.stdout
    for words in (["--revoke"], ["--to", "production"]):
        done = typed(root, monkeypatch, "model/tiny", *words)
        assert isinstance(done.exception, ConfigError) and words[0] in str(done.exception)
