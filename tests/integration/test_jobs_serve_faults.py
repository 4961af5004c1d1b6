"""A real server of jobs whose kernels eat memory, fork, print and hang: it goes on and says why."""

from __future__ import annotations

import json

import polars as pl
import pytest
from clone_edits import add_to_task, processes, reforged, rows, runs

from workbench import files
from workbench.config import Limits
from workbench.context import SystemClock
from workbench.jobs.ledger import open_ledger

pytest_plugins = ("promoted_clones",)
pytestmark = [pytest.mark.slow, pytest.mark.integration, pytest.mark.timeout(600)]

#: The cell before the task: the question of the slot's row says what it does.
FAULTY = """\
import os, time
import polars as _pl
_said = _pl.read_parquet(inputs)["question"][0]
if _said == "eat":
    _kept = []
    while True:
        _kept.append(b"x" * (20 << 20))
elif _said == "fork":  # bounded, because the system does not bound the processes of root
    _reading, _writing = os.pipe()
    os.write(_writing, b"x" * 300)
    while os.read(_reading, 1):
        os.fork()
elif _said == "print and hang":
    for _ in range(12_000):  # more than may be kept
        print("x" * 1_000)
    time.sleep(100_000)
"""
#: What the row of each slot asks, and what the history says of it.
SLOTS = {
    1: ("eat", "more than 1500 MB of memory"),
    2: ("fork", "more than 60 processes at once"),
    3: ("print and hang", "not finished after 60 s"),
    4: ("When does the desk open?", ""),
}
OPERATIONS = """\
capacity: {runs: 3}
channels: {kept: {file: .workbench/told.jsonl}}
defaults: {notify: [kept], retries: {times: 0}, bounds: {processes: 60, memory_mb: 1500}}
"""


def told(clone):
    path = clone.folder / ".workbench/told.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.drawn("servers whose kernels misbehave", 1)
def test_kernels_that_misbehave_fail_alone_with_their_reason_and_leave_no_process(promoted_clone):
    clone = promoted_clone
    reforged(clone, add_to_task(FAULTY), limits=Limits(seconds=60))
    for day, (question, _) in SLOTS.items():
        frame = pl.DataFrame([{"id": f"row-{day}", "tenant": "acme", "question": question}])
        rows(clone, f"data/inbox/2026-11-0{day}.parquet", frame)
    files.write_atomic(clone.folder / "pipelines/operations.yaml", OPERATIONS.encode())
    clone.run("workbench", "jobs", "backfill", "answers", "2026-11-01", "2026-11-04")
    said = clone.run("workbench", "jobs", "serve", "--once", code=1)
    assert "the server tries again" not in said and "Traceback" not in said

    ended = {run.slot.at.day: run for run in runs(clone) if run.trigger == "backfill"}
    assert ended.keys() == SLOTS.keys()
    for day, (_, why) in SLOTS.items():
        run = ended[day]
        assert run.outcome == (("deadline" if "finished" in why else "failed") if why else "published"), run
        assert why in run.detail, run.detail
    failed = {day for day, (_, why) in SLOTS.items() if why}
    # The server also runs the slot of today, without an input, when its time comes meanwhile.
    days = {f"2026-11-0{day}" for day in SLOTS}
    notices = [(notice["event"], at) for notice in told(clone) if (at := notice["at"][:10]) in days]
    assert sorted(at for event, at in notices if event == "failed") == [
        f"2026-11-0{day}" for day in sorted(failed)
    ]
    assert {event for event, _ in notices} <= {"failed", "recovered"}, "a good slot may follow a bad one"
    assert processes(clone) == [] and open_ledger(clone.folder, SystemClock()).unfinished() == []
    executed = clone.folder / ".workbench/cache/executed"
    assert sum(path.stat().st_size for path in executed.glob("*")) < 10 << 20, "what is printed is bounded"
    assert not list((clone.folder / ".workbench/cache/jobs").glob("*"))
