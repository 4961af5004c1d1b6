"""A use case that is switched to a server by two lines and a key: exploring, stages and jobs."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import polars as pl
import pytest
from endpoint import endpoint, speaking
from small_use_case import QUESTIONS, notebook
from switched_use_case import Nobody, needs_a_server, switch, switched_repository

import workbench as wb
from workbench import config, files
from workbench.errors import ConfigError, RefusedError
from workbench.jobs import runner
from workbench.jobs.runner import Request, RunPaths, WorkerError
from workbench.memory.snapshot import read_manifest
from workbench.memory.weaviate.local_server import LocalServer
from workbench.pipeline import build as knowledge
from workbench.pipeline import stages
from workbench.testing.fakes import FakeModel

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
#: test_memory_degraded and promotion/test_jobs.py have both without a worker.
JOBS = pytest.mark.drawn("jobs on a server", 1)
MODEL = "served/Some-7B"
NUMBERS = itertools.count()
TASK = """import workbench as wb

ws = wb.connect("small")


@wb.task
def answer(ws, case: wb.Question) -> wb.Answer:
    hits = ws.memory().search(case.question)
    return wb.Answer(text=ws.model().chat(case.question).text, sources=hits.sources)"""
JOB = notebook(
    cells=(
        (["parameters"], 'k = 1\ninputs = ""'),
        ([], TASK),
        ([], 'ws.publish(answer.map(ws.inputs(inputs)), "answers")'),
    )
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of these tests' own that asks for a key."""
    needs_a_server()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWITCH_KEY", "the key of these tests")
        made = LocalServer(tmp_path_factory.mktemp("switch"), api_key_env="SWITCH_KEY")
        made.start()
        yield made
        made.kill()


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A small repository with an embedded memory, in which the test stands; its model is an endpoint."""
    with endpoint(speaking(FakeModel(lambda payload: "30 days"))) as url:
        folder = switched_repository(
            tmp_path / "r", memory=f"switch-{next(NUMBERS)}", model=MODEL, endpoint=url
        )
        monkeypatch.chdir(folder)
        monkeypatch.setenv("OPENAI_API_KEY", "k-123")
        yield folder


def connected(root):
    ws = wb.connect("small", root=root)
    return ws, ws.memory()


def test_two_lines_and_a_key_move_exploring_to_the_server_and_back(root, server, monkeypatch):
    ws, memory = connected(root)
    memory.ingest()
    before = memory.search(QUESTIONS[0][2])
    assert memory.stats().store == "sqlite"
    ws.close()
    switch(root, server)
    ws, memory = connected(root)
    assert memory.count() == 0, "a server is another store, and is ingested into"
    memory.ingest()
    assert memory.stats().store == "weaviate"
    assert set(memory.search(QUESTIONS[0][2]).sources) == set(before.sources)
    ws.close()
    with monkeypatch.context() as patch:
        patch.delenv("SWITCH_KEY")
        ws, memory = connected(root)
        with pytest.raises(ConfigError, match="SWITCH_KEY is not set") as caught:
            memory.search("taxi")
        assert caught.value.hint == "export SWITCH_KEY=…"
        patch.setenv("SWITCH_KEY", "canary-of-a-key")
        with pytest.raises(RefusedError, match="does not accept the key") as caught:
            memory.search("taxi")
        assert "canary" not in str(caught.value)
        ws.close()
    text = (root / "params.yaml").read_text()
    (root / "params.yaml").write_text(
        "".join(line for line in text.splitlines(keepends=True) if "memory_" not in line)
    )
    ws, memory = connected(root)
    assert memory.search(QUESTIONS[0][2]) == before
    ws.close()


def test_the_stages_need_no_server_and_give_the_same_snapshot(root, tmp_path):
    case = config.use_case(config.load_params(root), "small")
    knowledge.build(root, "small", case, tmp_path / "embedded")
    switch(root, Nobody())
    for stage in ("prepare", "remember", "judge", "experiment", "gate", "report"):
        assert stages.main([stage, "small"]) == 0, stage
    there = read_manifest(root / "results/small/memory")
    assert there.logical_digest == read_manifest(tmp_path / "embedded").logical_digest
    assert not (root / ".workbench/state/memories").exists(), "a stage writes no live memory"
    calls = wb.connect("small", root=root).calls()
    assert not calls["degraded"].any() and calls.filter(outcome="failed").is_empty()


@pytest.fixture
def job(root, tmp_path):
    """Runs the job's notebook as a promoted version's worker does; its counts, and its answers by id."""
    case = config.use_case(config.load_params(root), "small")
    knowledge.build(root, "small", case, tmp_path / "judged")
    judged = read_manifest(tmp_path / "judged").logical_digest

    def run():
        name = f"run{next(NUMBERS)}x{tmp_path.name}"
        place = RunPaths(home=root, code=root, work=tmp_path / name)
        rows = [{"id": one, "tenant": "acme", "question": question} for one, _, question, _ in QUESTIONS[:2]]
        files.write_atomic(place.work / "rows.jsonl", b"".join(files.canonical(row) + b"\n" for row in rows))
        files.write_atomic(place.work / "task.ipynb", JOB.encode())
        request = Request(
            run=name, job="answers", use_case="small", root=str(root), home=str(root),
            notebook=str(place.work / "task.ipynb"), cwd=str(root / "notebooks"), parameters={"k": 1},
            inputs=str(place.work / "rows.jsonl"), pins={"memory": str(case.memory)}, arm={}, memory=judged,
            memories=str(root / ".workbench/cache/memories"), mode="auto", tape=str(place.work / "none"),
            out=str(place.work / "out"), show=False,
        )  # fmt: skip
        done = runner.run(request, python=Path(sys.executable), folder=place.work, seconds=120)
        answers = pl.read_parquet(place.work / "out" / "answers.acme.parquet")
        return done.counts, {row["id"]: row["sources"] for row in answers.to_dicts()}

    return run


@JOBS
def test_a_job_searches_its_pinned_snapshot_wherever_that_is(root, server, job, tmp_path):
    counts, embedded = job()
    assert counts["answered"] == 2 and "degraded" not in counts
    switch(root, server)
    ws, memory = connected(root)
    (root / "data/small/acme/taxi.md").unlink()
    memory.ingest()
    assert "taxi" not in memory.search(QUESTIONS[0][2], k=9).sources, "live memory has moved on"
    assert job() == (counts, embedded), "and the job searches what it was judged with"
    assert {sources[0] for sources in embedded.values()} == {"taxi", "hotel"}
    memory.forget(source="hotel")
    ws.close()
    _, later = job()
    assert not any("hotel" in sources for sources in later.values())
    assert "taxi" in later["q1"], "only what was forgotten is gone"


@JOBS
def test_a_job_whose_server_is_away_fails_and_says_so_or_is_marked_degraded(root, job):
    ws, memory = connected(root)
    (root / "data/small/acme/taxi.md").rename(root / "taxi.md")
    memory.ingest()
    memory.snapshot()  # of live memory: a job falls back to its own
    ws.close()
    (root / "taxi.md").rename(root / "data/small/acme/taxi.md")
    switch(root, Nobody())
    with pytest.raises(WorkerError, match="no Weaviate answers at") as caught:
        job()
    assert caught.value.exit_code != 0 and "make weaviate" in caught.value.hint
    switch(root, Nobody(), memory_fallback="snapshot")
    counts, found = job()
    assert (counts["answered"], counts["degraded"]) == (2, 2)
    assert {sources[0] for sources in found.values()} == {"taxi", "hotel"}
