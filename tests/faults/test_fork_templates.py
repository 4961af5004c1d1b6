"""Template processes: what a forked process has and has not of its template, and how each of them ends.

The program is a small module of the test, because that of a worker takes seconds to import.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from workbench import files, processes
from workbench.config.operations import WarmLimits
from workbench.forking import kept, messages, templates
from workbench.forking.templates import TemplateOrder
from workbench.scheduler import warm as warm_templates
from workbench.scheduler.warm import WarmTemplates

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="templates are of Linux")
ROOT = Path(__file__).parents[2]
#: Writes what a forked process sees, then does what its first argument says.
PROGRAM = """
import json, os, sys, time
from pathlib import Path
from workbench.errors import ConfigError
from workbench.forking import template
BEFORE

try:
    forked = template.serve(Path(sys.argv[2]), seeded=SEEDED)
except ConfigError as error:
    print(error.message)
    sys.exit(template.UNFIT)
if forked is None:
    sys.exit(0)
if forked.kernel is not None:
    Path(forked.kernel["cwd"], "kernel").write_text(repr(sorted(os.environ)))
    time.sleep(300)
with forked.reporting():
    what, out = forked.arguments
    umask = os.umask(0o077)
    seen = {
        "environment": dict(os.environ), "cwd": os.getcwd(), "umask": umask,
        "session": os.getsid(0) == os.getpid(), "stdin": os.readlink("/proc/self/fd/0"),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "marked": Path("/proc/self/environ").read_bytes().count(b"WORKBENCH_RUN=mark-1\\0"),
    }
    Path(out).write_text(json.dumps(seen))
    print("said")
    if what == "wait":
        time.sleep(300)
    sys.exit(int(what))
