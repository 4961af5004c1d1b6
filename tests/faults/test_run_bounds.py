"""The bounds of a run's processes together: their number and memory, looked at from outside."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time

import pytest

from workbench import files, processes
from workbench.config.operations import OPERATIONS, load_operations
from workbench.config.run_bounds import RunBounds
from workbench.context import SystemClock
from workbench.errors import ConfigError, LimitExceededError
from workbench.forking import state
from workbench.jobs.run_watch import RunWatch
from workbench.testing.fakes import FakeClock

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a watch reads /proc")
#: Each process that gets one of some bytes starts another, so that they are no more than there are bytes.
BOMB = """
import os, sys
reading, writing = os.pipe()
os.write(writing, b"x" * {most})
while os.read(reading, 1):
    os.fork()
"""
EATS = """
kept = [b"x" * (1 << 20) for _ in range({most})]
import time
time.sleep(600)
"""
SHARES = """
import os, time
kept = b"".join(os.urandom(1 << 20) for _ in range({most}))
for _ in range(15):
    if not os.fork():
        break
time.sleep(600)
"""
#: Gets its mark as a process does that a template forked, when it is told to.
MARKED = """
import sys
from workbench.forking import state
print("forked", flush=True)
sys.stdin.readline()
state.set_mark(sys.argv[1])
print("marked", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def started():
    """Starts a program with the mark of a run of its own, in a session of its own, as a worker is."""
    made = []

    def start(code, **given):
        run = secrets.token_hex(8)
        command = [sys.executable, "-c", code.format(**given)]
        environment = {**os.environ, processes.MARK: run}
        made.append((run, subprocess.Popen(command, env=environment, start_new_session=True)))
        return run

    yield start
    for run, process in made:
        processes.end(run)
        process.kill()
        process.wait()


def raised(run, bounds):
    """What a watch says within half a minute."""
    watch, until = RunWatch("answers", run, bounds, SystemClock()), time.monotonic() + 30

    def look():
        while time.monotonic() < until:
            watch()

    with pytest.raises(LimitExceededError) as caught:
        look()
    return caught.value


def test_a_run_with_too_many_processes_is_ended_and_none_of_them_is_left(started):
    run = started(BOMB, most=300)
    error = raised(run, RunBounds(processes=20))
    assert (error.limit, "answers: more than 20 processes at once" in error.message) == ("processes", True)
    assert "bounds.processes" in error.hint
    processes.end(run)
    assert processes.marked(run) == []


def test_processes_that_start_others_all_the_time_are_ended_at_once(started):
    """One killed after the other, they would be followed by those that the others start meanwhile."""
    run = started(BOMB, most=400)
    assert processes.kill_marked(run) >= 1
    until = time.monotonic() + 20
    while processes.marked(run):  # what was killed is listed until its parent or init has noticed
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_run_with_too_much_memory_is_ended(started):
    run = started(EATS, most=200)
    error = raised(run, RunBounds(memory_mb=100))
    assert error.limit == "memory_mb" and "more than 100 MB of memory" in error.message


def test_memory_that_forked_processes_share_counts_once(started):
    run = started(SHARES, most=100)
    watch, until = RunWatch("answers", run, RunBounds(memory_mb=500), SystemClock()), time.monotonic() + 30
    while len(watch.members()) < 16:
        assert time.monotonic() < until
    for _ in range(3):
        watch._next = 0.0
        watch()
    assert raised(run, RunBounds(memory_mb=100)).limit == "memory_mb"


def test_the_processes_of_another_run_do_not_count(started):
    started(BOMB, most=60)
    watch = RunWatch("answers", started(EATS, most=1), RunBounds(processes=4), SystemClock())
    until = time.monotonic() + 30
    while not watch.members():
        assert time.monotonic() < until
    for _ in range(3):
        assert len(watch.members()) == 1
    assert RunWatch("answers", "nobody", RunBounds(), SystemClock()).members() == []


def test_a_process_of_a_template_counts_from_when_it_has_its_mark():
    """A look between its fork and its mark says nothing about it for the looks that follow."""
    run = secrets.token_hex(8)
    environment = {**os.environ, processes.MARK: state.ROOM, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", MARKED, run]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout.readline() == b"forked\n"
        watch = RunWatch("answers", run, RunBounds(), SystemClock())
        assert watch.members() == []
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"marked\n"
        assert watch.members() == [process.pid]


def test_a_look_is_taken_twice_a_second():
    clock = FakeClock()
    watch, looks = RunWatch("answers", "nobody", RunBounds(), clock), []
    watch.members = lambda: looks.append(1) or []
    for _ in range(10):
        watch()
        clock.advance(0.125)
    assert len(looks) == 3


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ("processes: 1", "bounds.processes must be from 4"),
        ("memory_mb: 1", "bounds.memory_mb must be from 64"),
    ],
)
def test_bounds_within_which_nothing_works_are_refused_with_their_key(tmp_path, stated, said):
    files.write_atomic(tmp_path / OPERATIONS, f"defaults: {{bounds: {{{stated}}}}}\n".encode())
    with pytest.raises(ConfigError, match=said) as caught:
        load_operations(tmp_path)
    assert caught.value.hint
