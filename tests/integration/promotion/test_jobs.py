"""Running a promoted version, with a worker that writes what the test tells it."""

# ruff: noqa: F811 - fixtures are imported
from __future__ import annotations

from pathlib import Path

import pytest
from made_jobs import COUNTS, OUTPUTS, SAMPLE
from made_repositories import git, tree
from told_jobs import asked, history, left, promoted, root, task  # noqa: F401 - fixtures

from workbench import files, layout
from workbench.errors import (
    ConfigError,
    CorruptError,
    DeadlineError,
    NotFoundError,
    RefusedError,
    UnavailableError,
    WorkbenchError,
)
from workbench.jobs import overview, publishing
from workbench.jobs import run as jobs
from workbench.jobs.ledger.sqlite import SqliteLedger
from workbench.jobs.ready import reproduce
from workbench.testing.fakes import FakeClock

# -- publishing


def test_a_run_publishes_what_the_worker_wrote_with_where_it_came_from(root, asked):
    done = jobs.run(root, task())
    target = root / "published/answers/all/20261124T060000Z"
    assert (done.outcome, done.folder, done.exit_code) == ("published", str(target.relative_to(root)), 0)
    manifest = publishing.read(target)
    assert manifest == done.manifest
    assert {name: (target / name).read_bytes() for name in manifest.outputs} == OUTPUTS
    assert (manifest.version, manifest.at, manifest.cost_usd) == (1, "2026-11-24T06:00:00Z", 0.5)
    assert manifest.input_digest == files.digest(SAMPLE)
    assert manifest.tokens == {"input_tokens": 7, "output_tokens": 3} and manifest.verdict == "published"
    assert "held" not in manifest.counts and manifest.counts["rows"] == 2
    assert history(root) == [("finished", "published", 1)] and left(root) == []
    assert "answers@1" in str(done) and done.to_json()["outcome"] == "published"


def test_searches_that_the_last_snapshot_answered_are_said_by_the_result_and_the_history(root, asked):
    said = "degraded: 2 searches were answered by the last snapshot: the server was away"
    asked.counts = {**COUNTS, "degraded": 2}
    done = jobs.run(root, task())
    assert done.manifest.counts["degraded"] == 2 and said in str(done)
    assert f"{done.folder}; {said}" in str(overview.history_of(root, "answers"))
    asked.counts = COUNTS
    done = jobs.run(root, task(replace=True))
    assert "degraded" not in str(done) and "degraded" not in done.manifest.counts
    assert str(overview.history_of(root, "answers")).count(said) == 1, "of the run before"


def test_the_worker_is_given_the_frozen_task_and_the_versions_own_settings(root, asked):
    (root / "workbench/code.py").write_text("unfinished")
    jobs.run(root, task())
    ((request, rows),) = asked
    assert rows == SAMPLE and request.mode == "auto" and request.pins["prompt"] == "answer@2"
    assert (Path(request.root) / "workbench/code.py").read_text() == "1"
    assert request.parameters == {"k": 3} and request.arm == {"temperature": 0.5}
    assert request.memory == "m" * 64 and request.broken == 0.25 and asked.seconds == 60
    assert not request.tape.startswith(str(root / "pipelines")), "a live run answers nothing from a recording"


def test_the_same_input_again_changes_nothing_and_says_so(root, asked):
    first = jobs.run(root, task())
    before = tree(root / "published")
    again = jobs.run(root, task())
    assert again.outcome == "unchanged" and again.manifest.run == first.manifest.run
    assert len(asked) == 1 and tree(root / "published") == before and again.exit_code == 0
    assert "nothing to do" in str(again)


@pytest.mark.parametrize("other", ["input", "version"])
def test_another_input_or_version_is_refused_until_told_to_replace(root, asked, other):
    jobs.run(root, task())
    before = tree(root / "published")
    (root / "two words.jsonl").write_bytes(SAMPLE * 2)
    changed = {"input": "two words.jsonl"} if other == "input" else {"reference": "answers@2"}
    with pytest.raises(RefusedError, match=f"by answers@1 from another {other}") as caught:
        jobs.run(root, task(**changed))
    assert tree(root / "published") == before and len(asked) == 1
    assert caught.value.hint.endswith(" --at 2026-11-24T06:00:00Z --replace")
    assert "'" in caught.value.hint or other == "version", "a path of two words is one word of the command"
    asked.outputs = {"answers.acme.parquet": b"new"}
    assert jobs.run(root, task(**changed, replace=True)).outcome == "published"
    (folder,) = (root / "published/answers/all").iterdir()
    assert sorted(p.name for p in folder.iterdir()) == ["answers.acme.parquet", "manifest.json"]


