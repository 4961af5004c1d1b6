"""A confined process gets out in none of the ways that we know, and works otherwise."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import escapes
import polars as pl
import psutil
import pytest

from workbench.config import Execution
from workbench.confinement import prepared
from workbench.confinement.allowed import Allowed, ProcessLimits
from workbench.confinement.broker import DESCRIPTOR_VARIABLE, Broker
from workbench.confinement.supported import support
from workbench.errors import ConfigError, NotebookError, UnavailableError
from workbench.layout import EXECUTED
from workbench.notebooks import execution
from workbench.notebooks.confined import Confined

ROOT = Path(__file__).resolve().parents[2]
VICTIM = """\
import ctypes, os, signal, sys, time
noted = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
for each in (signal.SIGIO, signal.SIGCONT):
    signal.signal(each, lambda *_: os.write(noted, b"1"))
text = ctypes.create_string_buffer(b"a secret")
print(ctypes.addressof(text), flush=True)
while True:
    time.sleep(60)
"""
#: What systems refuse to some users anyway: without confinement these may fail, too.
REFUSED_ANYWAY = """
become_another_user call_as_a_32_bit_program call_with_a_number_of_x32 change_a_mode_with_fchmodat2
change_its_own_attributes change_the_root compare_descriptors_of_a_process connect_with_io_uring
copy_memory_of_a_process enter_a_namespace handle_page_faults have_a_capability
leave_a_key_in_the_session lease_a_readable_file load_a_program_into_the_kernel make_a_device
make_a_process_with_clone3
make_a_user_namespace make_a_user_namespace_with_clone mount_a_file_system open_a_crypto_socket open_a_mount
open_a_packet_socket open_a_performance_counter open_a_version_6_socket open_a_vsock open_it_by_a_handle
read_the_kernel_s_messages read_the_memory_of_a_process send_elsewhere_from_a_pair_of_packet_sockets
set_an_attribute take_a_descriptor_of_a_process take_capabilities_back trace_a_process
use_a_call_that_is_newer_than_the_tables watch_a_folder_with_fanotify write_to_the_terminal_s_input
"""
full = pytest.mark.skipif(
    support().level != "full", reason=f"this machine lacks {'; '.join(support().missing)}"
)


def context(
    folder: Path, own: Path, victim: subprocess.Popen, sockets: contextlib.ExitStack, *, confined: bool
) -> dict:
    """The paths, ports and processes that the ways of `escapes` aim at."""
    outside, readable = folder / "outside", folder / "readable"
    for each in (outside, readable, readable / "hidden"):
        each.mkdir()
    files = {name: outside / name for name in ("secret", "emptied", "deleted", "renamed", "exchanged")}
    files |= {name: readable / name for name in ("input", "kept", "moved", "hidden/file")}
    files["hidden"] = files.pop("hidden/file")
    for path in files.values():
        path.write_text("a secret")
    (readable / "link").symlink_to(files["secret"])
    pl.DataFrame({"a": [1]}).write_parquet(outside / "table.parquet")
    with contextlib.closing(sqlite3.connect(outside / "rows.sqlite")) as database:
        database.execute("CREATE TABLE rows (a)")
    listening = [
        sockets.enter_context(socket.socket(family))
        for family in (socket.AF_INET, socket.AF_UNIX, socket.AF_UNIX)
    ]
    datagrams = sockets.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    addresses = [("127.0.0.1", 0), str(outside / "unix"), f"\0{folder}"]
    for each, address in zip(listening, addresses, strict=True):
        each.bind(address)
        each.listen(8)
    datagrams.bind(str(outside / "datagram"))
    descriptor = os.open(files["secret"], os.O_RDONLY)
    sockets.callback(os.close, descriptor)
    return {
        **{name: str(path) for name, path in files.items()},
        "own": str(own), "results": str(own / "results.json"), "outside": str(outside),
        "link": str(readable / "link"), "table": str(outside / "table.parquet"),
        "database": str(outside / "rows.sqlite"), "repository": str(ROOT),
        "tcp": listening[0].getsockname()[1],
        "unix": addresses[1], "abstract": str(folder), "datagram": str(outside / "datagram"),
        "descriptor": descriptor, "victim": victim.pid, "address": int(victim.stdout.readline()),
        "counter": victim.args[-1], "cat": shutil.which("cat"), "true": shutil.which("true"),
        "loader": "/lib/ld-linux-aarch64.so.1" if escapes.ARM else "/lib64/ld-linux-x86-64.so.2",
        "confined": confined, "code": str(ROOT / "workbench" / "types.py"), "library": pl.__file__,
    }  # fmt: skip


def results(*, confined: bool) -> dict[str, str]:
    """What each way of `escapes` came to, in a process that is confined or not."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wb-")))
        own = folder / prepared.OWN
        own.mkdir()
        counter = folder / "counter"
        counter.write_text("0")
        victim = subprocess.Popen([sys.executable, "-c", VICTIM, str(counter)], stdout=subprocess.PIPE)
        stack.enter_context(victim)
        stack.callback(victim.kill)
        told = context(folder, own, victim, stack, confined=confined)
        environment = {"ESCAPES": json.dumps(told)}
        command = [sys.executable, escapes.__file__]
        if confined:
            readable = (*escapes.FILES, counter, folder / "readable")
            allowed = Allowed(read=readable, hidden=(folder / "readable" / "hidden",))
            spec = prepared.spec(allowed, environment, folder=folder)
            command = [*prepared.launcher(spec), *command]
        starter = {**os.environ, **environment, "ESCAPES_SECRET": "x"}
        subprocess.run(
            command,
            env=starter,
            pass_fds=(told["descriptor"],),
            timeout=60,
            stdout=subprocess.PIPE,
            check=True,
            start_new_session=True,
        )
        return json.loads(Path(told["results"]).read_text())


