"""Retention of what runs of jobs leave: only what is old is removed, and never what a run needs."""

from __future__ import annotations

import datetime as dt
import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
from click.testing import CliRunner
from made_repositories import git, saved

from workbench.cli.app import cli
from workbench.config.operations import OPERATIONS, load_operations
from workbench.errors import ConfigError, RefusedError, UnavailableError
from workbench.jobs import retention
from workbench.jobs.ledger import RunOrder, Slot, open_ledger
from workbench.jobs.purged_writes import check_not_purged, write_again
from workbench.jobs.retention import SHADOWS, purge_runs
from workbench.layout import EXECUTED, JOB_STATE, JOB_WRITES, PANEL, PUBLISHED
from workbench.records import slot_writes
from workbench.scheduler import starting
from workbench.scheduler.server import ServeOptions
from workbench.testing.fakes import FakeClock

NOW = dt.datetime(2026, 11, 30, 16, tzinfo=dt.UTC)
ALL = "retention: {executed_days: 10, quarantine_days: 10, shadow_days: 10, history_days: 10}\n"


def slot(days, tenant=""):
    return Slot(job="answers", tenant=tenant, at=NOW.replace(hour=6) - dt.timedelta(days=days))


def written(path, days, data=b"x" * 10):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    at = (NOW - dt.timedelta(days=days)).timestamp()
    os.utime(path, (at, at))
    return path


@pytest.fixture
def root(tmp_path):
    written(tmp_path / OPERATIONS, 0, ALL.encode())
    written(tmp_path / "params.yaml", 0, b"use_cases: {}\n")
    return tmp_path


def ended(root, days, run, outcome="published", tenant=""):
    """A run of a day, in the ledger with what it leaves."""
    clock = FakeClock((NOW - dt.timedelta(days=days)).isoformat())
    ledger = open_ledger(root, clock)
    ledger.claim(slot(days, tenant), run=run, version=1, input_digest="i")
    ledger.finished(run, outcome)
    written(root / EXECUTED / f"task-{run}.ipynb", days)
    written(root / JOB_STATE / slot(days, tenant).key / f"held-{run}.parquet", days)
    written(root / SHADOWS / slot(days, tenant).key / "answers.acme.parquet", days)
    written(root / PUBLISHED / slot(days, tenant).key / "manifest.json", days)


def left(root, folder):
    return sorted(path.relative_to(root / folder).as_posix() for path in (root / folder).rglob("*"))


def purged(root, **how):
    return purge_runs(root, clock=FakeClock(NOW.isoformat()), **how)


def counts(result):
    return {item.kind: item.count for item in result.removed}


def test_what_is_older_than_the_days_is_removed_and_the_rest_is_kept(root):
    for days, run in ((30, "old1"), (20, "old2"), (5, "young"), (1, "newest")):
        ended(root, days, run)
    result = purged(root)
    kinds = ("executed notebooks", "held rows and kept answers", "outputs of shadows")
    assert [counts(result)[kind] for kind in kinds] == [2, 2, 2]
    assert result.removed[0].size == 20
    assert left(root, EXECUTED) == ["task-newest.ipynb", "task-young.ipynb"]
    for folder in (JOB_STATE, SHADOWS):
        names = [path for path in left(root, folder) if path.startswith("answers/all/")]
        assert {path.split("/")[2] for path in names} == {"20261125T060000Z", "20261129T060000Z"}
    assert len([path for path in left(root, PUBLISHED) if path.endswith("manifest.json")]) == 4
    assert sum(counts(purged(root)).values()) == 0  # again: nothing is left to remove


def test_what_the_panel_keeps_of_its_runs_goes_with_the_executed_notebooks(root):
    """The panel's id of a run has dashes; one that was refused before its line has none in the ledger."""
    ids = {
        name: f"{number}{'0' * 7}-0000-4000-8000-{'0' * 12}"
        for number, name in enumerate(("old", "young", "newest", "refused"))
    }
    for days, name in ((30, "old"), (5, "young"), (1, "newest"), (30, "refused")):
        written(root / PANEL / "runs" / ids[name] / "task.ipynb", days)
        if name != "refused":
            ended(root, days, ids[name].replace("-", ""))
    database = written(root / PANEL / "panel.db", 300)
    assert counts(purged(root, dry_run=True))["files of the panel's runs"] == 2
    assert counts(purged(root))["files of the panel's runs"] == 2
    assert left(root, PANEL / "runs") == sorted(
        place for name in ("young", "newest") for place in (ids[name], f"{ids[name]}/task.ipynb")
    )
    assert database.exists()


