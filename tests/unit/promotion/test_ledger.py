from __future__ import annotations

import datetime as dt
import os
import shlex
import sqlite3
import subprocess
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from ledger_hosts import SLOT, FakeHost
from sizes import examples

from workbench import sqlite_file
from workbench.errors import ConfigError, CorruptError, NotFoundError, RefusedError, UnavailableError
from workbench.jobs.ledger import Slot
from workbench.jobs.ledger.sqlite import SqliteLedger
from workbench.jobs.ledger.transactions import LEASE_S
from workbench.testing.fakes import FakeClock

AT = dt.datetime(2026, 11, 24, 6, tzinfo=dt.UTC)
HOUR = 3600


@pytest.fixture
def clock():
    return FakeClock("2026-11-24T06:00:00+00:00")


@pytest.fixture
def host():
    return FakeHost()


@pytest.fixture
def ledger(tmp_path, clock, host):
    return SqliteLedger(tmp_path / "state" / "jobs.db", clock=clock, host=host)


def claim(ledger, run="r1", slot=SLOT, version=1):
    return ledger.claim(slot, run=run, version=version, input_digest="i")


def running(ledger, host, run="r1", slot=SLOT, pid=77):
    host.processes[pid] = f"born-{run}"
    claim(ledger, run, slot)
    return ledger.started(run, pid)


def test_a_slot_is_named_by_its_time_in_utc_whatever_zone_it_was_given_in():
    summer = dt.timezone(dt.timedelta(hours=2))
    other = Slot(job="answers", tenant="acme", at=dt.datetime(2026, 11, 24, 8, tzinfo=summer))
    assert other == SLOT and other.key == "answers/acme/20261124T060000Z"
    assert Slot(job="answers", tenant="", at=AT).key == "answers/all/20261124T060000Z"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"at": dt.datetime(2026, 11, 24, 6)}, "not a time in whole seconds with its offset"),  # noqa: DTZ001
        ({"at": AT.replace(microsecond=1)}, "not a time in whole seconds"),
        ({"tenant": "all"}, "cannot name folders"),
        ({"tenant": "../globex"}, "cannot name folders"),
        ({"job": ""}, "job '' and tenant 'acme' cannot name"),
        ({"job": "a\n"}, "cannot name"),
    ],
)
def test_a_slot_that_could_not_be_one_folder_is_refused(changes, said):
    with pytest.raises(ConfigError, match=said) as caught:
        Slot(**{"job": "answers", "tenant": "acme", "at": AT, **changes})
    assert caught.value.hint


def test_a_run_goes_from_queued_to_running_to_finished_and_the_ledger_keeps_what_became_of_it(
    ledger, clock, host
):
    queued = claim(ledger, version=3)
    assert (queued.state, queued.version, queued.pid, queued.outcome) == ("queued", 3, os.getpid(), "")
    assert queued.queued_at == AT and queued.started_at is None
    clock.advance(5)
    host.processes[77] = "x"
    started = ledger.started("r1", 77)
    assert (started.state, started.pid, started.host) == ("running", 77, "here")
    assert started.started_at == AT + dt.timedelta(seconds=5)
    clock.advance(20)
    assert ledger.beat("r1").lease_until == AT + dt.timedelta(seconds=25 + LEASE_S)
    done = ledger.finished(
        "r1", "published", rows=20, quarantined=1, cost_usd=0.5, folder="published/x", detail="two\n lines"
    )
    assert (done.state, done.outcome, done.rows, done.quarantined) == ("finished", "published", 20, 1)
    assert (done.cost_usd, done.folder, done.detail) == (0.5, "published/x", "two lines")
    assert done.finished_at == AT + dt.timedelta(seconds=25)
    assert ledger.history() == [done] and not done.alive


def test_a_long_error_text_is_cut_to_one_line(ledger):
    claim(ledger)
    detail = ledger.finished("r1", "failed", detail="word " * 500).detail
    assert len(detail) == 300 and detail.endswith("…")


def test_a_slot_in_use_is_refused_with_who_runs_it_and_what_to_type(ledger, host, clock):
    running(ledger, host)
    clock.advance(9 * LEASE_S)
    with pytest.raises(
        RefusedError,
        match=r"060000Z is running since 2026-11-24T06:00:00\+00:00: run r1, process 77 on here",
    ) as caught:
        claim(ledger, "r2")
    assert caught.value.hint == "workbench jobs history answers"
    assert [run.run for run in ledger.history()] == ["r1"]


def test_another_slot_is_free_and_so_is_the_same_one_afterwards(ledger, host):
    running(ledger, host)
    claim(ledger, "r2", Slot(job="answers", tenant="globex", at=AT))
    claim(ledger, "r3", Slot(job="answers", tenant="", at=AT))
    claim(ledger, "r4", Slot(job="answers", tenant="acme", at=AT + dt.timedelta(seconds=1)))
    claim(ledger, "r5", Slot(job="triage", tenant="acme", at=AT))
    ledger.finished("r1", "held")
    assert claim(ledger, "r6").alive


