"""`workbench repro --memory weaviate` on a small use case: the same gate and snapshot, nothing changed."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from endpoint import endpoint, speaking
from made_repositories import git, saved
from small_use_case import CELLS, NOTEBOOK, RUN, notebook, page, with_pipeline, write
from switched_use_case import Nobody, needs_a_server, switch, switched_repository

import workbench as wb
from workbench import parity, stages
from workbench.errors import WorkbenchError
from workbench.memory.snapshot import read_manifest
from workbench.memory.weaviate.server import Server
from workbench.testing.fakes import FakeModel

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
#: Pages full of the questions' words, which the two stores weigh otherwise.
OTHERS = {
    "desk": "Receipting is at the desk. Hands are shaken there. Days are counted.",
    "night": "Breakfasts are served early. Nights are quiet, and roomy hotels cost more.",
}


def passage(payload):
    return payload["messages"][-1]["content"].split("Question:")[0].strip()


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A small repository whose pipeline has run, committed."""
    with endpoint(speaking(FakeModel(passage))) as url:
        folder = switched_repository(tmp_path / "r", memory="parity", model="served/Some-7B", endpoint=url)
        for name, text in OTHERS.items():
            write(folder, f"data/small/acme/{name}.md", page(name, text))
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


def test_the_same_steps_on_a_server_pass_the_same_gate_and_change_nothing(root, weaviate):
    switch(root, weaviate)
    for stage in ("prepare", "remember", "experiment", "gate", "report"):
        assert stages.main([stage, "small"]) == 0, stage
    saved(root, "Reproduced")
    before, gate = pinned(root), json.loads((root / "results/small/gate.json").read_bytes())
    code, out, err = reproduced(root, "--json")
    assert code == 0, err
    (told,) = json.loads(out)
    assert git(root, "status", "--porcelain") == "" and pinned(root) == before
    assert told["snapshot"] == read_manifest(root / "results/small/memory").logical_digest
    assert told["gate"]["verdict"] == gate["verdict"] == "pass"
    assert [line["value"] for line in told["gate"]["lines"]] == [line["value"] for line in gate["lines"]]
    assert told["exact_differences"] == [] and told["asked"] == 4
    differing = told["differences"]
    assert any(one["embedded"] != one["server"] for one in differing)
    for one in differing:
        same = ": other passages of the same sources" if one["embedded"] == one["server"] else ""
        assert one["reason"] == f"words are scored otherwise{same}"
    text = (root / told["page"]).read_text()
    for one in differing:
        assert f"| {one['case']} | acme | {', '.join(one['embedded'])} | {', '.join(one['server'])} |" in text
    assert "Keyword scores are not" in text and f"{len(differing)} of 4 questions differ" in text
    assert (root / ".workbench/weaviate/small/tape.jsonl").is_file()


def test_a_server_that_goes_away_midway_is_an_error_whatever_may_stand_in_for_it(root, tmp_path, monkeypatch):
    needs_a_server()
    server = Server(tmp_path / "own")
    server.start()
    switch(root, server, memory_fallback="snapshot")
    searching_alone = "\n".join(RUN.splitlines()[2:])  # what adds pages would fail anyway
    write(root, NOTEBOOK, notebook(cells=(*CELLS[:2], (["explore"], searching_alone))))
    for stage in ("prepare", "remember"):
        assert stages.main([stage, "small"]) == 0
    execute = stages.execute

    def killed_first(*arguments, **told):
        server.kill()
        return execute(*arguments, **told)

    monkeypatch.setattr(stages, "execute", killed_first)
    with pytest.raises(WorkbenchError, match="no Weaviate answers at") as caught:
        parity.reproduce_on_server(root, quiet=True)
    assert "snapshot" not in caught.value.message and "make weaviate" in caught.value.hint
    results = stages.Results(use_case="small", base=parity.BASE)
    assert read_manifest(root / results.memory).tenants["acme"].rows >= 5, "the server was there at first"
    assert not (root / results.runs).exists() and not (root / results.gate).exists()
    assert not wb.connect("small", root=root).calls()["degraded"].any()


def test_a_server_that_is_away_stops_it_and_what_is_pinned_stays(root):
    switch(root, Nobody())
    for stage in ("prepare", "remember"):
        assert stages.main([stage, "small"]) == 0
    before = pinned(root)
    code, _, err = reproduced(root)
    assert code != 0 and "no Weaviate answers at" in err and "make weaviate" in err
    assert pinned(root).keys() - before.keys() <= {"pipelines/tapes/small.jsonl"}
