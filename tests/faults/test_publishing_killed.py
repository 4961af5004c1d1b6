"""Publishing killed at every step it takes on the disk, and on a disk that takes no more."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys

import pytest

from workbench.jobs.publishing import read, recover

PRELUDE = """
import os, signal, sys
from pathlib import Path
from workbench.errors import UnavailableError
from workbench.jobs.publishing import PublishedManifest, publish, read, recover, staging_of

target = Path(sys.argv[1]) / "answers" / "acme" / "20261124T060000Z"

def manifest(run):
    return PublishedManifest(
        job="answers", version=1, tenant="acme", at="2026-11-24T06:00:00Z", run=run, use_case="answers",
        input_digest="i", task_digest="t",
    )

def staged(run, size=1000):
    folder = staging_of(target, run)
    (folder / "deep").mkdir(parents=True)
    (folder / "answers").write_bytes(run.encode() * size)
    (folder / "deep" / "rows").write_bytes(run.encode())
    return folder

def dead(_run):
    return False
"""
#: Ends the process by SIGKILL just before its n-th step on the disk, and says each step it comes to.
STEPS = """
left = int(sys.argv[2])
def step(event, args):
    global left
    writes = event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if writes or event in {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree"}:
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        os.write(1, (event + "\\n").encode())
"""
OLD = "publish(staged('old'), target, manifest('old'))"
NEW = (
    STEPS + "new = staged('new'); sys.addaudithook(step); publish(new, target, manifest('new'), replace=True)"
)
RECOVER = STEPS + "sys.addaudithook(step); recover(target.parents[1], alive=dead)"


def run(script, folder, *args):
    """The steps a process came to, and its exit code."""
    command = [sys.executable, "-c", PRELUDE + script, str(folder), *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in {0, -signal.SIGKILL}, done.stderr
    return done.stdout.split(), done.returncode


def one_whole_output(folder):
    """The run whose output is published there, after a look that nothing else is."""
    slots = folder / "answers" / "acme"
    assert [path.name for path in slots.iterdir()] == ["20261124T060000Z"]
    found = read(slots / "20261124T060000Z")
    assert found.outputs.keys() == {"answers", "deep/rows"}
    return found.run


def test_killed_at_every_step_of_a_replacement_the_old_or_the_new_output_is_whole(tmp_path):
    survivors = []
    run(OLD, tmp_path / "old")
    for n in range(100):
        folder = shutil.copytree(tmp_path / "old", tmp_path / str(n))
        steps, code = run(NEW, folder, n)
        recover(folder / "answers", alive=lambda _: False)
        survivors.append(one_whole_output(folder))
        if code == 0:
            break
    assert {"open", "os.rename", "shutil.rmtree", "os.remove", "os.rmdir"} <= set(steps)
    assert len(survivors) == len(steps) + 1 > 8
    changed = survivors.index("new")
    assert survivors == ["old"] * changed + ["new"] * (len(survivors) - changed) and changed > 2


@pytest.mark.parametrize("at", ["between the renames", "while removing the old"])
def test_killed_at_every_step_of_recovering_the_next_one_finishes(tmp_path, at):
    run(OLD, tmp_path / "count")
    steps, _ = run(NEW, tmp_path / "count", 100)
    renames = [n for n, step in enumerate(steps) if step == "os.rename"]
    kill, whole = (renames[-2], "old") if at == "between the renames" else (steps.index("os.rmdir"), "new")
    run(OLD, tmp_path / "torn")
    run(NEW, tmp_path / "torn", kill)
    for n in range(100):
        folder = shutil.copytree(tmp_path / "torn", tmp_path / str(n))
        steps, code = run(RECOVER, folder, n)
        recover(folder / "answers", alive=lambda _: False)
        assert one_whole_output(folder) == whole
        if code == 0:
            break
    assert len(steps) == n > 1


FULL = """
publish(staged("old"), target, manifest("old"))
new = staged("new")
filler = Path(sys.argv[1]) / "filler"
with filler.open("wb", buffering=0) as file:
    try:
        while True:
            file.write(bytes(512))
    except OSError:
        pass
try:
    publish(new, target, manifest("new"), replace=True)
except UnavailableError as error:
    assert "No space left" in error.message and "free some space" in error.hint, error
else:
    raise SystemExit("it was published on a full disk")
assert read(target).run == "old"
filler.unlink()
assert sorted(path.name for path in new.iterdir()) == ["answers", "deep"]
publish(new, target, manifest("new"), replace=True)
assert read(target).run == "new"
assert [path.name for path in target.parent.iterdir()] == [target.name]
"""
READ_ONLY = """
publish(staged("old"), target, manifest("old"))
new = staged("new")
assert os.system(f"mount -o remount,ro {sys.argv[1]}") == 0
for work in (
    lambda: publish(new, target, manifest("new"), replace=True),
    lambda: publish(new, target.with_name("other"), manifest("new")),
    lambda: recover(target.parents[1], alive=dead),
):
    try:
        work()
    except UnavailableError as error:
        assert "Read-only" in error.message and "mounted read-only" in error.hint, error
    else:
        raise SystemExit("a read-only disk was written to")
assert read(target).run == "old"
assert sorted(path.name for path in target.parent.iterdir()) == [new.name, target.name]
"""
LEDGER = """
import datetime as dt
from workbench.jobs.ledger import Slot
from workbench.jobs.ledger.sqlite import SqliteLedger
from workbench.testing.fakes import FakeClock

ledger = SqliteLedger(Path(sys.argv[1]) / "state" / "jobs.db", clock=FakeClock())
def claim(n):
    slot = Slot(job="answers", tenant="acme", at=dt.datetime(2026, 11, 24, n, tzinfo=dt.UTC))
    return ledger.claim(slot, run=f"r{n}", version=1, input_digest="i")
claim(0)
filler = Path(sys.argv[1]) / "filler"
with filler.open("wb", buffering=0) as file:
    try:
        while True:
            file.write(bytes(512))
    except OSError:
        pass
try:
    claim(1)
except UnavailableError as error:
    assert error.hint, error
else:
    raise SystemExit("a run was claimed on a full disk")
filler.unlink()
claim(1)
ledger.close()
assert os.system(f"mount -o remount,ro {sys.argv[1]}") == 0
try:
    claim(2)
except UnavailableError as error:
    assert "read-only" in error.message and error.hint, error
else:
    raise SystemExit("a run was claimed on a read-only disk")
assert os.system(f"mount -o remount,rw {sys.argv[1]}") == 0
assert [run.run for run in ledger.history()] == ["r1", "r0"]
"""


@pytest.mark.parametrize("script", [FULL, READ_ONLY, LEDGER], ids=["full", "read-only", "ledger"])
def test_a_disk_that_takes_no_more_publishes_nothing_half(tmp_path, script):
    mount = 'mount -t tmpfs -o size=256k tmpfs "$1" && shift && exec "$@"'
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, "sh", str(tmp_path)]
    done = subprocess.run(
        [*command, sys.executable, "-c", PRELUDE + script, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