def test_the_database_itself_holds_no_second_living_run_of_a_slot(ledger):
    claim(ledger)
    copy = (
        "INSERT INTO runs (run, job, tenant, at, version, input_digest, state, queued_at, host, pid, born,"
        " lease_until) SELECT 'r2', job, tenant, at, 1, 'i', ?, queued_at, host, pid, born, lease_until"
        " FROM runs"
    )
    with sqlite3.connect(ledger.path) as db:
        with pytest.raises(sqlite3.IntegrityError):
            db.execute(copy, ("running",))
        db.execute(copy, ("lost",))
    db.close()


@pytest.mark.parametrize("ended", [None, "born-of-another"], ids=["ended", "its number is another's now"])
@pytest.mark.parametrize("jump", [0, -10 * HOUR])
def test_a_run_whose_process_is_gone_is_lost_whatever_the_clock_says(ledger, host, clock, ended, jump):
    running(ledger, host)
    host.processes[77] = ended
    clock.advance(jump)
    assert ledger.alive(SLOT) is None and not ledger.is_alive("r1")
    [lost] = ledger.reconcile()
    assert (lost.run, lost.state, lost.outcome) == ("r1", "lost", "") and "process 77 on here" in lost.detail
    assert ledger.reconcile() == []
    assert claim(ledger, "r2").alive


@pytest.mark.parametrize("jump", [10 * HOUR, -10 * HOUR])
def test_a_clock_that_jumps_makes_no_living_run_of_this_host_lost(ledger, host, clock, jump):
    running(ledger, host)
    clock.advance(jump)
    assert ledger.reconcile() == [] and ledger.is_alive("r1")
    assert ledger.alive(SLOT).run == "r1"
    assert ledger.beat("r1").alive


def test_a_run_of_another_host_is_lost_when_it_has_not_renewed_its_lease(ledger, host, clock):
    running(ledger, host)
    there = SqliteLedger(ledger.path, clock=clock, host=FakeHost("there"))
    clock.advance(LEASE_S - 1)
    assert there.reconcile() == []
    ledger.beat("r1")
    clock.advance(LEASE_S - 1)
    assert there.reconcile() == []
    clock.advance(1)
    assert [run.run for run in there.reconcile()] == ["r1"]


def test_a_process_that_cannot_be_looked_at_is_judged_by_its_lease(ledger, host, clock):
    running(ledger, host)
    host.processes[77] = ""
    assert ledger.is_alive("r1")
    clock.advance(LEASE_S)
    assert not ledger.is_alive("r1")


def test_claiming_a_dead_run_s_slot_declares_it_lost(ledger, host):
    running(ledger, host)
    del host.processes[77]
    claim(ledger, "r2")
    assert [(run.run, run.state) for run in ledger.history()] == [("r2", "queued"), ("r1", "lost")]


def test_a_run_that_was_declared_lost_can_neither_beat_nor_finish(ledger, host, clock):
    running(ledger, host)
    there = SqliteLedger(ledger.path, clock=clock, host=FakeHost("there"))
    clock.advance(LEASE_S)
    claim(there, "r2")
    for work in (lambda: ledger.beat("r1"), lambda: ledger.finished("r1", "published", folder="x")):
        with pytest.raises(RefusedError, match=r"run r1 .* was declared lost.*must not publish") as caught:
            work()
        assert caught.value.hint == "workbench jobs history answers"
    assert [(run.run, run.state, run.folder) for run in ledger.history()] == [
        ("r2", "queued", ""),
        ("r1", "lost", ""),
    ]


def test_a_run_starts_once_and_finishes_once(ledger, host):
    running(ledger, host)
    with pytest.raises(RefusedError, match="is running already"):
        ledger.started("r1", 77)
    ledger.finished("r1", "published")
    for work in (lambda: ledger.finished("r1", "failed"), lambda: ledger.beat("r1")):
        with pytest.raises(RefusedError, match="is finished already"):
            work()
    assert ledger.history()[0].outcome == "published"


def test_a_run_nobody_claimed_is_not_known(ledger):
    claim(ledger)
    with pytest.raises(NotFoundError, match="no run r9"):
        ledger.beat("r9")
    assert not ledger.is_alive("r9")


def test_history_is_the_last_claimed_first_also_when_the_clock_stepped_back(ledger, clock):
    for n in range(4):
        claim(ledger, f"r{n}", Slot(job="ab"[n % 2], tenant="", at=AT))
        ledger.finished(f"r{n}", "published")
        clock.advance(-HOUR)
    assert [run.run for run in ledger.history()] == ["r3", "r2", "r1", "r0"]
    assert [run.run for run in ledger.history("a", limit=1)] == ["r2"]


