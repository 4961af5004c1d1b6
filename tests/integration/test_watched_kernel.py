"""A real kernel, started as a promotion's clean run starts one, with the watch set before its first cell."""

from __future__ import annotations

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import nbformat
import papermill
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from workbench.config import Execution
from workbench.notebooks.execution import Watched, execute
from workbench.records.egress import reported

ON_LINUX = sys.platform == "linux"
PLAIN = """
import ctypes.util, multiprocessing, pathlib, platform, uuid
import aiohttp, jinja2, numpy, openai, orjson, polars, pydantic, xllamacpp
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from tqdm.auto import tqdm
import workbench

polars.DataFrame({"n": numpy.arange(3)}).write_parquet("frame.parquet")
assert polars.read_parquet(pathlib.Path("frame.parquet")).height == 3
assert [n for n in tqdm(range(3))] == [0, 1, 2]
openai.OpenAI(api_key="none", base_url="http://127.0.0.1:9/v1")
platform.platform(), platform.processor(), uuid.uuid1(), ctypes.util.find_library("c")
for method in ("fork", "spawn", "forkserver"):
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
        assert pool.submit(abs, -1).result() == 1
"""
AROUND = """
import socket
import subprocess
import urllib.request

socket.create_connection(("127.0.0.1", port)).close()
assert urllib.request.urlopen(f"http://localhost:{port}/").read() == b"ok"
subprocess.run(["true"], check=True)
!true
"""
FETCH = """
import aiohttp

async def fetch():
    async with aiohttp.ClientSession() as session, session.get(f"http://localhost:{port}/") as response:
        return await response.text()
"""
UNMARKED = "import asyncio\n\nassert await asyncio.create_task(fetch()) == 'ok'"
ON_A_THREAD = """
import http.client
from concurrent.futures import ThreadPoolExecutor

with ThreadPoolExecutor(1) as pool:
    pool.submit(http.client.HTTPConnection("127.0.0.1", port).connect).result()
"""
CROSSING = """
import asyncio
import socket
from workbench.records.egress import crossing, marked

async def stream():
    for _ in range(2):
        yield await asyncio.create_task(fetch())

with crossing():
    socket.create_connection(("127.0.0.1", port)).close()
    assert await asyncio.create_task(fetch()) == "ok"
assert [text async for text in marked(stream())] == ["ok", "ok"]
"""


