"""The ledger and real processes: who is told from whom, and who wins."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from workbench.jobs.ledger import Host
from workbench.jobs.ledger import host as module
from workbench.jobs.ledger.sqlite import SqliteLedger
from workbench.testing.fakes import FakeClock

HOUR = 3600


def test_a_process_is_told_from_a_later_one_of_its_number_and_from_one_that_has_ended():
    here = Host.here()
    mine = here.process_started_at(os.getpid())
    assert mine and here.process_started_at(os.getpid()) == mine
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert here.process_started_at(child.pid) not in {None, "", mine}
    finally:
        child.kill()
        while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
            pass
    assert here.process_started_at(child.pid) is None, "killed, and its parent has not looked yet"
    child.communicate()
    assert here.process_started_at(child.pid) is None


def test_a_clock_that_was_set_does_not_change_when_a_process_began(monkeypatch):
    before = Host.here().process_started_at(os.getpid())
    created = psutil.Process().create_time()
    boot = psutil.boot_time()
    monkeypatch.setattr(psutil._pslinux, "boot_time", lambda: boot + HOUR)
    assert psutil.Process().create_time() == pytest.approx(created + HOUR)
    assert Host.here().process_started_at(os.getpid()) == before


def test_where_there_is_no_proc_the_process_itself_is_asked(monkeypatch):
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    here = Host.here()
    assert float(here.process_started_at(os.getpid())) == pytest.approx(
        psutil.Process().create_time(), abs=0.01
    )
    monkeypatch.setattr(psutil, "pid_exists", lambda pid: pid == 1)
    monkeypatch.setattr(psutil, "Process", lambda pid: (_ for _ in ()).throw(psutil.AccessDenied(pid)))
    assert here.process_started_at(1) == "" and here.process_started_at(2) is None


def test_a_container_is_a_host_of_its_own(monkeypatch):
    names = set()
    for namespace in (module._MACHINE, "pid:[7]", "pid:[8]"):
        monkeypatch.setattr(Path, "readlink", lambda _, to=namespace: Path(to))
        names.add(Host.here().name)
    node = platform.node()
    assert names == {node, f"{node}/pid:[7]", f"{node}/pid:[8]"}


RACER = """
import datetime as dt, sys
from pathlib import Path
from workbench.context import SystemClock
from workbench.errors import RefusedError
from workbench.jobs.ledger import Slot
from workbench.jobs.ledger.sqlite import SqliteLedger

ledger = SqliteLedger(Path(sys.argv[1]), clock=SystemClock())
print("ready", flush=True)
input()
for n in range(10):
    at = dt.datetime(2026, 11, 24, n, tzinfo=dt.UTC)
    try:
        ledger.claim(Slot(job="j", tenant="", at=at), run=f"{sys.argv[2]}-{n}", version=1, input_digest="i")
        print(n, flush=True)
    except RefusedError:
        pass
print("done", flush=True)
input()
"""


def racer(path, name):
    return subprocess.Popen(
        [sys.executable, "-c", RACER, str(path), name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def said(process):
    """The lines until the last one, "done"; a process that dies before it fails the test."""
    lines = []
    for line in process.stdout:
        if line == "done\n":
            return lines
        lines.append(line)
    return pytest.fail(f"a process ended early: {process.wait()}")


def test_of_processes_that_claim_one_slot_at_once_exactly_one_wins(tmp_path):
    path = tmp_path / "jobs.db"
    racers = [racer(path, f"p{n}") for n in range(4)]
    for each in racers:
        assert each.stdout.readline() == "ready\n"
    for each in racers:
        each.stdin.write("go\n")
        each.stdin.flush()
    won = [said(each) for each in racers]
    assert sorted(int(n) for mine in won for n in mine) == list(range(10))
    ledger = SqliteLedger(path, clock=FakeClock())
    assert ledger.reconcile() == [] and len(ledger.history()) == 10
    for each in racers[:2]:
        each.send_signal(signal.SIGKILL)
        each.communicate()
    assert len(ledger.reconcile()) == len(won[0]) + len(won[1])
    for each in racers[2:]:
        each.communicate("\n")
    assert len(ledger.reconcile()) == len(won[2]) + len(won[3])
    assert {run.state for run in ledger.history()} == {"lost"}
