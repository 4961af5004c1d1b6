from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from workbench import files, locking
from workbench.errors import RefusedError, UnavailableError
from workbench.repository import environments

LOCK = b"taxi==1.0 --hash=sha256:00\n"
QUIET = [].append


@pytest.fixture
def uv(tmp_path, monkeypatch):
    """A uv that does what the given shell script says, after noting that it was called."""
    path, calls = tmp_path / "bin" / "uv", tmp_path / "calls"
    path.parent.mkdir()

    def does(script):
        path.unlink(missing_ok=True)  # a shell may still be reading it
        path.write_text(f'#!/bin/sh\ncat > {tmp_path}/lock\necho "$@" >> {calls}\n{script}\n')
        path.chmod(0o755)
        monkeypatch.setattr(environments, "_uv", lambda: str(path))
        return lambda: calls.read_text().splitlines() if calls.exists() else []

    return does


def test_a_lock_is_named_by_its_exact_bytes():
    assert environments.digest(LOCK) == hashlib.sha256(LOCK).hexdigest()[:16]
    assert environments.digest(LOCK) != environments.digest(LOCK.replace(b"\n", b"\r\n"))


def test_our_own_interpreter_is_used_when_it_holds_exactly_this_lock(tmp_path, monkeypatch, uv):
    calls = uv("exit 9")
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    (tmp_path / "installed.lock").write_bytes(LOCK)
    assert environments.python_of(tmp_path, LOCK, install_hint="-") == Path(sys.executable)
    assert environments.install(tmp_path, LOCK, say=QUIET) == Path(sys.executable)
    with pytest.raises(UnavailableError):
        environments.python_of(tmp_path, LOCK + b"\n", install_hint="-")
    assert not calls()


def test_an_environment_that_is_missing_says_what_to_type_and_that_waiting_does_not_help(tmp_path):
    with pytest.raises(UnavailableError, match=environments.digest(LOCK)) as caught:
        environments.python_of(tmp_path, LOCK, install_hint="workbench jobs install answers")
    assert caught.value.hint == "workbench jobs install answers" and not caught.value.retryable