def test_a_tenants_slot_is_its_own_and_the_hint_keeps_the_tenant(root, asked):
    jobs.run(root, task())
    assert jobs.run(root, task(tenant="acme")).slot == "answers/acme/20261124T060000Z"
    assert asked[-1][0].tenant == "acme"
    with pytest.raises(RefusedError) as caught:
        jobs.run(root, task(tenant="acme", reference="answers@2"))
    assert " --tenant acme --at " in caught.value.hint


def test_too_many_broken_rows_publish_nothing_and_are_kept_to_be_looked_at(root, asked):
    asked.counts = {**COUNTS, "held": True}
    done = jobs.run(root, task())
    assert done.outcome == "held" and done.exit_code == 1 and not (root / "published").exists()
    assert (root / done.folder).read_bytes() == OUTPUTS["quarantine.parquet"]
    (line,) = jobs.ledger(root, FakeClock()).history("answers")
    assert line.outcome == "held" and line.detail.startswith("1 of 2 rows broken: .workbench/state")
    asked.counts = COUNTS
    assert jobs.run(root, task()).outcome == "published", "the slot is free"
    assert not (root / done.folder).exists(), "what was published keeps no rows beside it"


# -- runs that fail


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (UnavailableError("nobody answers"), "failed"),
        (DeadlineError("too late"), "deadline"),
        (KeyboardInterrupt(), "interrupted"),
        (MemoryError("of a row"), "failed"),
    ],
)
def test_a_run_that_fails_is_in_the_ledger_publishes_nothing_and_may_be_run_again(
    root, asked, error, outcome
):
    asked.error = error
    with pytest.raises(type(error)):
        jobs.run(root, task())
    (line,) = jobs.ledger(root, FakeClock()).history("answers")
    assert (line.state, line.outcome) == ("finished", outcome) and "of a row" not in line.detail
    assert not (root / "published").exists() and left(root) == []
    asked.error = None
    assert jobs.run(root, task()).outcome == "published"


def test_answers_are_kept_for_the_slot_until_it_is_published(root, asked):
    journal = {}

    def answering(_):
        journal["path"] = root / asked[-1][0].journal
        files.write_atomic(journal["path"], b"an answer")

    asked.during, asked.error = answering, UnavailableError("nobody answers")
    with pytest.raises(UnavailableError):
        jobs.run(root, task())
    first = journal["path"]
    assert first.read_bytes() == b"an answer"
    asked.error = None
    jobs.run(root, task())
    assert journal["path"] == first and not first.exists()
    files.write_atomic(first, b"an answer")  # as when it was killed after it had published
    assert jobs.run(root, task()).outcome == "unchanged" and not first.exists()


def test_whoever_was_declared_lost_meanwhile_does_not_publish(root, asked):
    def lost(tick):
        book = jobs.ledger(root, FakeClock())
        (run,) = book.history("answers")
        with book._write() as db:
            book._lose(db, run)

    asked.during = lost
    with pytest.raises(RefusedError, match="was declared lost"):
        jobs.run(root, task())
    assert not (root / "published").exists() and history(root) == [("lost", "", 1)]


def test_two_runs_of_one_slot_at_once_run_once(root, asked):
    def second(tick):
        asked.during = None
        with pytest.raises(RefusedError, match=r"answers/all/20261124T060000Z is running since"):
            jobs.run(root, task())

    asked.during = second
    assert jobs.run(root, task()).outcome == "published" and len(asked) == 1


def test_the_lease_is_renewed_now_and_then_and_not_at_every_tick(root, asked, monkeypatch):
    clock, beats = FakeClock("2026-11-25T01:02:03Z"), []
    beat = SqliteLedger.beat
    monkeypatch.setattr(
        SqliteLedger, "beat", lambda book, run: beats.append(clock.monotonic()) or beat(book, run)
    )

    def ticking(tick):
        for _ in range(300):
            clock.advance(0.1)
            tick()

    asked.during = ticking
    jobs.run(root, task(clock=clock))
    assert 2 <= len(beats) - 1 <= 3, "and once before publishing"


# -- what is refused before anything runs


def test_a_move_that_is_not_committed_takes_no_effect(root, asked):
    page = root / "pipelines/jobs/answers/asset.yaml"
    page.write_text(page.read_text().replace("production: 1", "production: 2"))
    with pytest.raises(RefusedError, match="of job 'answers' is not committed") as caught:
        jobs.run(root, task())
    assert "git commit" in caught.value.hint and not asked
    assert history(root) == [("finished", "refused", 2)]


def test_a_version_that_was_touched_or_whose_lock_is_another_never_runs(root, asked, monkeypatch):
    path = root / "pipelines/jobs/answers/1/task.ipynb"
    path.write_bytes(b"[]")
    with pytest.raises(CorruptError, match=r"task\.ipynb was changed"):
        jobs.run(root, task())
    git(root, "checkout", "--", str(path))
    monkeypatch.setattr(jobs.Repository, "read", lambda *_: b"another lock")
    with pytest.raises(CorruptError, match=r"differs from the lock that answers@1 was judged with"):
        jobs.run(root, task())
    assert not asked


