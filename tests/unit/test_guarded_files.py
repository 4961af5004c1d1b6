"""Openings of guarded files, by every name that a file can have, and by every function that tells of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import workbench as wb
from workbench.config import EXECUTION_VARIABLE, Execution
from workbench.errors import RefusedError
from workbench.records import egress
from workbench.records.egress import crossing, reported
from workbench.records.guarded import Guard

ROOT = Path(__file__).resolve().parents[2]
QUESTIONS, GATE, X_DB = "data/handbook/questions.jsonl", "results/answers/gate.json", "results/answers/x.db"


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with a guarded file and a guarded folder, as the current folder."""
    for folder in ("data/handbook", "results/answers", "notebooks"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "params.yaml").touch()
    (tmp_path / "data/handbook/questions.jsonl").write_text("{}\n")
    (tmp_path / "data/handbook/pages.md").write_text("# Page\n")
    (tmp_path / "results/answers/gate.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def guard(repository):
    return Guard.of([str(repository / "data/handbook/questions.jsonl"), str(repository / "results")])


@pytest.fixture
def hook(guard, tmp_path):
    """The hook, called as the interpreter would; installed, it could never be taken out again."""
    path = tmp_path / "opened.jsonl"
    path.touch()
    return egress._Watch(path=str(path), guard=guard)


def by_link(name):
    Path("link").symlink_to(name)
    return "link"


def by_hard_link(name):
    Path("notebooks/copy.md").hardlink_to(name)
    return "notebooks/copy.md"


def by_linked_folder(name):
    Path("folder").symlink_to(Path(name).parent)
    return f"folder/{Path(name).name}"


def by_links_of_links(name):
    Path("one").symlink_to(name)
    Path("notebooks/two").symlink_to("../one")
    return "notebooks/two"


def from_elsewhere(name):
    os.chdir("notebooks")
    return f"../{name}"


NAMES = {
    "relative": str,
    "absolute": lambda name: str(Path.cwd() / name),
    "bytes": os.fsencode,
    "path": Path,
    "dots": lambda name: f"notebooks/../data/.././{name}",
    "slashes": lambda name: name.replace("/", "//"),
    "process": lambda name: f"/proc/self/cwd/{name}",
    "link": by_link,
    "hard link": by_hard_link,
    "linked folder": by_linked_folder,
    "links of links": by_links_of_links,
    "from elsewhere": from_elsewhere,
}


@pytest.mark.parametrize("file", ["data/handbook/questions.jsonl", "results/answers/gate.json"])
@pytest.mark.parametrize("name", NAMES)
def test_a_guarded_file_is_known_by_each_of_its_names(guard, name, file):
    assert guard.address_of(NAMES[name](file)) == file


@pytest.mark.parametrize("name", [name for name in NAMES if name != "hard link"])
def test_a_file_made_in_a_guarded_folder_later_is_guarded_too(guard, name):
    file = "results/second/runs/1.json"
    Path(file).parent.mkdir(parents=True)
    Path(file).touch()
    assert guard.address_of(NAMES[name](file)) == file


def test_a_file_that_replaces_a_guarded_one_is_guarded(guard):
    Path("new").write_text("[]")
    Path("new").replace("data/handbook/questions.jsonl")
    assert guard.address_of("data/handbook/questions.jsonl") == "data/handbook/questions.jsonl"


def test_what_does_not_exist_yet_is_guarded_by_name(repository):
    guard = Guard.of([str(repository / "data/later.jsonl"), str(repository / "later")])
    assert guard.address_of("data/later.jsonl") == "data/later.jsonl"
    (repository / "later").mkdir()
    assert guard.address_of("notebooks/../later/x") == "later/x"
    assert guard.address_of("data/other.jsonl") is None


def test_a_guarded_link_guards_the_file_that_it_leads_to(repository):
    Path("linked.md").symlink_to("data/handbook/pages.md")
    guard = Guard.of([str(repository / "linked.md")])
    assert guard.address_of("data/handbook/pages.md") == "linked.md"
    assert guard.address_of("linked.md") == "linked.md"


@pytest.mark.parametrize(
    "name",
    [
        "data/handbook/pages.md",
        "params.yaml",
        "notebooks/questions.jsonl",
        "data/results",
        "results.md",
        "results2/gate.json",
        "no/such/file",
        "/etc/passwd",
        "/",
        "",
    ],
)
def test_another_file_is_not_guarded(guard, name):
    Path("results2").mkdir()
    for made in ("notebooks/questions.jsonl", "results.md", "results2/gate.json", "data/results"):
        Path(made).touch()
    assert guard.address_of(name) is None


def test_a_relative_name_begins_at_its_folder_where_the_event_tells_it_and_at_any_open_one_elsewhere(guard):
    folder = os.open("data/handbook", os.O_RDONLY)
    try:
        assert guard.address_of("questions.jsonl", folder) == "data/handbook/questions.jsonl"
        assert guard.address_of("questions.jsonl", -1) == "data/handbook/questions.jsonl"
        assert guard.address_of("questions.jsonl") is None
        assert guard.address_of("pages.md", -1) is None
    finally:
        os.close(folder)
    assert guard.address_of("questions.jsonl", -1) is None


def test_a_report_names_the_file_in_the_repository_and_comes_from_inside_a_crossing_too(hook, tmp_path):
    hook("open", ("data/handbook/questions.jsonl", "r", 0))
    with crossing():
        hook("open", (b"results/answers/gate.json", None, 0))
    first, second = reported(tmp_path / "opened.jsonl")
    assert (first["event"], first["address"]) == ("open", "data/handbook/questions.jsonl")
    assert first["where"].startswith(__file__)
    assert second["address"] == "results/answers/gate.json"


def test_an_opening_hidden_in_the_name_of_a_program_is_reported(hook, tmp_path):
    class Curl(os.PathLike):
        def __fspath__(self):
            hook("open", ("results/answers/gate.json", "r", 0))
            return "curl"

    hook("os.exec", (Curl(), [], None))
    assert {line["event"] for line in reported(tmp_path / "opened.jsonl")} == {"open", "os.exec"}


def test_a_descriptor_is_no_file_and_the_report_itself_is_not_reported(guard, repository):
    path = repository / "results/opened.jsonl"
    path.touch()
    hook = egress._Watch(path=str(path), guard=guard)
    hook("open", (3, "r", 0))
    hook("open", ("results", None, 0))
    assert [line["address"] for line in reported(path)] == ["results"]


def test_a_process_without_guarded_files_asks_nothing_of_the_system(repository, monkeypatch):
    monkeypatch.setattr(Guard, "address_of", lambda *_: pytest.fail("asked"))
    egress._Watch(path="opened.jsonl")("open", ("results", "r", 0))


SEEN = {
    "open": "open(name).read()",
    "bytes": "open(os.fsencode(name))",
    "write": "open(name, 'a')",
    "opener": "open(name, opener=os.open)",
    "os.open": "os.open(name, os.O_RDONLY)",
    "os.open of a Path": "os.open(pathlib.Path(name), os.O_RDONLY)",
    "dir_fd": "os.open(os.path.basename(name), os.O_RDONLY, dir_fd=os.open('data', os.O_RDONLY))",
    "Path": "pathlib.Path(name).read_text()",
    "io.open_code": "io.open_code(os.path.abspath(name))",
    "io.FileIO": "io.FileIO(name)",
    "mmap": "mmap.mmap(os.open(name, os.O_RDONLY), 0, prot=mmap.PROT_READ)",
    "numpy.fromfile": "np.fromfile(name)",
    "numpy.genfromtxt": "np.genfromtxt(name, dtype=str)",
    "numpy.memmap": "np.memmap(name, mode='r')",
    "shutil.copy": "shutil.copy(name, 'copy1')",
    "os.link": "os.link(name, 'copy2')",
    "os.link at a descriptor": "os.link(os.path.basename(name), 'copy3', src_dir_fd=os.open('data', 0))",
    "os.rename": "os.rename(name, 'copy4')",
    "os.replace": "os.replace(name, 'copy5')",
    "sqlite3": "sqlite3.connect(name)",
    "sqlite3 URI": "sqlite3.connect(f'file:{name}?mode=ro'.replace('jsonl', '%6asonl'), uri=True)",
    "sqlite3 URI with slashes": "sqlite3.connect('file://' + os.path.abspath(name), uri=True)",
    "runpy": "runpy.run_path(name)",
    "chdir": "os.chdir('data'); open(os.path.basename(name)); os.chdir('..')",
    "thread": "t = threading.Thread(target=open, args=(name,)); t.start(); t.join()",
    "fork": "os.fork() or (open(name), os._exit(0)); os.wait()",
    "crossing": "token = egress.enter(); open(name); egress.leave(token)",
}
UNSEEN = {
    "polars.read_ndjson": "pl.read_ndjson(name)",
    "polars.scan_lines": "pl.scan_lines(name).collect()",
    "SQLite's attach": "sqlite3.connect(':memory:').execute(f\"attach '{name}' as other\")",
    "ctypes": "ctypes.CDLL(None).open(name.encode(), 0)",
}
SCRIPT = """
import contextlib, ctypes, io, mmap, os, pathlib, runpy, shutil, sqlite3, sys, threading
import numpy as np, polars as pl
from workbench.records import egress

egress.watch("opened.jsonl", [f"data/{number}.jsonl" for number in range(len(sys.argv) - 1)])
for number, code in enumerate(sys.argv[1:]):
    name = f"data/{number}.jsonl"
    with contextlib.suppress(sqlite3.DatabaseError):
        exec(code)
"""


def test_each_way_to_open_a_file_that_python_tells_of_is_reported_and_no_other_is(repository):
    """One process, in which each way opens a guarded file of its own."""
    ways = {**SEEN, **UNSEEN}
    files = {f"data/{number}.jsonl": way for number, way in enumerate(ways)}
    for file in files:
        Path(file).write_text("{}\n")
    told = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SCRIPT, *ways.values()]
    subprocess.run(command, cwd=repository, env=told, check=True, timeout=60)
    found = [files[report["address"]] for report in reported(repository / "opened.jsonl")]
    assert list(dict.fromkeys(found)) == list(SEEN)


