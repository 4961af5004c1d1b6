"""The file of verdicts: appended only, read strictly, safe between processes, and remembered by git."""

import dataclasses
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from workbench import files
from workbench.errors import ConfigError, UnavailableError
from workbench.experiments.gate_spec import GateSpec
from workbench.experiments.loosening import Verdicted, loosened
from workbench.layout import verdicts_of
from workbench.promotion import verdicts
from workbench.repository.git import Repository

ROOT = Path(__file__).resolve().parents[3]
FILE = verdicts_of("answers")


def a_verdict(bound=0.9, verdict="fail", **fields):
    plain = {"task": "t1", "settings": "s1", "dataset": "d1", "n": 30, "scorers": {"accuracy": "c"}}
    plain["phase"] = "mvp"
    gate = GateSpec.parse({"accuracy": {"min": bound}, "confidence": 0.9}, where="x")
    return Verdicted(**{**plain, **fields}, gate=gate, verdict=verdict)


FAILED, PASSED = a_verdict(), a_verdict(0.3, "pass")


def note(root, *found):
    return [verdicts.note(root, "answers", verdict) for verdict in found]


def git(root, *arguments, fine=(0,)):
    done = subprocess.run(["git", "-C", root, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode in fine, done.stderr
    return done.stdout


def commit(root, message="More"):
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--allow-empty", "--message", message)


def write(root, *lines):
    (root / FILE).write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture
def repo(tmp_repo):
    """A repository with the product's attributes of files, and a first commit."""
    (tmp_repo / ".gitattributes").write_text((ROOT / ".gitattributes").read_text())
    (tmp_repo / "params.yaml").write_text("use_cases: {}\n")
    commit(tmp_repo, "Start")
    return tmp_repo


# -- append and read


def test_a_verdict_is_one_canonical_line_and_the_same_verdict_writes_nothing(tmp_path):
    assert verdicts.read(tmp_path, "answers") == ()
    assert note(tmp_path, FAILED) == [None]
    data = (tmp_path / FILE).read_bytes()
    assert data == files.canonical({**files.parse_json(FAILED.line(), where="x")}) + b"\n"
    before = (tmp_path / FILE).stat()
    note(tmp_path, FAILED)
    after = (tmp_path / FILE).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    note(tmp_path, PASSED, FAILED)
    assert verdicts.read(tmp_path, "answers") == (FAILED, PASSED)


def test_the_same_verdicts_give_the_same_bytes_and_another_use_case_another_file(tmp_path):
    for name in ("one", "two"):
        note(tmp_path / name, FAILED, PASSED)
    assert (tmp_path / "one" / FILE).read_bytes() == (tmp_path / "two" / FILE).read_bytes()
    verdicts.note(tmp_path / "one", "other", FAILED)
    assert verdicts.read(tmp_path / "one", "other") == (FAILED,)


def test_a_bound_lowered_after_a_fail_is_said_the_first_time_and_every_later_time(tmp_path):
    first, lowered, again = note(tmp_path, FAILED, PASSED, PASSED)
    assert first is None
    assert lowered is not None
    assert lowered.same_task
    assert again == lowered


@pytest.mark.parametrize("change", [{"task": "t2"}, {"settings": "s2"}, {"scorers": {"accuracy": "p"}}])
def test_what_else_was_judged_is_another_line(tmp_path, change):
    note(tmp_path, FAILED, dataclasses.replace(FAILED, **change))
    assert len(verdicts.read(tmp_path, "answers")) == 2


def test_a_missing_end_of_the_last_line_loses_no_verdict(tmp_path):
    note(tmp_path, FAILED)
    (tmp_path / FILE).write_text(FAILED.line())
    note(tmp_path, PASSED)
    assert verdicts.read(tmp_path, "answers") == (FAILED, PASSED)


def test_a_verdict_that_could_not_be_read_again_is_not_written(tmp_path):
    with pytest.raises(ConfigError, match="the new verdict: phase must be text"):
        note(tmp_path, dataclasses.replace(FAILED, phase=""))
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"", "not JSON"),
        (b'{"task": "t1"', "not JSON"),
        (FAILED.line()[:-20].encode(), "not JSON"),
        (FAILED.line().replace('"fail"', '"passed"').encode(), "verdict must be"),
        (FAILED.line().replace('"min":0.9', '"min":1e999').encode(), "not a finite number"),
        (FAILED.line().replace('"t1"', '"\xff"').encode("latin-1"), "not UTF-8"),
        (b"\x00" * 40, "not JSON"),
        (b'{"verdict": "pass"}', "missing key 'task'"),
        (FAILED.line().encode() + FAILED.line().encode(), "not JSON"),
    ],
)
def test_a_damaged_line_is_one_error_with_its_place_and_nothing_is_changed(tmp_path, line, said):
    note(tmp_path, PASSED)
    data = PASSED.line().encode() + b"\n" + line + b"\n" + PASSED.line().encode() + b"\n"
    (tmp_path / FILE).write_bytes(data)
    for use in (lambda: verdicts.read(tmp_path, "answers"), lambda: note(tmp_path, FAILED)):
        with pytest.raises(ConfigError, match=rf"answers\.jsonl:2: .*{said}") as caught:
            use()
        assert caught.value.hint == f"git checkout -- {tmp_path / FILE}"
    assert (tmp_path / FILE).read_bytes() == data


