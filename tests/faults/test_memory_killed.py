"""`workbench memory`, killed in the middle of its work, and run by two at once."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import time

import pytest
from clones import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.faults]


@pytest.fixture
def make_copy(tmp_path):
    """Repositories with the handbook and a memory of their own."""

    def make(name):
        folder = tmp_path / name
        for part in ("data", "pipelines"):
            shutil.copytree(ROOT / part, folder / part)
        shutil.copy(ROOT / "params.yaml", folder)
        return folder

    return make


def start(folder, *words):
    command = [sys.executable, "-m", "workbench.cli", "memory", *words]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def run(folder, *words):
    return json.loads(finish(start(folder, *words, "--json")))


def killed(folder, after, *words):
    """Start a command and kill it `after` seconds from when the memory's file is there."""
    process = start(folder, *words)
    until = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < until:
        if (folder / ".workbench/state/memories/handbook/2.sqlite").exists():
            time.sleep(after)
            break
        time.sleep(0.005)
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    process.communicate(timeout=60)


def test_an_ingest_and_a_restore_that_were_killed_are_finished_by_the_next_with_the_same_digest(make_copy):
    whole, torn = make_copy("whole"), make_copy("torn")
    run(whole, "ingest")
    wanted = run(whole, "snapshot", "snap")
    for after in (0.0, 0.1, 0.3):
        killed(torn, after, "ingest")
    run(torn, "ingest")
    assert run(torn, "snapshot", "snap")["digest"] == wanted["digest"]
    assert {one["number"] for one in run(torn, "versions")["acme"]} == {1}
    other = make_copy("other")
    for after in (0.0, 0.2):
        killed(other, after, "restore", str(torn / "snap"))
    run(other, "restore", str(torn / "snap"))
    assert run(other, "snapshot", "snap")["digest"] == wanted["digest"]


def test_two_processes_that_ingest_the_same_sources_give_no_duplicate(make_copy):
    folder = make_copy("both")
    for process in [start(folder, "ingest"), start(folder, "ingest")]:
        finish(process)
    stats = run(folder, "stats", "--tenant", "acme")["acme"]
    assert stats["items"] == stats["stored"] == run(folder, "ingest", "--tenant", "acme")["acme"]["unchanged"]
    assert (stats["version"], stats["staged"]) == (1, 0)