@pytest.fixture(scope="module")
def confined() -> dict[str, str]:
    return results(confined=True)


@pytest.fixture(scope="module")
def unconfined() -> dict[str, str]:
    return results(confined=False)


@full
@pytest.mark.parametrize("name", escapes.WAYS)
def test_a_way_out_is_open_without_confinement_and_refused_with_it(confined, unconfined, name):
    assert confined[name] != "open"
    assert unconfined[name] == "open" or name in REFUSED_ANYWAY.split()


#: What a notebook's libraries do all the time, and confinement must not keep them from.
WORKS = """\
import asyncio, concurrent.futures, importlib.util, json, os, shutil, socket, sqlite3, subprocess, sys
import tempfile, threading
from pathlib import Path
import numpy as np, polars as pl
import workbench as wb

given, own = Path(os.environ["GIVEN"]), Path(os.environ["HOME"])
done = {}
frame = pl.read_parquet(given).with_columns(b=pl.col("a") * 2)
frame.write_parquet(own / "frame.parquet")
done["polars"] = pl.scan_parquet(own / "frame.parquet").select("b").collect()["b"].to_list()
done["numpy"] = float(np.linalg.inv(np.eye(64)).sum())
with tempfile.TemporaryDirectory() as folder:
    shutil.copy2(given, folder)
    shutil.move(f"{folder}/{given.name}", own / "moved.parquet")
done["temporary"] = Path(folder).parent == own / "tmp"
done["mode"] = oct((own / "moved.parquet").stat().st_mode & 0o777)
with sqlite3.connect(own / "rows.sqlite") as database:
    database.execute("PRAGMA journal_mode = WAL")
    done["sqlite"] = database.execute("SELECT 1").fetchone()[0]
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    done["threads"] = sum(pool.map(len, ["a", "bc"]))
async def nap():
    await asyncio.sleep(0)
    return await asyncio.to_thread(lambda: 3)
done["asyncio"] = asyncio.run(nap())
one, other = socket.socketpair()
one.send(b"x")
done["pair"] = other.recv(1).decode()
child = subprocess.run([sys.executable, "-c", "import workbench; print(4)"], capture_output=True, text=True)
done["child"] = child.stdout.strip()
done["package"] = wb.contains.__module__
done["module"] = __import__("beside").NUMBER
done["missing"] = importlib.util.find_spec("nothing_beside") is None
print(json.dumps(done))
"""
EXPECTED = {
    "polars": [2, 4], "numpy": 64.0, "temporary": True, "mode": "0o600", "sqlite": 1, "threads": 3,
    "asyncio": 3, "pair": "x", "child": "4", "package": "workbench.experiments.scorers", "module": 7,
    "missing": True,
}  # fmt: skip


@pytest.fixture
def folder() -> Path:
    """A folder with a short path, as Unix sockets need it."""
    with tempfile.TemporaryDirectory(prefix="wb-") as name:
        yield Path(name)


def said(spec: Path, *command: str, status: int = 0, **options) -> str:
    """Run a command confined and return what it wrote."""
    done = subprocess.run([*prepared.launcher(spec), *command], check=False, timeout=60, **options)
    output = spec.parent / prepared.OWN / "output.log"
    text = output.read_text() if output.exists() else ""
    assert done.returncode == status, text + prepared.failure_of(spec).read_text()
    return text