class Ok(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


@pytest.fixture
def port():
    with ThreadingHTTPServer(("127.0.0.1", 0), Ok) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture
def opened(tmp_path, port):
    """What is reported of a notebook with these cells."""

    def run(*cells):
        notebook = new_notebook(cells=[new_code_cell(cell.strip()) for cell in (f"port = {port}", *cells)])
        nbformat.write(notebook, tmp_path / "in.ipynb")
        path = tmp_path / "opened.jsonl"
        watch = f"__import__('workbench.records.egress').records.egress.watch({str(path)!r})"
        papermill.execute_notebook(
            str(tmp_path / "in.ipynb"),
            str(tmp_path / "out.ipynb"),
            kernel_name="python3",
            language="python",
            progress_bar=False,
            cwd=str(tmp_path),
            extra_arguments=["--IPKernelApp.log_level=ERROR", f"--IPKernelApp.exec_lines={watch}"],
        )
        return [tuple(report.values()) for report in reported(path)]

    return run


def test_plain_work_is_not_reported(opened):
    assert opened(PLAIN) == []


def test_what_a_cell_opens_is_reported_once_with_its_line(opened, port):
    server = f"127.0.0.1:{port}"
    *first, shell = opened(AROUND)
    assert first == [
        ("socket.connect", server, "cell In[2], line 5"),
        ("socket.connect", server, "cell In[2], line 6"),
        ("subprocess.Popen", "true", "cell In[2], line 7"),
    ]
    assert shell[2] == "cell In[2], line 8"


def test_a_connection_of_a_task_or_a_thread_is_reported_too(opened, port):
    server = f"127.0.0.1:{port}"
    assert opened(FETCH, UNMARKED, ON_A_THREAD) == [
        ("socket.connect", server, "cell In[2], line 4"),
        ("socket.connect", server, "inside the standard library, while cell In[4] ran"),
    ]


def test_what_is_opened_in_a_crossing_is_not_reported(opened):
    assert opened(FETCH, CROSSING) == []


GUARDED = """
import asyncio
import pathlib
import workbench as wb
from workbench.records.egress import crossing

async def read():
    with crossing():
        return await asyncio.to_thread(pathlib.Path("expected.jsonl").read_text)

assert open("inputs.jsonl").read() == pathlib.Path("results/../inputs.jsonl").read_text()
text = await read()
open("results/gate.json", "rb").close()
"""
NATIVE = """
import polars as pl
pl.read_ndjson("expected.jsonl"), pl.scan_ndjson("results/*.json").collect(), pl.read_ndjson("inputs.jsonl")
"""


@pytest.mark.parametrize("folder", ["it's \"a\" {prefix} {x} 100% jürgen's", "tab\t='$HOME'"])
def test_the_opening_of_a_guarded_file_is_reported_from_a_folder_of_any_name(tmp_path, folder):
    root = tmp_path / folder
    (root / "results").mkdir(parents=True)
    (root / "params.yaml").touch()
    for name in ("inputs.jsonl", "expected.jsonl", "results/gate.json", "results/other.json"):
        (root / name).write_text('{"n": 1}')
    parameters = new_code_cell("n = 1", metadata={"tags": ["parameters"]})
    codes = [new_code_cell(code.strip()) for code in (GUARDED, NATIVE)]
    nbformat.write(new_notebook(cells=[parameters, *codes]), root / "task.ipynb")
    watched = Watched(report=root / "opened.jsonl", guarded=(root / "expected.jsonl", root / "results"))
    execution = Execution(notebook="task.ipynb")
    execute(root / "task.ipynb", root=root, parameters={}, execution=execution, watch=watched, show=False)
    assert [tuple(report.values()) for report in reported(root / "opened.jsonl")] == [
        ("open", "expected.jsonl", "inside the standard library, while cell In[2] ran"),
        ("open", "results/gate.json", "cell In[2], line 12"),
        *[("open", "results/other.json", "inside a library, or in another process")] * ON_LINUX,
    ]


@pytest.mark.parametrize(("failures", "fits"), [(0, True), (2, True), (3, False)])
def test_a_kernel_that_ends_before_it_is_ready_is_started_again(monkeypatch, tmp_path, failures, fits):
    from workbench.errors import NotebookError
    from workbench.notebooks import execution

    tried = []

    def start(*_):
        tried.append(1)
        if len(tried) <= failures:
            raise RuntimeError("Kernel died before replying to kernel_info")

    monkeypatch.setattr(execution, "_run_papermill", start)
    kernel = execution._Kernel(path=tmp_path / "n.ipynb", parameters={})
    if fits:
        execution._papermill(tmp_path / "n.ipynb", tmp_path / "o.ipynb", {}, kernel)
    else:
        with pytest.raises(NotebookError, match="the kernel died"):
            execution._papermill(tmp_path / "n.ipynb", tmp_path / "o.ipynb", {}, kernel)
    assert len(tried) == min(failures + 1, 3)


def test_another_error_of_starting_a_kernel_is_raised_as_it_is(monkeypatch, tmp_path):
    from workbench.notebooks import execution

    def start(*_):
        raise RuntimeError("no running event loop")

    monkeypatch.setattr(execution, "_run_papermill", start)
    with pytest.raises(RuntimeError, match="no running event loop"):
        execution._papermill(
            tmp_path / "n.ipynb",
            tmp_path / "o.ipynb",
            {},
            execution._Kernel(path=tmp_path / "n.ipynb", parameters={}),
        )
