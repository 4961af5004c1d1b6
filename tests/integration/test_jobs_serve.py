"""A server of the shipped jobs with real commands: a rehearsal, a killed server, and a stopped one."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time

import polars as pl
import psutil
import pytest
from clones import ROOT, Clone
from made_once import made_once

from workbench.context import SystemClock
from workbench.jobs import spec as jobspec
from workbench.jobs import versions
from workbench.jobs.ledger import open_ledger
from workbench.layout import ENVIRONMENTS, LOCK
from workbench.repository import environments
from workbench.repository.git import Repository

pytestmark = pytest.mark.integration
DAY = "2026-11-24"


@pytest.fixture(scope="module")
def shipped_jobs(tmp_path_factory) -> Clone:
    """A clone of HEAD with one row of input for each job; no test changes it."""

    def make(folder):
        clone = Clone.at(made_once(tmp_path_factory, "head", Clone.of_head)).copied(folder)
        inbox = clone.folder / "data/inbox"
        pl.read_parquet(inbox / f"{DAY}.parquet").head(1).write_parquet(inbox / f"{DAY}.parquet")
        tickets = inbox / f"triage-{DAY}.jsonl"
        tickets.write_text(tickets.read_text().partition("\n")[0] + "\n")
        clone.run("git", "add", "--all", "--force", "data/inbox")
        clone.run("git", "commit", "--quiet", "--message", "Inputs of one row")
        _install_environments(clone, tmp_path_factory)

    return Clone.at(made_once(tmp_path_factory, "shipped-jobs", make))


def _install_environments(clone, tmp_path_factory):
    """The running environment, under another name, stands for that of an older lock."""
    for spec in versions.without_environment(clone.folder):
        lock = Repository(root=clone.folder).read(jobspec.code_of(clone.folder, spec), LOCK)
        folder = clone.folder / ENVIRONMENTS / environments.digest(lock)
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.symlink_to(tmp_path_factory.mktemp("environment") / "named", target_is_directory=True)
            running, named = (ROOT / ".venv").resolve(), folder.readlink()
            if subprocess.run(["cp", "-a", "--link", running, named], check=False).returncode:
                subprocess.run(["cp", "-a", running, named], check=True)
            (named / environments.STAMP).unlink(missing_ok=True)
            (named / environments.STAMP).write_bytes(lock)


@pytest.fixture
def clone(shipped_jobs, tmp_path) -> Clone:
    return shipped_jobs.copied(tmp_path)


@pytest.fixture
def ledger(clone):
    return open_ledger(clone.folder, SystemClock())


def published(clone):
    folder = clone.folder / "published"
    return sorted(str(path.parent.relative_to(folder)) for path in folder.glob("*/*/*/manifest.json"))


def left(clone):
    """The processes whose working folder or arguments are in the clone, and that do not end by themselves."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(clone.folder) in f"{process.cwd()} {' '.join(process.cmdline())}":
                found.append(process)
        except psutil.Error:
            continue
    return psutil.wait_procs(found, timeout=10)[1]


def wait(look, seconds=60):
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
    return found


def running(ledger):
    """The triggered run, once its worker has started; the slot of today may come due meanwhile."""

    def found():
        return [run for run in ledger.unfinished() if (run.state, run.trigger) == ("running", "trigger")]

    return wait(found)[0]


def test_both_shipped_jobs_run_on_schedule_under_a_clock_in_fast_motion(clone, ledger):
    rehearsal = "--from 2026-11-24T05:59Z --speed 20000 --until 2026-11-24T06:31Z"
    said = clone.run("make", "serve", f"ARGS={rehearsal} --json")
    assert json.loads(re.search(r"^\{.*^\}", said, re.DOTALL | re.MULTILINE)[0]) == {"published": 2}
    assert published(clone) == ["answers/all/20261124T060000Z", "triage/all/20261124T063000Z"]
    ended = [run for run in ledger.history() if run.outcome == "published"]
    assert {run.trigger for run in ended} == {"schedule"} and {run.attempt for run in ended} == {1}
    for run in ended:
        assert 0 <= (run.started_at - run.slot.at).total_seconds() < 3_600
        assert (run.finished_at - run.started_at).total_seconds() < 280
    assert ledger.servers() == [] and ledger.unfinished() == [] and not left(clone)


def test_a_stopped_server_lets_its_run_wait_and_the_run_outlives_the_next_one_that_is_killed(clone, ledger):
    """Three servers have the same run: one is stopped, one is killed, and one takes the run over."""
    clone.run("workbench", "jobs", "trigger", "triage", "--at", DAY)
    server = clone.start("workbench", "jobs", "serve", "--grace", "0", "--address", "127.0.0.1:0")
    run = running(ledger)
    server.send_signal(signal.SIGTERM)
    output, _ = server.communicate(timeout=30)
    assert server.returncode == 0, output
    assert ledger.run(run.run).state == "waiting" and published(clone) == [] and not left(clone)

    server = clone.start("workbench", "jobs", "serve", "--address", "127.0.0.1:0")
    assert running(ledger).run == run.run
    server.send_signal(signal.SIGKILL)
    server.communicate()
    assert ledger.is_alive(run.run)
    # Any code: a slot of today that came due meanwhile has no input and is refused.
    said = clone.run("workbench", "jobs", "serve", "--once", code=None)
    (ended,) = [item for item in ledger.history("triage") if item.trigger == "trigger"]
    assert (ended.run, ended.outcome, ended.attempt) == (run.run, "published", 1), said
    assert "the server ended: " in said
    assert published(clone) == ["triage/all/20261124T063000Z"]
    wait(lambda: not left(clone), 30)  # the run's command, no child of this server, ends after its line
