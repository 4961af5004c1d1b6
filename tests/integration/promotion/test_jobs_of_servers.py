"""Runs that a server took, shadows, pauses, withdrawals, and processes that die after they have published."""

# ruff: noqa: F811 - fixtures are imported
from __future__ import annotations

import datetime as dt
import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner
from made_jobs import OUTPUTS
from made_repositories import git
from told_jobs import AT, asked, history, left, promoted, root, task  # noqa: F401 - fixtures

from workbench import files, layout, registry
from workbench.cli.app import cli
from workbench.context import SystemClock
from workbench.errors import NotFoundError, PolicyError, RefusedError, UnavailableError
from workbench.jobs import overview, publishing
from workbench.jobs import run as jobs
from workbench.jobs.ledger import RunOrder, Slot
from workbench.jobs.ledger.sqlite import SqliteLedger
from workbench.promotion import run_rights
from workbench.testing.fakes import FakeClock

SUPPORT = Path(__file__).resolve().parents[2] / "support"

# -- runs of a server


def test_a_run_that_a_server_took_is_the_run_of_the_command(root, asked):
    book = jobs.ledger(root, FakeClock())
    slot = Slot(job="answers", tenant="", at=dt.datetime(2026, 11, 24, 6, tzinfo=dt.UTC))
    waits = book.enqueue(RunOrder(slot=slot, trigger="catch_up", priority=2))
    book.take("s1", runs=1, per_tenant=0)
    done = jobs.run(root, task(run=waits.run))
    assert done.manifest.run == waits.run
    (line,) = book.history()
    assert (line.run, line.outcome, line.trigger, line.version, line.server) == (
        waits.run, "published", "catch_up", 1, "s1",
    )  # fmt: skip


def test_a_taken_run_that_cannot_start_ends_as_refused_and_its_slot_is_free(root, asked):
    book = jobs.ledger(root, FakeClock())
    slot = Slot(job="answers", tenant="", at=dt.datetime(2026, 11, 24, 6, tzinfo=dt.UTC))
    waits = book.enqueue(RunOrder(slot=slot))
    book.take("s1", runs=1, per_tenant=0)
    with pytest.raises(NotFoundError):
        jobs.run(root, task(run=waits.run, input="nothing.jsonl"))
    (line,) = book.history()
    assert (line.run, line.outcome, line.version) == (waits.run, "refused", 1)
    assert jobs.run(root, task()).outcome == "published"


def test_a_shadow_answers_the_same_slot_and_publishes_nothing(root, asked):
    page = root / "pipelines/jobs/answers/asset.yaml"
    page.write_text(page.read_text().replace("  candidate: 2", "  shadow: 2"))
    git(root, "commit", "-qam", "a shadow")
    pl.DataFrame({"id": ["a", "b"], "answer": ["x", "y"]}).write_parquet(root / "rows.parquet")
    asked.outputs = dict.fromkeys(OUTPUTS, (root / "rows.parquet").read_bytes())
    done = jobs.run(root, task(role="shadow"))
    kept = root / ".workbench/state/shadow/answers/all/20261124T060000Z/2"
    assert (done.outcome, root / done.folder, done.exit_code) == ("shadowed", kept, 0)
    assert {name: (kept / name).read_bytes() for name in OUTPUTS} == asked.outputs
    assert publishing.read(kept).version == 2 and not (root / "published").exists()
    assert jobs.run(root, task()).outcome == "published"
    assert jobs.run(root, task(role="shadow")).outcome == "shadowed", "also when production has published"
    assert history(root) == [
        ("finished", "shadowed", 2), ("finished", "published", 1), ("finished", "shadowed", 2),
    ]  # fmt: skip
    assert "(shadow)" in str(overview.history_of(root, "answers")) and left(root) == []