def test_what_libraries_do_all_the_time_works_confined(folder):
    given, beside = folder / "given.parquet", folder / "code" / "beside.py"
    pl.DataFrame({"a": [1, 2]}).write_parquet(given)
    beside.parent.mkdir()
    beside.write_text("NUMBER = 7")
    (beside.parent / "hidden").write_text("")
    allowed = Allowed(read=(given, beside.parent), hidden=(beside.parent / "hidden",))
    spec = prepared.spec(allowed, {"GIVEN": str(given)}, folder=folder)
    text = said(spec, sys.executable, "-c", WORKS, cwd=beside.parent)
    assert json.loads(text.splitlines()[-1]) == EXPECTED


@full
def test_names_sizes_and_dates_of_known_paths_are_visible_as_the_page_says(folder):
    secret = folder / "secret"
    secret.write_text("a secret")
    spec = prepared.spec(Allowed(), {}, folder=folder)
    text = said(spec, sys.executable, "-c", f"import os; print(os.stat({str(secret)!r}).st_size)")
    assert text.strip() == str(len("a secret"))


@full
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"rules": {"/usr": 0}}, "Landlock"),
        ({"limits": {"RLIMIT_FSIZE": "x"}}, "TypeError"),
        ({"inherited": {"X": "/nowhere/socket"}}, "FileNotFoundError"),
    ],
)
def test_nothing_runs_when_a_part_of_the_confinement_fails(folder, change, told):
    spec = prepared.spec(Allowed(), {}, folder=folder)
    spec.write_text(json.dumps({**json.loads(spec.read_text()), **change}))
    text = said(spec, sys.executable, "-c", "print('it ran')", status=78)
    assert "it ran" not in text
    assert told in prepared.failure_of(spec).read_text()


@full
def test_a_command_that_may_not_be_executed_is_told(folder):
    spec = prepared.spec(Allowed(), {}, folder=folder)
    said(spec, shutil.which("cat"), status=78)
    assert "Permission denied" in prepared.failure_of(spec).read_text()


@full
def test_a_program_and_a_folder_of_results_can_be_allowed_and_limits_hold(folder):
    results, cat = folder / "results", Path(shutil.which("cat"))
    results.mkdir()
    allowed = Allowed(write=(results,), execute=(cat,))
    spec = prepared.spec(allowed, {}, folder=folder, limits=ProcessLimits(file_size=4096))
    code = f"""
import subprocess
from pathlib import Path
Path({str(results)!r}, "a").write_text("result")
print(subprocess.run([{str(cat)!r}, {str(results / "a")!r}], capture_output=True, text=True).stdout)
try:
    Path({str(results)!r}, "b").write_bytes(bytes(8192))
except OSError as error:
    print(error.strerror)
"""
    assert said(spec, sys.executable, "-c", code).split("\n")[:2] == ["result", "File too large"]


def test_a_confinement_that_the_process_could_change_or_that_names_nothing_is_refused(folder):
    with pytest.raises(ConfigError, match="may write"):
        prepared.spec(Allowed(write=(folder,)), {}, folder=folder)
    with pytest.raises(ConfigError, match="does not exist"):
        prepared.spec(Allowed(read=(folder / "nothing",)), {}, folder=folder)


ASKS = """\
import os, socket, threading
from workbench.remote.descriptors import ask_for_socket
descriptor = int(os.environ["WORKBENCH_GATEWAY_FD"])
def ask():
    with ask_for_socket(descriptor) as connection:
        connection.settimeout(20)
        connection.send(b"x")
        print(connection.recv(2).decode(), flush=True)
threads = [threading.Thread(target=ask) for _ in range(3)]
[each.start() for each in threads]
[each.join() for each in threads]
ask()
"""


@pytest.mark.parametrize("most", [1, 64])
def test_a_broker_hands_connections_to_one_confined_process_and_to_no_other(folder, most):
    async def served() -> str:
        the_broker = Broker(folder / "broker", most=most)
        spec = prepared.spec(Allowed(), {}, folder=folder, inherited={DESCRIPTOR_VARIABLE: the_broker.path})
        loop = asyncio.get_running_loop()

        async def host(connection: socket.socket) -> None:
            await loop.sock_sendall(connection, await loop.sock_recv(connection, 1) * 2)

        serving = asyncio.create_task(the_broker.serve(host))
        text = await asyncio.to_thread(said, spec, sys.executable, "-c", ASKS)
        await asyncio.wait_for(serving, 10)
        assert not the_broker.path.exists()
        return text

    assert asyncio.run(served()).split() == ["xx"] * 4


