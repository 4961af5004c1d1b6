"""Runs of a job that are forked from templates, in real kernels: nothing of a run is in the next one.

A cold run takes four times as long as a forked one. The few that are made are those which the tests of forked
runs are compared with.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import psutil
import pytest
from made_jobs import copied
from made_repositories import git
from warm_jobs import frozen_notebook, warm_repository

from workbench import processes
from workbench.config.operations import WarmLimits
from workbench.confinement.supported import support
from workbench.context import SystemClock
from workbench.forking import templates
from workbench.forking.template import OPTION
from workbench.jobs import spec as jobspec
from workbench.jobs.ledger import RunOrder, Slot, open_ledger
from workbench.jobs.ready import ready
from workbench.scheduler.warm import WarmTemplates

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(280),
    pytest.mark.skipif(support().level != "full", reason="confined kernels alone are forked"),
]
#: What a notebook sees before it does anything: all that is the same in each fresh kernel.
LOOK = r"""
import asyncio, builtins, decimal, gc, json, locale, os, random, resource, signal, sys, tempfile, threading
import time, warnings
from pathlib import Path

import numpy as np
import workbench as wb

own = os.environ["HOME"]
fixed = lambda text: text.replace(os.path.dirname(own), "RUN")
umask = os.umask(0o077)
os.umask(umask)
state = {
    "forked": "--template" in Path("/proc/self/cmdline").read_text(),
    "names": sorted(name for name in globals() if name.startswith("left")),
    "builtins": hasattr(builtins, "left"), "patched": [hasattr(wb, "left"), hasattr(wb.Answer, "left")],
    "dumps": json.dumps.__module__, "module": "left_module" in sys.modules,
    "grammar": "rfc3987_syntax" in sys.modules,
    "environment": sorted(os.environ), "left": os.environ.get("LEFT"),
    "zone": [os.environ.get("TZ"), time.tzname], "umask": umask,
    "cwd": fixed(os.getcwd()).split("/")[-2:], "locale": locale.setlocale(locale.LC_ALL),
    "handlers": {n.name: str(signal.getsignal(n)).split(" at ")[0] for n in signal.valid_signals() - {32, 33}
                 if isinstance(n, signal.Signals)},
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    "threads": sorted(t.name for t in threading.enumerate() if t.name.startswith("left")),
    "files": sorted(fixed(str(p)) for p in Path(own).rglob("left*")),
    "temporary": fixed(tempfile.gettempdir()), "path": [fixed(p) for p in sys.path],
    "recursion": sys.getrecursionlimit(), "gc": gc.get_threshold(),
    "precision": decimal.getcontext().prec, "main": sys.modules["__main__"].__name__,
    "filters": any("left" in str(item) for item in warnings.filters),
    "limits": [resource.getrlimit(n) for n in (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE)],
    "policy": type(asyncio.get_event_loop_policy()).__name__, "switch": sys.getswitchinterval(),
    "session": [os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid()],
    "argv": [Path(sys.argv[0]).name, *sys.argv[1:2]],
    "code": [wb.__file__.split("/")[-2:], Path(wb.__file__).is_file()],
}
drawn = {"python": random.random(), "numpy": float(np.random.rand())}
"""
#: Everything that it then leaves behind.
LEAVE = r"""
import atexit, types

left = 1
builtins.left = wb.left = wb.Answer.left = 1
sys.modules["left_module"] = types.ModuleType("left_module")
os.environ["LEFT"] = "1"
os.environ["TZ"] = "Asia/Tokyo"
time.tzset()
tempfile.tempdir = own
atexit.register(os.chdir, own)  # the task needs the folder
os.umask(0o007)
locale.setlocale(locale.LC_ALL, "C")
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
random.seed(1)
np.random.seed(1)
threading.Thread(target=time.sleep, args=(300,), name="left", daemon=True).start()
Path(own, "left.txt").write_text("left")
Path(own, "tmp", "left.txt").write_text("left")
sys.path.insert(0, own)
sys.setrecursionlimit(5_000)
sys.setswitchinterval(0.5)
gc.set_threshold(1, 1, 1)
decimal.getcontext().prec = 3
warnings.filterwarnings("ignore", message="left")
resource.setrlimit(resource.RLIMIT_NOFILE, (512, 512))
said = json.dumps([state, drawn])
"""
SECRET = "k-5b1c0d7e9a34"
#: Looks for the secret, which it never has in one piece, in all that it could read of its own memory.
SEARCH = f"""
import ctypes, os

