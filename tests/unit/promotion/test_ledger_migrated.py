"""Files of the ledger that older and newer versions wrote, torn ones, and a migration that is killed."""

from __future__ import annotations

import datetime as dt
import os
import signal
import sqlite3
import subprocess
import sys

import pytest

from workbench.errors import ConfigError, CorruptError, UnavailableError
from workbench.jobs.ledger import RunOrder, Slot
from workbench.jobs.ledger.sqlite import SqliteLedger
from workbench.testing.fakes import FakeClock

#: The tables of schema 1, as the workbench wrote them that had no scheduler.
SCHEMA_1 = """
CREATE TABLE runs (
    number INTEGER PRIMARY KEY, run TEXT NOT NULL UNIQUE,
    job TEXT NOT NULL, tenant TEXT NOT NULL, at TEXT NOT NULL,
    version INTEGER NOT NULL, input_digest TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'finished', 'lost')),
    alive INTEGER NOT NULL AS (state IN ('queued', 'running')),
    outcome TEXT NOT NULL DEFAULT '',
    queued_at TEXT NOT NULL, started_at TEXT, finished_at TEXT,
    host TEXT NOT NULL, pid INTEGER NOT NULL, born TEXT NOT NULL, lease_until TEXT NOT NULL,
    rows INTEGER NOT NULL DEFAULT 0, quarantined INTEGER NOT NULL DEFAULT 0, cost_usd REAL,
    folder TEXT NOT NULL DEFAULT '', detail TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE UNIQUE INDEX runs_alive ON runs (job, tenant, at) WHERE alive;
CREATE INDEX runs_of_job ON runs (job, number);
"""
AT = "2026-11-24T06:00:00+00:00"
SLOT = Slot(job="answers", tenant="acme", at=dt.datetime.fromisoformat(AT))


@pytest.fixture
def old(tmp_path):
    """A file of schema 1 with a published run and one that its process left behind."""
    path = tmp_path / "jobs.db"
    columns = (
        "number, run, job, tenant, at, version, input_digest, state, outcome, queued_at, started_at,"
        " finished_at, host, pid, born, lease_until, rows, quarantined, cost_usd, folder, detail"
    )
    rows = [
        (7, "r1", "answers", "acme", AT, 3, "i", "finished", "published", AT, AT, AT, "h", 9, "b", AT, 20, 1,
         0.5, "published/x", "degraded"),
        (9, "r2", "answers", "", AT, 4, "j", "running", "", AT, AT, None, "h", 9, "b", AT, 0, 0, None, "",
         ""),
    ]  # fmt: skip
    with sqlite3.connect(path) as db:
        db.executescript(f"PRAGMA journal_mode = WAL; {SCHEMA_1} PRAGMA user_version = 1;")
        marks = ", ".join("?" * 21)
        db.executemany(f"INSERT INTO runs ({columns}) VALUES ({marks})", rows)
    db.close()
    return path


def opened(path):
    return SqliteLedger(path, clock=FakeClock("2026-11-24T06:00:30+00:00"))


def test_a_file_of_schema_1_keeps_its_history_and_goes_on(old):
    ledger = opened(old)
    second, first = ledger.history()
    assert (first.run, first.state, first.outcome, first.version) == ("r1", "finished", "published", 3)
    assert (first.rows, first.quarantined, first.cost_usd) == (20, 1, 0.5)
    assert (first.folder, first.detail, first.started_at.isoformat()) == ("published/x", "degraded", AT)
    assert (first.role, first.trigger, first.attempt, first.facts) == ("production", "manual", 1, {})
    assert (second.run, second.state, second.alive) == ("r2", "running", True)
    ledger.claim(SLOT, run="r3", version=1, input_digest="i")
    assert ledger.enqueue(RunOrder(slot=SLOT)).state == "waiting"
    ledger.close()
    assert len(opened(old).history()) == 4
    with sqlite3.connect(old) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (2,)
        assert db.execute("SELECT max(number), min(number) FROM runs").fetchone() == (11, 7)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()


def test_a_migration_that_fails_leaves_the_file_as_it_was(old):
    with sqlite3.connect(old) as db:
        db.execute("CREATE TABLE turns (theirs TEXT)")  # as the migration creates it
    db.close()
    with pytest.raises(UnavailableError, match="turns already exists"):
        opened(old).history()
    with sqlite3.connect(old) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
        assert db.execute("SELECT count(*) FROM runs").fetchone() == (2,)
        db.execute("DROP TABLE turns")
    db.close()
    assert [run.run for run in opened(old).history()] == ["r2", "r1"]


KILLED = """
import os, signal, sys
from pathlib import Path
from workbench.jobs.ledger import sqlite
from workbench.testing.fakes import FakeClock

# The process ends when the migration comes to the copy of the runs.
sqlite.FROM_SCHEMA_1 = sqlite.FROM_SCHEMA_1.replace("DROP TABLE", "SELECT die(); DROP TABLE")
connect = sqlite.connect
def dying(path):
    db = connect(path)
    db.create_function("die", 0, lambda: os.kill(os.getpid(), signal.SIGKILL))
    return db
sqlite.connect = dying
sqlite.SqliteLedger(Path(sys.argv[1]), clock=FakeClock()).history()
"""


def test_a_migration_that_is_killed_is_done_by_the_next_process(old):
    done = subprocess.run([sys.executable, "-c", KILLED, str(old)], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert [run.run for run in opened(old).history()] == ["r2", "r1"]


def test_a_file_of_a_newer_schema_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "jobs.db"
    ledger = opened(path)
    ledger.enqueue(RunOrder(slot=SLOT))
    ledger.close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 3")
    db.close()
    before = path.read_bytes()
    for work in (ledger.history, lambda: ledger.enqueue(RunOrder(slot=SLOT))):
        with pytest.raises(ConfigError, match="schema 3, this workbench knows schema 2") as caught:
            work()
        assert "use the workbench that wrote it" in caught.value.hint
    assert path.read_bytes() == before


@pytest.mark.parametrize("left", [10, 3000])
def test_a_torn_file_is_named_with_the_command_that_sets_it_aside(tmp_path, left):
    path = tmp_path / "jobs.db"
    ledger = opened(path)
    for n in range(40):
        ledger.claim(Slot(job="j", tenant=f"t{n}", at=SLOT.at), run=f"r{n}", version=1, input_digest="i")
    ledger.close()
    os.truncate(path, left)
    with pytest.raises(CorruptError, match=r"jobs\.db is damaged") as caught:
        opened(path).history()
    assert caught.value.hint.startswith("mkdir -p ")


def test_another_file_in_its_place_is_opened_instead(tmp_path):
    path = tmp_path / "jobs.db"
    ledger = opened(path)
    ledger.enqueue(RunOrder(slot=SLOT))
    for end in ("", "-wal", "-shm"):
        path.with_name(f"jobs.db{end}").rename(tmp_path / f"aside{end}")
    assert ledger.history() == [] and not path.exists()
    assert ledger.enqueue(RunOrder(slot=SLOT)) and len(ledger.history()) == 1


def test_a_reader_of_a_ledger_waits_for_no_writer(tmp_path):
    ledger, reader = opened(tmp_path / "jobs.db"), opened(tmp_path / "jobs.db")
    ledger.enqueue(RunOrder(slot=SLOT))
    with ledger._write():
        assert len(reader.history()) == 1