def test_a_broker_says_what_is_wrong_with_its_path(folder):
    with pytest.raises(ConfigError, match="too long"):
        Broker(folder / ("x" * 120))
    (folder / "taken").write_text("")
    with pytest.raises(UnavailableError, match="listen"):
        Broker(folder / "taken")


CELLS = [
    "import os, time, polars as pl, numpy as np\nprint(pl.DataFrame({'a': [1, 2]})['a'].sum())",
    "print(sorted(name for name in os.environ if 'SECRET' in name or 'KEY' in name))",
    "if not os.fork():\n    time.sleep(600)",
]


#: Its error tries to write to the terminal that shows it.
FORBIDDEN = """\
try:
    open({!r})
except OSError as error:
    raise PermissionError(str(error) + chr(27) + "]0;title" + chr(7))
"""


@full
def test_a_notebook_s_kernel_is_confined_reads_nothing_else_and_leaves_no_process(folder, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-for-kernels")
    secret, root = folder / "secret", folder / "repository"
    secret.write_text("a secret")
    path = notebook(root / "notebooks" / "a.ipynb", [*CELLS, FORBIDDEN.format(str(secret))])
    spec = prepared.spec(Allowed(), {}, folder=folder)
    confined = Confined(
        command=prepared.launcher(spec), folder=folder / prepared.OWN, failure=prepared.failure_of(spec)
    )
    with pytest.raises(NotebookError, match="PermissionError") as raised:
        execution.execute(
            path,
            root=root,
            parameters={},
            execution=Execution(notebook=str(path)),
            show=False,
            confined=confined,
        )
    assert "denied" in raised.value.message and raised.value.message.replace("\n", "").isprintable()
    (executed,) = (root / EXECUTED).iterdir()
    cells = json.loads(executed.read_text())["cells"]
    printed = ["".join(out.get("text", "")) for cell in cells for out in cell.get("outputs", ())]
    assert [text.strip() for text in printed if text][-2:] == ["3", "[]"]
    running = [process.info["cmdline"] or () for process in psutil.process_iter(["cmdline"])]
    assert not [line for line in running if str(folder) in " ".join(line)]


@full
def test_a_kernel_that_cannot_be_confined_does_not_run_and_says_why(folder):
    path = notebook(folder / "repository" / "a.ipynb", [f"open({str(folder / 'ran')!r}, 'w')"])
    spec = prepared.spec(Allowed(), {}, folder=folder)
    spec.write_text(json.dumps({**json.loads(spec.read_text()), "rules": {"/usr": 0}}))
    confined = Confined(
        command=prepared.launcher(spec), folder=folder / prepared.OWN, failure=prepared.failure_of(spec)
    )
    with pytest.raises(NotebookError, match="could not be confined") as raised:
        execution.execute(
            path, root=path.parent, parameters={}, execution=Execution(notebook=str(path)), show=False,
            confined=confined,
        )  # fmt: skip
    assert "Landlock" in raised.value.message
    assert "doctor" in raised.value.hint
    assert not (folder / "ran").exists()


@full
def test_a_kernel_that_dies_is_told_with_the_last_line_of_its_output(folder):
    path = notebook(
        folder / "repository" / "a.ipynb",
        ["import os, time\nos.write(2, b'out of room')\ntime.sleep(0.5)\nos._exit(3)"],
    )
    spec = prepared.spec(Allowed(), {}, folder=folder)
    confined = Confined(
        command=prepared.launcher(spec), folder=folder / prepared.OWN, failure=prepared.failure_of(spec)
    )
    with pytest.raises(NotebookError, match="its last line of output: out of room"):
        execution.execute(
            path, root=path.parent, parameters={}, execution=Execution(notebook=str(path)), show=False,
            confined=confined,
        )  # fmt: skip


def notebook(path: Path, sources: list[str]) -> Path:
    """A notebook of code cells below one of parameters."""
    path.parent.mkdir(parents=True)
    cells = [
        {
            "cell_type": "code",
            "id": str(n),
            "metadata": {"tags": tags},
            "outputs": [],
            "source": source,
            "execution_count": None,
        }
        for n, (source, tags) in enumerate([("", ["parameters"]), *((source, []) for source in sources)])
    ]
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return path
