from __future__ import annotations

import asyncio
import contextvars
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from workbench.errors import NotFoundError, UnavailableError
from workbench.records import egress
from workbench.records.egress import crossing, marked, reported

ROOT = Path(__file__).resolve().parents[2]
CONNECT = ("socket.connect", (None, ("10.0.0.7", 443)))
LOOK_UP = ("socket.getaddrinfo", ("model.invalid", 443, 0, 0, 0))


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "opened.jsonl"
    file.touch()
    return file


@pytest.fixture
def hook(path):
    """The hook, called as the interpreter would; installed, it could never be taken out again."""
    return egress._Watch(path=str(path))


def addresses(path):
    return [report["address"] for report in reported(path)]


def called_from(name, call):
    """Make a call from a library's module of that name."""
    exec(compile("call()", "<library>", "exec"), {"__name__": name, "call": call})


class Stream:
    """An answer that asks the hook to hear a connection at every step of its own."""

    def __init__(self, hook, path):
        self.hook, self.path = hook, path
        self.closed = False

    async def events(self):
        try:
            for number in range(3):
                self.hook(*CONNECT)
                yield number
        finally:
            await asyncio.sleep(0)
            self.hook(*CONNECT)
            self.closed = True


def test_only_what_is_opened_outside_a_crossing_is_reported(hook, path):
    with crossing():
        hook(*CONNECT)
    assert addresses(path) == []
    hook(*CONNECT)
    assert addresses(path) == ["10.0.0.7:443"]


def test_a_task_or_thread_started_inside_a_crossing_is_part_of_it_for_as_long_as_it_lives(hook, path):
    async def later(seconds):
        await asyncio.sleep(seconds)
        hook(*CONNECT)

    async def main():
        with crossing():
            task = asyncio.create_task(later(0))
            await asyncio.to_thread(hook, *CONNECT)
        await task

    asyncio.run(main())
    assert addresses(path) == []


def test_a_marked_stream_crosses_while_it_works_and_its_consumer_does_not(hook, path):
    stream = Stream(hook, path)

    async def main():
        seen = []
        async for number in marked(stream.events()):
            hook("socket.connect", (None, ("consumer", number)))
            seen.append(number)
        return seen

    assert asyncio.run(main()) == [0, 1, 2]
    assert addresses(path) == ["consumer:0", "consumer:1", "consumer:2"]
    assert stream.closed and not egress._open


def test_a_marked_stream_that_is_abandoned_or_fails_closes_the_inner_one(hook, path):
    async def abandoned(stream):
        events = marked(stream.events())
        assert await anext(events) == 0
        await events.aclose()

    async def failing():
        yield 1
        raise OSError("broken")

    async def main():
        stream = Stream(hook, path)
        await abandoned(stream)
        assert stream.closed
        with pytest.raises(OSError, match="broken"):
            assert [number async for number in marked(failing())] == [1]

    asyncio.run(main())
    assert addresses(path) == [] and not egress._open and not egress._crossing.get()


def test_a_crossing_that_is_closed_in_another_context_ends_without_a_word(hook, path):
    token = contextvars.copy_context().run(egress.enter)
    egress.leave(token)
    hook(*CONNECT)
    assert not egress._open and addresses(path) == ["10.0.0.7:443"]


@pytest.mark.parametrize(
    ("event", "args", "address"),
    [
        ("socket.connect", (None, ("::1", 80, 0, 0)), "[::1]:80"),
        ("socket.connect", (None, "/run/docker.sock"), "unix:/run/docker.sock"),
        ("socket.connect", (None, b"\0hidden"), "unix:@hidden"),
        ("socket.sendto", (None, ("10.0.0.7", 53)), "10.0.0.7:53"),
        ("socket.sendmsg", (None, ("10.0.0.7", 53)), "10.0.0.7:53"),
        ("socket.getaddrinfo", ("api.invalid", b"https", 0, 0, 0), "api.invalid:https"),
        ("socket.getaddrinfo", (b"api.invalid", None, 0, 0, 0), "api.invalid"),
        ("socket.gethostbyname", ("api.invalid",), "api.invalid"),
        ("subprocess.Popen", ("/usr/bin/curl", ["curl", "-H", "sk-secret"], None, None), "curl"),
        ("os.exec", (Path("/usr/bin/curl"), ["curl", "sk-secret"], None), "curl"),
        ("os.exec", (7, ["curl", "sk-secret"], None), "a program"),
        ("os.posix_spawn", (b"/usr/bin/curl", ["curl", "sk-secret"], {}), "curl"),
        ("os.system", (b" curl -H sk-secret",), "curl"),
        ("os.system", (b"KEY=sk-secret curl",), "a shell command"),
    ],
)
def test_a_report_names_the_address_or_the_program_and_never_its_arguments(hook, path, event, args, address):
    hook(event, args)
    report = reported(path)[0]
    assert (report["event"], report["address"]) == (event, address)
    assert "secret" not in path.read_text()


@pytest.mark.parametrize(
    ("event", "args"),
    [
        ("open", ("/etc/passwd", "r", 0)),
        ("socket.bind", (None, ("127.0.0.1", 80))),
        ("socket.sendmsg", (None, None)),
        ("socket.getaddrinfo", (None, 80, 0, 0, 0)),
        ("socket.getaddrinfo", ("127.0.0.1", 80, 0, 0, 0)),
        ("socket.getaddrinfo", (b"::1", 80, 0, 0, 0)),
        ("socket.getaddrinfo", ("localhost", 80, 0, 0, 0)),
        ("socket.gethostbyname", (socket.gethostname(),)),
    ],
)
def test_what_reaches_nobody_is_not_reported(hook, path, event, args):
    hook(event, args)
    assert reported(path) == []


