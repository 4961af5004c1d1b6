"""A writer is killed in the middle of a memory's work: what it left is whole, and the work resumes."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys

import pytest
from clones import ROOT
from memory_lives import STEPS, Life, in_a_process, share_of
from sizes import kill_points

from workbench import _sync

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(300)]
#: In which verb a step is killed, and after what share of all that its store does in it.
KILLS = {
    "ingest": (("stage", 0.5), ("publish", 0.5)),
    "move": (("stage", 0.5), ("publish", 0.3), ("publish", 0.8)),
    "purge": (("purge", 0.6),),
    "restore": (("stage", 0.5), ("publish", 0.6)),
}


@pytest.fixture(params=["sqlite", "weaviate"])
def server(request):
    """None for the embedded store, or a running server."""
    return None if request.param == "sqlite" else request.getfixturevalue("weaviate")


@pytest.fixture
def begin(server, tmp_path):
    """Makes memories on that store, and closes them."""
    is_alive = []

    def make(name):
        is_alive.append(Life.begun(tmp_path / name, server=server))
        return is_alive[-1]

    yield make
    for life in is_alive:
        life.ws.close()


def test_a_writer_killed_in_the_middle_of_a_step_leaves_the_old_or_the_new_and_the_step_resumes(begin):
    clean, life = begin("clean"), begin("killed")
    code, (*_, taken), said = in_a_process(clean.root, STEPS)
    assert code == 0, said
    held = [life.contents()]
    chosen = kill_points([(step, *kill) for step in STEPS for kill in KILLS[step]])
    for step in STEPS:
        for verb, share in (kill for name, *kill in chosen if name == step):
            number = share_of(taken[step], verb, share)
            code, staged, said = in_a_process(life.root, [step], verb, number)
            assert code == -signal.SIGKILL, f"{step} ended before it was killed in {verb}: {said}"
            assert _sync.run(life.memory.view.missing([one for ids in staged for one in ids])) == []
            held.append(life.contents())
            found = {hit.id for hit in life.memory.search("what a word costs", k=9)}
            assert found <= {item.id for item in _sync.run(life.memory.view.items())}
        life.done([step])
        after = life.contents()
        assert set(held) <= {held[0], after}, f"what was left by {step} is neither the old nor the new"
        held = [after]
    assert life.state() == clean.state()


def start(folder, *words):
    command = [sys.executable, "-m", "workbench.cli", "memory", *words, "--use-case", "answers"]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def run(folder, *words):
    return json.loads(finish(start(folder, *words, "--json")))


def test_two_processes_that_ingest_the_same_sources_give_no_duplicate(tmp_path):
    for part in ("data", "pipelines"):
        shutil.copytree(ROOT / part, tmp_path / part)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    both = [start(tmp_path, "ingest"), start(tmp_path, "ingest")]
    try:
        for process in both:
            finish(process)
    finally:
        for process in both:
            process.kill()
            process.communicate()
    stats = run(tmp_path, "stats", "--tenant", "acme")["acme"]
    again = run(tmp_path, "ingest", "--tenant", "acme")["acme"]
    assert stats["items"] == stats["stored"] == again["unchanged"]
    assert (stats["version"], stats["staged"]) == (1, 0)