def test_a_conflict_marker_names_the_way_to_keep_both_sides(tmp_path):
    note(tmp_path, FAILED)
    write(tmp_path, "<<<<<<< HEAD", FAILED.line(), "=======", PASSED.line(), ">>>>>>> other")
    with pytest.raises(ConfigError, match=r":1: a conflict marker") as caught:
        note(tmp_path, PASSED)
    assert "keep every verdict" in caught.value.hint


def test_a_file_of_another_kind_or_size_is_one_error(tmp_path, monkeypatch):
    note(tmp_path, FAILED)
    monkeypatch.setattr(verdicts, "_MOST_BYTES", 100)
    with pytest.raises(ConfigError, match="larger than 100 bytes"):
        verdicts.read(tmp_path, "answers")
    monkeypatch.undo()
    (tmp_path / FILE).unlink()
    (tmp_path / FILE).mkdir()
    with pytest.raises(ConfigError, match="Is a directory"):
        verdicts.read(tmp_path, "answers")
    (tmp_path / FILE).rmdir()
    os.mkfifo(tmp_path / FILE)
    with pytest.raises(ConfigError, match="not a regular file"):
        note(tmp_path, FAILED)
    (tmp_path / FILE).unlink()
    (tmp_path / FILE.parent).rmdir()
    (tmp_path / FILE.parent).write_text("a file")
    with pytest.raises(UnavailableError, match="cannot write"):
        note(tmp_path, FAILED)


# -- processes


def _note_many(root, tasks, start):
    start.wait(20)
    for task in tasks:
        verdicts.note(root, "answers", a_verdict(task=task))


def test_processes_that_append_at_once_lose_no_line_and_write_none_twice(tmp_path):
    context = multiprocessing.get_context("fork")
    start = context.Event()
    shares = [[f"{name}{n}" for n in range(15)] + [f"shared{n}" for n in range(15)] for name in "abc"]
    writers = [context.Process(target=_note_many, args=(tmp_path, share, start)) for share in shares]
    for writer in writers:
        writer.start()
    start.set()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    written = [verdict.task for verdict in verdicts.read(tmp_path, "answers")]
    assert sorted(written) == sorted({task for share in shares for task in share})
    for share in shares:
        own = [task for task in written if task in share[:15]]
        assert own == share[:15]


ENDLESS = """\
import sys, dataclasses, itertools
from pathlib import Path
from workbench.experiments.loosening import Verdicted
from workbench.promotion import verdicts
from workbench.repository.git import Repository
root, line = Path(sys.argv[1]), sys.argv[2]
verdict = Verdicted.parse(line, where="x")
for n in itertools.count():
    verdicts.note(root, "answers", dataclasses.replace(verdict, task=f"{sys.argv[3]}-{n}"))
    print(n, flush=True)
"""


def test_a_writer_that_is_killed_leaves_every_acknowledged_line_and_no_part_of_one(tmp_path):
    acknowledged = set()
    for attempt in range(4):
        program = [sys.executable, "-c", ENDLESS, tmp_path, FAILED.line(), str(attempt)]
        with subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            process.stdout.readline()
            time.sleep(0.03 * attempt)
            process.send_signal(signal.SIGKILL)
            acknowledged |= {f"{attempt}-0", *(f"{attempt}-{n.strip()}" for n in process.stdout)}
    assert note(tmp_path, a_verdict(task="last")) == [None]
    written = [verdict.task for verdict in verdicts.read(tmp_path, "answers")]
    assert acknowledged <= set(written)
    assert len(written) == len(set(written))
    assert [path.name for path in (tmp_path / FILE.parent).iterdir()] == [FILE.name]


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    note(tmp_path, FAILED)
    data = (tmp_path / FILE).read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UnavailableError, match="No space left"):
        note(tmp_path, PASSED)
    monkeypatch.undo()
    assert (tmp_path / FILE).read_bytes() == data