def connected(monkeypatch, publish, **more):
    execution = Execution(notebook="n.ipynb", use_case="answers", mode="replay", publish=publish, **more)
    monkeypatch.setenv(EXECUTION_VARIABLE, execution.environment()[EXECUTION_VARIABLE])
    return wb.connect("answers", root=ROOT)


def test_a_job_and_a_judged_run_are_given_inputs_and_refused_the_cases(monkeypatch, tmp_path):
    ws = connected(monkeypatch, str(tmp_path / "out"))
    assert len(ws.inputs("data/inbox/sample.jsonl")) > 0
    for workspace in (ws, ws.bind(tenant="globex", purpose="explore")):
        with pytest.raises(RefusedError, match="given inputs and never what is expected") as caught:
            workspace.cases()
        assert "`explore`" in caught.value.hint


def test_a_run_for_one_tenant_is_bound_to_no_other(monkeypatch, tmp_path):
    ws = connected(monkeypatch, str(tmp_path / "out"), tenant="globex", job="answers")
    assert ws.context.tenant == ws.bind(tenant="globex").context.tenant == "globex"
    for other in (lambda: ws.bind(tenant="acme"), lambda: wb.connect("answers", root=ROOT, tenant="acme")):
        with pytest.raises(RefusedError, match="tenant 'globex' alone") as caught:
            other()
        assert "--tenant" in caught.value.hint


