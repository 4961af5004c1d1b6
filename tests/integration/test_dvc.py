"""DVC as our commands start it: unlocked after a death, ended with its caller, and never two at once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from workbench.errors import UnavailableError
from workbench.repository import dvc

ROOT = Path(__file__).parents[2]
#: Its stage starts a process in a session of its own, as a kernel is, says so, and waits.
SLOW = """
import pathlib, subprocess, sys, time
child = subprocess.Popen(["sleep", "300"], start_new_session=True)
pathlib.Path("pid").write_text(str(child.pid))
time.sleep(300)
"""
CALLER = (
    "import sys; from pathlib import Path; from workbench.repository import dvc; dvc.repro(Path(sys.argv[1]))"
)
DEAD = {"pid": 2**22 - 1, "cmd": "dvc repro"}


@pytest.fixture
def repo(tmp_path) -> Path:
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    (tmp_path / ".dvc/config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    stage(tmp_path, "echo done > out")
    return tmp_path


def stage(root: Path, command: str) -> None:
    (root / "dvc.yaml").write_text(json.dumps({"stages": {"work": {"cmd": command, "outs": ["out"]}}}))


def until(happened) -> None:
    end = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.05)


def living(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


LEFT = {
    "empty": b"",
    "torn": b'{"write": {"a/b": {"pid": 1',
    "another form": b'{"write": []}',
    "no text": b"\xff\xfe",
    "dead writer": json.dumps({"write": {"out": DEAD}, "read": {}}).encode(),
    # The number of another program.
    "reused number": json.dumps({"write": {"out": {**DEAD, "pid": os.getpid()}}}).encode(),
    "reused number, reader": json.dumps(
        {"write": {}, "read": {"out": [{**DEAD, "pid": os.getpid()}]}}
    ).encode(),
}


@pytest.mark.parametrize("left", LEFT)
def test_a_lock_file_that_a_killed_dvc_left_is_removed(repo, left):
    path = repo / ".dvc/tmp/rwlock"
    path.write_bytes(LEFT[left])
    assert dvc.repair_lock(repo) and not path.exists()


@pytest.mark.parametrize("left", ["torn", "reused number"])
def test_a_lock_file_that_a_killed_dvc_left_stops_nobody(repo, left):
    path = repo / ".dvc/tmp/rwlock"
    path.write_bytes(LEFT[left])
    (path.parent / "lock").write_text(f" {os.getpid()}\n")  # it names its last holder, and is not locked
    assert dvc.repro(repo) == (0, False)
    assert (repo / "out").read_text() == "done\n" and dvc.status(repo, "work") == {}


@pytest.fixture
def program(tmp_path_factory) -> Path:
    """The program that `make env` installs as `.venv/bin/dvc`, beside an interpreter."""
    folder = tmp_path_factory.mktemp("bin")
    shutil.copy(ROOT / "workbench/repository/dvc.sh", folder / "dvc")
    (folder / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    for path in folder.iterdir():
        path.chmod(0o755)
    return folder / "dvc"


@pytest.mark.parametrize("within", [".", "folder"])
def test_dvc_typed_directly_works_after_a_kill_that_tore_its_lock_file(repo, program, within):
    (repo / "folder").mkdir()
    (repo / ".dvc/tmp/rwlock").write_text('{"write": {"a/b": {"pid": 1')
    done = subprocess.run([program, "status"], cwd=repo / within, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "work:" in done.stdout, done.stderr


def test_dvc_typed_directly_works_in_a_commit_without_the_repair(repo, program):
    package = repo / "workbench"
    package.mkdir()
    (package / "__init__.py").write_text("")
    told = {**os.environ, "PYTHONPATH": str(repo)}
    done = subprocess.run([program, "repro"], cwd=repo, env=told, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and (repo / "out").exists(), done.stderr


def test_a_lock_file_that_is_whole_and_names_nobody_is_left_alone(repo):
    path = repo / ".dvc/tmp/rwlock"
    path.write_text('{"write": {}, "read": {}}')
    assert not dvc.repair_lock(repo) and path.exists()


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_dvc_and_its_stage_end_with_their_caller_and_the_next_one_works_at_once(repo, sign):
    (repo / "slow.py").write_text(SLOW)
    stage(repo, f"{sys.executable} slow.py")
    caller = subprocess.Popen(
        [sys.executable, "-c", CALLER, str(repo)], env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    until((repo / "pid").exists)
    until(lambda: (repo / "pid").read_text() != "")
    (first,) = dvc.running(repo)
    caller.send_signal(sign)
    assert caller.wait(20) == -sign
    stage(repo, "echo done > out")
    assert dvc.repro(repo) == (0, False)
    assert not living(first) and not living(int((repo / "pid").read_text()))
    assert (repo / "out").read_text() == "done\n"


def test_another_dvc_that_is_at_work_is_named(repo, monkeypatch):
    monkeypatch.setattr(dvc, "_WAIT_S", 0.2)
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)", "dvc"], cwd=repo)
    try:
        until(lambda: dvc.running(repo) == [other.pid])
        (repo / ".dvc/tmp/rwlock").write_text("")
        assert not dvc.repair_lock(repo), "it may be writing there"
        with pytest.raises(UnavailableError, match=f"process {other.pid}") as caught:
            dvc.repro(repo)
        assert f"kill {other.pid}" in caught.value.hint
    finally:
        other.kill()
        other.wait()
    assert dvc.running(repo) == []


def test_the_exit_code_of_a_stage_that_fails_is_dvcs(repo):
    stage(repo, "exit 7")
    code, interrupted = dvc.repro(repo, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert code != 0 and not interrupted


def test_a_status_that_fails_is_quoted(tmp_path):
    with pytest.raises(UnavailableError, match="not inside of a DVC repository") as caught:
        dvc.status(tmp_path, "work")
    assert caught.value.hint == "dvc status"
