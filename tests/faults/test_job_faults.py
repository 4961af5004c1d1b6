"""Jobs that meet broken inputs, changed files, other histories, dead kernels, full disks and each other."""

from __future__ import annotations

import dataclasses
import re
import shutil
import time

import polars as pl
import psutil
import pytest
from clone_edits import (
    INBOX,
    RUN,
    SAMPLE,
    SLOT,
    add_to_task,
    commit,
    one_error,
    processes,
    questions_of,
    reforged,
    replaced,
    rows,
    runs,
    state,
)
from sizes import drawn

from workbench import files, registry
from workbench.config import Limits
from workbench.errors import CorruptError, DeadlineError, NotFoundError, RefusedError, WorkbenchError
from workbench.jobs import publishing, runner, slots
from workbench.jobs import run as jobs
from workbench.jobs import spec as jobspec
from workbench.jobs.ledger import Host
from workbench.jobs.ledger.sqlite import SqliteLedger
from workbench.jobs.ledger.transactions import LEASE_S
from workbench.jobs.ready import ready, reproduce
from workbench.jobs.slots import RunRequest
from workbench.promotion.promote import ReleaseOptions, promote, rollback
from workbench.registry import Move
from workbench.testing.fakes import FakeClock

pytest_plugins = ("promoted_clones",)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
#: tests/integration/promotion/test_jobs.py and test_publishing_killed have each without a kernel.
WITH_A_KERNEL = pytest.mark.drawn("jobs with a kernel", 1)


# -- inputs -----------------------------------------------------------------------------------------


def no_question(clone):
    frame = pl.read_ndjson(clone.folder / SAMPLE).rename({"question": "qestion"})
    return rows(clone, "data/inbox/column.parquet", frame)


def no_rows(clone):
    return rows(clone, "data/inbox/none.parquet", pl.read_ndjson(clone.folder / SAMPLE).head(0))


def no_bytes(clone):
    (clone.folder / "data/inbox/empty.jsonl").write_bytes(b"")
    return "data/inbox/empty.jsonl"


def nothing(_clone):
    return "data/inbox/missing.parquet"


NO_INPUTS = {
    nothing: "the input .*missing.parquet does not exist",
    no_bytes: "empty.jsonl has no rows",
    no_rows: "none.parquet has no rows",
    no_question: "column.parquet has no column 'question' .nearest: 'qestion'",
}


def test_an_input_that_is_no_input_is_named_and_nothing_is_published(promoted_clone):
    """The last one by the command, the others by what it calls."""
    clone, said = promoted_clone, {}
    paths = {write: write(clone) for write in NO_INPUTS}
    before = state(clone)
    for write, path in paths.items():
        if write is no_question:
            said[write] = one_error(clone.run(*RUN, path, code=2))
            continue
        order = RunRequest(reference="answers", at=RUN[-2], input=path, show=False)
        with pytest.raises(WorkbenchError) as caught:
            jobs.run(clone.folder, order)
        assert caught.value.hint and caught.value.exit_code == 2
        said[write] = caught.value.message
    for write, words in NO_INPUTS.items():
        assert re.search(words, said[write]), said[write]
    assert state(clone) == before


@WITH_A_KERNEL
def test_an_input_that_is_mostly_broken_is_held_back(promoted_clone):
    """Three of five: nothing is asked or published, the rows are kept, and the exit code says so."""
    clone = promoted_clone
    good = pl.read_ndjson(clone.folder / SAMPLE).select("id", "tenant", "question").head(2)
    bad = pl.DataFrame({"id": ["a", "b", "c"], "tenant": "nobody", "question": "Who?"})
    path = rows(clone, "data/inbox/broken.parquet", pl.concat([good, bad]))
    before = state(clone)
    said = clone.run(*RUN, path, code=1)
    assert "held back: too many rows are broken" in said and "Traceback" not in said
    assert state(clone) == before
    (held,) = runs(clone)
    assert (held.outcome, held.rows, held.quarantined) == ("held", 5, 3)
    (kept,) = (clone.folder / ".workbench/state/jobs").rglob("held-*.parquet")
    assert set(pl.read_parquet(kept)["reason"]) == {"'tenant' is missing or not a tenant of this use case"}
    assert str(kept.relative_to(clone.folder)) in said
    assert questions_of(clone, held.run).is_empty()


