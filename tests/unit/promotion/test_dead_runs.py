"""What a killed run leaves, its rows above all, is gone after the next look at the ledger."""

from __future__ import annotations

import datetime as dt
import os
import signal
import subprocess
import sys

import pytest

from workbench import layout
from workbench.jobs import run as jobs
from workbench.jobs.ledger import Slot
from workbench.jobs.ledger.sqlite import SqliteLedger
from workbench.processes import MARK
from workbench.testing.fakes import FakeClock


@pytest.fixture
def book(tmp_path):
    return SqliteLedger(tmp_path / layout.JOB_LEDGER, clock=FakeClock())


def claimed(book, run, *, pid):
    """A running run of a slot of its own, which lives as long as this process."""
    slot = Slot(job="answers", tenant="", at=dt.datetime(2026, 11, 24, len(book.history()), tzinfo=dt.UTC))
    book.claim(slot, run=run, version=1, input_digest="i")
    book.started(run, pid)


def dead_pid():
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


def left_behind(root, run):
    """The files of a run in the middle of its work."""
    rows = root / layout.JOB_WORK / run / "input" / "rows.jsonl"
    copies = [root / layout.EXECUTED / f"task-{run}{end}" for end in (".ipynb", ".used", ".progress")]
    for path in (rows, *copies):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a row")
    return {rows, *copies}


def there(root):
    return {path for path in (root / ".workbench/cache").rglob("*") if path.is_file()}


def test_rows_and_copies_of_dead_runs_are_removed_and_those_of_living_runs_are_not(tmp_path, book):
    claimed(book, "dead", pid=dead_pid())
    claimed(book, "alive", pid=os.getpid())
    left_behind(tmp_path, "dead")
    kept = left_behind(tmp_path, "alive")
    found = jobs.ledger(tmp_path, FakeClock())
    assert {run.run: run.state for run in found.history()} == {"alive": "running", "dead": "lost"}
    assert there(tmp_path) == kept and not (tmp_path / layout.JOB_WORK / "dead").exists()


def test_a_look_that_died_before_it_had_removed_them_is_made_up_for(tmp_path, book):
    claimed(book, "dead", pid=dead_pid())
    left_behind(tmp_path, "dead")
    assert [run.run for run in book.reconcile()] == ["dead"]  # and no more
    jobs.ledger(tmp_path, FakeClock())
    assert there(tmp_path) == set()


def test_a_process_that_outlived_its_run_is_ended(tmp_path, book):
    claimed(book, "dead", pid=dead_pid())
    left_behind(tmp_path, "dead")
    waits = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(waits, stdin=subprocess.PIPE, env={**os.environ, MARK: "dead"}) as orphan:
        jobs.ledger(tmp_path, FakeClock())
        assert orphan.wait(timeout=10) == -signal.SIGKILL
