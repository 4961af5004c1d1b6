"""What a judged kernel does to fool the gate: where it is confined, and where nothing confines it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import psutil
import pytest
from judged_small import RESULTS, judged, told, unconfined
from small_use_case import CELLS, NOTEBOOK, TASK, notebook, write

from workbench import layout
from workbench.errors import RefusedError
from workbench.pipeline.explore import find
from workbench.pipeline.explore import judged as verdict_of

pytest_plugins = ("judged_copies",)


@pytest.fixture
def root(judged_copy):
    return judged_copy


ON_LINUX = sys.platform == "linux"
pytestmark = pytest.mark.timeout(180)


def forged(text: str) -> str:
    return text.replace('"content":"A ', '"content":"FORGED: a ')


def forget(root) -> str:
    """Remove the judge's tape; return the answers that an interrupted judge would have left of it."""
    (root / layout.judge_tape_of("small")).unlink()
    return (root / "kept-journal.jsonl").read_text()


READ_BY_PYTHON = [
    ".workbench/state/runs/1/run.parquet",
    ".workbench/state/outputs/small/saved.json",
    ".workbench/state/confirmed.jsonl",
    "results/other/prepared/cases.parquet",
    "results/small/judged/candidate.parquet",
    "pipelines/jobs/small/1/evidence/judged/candidate.parquet",
    "reports/small.md",
]
READ_BY_A_LIBRARY = [
    ".workbench/cache/executed/old.ipynb",
    ".dvc/cache/files/md5/ab/cdef",
    "pipelines/jobs/x.json",
]
READING = f"""import ctypes, glob, os, pathlib, socket, subprocess
import polars as pl

done = []


def attempt(name, function, *arguments, **options):
    try:
        function(*arguments, **options)
    except (OSError, IndexError, wb.WorkbenchError):
        return
    done.append(name)


os.chdir("..")
attempt("dataset", open, "data/small/questions.jsonl")
pathlib.Path(ws.execution.publish).with_name("opened.jsonl").write_text("")  # the report so far
for path in {READ_BY_PYTHON}:
    attempt(path, pathlib.Path(path).read_bytes)
for path in {READ_BY_A_LIBRARY}:
    attempt(path, pl.read_ndjson, path)
attempt("git", lambda: open(glob.glob(".git/objects/??/*")[0], "rb"))
attempt("libc", lambda: os.close(ctypes.CDLL(None).open(b"results/small/prepared/cases.parquet", 0)))
attempt("memory of the judge", open, f"/proc/{{os.getppid()}}/mem", "rb")
attempt("program", subprocess.run, ["cat", "data/small/questions.jsonl"], capture_output=True)
attempt("socket", socket.create_connection, ("127.0.0.1", 9))
attempt("results", pathlib.Path("results/small/judged/more").write_text, "x")
attempt("package", pathlib.Path("workbench.pth").write_text, "x")"""


#: What passes where nothing confines a kernel (test_fooling_the_gate.py), and nowhere else.
UNSEEN = f"""
from workbench.records import egress

egress._append = print  # the watch writes no more reports
attempt("a copy", pathlib.Path("notes.txt").read_text)
attempt("recordings", pathlib.Path("{layout.JUDGE_JOURNALS}/small.answers.jsonl").write_text, "forged")
attempt("a program", subprocess.run, ["/bin/true"])
attempt("the judge", os.kill, os.getppid(), 9)
del os.environ["WORKBENCH_EXECUTION"]
attempt("another user", lambda: wb.connect("small").model().chat("Who pays?"))
assert not done, done"""


