from __future__ import annotations

import os
import subprocess
import sys

import pytest
from made_repositories import git, saved, small_repository

from workbench.errors import ConfigError, RefusedError, UnavailableError


@pytest.fixture
def repository(tmp_repo):
    return small_repository(tmp_repo)


def hook(repository, name, text):
    path = repository.root / ".git" / "hooks" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_a_commit_takes_the_named_paths_and_leaves_all_other_work_as_it_was(repository):
    root = repository.root
    before = repository.head()
    (root / "a").write_text("mine, staged")
    git(root, "add", "a")
    (root / "a").write_text("mine, staged and changed again")
    (root / "code" / "main").write_text("mine, not staged")
    (root / "code" / "deep" / "more").unlink()
    (root / ".gitignore").write_text("*.lock\n")
    (root / "jobs").mkdir()
    for name in ("jobs/new", "jobs/ignored.lock", "other"):
        (root / name).write_text("x")
    other = git(root, "diff", "--cached", "--", "a"), git(root, "diff", "--", "a", "code/main")

    commit = repository.commit(["jobs", "code/deep/more"], "# promote\n\nand why: --all")
    assert commit == repository.head() and git(root, "rev-parse", f"{commit}^") == before
    named = git(root, "show", "--format=", "--name-only", commit).split()
    assert named == ["code/deep/more", "jobs/ignored.lock", "jobs/new"]
    assert git(root, "show", "--no-patch", "--format=%B", commit) == "# promote\n\nand why: --all"
    assert other == (git(root, "diff", "--cached", "--", "a"), git(root, "diff", "--", "a", "code/main"))
    assert repository.changed() == [".gitignore", "a", "code/main", "other"]


def test_staging_stages_exactly_the_named_paths(repository):
    root = repository.root
    for name in ("a", "b", "a*"):
        (root / name).write_text("x")
    repository.stage([])
    assert git(root, "diff", "--cached", "--name-only") == ""
    repository.stage(["a*"])
    assert git(root, "diff", "--cached", "--name-only") == "a*"
    with pytest.raises(UnavailableError, match=r"`git add` failed in .*\n    fatal: .*nowhere") as caught:
        repository.stage(["nowhere"])
    assert caught.value.hint


def test_committing_what_is_committed_already_makes_no_commit(repository):
    (repository.root / "a").write_text("two")
    commit = repository.commit(["a"], "two")
    assert repository.commit(["a"], "two") == repository.commit([], "nothing") == commit


def test_a_commit_without_an_identity_says_how_to_give_one(repository, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    git(repository.root, "config", "user.useConfigOnly", "true")
    (repository.root / "a").write_text("two")
    with pytest.raises(ConfigError, match="in whose name") as caught:
        repository.commit(["a"], "two")
    assert caught.value.hint.startswith("git config user.name")


def test_a_hook_that_refuses_is_quoted_and_nothing_is_committed(repository):
    before = repository.head()
    hook(repository, "pre-commit", "seq 1 20; echo 'line 7 is too long' >&2; exit 3")
    (repository.root / "a").write_text("two")
    with pytest.raises(RefusedError, match="a hook failed:\n    17\n") as caught:
        repository.commit(["a"], "two")
    assert caught.value.message.endswith("    20\n    line 7 is too long")
    assert "fix what the hook reports" in caught.value.hint and repository.head() == before
    hook(repository, "pre-commit", "exit 1")
    with pytest.raises(RefusedError, match="and nothing else"):
        repository.commit(["a"], "two")
    hook(repository, "pre-commit", "exit 0")
    assert repository.commit(["a"], "two") != before


def test_another_git_command_at_work_is_said_and_can_be_waited_for(repository):
    lock = repository.root / ".git" / "index.lock"
    lock.touch()
    (repository.root / "a").write_text("two")
    assert repository.changed() == ["a"]
    with pytest.raises(UnavailableError, match="another git command is running") as caught:
        repository.commit(["a"], "two")
    assert caught.value.retryable and "index.lock" in caught.value.hint
    lock.unlink()
    assert repository.commit(["a"], "two") == repository.head()


def test_a_merge_under_way_is_said(repository):
    root = repository.root
    git(root, "checkout", "--quiet", "-b", "side")
    saved(root, a="side")
    git(root, "checkout", "--quiet", "main")
    saved(root, a="main")
    subprocess.run(["git", "merge", "side"], cwd=root, capture_output=True, check=False)
    (root / "b").write_text("x")
    with pytest.raises(ConfigError, match="a merge, rebase or cherry-pick is under way"):
        repository.commit(["b"], "in between")


STARTING = """
import sys
from pathlib import Path
from workbench.repository.git import Repository
Repository(root=Path(sys.argv[1])).commit(["a"], "two")
"""


def test_a_commit_outlives_us_when_our_whole_group_is_killed(repository, tmp_path):
    """Else its lock would stay, and every later git command would fail."""
    fifos = {name: tmp_path / name for name in ("begun", "go", "ended")}
    for path in fifos.values():
        os.mkfifo(path)
    hook(repository, "pre-commit", f"echo > {fifos['begun']}; cat {fifos['go']}")
    hook(repository, "post-commit", f"echo > {fifos['ended']}")
    (repository.root / "a").write_text("two")
    process = subprocess.Popen([sys.executable, "-c", STARTING, str(repository.root)], start_new_session=True)
    fifos["begun"].read_text()
    os.killpg(process.pid, 9)
    process.wait()
    fifos["go"].write_text("")
    fifos["ended"].read_text()
    assert repository.read("HEAD", "a") == b"two"


def test_a_command_that_does_not_end_is_ended_and_leaves_no_lock(repository, monkeypatch):
    monkeypatch.setattr("workbench.repository.git._HOOKS_S", 0.3)
    hook(repository, "pre-commit", "exec sleep 5")
    (repository.root / "a").write_text("two")
    with pytest.raises(UnavailableError, match=r"`git commit` did not end within 0\.3 s"):
        repository.commit(["a"], "two")
    assert not (repository.root / ".git" / "index.lock").exists()
