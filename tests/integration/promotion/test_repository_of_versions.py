from __future__ import annotations

import os
import pwd
import subprocess
import sys
import threading

import pytest
from made_repositories import NOWHERE, git, saved, small_repository, tree

from workbench.errors import ConfigError, CorruptError, NotFoundError, UnavailableError
from workbench.repository.git import Repository


@pytest.fixture
def repository(tmp_repo):
    return small_repository(tmp_repo)


def test_head_is_the_newest_commit(repository):
    assert repository.head() == git(repository.root, "rev-parse", "HEAD")


def test_a_folder_in_no_repository_and_a_repository_without_a_commit_are_told_apart(tmp_path, tmp_repo):
    outside = tmp_path / "outside"
    outside.mkdir()
    with pytest.raises(ConfigError, match="is in no git repository") as caught:
        Repository(root=outside).head()
    assert caught.value.hint.startswith("git init")
    with pytest.raises(ConfigError, match="nothing is committed yet") as caught:
        Repository(root=tmp_repo).head()
    assert "git commit" in caught.value.hint


def test_a_machine_without_git_is_told_how_to_get_it(repository, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match="no `git` on the PATH") as caught:
        repository.head()
    assert "install git" in caught.value.hint


def test_a_repository_of_another_user_is_explained(repository, monkeypatch):
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    with pytest.raises(ConfigError, match="belongs to another user") as caught:
        repository.head()
    assert caught.value.hint == f"git config --global --add safe.directory {repository.root}"


def test_a_hook_of_git_that_calls_us_does_not_lead_us_to_its_own_index(repository, tmp_path, monkeypatch):
    head = repository.head()
    for name in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE"):
        monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_LITERAL_PATHSPECS", "1")
    assert repository.head() == head
    assert repository.changed(below=["code"]) == []


def test_what_is_changed_is_listed_whatever_its_name_and_kind_of_change(repository):
    root = repository.root
    assert repository.changed() == []
    (root / "a").write_text("two")
    (root / "code" / "main").unlink()
    git(root, "mv", "code/deep/more", "code/moved ü\ttab")
    (root / "new").mkdir()
    odd = ["new/b", 'new/c " d', "new/*", "new/line\nbreak", os.fsdecode(b"new/\xff")]
    for name in odd:
        (root / name).write_text("x")
    assert repository.changed() == sorted(["a", "code/main", "code/deep/more", "code/moved ü\ttab", *odd])