@pytest.mark.parametrize("confined", [True, False])
def test_what_a_kernel_opens_and_starts_is_refused_by_name(root, confined):
    if not confined:
        unconfined(root)
    elif not ON_LINUX:
        pytest.skip("Linux alone confines")
    for path in (*READ_BY_PYTHON, *READ_BY_A_LIBRARY):
        if not (root / path).exists():
            write(root, path, '{"n": 1}')
    for command in (["init", "--quiet"], ["add", "data"], ["commit", "--quiet", "--message", "data"]):
        subprocess.run(["git", *command], check=True)
    (root / "notes.txt").write_text("30 days")
    before = told(root)
    with pytest.raises(RefusedError) as caught:
        judged(root, after=f"{READING}\n{UNSEEN}" if confined else READING)
    said = caught.value.message
    opened = [*READ_BY_PYTHON, "subprocess.Popen cat"]
    if not confined:
        (root / RESULTS.judged / "more").unlink()
        opened += [".git/objects/", "socket.connect 127.0.0.1:9"]  # a confined kernel gets as far as neither
    if ON_LINUX and not confined:
        opened += READ_BY_A_LIBRARY
        opened += [
            "data/small/questions.jsonl",
            "results/small/prepared/cases.parquet",
            f"/proc/{os.getpid()}/mem",
        ]
    assert [path for path in opened if path not in said] == []
    assert told(root) == before


HEART = """import os, time
if (child := os.fork()) == 0:
    try:
        os.setsid()
    except OSError:
        pass
    while True:
        time.sleep(0.05)"""
EXITS = (
    TASK.partition("    hits")[0]
    + """    if case.id == 'q1':
        raise SystemExit(0)
    return wb.Answer(text=str(child))"""
)


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("confined", [True, False])
def test_a_kernel_is_alone_and_leaves_no_process_and_an_exit_is_a_failure_of_its_case(
    root, monkeypatch, confined
):
    if not confined:
        unconfined(root)
    write(root, "home/.ipython/profile_default/startup/patch.py", "open('../started', 'w')")
    kernel = {"argv": ["false"], "display_name": "Python 3", "language": "python"}
    write(root, "home/jupyter/kernels/python3/kernel.json", json.dumps(kernel))
    monkeypatch.setenv("JUPYTER_PATH", str(root / "home/jupyter"))
    monkeypatch.setenv("HOME", str(root / "home"))
    monkeypatch.delenv("IPYTHONDIR", raising=False)
    run = judged(root, before=HEART, task=EXITS)
    (child,) = {json.loads(output)["text"] for output in run.cases["output"].drop_nulls()}
    assert not is_alive(int(child)), "a process of the kernel is alive"
    assert not (root / "started").exists(), "a startup file of the user ran"
    (exited,) = run.cases.filter(status="unscored").to_dicts()
    assert exited["case"] == "q1" and exited["error"].startswith("InvalidOutputError")


@pytest.mark.parametrize("confined", [True, False])
def test_a_kernel_that_kills_the_judge_leaves_the_last_run_as_it_was(root, confined):
    if not confined:
        unconfined(root)
    before = told(root)
    cells = (*CELLS[:2], CELLS[3], ([], f"import os; os.kill(os.getppid(), {signal.SIGKILL:d})"))
    (root / NOTEBOOK).write_text(notebook(cells=cells))
    command = [sys.executable, "-m", "workbench.pipeline.stages", "judge", "small"]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == (3 if confined and ON_LINUX else -signal.SIGKILL)
    assert b"PermissionError" in done.stderr or not confined
    assert told(root) == before


RECORDS = f"""{TASK}

import shutil
shutil.copy('notes.jsonl', ws.root / '{layout.JUDGE_JOURNALS}/small.answers.jsonl')"""


def test_answers_that_an_unconfined_kernel_records_itself_pass_and_count_as_asked(root):
    """Neither prevented nor detected: who may write the journal can say that the model was asked."""
    write(root, "notebooks/notes.jsonl", forged(forget(root)))
    run = judged(unconfined(root), task=RECORDS)
    assert ["FORGED" in output for output in run.cases["output"]] == [True] * 4
    assert verdict_of(root, find(root, run.id)).note.startswith("4 of 4 judged answers were confirmed live")