first, second = "{SECRET[:7]}".encode(), "{SECRET[7:]}".encode()


def found(first, second):
    number = 0
    for line in open("/proc/self/maps"):
        place, rights, *rest = line.split()
        if not rights.startswith("rw") or "[v" in line:
            continue
        start, end = (int(part, 16) for part in place.split("-"))
        data = ctypes.string_at(start, end - start)
        at = data.find(first)
        while at >= 0:
            number += data[at + len(first) : at + len(first) + len(second)] == second
            at = data.find(first, at + 1)
    return number


planted = bytearray(b"pl-17a9c3") + b"e0-planted"
said = [found(first, second), found(b"pl-17a9c3", b"e0-planted") > 0, "PROVIDER_KEY" in os.environ]
"""
SLOW = "import time\ntime.sleep(4)\nsaid = 'late'"
ENDLESS = """
import time
from pathlib import Path

time.sleep(300 if "--template" in Path("/proc/self/cmdline").read_text() else 0)
said = 1
"""
#: Writes over the mark in its own environment, before it starts another process.
HIDE = r"""
import ctypes, os, time

(stack,) = (line.split()[0] for line in open("/proc/self/maps") if "[stack]" in line)
start, end = (int(part, 16) for part in stack.split("-"))
at = ctypes.string_at(start, end - start).find(b"WORKBENCH_RUN=")
ctypes.memmove(start + at, b"X" * 13, 13)
os.fork()
time.sleep(300)
said = 1
"""
#: Tries to reach every other process of the machine, and a socket such as that of a template.
REACH = r"""
import ctypes, json, os, socket

libc, reached = ctypes.CDLL(None), []


def reach(what, act, *given):
    try:
        act(*given)
        reached.append(what)
    except OSError:
        pass


for pid in range(1, os.getpid() + 2_000):
    if libc.tgkill(os.getpid(), pid, 0):  # no thread of its own
        reach(["signal", pid], os.kill, pid, 0)
        for name in ("mem", "environ", "maps", "fd/0"):
            reach([name, pid], os.open, f"/proc/{pid}/{name}", os.O_RDONLY)
reach("folder", os.listdir, "/tmp")
try:
    socket.socket(socket.AF_UNIX).connect("/tmp/no-such-socket")
except OSError as error:
    refused = type(error).__name__
