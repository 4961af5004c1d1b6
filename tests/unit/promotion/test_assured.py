"""A use case that demands an authenticated principal: who may promote and roll back what it names."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from issuer import AUDIENCE, ISSUER, Issuer

import workbench as wb
from workbench.cli import app
from workbench.errors import ConfigError, NotFoundError, PolicyError, RefusedError
from workbench.promotion import promote as promotion
from workbench.promotion.approve import ApprovalOptions, approve
from workbench.promotion.assured import check_authenticated
from workbench.promotion.promote import ReleaseOptions
from workbench.records.tape import Tape
from workbench.workspace.boundary import Boundary, StatePaths

ROOT = Path(__file__).resolve().parents[3]
IDENTITY = f"""
identity:
  provider: ci
  issuer: {ISSUER}
  audience: {AUDIENCE}
  keys: jwks.json
  token_env: ID_TOKEN
  require: {{repository: acme/answers}}
"""
CLAIMS = {"sub": "repo:acme/answers", "repository": "acme/answers"}
USED = ("job/answers", "prompt/answer", "memory/handbook", "model/smollm2-135m", "job/undeclared")


@pytest.fixture
def issuer():
    return Issuer()


@pytest.fixture
def root(tmp_path, issuer, monkeypatch):
    params = (ROOT / "params.yaml").read_text()
    params = params.replace("  answers:\n", "  answers:\n    assurance: authenticated\n", 1)
    (tmp_path / "params.yaml").write_text(params + IDENTITY)
    (tmp_path / "jwks.json").write_bytes(issuer.jwks())
    monkeypatch.delenv("ID_TOKEN", raising=False)
    return tmp_path


@pytest.mark.parametrize("asset", USED)
def test_what_the_use_case_names_is_moved_by_an_authenticated_principal(root, issuer, monkeypatch, asset):
    kind, _, name = asset.partition("/")
    with pytest.raises(RefusedError, match=f"may not promote {asset}") as caught:
        check_authenticated(root, kind, name, verb="promote")
    assert "use_cases.answers.assurance" in caught.value.message and "docs/identity.md" in caught.value.hint
    monkeypatch.setenv("ID_TOKEN", issuer.token(**CLAIMS | {"repository": "evil/fork"}))
    with pytest.raises(RefusedError, match="repository"):
        check_authenticated(root, kind, name, verb="promote")
    monkeypatch.setenv("ID_TOKEN", issuer.token(**CLAIMS))
    check_authenticated(root, kind, name, verb="promote")


def test_assets_of_other_use_cases_are_moved_without_a_token(root):
    for kind, name in (("job", "triage"), ("prompt", "route"), ("memory", "solved")):
        check_authenticated(root, kind, name, verb="promote")


@pytest.mark.parametrize("edit", ["torn: [", "", None])
def test_an_edit_that_is_not_committed_ends_no_demand(root, edit):
    for words in (["init", "--quiet"], ["add", "params.yaml"], ["commit", "--quiet", "-m", "all"]):
        subprocess.run(["git", *words], cwd=root, check=True)
    path = root / "params.yaml"
    text = path.read_text().replace("    assurance: authenticated\n", "")
    path.write_text(text if edit is None else edit)
    with pytest.raises(RefusedError, match="may not roll back job/answers"):
        check_authenticated(root, "job", "answers", verb="roll back")
    subprocess.run(["git", "rm", "--quiet", "--cached", "params.yaml"], cwd=root, check=True)
    subprocess.run(["git", "commit", "--quiet", "-m", "gone"], cwd=root, check=True)
    if edit is None:
        check_authenticated(root, "job", "answers", verb="roll back")
    else:
        with pytest.raises(ConfigError):
            check_authenticated(root, "job", "answers", verb="roll back")


@pytest.mark.parametrize("verb", [promotion.promote, promotion.rollback])
def test_the_commands_ask_before_anything_is_read_and_a_dry_run_and_a_candidate_are_free(root, verb):
    with pytest.raises(RefusedError, match="prompt/answer"):
        verb(root, "prompt/answer", ReleaseOptions(show=False))
    for free in (ReleaseOptions(dry_run=True, show=False), ReleaseOptions(label="candidate", show=False)):
        with pytest.raises(NotFoundError):  # the folder has no prompts
            verb(root, "prompt/answer", free)


def test_an_approver_is_whom_the_provider_names_and_authenticated(root, issuer, monkeypatch):
    shutil.copytree(ROOT / "pipelines/models", root / "pipelines/models")
    order = ApprovalOptions(role="risk officer", reason="synthetic data")
    with pytest.raises(RefusedError, match="may not approve model/smollm2-135m"):
        approve(root, "model/smollm2-135m", order)
    monkeypatch.setenv("ID_TOKEN", issuer.token(**CLAIMS))
    with pytest.raises(
        PolicyError, match=r"ci:repo:acme/answers .* may not approve"
    ):  # a job releases nothing
        approve(root, "model/smollm2-135m", order)


def test_the_workspace_s_verb_asks_too(root, issuer):

    through = Boundary(ROOT, mode="replay", tape=Tape(root / "t"), places=StatePaths(home=root))
    ws = wb.connect("answers", root=root, token=issuer.token(**CLAIMS), through=through)
    with pytest.raises(RefusedError, match="prompt/answer"):
        ws.promote("prompt/answer")


def test_a_job_runs_for_an_authenticated_principal_alone(root, monkeypatch, capsys):
    monkeypatch.chdir(root)
    monkeypatch.setattr(sys, "argv", ["workbench", "jobs", "run", "answers@1"])
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert ended.value.code == 3 and "may not run job/answers" in capsys.readouterr().err
