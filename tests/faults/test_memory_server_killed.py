"""The server is killed in the middle of a memory's work: nothing acknowledged is lost; it resumes."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest
from small_use_case import page, write
from switched_use_case import needs_a_server, switched_repository

import workbench as wb
from workbench import _sync, boundary
from workbench.controls.retry import Patience
from workbench.errors import UnavailableError
from workbench.memory.rows import logical_digest
from workbench.memory.weaviate.connection import Connection
from workbench.memory.weaviate.server import Server
from workbench.retrieval import upkeep
from workbench.retrieval.calls import Governed

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(300)]
NUMBERS = itertools.count()
PAGES = 45
STEPS = ("ingest", "move", "sweep", "restore")
#: When a step's server is killed, as a share of what the step asks of it.
KILLS = {"ingest": (0.5,), "move": (0.4, 0.9), "sweep": (0.5,), "restore": (0.7,)}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of these tests' own."""
    needs_a_server()
    made = Server(tmp_path_factory.mktemp("killed"))
    yield made
    made.kill()


@pytest.fixture
def own(server, monkeypatch):
    """That server, running when a test begins; who asks it does so once, and stages little by little."""
    monkeypatch.setattr(boundary, "_PATIENCE", Patience(attempts=1))
    monkeypatch.setattr(upkeep, "TEXTS", 32)
    if server.pid is None:
        server.start()
    return server


def text_of(number):
    return " ".join(f"Page {number} says in sentence {n} what a word{number * n} costs." for n in range(4))


class Life:
    """One memory and its steps, each of which can be done again."""

    def __init__(self, folder, *, server=None):
        self.root = switched_repository(
            folder, memory=f"killed-{next(NUMBERS)}", server=server, spec="keep_versions: 1\n"
        )
        for number in range(PAGES):
            write(self.root, f"data/small/acme/p{number}.md", page(f"p{number}", text_of(number)))
        self.ws = wb.connect("small", root=self.root)
        self.memory = self.ws.memory()

    def do(self, step):
        """One step; the second version lacks every third page and has some that are new."""
        if step == "move":
            for number in range(0, PAGES, 3):
                (self.root / f"data/small/acme/p{number}.md").unlink(missing_ok=True)
                write(self.root, f"data/small/acme/q{number}.md", page(f"q{number}", text_of(number + 100)))
        if step in {"ingest", "move"}:
            return self.memory.ingest()
        return self.memory.sweep() if step == "sweep" else self.memory.restore(self.root / "snap")

    def done(self, steps):
        """Do these steps; what the first puts in force is kept as a snapshot."""
        for step in steps:
            self.do(step)
            if step == "ingest":
                self.memory.snapshot(self.root / "snap")

    def contents(self, version=None):
        """All that is in force, or in an earlier version, as one digest."""
        return logical_digest("acme", _sync.run(self.memory.view.items(version)))


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    """What an embedded memory holds before the first step and after each, as digests."""
    life = Life(tmp_path_factory.mktemp("truth") / "r")
    digests = [logical_digest("acme", [])]
    for step in STEPS:
        life.done([step])
        digests.append(life.contents())
    life.ws.close()
    return digests


@pytest.fixture
def live(own, tmp_path):
    """Makes memories on the server, and closes them."""
    made = []

    def make(name):
        made.append(Life(tmp_path / name, server=own))
        return made[-1]

    yield make
    for life in made:
        life.ws.close()


@contextmanager
def killed_at(server, number):
    """Kill the server while it is asked for the `number`th time; gives a list of all times."""
    asked, times, killers = Connection.ask, [], []

    async def ask(self, request, **how):
        times.append(1)
        if len(times) == number:
            killers.append(threading.Thread(target=server.kill))
            killers[0].start()
        return await asked(self, request, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Connection, "ask", ask)
        yield times
    for killer in killers:
        killer.join()
    if server.pid is None:
        server.start()


@pytest.fixture
def acknowledged(monkeypatch):
    """Ids that were acknowledged as staged."""
    staged, stage = [], Governed.stage

    async def noted(self, items):
        given = list(items)
        new = await stage(self, given)
        staged.extend(item.id for item in given)
        return new

    monkeypatch.setattr(Governed, "stage", noted)
    return staged


@pytest.mark.parametrize("number", range(len(STEPS)), ids=STEPS)
def test_a_server_killed_in_a_step_loses_nothing_and_the_step_resumes_to_the_same(
    own, truth, acknowledged, live, number
):
    clean, life = live("clean"), live("killed")
    for one in (clean, life):
        one.done(STEPS[:number])
    with killed_at(own, 0) as times:
        clean.do(STEPS[number])
    acknowledged.clear()
    interrupted = 0
    for share in KILLS[STEPS[number]]:
        with killed_at(own, max(1, int(len(times) * share))):
            try:
                life.do(STEPS[number])
            except UnavailableError:
                interrupted += 1
        assert life.contents() in truth[number : number + 2], "the old version or the new one, whole"
        assert _sync.run(life.memory.view.lacking(acknowledged)) == []
        found = {hit.id for hit in life.memory.search("what a word costs", k=9)}
        assert found <= {item.id for item in _sync.run(life.memory.view.items())}
    assert interrupted
    life.do(STEPS[number])
    assert life.contents() == truth[number + 1] == clean.contents()
    versions, wanted = (one.memory.versions() for one in (life, clean))
    assert [(one.number, one.content) for one in versions] == [(one.number, one.content) for one in wanted]
    stats, expected = life.memory.stats(), clean.memory.stats()
    assert (stats.items, stats.stored, stats.staged) == (expected.items, expected.stored, 0)
    for one in versions[:-1]:
        assert life.contents(one.number) == clean.contents(one.number)


def test_two_processes_that_ingest_the_same_sources_into_the_server_give_no_duplicate(live, truth):
    life = live("both")
    command = [sys.executable, "-m", "workbench.cli", "memory", "ingest", "--json"]
    both = [
        subprocess.Popen(command, cwd=life.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in both:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert json.loads(out)["acme"]["version"] == 1
    stats = life.memory.stats()
    assert stats.items == stats.stored == life.memory.count() and stats.staged == 0
    assert [one.number for one in life.memory.versions()] == [1]
    assert life.contents() == truth[1]