# -- versions ---------------------------------------------------------------------------------------


def test_every_changed_byte_of_a_frozen_folder_is_refused_by_name(promoted_clone):
    """By the job, its stage, a promotion and a rollback, and before anything runs."""
    clone, root = promoted_clone, promoted_clone.folder
    folder = root / "pipelines/jobs/answers/1"
    second_version(clone)
    everything = sorted(path for path in folder.rglob("*") if path.is_file())
    assert {jobspec.PAGE, jobspec.TASK, jobspec.TAPE, "sample.jsonl"} < {path.name for path in everything}
    for path in drawn(everything, 4):
        data = path.read_bytes()
        for at in {0, len(data) // 2, len(data) - 1}:
            path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
            refused(root, path)
        path.unlink()
        refused(root, path)
        path.write_bytes(data)
    for added in (folder / "more.py", folder / "evidence/run/more.json"):
        added.write_bytes(b"")
        refused(root, added)
        added.unlink()
    (folder / jobspec.TASK).unlink()
    (folder / jobspec.TASK).symlink_to(root / "pipelines/jobs/answers/2" / jobspec.TASK)
    refused(root, folder / jobspec.TASK)
    commit(clone, "Changed by hand and committed")
    refused(root, folder / jobspec.TASK)
    assert {run.outcome for run in runs(clone)} == {"refused"} and not (root / "published").exists()


def second_version(clone):
    """answers@2, made by hand of answers@1 and in production, so that there is something to go back from."""
    root = clone.folder
    spec, folder = jobspec.load(root, "answers", 1)
    shutil.copytree(folder, folder.with_name("2"))
    data = dataclasses.replace(spec, version=2).text()
    (folder.with_name("2") / jobspec.PAGE).write_bytes(data)
    asset = registry.load(root, "job", "answers")
    entry = dataclasses.replace(asset.versions[1], digest=files.digest(data), parent=1)
    asset = dataclasses.replace(asset, versions={**asset.versions, 2: entry})
    move = Move(label="production", version=2, by="Test", at="2026-11-24T00:00:00+00:00", reason="a test's")
    registry.write(root, registry.moved(asset, move))
    commit(clone, "Another version")


def refused(root, path):
    for use in (
        lambda: jobs.run(root, RunRequest(reference="answers@1", input=SAMPLE, show=False)),
        lambda: reproduce(root, "answers", 1, root / "results/jobs/answers-1"),
        lambda: promote(root, "job/answers@1", ReleaseOptions(label="candidate")),
        lambda: rollback(root, "job/answers", ReleaseOptions()),
    ):
        with pytest.raises(CorruptError) as caught:
            use()
        assert str(path) in caught.value.message and caught.value.hint, caught.value


def test_a_rollback_that_is_not_committed_does_not_run(promoted_clone):
    second_version(promoted_clone)
    rollback(promoted_clone.folder, "job/answers", ReleaseOptions())
    said = one_error(promoted_clone.run(*RUN, SAMPLE, code=3))
    assert "the last promotion or rollback of job 'answers' is not committed (pipelines/jobs/answers" in said
    assert [run.outcome for run in runs(promoted_clone)] == ["refused"]
    assert not (promoted_clone.folder / "published").exists()


def test_a_versions_code_is_found_in_another_history_and_missed_when_it_is_gone(promoted_clone):
    """A rebase gives the same bytes another commit; a history that never had them cannot run it."""
    clone, root = promoted_clone, promoted_clone.folder
    assert (
        ready(root, *jobspec.load(root, "answers", 1)).code.name == jobspec.load(root, "answers", 1)[0].commit
    )
    clone.run("git", "checkout", "--quiet", "--orphan", "rebased")
    commit(clone, "All of it as one commit")
    head = clone.run("git", "rev-parse", "HEAD").strip()
    assert ready(root, *jobspec.load(root, "answers", 1)).code.name == head

    replaced(clone, "workbench/types.py", '"""', '"""Other words. ')
    clone.run("git", "commit", "--quiet", "--all", "--amend", "--message", "Code that was never judged")
    before = state(clone)
    said = one_error(clone.run(*RUN, SAMPLE, code=2))
    assert "answers@1 runs the code of commit" in said and "which is not in this history" in said
    assert "-> git fetch --unshallow" in said
    with pytest.raises(NotFoundError, match="which is not in this history"):
        promote(root, "job/answers@1", ReleaseOptions(label="candidate"))
    assert state(clone) == before and [run.outcome for run in runs(clone)] == ["refused"]


# -- processes --------------------------------------------------------------------------------------


def lines(path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def kernels(clone):
    return [one for one in processes(clone) if "ipykernel_launcher" in one.cmdline()]


def until(seen, process):
    began = time.monotonic()
    while not seen():
        assert time.monotonic() - began < 120 and process.poll() is None
        time.sleep(0.02)


@WITH_A_KERNEL
def test_a_killed_kernel_is_said_and_the_rerun_asks_only_for_the_rest(promoted_clone):
    clone = promoted_clone
    path = rows(clone, "data/inbox/few.parquet", pl.read_parquet(clone.folder / INBOX).head(3))
    journal = clone.folder / ".workbench/state/jobs/answers/all/20261124T060000Z/1.jsonl"
    process = clone.start(*RUN, path)
    until(lambda: kernels(clone), process)
    (kernel,) = kernels(clone)
    until(lambda: lines(journal) >= 1, process)
    kernel.kill()
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 3 and "the kernel died" in one_error(said)
    assert "run it again, received answers are kept" in said
    assert processes(clone) == [] and not (clone.folder / "published").exists()
    (failed,) = runs(clone)
    assert failed.outcome == "failed" and "the kernel died" in failed.detail

    kept = lines(journal)
    clone.run(*RUN, path)
    assert publishing.read(clone.folder / SLOT).counts["answered"] == 3
    first, second = (asked_of_the_model(clone, run.run) for run in reversed(runs(clone)))
    assert 1 <= kept < 3 and len(second) == 3 - kept and not first & second


def asked_of_the_model(clone, run) -> set[str]:
    """The rows that a run asked the model itself about, with an answer."""
    calls = questions_of(clone, run).filter(source="model", outcome="ok")
    assert calls["row"].is_unique().all()
    return set(calls["row"])


def test_a_deadline_ends_the_run_before_its_kernel_is_up(promoted_clone):
    reforged(promoted_clone, lambda _: None, limits=Limits(seconds=1))
    said = one_error(promoted_clone.run(*RUN, SAMPLE, code=3))
    assert "answers: not finished after 1 s; all its processes were ended" in said
    assert "raise limits.seconds and promote again" in said
    (run,) = runs(promoted_clone)
    assert run.outcome == "deadline" and processes(promoted_clone) == []
    assert not (promoted_clone.folder / "published").exists()


STRAY = """\
import subprocess, sys, time
stray = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", {name!r}])
time.sleep(600)
"""


def test_a_deadline_ends_what_the_notebook_started(promoted_clone, tmp_path, monkeypatch):
    """The clock leaps over the limit when the stray process is up, so that nobody waits for it."""
    strays: set[int] = set()

    class Leaping:
        sleep = staticmethod(time.sleep)

        @staticmethod
        def monotonic() -> float:
            strays.update(with_argument(tmp_path.name))
            return time.monotonic() + (901 if strays else 0)

    reforged(promoted_clone, add_to_task(STRAY.format(name=tmp_path.name)))
    monkeypatch.setattr(runner, "time", Leaping)
    with pytest.raises(DeadlineError, match="not finished after 900 s"):
        jobs.run(promoted_clone.folder, RunRequest(reference="answers", input=SAMPLE, show=False))
    assert strays and with_argument(tmp_path.name) == set()
    assert processes(promoted_clone) == []


def with_argument(name: str) -> set[int]:
    """The ids of living processes that were started with an argument."""
    found = psutil.process_iter(["cmdline", "status"])
    return {
        process.pid
        for process in found
        if name in (process.info["cmdline"] or ()) and process.info["status"] != psutil.STATUS_ZOMBIE
    }


@WITH_A_KERNEL
def test_of_two_runs_of_one_slot_at_once_one_wins_and_the_other_says_who_runs(promoted_clone):
    clone = promoted_clone
    both = [clone.start(*RUN, SAMPLE) for _ in range(2)]
    said = {process: process.communicate(timeout=120)[0] for process in both}
    winner, loser = sorted(both, key=lambda process: process.returncode)
    assert (winner.returncode, loser.returncode) == (0, RefusedError.exit_code), said
    assert re.search(
        rf"answers/all/20261124T060000Z is (queued|running) since .* process {winner.pid} on",
        one_error(said[loser]),
    )
    assert "-> workbench jobs history answers" in said[loser]
    outcomes = {run.outcome: run.run for run in runs(clone)}
    assert outcomes.keys() == {"published", "refused"} and len(runs(clone)) == 2
    assert publishing.read(clone.folder / SLOT).run == outcomes["published"]


# -- disk and clock ---------------------------------------------------------------------------------

MOUNTED = """\
mount -t tmpfs -o "$1" tmpfs published && shift || exit 99
test -z "$(ls published)" || exit 98
"$@"
code=$?
test ! -e published/answers/all/20261124T060000Z || exit 97
exit $code
"""


@WITH_A_KERNEL
def test_an_output_that_cannot_be_written_is_not_published_and_the_rerun_is(promoted_clone):
    clone = promoted_clone
    (clone.folder / "published").mkdir()
    within = ("unshare", "--map-root-user", "--mount", "sh", "-c", MOUNTED, "sh", "size=8k")
    said = one_error(clone.run(*within, *RUN, SAMPLE, code=3))
    why = "No space left on device"
    assert why in said and "free some space" in said.splitlines()[-1]
    assert runs(clone)[0].outcome == "failed" and why in runs(clone)[0].detail
    clone.run(*RUN, SAMPLE)
    assert publishing.read(clone.folder / SLOT).counts["answered"] == 2
    assert [path.name for path in (clone.folder / SLOT).parent.iterdir()] == ["20261124T060000Z"]


def test_a_clock_that_steps_back_makes_no_new_slot_and_loses_no_run(promoted, tmp_path):
    clock = FakeClock("2026-11-24T06:00:30+00:00")
    spec, _ = jobspec.load(promoted.clone.folder, "answers", 1)
    task = RunRequest(reference="answers", clock=clock)
    slot = slots.slot_of(spec, task)
    assert slot.key == "answers/all/20261124T060000Z"
    clock.advance(-60)
    assert slots.slot_of(spec, task).key == "answers/all/20261123T060000Z", "the one before, which has run"
    clock.advance(60)
    assert slots.slot_of(spec, task) == slot

    here, there = (
        SqliteLedger(tmp_path / "jobs.db", clock=clock, host=host) for host in (None, Host(name="there"))
    )
    here.claim(slot, run="a", version=1, input_digest="i")
    clock.advance(-3600)
    here.started("a", psutil.Process().pid)
    assert here.reconcile() == [] and here.is_alive("a"), "its process decides, not the clock"
    with pytest.raises(RefusedError, match="run a, process"):
        there.claim(slot, run="b", version=1, input_digest="i")
    here.beat("a")
    here.finished("a", "published")
    there.claim(slot, run="c", version=1, input_digest="i")
    clock.advance(-3600)
    assert here.reconcile() == [], "elsewhere only a lease that ran out says that a run is dead"
    clock.advance(3600 + LEASE_S)
    assert [run.run for run in here.reconcile()] == ["c"]
    assert [(run.run, run.state) for run in here.history()] == [("c", "lost"), ("a", "finished")]