def test_looking_at_a_ledger_that_is_not_there_creates_nothing(ledger):
    assert (ledger.history(), ledger.reconcile(), ledger.alive(SLOT)) == ([], [], None)
    assert not ledger.path.parent.exists()


def test_a_file_of_another_schema_or_program_is_refused_and_left_alone(ledger):
    ledger.path.parent.mkdir()
    for statements in ("CREATE TABLE theirs (x)", "PRAGMA user_version = 9"):
        with sqlite3.connect(ledger.path) as db:
            db.execute(statements)
        db.close()
        before = ledger.path.read_bytes()
        with pytest.raises(ConfigError, match=r"schema \d, this workbench knows schema 2"):
            claim(ledger)
        assert ledger.path.read_bytes() == before


def test_a_damaged_file_is_named_and_the_command_of_the_hint_sets_it_aside(tmp_path, clock):
    ledger = SqliteLedger(tmp_path / "my state" / "jobs.db", clock=clock)
    claim(ledger)
    ledger.close()
    ledger.path.write_bytes(b"no database at all, but long enough to be read as one" * 99)
    with pytest.raises(CorruptError, match=r"jobs\.db is damaged") as caught:
        claim(ledger, "r2")
    command, told, _ = caught.value.hint.partition("   (")
    assert told
    subprocess.run(["sh", "-c", command], check=True)
    assert claim(ledger, "r2").alive
    assert shlex.split(command)[2] == str(ledger.path.parent / "aside")


def test_a_file_that_another_process_holds_is_a_clear_error(ledger, monkeypatch):
    claim(ledger)
    ledger.close()
    monkeypatch.setattr(sqlite_file, "BUSY_S", 0.01)
    holder = sqlite3.connect(ledger.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(UnavailableError, match=r"another process has locked it for 0\.01 s") as caught:
        ledger.beat("r1")
    assert caught.value.retryable and caught.value.hint
    assert ledger.history()[0].run == "r1"
    holder.close()


class Jobs(RuleBasedStateMachine):
    """Runs of two slots on this host, while processes die and the clock jumps as it likes."""

    slots = tuple(Slot(job="j", tenant=tenant, at=AT) for tenant in ("a", "b"))
    one = st.integers(0, 7)

    @initialize()
    def begin(self):
        self.folder = tempfile.TemporaryDirectory()
        self.clock, self.host = FakeClock(), FakeHost()
        self.ledger = SqliteLedger(Path(self.folder.name) / "jobs.db", clock=self.clock, host=self.host)
        self.runs = []  # name, slot, process; a process is in `host.processes` as long as it lives
        self.over = set()

    def is_alive(self, run):
        return run.name not in self.over and self.host.processes.get(run.pid) == run.name

    def holder(self, slot):
        return next((run for run in self.runs if run.slot == slot and self.is_alive(run)), None)

    @rule(slot=st.sampled_from(slots), pid=st.integers(100, 103))
    def claim_and_start(self, slot, pid):
        name, holder = f"r{len(self.runs)}", self.holder(slot)
        if holder:
            with pytest.raises(RefusedError, match=holder.name):
                claim(self.ledger, name, slot)
        elif pid not in self.host.processes:
            self.host.processes[pid] = name
            claim(self.ledger, name, slot)
            self.ledger.started(name, pid)
            self.runs.append(SimpleNamespace(name=name, slot=slot, pid=pid))

    @precondition(lambda self: self.runs)
    @rule(n=one, outcome=st.sampled_from(["published", "failed"]))
    def finish(self, n, outcome):
        run = self.runs[n % len(self.runs)]
        if self.is_alive(run):
            assert self.ledger.finished(run.name, outcome).outcome == outcome
            self.over.add(run.name)
            del self.host.processes[run.pid]
        elif run.name in self.over:
            with pytest.raises(RefusedError):
                self.ledger.finished(run.name, outcome)

    @precondition(lambda self: self.runs)
    @rule(n=one)
    def die(self, n):
        run = self.runs[n % len(self.runs)]
        if self.is_alive(run):
            del self.host.processes[run.pid]

    @rule(seconds=st.sampled_from([-HOUR, -1, 1, LEASE_S, HOUR]))
    def jump(self, seconds):
        self.clock.advance(seconds)

    @rule()
    def reconcile(self):
        for lost in self.ledger.reconcile():
            assert not any(run.name == lost.run and self.is_alive(run) for run in self.runs)
            self.over.add(lost.run)
        assert {run.run for run in self.ledger.history(limit=999) if run.alive} == {
            run.name for run in self.runs if self.is_alive(run)
        }

    @invariant()
    def a_slot_is_held_by_who_lives_and_by_nobody_else(self):
        for slot in self.slots:
            found, holder = self.ledger.alive(slot), self.holder(slot)
            assert (found and found.run) == (holder and holder.name)

    def teardown(self):
        self.folder.cleanup()


TestJobs = Jobs.TestCase
TestJobs.settings = settings(max_examples=examples(20), stateful_step_count=20, deadline=None)