# -- git


def test_without_commits_of_the_file_nothing_is_removed(repo, tmp_path):
    assert verdicts.removed(repo, "answers") == []
    note(repo, FAILED)
    assert verdicts.removed(repo, "answers") == []
    assert verdicts.recorded(repo, "answers") == (FAILED,)
    empty = tmp_path / "empty"
    git(tmp_path, "init", "--quiet", empty)
    assert verdicts.removed(empty, "answers") == []


def test_a_folder_in_no_repository_is_a_clear_error(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(ConfigError, match="git repository"):
        verdicts.removed(tmp_path, "answers")


def test_judging_the_same_in_a_clone_leaves_it_clean(repo, tmp_path):
    note(repo, FAILED, PASSED)
    commit(repo)
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", repo, clone)
    note(clone, PASSED, FAILED)
    assert git(clone, "status", "--porcelain") == ""


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.unlink(),
        lambda path: path.write_text(""),
        lambda path: path.write_text(PASSED.line() + "\n"),
        lambda path: path.write_text(path.read_text().replace('"fail"', '"pass"')),
        lambda path: path.write_text(path.read_text().replace('"d1"', '"d2"', 1)),
    ],
    ids=["deleted", "emptied", "a line removed", "a verdict edited", "cases edited"],
)
@pytest.mark.parametrize("committed", [True, False])
def test_a_line_that_was_committed_and_is_gone_or_edited_blocks(repo, change, committed):
    note(repo, FAILED)
    commit(repo)
    note(repo, PASSED)
    change(repo / FILE)
    if committed:
        commit(repo)
    assert FAILED.line() in verdicts.removed(repo, "answers")
    assert loosened(PASSED, verdicts.recorded(repo, "answers")).same_task
    found = verdicts.blockers(repo, "answers", None, "a reason", job="answers")
    assert [blocker.exit_code for blocker in found] == [2]
    assert "lacks" in found[0].what
    assert f"git log -p -- {FILE}" in found[0].fix


def test_a_line_that_is_appended_again_blocks_no_longer(repo):
    note(repo, FAILED)
    commit(repo)
    write(repo)
    commit(repo)
    note(repo, PASSED)
    commit(repo)
    note(repo, FAILED)
    assert verdicts.removed(repo, "answers") == []


@pytest.mark.parametrize("order", [[PASSED, FAILED], [PASSED, FAILED, PASSED]])
def test_lines_that_were_moved_excuse_nothing(repo, order):
    """The order of the history counts: removing a fail, judging anew and putting it back gains nothing."""
    note(repo, FAILED)
    commit(repo)
    write(repo, PASSED.line())
    commit(repo)
    write(repo, *(verdict.line() for verdict in order))
    for _ in range(2):
        assert verdicts.removed(repo, "answers") == []
        assert loosened(PASSED, verdicts.recorded(repo, "answers")).same_task
        commit(repo)


def test_a_line_reformatted_or_with_other_line_ends_is_the_same_verdict(repo):
    note(repo, FAILED, PASSED)
    commit(repo)
    path = repo / FILE
    path.write_bytes(path.read_bytes().replace(b",", b", ").replace(b"\n", b"\r\n"))
    assert verdicts.removed(repo, "answers") == []
    note(repo, FAILED, PASSED)
    assert verdicts.read(repo, "answers") == (FAILED, PASSED)


@pytest.mark.parametrize("known", [True, False], ids=["file known before", "file new on both sides"])
def test_a_merge_keeps_the_lines_of_both_sides(repo, known):
    if known:
        note(repo, a_verdict(task="t0"))
        commit(repo)
    git(repo, "checkout", "--quiet", "-b", "side")
    note(repo, FAILED)
    commit(repo)
    git(repo, "checkout", "--quiet", "main")
    note(repo, a_verdict(task="t2"), PASSED)
    commit(repo)
    git(repo, "merge", "--quiet", "--no-edit", "side")
    tasks = {verdict.task for verdict in verdicts.read(repo, "answers")}
    assert tasks == {"t1", "t2"} | ({"t0"} if known else set())
    assert FAILED in verdicts.read(repo, "answers")
    assert verdicts.removed(repo, "answers") == []
    own = [v for v in verdicts.read(repo, "answers") if v in (a_verdict(task="t2"), PASSED)]
    assert own == [a_verdict(task="t2"), PASSED]


