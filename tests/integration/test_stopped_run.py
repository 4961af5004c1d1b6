"""A long run that is stopped: by an interrupt of a terminal or of a real kernel, by the panel's button."""

from __future__ import annotations

import queue
import re
import signal
import subprocess
import sys
import time

import pytest
from jupyter_client import KernelManager

pytestmark = pytest.mark.slow
#: An experiment of 500 slow cases, whose runs are printed when they are kept.
SCRIPT = """
import time
from workbench.experiments.dataset import Case, Dataset, Question
from workbench.experiments.experiment import Experiment
from workbench.experiments.scorers import contains
from workbench.experiments.task import task

class Workspace:
    tenant = "acme"

@task
def slow(ws, case: Question) -> str:
    time.sleep(0.1)
    return "q"

def case(n):
    return Case(id=f"c{n}", tenant="acme", inputs={"question": "q"}, expected={"answers": ["q"]})

kept = []
exp = Experiment(name="answers", use_case="answers", bind=lambda *_: Workspace(), describe=lambda _: {},
                 keep=kept.append, concurrency=2)
cases, scorers = Dataset(name="q", cases=tuple(map(case, range(500)))), [contains(name="accuracy")]
"""
TOLD = """
run, = kept
print("kept", run.id, run.settings["ended_by"], 0 < run.n_cases < 500, repr(run.gate_digest))
"""
IN_TERMINAL = f"""{SCRIPT}
try:
    exp.run(slow, cases, scorers=scorers)
except KeyboardInterrupt:
{TOLD.replace(chr(10), chr(10) + "    ")}
"""
KEPT = re.compile(r"kept ([0-9a-f]{12}) stopped True None")


def test_an_interrupt_in_a_terminal_keeps_the_finished_cases(tmp_path):
    (tmp_path / "long.py").write_text(IN_TERMINAL)
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "long.py")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as script:
        assert "of 500 cases" in script.stderr.readline()
        time.sleep(0.5)
        script.send_signal(signal.SIGINT)
        out, err = script.communicate(timeout=60)
    found = KEPT.search(out)
    assert found, out + err
    assert re.search(rf"stopped after \d+ s, kept as run {found[1]}\n", err), err


@pytest.fixture
def kernel():
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(stderr=subprocess.DEVNULL)
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(60)
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def messages(client, cell, *, until):
    """The messages of a cell up to the first of a type; for an end, up to the idle status."""
    found, end = [], time.monotonic() + 60
    while time.monotonic() < end:
        try:
            message = client.get_iopub_msg(timeout=1)
        except queue.Empty:
            continue
        if message["parent_header"].get("msg_id") != cell:
            continue
        found.append(message)
        if message["msg_type"] == until or (
            until == "end" and message["content"].get("execution_state") == "idle"
        ):
            return found
    raise AssertionError(found)


def told(client):
    (text,) = (m["content"]["text"] for m in messages(client, client.execute(TOLD), until="stream")[-1:])
    return KEPT.search(text)[1]


def panel_of(client, call):
    """Start the run, and return its cell and the panel that is shown below it."""
    messages(client, client.execute(SCRIPT), until="end")
    cell = client.execute(call)
    shown = messages(client, cell, until="display_data")[-1]["content"]["data"]
    time.sleep(0.5)
    return cell, shown


def check_ended(client, cell, *, error):
    seen = messages(client, cell, until="end")
    (ended,) = (m["content"]["ename"] for m in seen if m["msg_type"] == "error")
    last = [m["content"]["data"]["text/plain"] for m in seen if m["msg_type"] == "update_display_data"][-1]
    assert ended == error and f"kept as run {told(client)}" in last and "stopped after" in last


def test_an_interrupt_of_a_cell_that_waits_keeps_the_finished_cases(kernel):
    manager, client = kernel
    cell, shown = panel_of(client, "exp.run(slow, cases, scorers=scorers)")
    assert "interrupt the kernel" in shown["text/plain"] and "of 500 cases" in shown["text/plain"]
    manager.interrupt_kernel()
    check_ended(client, cell, error="KeyboardInterrupt")


def test_the_button_stops_a_run_that_is_awaited(kernel):
    _, client = kernel
    cell, shown = panel_of(client, "await exp.run_async(slow, cases, scorers=scorers)")
    assert "interrupt the kernel" not in shown["text/plain"]
    front = shown["application/vnd.jupyter.widget-view+json"]["model_id"]
    pressed = {"method": "custom", "content": {"action": "stop", "value": None}}
    client.shell_channel.send(client.session.msg("comm_msg", {"comm_id": front, "data": pressed}))
    check_ended(client, cell, error="RunStoppedError")
