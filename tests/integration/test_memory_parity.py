"""`workbench repro --memory weaviate`: the same gate and snapshot, nothing pinned changed, or an error."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest
import sizes
from clone_edits import NOTEBOOK as NOTEBOOK_OF_ANSWERS
from clone_edits import commit, replaced, without_use_case
from endpoint import endpoint, speaking
from small_use_case import CELLS, NOTEBOOK, RUN, notebook, with_pipeline, write
from switched_use_case import Nobody, needs_a_server, switch, switched_repository

import workbench as wb
from workbench.config import MemoryServer
from workbench.errors import WorkbenchError
from workbench.experiments.dataset import Dataset
from workbench.layout import ON_SERVER, Results
from workbench.memory.snapshot import read_manifest
from workbench.memory.weaviate.local_server import LocalServer
from workbench.pipeline import stages, store_parity
from workbench.pipeline.judge import judge
from workbench.testing.fakes import FakeModel

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def passage(payload):
    return payload["messages"][-1]["content"].split("Question:")[0].strip()


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A small repository with a pipeline, whose model is an endpoint."""
    with endpoint(speaking(FakeModel(passage))) as url:
        folder = switched_repository(tmp_path / "r", memory="parity", model="served/Some-7B", endpoint=url)
        with_pipeline(folder)
        monkeypatch.chdir(folder)
        monkeypatch.setenv("OPENAI_API_KEY", "k-123")
        yield folder


def pinned(root):
    """What a reproduction on a server may not change."""
    folders = ("results", "reports", "pipelines", "data", ".workbench/state/snapshots")
    return {
        str(path.relative_to(root)): path.read_bytes()
        for folder in folders
        for path in sorted((root / folder).rglob("*"))
        if path.is_file()
    }


def reproduced(root, *more):
    done = subprocess.run(
        [sys.executable, "-m", "workbench.cli", "repro", "--memory", "weaviate", *more],
        cwd=root, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_the_shipped_use_case_passes_its_gate_on_a_server_with_the_pinned_tape(shipped_clone, weaviate):
    root = shipped_clone.folder
    without_use_case(root, "triage")
    switch(root, weaviate)
    # On a server some passages of these arms are others, and the model would be asked anew for minutes.
    arms = (
        r"{\"few_shot\": {\"prompt\": \"answer@1\"}, "
        r"\"wrong_passage\": {\"task\": wrong_passage, \"control\": True}, **arms}"
    )
    replaced(shipped_clone, NOTEBOOK_OF_ANSWERS, arms, r"{\"candidate\": {\"memory\": corpus}}")
    shipped_clone.run("dvc", "repro", "remember@answers")
    commit(shipped_clone, "On a server, with one arm")
    before, gate = pinned(root), json.loads((root / "results/answers/gate.json").read_bytes())
    code, out, err = reproduced(root, "--json")
    assert code == 0, err
    (told,) = json.loads(out)
    assert shipped_clone.status() == "" and pinned(root) == before
    assert told["snapshot"] == read_manifest(root / "results/answers/memory").logical_digest
    assert told["gate"]["verdict"] == gate["verdict"] == "pass"
    assert told["gate"]["n_cases"] == gate["n_cases"] == told["asked"] and "n_degraded" not in told["gate"]
    assert 0 < len(told["differences"]) < told["asked"], "words are scored otherwise"
    cases = Dataset.from_file(root / ".workbench/weaviate/answers/prepared/cases.parquet")
    asked = [(case.id, case.tenant, str(case.inputs["question"])) for case in cases]
    assert set(told["differences"]) <= {case for case, _, _ in asked}
    where = MemoryServer(url=weaviate.address.url, grpc=f"127.0.0.1:{weaviate.grpc_port}")
    sample = asked if sizes.SOAK else asked[sizes.SEED % 8 :: 8]
    assert store_parity.differences(root, "answers", where, sample, change=exact) == ()


def exact(handle):
    """The handle, with a search of exact nearest neighbours alone: the same hits on every store."""
    return dataclasses.replace(handle, spec=dataclasses.replace(handle.spec, mode="vector", exact=True))


def test_a_server_that_goes_away_midway_is_an_error_whatever_may_stand_in_for_it(root, tmp_path, monkeypatch):
    needs_a_server()
    server = LocalServer(tmp_path / "own")
    server.start()
    switch(root, server, memory_fallback="snapshot")
    searching_alone = "\n".join(RUN.splitlines()[2:])  # what adds pages would fail anyway
    write(root, NOTEBOOK, notebook(cells=(*CELLS[:2], (["explore"], searching_alone), CELLS[3])))
    for stage in ("prepare", "remember"):
        assert stages.main([stage, "small"]) == 0

    def killed_first(*arguments, **told):
        server.kill()
        return judge(*arguments, **told)

    monkeypatch.setattr(store_parity, "judge", killed_first)
    with pytest.raises(WorkbenchError, match="no Weaviate answers at") as caught:
        store_parity.reproduce_on_server(root, quiet=True)
    assert "snapshot" not in caught.value.message and "make weaviate" in caught.value.hint
    results = Results(use_case="small", base=ON_SERVER)
    assert read_manifest(root / results.memory).tenants["acme"].rows > 0, "the server was there at first"
    assert not any((root / path).exists() for path in (results.judged, results.runs, results.gate))
    assert not wb.connect("small", root=root).calls()["degraded"].any()


def test_a_server_that_is_away_stops_it_and_what_is_pinned_stays(root):
    switch(root, Nobody())
    for stage in ("prepare", "remember"):
        assert stages.main([stage, "small"]) == 0
    before = pinned(root)
    code, _, err = reproduced(root)
    assert code != 0 and "no Weaviate answers at" in err and "make weaviate" in err
    assert pinned(root) == before
