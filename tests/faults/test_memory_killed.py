"""A writer is killed in the middle of a memory's work: what it left is whole, and the work resumes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest
from memory_lives import STEPS, Life, counted, in_a_process, share_of
from sizes import drawn

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


def test_a_writer_killed_in_the_middle_of_a_step_leaves_the_old_or_the_new_and_the_step_resumes(
    begin, server
):
    clean, life = begin("clean"), begin("killed")
    taken = counted(clean, STEPS)
    held = [life.contents()]
    chosen = drawn([(step, *kill) for step in STEPS for kill in KILLS[step]], 2 if server is None else 1)
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


@pytest.mark.drawn("two processes that ingest", 1)
def test_two_processes_that_ingest_the_same_sources_give_no_duplicate(begin):
    life = begin("both")
    command = [sys.executable, "-m", "workbench.cli", "memory", "ingest", "--json"]
    both = [
        subprocess.Popen(command, cwd=life.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        for process in both:
            out, err = process.communicate(timeout=120)
            assert process.returncode == 0, err
            assert json.loads(out)["acme"]["version"] == 1
    finally:
        for process in both:
            process.kill()
            process.communicate()
    stats = life.memory.stats()
    assert stats.items == stats.stored == life.memory.count() and stats.staged == 0
    assert [one.number for one in life.memory.versions()] == [1]
    again = life.memory.ingest()
    assert (again.added, again.unchanged, again.version) == (0, stats.items, 1)
