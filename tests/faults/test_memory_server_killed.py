"""The server is killed in the middle of a memory's work: nothing acknowledged is lost; it resumes."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager

import pytest
from memory_lives import STEPS, Life, Watch, share_of
from switched_use_case import needs_a_server

from workbench import _sync
from workbench.controls.retry import RetryPolicy
from workbench.errors import UnavailableError
from workbench.memory.parquet import logical_digest
from workbench.memory.weaviate.connection import Connection
from workbench.memory.weaviate.local_server import LocalServer
from workbench.workspace import boundary

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(300)]
DRAWN = pytest.mark.drawn("steps in which a server is killed", 1)
#: In which verb the server is killed, and after what share of what it is asked in it; each costs a start.
KILLS = {
    "ingest": (("stage", 0.5),),
    "move": (("publish", 0.3), ("publish", 0.8)),
    "purge": (("purge", 0.6),),
    "restore": (("publish", 0.5),),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of these tests' own."""
    needs_a_server()
    made = LocalServer(tmp_path_factory.mktemp("killed"))
    yield made
    made.kill()


@pytest.fixture
def own(server, monkeypatch):
    """That server, running when a test begins; who asks it does so once."""
    monkeypatch.setattr(boundary, "_RETRIES", RetryPolicy(attempts=1))
    if server.pid is None:
        server.start()
    return server


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    """What an embedded memory holds before the first step and after each, as digests."""
    life = Life.begun(tmp_path_factory.mktemp("truth") / "r")
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
        made.append(Life.begun(tmp_path / name, server=own))
        return made[-1]

    yield make
    for life in made:
        life.ws.close()


@contextmanager
def killed_at(server, *kill):
    """Kill the server inside a verb, while a request is on its way; gives what was counted."""
    watch, asked = Watch(kill=kill or ("", 0)), Connection.ask

    async def ask(connection, request, **how):
        if not watch.reached():
            return await asked(connection, request, **how)
        under_way = asyncio.ensure_future(asked(connection, request, **how))
        await asyncio.sleep(0.001)
        server.kill()
        return await under_way

    with watch.verbs() as patch:
        patch.setattr(Connection, "ask", ask)
        yield watch


@pytest.mark.parametrize(
    "number",
    [  # a version that moves is the one that may be torn
        pytest.param(number, marks=[] if step == "move" else DRAWN, id=step)
        for number, step in enumerate(STEPS)
    ],
)
def test_a_server_killed_in_a_step_loses_nothing_and_the_step_resumes_to_the_same(own, truth, live, number):
    step, clean, life = STEPS[number], live("clean"), live("killed")
    for one in (clean, life):
        one.done(STEPS[:number])
    with killed_at(own) as counted:
        clean.do(step)
    for verb, share in KILLS[step]:
        with (
            killed_at(own, verb, share_of(counted.taken, verb, share)) as watch,
            pytest.raises(UnavailableError),
        ):
            life.do(step)
        assert own.pid is None, f"{step} failed before the server was killed in {verb}"
        own.start()
        assert life.contents() in truth[number : number + 2], "the old version or the new one, whole"
        assert _sync.run(life.memory.view.missing(watch.staged)) == []
        found = {hit.id for hit in life.memory.search("what a word costs", k=9)}
        assert found <= {item.id for item in _sync.run(life.memory.view.items())}
    life.do(step)
    assert life.contents() == truth[number + 1]
    assert life.state() == clean.state()