def test_an_environment_is_built_once_from_the_locks_own_bytes_and_then_found(tmp_path, uv):
    calls, said = uv("exit 0"), []
    python = environments.install(tmp_path, LOCK, say=said.append)
    folder = tmp_path / ".workbench" / "cache" / "env" / environments.digest(LOCK)
    assert python == folder / "bin" / "python"
    done = subprocess.run(
        [python, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(folder)
    (call,) = calls()
    assert "--no-deps --require-hashes" in call and call.endswith(f"--python {python} -r -")
    assert (tmp_path / "lock").read_bytes() == LOCK == (folder / "installed.lock").read_bytes()
    assert len(said) == 2 and environments.digest(LOCK) in said[0]
    assert re.search(r"installed: \d+ MB .*workbench jobs prune", said[1])
    assert environments.install(tmp_path, LOCK, say=said.append) == python
    assert environments.python_of(tmp_path, LOCK, install_hint="-") == python
    assert len(calls()) == 1 and len(said) == 2


def test_the_path_of_an_environment_does_not_depend_on_where_we_stand(tmp_path, uv, monkeypatch):
    uv("exit 0")
    monkeypatch.chdir(tmp_path)
    python = environments.install(Path(), LOCK, say=QUIET)
    monkeypatch.chdir("/")
    assert python.is_relative_to(tmp_path) and python.is_file()


@pytest.mark.parametrize("broken", ["stamp gone", "stamp of another lock", "interpreter gone"])
def test_an_environment_that_is_not_whole_is_built_anew(tmp_path, uv, broken):
    calls = uv("exit 0")
    python = environments.install(tmp_path, LOCK, say=QUIET)
    stamp = python.parents[1] / "installed.lock"
    left = python.parents[1] / "left.over"
    left.write_text("half an installation")
    if broken == "interpreter gone":
        python.unlink()
        python.symlink_to(tmp_path / "python2")
    elif broken == "stamp gone":
        stamp.unlink()
    else:
        stamp.write_bytes(b"other")
    with pytest.raises(UnavailableError):
        environments.python_of(tmp_path, LOCK, install_hint="-")
    assert environments.install(tmp_path, LOCK, say=QUIET) == python
    assert len(calls()) == 2 and not left.exists()


def test_what_the_caller_has_set_leads_nowhere_else_but_a_registry_can_be_named(tmp_path, uv, monkeypatch):
    away = ["VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONHOME", "PYTHONPATH", "UV_PYTHON", "UV_SYSTEM_PYTHON"]
    away += ["UV_PROJECT_ENVIRONMENT", "UV_TARGET", "UV_CONSTRAINT", "UV_NO_VERIFY_HASHES", "UV_CONFIG_FILE"]
    kept = {"UV_DEFAULT_INDEX", "UV_INDEX_OURS_PASSWORD", "UV_CACHE_DIR", "UV_OFFLINE", "HTTPS_PROXY"}
    for name in (*away, *kept):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS", "automatic")
    uv(f"env > {tmp_path}/env; pwd > {tmp_path}/folder")
    environments.install(tmp_path, LOCK, say=QUIET)
    seen = dict(line.partition("=")[::2] for line in (tmp_path / "env").read_text().splitlines())
    assert not seen.keys() & set(away)
    assert kept <= seen.keys() and seen["UV_PYTHON_DOWNLOADS"] == "never"
    assert (tmp_path / "folder").read_text().strip() == str(tmp_path / ".workbench" / "cache" / "env")


@pytest.mark.parametrize(
    ("said", "kind", "hint"),
    [
        ("error: Request failed after 3 retries\n  cause: dns error", UnavailableError, "network once"),
        ("error: Failed to download\n  cause: Hash mismatch for `taxi`", RefusedError, "another file"),
        ("error: cannot copy\n  cause: No space left on device (os error 28)", UnavailableError, "free some"),
    ],
)
def test_an_installation_that_fails_says_why_and_leaves_no_stamp(tmp_path, uv, said, kind, hint):
    uv(f"echo 'warning: slow disk' >&2; echo '{said}' >&2; exit 2")
    with pytest.raises(kind, match="the environment was not installed: error: ") as caught:
        environments.install(tmp_path, LOCK, say=QUIET)
    assert hint in caught.value.hint
    assert said.splitlines()[1].strip() in caught.value.message and "slow disk" not in caught.value.message
    with pytest.raises(UnavailableError):
        environments.python_of(tmp_path, LOCK, install_hint="-")
    uv("exit 0")
    assert environments.install(tmp_path, LOCK, say=QUIET).is_file()


def test_an_installation_that_never_ends_is_given_up(tmp_path, uv, monkeypatch):
    monkeypatch.setattr(environments, "_BUILD_S", 0.01)
    uv("exit 0")
    with pytest.raises(UnavailableError, match=r"longer than 0\.01 s"):
        environments.install(tmp_path, LOCK, say=QUIET)


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / ".workbench").write_text("a file where a folder should be")
    with pytest.raises(UnavailableError, match="cannot write") as caught:
        environments.install(tmp_path, LOCK, say=QUIET)
    assert caught.value.hint


def test_our_own_uv_is_used_then_the_machines_and_without_any_we_say_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "own" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "machine"))
    with pytest.raises(UnavailableError, match="no `uv`") as caught:
        environments._uv()
    assert "make env" in caught.value.hint
    for place in ("machine", "own"):
        path = tmp_path / place / "uv"
        path.parent.mkdir()
        path.touch(0o755)
        assert environments._uv() == str(path)


def held_up(tmp_path):
    """Shell lines that say that the installer has begun and wait until it may go on; and the two pipes."""
    begun, on = tmp_path / "begun", tmp_path / "on"
    os.mkfifo(begun)
    os.mkfifo(on)
    return f"echo > {begun}; cat {on}", begun, on