def test_the_experiment_stage_has_the_cases(monkeypatch):
    assert len(connected(monkeypatch, None).cases()) > 0


def natively(tmp_path, code, *guarded):
    """Return the addresses that the system tells of while a process runs some code."""
    report = tmp_path / "opened.jsonl"
    report.touch()
    with egress.natively(report, [tmp_path / name for name in guarded]):
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert all(line["event"] == "open" and "library" in line["where"] for line in reported(report))
    return [line["address"] for line in reported(report)]


@pytest.mark.parametrize(
    ("code", "opened"),
    [
        ("import polars; polars.read_ndjson('data/handbook/questions.jsonl')", [QUESTIONS]),
        ("import polars; polars.scan_ndjson('data/*/*.jsonl').collect()", [QUESTIONS]),
        ("import polars; polars.scan_lines('results/answers/gate.json').collect()", [GATE]),
        ("import ctypes; ctypes.CDLL(None).open(b'results/answers/gate.json', 0)", [GATE]),
        (
            "import sqlite3 as s; s.connect(':memory:').execute(\"attach 'results/answers/x.db' as x\")",
            [X_DB],
        ),
        ("import subprocess; subprocess.run(['cat', 'data/handbook/questions.jsonl'])", [QUESTIONS]),
        ("import polars; polars.scan_lines('hard link').collect()", [QUESTIONS]),
        ("open('data/handbook/pages.md'); open('notebooks/x', 'w')", []),
        ("import os; os.listdir('results'); os.stat('results/answers/gate.json')", []),
    ],
)
def test_the_system_tells_of_files_that_libraries_open(repository, code, opened):
    Path(X_DB).touch()
    Path("hard link").hardlink_to(QUESTIONS)
    assert natively(repository, code, QUESTIONS, "results") == (opened if sys.platform == "linux" else [])


def test_what_a_watch_reported_is_not_reported_again(hook, tmp_path):
    hook("open", (QUESTIONS, "r", 0))
    report = tmp_path / "opened.jsonl"
    with egress.natively(report, [tmp_path / QUESTIONS]):
        Path(QUESTIONS).read_bytes()
    (line,) = reported(report)
    assert line["where"].startswith(__file__)


def test_a_guarded_file_that_does_not_exist_is_no_error(repository):
    assert natively(repository, "open('params.yaml')", "no/such/file") == []