@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        ({"reference": "answer"}, NotFoundError, "no job 'answer' .*nearest: 'answers'"),
        ({"reference": "answers@9"}, NotFoundError, "no version 9"),
        ({"reference": "answers@live"}, NotFoundError, "no label 'live'"),
        ({"input": "data/nothing.jsonl"}, NotFoundError, "the input .*nothing.jsonl does not exist"),
        ({"input": "data"}, ConfigError, "cannot read .*data: Is a directory"),
        ({"input": "empty.jsonl"}, ConfigError, r"empty\.jsonl has no rows"),
        ({"input": "params.yaml"}, ConfigError, r"inputs are \.parquet or \.jsonl files"),
        ({"tenant": "globex"}, ConfigError, "has no rows of tenant 'globex'"),
        ({"tenant": ""}, ConfigError, "--tenant is empty"),
        ({"tenant": "a/../b"}, ConfigError, "cannot name folders"),
        ({"at": "soon"}, ConfigError, "--at 'soon' is not a time"),
    ],
)
def test_a_run_that_cannot_be_is_refused_before_a_worker_is_started(root, asked, given, kind, said):
    (root / "empty.jsonl").touch()
    with pytest.raises(kind, match=said) as caught:
        jobs.run(root, task(**given))
    assert caught.value.hint and not asked and not (root / "published").exists()
    lines = jobs.ledger(root, FakeClock()).history()
    if given.get("reference") == "answer":
        assert lines == [], "a job that does not exist has no history"
    else:
        (line,) = lines
        assert (line.slot.job, line.state, line.outcome) == ("answers", "finished", "refused")
        assert line.detail == caught.value.message.partition("\n")[0]


def test_a_line_of_a_refused_run_names_its_slot_and_version_where_they_are_known(root, asked):
    with pytest.raises(NotFoundError):
        jobs.run(root, task(input="data/nothing.jsonl", tenant="acme"))
    with pytest.raises(NotFoundError):
        jobs.run(root, task(reference="answers@9"))
    known, unknown = reversed(jobs.ledger(root, FakeClock()).history())
    assert (known.slot.key, known.version) == ("answers/acme/20261124T060000Z", 1)
    assert (unknown.slot.key, unknown.version) == ("answers/all/20261125T010203Z", 0)


def test_a_ledger_that_cannot_be_written_does_not_hide_why_a_run_failed(root, asked):
    (root / layout.JOB_LEDGER).mkdir(parents=True)
    with pytest.raises(WorkbenchError, match=r"jobs\.db"):
        jobs.run(root, task())
    (root / "pipelines/operations.yaml").write_text("ledger: everywhere\n")
    with pytest.raises(ConfigError, match="ledger"):
        jobs.run(root, task())
    (root / "pipelines/operations.yaml").write_text("ledger: shared\n")
    with pytest.raises(ConfigError, match=r"shared needs the database that budget_url") as caught:
        jobs.run(root, task())
    assert "ledger: local" in caught.value.hint and not asked


def test_which_version_a_reference_means(root):
    assert jobs.number_of(root, "answers") == ("answers", 1)
    assert jobs.number_of(root, "answers@candidate") == ("answers", 2)
    page = root / "pipelines/jobs/answers/asset.yaml"
    page.write_text(page.read_text().replace("  production: 1\n", ""))
    with pytest.raises(NotFoundError, match="has no version in production") as caught:
        jobs.number_of(root, "answers")
    assert caught.value.hint == "workbench promote job/answers --to production"


# -- the sample


def test_the_sample_is_reproduced_from_its_own_tape_into_the_stages_folder(root, asked):
    out = root / "results/jobs/answers-1"
    files.write_atomic(out / "stale", b"x")
    reproduce(root, "answers", 1, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == OUTPUTS
    ((request, rows),) = asked
    assert request.mode == "replay" and rows == SAMPLE and request.tape.endswith("answers/1/tape.jsonl")
    assert left(root) == [] and history(root) == []


@pytest.mark.parametrize(
    ("outputs", "named"),
    [
        ({**OUTPUTS, "answers.acme.parquet": b"rowS"}, "answers.acme.parquet"),
        ({**OUTPUTS, "more": b""}, "more"),
        ({"answers.acme.parquet": b"rows"}, "quarantine.parquet"),
    ],
)
def test_a_sample_that_gives_another_byte_names_the_file_and_writes_nothing(root, asked, outputs, named):
    asked.outputs = outputs
    out = root / "results/jobs/answers-1"
    with pytest.raises(
        CorruptError, match=rf"answers@1: outputs of the sample differ .*: {named}\n"
    ) as caught:
        reproduce(root, "answers", 1, out)
    assert "workbench jobs install answers@1" in caught.value.hint and not out.exists() and left(root) == []
