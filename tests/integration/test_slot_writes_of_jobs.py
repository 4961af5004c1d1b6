"""Memory writes of jobs with real kernels: a slot that is killed and repeated writes once, a shadow never."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path

import orjson
import polars as pl
import psutil
import pytest
from endpoint import endpoint, speaking
from small_use_case import CELLS, NOTEBOOK, notebook, small_repository

import workbench as wb
from workbench import files, layout, processes, registry
from workbench.jobs.effects import RunEffects
from workbench.jobs.runner import REQUEST, RESULT, Request, told
from workbench.layout import JOB_WRITES, Results
from workbench.memory.snapshot import read_manifest
from workbench.notebooks import inspection
from workbench.pipeline import stages
from workbench.records.log import read_records
from workbench.testing.fakes import FakeModel

pytestmark = pytest.mark.timeout(180)
RESULTS = Results(use_case="small")
SLOT = "small/acme/20261124T060000Z"
NOTES = """\
description: What was asked.
kind: episodic
embedding: wordllama-256
candidates: 50
"""
#: Each row is remembered; what the run itself remembered is a part of its answer.
TASK = """import time
import workbench as wb

ws = wb.connect("small")


@wb.task
async def answer(ws, case: wb.Question) -> wb.Answer:
    notes = ws.memory("notes")
    asked = await notes.remember_async(f"asked: {case.question}", access=["everyone"])
    await notes.remember_async("derived", parents=[asked.id], access=["everyone"])
    SLEEP
    mine = [hit for hit in await notes.search_async(case.question, k=20) if hit.id == asked.id]
    return await ws.model().chat_async(f"{len(mine)} of mine: {case.question}")"""


def says(payload) -> str:
    return payload["messages"][-1]["content"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    with endpoint(speaking(FakeModel(says))) as url, pytest.MonkeyPatch.context() as patch:
        root = small_repository(tmp_path_factory.mktemp("made") / "small", endpoint=url)
        patch.chdir(root)
        patch.setenv("OPENAI_API_KEY", "k-123")
        registry.save_version(root, "memory", "notes", NOTES.encode(), author="t", reason="x", parent=None)
        assert [stages.main([name, "small"]) for name in ("prepare", "remember")] == [0, 0]
        yield root


@pytest.fixture
def root(made, monkeypatch):
    monkeypatch.chdir(made)
    monkeypatch.setenv("OPENAI_API_KEY", "k-123")
    yield made
    shutil.rmtree(made / ".workbench", ignore_errors=True)


class Worker:
    """The worker of one run of the slot, as the runner starts it: a process of its own, with a kernel."""

    def __init__(self, root: Path, folder: Path, effects: RunEffects, *, sleep: str = "pass") -> None:
        self.root, self.folder = root, folder
        cells = (CELLS[0], ([], TASK.replace("SLEEP", sleep)), CELLS[3])
        (root / NOTEBOOK).write_text(notebook(cells=cells))
        files.write_atomic(folder / "task.ipynb", inspection.read(root / NOTEBOOK).frozen().encode())
        files.write_atomic(folder / "rows.parquet", (root / RESULTS.prepared / "inputs.parquet").read_bytes())
        effects.write(folder)
        files.write_atomic(folder / REQUEST, told(self.request()))
        command = [sys.executable, "-m", "workbench.worker", str(folder / REQUEST)]
        # As the runner does: a pipe that nobody writes to shows the worker that its caller lives.
        self.process = processes.start(command, mark=folder.name, cwd=root, environment=dict(os.environ))

    def request(self) -> Request:
        root, folder = self.root, self.folder
        digest = read_manifest(root / RESULTS.memory).logical_digest
        memories = root / layout.CACHE / "memories"
        shutil.copytree(root / RESULTS.memory, memories / digest, dirs_exist_ok=True)
        return Request(
            run=folder.name, job="small", use_case="small", root=str(root), home=str(root),
            notebook=str(folder / "task.ipynb"), cwd=str(root / "notebooks"), parameters={},
            inputs=str(folder / "rows.parquet"), pins={}, arm={}, memory=digest, memories=str(memories),
            mode="auto", tape=str(folder / "none.jsonl"), out=str(folder / "out"),
            journal=str(Path(".workbench/state/jobs") / SLOT / "1.jsonl"), show=False,
        )  # fmt: skip

    def answers(self) -> list[str]:
        """Wait for the end of the run; the published texts, sorted."""
        code = self.process.wait(120)
        self.process.stdin.close()
        assert code == 0, (self.folder / RESULT).read_text()
        return sorted(pl.read_parquet(self.folder / "out/answers.acme.parquet")["text"])

    def kill(self) -> None:
        """Kill the worker, and wait until the kernel that it leaves has ended."""
        below = psutil.Process(self.process.pid).children(recursive=True)
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(30)
        self.process.stdin.close()
        _, alive = psutil.wait_procs(below, timeout=60)
        assert alive == []


def noted(root: Path) -> list[dict]:
    """The writes whose end the log of the slot has."""
    return [line for line in read_records(root / JOB_WRITES / SLOT / "writes.jsonl") if "result" in line]


def remembered(root: Path) -> list[str]:
    """Every text of the memory, sorted; each as often as it is stored."""
    ws = wb.connect("small", root=root)
    items = wb._sync.run(ws.memory("notes").view.items())
    ws.close()
    return sorted(item.text for item in items)


def test_a_slot_that_is_killed_after_a_memory_write_and_repeated_has_one_effect(root, tmp_path):
    first = Worker(root, tmp_path / "r1", RunEffects(slot=SLOT), sleep="time.sleep(100)")
    try:
        until = time.monotonic() + 90
        while len(noted(root)) < 3:  # of the first two rows: their writes, until the event loop sleeps
            assert first.process.poll() is None and time.monotonic() < until
            time.sleep(0.02)
    finally:
        first.kill()
    before = remembered(root)
    assert 1 <= len(before) < 8
    repeat = Worker(root, tmp_path / "r2", RunEffects(slot=SLOT))
    answers = repeat.answers()
    assert len(answers) == 4 and all(text.startswith("1 of mine") for text in answers)
    all_of_them = remembered(root)
    assert all_of_them.count("derived") == 4 and len(set(all_of_them)) == 5 and len(all_of_them) == 8
    other = Worker(root, tmp_path / "r3", RunEffects(slot=SLOT.replace("24T", "25T")))
    assert other.answers() == answers and len(remembered(root)) == 16, "another slot has effects of its own"


def test_a_shadow_reads_back_what_it_wrote_and_the_memory_gets_nothing_of_it(root, tmp_path):
    ws = wb.connect("small", root=root)
    ws.memory("notes").remember("before", access=["everyone"])
    ws.close()
    shadow = Worker(root, tmp_path / "r1", RunEffects(slot=None))
    assert all(text.startswith("1 of mine") for text in shadow.answers())
    assert remembered(root) == ["before"] and not (root / JOB_WRITES).exists()
    records = wb.connect("small", root=root).calls().to_dicts()
    assert sum(record["operation"] == "remember" and record["job"] == "small" for record in records) == 8


def test_what_the_judge_s_run_remembers_ends_with_the_stage(root):
    cells = (CELLS[0], ([], TASK.replace("SLEEP", "pass")), CELLS[3])
    (root / NOTEBOOK).write_text(notebook(cells=cells))
    ws = wb.connect("small", root=root)
    ws.memory("notes").remember("before", subject="cust-1", access=["everyone"])
    ws.close()
    assert stages.main(["judge", "small"]) == 0
    assert remembered(root) == ["before"]
    assert not list((root / ".workbench").rglob("copies"))


def test_a_run_whose_runner_is_older_and_names_no_effects_writes_as_before(root, tmp_path):
    Worker(root, tmp_path / "r1", NoEffects()).answers()
    assert len(remembered(root)) == 8 and not (root / JOB_WRITES).exists()
    request = orjson.loads((tmp_path / "r1" / REQUEST).read_bytes())
    assert not {"slot", "effects", "copies"} & request.keys(), (
        "an older worker refuses a key it does not know"
    )


class NoEffects(RunEffects):
    """What a runner of an older version writes: nothing."""

    def write(self, folder: Path) -> None:
        pass