def test_the_log_of_a_timer_begins_anew_and_no_line_is_older_than_twice_the_days(root):
    log, before = root / JOB_STATE / "answers.log", root / JOB_STATE / "answers.log.1"
    gone = written(root / JOB_STATE / "triage.log", 11)
    written(log, 0, b"first\n")
    assert counts(purged(root, dry_run=True))["logs of timers"] == 1 and gone.exists()
    with log.open("ab") as running:  # a run that began before
        assert counts(purged(root))["logs of timers"] == 1 and not gone.exists()
        running.write(b"last\n")
    assert before.read_bytes() == b"first\nlast\n" and not log.exists()
    written(before, 5, before.read_bytes())
    written(log, 1, b"second\n")
    purged(root)
    assert (before.read_bytes(), log.read_bytes()) == (b"first\nlast\n", b"second\n")
    written(before, 11)
    purged(root)
    assert before.read_bytes() == b"second\n" and not log.exists()


def test_a_link_in_the_place_of_a_log_is_left(root, tmp_path):
    outside = written(tmp_path / "outside.log", 0)
    (root / JOB_STATE).mkdir(parents=True)
    (root / JOB_STATE / "answers.log").symlink_to(outside)
    purged(root)
    assert outside.exists() and (root / JOB_STATE / "answers.log").is_symlink()


def test_the_newest_run_of_a_job_and_tenant_keeps_everything_however_old_it_is(root):
    ended(root, 200, "acmeold", tenant="acme")
    ended(root, 100, "acmelast", tenant="acme")
    ended(root, 150, "globexlast", tenant="globex")
    purged(root)
    assert left(root, EXECUTED) == ["task-acmelast.ipynb", "task-globexlast.ipynb"]
    assert "answers/acme/20260822T060000Z/held-acmelast.parquet" in left(root, JOB_STATE)
    assert "answers/globex/20260703T060000Z" in left(root, SHADOWS)
    assert "answers/acme/20260514T060000Z" not in left(root, JOB_STATE)


def test_what_a_living_or_waiting_run_needs_is_kept(root):
    ended(root, 60, "failed", outcome="failed")
    ended(root, 50, "other", outcome="failed")
    ended(root, 1, "newest")
    ledger = open_ledger(root, FakeClock(NOW.isoformat()))
    ledger.claim(slot(60), run="again", version=1, input_digest="i")
    assert ledger.enqueue(RunOrder(slot=slot(50), trigger="trigger")) is not None
    kept = left(root, JOB_STATE)
    purged(root)
    assert left(root, JOB_STATE) == kept


def test_the_lines_of_the_history_go_and_the_newest_of_each_slot_stays(root):
    ended(root, 30, "first", outcome="failed")
    ended(root, 30, "second")
    ended(root, 1, "newest")
    assert counts(purged(root))["lines of the history"] == 1
    assert [run.run for run in open_ledger(root, FakeClock(NOW.isoformat())).history("answers")] == [
        "newest", "second",
    ]  # fmt: skip


def test_a_slot_whose_log_of_memory_writes_was_purged_is_not_run_again_by_itself(root):
    for days, run in ((30, "old"), (20, "published"), (5, "young"), (1, "newest")):
        ended(root, days, run, "failed")
        if run != "published":
            shutil.rmtree(root / PUBLISHED / slot(days).key)
        written(root / JOB_WRITES / slot(days).key / slot_writes.NAME, days)
    assert counts(purged(root, dry_run=True))["memory writes of slots"] == 2
    assert counts(purged(root))["memory writes of slots"] == 2
    with pytest.raises(RefusedError, match="purged at 2026-11-30T16:00:00") as caught:
        check_not_purged(root, slot(30))
    assert caught.value.hint.startswith("workbench jobs run answers --at 2026-10-31T06:00:00Z --replace")
    for days in (20, 5, 1):  # with an output, or with its log
        check_not_purged(root, slot(days))
    later = purge_runs(root, clock=FakeClock((NOW + dt.timedelta(days=400)).isoformat()))
    assert counts(later)["memory writes of slots"] == 1, "the marks stay"
    write_again(root, slot(30))
    check_not_purged(root, slot(30))


def test_a_dry_run_counts_the_same_and_removes_nothing(root):
    ended(root, 30, "old")
    ended(root, 1, "newest")
    before = {folder: left(root, folder) for folder in (EXECUTED, JOB_STATE, SHADOWS)}
    told = purged(root, dry_run=True)
    assert {folder: left(root, folder) for folder in before} == before
    assert counts(told) == counts(purged(root)) and sum(counts(told).values()) >= 3