def test_a_merge_that_drops_a_side_is_seen(repo):
    git(repo, "checkout", "--quiet", "-b", "side")
    note(repo, FAILED)
    commit(repo)
    git(repo, "checkout", "--quiet", "main")
    note(repo, PASSED)
    commit(repo)
    git(repo, "merge", "--quiet", "--no-edit", "--strategy", "ours", "side")
    assert verdicts.read(repo, "answers") == (PASSED,)
    assert verdicts.removed(repo, "answers") == [FAILED.line()]


def test_a_line_that_only_a_merge_commit_added_is_remembered(repo):
    git(repo, "checkout", "--quiet", "-b", "side")
    note(repo, a_verdict(task="side"))
    commit(repo)
    git(repo, "checkout", "--quiet", "main")
    note(repo, a_verdict(task="main"))
    commit(repo)
    git(repo, "merge", "--quiet", "--no-commit", "side")
    note(repo, FAILED)
    commit(repo)
    added = sorted(verdict.task for verdict in verdicts.recorded(repo, "answers"))
    assert added == ["main", "side", "t1"]
    both = [line for line in (repo / FILE).read_text().splitlines() if line != FAILED.line()]
    write(repo, *both)
    commit(repo)
    assert len(both) == 2
    assert verdicts.removed(repo, "answers") == [FAILED.line()]


def test_a_conflict_that_was_committed_once_is_no_verdict(repo):
    note(repo, FAILED)
    write(repo, "<<<<<<< HEAD", FAILED.line(), "=======", PASSED.line(), ">>>>>>> other")
    commit(repo)
    write(repo, FAILED.line(), PASSED.line())
    commit(repo)
    assert verdicts.removed(repo, "answers") == []
    assert verdicts.recorded(repo, "answers") == (FAILED, PASSED)


def test_every_added_line_is_returned_once_for_each_commit_that_added_it(repo):
    for text in ("a\nb\n", "b\n+c\n", "a\nb\n+c\n++ d\n"):
        (repo / "log.jsonl").write_text(text)
        commit(repo)
    lines = Repository(root=repo).lines_added("log.jsonl")
    assert lines == [b"a", b"b", b"+c", b"a", b"++ d"]
    assert Repository(root=repo).lines_added("other.jsonl") == []


@pytest.mark.parametrize("attributes", ["binary -diff", "diff=driver"])
def test_the_settings_of_a_user_hide_no_line(repo, monkeypatch, attributes):
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", "true")
    note(repo, FAILED)
    commit(repo)
    (repo / FILE).unlink()
    (repo / ".gitattributes").write_text(f"*.jsonl {attributes}\n")
    commit(repo)
    settings = {"color.ui": "always", "diff.external": "true", "diff.noprefix": "true", "diff.context": "9"}
    settings |= {"diff.driver.command": "true", "diff.driver.textconv": "true", "diff.renames": "copies"}
    for name, value in settings.items():
        git(repo, "config", name, value)
    assert verdicts.removed(repo, "answers") == [FAILED.line()]


def test_a_workspace_below_the_repository_has_its_own_file(tmp_repo):
    root = tmp_repo / "team [a] *"
    note(root, FAILED)
    note(tmp_repo, PASSED)
    commit(tmp_repo)
    (root / FILE).unlink()
    assert verdicts.removed(root, "answers") == [FAILED.line()]
    assert verdicts.removed(tmp_repo, "answers") == []


# -- blockers


def test_a_loosened_text_blocks_until_a_reason_is_given(repo):
    note(repo, FAILED)
    (found,) = note(repo, PASSED)
    for reason in (None, "", "  \n"):
        (blocker,) = verdicts.blockers(repo, "answers", found, reason, job="daily")
        assert blocker.what == found.text
        assert blocker.exit_code == 1
        assert "add rows to the dataset" in blocker.fix
        assert "workbench promote job/daily --to production --reason" in blocker.fix
    assert verdicts.blockers(repo, "answers", found, "the old bound was a typing error", job="daily") == []


def test_a_note_on_another_task_blocks_nothing(repo):
    note(repo, dataclasses.replace(FAILED, task="t2"))
    (found,) = note(repo, PASSED)
    assert not found.same_task
    assert verdicts.blockers(repo, "answers", found, None, job="daily") == []
    assert verdicts.blockers(repo, "answers", None, None, job="daily") == []


def test_a_line_that_was_never_committed_can_be_dropped_unseen(repo):
    """As docs/threats.md says: no file remembers it."""
    note(repo, FAILED)
    (repo / FILE).unlink()
    note(repo, PASSED)
    found = loosened(PASSED, verdicts.recorded(repo, "answers"))
    assert found is None and verdicts.blockers(repo, "answers", found, None, job="answers") == []