class Second(threading.Thread):
    """Another builder of the same environment; `waiting` is set once it says that it waits."""

    def __init__(self, root):
        super().__init__(daemon=True)
        self.root, self.waiting, self.said, self.python = root, threading.Event(), [], None

    def run(self):
        self.python = environments.install(self.root, LOCK, say=self.heard)

    def heard(self, line):
        self.said.append(line)
        if "another process" in line:
            self.waiting.set()


def test_of_two_builders_at_once_one_builds_and_the_other_says_that_it_waits(tmp_path, uv):
    script, begun, on = held_up(tmp_path)
    calls = uv(script)
    first, second = Second(tmp_path), Second(tmp_path)
    first.start()
    begun.read_text()
    second.start()
    assert second.waiting.wait(30)
    on.write_text("")
    first.join()
    second.join()
    assert first.python == second.python and first.python.is_file()
    assert len(calls()) == 1 and len(first.said) == 2 and len(second.said) == 1


BUILDING = """
import sys
from pathlib import Path
from workbench.repository import environments

environments._uv = lambda: sys.argv[2]
environments.install(Path(sys.argv[1]), sys.stdin.buffer.read(), say=print)
"""


def test_after_a_kill_the_next_builder_waits_for_the_installer_left_behind_and_builds_anew(tmp_path, uv):
    script, begun, on = held_up(tmp_path)
    calls = uv(script)
    builder = subprocess.Popen(
        [sys.executable, "-c", BUILDING, str(tmp_path), str(tmp_path / "bin" / "uv")],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    builder.stdin.write(LOCK)
    builder.stdin.close()
    begun.read_text()
    builder.kill()
    builder.wait()
    with pytest.raises(UnavailableError):
        environments.python_of(tmp_path, LOCK, install_hint="-")
    uv("exit 0")
    second = Second(tmp_path)
    second.start()
    assert second.waiting.wait(30)
    assert len(calls()) == 1
    on.write_text("")
    second.join()
    assert second.python.is_file() and len(calls()) == 2


def installed(root, lock, size=0):
    folder = root / ".workbench/cache/env" / environments.digest(lock)
    files.write_atomic(folder / "bin/python", b"")
    files.write_atomic(folder / "lib", b"x" * size)
    files.write_atomic(folder / environments.STAMP, lock)
    return folder


def test_environments_of_no_needed_lock_are_removed_and_their_size_is_said(tmp_path):
    kept, old = installed(tmp_path, b"kept"), installed(tmp_path, b"old", size=2_000_000)
    needed = [files.digest(b"kept")]
    (found,) = environments.unused(tmp_path, needed)
    assert found.folder == old and 2_000_000 <= found.size < 2_100_000
    assert environments.remove(found) and not old.exists()
    assert environments.unused(tmp_path, needed) == [] and environments.is_installed(tmp_path, needed[0])
    assert (kept / "bin/python").exists() and not environments.is_installed(tmp_path, files.digest(b"old"))


def test_an_environment_in_which_a_process_runs_or_that_is_being_built_is_not_removed(tmp_path):
    folder = installed(tmp_path, b"old")
    python = folder / "bin/python"
    python.unlink()
    python.symlink_to(sys.executable)
    running = subprocess.Popen([python, "-c", "import time; print(flush=True); time.sleep(300)"], stdout=-1)
    try:
        running.stdout.readline()
        assert environments.unused(tmp_path, []) == []
    finally:
        running.kill()
        running.communicate()
    (found,) = environments.unused(tmp_path, [])
    with locking.locked(folder.with_suffix(".building")):
        assert not environments.remove(found) and (folder / environments.STAMP).exists()


def test_an_environment_that_cannot_be_removed_whole_counts_as_missing(tmp_path, monkeypatch):
    folder = installed(tmp_path, b"old")
    (found,) = environments.unused(tmp_path, [])

    def fails(path):
        raise PermissionError(1, "not permitted")

    monkeypatch.setattr(environments.shutil, "rmtree", fails)
    with pytest.raises(UnavailableError, match="not permitted"):
        environments.remove(found)
    assert folder.exists() and not environments.is_installed(tmp_path, files.digest(b"old"))