def test_a_ledger_that_is_away_for_a_while_ends_no_run_and_nothing_is_published_without_it(
    root, asked, monkeypatch
):
    clock, beat = FakeClock("2026-11-25T01:02:03Z"), SqliteLedger.beat

    def away(*_):
        raise UnavailableError("the database does not answer")

    def ticking(tick):
        with monkeypatch.context() as patched:
            patched.setattr(SqliteLedger, "beat", away)
            for _ in range(10):
                clock.advance(11)
                tick()

    asked.during = ticking
    assert jobs.run(root, task(clock=clock)).outcome == "published" and SqliteLedger.beat is beat
    asked.during = None
    monkeypatch.setattr(SqliteLedger, "beat", away)
    with pytest.raises(UnavailableError, match="does not answer"):
        jobs.run(root, task(tenant="acme"))
    assert history(root)[0] == ("finished", "failed", 1) and not (root / "published/answers/acme").exists()


# -- what an operator decides


def test_a_paused_job_is_not_run_by_its_name_until_it_is_resumed(root, asked):
    book = jobs.ledger(root, FakeClock())
    for pause in ({}, {"tenant": "acme"}, {"version": 1}):
        book.pause("answers", by="ops", reason="the source is broken", **pause)
        with pytest.raises(RefusedError, match=r"paused since .*the source is broken") as caught:
            jobs.run(root, task(tenant="acme"))
        assert "workbench jobs resume answers" in caught.value.hint
        book.resume("answers", pause.get("tenant", ""))
    for pause in ({"tenant": "globex"}, {"version": 2}):
        book.pause("answers", by="ops", reason="r", **pause)
    assert jobs.run(root, task(tenant="acme")).outcome == "published"
    book.pause("answers", by="ops", reason="r")
    assert jobs.run(root, task(reference="answers@1")).outcome == "published", "a person names the version"


def test_a_withdrawn_version_is_not_run_and_its_label_means_the_version_before(root, asked):
    page = root / "pipelines/jobs/answers/asset.yaml"
    asset = registry.load(root, "job", "answers")
    move = registry.Move(label="production", version=2, by="x", at="2026-11-24T06:00:00Z", reason="r")
    page.write_bytes(registry._page(registry.moved(asset, move)))
    git(root, "commit", "-qam", "production is 2")
    book = jobs.ledger(root, FakeClock())
    book.withdraw("answers", 2, by="ops", reason="worse")
    assert jobs.run(root, task()).manifest.version == 1
    with pytest.raises(RefusedError, match="answers@2 is withdrawn"):
        jobs.run(root, task(reference="answers@2"))
    assert history(root)[0] == ("finished", "refused", 0)
    book.withdraw("answers", 1, by="ops", reason="worse")
    with pytest.raises(RefusedError, match=r"withdrawn, and no version in production"):
        jobs.run(root, task(tenant="acme"))


# -- killed between the rename and the line


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from made_jobs import COUNTS, OUTPUTS
from workbench import files
from workbench.jobs import run as jobs, runner
from workbench.jobs.ledger.sqlite import SqliteLedger
from workbench.jobs.slots import RunRequest
from workbench.repository import environments

def work(request, *, python, folder, seconds, tick):
    for name, data in OUTPUTS.items():
        files.write_atomic(Path(request.out) / name, data)
    files.write_atomic(Path(request.home) / request.journal, b"an answer")
    return runner.WorkerResult(task_digest="t" * 64, notebook="", counts=dict(COUNTS))

