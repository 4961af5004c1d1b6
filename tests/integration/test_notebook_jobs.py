"""The Notebook Jobs panel over the REST API of a real server: it runs promoted versions, and those only."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid

import polars as pl
import pytest
from clone_edits import INBOX, edit_cells, source

from workbench import processes
from workbench.context import SystemClock
from workbench.jobs.ledger import open_ledger

pytest_plugins = ("promoted_clones",)
pytestmark = pytest.mark.integration
#: Started thus, the processes of the server do not import it again.
START = (
    "from workbench import schemas; schemas.jsonschema(); from jupyter_server.serverapp import main; main()"
)
#: Of a start or a run on a machine that does much else.
LONGEST_S = 150
TOKEN = "token-of-this-test"
ONE = "data/inbox/one.parquet"
COPY = re.compile(r"answers-.*\.ipynb")


class Panel:
    """A server with the panel, in a clone with a version in production."""

    def __init__(self, clone, port):
        self.clone, self.root, self.port = clone, clone.folder, port
        self.ledger = open_ledger(self.root, SystemClock())

    def ask(self, method, path, body=None):
        """The status and the JSON of a request."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/scheduler/{path}", method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"token {TOKEN}"},
        )  # fmt: skip
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, json.loads(response.read() or "null")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def order(self, notebook="notebooks/answers.ipynb", *, formats=("ipynb",), **parameters):
        body = {
            "input_uri": notebook, "name": "by hand", "runtime_environment_name": "python",
            "output_formats": formats, "parameters": parameters,
        }  # fmt: skip
        return self.ask("POST", "jobs", body)

    def started(self, **parameters):
        status, found = self.order(**parameters)
        assert status == 200, found
        return found["job_id"]

    def ended(self, job_id):
        return self.until(job_id, lambda job: job["status"] in {"COMPLETED", "FAILED", "STOPPED"})

    def until(self, job_id, holds, seconds=LONGEST_S):
        until = time.monotonic() + seconds
        while True:
            _, job = self.ask("GET", f"jobs/{job_id}")
            if holds(job):
                return job
            assert time.monotonic() < until, job
            time.sleep(0.1)

    def running(self, job_id, count):
        """Wait until a run has its slot and so many processes: the command, its worker, the kernel."""
        run = uuid.UUID(job_id).hex
        until = time.monotonic() + LONGEST_S
        while [line.state for line in self.lines(run)] != ["running"] or len(processes.marked(run)) < count:
            assert time.monotonic() < until
            time.sleep(0.05)
        return run

    def lines(self, run):
        return [line for line in self.ledger.history("answers", limit=100) if line.run == run]


@pytest.fixture(scope="module")
def panel(promoted, tmp_path_factory):
    clone = promoted.clone.copied(tmp_path_factory.mktemp("panel"))
    pl.read_parquet(clone.folder / INBOX).head(1).write_parquet(clone.folder / ONE)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = clone.environment(
        JUPYTER_CONFIG_PATH=str(clone.folder / ".jupyter"), JUPYTER_PREFER_ENV_PATH="0"
    )
    options = [f"--ServerApp.port={port}", "--ServerApp.port_retries=0", "--no-browser", "--allow-root"]
    with (clone.home / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-c", START, *options, f"--IdentityProvider.token={TOKEN}",
             f"--ServerApp.root_dir={clone.folder}"],
            cwd=clone.folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    made = Panel(clone, port)
    try:
        _wait(server, made, clone.home / "server.log")
        yield made
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)


def _wait(server, panel, log):
    until = time.monotonic() + LONGEST_S
    while True:
        assert server.poll() is None and time.monotonic() < until, log.read_text()
        try:
            panel.ask("GET", "config")
        except urllib.error.URLError:
            time.sleep(0.1)
        else:
            return