def test_the_place_is_the_nearest_line_outside_libraries(hook, path):
    exec(compile("call()", "<library>", "exec"), {"call": partial(hook, *CONNECT)})
    line = test_the_place_is_the_nearest_line_outside_libraries.__code__.co_firstlineno + 1
    assert reported(path)[0]["where"] == f"{__file__}, line {line}"


def test_a_line_of_a_cell_is_said_to_be_one(hook, path):
    code = compile("\n\nhook(*CONNECT)", "/tmp/ipykernel_41/2917953574.py", "exec")
    exec(code, {"hook": hook, "CONNECT": CONNECT})
    assert reported(path)[0]["where"] == "a cell of the notebook, line 3"


def test_on_a_thread_of_a_librarys_own_the_library_is_named(hook, path):
    code = compile("def work(): hook(*CONNECT)", "/venv/lib/python3/site-packages/acme/pool.py", "exec")
    exec(code, names := {"__name__": "acme.pool", "hook": hook, "CONNECT": CONNECT})
    with ThreadPoolExecutor(1) as pool:
        pool.submit(names["work"]).result()
        pool.submit(hook, *CONNECT).result()
    assert [report["where"] for report in reported(path)] == ["inside acme", "inside the standard library"]


def test_a_look_up_on_a_pools_thread_is_the_boundarys_only_while_it_crosses(hook, path):
    with ThreadPoolExecutor(1) as pool:  # as an event loop does for every name
        with crossing():
            pool.submit(hook, *LOOK_UP).result()
            pool.submit(hook, *CONNECT).result()
        assert addresses(path) == ["10.0.0.7:443"]
        pool.submit(hook, *LOOK_UP).result()
    assert addresses(path) == ["10.0.0.7:443", "model.invalid:443"]


@pytest.mark.parametrize(
    ("module", "event", "args"),
    [
        ("platform", "subprocess.Popen", ("uname", ["uname", "-p"], None, None)),
        ("ctypes.util", "subprocess.Popen", ("/sbin/ldconfig", [], None, None)),
        ("subprocess", "os.posix_spawn", ("/bin/true", [], {})),
        ("multiprocessing.connection", "socket.connect", (None, "/tmp/pymp-1/listener")),
        ("pydevd.client", *CONNECT),
    ],
)
def test_what_libraries_do_for_themselves_is_excused_and_the_same_from_elsewhere_is_not(
    hook, path, module, event, args
):
    called_from(module, partial(hook, event, args))
    assert reported(path) == []
    called_from("acme", partial(hook, event, args))
    assert len(reported(path)) == 1


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_confined_process_reports_the_internet_sockets_that_it_is_refused(hook, path, monkeypatch, family):
    new = ("socket.__new__", (None, family, socket.SOCK_STREAM, 0))
    hook(*new)
    assert reported(path) == [], "elsewhere the connection itself is seen"
    monkeypatch.setenv("WORKBENCH_GATEWAY_FD", "3")
    hook("socket.__new__", (None, socket.AF_UNIX, socket.SOCK_STREAM, 0))
    with crossing():
        hook(*new)
    probe = {"__name__": "urllib3.util.connection", "hook": hook, "new": new}
    exec(compile("probe = lambda: hook(*new)", "<library>", "exec"), probe)
    called_from("importlib._bootstrap", probe["probe"])
    assert reported(path) == []
    called_from("urllib3.util.connection", partial(hook, *new))
    assert addresses(path) == [family.name]


def test_the_hook_neither_raises_nor_hears_itself(hook, path):
    class Curl(os.PathLike):
        def __fspath__(self):
            hook(*CONNECT)
            return "/usr/bin/curl"

    hook("os.exec", (Curl(), [], None))
    assert addresses(path) == ["curl"]
    hook("socket.connect", ())
    egress._Watch(path=str(path / "no folder"))(*CONNECT)


def test_reports_come_in_order_once_each_and_a_line_cut_off_is_passed_over(path):
    lines = ['{"event":"b","address":"2","where":"w"}', '{"event":"a","address":"1","where":"w"}']
    path.write_text("\n".join([*lines, lines[0], '{"event":"c","addr']))
    assert [report["event"] for report in reported(path)] == ["b", "a"]


def test_no_watch_is_not_the_same_as_no_report(tmp_path):
    with pytest.raises(NotFoundError, match="not watched") as caught:
        reported(tmp_path / "never.jsonl")
    assert caught.value.hint
    with pytest.raises(UnavailableError, match=r"cannot write .*No such file or directory"):
        egress.watch(tmp_path / "no folder" / "opened.jsonl")


INSTALLED = """
import os, platform, shutil, subprocess, sys
from workbench.records import egress as connections

connections.watch("opened.jsonl")
connections.watch("opened.jsonl")
os.chdir("/")
platform.platform(), platform.processor()
sys.audit("socket.connect", None, ("10.0.0.7", 443))
subprocess.run([sys.executable, "-c", ""], close_fds=False, check=True)
with connections.crossing():
    os.system("true")
if not (child := os.fork()):
    os.execv(shutil.which("true"), ["true"])
os.waitpid(child, 0)
"""


def test_an_installed_watch_hears_a_process_and_its_forks_once_each(tmp_path):
    script, path = tmp_path / "job.py", tmp_path / "opened.jsonl"
    script.write_text(INSTALLED)
    told = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, script], cwd=tmp_path, env=told, check=True)
    assert [(one["event"], one["address"], one["where"]) for one in reported(path)] == [
        ("socket.connect", "10.0.0.7:443", f"{script}, line 9"),
        ("subprocess.Popen", Path(sys.executable).name, f"{script}, line 10"),
        ("os.exec", "true", f"{script}, line 14"),
    ]
    assert len(path.read_text().splitlines()) == 3