capabilities = (ctypes.c_uint32 * 6)()
libc.capget((ctypes.c_uint32 * 2)(0x20080522, 0), capabilities)
said = json.dumps([reached, refused, libc.prctl(39, 0, 0, 0, 0), libc.prctl(21, 0, 0, 0, 0), *capabilities])
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A repository whose versions leave things, look for a secret, wait, are plain, hide or try ways out.

    All have the code of one commit: their runs are forked from one template.
    """
    root = warm_repository(tmp_path_factory.mktemp("warm") / "repo")
    code = git(root, "rev-parse", "HEAD")
    for cells in ((LOOK, LEAVE), (SEARCH,), (SLOW,), ("said = 7",), (HIDE,), (ENDLESS,), (REACH,)):
        frozen_notebook(root, *cells, commit=code)
    folder = ready(root, *jobspec.load(root, "small", 1)).code
    subprocess.run([sys.executable, "-m", "compileall", "-q", folder], check=True)
    return root


@pytest.fixture(scope="module")
def shared(made, tmp_path_factory):
    """A copy in which the runs of all tests are, each of a slot of its own."""
    return copied(made, tmp_path_factory.mktemp("shared") / "repo")


@pytest.fixture
def root(made, tmp_path):
    """A copy without a run, for a server."""
    return copied(made, tmp_path / "repo")


@pytest.fixture(scope="module")
def warm():
    kept = WarmTemplates(WarmLimits)
    yield kept
    kept.close()


@pytest.fixture(scope="module")
def cold(shared, warm):
    """What the version that tries ways out published and said in the first run of all.

    It was cold and ordered a template.
    """
    return run(shared, 7, "2026-10-01", warm)


@pytest.fixture
def template(shared, warm, cold):
    """The template that listens, from which all warm runs are forked, whatever they leave behind."""
    return listening(warm)


@pytest.fixture(scope="module")
def after_a_kill(shared, warm, cold):
    """What is seen when the template of a run is killed while it runs, and what two later runs said.

    Both are cold: the first finds a dead template, the second none, and orders one.
    """
    template = listening(warm)
    process, below = started(shared, 3, "2026-11-09", warm)
    template.kill()
    template.wait()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    seen = {"outcome": json.loads(out)["outcome"], "left": [] if ended(below) else below}

    seen["dead"] = json.loads(run(shared, 1, "2026-11-10", warm)[1])
    warm.look()
    assert not warm._kept and not list(warm.folder.glob("*.json"))
    seen["none"] = run(shared, 4, "2026-11-11", warm)[1]
    seen["another"] = listening(warm).pid != template.pid
    return seen


def command(root, version, day, *options):
    return [
        sys.executable, "-P", "-m", "workbench.cli", "jobs", "run", f"small@{version}", "--at", day, "--json",
        *options,
    ]  # fmt: skip


def environment(root, warm=None, **more):
    given = {**os.environ, "PYTHONPATH": str(root), **more}
    return given if warm is None else {**given, templates.FOLDER_VARIABLE: str(warm.folder)}


def run(root, version, day, warm=None, code=0, **more):
    """Run a version; return what was published, by name, and what its notebook said."""
    done = subprocess.run(
        command(root, version, day), cwd=root, env=environment(root, warm, **more), capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    if code:
        return done.stderr
    folder = root / json.loads(done.stdout)["folder"]
    outputs = {path.name: path.read_bytes() for path in folder.glob("*.parquet")}
    return outputs, pl.read_parquet(folder / "answers.acme.parquet")["text"][0]


def listening(warm):
    until = time.monotonic() + 60
    while not warm._listening:
        assert time.monotonic() < until, list(warm.folder.iterdir())
        warm.look()
        time.sleep(0.1)
    (kept,) = warm._kept.values()
    return kept.process


def started(root, version, day, warm):
    """Begin a run and wait until its kernel is there; return the command and the processes of the run."""
    process = subprocess.Popen(
        command(root, version, day), cwd=root, env=environment(root, warm), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until = time.monotonic() + 60
    ledger = open_ledger(root, SystemClock())
    while time.monotonic() < until:
        for found in ledger.unfinished():  # of a killed command too
            below = processes.marked(found.run) if found.state == "running" else []
            if len(below) == 2 and all(OPTION in " ".join(item.cmdline()) for item in below):
                return process, below
        time.sleep(0.02)
    raise AssertionError("the run did not start warm")


def ended(found):
    return not psutil.wait_procs(found, timeout=20)[1]


def test_a_killed_template_costs_a_running_run_nothing_and_the_next_its_warmth_only(after_a_kill):
    assert after_a_kill["outcome"] == "published" and not after_a_kill["left"]
    assert not after_a_kill["dead"][0]["forked"] and after_a_kill["none"] == "7"
    assert after_a_kill["another"]


@pytest.mark.usefixtures("template")
def test_a_forked_kernel_is_as_fresh_as_a_new_one(shared, warm, after_a_kill):
    cold, drawn = after_a_kill["dead"]
    assert not cold["forked"] and templates.FOLDER_VARIABLE not in cold["environment"]
    every = [drawn]
    for day in ("2026-11-02", "2026-11-03"):
        seen, drawn = json.loads(run(shared, 1, day, warm)[1])
        assert seen["forked"]
        assert sorted(set(seen["environment"]) ^ set(cold["environment"])) == []
        assert {**seen, "forked": False} == cold
        every.append(drawn)
    for which in ("python", "numpy"):
        assert len({one[which] for one in every}) == 3


@pytest.mark.usefixtures("template")
def test_a_warm_run_publishes_what_a_cold_one_does_and_reaches_no_template_and_no_process(shared, warm, cold):
    for day in ("2026-11-04", "2026-11-05"):
        assert run(shared, 7, day, warm) == cold
    # Nothing is reached; no_new_privs and the filter are on, and there is no capability.
    assert json.loads(cold[1]) == [[], "PermissionError", 1, 2, 0, 0, 0, 0, 0, 0]
    told = [line for line in open_ledger(shared, SystemClock()).history(limit=100) if line.version == 7]
    assert len(told) >= 3 and {line.outcome for line in told} == {"published"}


def test_no_key_of_a_provider_is_in_the_memory_of_a_forked_kernel(shared, warm, template):
    text = run(shared, 2, "2026-11-06", warm, PROVIDER_KEY=SECRET)[1]
    assert text == "[0, True, False]"
    assert SECRET not in json.dumps(psutil.Process(template.pid).environ())


@pytest.mark.usefixtures("template")
def test_a_killed_command_ends_its_forked_processes(shared, warm):
    process, below = started(shared, 3, "2026-11-12", warm)
    process.kill()
    process.communicate()
    assert ended(below)


@pytest.mark.usefixtures("template")
def test_a_terminated_command_ends_its_forked_processes_and_its_line(shared, warm):
    process, below = started(shared, 3, "2026-11-13", warm)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode and ended(below)
    assert open_ledger(shared, SystemClock()).history(limit=1)[0].outcome == "interrupted"


@pytest.mark.usefixtures("template")
def test_a_killed_worker_is_told_as_a_cold_one_is(shared, warm):
    process, below = started(shared, 3, "2026-11-14", warm)
    (worker,) = [item for item in below if item.ppid() not in {other.pid for other in below}]
    worker.kill()
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 3 and ended(below)
    assert "the worker was killed, perhaps by the system for memory and wrote no result" in err


@pytest.mark.usefixtures("template")
def test_a_kernel_ends_when_its_worker_and_its_command_are_killed_at_once(shared, warm):
    process, below = started(shared, 6, "2026-11-15", warm)
    (worker,) = [item for item in below if item.ppid() not in {other.pid for other in below}]
    process.send_signal(signal.SIGSTOP)  # it may not end the kernel in the worker's place
    worker.kill()
    process.kill()
    process.communicate()
    assert ended(below)


@pytest.mark.usefixtures("template")
def test_a_kernel_that_hides_its_mark_ends_with_its_run(shared, warm):
    """Once a cold one and once a forked one: both lead a session that they cannot leave."""
    for day, kept in (("2026-11-16", None), ("2026-11-17", warm)):
        process = subprocess.Popen(
            command(shared, 5, day), cwd=shared, env=environment(shared, kept), stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        hidden = _hidden(process)
        assert (OPTION in hidden[0].cmdline()) is (kept is warm)
        process.send_signal(signal.SIGTERM)
        err = process.communicate(timeout=60)[1]
        assert process.returncode and ended(hidden), err


def _hidden(process):
    """Return the kernel that has written over its mark, and the process that it started."""
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        for found in psutil.process_iter(["name", "ppid", "environ"]):
            if "XXXXXXXXXXXXX" in (found.info["environ"] or {}) and (below := found.children()):
                return [found, *below]
        time.sleep(0.2)
    raise AssertionError(process.communicate(timeout=5))


def test_a_server_forks_command_worker_and_kernel_and_stops_without_a_process(root):
    server = subprocess.Popen(
        [sys.executable, "-m", "workbench.cli", "jobs", "serve", "--warm", "--address", "127.0.0.1:0"],
        cwd=root, env=environment(root), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    says = iter(server.stderr.readline, "")
    folder = _folder_of(server, says)
    ledger = open_ledger(root, SystemClock())
    at = dt.datetime(2026, 10, 1, 6, tzinfo=dt.UTC)
    ledger.enqueue(RunOrder(slot=Slot(job="small", tenant="", at=at), trigger="backfill"))
    line = next(line for line in says if "the code of small" in line and "warm" in line)
    (template,) = map(int, re.findall(r"from process (\d+)", line))
    forks = psutil.Process(template).cpu_times().children_user
    later = at + dt.timedelta(days=1)
    ledger.enqueue(RunOrder(slot=Slot(job="small", tenant="", at=later), trigger="backfill"))
    assert next(line for line in says if "20261002T060000Z: published" in line)
    assert psutil.Process(template).cpu_times().children_user > forks
    below = psutil.Process(server.pid).children(recursive=True)
    server.terminate()
    server.communicate(timeout=60)
    assert server.returncode == 0 and ended(below) and not folder.exists()


def test_the_templates_of_a_killed_server_end_by_themselves(root):
    server = subprocess.Popen(
        [sys.executable, "-m", "workbench.cli", "jobs", "serve", "--warm", "--address", "127.0.0.1:0"],
        cwd=root, env=environment(root), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    _folder_of(server, iter(server.stderr.readline, ""))
    below = psutil.Process(server.pid).children(recursive=True)
    assert below
    server.kill()
    server.communicate()
    assert ended(below)


def _folder_of(server, says):
    """Wait until the command of a server is warm; return the folder of its templates."""
    assert next(line for line in says if "the command is warm" in line)
    (template,) = [p for p in psutil.Process(server.pid).children() if OPTION in p.cmdline()]
    return Path(template.cmdline()[-1]).parent