def test_a_kind_without_stated_days_is_kept(root):
    written(root / OPERATIONS, 0, b"retention: {executed_days: 10}\n")
    ended(root, 30, "old")
    ended(root, 1, "newest")
    assert list(counts(purged(root))) == ["executed notebooks", "files of the panel's runs", "logs of timers"]
    assert len([path for path in left(root, JOB_STATE) if path.endswith(".parquet")]) == 2
    (root / OPERATIONS).unlink()
    assert purged(root).removed == () and "everything is kept" in str(purged(root))


def test_a_link_and_a_file_that_belongs_to_no_slot_are_left_alone(root):
    outside = written(root / "precious.parquet", 300)
    place = root / JOB_STATE / slot(200).key
    place.mkdir(parents=True)
    (place / "held-x.parquet").symlink_to(outside)
    aside = root / JOB_STATE / "answers" / "all" / "20250101T060000Z"
    (root / "folder").mkdir()
    written(root / "folder" / "held-y.parquet", 300)
    aside.symlink_to(root / "folder", target_is_directory=True)
    other = written(root / JOB_STATE / "answers" / "all" / "notes" / "mine.txt", 300)
    purged(root)
    assert outside.exists() and other.exists() and (root / "folder" / "held-y.parquet").exists()
    assert (place / "held-x.parquet").is_symlink()


def test_two_purges_at_once_remove_each_file_once(root):
    for days in range(20, 60):
        ended(root, days, f"old{days}")
    ended(root, 1, "newest")
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: counts(purged(root)), range(2))
    assert first["executed notebooks"] + second["executed notebooks"] == 40
    assert left(root, EXECUTED) == ["task-newest.ipynb"]


def test_a_server_purges_at_its_start_and_once_a_day_and_after_an_error_in_an_hour(root, monkeypatch):
    clock, calls = FakeClock(NOW.isoformat()), []

    def purge(place, *, clock):
        calls.append(clock.now())
        if len(calls) == 3:
            raise UnavailableError("the ledger does not answer")

    monkeypatch.setattr(retention, "purge_runs", purge)
    daily = retention.DailyPurge(root, clock=clock)
    for _ in range(47):
        daily()
        clock.advance(3600)
    assert [(at - NOW) // dt.timedelta(hours=1) for at in calls] == [0, 24]
    clock.advance(3600)
    with pytest.raises(UnavailableError):
        daily()
    assert daily() is None  # not at once again
    clock.advance(3600)
    daily()
    assert len(calls) == 4


def test_a_server_that_stays_purges_and_a_rehearsal_never_does(root, monkeypatch):
    monkeypatch.setattr(starting, "listen", lambda address: None)
    git(root.parent, "init", "--quiet", str(root))
    saved(root, "Start")
    options = {name: ServeOptions(once=name == "once") for name in ("stays", "once", "rehearsal")}
    opened = {
        name: starting.open_server(root, how, rehearsal=name == "rehearsal") for name, how in options.items()
    }
    kinds = {name: isinstance(item.purge, retention.DailyPurge) for name, item in opened.items()}
    assert kinds == {"stays": True, "once": False, "rehearsal": False}


def test_a_file_that_cannot_be_removed_is_named(root, monkeypatch):
    def denied(path, missing_ok=False):
        raise PermissionError(13, "Permission denied", str(path))

    ended(root, 30, "old")
    ended(root, 1, "newest")
    monkeypatch.setattr("pathlib.Path.unlink", denied)
    with pytest.raises(UnavailableError, match=r"task-old\.ipynb"):
        purged(root)


@pytest.mark.parametrize("days", ["0", "-1", "40000", "soon", "1.5"])
def test_days_that_are_none_are_refused_with_the_key(root, days):
    written(root / OPERATIONS, 0, f"retention: {{history_days: {days}}}\n".encode())
    with pytest.raises(ConfigError, match="history_days"):
        load_operations(root)


def test_the_command_shows_what_it_would_remove(root, monkeypatch):
    monkeypatch.chdir(root)
    ended(root, 30, "old")
    ended(root, 20, "newest")
    done = CliRunner().invoke(cli, ["jobs", "purge", "--dry-run"], catch_exceptions=False)
    assert (
        done.exit_code == 0
        and "would be removed" in done.output
        and "next: workbench jobs purge" in done.output
    )
    assert left(root, EXECUTED) == ["task-newest.ipynb", "task-old.ipynb"]