def test_a_run_of_the_panel_is_the_run_of_the_command_and_gives_back_its_card(panel):
    job = panel.ended(panel.started(formats=("ipynb", "html"), input=ONE, at="2026-11-24T06:00Z"))
    assert job["status"] == "COMPLETED", job
    (line,) = panel.lines(uuid.UUID(job["job_id"]).hex)
    assert (line.outcome, line.version, line.rows) == ("published", 1, 1)
    assert (panel.root / "published/answers/all/20261124T060000Z/manifest.json").is_file()
    assert panel.ask("GET", f"jobs/{job['job_id']}/download_files")[0] == 204
    found = panel.until(job["job_id"], lambda job: job["downloaded"])
    files = {item["file_format"]: panel.root / item["file_path"] for item in found["job_files"]}
    cells = json.loads(files["ipynb"].read_text())["cells"]
    assert "answers@1" in source(cells[0]) and "published" in source(cells[0])
    task = json.loads((panel.root / "pipelines/jobs/answers/1/task.ipynb").read_text())["cells"]
    assert {source(cell) for cell in task} <= {source(cell) for cell in cells}
    assert "answers@1" in files["html"].read_text()
    assert (panel.root / "published/_panel").stat().st_mode & 0o077 == 0
    assert panel.clone.status() == f"?? {ONE}\n"


def test_the_panel_shows_runs_that_the_command_started(panel):
    panel.clone.run(
        "workbench", "jobs", "run", "answers", "--at", "2026-11-20T06:00Z", "--input", "none.jsonl", code=2
    )
    (line,) = (line for line in panel.ledger.history("answers") if f"{line.slot.at:%d}" == "20")
    status, found = panel.ask("GET", "jobs?sort_by=desc(create_time)")
    assert status == 200
    shown = found["jobs"][0]
    assert (shown["job_id"], shown["status"]) == (f"run-{line.run}", "FAILED")
    assert "none.jsonl" in shown["status_message"]
    assert panel.ask("GET", f"jobs/{shown['job_id']}")[1]["name"] == shown["name"]
    assert panel.ask("DELETE", f"jobs/{shown['job_id']}")[0] == 500


def test_a_notebook_that_is_no_promoted_version_has_no_run_and_no_row(panel):
    before = panel.ledger.history(limit=100), panel.ask("GET", "jobs")[1]["total_count"]
    changed = panel.root / "notebooks" / "changed.ipynb"
    changed.write_bytes((panel.root / "notebooks/answers.ipynb").read_bytes())
    edit_cells(panel.root, lambda cells: cells.append(_cell("print('more')")), "notebooks/changed.ipynb")
    try:
        status, found = panel.order("notebooks/changed.ipynb", job="answers")
        assert status == 500 and "workbench promote job/answers" in found["message"]
        status, found = panel.order("notebooks/changed.ipynb")
        assert status == 500 and "no promoted version" in found["message"]
    finally:
        changed.unlink()
    status, found = panel.order(k="3")
    assert status == 500 and "frozen" in found["message"]
    schedule = {
        "input_uri": "notebooks/answers.ipynb", "name": "nightly", "runtime_environment_name": "python",
        "schedule": "99 * * * *", "timezone": "Mars/Base",
    }  # fmt: skip
    status, found = panel.ask("POST", "job_definitions", schedule)
    assert status == 500 and "jobs.NAME.schedule" in found["message"]
    assert (panel.ledger.history(limit=100), panel.ask("GET", "jobs")[1]["total_count"]) == before


def _cell(text):
    return {
        "cell_type": "code", "id": "more", "metadata": {}, "source": text, "outputs": [],
        "execution_count": None,
    }  # fmt: skip


def test_a_failed_run_is_failed_in_the_panel_with_one_line_in_the_history(panel):
    job = panel.ended(panel.started(input="none.jsonl"))
    assert job["status"] == "FAILED" and "none.jsonl" in job["status_message"] and job["end_time"]
    (line,) = panel.lines(uuid.UUID(job["job_id"]).hex)
    assert line.outcome == "refused"


def test_a_stopped_run_ends_with_its_processes_and_one_line(panel):
    job_id = panel.started(input=ONE, at="2026-11-25T06:00Z")
    run = panel.running(job_id, 2)
    assert panel.ask("PATCH", f"jobs/{job_id}", {"status": "STOPPED"})[0] == 204
    assert panel.ended(job_id)["status"] == "STOPPED"
    assert processes.marked(run) == []
    assert [line.outcome for line in panel.lines(run)] == ["interrupted"]


def test_a_killed_run_leaves_no_process_and_one_line_and_is_failed(panel):
    job_id = panel.started(input=ONE, at="2026-11-26T06:00Z")
    run = panel.running(job_id, 3)
    command = min(processes.marked(run), key=lambda process: process.create_time())
    os.kill(command.ppid(), signal.SIGKILL)
    until = time.monotonic() + LONGEST_S
    while processes.marked(run):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert panel.ended(job_id)["status"] == "FAILED"
    assert [line.outcome for line in panel.lines(run)] == ["failed"]
