"""The gateway of a run: what its kernel is told, what it keeps, and what a hostile kernel meets."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl
import psutil
import pytest
from endpoint import endpoint, speaking
from small_use_case import CELLS, NOTEBOOK, TASK, notebook, small_repository

from workbench import _sync, config, files, layout, load, registry
from workbench.config import Execution
from workbench.confinement.supported import Support
from workbench.context import InvocationScope, invocation_scope
from workbench.errors import NotFoundError, RefusedError, UnavailableError, WorkbenchError
from workbench.gateway.run_gateway import RunGateway
from workbench.jobs.runner import Request
from workbench.layout import Results
from workbench.memory.snapshot import read_manifest
from workbench.notebooks import inspection
from workbench.pipeline import kernels, stages
from workbench.remote.connection import GatewayConnection
from workbench.testing.fakes import FakeModel
from workbench.worker import work
from workbench.workspace import connection as connecting

RESULTS = Results(use_case="small")
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A prepared small use case, whose model answers with the first passage."""

    def passage(payload) -> str:
        return payload["messages"][-1]["content"].split("Question:")[0].strip()

    with endpoint(speaking(FakeModel(passage))) as url, pytest.MonkeyPatch.context() as patch:
        root = small_repository(tmp_path_factory.mktemp("made") / "small", endpoint=url)
        patch.chdir(root)
        patch.setenv("OPENAI_API_KEY", "k-123")
        assert [stages.main([name, "small"]) for name in ("prepare", "remember")] == [0, 0]
        yield root


@pytest.fixture
def root(made, monkeypatch):
    """The repository, in which the test stands."""
    monkeypatch.chdir(made)
    monkeypatch.setenv("OPENAI_API_KEY", "k-123")
    yield made
    shutil.rmtree(made / ".workbench", ignore_errors=True)