def test_what_is_changed_can_be_asked_below_some_folders_and_besides_others(repository):
    root = repository.root
    for name in ("code/x", "codex", "data/raw/y", "data/z", "a*"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    assert repository.changed(below=["code", "missing"]) == ["code/x"]
    assert repository.changed(besides=["code/", "data/raw", "a*"]) == ["codex", "data/z"]
    assert repository.changed(below=["data"], besides=["data/z"]) == ["data/raw/y"]
    assert repository.changed(below=["a*"]) == ["a*"]


def test_the_users_settings_do_not_change_what_is_listed(repository):
    root = repository.root
    for setting in ("status.showUntrackedFiles=no", "status.renames=copies", "status.relativePaths=true"):
        git(root, "config", *setting.split("="))
    (root / "code" / "new").write_text("x")
    assert repository.changed() == ["code/new"]


def test_a_workbench_in_a_folder_of_a_larger_repository_sees_only_itself(tmp_repo):
    first = saved(tmp_repo, out="side", sub__a="one", sub__code__main="1")
    inner = Repository(root=tmp_repo / "sub")
    (tmp_repo / "out").write_text("changed")
    (tmp_repo / "sub" / "code" / "main").write_text("2")
    assert inner.changed() == ["code/main"]
    assert inner.read(first, "a") == b"one" and inner.read(first, "out") is None
    assert set(inner.object_ids(first, ["a", "code", "out", "."])) == {"a", "code", "."}
    assert tree(inner.export(first, tmp_repo.parent / "exported")) == {"a": b"one", "code/main": b"1"}
    second = inner.commit(["code/main"], "inside")
    assert git(tmp_repo, "show", "--format=", "--name-only", second) == "sub/code/main"
    assert inner.commit_holding(inner.object_ids(first, ["code"])) == first


def test_only_a_commit_of_heads_own_history_is_an_ancestor(repository):
    root = repository.root
    first = repository.head()
    git(root, "checkout", "--quiet", "-b", "side")
    side = saved(root, b="side")
    git(root, "checkout", "--quiet", "main")
    second = saved(root, b="main")
    found = [commit for commit in (first, side, second, NOWHERE) if repository.is_ancestor(commit)]
    assert found == [first, second]
    assert not any(repository.is_ancestor(odd) for odd in ("", "main", "--help", first[:12]))


def test_the_object_ids_of_files_and_folders_are_gits_and_the_missing_are_absent(repository):
    root, first = repository.root, repository.head()
    saved(root, a="two", **{"with  space, % and ü": "x"})
    ids = repository.object_ids(first, ["a", "code", "code/deep/more", "nowhere", "x missing"])
    present = ("a", "code", "code/deep/more")
    assert ids == {name: git(root, "rev-parse", f"{first}:{name}") for name in present}
    assert list(repository.object_ids("HEAD", ["with  space, % and ü"])) == ["with  space, % and ü"]
    assert repository.object_ids(NOWHERE, ["a"]) == repository.object_ids(first, []) == {}


def test_the_same_bytes_are_found_under_another_commit_after_a_squash(repository):
    root = repository.root
    git(root, "checkout", "--quiet", "-b", "work")
    saved(root, a="draft")
    promoted = saved(root, a="done", code__main="3")
    ids = repository.object_ids(promoted, ["a", "code"])
    git(root, "checkout", "--quiet", "main")
    saved(root, elsewhere="x")
    git(root, "merge", "--quiet", "--squash", "work")
    squashed = saved(root, "work, squashed")
    saved(root, a="later")
    git(root, "branch", "--quiet", "-D", "work")
    assert not repository.is_ancestor(promoted)
    assert repository.commit_holding(ids) == squashed


def test_the_newest_commit_that_holds_everything_is_taken(repository):
    root = repository.root
    ids = repository.object_ids("HEAD", ["a", "code"])
    newest = saved(root, b="beside")
    saved(root, a="changed")
    assert repository.commit_holding(ids) == newest
    assert repository.commit_holding({**ids, "b": NOWHERE}) is None
    assert repository.commit_holding({**ids, "absent": ids["a"]}) is None
    assert repository.commit_holding({"a": ids["code"], "code": ids["a"]}) is None
    assert repository.commit_holding({}) is None


def test_a_path_with_a_percent_sign_or_a_space_is_looked_for_as_it_is(repository):
    commit = saved(repository.root, **{"50%H n%n": "x"})
    assert repository.commit_holding(repository.object_ids(commit, ["50%H n%n"])) == commit


def test_a_path_with_a_line_break_is_refused_rather_than_misread(repository):
    for ask in (
        lambda: repository.object_ids("HEAD", ["a\nb"]),
        lambda: repository.commit_holding({"a\nb": NOWHERE}),
        lambda: repository.read("HEAD", "a\nb"),
    ):
        with pytest.raises(ConfigError, match="line break"):
            ask()


def test_a_committed_file_is_read_as_committed(repository):
    commit = saved(repository.root, binary=b"\0\r\n\xff", empty=b"")
    (repository.root / "binary").write_bytes(b"changed")
    assert repository.read(commit, "binary") == b"\0\r\n\xff"
    assert repository.read(commit, "empty") == b""
    assert [repository.read(commit, name) for name in ("code", "none", "a blob")] == [None] * 3
    assert repository.read(NOWHERE, "a") is None


def test_an_export_holds_every_file_byte_for_byte_whatever_attributes_say(repository, tmp_path):
    root = repository.root
    contents = {
        "ignored": "in the archive no more",
        "stamp": "$Format:%H$ $Id$\n",
        "dos.bat": "a\nb\n",
        "filtered": "clear\n",
        "deep__er__binary": b"\0\r\n\xff\n",
        "empty": "",
        "ü % name": "x",
    }
    attributes = "ignored export-ignore\nstamp export-subst ident\n*.bat text eol=crlf\nfiltered filter=f\n"
    git(root, "config", "filter.f.smudge", "tr a-z A-Z")
    git(root, "config", "core.autocrlf", "true")
    commit = saved(root, **{".gitattributes": attributes}, **contents)
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (root / "link").symlink_to("deep/er/binary")
    commit = saved(root)

    folder = repository.export(commit, tmp_path / "out" / "commit")
    listed = git(root, "ls-tree", "-r", "--name-only", "-z", commit).split("\0")[:-1]
    assert sorted(tree(folder)) == sorted(listed)
    assert all(tree(folder)[name] == repository.read(commit, name) for name in listed if name != "link")
    assert (folder / "link").is_symlink() and (folder / "link").read_bytes() == b"\0\r\n\xff\n"
    executable = {name for name in listed if os.access(folder / name, os.X_OK)}
    assert executable == {"run.sh"}
    assert [p.name for p in folder.parent.iterdir()] == ["commit"]


def test_an_export_that_is_there_is_not_made_again(repository, tmp_path, monkeypatch):
    folder = repository.export(repository.head(), tmp_path / "out")
    (folder / "a").write_text("mine")
    monkeypatch.setenv("PATH", "")
    assert repository.export(NOWHERE, folder) == folder
    assert (folder / "a").read_text() == "mine"


def test_exporters_at_once_all_get_the_whole_folder(repository, tmp_path):
    commit, folder = repository.head(), tmp_path / "out" / "commit"
    together, found = threading.Barrier(6), []

    def export():
        together.wait()
        found.append(tree(repository.export(commit, folder)))

    threads = [threading.Thread(target=export) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [{"a": b"one", "code/main": b"print(1)", "code/deep/more": b"2"}] * 6
    assert [p.name for p in folder.parent.iterdir()] == ["commit"]


DYING = """
import os, signal, sys
from pathlib import Path
from workbench.repository.git import Repository

def die(event, arguments):
    if event == "open" and arguments[0] == str(Path(sys.argv[3]).parent / ".exporting" / "code" / "main"):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(die)
Repository(root=Path(sys.argv[1])).export(sys.argv[2], Path(sys.argv[3]))
"""


def test_what_a_killed_exporter_leaves_is_no_export_and_the_next_one_removes_it(repository, tmp_path):
    folder = tmp_path / "out" / "commit"
    arguments = [str(repository.root), repository.head(), str(folder)]
    done = subprocess.run([sys.executable, "-c", DYING, *arguments], capture_output=True, check=False)
    assert done.returncode == -9, done.stderr
    assert [p.name for p in folder.parent.iterdir()] == [".exporting"]
    other = repository.export(repository.head(), folder.with_name("other"))
    assert len(tree(other)) == 3 and [p.name for p in folder.parent.iterdir()] == ["other"]


def test_an_export_that_fails_leaves_nothing_and_says_why(repository, tmp_path):
    folder = tmp_path / "out" / "commit"
    with pytest.raises(NotFoundError, match="does not hold that commit") as caught:
        repository.export(NOWHERE, folder)
    assert "git fetch" in caught.value.hint
    with pytest.raises(ConfigError, match="'main' is not the id of a commit"):
        repository.export("main", folder)
    lost = repository.object_ids("HEAD", ["code/main"])["code/main"]
    (repository.root / ".git" / "objects" / lost[:2] / lost[2:]).unlink()
    with pytest.raises(CorruptError, match="lost the contents of code/main"):
        repository.export(repository.head(), folder)
    assert list(folder.parent.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(UnavailableError, match="cannot write"):
        repository.export(repository.head(), tmp_path / "file" / "commit")


def test_another_repositorys_commit_is_exported_as_a_checkout_leaves_it(repository, tmp_path):
    git(repository.root, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},module")
    git(repository.root, "commit", "--quiet", "--message", "a submodule")
    folder = repository.export(repository.head(), tmp_path / "out")
    assert list((folder / "module").iterdir()) == []


def test_the_author_is_gits_or_else_the_systems(repository, monkeypatch):
    assert repository.author() == repository.signer() == "Test"
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Ada")
    assert repository.author() == repository.signer() == "Ada"
    monkeypatch.delenv("GIT_AUTHOR_NAME")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("LOGNAME", "somebody")
    assert repository.author() == pwd.getpwuid(os.getuid()).pw_name != "somebody"
    with pytest.raises(ConfigError, match="name") as caught:
        repository.signer()
    assert "git config user.name" in caught.value.hint
