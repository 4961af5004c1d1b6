"""A server that is killed under a workspace: what still answers, what does not, and what each says."""

from __future__ import annotations

import itertools
import time

import pytest
from switched_use_case import Nobody, needs_a_server, replaced, switch, switched_repository

import workbench as wb
from workbench.controls.retry import RetryPolicy
from workbench.errors import UnavailableError
from workbench.memory.weaviate.local_server import LocalServer
from workbench.workspace import boundary

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
NUMBERS = itertools.count()
TAXI, HOTEL, ANN = "When is a taxi paid?", "What may a hotel room cost?", "Ann Berg and her knee"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of these tests' own."""
    needs_a_server()
    made = LocalServer(tmp_path_factory.mktemp("degraded"))
    yield made
    made.kill()


@pytest.fixture
def own(server):
    """That server, running when a test begins."""
    if server.pid is None:
        server.start()
    return server


@pytest.fixture
def connected(tmp_path, monkeypatch):
    """Makes workspaces on one repository, on a server or embedded, and closes them; they wait little."""
    monkeypatch.setattr(boundary, "_RETRIES", RetryPolicy(attempts=2, first_s=0.1))
    made = []
    root = switched_repository(tmp_path / "r", memory=f"degraded-{next(NUMBERS)}", spec="kind: episodic\n")

    def connect(server=None, **settings):
        if server is not None:
            switch(root, server, **settings)
        made.append(wb.connect("small", root=root))
        return made[-1]

    yield connect
    for ws in made:
        ws.close()


def degraded(ws):
    """How the last search was recorded."""
    last = ws.calls().filter(operation="search").tail(1).to_dicts()[0]
    return last["degraded"], last["outcome"]


def test_a_search_falls_back_to_the_last_snapshot_and_says_so_until_the_server_is_back(own, connected):
    ws = connected(own, memory_fallback="snapshot")
    memory = ws.memory()
    memory.ingest()
    memory.snapshot()
    alive = memory.search(TAXI)
    assert alive and degraded(ws) == (False, "ok")
    forgotten = memory.forget(subject="ann")
    assert forgotten.items >= 1
    own.kill()
    began = time.monotonic()
    hits = memory.search(TAXI, k=9)
    assert time.monotonic() - began < 15
    assert {hit.source for hit in hits} == {"taxi", "hotel"} and hits[0].id == alive[0].id
    assert all(hit.degraded for hit in hits) and degraded(ws) == (True, "ok")
    assert "degraded" in str(hits) or "snapshot" in str(hits), "whoever looks at the hits is told"
    assert not {hit.id for hit in memory.search(ANN, k=9)} & set(forgotten.ids)
    nothing = memory.search(TAXI, as_of="2001-01-01")
    assert (nothing, nothing.degraded) == ([], True) and "degraded" in str(nothing)
    for asked in (memory.versions, memory.ingest, memory.purge):
        with pytest.raises(UnavailableError, match="no Weaviate answers at"):
            asked()
    with pytest.raises(UnavailableError):
        memory.remember("It rained.")
    (old,) = memory.search(TAXI, k=1, version=1)
    assert old.degraded and old.memory_version == 1, "the snapshot's own version"
    own.start()
    hits = memory.search(TAXI, k=9)
    assert not any(hit.degraded for hit in hits) and degraded(ws) == (False, "ok")
    assert "ann" not in {hit.source for hit in hits} and memory.stats().store == "weaviate"


def test_an_item_forgotten_after_the_fallback_is_not_found_in_the_open_snapshot(own, connected):
    ws = connected(own, memory_fallback="snapshot")
    memory = ws.memory()
    memory.ingest()
    memory.snapshot()
    own.kill()
    assert memory.search(HOTEL, k=1)[0].source == "hotel"
    with pytest.raises(UnavailableError):
        memory.forget(source="hotel")
    assert "hotel" not in {hit.source for hit in memory.search(HOTEL, k=9)}, "it was asked for"
    own.start()
    assert memory.forget(source="hotel").items >= 1
    assert "hotel" not in {hit.source for hit in memory.search(HOTEL, k=9)}


def test_without_leave_a_search_fails_and_says_what_to_do(connected):
    embedded = connected().memory()
    embedded.ingest()
    embedded.snapshot()
    ws = connected(Nobody())
    with pytest.raises(UnavailableError, match="no Weaviate answers at") as caught:
        ws.memory().search(TAXI)
    assert "make weaviate" in caught.value.hint and degraded(ws) == (False, "failed")


def test_a_run_that_searched_the_last_snapshot_says_so_and_so_does_its_gate(connected):
    connected().memory().ingest()
    connected().memory().snapshot()
    ws = connected(Nobody(), memory_fallback="snapshot")

    @wb.task
    def first(ws, case: wb.Question) -> wb.Answer:
        hit = ws.memory().search(case.question, k=1)[0]
        return wb.Answer(text=hit.text, sources=(hit.source,))

    run = ws.experiment().run(first, ws.cases(), scorers=[wb.contains(name="accuracy")])
    report = ws.gate(run)
    assert run.n_degraded == report.to_json()["n_degraded"] == 4 == len(ws.cases())
    for shown in (str(run), str(report), report._repr_html_()):
        assert "degraded: 4 searches were answered by the last snapshot" in shown


def test_leave_without_a_snapshot_is_the_stores_own_error_and_says_why(connected):
    memory = connected(Nobody(), memory_fallback="snapshot").memory()
    with pytest.raises(UnavailableError, match=r"no Weaviate answers at .* no snapshot of") as caught:
        memory.search(TAXI)
    assert "make weaviate" in caught.value.hint


def test_a_snapshot_that_an_embedded_memory_wrote_stands_in_unless_it_is_of_another_spec(connected, tmp_path):
    embedded = connected().memory()
    embedded.ingest()
    embedded.snapshot()
    memory = connected(Nobody(), memory_fallback="snapshot").memory()
    assert [hit.degraded for hit in memory.search(TAXI, k=1)] == [True]
    manifest = next((tmp_path / "r/.workbench/state/snapshots").glob("*/manifest.json"))
    replaced(manifest, memory.spec.digest, "0" * 64)
    with pytest.raises(UnavailableError, match="no snapshot of"):
        connected(Nobody(), memory_fallback="snapshot").memory().search(TAXI)