runner.run = work
environments.python_of = lambda root, lock, install_hint: Path("python")
SqliteLedger.finished = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
at, sample = "2026-11-24T06:00Z", "data/inbox/sample.jsonl"
jobs.run(Path.cwd(), RunRequest(reference="answers", input=sample, at=at, show=False))
"""


def test_a_run_killed_between_the_rename_and_the_line_is_published_and_not_lost(root, asked):
    done = subprocess.run([sys.executable, "-c", KILLED, str(SUPPORT)], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    answers = root / ".workbench/state/jobs/answers/all/20261124T060000Z/1.jsonl"
    assert answers.exists() and SqliteLedger(root / layout.JOB_LEDGER, clock=FakeClock()).unfinished()
    (line,) = jobs.ledger(root, FakeClock()).history()
    assert (line.state, line.outcome, line.rows, line.cost_usd) == ("finished", "published", 2, 0.5)
    assert line.folder == "published/answers/all/20261124T060000Z"
    assert "after it had published" in line.detail and not answers.exists() and left(root) == []
    assert jobs.run(root, task()).outcome == "unchanged" and not asked, "a retry asks nothing"


def test_a_line_that_cannot_be_written_after_publishing_does_not_make_the_run_failed(
    root, asked, monkeypatch
):
    finished, tries = SqliteLedger.finished, []

    def locked_once(book, *given, **end):
        tries.append(given)
        if len(tries) == 1:
            raise UnavailableError("another process has locked it")
        return finished(book, *given, **end)

    monkeypatch.setattr(SqliteLedger, "finished", locked_once)
    with pytest.raises(UnavailableError):
        jobs.run(root, task())
    (line,) = jobs.ledger(root, FakeClock()).history()
    assert (line.outcome, line.rows, line.detail) == ("published", 2, "another process has locked it")


def test_a_run_killed_between_the_renames_of_a_replacement_is_lost_and_the_old_output_stays(
    root, asked, monkeypatch
):
    first = jobs.run(root, task())
    target = root / first.folder
    asked.during = lambda tick: (_ for _ in ()).throw(SystemExit)
    with monkeypatch.context() as patched:
        patched.setattr(SqliteLedger, "finished", lambda *_, **__: None)
        with pytest.raises(SystemExit):
            jobs.run(root, task(replace=True))
    with sqlite3.connect(root / layout.JOB_LEDGER) as db:
        db.execute("UPDATE runs SET born = 'of another process' WHERE alive")
    db.close()
    assert history(root)[0] == ("lost", "", 1) and publishing.read(target).run == first.manifest.run


# -- the command


def command(*arguments):
    return CliRunner().invoke(
        cli, ["jobs", "run", "answers", "--input", "data/inbox/sample.jsonl", *arguments]
    )


def test_the_command_runs_what_a_server_took_and_its_refusals_leave_a_line(root, asked, monkeypatch):
    book = jobs.ledger(root, SystemClock())
    slot = Slot(job="answers", tenant="", at=dt.datetime(2026, 11, 24, 6, tzinfo=dt.UTC))
    waits = book.enqueue(RunOrder(slot=slot))
    book.take("s1", runs=1, per_tenant=0)
    done = command("--at", AT, "--run", waits.run, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["run"] == waits.run == book.history()[0].run

    def forbids(*_, **__):
        raise PolicyError("answers may not publish", hint="ask the policies' owner")

    monkeypatch.setattr(run_rights, "authorise_run", forbids)
    done = command("--at", AT, "--tenant", "acme")
    assert isinstance(done.exception, PolicyError)
    (line, _) = book.history()
    assert (line.outcome, line.detail, line.slot.tenant) == ("refused", "answers may not publish", "acme")


def test_a_run_that_is_terminated_ends_as_interrupted_and_the_signal_means_what_it_did(root, asked):
    before = signal.getsignal(signal.SIGTERM)
    asked.during = lambda tick: signal.raise_signal(signal.SIGTERM)
    done = command("--at", AT)
    assert isinstance(done.exception, KeyboardInterrupt | SystemExit) and done.exit_code != 0
    assert history(root) == [("finished", "interrupted", 1)] and left(root) == []
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_a_run_left_that_was_killed_after_its_line_had_ended_is_removed(root, asked):
    """Its input, the executed copy and the kept answers of its slot; those of a living run stay."""
    book = jobs.ledger(root, FakeClock())
    ended = jobs.run(root, task())
    work, copy = (
        root / layout.JOB_WORK / ended.manifest.run,
        root / layout.EXECUTED / f"t-{ended.manifest.run}.ipynb",
    )
    kept = root / layout.JOB_STATE / ended.slot / "1.jsonl"
    for path in (work / "input" / "rows.jsonl", copy, kept):
        files.write_atomic(path, b"rows")
    living = root / layout.JOB_WORK / "a1"
    book.claim(
        Slot(job="answers", tenant="", at=dt.datetime(2026, 11, 25, 6, tzinfo=dt.UTC)), run="a1", version=1,
        input_digest="d", role="production", trigger="manual",
    )  # fmt: skip
    book.started("a1", os.getpid())
    files.write_atomic(living / "request.json", b"{}")
    jobs.remove_remains(root, book)
    assert not work.exists() and not copy.exists() and not kept.exists() and living.exists()