@pytest.fixture
def sockets(monkeypatch):
    """The folder in which runs make their own; its path is short."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="wb-") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield Path(folder)


def test_a_long_path_of_the_folder_for_sockets_is_no_obstacle(root, tmp_path, monkeypatch):
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    with RunGateway(root, "small", execution(root), confinement="full") as gateway:
        assert not gateway.folder.is_relative_to(long)


def execution(root, **fields) -> Execution:
    return Execution(
        notebook=NOTEBOOK, use_case="small", tape=str(RESULTS.judge_tape), memory=str(RESULTS.memory),
        job="small", run="r1", publish=str(root / "kernel/out"), home=str(root), journal="answers.jsonl",
        **fields,
    )  # fmt: skip


def workspace(gateway, monkeypatch, **fields):
    """The workspace that a kernel of the run gets from `wb.connect`."""
    told = dataclasses.replace(gateway.kernel, **fields)
    monkeypatch.setenv(config.EXECUTION_VARIABLE, files.canonical(dataclasses.asdict(told)).decode())
    return connecting.connect("small")


def asked(ws, case: str):
    with invocation_scope(InvocationScope(case=case)) as scope:
        hits = ws.memory().search("Who pays for a taxi?", k=2)
        reply = ws.model().chat(ws.prompt().render(question="Who pays for a taxi?", passages=hits[:1]))
    return reply, scope.records


def test_a_kernel_is_told_where_its_gateway_is_and_nothing_of_the_state(root):
    with RunGateway(root, "small", execution(root)) as gateway:
        told = gateway.kernel
        assert not any((told.tape, told.memory, told.journal, told.home))
        assert told.gateway == f"unix:{gateway.address}" and told.job == "small"
        assert told.snapshots == {"small": read_manifest(root / RESULTS.memory).logical_digest}
        assert gateway.address.stat().st_mode & 0o777 == 0o600
        assert gateway.folder.stat().st_mode & 0o777 == 0o700
        assert len(os.fsencode(gateway.address)) < 100
    assert not gateway.folder.exists()


def test_recordings_and_records_are_those_that_the_gateway_saw(root, monkeypatch):
    with RunGateway(root, "small", execution(root)) as gateway:
        ws = workspace(gateway, monkeypatch)
        reply, records = asked(ws, "q1")
        asked(ws, "q1")
        asked(ws, "q2")
        ws.model().chat("outside of a case")
    assert reply.text and not (root / "kernel").exists()
    assert gateway.records.keys() == {"q1", "q2"}
    kept = [{name: record[name] for name in ("operation", "hits", "cost_usd")} for record in records]
    assert kept == [
        {name: r[name] for name in ("operation", "hits", "cost_usd")} for r in gateway.records["q1"][:3]
    ]
    assert [r["operation"] for r in gateway.records["q1"]] == ["embed", "search", "chat"] * 2
    assert set(gateway.used.values()) == {"cache"} and len(gateway.used) == 3
    assert (root / "answers.jsonl").read_bytes().count(b"\n") == 3
    (root / "answers.jsonl").unlink()


def test_the_notebook_stays_the_job_and_the_tenant_of_its_run(root, monkeypatch):
    path = root / "params.yaml"
    before = path.read_text()
    try:
        path.write_text(before.replace("tenants: [acme]", "tenants: [acme, globex]"))
        with RunGateway(root, "small", execution(root, tenant="acme")) as gateway:
            assert gateway.workspace("small").context.principal.name == "job:small"
            ws = workspace(gateway, monkeypatch, tenant=None)  # as a kernel that forgets what it was told
            with pytest.raises(RefusedError, match="acme"):
                ws.bind(tenant="globex").model().chat("hello")
    finally:
        path.write_text(before)


def test_a_passage_is_marked_by_the_gateway_when_its_page_has_changed(root, monkeypatch):
    page = root / "data/small/acme/taxi.md"
    before = page.read_text()
    try:
        page.write_text(before.replace("30 days", "40 days"))
        with RunGateway(root, "small", execution(root)) as gateway:
            hits = workspace(gateway, monkeypatch).memory().search("Who pays for a taxi?", k=5)
    finally:
        page.write_text(before)
    assert {hit.source: hit.stale for hit in hits} == {"taxi": True, "hotel": False}


def test_after_its_run_a_gateway_answers_nobody(root, monkeypatch):
    with RunGateway(root, "small", execution(root)) as gateway:
        ws = workspace(gateway, monkeypatch)
        ws.model().chat("hello")
    for _ in range(2):
        with pytest.raises(UnavailableError):
            ws.model().chat("hello again")
    (root / "answers.jsonl").unlink()


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("GET", "/workbench/v1/calls", NotFoundError),
        ("POST", "/v1/chat/completions", NotFoundError),
        ("POST", "/workbench/v1/verbs/promote", WorkbenchError),
        ("POST", "/workbench/v1/calls", WorkbenchError),
    ],
)
def test_what_is_no_call_of_a_kernel_is_refused(root, method, path, kind):
    with RunGateway(root, "small", execution(root)) as gateway:
        kernel = GatewayConnection(gateway.kernel.gateway)
        with pytest.raises(kind):
            _sync.run(kernel.request(method, path, b"{}"))
        _sync.run(kernel.aclose())


HUGE = b"POST /workbench/v1/calls HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n"


def test_a_kernel_that_floods_its_gateway_keeps_no_call_from_its_answer(root, monkeypatch):
    flood = []
    with RunGateway(root, "small", execution(root)) as gateway:
        for number in range(60):
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(5)
            client.connect(str(gateway.address))
            client.sendall(HUGE if number % 2 else b"x" * 1000)
            flood.append(client)
        assert asked(workspace(gateway, monkeypatch), "q1")[0].text
    for client in flood:
        client.close()
    (root / "answers.jsonl").unlink()


def test_two_runs_at_once_have_gateways_of_their_own(root, monkeypatch):
    with (
        RunGateway(root, "small", execution(root)) as one,
        RunGateway(root, "small", execution(root)) as other,
    ):
        assert one.address != other.address
        asked(workspace(one, monkeypatch), "q1")
        asked(workspace(other, monkeypatch), "q2")
    assert (one.records.keys(), other.records.keys()) == ({"q1"}, {"q2"})
    (root / "answers.jsonl").unlink()


def test_the_folder_of_a_run_that_was_killed_is_removed_by_the_next(root, sockets):
    process = psutil.Popen([sys.executable, "-c", ""])
    process.wait()
    for name in (f"workbench-run-{process.pid}-x", f"workbench-run-{os.getpid()}-x", "workbench-runs"):
        (sockets / name).mkdir()
    with RunGateway(root, "small", execution(root)) as gateway:
        assert gateway.folder.parent == sockets
    assert {path.name for path in sockets.iterdir()} == {f"workbench-run-{os.getpid()}-x", "workbench-runs"}


def test_a_required_confinement_that_this_machine_lacks_is_refused_with_what_is_missing():
    lacking = Support(files=False, network=True, signals=False, missing=("files: Landlock",))
    with pytest.raises(RefusedError, match=r"answers.*Landlock"):
        kernels.level_of("require", lacking, what="answers")
    assert kernels.level_of("prefer", lacking, what="answers") == "partial"
    assert kernels.level_of("off", lacking, what="answers") == "none"
    whole = Support(files=True, network=True, signals=True, missing=())
    assert kernels.level_of("require", whole, what="answers") == "full"


def test_a_call_of_no_case_counts_for_no_case_and_is_in_the_records(root, monkeypatch):
    """Neither prevented nor told by the verdict: a notebook may ask before its task does."""
    with RunGateway(root, "small", execution(root)) as gateway:
        ws = workspace(gateway, monkeypatch)
        ws.model().chat("all questions at once")
        assert gateway.records == {} and len(gateway.used) == 1
        assert ws.calls()["run"].to_list() == ["r1"]
    (root / "answers.jsonl").unlink()


def test_a_purpose_is_what_the_notebook_states_and_the_record_holds_it(root, monkeypatch):
    with RunGateway(root, "small", execution(root)) as gateway:
        ws = workspace(gateway, monkeypatch)
        ws.bind(purpose="trial").model().chat("hello")
        ws.model().chat("hello")
        assert ws.calls()["purpose"].to_list() == ["trial", "job"]
    (root / "answers.jsonl").unlink()


def test_another_memory_is_the_one_of_this_machine(root, monkeypatch):
    """Neither: what an exploring cell adds to a memory that no snapshot pins, a judged run finds."""
    text = (root / "pipelines/memories/small/1.yaml").read_bytes()
    registry.save_version(root, "memory", "notes", text, author="t", reason="x", parent=None)
    connecting.connect("small").memory("notes").add(load(root / "data/small"))
    with RunGateway(root, "small", execution(root)) as gateway:
        hits = workspace(gateway, monkeypatch).memory("notes").search("Who pays for a taxi?", k=5)
    assert {hit.source for hit in hits} == {"taxi", "hotel"}


# -- a job -------------------------------------------------------------------------------------------


def request(root, folder: Path, run: str) -> Request:
    """The request to run the small notebook as a job."""
    notebook = inspection.read(root / NOTEBOOK)
    files.write_atomic(folder / "task.ipynb", notebook.frozen().encode())
    files.write_atomic(folder / "rows.parquet", (root / RESULTS.prepared / "inputs.parquet").read_bytes())
    digest = read_manifest(root / RESULTS.memory).logical_digest
    memories = root / layout.CACHE / "memories"
    shutil.copytree(root / RESULTS.memory, memories / digest, dirs_exist_ok=True)
    return Request(
        run=run, job="small", use_case="small", root=str(root), home=str(root),
        notebook=str(folder / "task.ipynb"), cwd=str(root / "notebooks"), parameters={},
        inputs=str(folder / "rows.parquet"), pins={}, arm={}, memory=digest, memories=str(memories),
        mode="auto", tape=str(folder / "none.jsonl"), out=str(folder / "out"),
        journal=str(Path("journal") / f"{run}.jsonl"), watch=str(folder / "connections.jsonl"), show=False,
    )  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone confines")
def test_a_job_runs_confined_and_its_counts_are_the_gateway_s(root, tmp_path):
    result = work(request(root, tmp_path / "run", "a1b2c3"))
    assert (result.counts["answered"], result.counts["calls"], result.counts["cost_usd"]) == (4, 4, 0.0)
    answers = pl.read_parquet(tmp_path / "run/out/answers.acme.parquet")
    assert len(answers) == 4
    told = [json.loads(line) for line in (tmp_path / "run/attempts.jsonl").read_text().splitlines()]
    assert [[r["operation"] for r in line["records"]] for line in told] == [["embed", "search", "chat"]] * 4
    assert (tmp_path / "run/connections.jsonl").read_bytes() == b""
    rows = [json.loads(line) for path in sorted((root / layout.AUDIT).rglob("*.jsonl"))
            for line in path.read_text().splitlines()]  # fmt: skip
    (row,) = [row for row in rows if row.get("activity") == "run"]
    assert "full" in json.dumps(row) and "a1b2c3" in json.dumps(row)
    (root / "journal").exists() and shutil.rmtree(root / "journal")


SLEEPING = """
import os, time
open(os.path.expanduser("~/asleep"), "w").close()
time.sleep(60)"""


def asleep(process) -> bool:
    """Whether a process is the kernel, in its sleeping cell."""
    return any(Path(os.environ["XDG_RUNTIME_DIR"]).glob("*/own/asleep")) and "ipykernel" in str(
        process.cmdline()
    )


def wait_for(found, *, seconds: float = 60):
    """What is found in time."""
    until = time.monotonic() + seconds
    while not (seen := found()):
        assert time.monotonic() < until, "not in time"
        time.sleep(0.05)
    return seen


@pytest.mark.parametrize("whom", ["runner", "kernel"])
def test_a_run_whose_runner_or_kernel_is_killed_leaves_no_process_and_no_socket(root, sockets, whom):
    task = ([], f"{TASK}\n{SLEEPING}")
    (root / NOTEBOOK).write_text(notebook(cells=(CELLS[0], task, CELLS[3])))
    command = [sys.executable, "-m", "workbench.pipeline.stages", "judge", "small"]
    runner = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        (kernel,) = wait_for(lambda: [p for p in psutil.Process(runner.pid).children() if asleep(p)])
        {"runner": runner, "kernel": kernel}[whom].kill()
        runner.wait(30)
        wait_for(lambda: not kernel.is_running() or kernel.status() == psutil.STATUS_ZOMBIE)
    finally:
        (root / NOTEBOOK).write_text(notebook())
        runner.kill()
    said = runner.communicate()[1]
    assert whom == "runner" or b"the kernel died" in said
    with RunGateway(root, "small", execution(root)) as gateway:
        assert [path for path in sockets.iterdir() if path != gateway.folder] == []
