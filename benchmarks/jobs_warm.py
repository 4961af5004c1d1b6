"""One job on a server with --warm, on a cold server, and its notebook by plain papermill: CPU, in turns.

`python -m benchmarks.jobs_warm` prints the figures as JSON. CPU is user and system, of the command,
its worker and its kernel. What a server and its templates use by themselves is not in it.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

from workbench.context import SystemClock
from workbench.forking.template import OPTION
from workbench.jobs.ledger import RunOrder, Slot, open_ledger

ROUNDS = 5
PLAIN = """
import sys, papermill
papermill.execute_notebook(*sys.argv[1:3], parameters={"inputs": sys.argv[3]}, kernel_name="python3",
                           progress_bar=False, log_output=False, cwd="notebooks")
"""


def measured() -> Mapping[str, float]:
    """Seconds of CPU of a run by each of the three, medians of `ROUNDS` turns, and MB of both templates."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests/support"))
    from warm_jobs import frozen_notebook, warm_repository

    with tempfile.TemporaryDirectory() as name:
        root = warm_repository(Path(name) / "repo")
        number = frozen_notebook(root, "said = 7")
        task = root / f"pipelines/jobs/small/{number}/task.ipynb"
        with _server(root, "--warm") as warm, _server(root) as cold:
            first = iter(range(1, 1_000))
            for _ in range(2):  # compiles what is not compiled, and orders the template of the version
                _run(root, warm, cold, next(first))
            until = time.monotonic() + 60
            while len(_templates(warm)) < 2 and time.monotonic() < until:
                time.sleep(0.5)
            time.sleep(5)  # until the version's template listens
            cold.suspend()
            found: dict[str, list[float]] = {"warm": [], "cold": [], "plain": []}
            for _ in range(ROUNDS):
                found["plain"].append(_plain(root, task))
                for which, server, other in (("warm", warm, cold), ("cold", cold, warm)):
                    found[which].append(_run(root, server, other, next(first)))
            assert len(_templates(warm)) == 2 and not _templates(cold)
            sizes = {"mb": sum(item.memory_info().rss for item in _templates(warm)) / 1e6}
        outcomes = {run.outcome for run in open_ledger(root, SystemClock()).history(limit=1_000)}
        assert outcomes == {"published"}, outcomes
    return {which: statistics.median(values) for which, values in found.items()} | sizes


@contextmanager
def _server(root: Path, *options: str) -> Iterator[psutil.Process]:
    command = [sys.executable, "-m", "workbench.cli", "jobs", "serve", "--address", "127.0.0.1:0", *options]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    process = subprocess.Popen(command, cwd=root, env=environment, stderr=subprocess.DEVNULL)
    try:
        yield psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait()


def _run(root: Path, server: psutil.Process, other: psutil.Process, number: int) -> float:
    """Seconds of CPU of one run by a server, while the other one is stopped."""
    other.suspend()
    server.resume()
    begun = _of_children(server)
    at = dt.datetime(2026, 10, 1, tzinfo=dt.UTC) + dt.timedelta(minutes=number)
    ledger = open_ledger(root, SystemClock())
    ledger.enqueue(RunOrder(slot=Slot(job="small", tenant="", at=at), trigger="backfill"))
    while ledger.unfinished():
        time.sleep(0.05)
    time.sleep(0.5)  # until the command has ended, too
    return _of_children(server) - begun


def _of_children(server: psutil.Process) -> float:
    """Seconds of CPU of the processes that ended below a server: its own children, and the forked ones."""
    times = [process.cpu_times() for process in (server, *_templates(server))]
    return sum(item.children_user + item.children_system for item in times)


def _templates(server: psutil.Process) -> list[psutil.Process]:
    return [child for child in server.children() if OPTION in child.cmdline()]


def _plain(root: Path, task: Path) -> float:
    """Seconds of CPU of the notebook by papermill alone."""
    begun = os.times()
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", PLAIN, str(task), str(root / "executed.ipynb"), "data/rows.jsonl"]
    subprocess.run(command, cwd=root, env=environment, check=True, stderr=subprocess.DEVNULL)
    ended = os.times()
    return ended.children_user + ended.children_system - begun.children_user - begun.children_system


if __name__ == "__main__":
    print(json.dumps(measured()))
