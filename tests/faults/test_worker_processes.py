"""A run's real processes: whatever ends it, none is left, and what it left behind is told in words.

The version's code is a folder of the test: its worker is a script, the rest of the package is ours.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from workbench import processes
from workbench.errors import DeadlineError, NotebookError, WorkbenchError
from workbench.jobs import runner
from workbench.jobs.runner import Request, WorkerResult

ROOT = Path(__file__).parents[2]
PACKAGE = f"""
__path__.append({str(ROOT / "workbench")!r})
"""
#: What every worker of these tests can do: start a process that nobody waits for, and say that it is there.
WORKER = """
import json, os, signal, subprocess, sys, time
from pathlib import Path

path = Path(sys.argv[1])
request = json.loads(path.read_bytes())

def starts(*command, **how):
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, **how)
    with (path.parent / "pids").open("a") as file:
        file.write(f"{process.pid}\\n")

def result(**said):
    (path.parent / "aside").write_text(json.dumps({"format": 1, **said}))
    (path.parent / "aside").rename(path.with_name("result.json"))

def ready():
    (path.parent / "ready").touch()

"""
#: A grandchild in a session of its own, as a kernel is and what a notebook starts.
GRANDCHILD = """
nested = "import subprocess; subprocess.run(['sleep', '300'], start_new_session=True)"
starts(sys.executable, "-c", nested, start_new_session=True)
"""
STUBBORN = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"


@pytest.fixture
def version(tmp_path):
    """Makes the code of a version whose worker is this script; a request for it."""

    def make(script):
        code = tmp_path / "code"
        (code / "workbench").mkdir(parents=True, exist_ok=True)
        (code / "workbench" / "__init__.py").write_text(PACKAGE)
        (code / "workbench" / "worker.py").write_text(WORKER + script)
        work = tmp_path / "work"
        work.mkdir(exist_ok=True)
        return Request(
            run=f"test{os.getpid()}x{tmp_path.name}", job="answers", use_case="answers", root=str(code),
            home=str(tmp_path), notebook="", cwd="", parameters={}, inputs="", pins={}, arm={}, memory="",
            memories="", mode="replay", tape="", out="", show=False,
        )  # fmt: skip

    return make


@pytest.fixture
def bystander():
    """A process of another run, which nobody may touch."""
    process = subprocess.Popen(["sleep", "300"], env={**os.environ, processes.MARK: "another"})
    yield process
    assert process.poll() is None
    process.kill()
    process.wait()


def run(request, *, seconds=60.0, **given):
    work = Path(request.home) / "work"
    return runner.run(request, python=Path(sys.executable), folder=work, seconds=seconds, **given)


def until(holds, seconds=30):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.02)


def started(request):
    """The processes that the worker noted, of which those that have ended are gone or zombies."""
    path = Path(request.home) / "work" / "pids"
    pids = [int(line) for line in path.read_text().split()] if path.exists() else []
    return [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]


def alive(request):
    noted = [one for one in started(request) if one.status() != psutil.STATUS_ZOMBIE]
    return [*processes.marked(request.run), *noted]


def at_once_ready(request, then):
    """A tick that does something when the worker is ready."""

    def tick():
        if (Path(request.home) / "work" / "ready").exists():
            then()

    return tick


@pytest.mark.parametrize("manner", ["", STUBBORN], ids=["obedient", "stubborn"])
def test_the_deadline_ends_every_process_also_a_grandchild_in_its_own_session(version, bystander, manner):
    request = version(manner + GRANDCHILD + "ready()\ntime.sleep(300)")
    begun = time.monotonic()
    seen = []
    look = at_once_ready(request, lambda: seen.append(len(alive(request))))
    with pytest.raises(
        DeadlineError, match=r"answers: not finished after 2\.5 s; all its processes were ended"
    ):
        run(request, seconds=2.5, tick=look)
    assert max(seen) >= 3, "the worker, its child and the grandchild were there"
    assert not alive(request) and time.monotonic() - begun < 20


def test_what_outlives_a_worker_that_is_done_is_ended_and_its_result_counts(version, bystander):
    request = version(GRANDCHILD + "result(task_digest='t', counts={'rows': 2})")
    assert run(request) == WorkerResult(task_digest="t", counts={"rows": 2})
    assert not alive(request)


def test_what_has_no_mark_any_more_ends_with_its_worker(version, bystander):
    hides = "starts('sleep', '300', start_new_session=True, env={})\nready()\ntime.sleep(300)"
    request = version(hides)
    with pytest.raises(DeadlineError):
        run(request, seconds=3)
    assert not alive(request)


def test_what_is_started_between_the_look_and_the_kill_is_ended_too(bystander, monkeypatch):
    look, marked = processes.marked, {**os.environ, processes.MARK: "mine"}
    made = [subprocess.Popen(["sleep", "300"], env=marked)]

    def looking(run, **_):
        found = look(run)
        if len(made) < 3:
            made.append(subprocess.Popen(["sleep", "300"], env=marked, start_new_session=True))
        return found

    monkeypatch.setattr(processes, "marked", looking)
    processes.end("mine")
    assert [process.wait(5) for process in made] == [-signal.SIGKILL] * 3


def test_a_process_that_ends_by_itself_between_the_look_and_the_kill_is_no_error(monkeypatch):
    look = processes.marked

    def looking(run, **_):
        found = look(run)
        for one in found:
            brief.kill()
            brief.wait()
            assert one.pid == brief.pid
        return found

    monkeypatch.setattr(processes, "marked", looking)
    brief = subprocess.Popen(["sleep", "300"], env={**os.environ, processes.MARK: "brief"})
    processes.end("brief")
    assert brief.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("sys.exit(7)", "the worker ended with code 7 and wrote no result"),
        ("raise RuntimeError('of a row')", "the worker ended with code 1 and wrote no result"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "the worker was killed, perhaps by the system for memory"),
    ],
)
def test_a_worker_that_dies_without_a_word_leaves_nothing_running(version, script, said):
    request = version(GRANDCHILD + script)
    with pytest.raises(NotebookError, match=f"answers: {said}") as caught:
        run(request)
    assert "of a row" not in str(caught.value) and not alive(request)


class Lost(Exception):
    pass


@pytest.mark.parametrize("error", [Lost(), KeyboardInterrupt()])
def test_an_error_of_whoever_waits_ends_the_run_at_once(version, error):
    request = version(GRANDCHILD + "ready()\ntime.sleep(300)")

    def fail():
        raise error

    with pytest.raises(type(error)):
        run(request, tick=at_once_ready(request, fail))
    assert not alive(request)


def test_a_failure_crosses_with_its_exit_code_and_its_hint(version):
    failure = {"kind": "RefusedError", "message": "no key", "hint": "export KEY=…", "exit_code": 1}
    request = version(f"result(failure={failure!r})\nsys.exit(1)")
    with pytest.raises(WorkbenchError, match="answers: no key\n  -> export KEY=…") as caught:
        run(request)
    assert caught.value.exit_code == 1


def test_the_worker_is_asked_first_so_that_it_can_put_things_in_order(version):
    tidy = "signal.signal(signal.SIGTERM, lambda *_: ((path.parent / 'tidy').touch(), os._exit(0)))\n"
    request = version(tidy + "ready()\ntime.sleep(300)")
    with pytest.raises(Lost):
        run(request, tick=at_once_ready(request, lambda: (_ for _ in ()).throw(Lost())))
    assert (Path(request.home) / "work" / "tidy").exists()


CALLER = """
import sys
from pathlib import Path
from workbench.jobs import runner as worker
from workbench import files
import json
request = files.parse(worker.Request, json.loads(Path(sys.argv[1]).read_bytes()), where="x")
worker.run(request, python=Path(sys.executable), folder=Path(request.home) / "work", seconds=300)
"""
#: The real worker's own watch over its caller, in our script.
WATCHING = """
from workbench import processes
processes.end_with_caller(request["run"])
"""


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_ends_when_its_caller_is_killed(version, tmp_path, bystander, sign):
    request = version(WATCHING + GRANDCHILD + "ready()\ntime.sleep(300)")
    path = tmp_path / "request.json"
    path.write_text(json.dumps(dataclasses.asdict(request)))
    caller = subprocess.Popen(
        [sys.executable, "-c", CALLER, str(path)], env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    until((tmp_path / "work" / "ready").exists)
    until(lambda: len(alive(request)) >= 3)
    caller.send_signal(sign)
    assert caller.wait(20) == -sign
    until(lambda: not alive(request))