"""


@pytest.fixture
def code(tmp_path):
    """Makes the folder of a program: `before` runs when it is imported."""

    def make(name="code", *, before="", seeded=False):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "workbench").symlink_to(ROOT / "workbench")
        text = PROGRAM.replace("BEFORE", before).replace("SEEDED", str(seeded))
        (folder / "program.py").write_text(text)
        return folder

    return make


@pytest.fixture
def warm(limits):
    made = WarmTemplates(lambda: WarmLimits(**limits))
    with contextlib.ExitStack() as made.closing:
        yield made
    made.close()
    assert not made.folder.exists()
    assert not [p for p in psutil.Process().children() if templates_of(p, made)]


@pytest.fixture
def limits():
    """The limits of the templates; a test changes them."""
    return {}


@pytest.fixture
def log(caplog):
    logger = logging.getLogger("workbench.scheduler")
    was, logger.propagate = logger.propagate, True
    caplog.set_level(logging.INFO, logger="workbench.scheduler")
    yield lambda: [record.getMessage() for record in caplog.records]
    logger.propagate = was


def templates_of(process, warm):
    return any(str(warm.folder) in argument for argument in process.cmdline())


def order_of(folder):
    environment = {"PYTHONPATH": str(folder), "PATH": os.environ["PATH"]}
    return TemplateOrder.of(
        environment, name=folder.name, python=sys.executable, module="program", cwd=str(folder)
    )


def asked(warm, folder, what, *, stream, environment=None):
    given = {"PYTHONPATH": str(folder), "PATH": os.environ["PATH"], **(environment or {})}
    process = warm.start(
        order_of(folder), [what, str(folder / "seen")], mark="mark-1", environment=given, stream=stream
    )
    if process is not None:
        warm.closing.callback(process.stdin.close)
    return process


def listening(warm, folder):
    """Order a template, and look until it listens; return its process."""
    warm.order(order_of(folder))
    return listens(warm, folder)


def listens(warm, folder):
    until = time.monotonic() + 30
    place = warm.folder / order_of(folder).key
    while not place.exists():
        assert time.monotonic() < until
        warm.look()
        time.sleep(0.05)
    warm.look()
    (found,) = [p for p in psutil.Process().children() if place.name in " ".join(p.cmdline())]
    return found


def seen(folder):
    until = time.monotonic() + 30
    while not (folder / "seen").exists() or not (folder / "seen").read_text().endswith("}"):
        assert time.monotonic() < until
        time.sleep(0.02)
    found = json.loads((folder / "seen").read_text())
    (folder / "seen").unlink()
    return found


def ended(pids):
    until = time.monotonic() + 10
    while time.monotonic() < until:
        alive = [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]
        if not alive:
            return True
        time.sleep(0.05)
    return False


def test_the_first_process_is_cold_and_orders_a_template_that_forks_the_next(warm, code, tmp_path):
    folder = code()
    with (tmp_path / "out").open("wb") as out:
        assert asked(warm, folder, "0", stream=out.fileno()) is None
        listens(warm, folder)
        process = asked(warm, folder, "7", stream=out.fileno(), environment={"SECRET": "s-1"})
    assert process.wait(20) == 7 and process.poll() == 7
    found = seen(folder)
    given = {"PYTHONPATH": str(folder), "PATH": os.environ["PATH"], "SECRET": "s-1"}
    said = [sys.executable, "-c", "import json, os; print(json.dumps(dict(os.environ)))"]
    new = subprocess.run(said, env=given, capture_output=True, check=True)
    assert found["environment"] == json.loads(new.stdout)  # Python may set one for its locale
    mask = os.umask(0o022)
    os.umask(mask)
    assert (found["cwd"], found["umask"], found["session"]) == (str(folder), mask, True)
    assert found["stdin"].startswith("pipe:") and found["marked"] == 1
    assert (
        found["descriptors"] == 5
    )  # the standard ones, where it tells its code, and the one that lists them
    assert (tmp_path / "out").read_text() == "said\n"


def test_a_server_with_more_than_a_thousand_descriptors_forks_and_waits(warm, code, tmp_path):
    """`select` takes no descriptor above 1,023; a server with many connections has such ones."""
    folder, (soft, hard) = code(), resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4_096)), hard))
    with contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for _ in range(1_100):
            stack.enter_context(open(os.devnull, "rb"))  # noqa: PTH123  a descriptor and nothing else
        out = stack.enter_context((tmp_path / "out").open("wb"))
        assert asked(warm, folder, "0", stream=out.fileno()) is None
        listens(warm, folder)
        process = asked(warm, folder, "7", stream=out.fileno())
        assert process.wait(20) == 7 and process.poll() == 7


def test_a_template_knows_no_variable_but_those_that_python_reads_at_its_start(warm, code, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k-123")
    folder = code()
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    order = TemplateOrder.of(environment, name="x", python=sys.executable, module="program", cwd=str(folder))
    assert "OPENAI_API_KEY" in environment and "OPENAI_API_KEY" not in order.environment
    assert "k-123" not in files.pretty(order.environment).decode()
    process = listening(warm, folder)
    assert "OPENAI_API_KEY" not in process.environ() and len(process.threads()) == 1


def test_another_variable_of_the_start_asks_for_another_template(code):
    folder = code()
    one, other = (
        TemplateOrder.of({"TZ": zone, "KEY": zone}, name="x", python="p", module="m", cwd=str(folder))
        for zone in ("UTC", "Asia/Tokyo")
    )
    same = TemplateOrder.of({"TZ": "UTC", "KEY": "other"}, name="y", python="p", module="m", cwd=str(folder))
    assert one.key == same.key != other.key


@pytest.mark.parametrize("how", ["kill", "terminate"])
def test_a_forked_process_is_killed_like_a_child(warm, code, tmp_path, how):
    folder = code()
    listening(warm, folder)
    with (tmp_path / "out").open("wb") as out:
        process = asked(warm, folder, "wait", stream=out.fileno())
    seen(folder)
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.05)
    assert [found.pid for found in processes.marked("mark-1")] == [process.pid]
    getattr(process, how)()
    # Only who forked it knows the signal.
    assert process.wait(10) == -signal.SIGKILL
    getattr(process, how)()  # does nothing to one that has ended
    process.stdin.close()


def test_a_forked_process_is_found_by_its_mark_and_ended(warm, code, tmp_path):
    folder = code()
    listening(warm, folder)
    with (tmp_path / "out").open("wb") as out:
        process = asked(warm, folder, "wait", stream=out.fileno())
    seen(folder)
    processes.end("mark-1", process)
    assert process.poll() == -signal.SIGKILL and not processes.marked("mark-1")


def test_a_template_that_is_killed_leaves_its_processes_and_the_next_one_is_cold(warm, code, tmp_path, log):
    folder = code()
    template = listening(warm, folder)
    with (tmp_path / "out").open("wb") as out:
        process = asked(warm, folder, "wait", stream=out.fileno())
        seen(folder)
        template.kill()
        assert ended([template.pid]) and process.poll() is None
        assert asked(warm, folder, "0", stream=out.fileno()) is None
    warm.look()
    assert f"{folder.name} is cold until its next run: its template ended with code -9" in log()
    processes.end("mark-1", process)
    assert process.returncode == -signal.SIGKILL
    assert listening(warm, folder).pid != template.pid


def test_a_template_of_code_that_was_updated_meanwhile_is_not_used(warm, code, tmp_path, log):
    folder, version = code(), [1]
    warm._code = lambda: version[0]
    template = listening(warm, folder)
    version[0] = 2
    with (tmp_path / "out").open("wb") as out:
        assert asked(warm, folder, "0", stream=out.fileno()) is None
        assert ended([template.pid]) and "its code was updated" in log()[-1]
        listens(warm, folder)
        process = asked(warm, folder, "0", stream=out.fileno())
    assert process.wait(20) == 0


def test_an_edited_module_and_an_installed_package_are_an_update(tmp_path, monkeypatch):
    module = tmp_path / "deep" / "module.py"
    module.parent.mkdir()
    module.write_text("a = 1")
    monkeypatch.setattr(warm_templates, "_PACKAGE", tmp_path)
    before = warm_templates._installed()
    assert warm_templates._installed() == before
    module.write_text("a = 10")
    assert warm_templates._installed() != before


def test_a_template_ends_with_who_started_it(warm, code):
    folder = code()
    template = listening(warm, folder)
    (kept,) = warm._kept.values()
    kept.process.stdin.close()
    assert kept.process.wait(10) == 0 and ended([template.pid])
    assert not (warm.folder / order_of(folder).key).exists()


def test_a_program_with_a_thread_is_not_kept_warm_and_says_so(warm, code, log):
    before = "import threading; threading.Thread(target=time.sleep, args=(60,), daemon=True).start()"
    folder = code(before=before)
    warm.order(order_of(folder))
    until = time.monotonic() + 30
    while not log():
        assert time.monotonic() < until
        warm.look()
        time.sleep(0.05)
    (line,) = log()
    assert line.startswith("code is not kept warm: a process with threads ") and "its runs start cold" in line
    warm.look()
    assert len(log()) == 1  # it is said once, and not tried again


def test_a_program_with_a_socket_is_not_kept_warm(warm, code, log):
    folder = code(before="import socket; held = socket.socketpair()")
    warm.order(order_of(folder))
    until = time.monotonic() + 30
    while not log():
        assert time.monotonic() < until
        warm.look()
        time.sleep(0.05)
    assert "a process with open socket:" in log()[0]


def test_code_that_has_no_templates_runs_cold_and_the_log_says_so(warm, code, log):
    folder = code()
    (folder / "workbench").unlink()
    warm.order(order_of(folder))
    warm.look()
    assert log() == ["code is not kept warm: this code has no templates; its runs start cold"]


def test_a_template_above_its_memory_is_ended_and_its_runs_are_cold(warm, code, limits, log):
    folder = code()
    limits["memory_mb"] = 1
    warm.order(order_of(folder))
    warm.look()
    time.sleep(0.3)
    warm.look()
    assert "more than warm.memory_mb, 1; its runs start cold" in log()[0]
    assert not warm._kept


def test_a_template_that_grew_is_ended_and_its_next_run_orders_another(warm, code, limits, log):
    folder = code()
    template = listening(warm, folder)
    limits["memory_mb"] = 1
    warm.look()
    assert "more than warm.memory_mb, 1" in log()[-1] and "cold until its next run" in log()[-1]
    assert ended([template.pid]) and not list(warm.folder.glob("*.json"))


def test_the_template_that_was_not_used_for_longest_makes_room(warm, code, limits, log):
    limits["templates"] = 2
    folders = [code(name) for name in ("first", "second", "third")]
    for number, folder in enumerate(folders[:2]):
        listening(warm, folder)
        used = time.time() - 20 + number
        os.utime(warm.folder / f"{order_of(folder).key}.json", (used, used))
    listening(warm, folders[2])
    assert "first is cold until its next run: more than 2 templates are in use" in log()
    assert {kept.order.name for kept in warm._kept.values()} == {"second", "third"}


def test_a_template_that_no_run_used_for_long_is_ended(warm, code, limits, log):
    limits["idle_s"] = 60
    folder = code()
    listening(warm, folder)
    warm.look()
    assert warm._kept
    past = time.time() - 61
    os.utime(warm.folder / f"{order_of(folder).key}.json", (past, past))
    warm.look()
    assert not warm._kept and "no run used its template for 60 s" in log()[-1]


def test_a_seed_has_no_variable_of_its_worker_and_ends_with_it(warm, code, tmp_path):
    folder = code(seeded=True)
    listening(warm, folder)
    with (tmp_path / "out").open("wb") as out:
        process = asked(
            warm, folder, "wait", stream=out.fileno(), environment={"SECRET": "a secret of this run"}
        )
    seen(folder)
    (seed,) = psutil.Process(process.pid).children()
    assert os.getpgid(seed.pid) == seed.pid and len([*Path(f"/proc/{seed.pid}/fd").iterdir()]) == 4
    assert {found.pid for found in processes.marked("mark-1")} == {process.pid, seed.pid}
    assert _has(process.pid, b"a secret of this run") and not _has(seed.pid, b"a secret of this run")
    process.kill()
    assert process.wait(10) == -signal.SIGKILL and ended([seed.pid])


def _has(pid, needle):
    """Whether the writable memory of a process holds these bytes."""
    with Path(f"/proc/{pid}/mem").open("rb", 0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            place, rights, *_ = line.split()
            if rights.startswith("rw"):
                start, end = (int(part, 16) for part in place.split("-"))
                memory.seek(start)
                if needle in memory.read(end - start):
                    return True
    return False


def test_a_process_without_its_descriptor_is_not_used(warm, code, tmp_path, monkeypatch):
    """The system leaves a descriptor out when the receiver may open no more files."""
    folder = code()
    listening(warm, folder)
    received = messages.receive

    def without(connection):
        value, descriptors = received(connection)
        for descriptor in descriptors:
            os.close(descriptor)
        return value, []

    monkeypatch.setattr(templates.messages, "receive", without)
    with (tmp_path / "out").open("wb") as out:
        assert asked(warm, folder, "0", stream=out.fileno()) is None
    assert not (folder / "seen").exists()


def test_a_template_of_another_format_gets_no_environment(warm, code, tmp_path, monkeypatch):
    folder = code()
    listening(warm, folder)
    monkeypatch.setattr(messages, "FORMAT", 2)
    monkeypatch.setattr(templates.messages, "FORMAT", 2)
    with (tmp_path / "out").open("wb") as out:
        assert asked(warm, folder, "0", stream=out.fileno()) is None
    time.sleep(0.2)
    assert not (folder / "seen").exists()


def test_a_command_keeps_one_template_for_its_processes_and_its_children_until_it_ends(code, monkeypatch):
    monkeypatch.delenv(templates.FOLDER_VARIABLE, raising=False)
    folder = code()
    order = order_of(folder)
    assert kept.folder_for(order) is None and kept.variables() == {}, "nothing is kept outside of a block"
    with kept.kept_templates():
        place = Path(kept.folder_for(order) or "")
        assert (place / order.key).is_socket(), "the first process waits for it"
        assert kept.variables() == {templates.FOLDER_VARIABLE: str(place)}
        assert templates.FOLDER_VARIABLE not in os.environ, "a hook of git is told of none"
        (template,) = [p for p in psutil.Process().children() if str(place / order.key) in p.cmdline()]
        for _ in range(2):
            assert kept.folder_for(order) == str(place)
            process = forked_from(place, folder, order)
            assert process.wait(20) == 3
            process.stdin.close()
            assert json.loads((folder / "seen").read_text())["marked"] == 1
        assert [p for p in psutil.Process().children() if str(place) in str(p.cmdline())] == [template]
    assert not template.is_running() and not place.exists() and kept.variables() == {}


def test_a_block_of_a_command_is_cold_where_no_template_can_be_kept(code, tmp_path, monkeypatch):
    monkeypatch.setenv(templates.FOLDER_VARIABLE, str(tmp_path / "server"))
    with kept.kept_templates():
        assert kept.folder_for(order_of(code("served"))) == str(tmp_path / "server"), "a server has its own"
    monkeypatch.delenv(templates.FOLDER_VARIABLE)
    older = tmp_path / "older"
    older.mkdir()
    broken = code("broken", before="raise SystemExit(5)")
    with kept.kept_templates():
        for folder in (older, broken):  # code from before templates, and one whose template ends at once
            place = Path(kept.folder_for(order_of(folder)) or "")
            assert forked_from(place, folder, order_of(folder)) is None


def forked_from(place, folder, order):
    with templates.descriptor_of(subprocess.DEVNULL) as stream:
        return templates.forked(
            place, order, ["3", str(folder / "seen")], mark="mark-1",
            environment=dict(order.environment), streams=(stream, stream),
        )  # fmt: skip
