"""docs/approvals.md, followed to the letter: its commands run, and its tables say what the code does."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess

import pytest
from approved_versions import ADA, BOB, SEEDS, acting, clock, committed, mlvp_repository, trusted
from click.testing import CliRunner
from documented_pages import blocks_of, page_of
from made_jobs import judged_repository
from signed_statements import entry_of, key_of

from workbench import registry
from workbench.cli.app import cli
from workbench.context import SystemClock
from workbench.errors import PolicyError
from workbench.policy.source import BUILTIN, FOLDER
from workbench.promotion import approve_job, requirements
from workbench.promotion.job_approvals import _RANKS, VersionApprovals, approvals_of
from workbench.promotion.promote import ReleaseOptions, promote
from workbench.promotion.run_rights import authorise_run

PAGE = page_of("approvals.md")


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Ada's versions, and no key that may approve."""
    monkeypatch.setattr(requirements, "not_assessed", lambda *_: [])
    acting(monkeypatch, ADA)
    root = mlvp_repository(judged_repository(tmp_path / "repo"))
    trusted(root, entry_of(key_of(ADA, SEEDS[ADA]), roles=("promoter",)))
    monkeypatch.chdir(root)
    return root


def typed(block):
    """Type each command of a block; return what the last says."""
    said = ""
    for line in block.splitlines():
        words = shlex.split(line.removeprefix("$ "))
        if words[0] == "git":
            subprocess.run(words, check=True, capture_output=True)
            continue
        done = CliRunner().invoke(cli, words[1:])
        assert not isinstance(done.exception, Exception), done.exception
        said = done.output
    return said


def test_the_page_leads_from_a_candidate_to_production_and_back(root, monkeypatch):
    trust, candidate, approval, production, revocation = blocks_of(PAGE, "console")
    acting(monkeypatch, BOB)
    typed(trust)
    acting(monkeypatch, ADA)
    assert "lacks 1 approval of bob" in typed(candidate)
    acting(monkeypatch, BOB)
    assert "approved by bob" in typed(approval)
    acting(monkeypatch, ADA)
    typed(production)
    assert registry.load(root, "job", "answers").labels["production"] == 2
    assert authorise_run(root, "answers", None).allowed
    acting(monkeypatch, BOB)
    typed(revocation)
    with pytest.raises(PolicyError, match="revoked"):
        authorise_run(root, "answers", None)


def test_the_policy_of_the_page_asks_for_two(root):
    (policy,) = blocks_of(PAGE, "cedar")
    shutil.copytree(BUILTIN, root / FOLDER)
    (root / FOLDER / "house.cedar").write_text(policy)
    committed(root)
    dry = promote(root, "job/answers@2", ReleaseOptions(dry_run=True, show=False, clock=clock()))
    ((what, _),) = dry.missing
    assert "lacks 2 approvals" in what


def test_the_tables_are_the_code_s(root):
    rows = re.findall(r"^\| `(--\w+)[^|]*\|", PAGE, re.MULTILINE)
    options = {option.opts[0] for option in cli.commands["approve"].params if option.opts[0].startswith("--")}
    assert {*rows, "--reason"} == options - {"--json"}
    assert f"{approve_job.JobApproval.MOST_DAYS} days" in PAGE
    assert ", ".join(f"`{label}`" for label in _RANKS) in PAGE
    found = approvals_of(root, "answers", 2, "production", now=SystemClock().now())
    assert found == VersionApprovals(label="production")
    assert all(f"| `{name}` |" in PAGE for name in found.circumstances())
    builtin = (BUILTIN / "workbench.cedar").read_text()
    assert all(f'@id("{name}")' in builtin for name in re.findall(r"`(\w+-\w+)` and `(\w+-\w+)`", PAGE)[0])
