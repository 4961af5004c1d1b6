"""The contract of job ledgers, on SQLite and on a real PostgreSQL server."""

from __future__ import annotations

import datetime as dt
import os

import psycopg
import pytest
from ledger_hosts import SLOT, FakeHost, claimed, take
from postgres_server import PASSWORD, postgres  # noqa: F401 - a fixture

from workbench.context import SystemClock
from workbench.errors import ConfigError, NotFoundError, RefusedError, UnavailableError
from workbench.jobs.ledger import DamagedRowError, PostedNotice, RunOrder, ServerRow, Slot
from workbench.jobs.ledger.postgres import PostgresLedger
from workbench.jobs.ledger.sqlite import SqliteLedger
from workbench.jobs.ledger.transactions import LEASE_S
from workbench.testing.fakes import FakeClock

AT = SLOT.at
MINUTE, DAY = dt.timedelta(minutes=1), 86_400


def slot(hours=0, job="answers", tenant="acme"):
    return Slot(job=job, tenant=tenant, at=AT + dt.timedelta(hours=hours))


def order(of=SLOT, **given):
    return RunOrder(slot=of, **given)


class Contract:
    """What every ledger promises. `ledger` and `elsewhere` are one ledger as two hosts see it."""

    @pytest.fixture
    def clock(self):
        return FakeClock("2026-11-24T06:00:00+00:00")

    @pytest.fixture
    def host(self):
        return FakeHost()

    @pytest.fixture
    def ledger(self, clock, host):
        return self.open_ledger(clock, host)

    @pytest.fixture
    def elsewhere(self, clock, ledger):
        return self.open_ledger(clock, FakeHost("elsewhere"))

    # -- slots that fire

    def test_a_slot_fires_once_whoever_asks_and_by_whichever_way(self, ledger, elsewhere):
        first = ledger.enqueue(order(version=3, priority=2))
        assert (first.state, first.slot, first.version, first.trigger) == ("waiting", SLOT, 3, "schedule")
        assert (first.priority, first.attempt, first.pid, first.host, first.alive) == (2, 1, 0, "", False)
        for trigger in ("schedule", "catch_up", "backfill"):
            assert elsewhere.enqueue(order(trigger=trigger)) is None
        assert not elsewhere.miss(SLOT, "production", "too late")
        assert [run.run for run in ledger.history()] == [first.run]
        assert ledger.enqueue(order(role="shadow")).role == "shadow"
        assert ledger.enqueue(order(slot(tenant="globex"))) and ledger.enqueue(order(slot(1)))

    def test_orders_that_are_enqueued_together_fire_each_slot_once(self, ledger, elsewhere):
        assert ledger.enqueue_all([]) == [] and elsewhere.enqueue(order(slot(1))) is not None
        found = ledger.enqueue_all([order(slot(hours), priority=hours) for hours in (0, 1, 2, 2)])
        assert [run and (run.slot, run.priority) for run in found] == [(slot(0), 0), None, (slot(2), 2), None]
        assert [run.slot for run in elsewhere.unfinished()] == [slot(1), slot(0), slot(2)]

    def test_a_missed_slot_has_a_line_and_fires_no_more(self, ledger):
        assert ledger.miss(SLOT, "production", "3 days late")
        assert ledger.miss(slot(1), "production", "the last one still runs", outcome="skipped")
        found = [(run.state, run.outcome, run.detail) for run in ledger.history()]
        assert found == [
            ("finished", "skipped", "the last one still runs"),
            ("finished", "missed", "3 days late"),
        ]
        assert ledger.enqueue(order(trigger="catch_up")) is None

    def test_a_backfill_fires_again_only_when_told_and_then_has_its_retries(self, ledger):
        assert ledger.enqueue(order()) and ledger.enqueue(order(trigger="retry", attempt=2))
        assert ledger.enqueue(order(trigger="backfill")) is None
        assert ledger.enqueue(order(trigger="backfill"), again=True).trigger == "backfill"
        assert ledger.enqueue(order(trigger="retry", attempt=2))

    def test_each_attempt_of_a_slot_is_enqueued_once_by_all_servers(self, ledger, elsewhere):
        ledger.enqueue(order())
        second = ledger.enqueue(order(trigger="retry", attempt=2, not_before=AT + MINUTE))
        assert (second.attempt, second.not_before) == (2, AT + MINUTE)
        assert elsewhere.enqueue(order(trigger="retry", attempt=2)) is None
        assert elsewhere.enqueue(order(trigger="retry", attempt=3))

    def test_what_a_person_triggers_waits_once_and_leaves_the_slot_to_its_own_time(self, ledger):
        first = ledger.enqueue(order(trigger="trigger"))
        assert ledger.enqueue(order(trigger="trigger")) == first
        assert ledger.last_fired("answers", "acme", "production") is None
        assert ledger.enqueue(order()).run != first.run

    def test_the_last_fired_time_is_of_schedules_alone(self, ledger):
        ledger.enqueue(order(slot(5), trigger="backfill"))
        ledger.enqueue(order(slot(1)))
        ledger.enqueue(order(slot(0), trigger="catch_up"))
        assert ledger.last_fired("answers", "acme", "production") == slot(1).at
        ledger.miss(slot(2), "production", "")
        for other in (("answers", "", "production"), ("answers", "acme", "shadow"), ("b", "acme", "canary")):
            assert ledger.last_fired(*other) is None
        key = ("answers", "acme", "production")
        assert ledger.last_fired_of([key, ("answers", "", "production")]) == {key: slot(2).at}

    # -- runs that wait

    def test_a_taken_run_is_claimed_by_the_child_under_its_own_id(self, ledger, host):
        waits = ledger.enqueue(order(trigger="catch_up", priority=3))
        taken = take(ledger)
        assert (taken.run, taken.state, taken.server, taken.pid) == (waits.run, "queued", "s1", os.getpid())
        assert taken.alive and take(ledger) is None
        host.processes[77] = "child"
        run = ledger.claim(
            SLOT, run=waits.run, version=4, input_digest="i", fingerprint="f", trigger="manual"
        )
        assert (run.version, run.input_digest, run.fingerprint, run.trigger) == (4, "i", "f", "catch_up")
        assert ledger.started(waits.run, 77).pid == 77
        done = ledger.finished(waits.run, "published", rows=2, facts={"models": ["m"]})
        assert done.facts == {"models": ["m"]} and ledger.run(waits.run) == done
        assert ledger.unfinished() == []

    def test_a_taken_run_is_claimed_for_its_own_slot_and_role_only(self, ledger):
        run = ledger.enqueue(order()).run
        take(ledger)
        with pytest.raises(RefusedError, match="is queued since"):
            claimed(ledger, "r9")
        for of, role in ((slot(1), "production"), (SLOT, "shadow")):
            with pytest.raises(RefusedError, match=r"was taken for answers/acme/20261124T060000Z"):
                claimed(ledger, run, of, role=role)
        ledger.cancel(run, "replaced", "a newer slot")
        with pytest.raises(RefusedError, match="is finished already"):
            claimed(ledger, run)

    def test_a_run_waits_until_its_time_and_higher_priorities_go_first(self, ledger, clock):
        late = ledger.enqueue(order(slot(0), not_before=AT + MINUTE, priority=9))
        low, high = ledger.enqueue(order(slot(1))), ledger.enqueue(order(slot(2), priority=1))
        assert [take(ledger).run, take(ledger).run, take(ledger)] == [high.run, low.run, None]
        clock.advance(60)
        assert take(ledger).run == late.run

    def test_a_server_holds_no_more_runs_than_it_may_and_no_more_of_a_tenant(self, ledger):
        for n in range(3):
            ledger.enqueue(order(slot(n)))
        ledger.enqueue(order(slot(tenant="globex")))
        assert take(ledger, runs=2, per_tenant=1).slot.tenant == "acme"
        assert take(ledger, runs=2, per_tenant=1).slot.tenant == "globex"
        assert take(ledger, runs=2) is None and take(ledger, runs=3, per_tenant=1) is None
        assert take(ledger, "s2", runs=1, per_tenant=1).slot.tenant == "acme", "each server has its own"

    def test_a_hundred_due_slots_start_in_turns_whatever_was_first(self, ledger):
        of_job = {"a": 60, "b": 30, "c": 10}
        for job, count in of_job.items():
            for n in range(count):
                ledger.enqueue(order(slot(n, job=job, tenant=f"t{n % 3}")))
        begun = []
        for _ in range(100):
            run = take(ledger, runs=1)
            begun.append(run.slot)
            ledger.finished(run.run, "published")
        assert take(ledger, runs=1) is None and len(set(begun)) == 100
        first = [one.job for one in begun[:30]]
        assert {job: first.count(job) for job in of_job} == {"a": 10, "b": 10, "c": 10}
        assert all(first[n] != first[n + 1] for n in range(29))
        tenants = [one.tenant for one in begun[:30] if one.job == "a"]
        assert {tenants.count(f"t{n}") for n in range(3)} <= {3, 4}

    def test_a_job_with_fewer_living_runs_is_before_one_with_more(self, ledger):
        for n in range(4):
            ledger.enqueue(order(slot(n, job="a")))
        for n in range(2):
            ledger.enqueue(order(slot(n, job="b")))
        assert [take(ledger).slot.job for _ in range(6)] == ["a", "b", "a", "b", "a", "a"]

    def test_a_slot_that_runs_already_and_a_paused_job_are_passed_over(self, ledger):
        claimed(ledger)
        ledger.enqueue(order())
        assert take(ledger) is None
        ledger.finished("r1", "failed")
        for pause in ({}, {"tenant": "acme"}):
            ledger.pause("answers", by="ops", reason="r", **pause)
            assert take(ledger) is None
            assert ledger.resume("answers", **pause) and not ledger.resume("answers", **pause)
        ledger.pause("answers", tenant="globex", by="ops", reason="r")
        ledger.pause("answers", version=2, by="gate", reason="another model")
        assert take(ledger).slot == SLOT

    def test_a_run_given_back_waits_again_with_no_process(self, ledger, clock):
        run = ledger.enqueue(order()).run
        take(ledger)
        ledger.started(run, os.getpid())
        back = ledger.give_back(run, AT + MINUTE)
        assert (back.state, back.server, back.pid, back.started_at) == ("waiting", "", 0, None)
        assert ledger.reconcile() == [] and take(ledger) is None
        clock.advance(60)
        assert take(ledger, "s2").server == "s2"
        ledger.finished(run, "published")
        with pytest.raises(RefusedError, match="is finished already"):
            ledger.give_back(run, AT)

    def test_what_waits_can_be_cancelled_and_what_ended_cannot(self, ledger):
        run = ledger.enqueue(order()).run
        assert [item.run for item in ledger.unfinished("answers")] == [run]
        assert ledger.unfinished("other") == []
        assert ledger.cancel(run, "skipped", "the one before still runs").outcome == "skipped"
        with pytest.raises(RefusedError, match="is finished already"):
            ledger.cancel(run, "skipped", "")
        assert take(ledger) is None and ledger.unfinished() == []

    # -- runs and their processes

    def test_one_living_run_of_a_slot_in_each_role(self, ledger, elsewhere):
        claimed(ledger)
        assert claimed(elsewhere, "r2", role="shadow").role == "shadow"
        with pytest.raises(RefusedError, match=r"run r1, process \d+ on here"):
            claimed(elsewhere, "r3")
        assert ledger.alive(SLOT).run == "r1" and ledger.alive(SLOT, "shadow").run == "r2"
        assert ledger.alive(SLOT, "canary") is None

    def test_a_dead_process_frees_its_slot_here_at_once_and_elsewhere_with_its_lease(
        self, ledger, elsewhere, host, clock
    ):
        host.processes[77] = "child"
        claimed(ledger)
        ledger.started("r1", 77)
        del host.processes[77]
        assert elsewhere.reconcile() == [] and elsewhere.is_alive("r1")
        assert not ledger.is_alive("r1") and ledger.alive(SLOT) is None
        assert [(run.run, run.state) for run in ledger.reconcile()] == [("r1", "lost")]
        claimed(ledger, "r2")
        clock.advance(LEASE_S)
        assert [run.run for run in elsewhere.reconcile()] == ["r2"]
        with pytest.raises(RefusedError, match=r"was declared lost.*must not publish"):
            ledger.finished("r2", "published")

    @pytest.mark.parametrize("seconds", [DAY, -DAY])
    def test_a_clock_that_steps_a_day_loses_no_run_and_fires_no_slot_twice(self, ledger, clock, seconds):
        claimed(ledger)
        ledger.enqueue(order(slot(1)))
        clock.advance(seconds)
        assert ledger.reconcile() == [] and ledger.is_alive("r1") and ledger.beat("r1").alive
        assert ledger.enqueue(order(slot(1))) is None
        assert ledger.last_fired("answers", "acme", "production") == slot(1).at
        assert [run.run for run in ledger.history(limit=1)] != ["r1"], "the last inserted is first"

    def test_a_dead_run_that_had_published_ends_as_published(self, clock, host):
        def end_of(run):
            return ("published", {"rows": 5, "folder": "published/x"}) if run.run == "r1" else None

        ledger = self.open_ledger(clock, host, end_of=end_of)
        host.processes.update({77: "a", 78: "b"})
        for run, of, pid in (("r1", SLOT, 77), ("r2", slot(1), 78)):
            claimed(ledger, run, of)
            ledger.started(run, pid)
        del host.processes[77], host.processes[78]
        found = [(run.run, run.state, run.outcome, run.rows, run.folder) for run in ledger.reconcile()]
        assert found == [("r1", "finished", "published", 5, "published/x"), ("r2", "lost", "", 0, "")]

    def test_a_run_that_fails_before_its_claim_has_one_line(self, ledger, clock):
        line = ledger.refused(SLOT, run="r1", version=2, detail="the input\n is missing")
        assert (line.state, line.outcome, line.version, line.slot) == ("finished", "refused", 2, SLOT)
        assert line.detail == "the input is missing" and line.finished_at == AT
        clock.advance(0.5)
        assert ledger.refused("answers", run="r2", version=0, detail="x").slot == slot(tenant="")
        taken = ledger.enqueue(order(slot(1)))
        take(ledger)
        assert ledger.refused("answers", run=taken.run, version=3, detail="y").outcome == "refused"
        assert ledger.run(taken.run).slot == slot(1) and ledger.run(taken.run).version == 3
        assert ledger.refused("answers", run="r1", version=9, detail="again") == line
        assert len(ledger.history()) == 3

    def test_facts_too_large_for_a_line_do_not_cost_the_line(self, ledger):
        claimed(ledger)
        done = ledger.finished("r1", "published", rows=1, facts={"checks": "x" * 20_000})
        assert done.facts == {"omitted_bytes": 20_013} and done.rows == 1

    def test_history_is_filtered_by_what_is_asked(self, ledger, clock):
        for n, (job, tenant, role) in enumerate(
            [("a", "x", "production"), ("a", "", "shadow"), ("b", "x", "production"), ("a", "x", "canary")]
        ):
            claimed(ledger, f"r{n}", slot(n, job=job, tenant=tenant), role=role)
            clock.advance(60)

        def found(*job, **asked):
            return [run.run for run in ledger.history(*job, **asked)]

        assert found() == ["r3", "r2", "r1", "r0"] and found("a") == ["r3", "r1", "r0"]
        assert found("a", tenant="x") == ["r3", "r0"] and found("a", tenant="") == ["r1"]
        assert found(role="production") == ["r2", "r0"] and found(limit=2) == ["r3", "r2"]
        assert found(since=AT + 2 * MINUTE) == ["r3", "r2"] and found("nothing") == []

    def test_an_unknown_run_is_not_found(self, ledger):
        for work in (ledger.run, ledger.beat, lambda run: ledger.give_back(run, AT)):
            with pytest.raises(NotFoundError, match="no run r9"):
                work("r9")

    # -- decisions

    def test_a_row_that_cannot_be_read_stops_its_own_job_and_can_be_set_aside(self, ledger, elsewhere):
        bad = ledger.enqueue(order())
        ledger.enqueue(order(of=slot(job="triage")))
        with ledger._write() as db:
            db.execute("UPDATE runs SET lease_until = ? WHERE run = ?", "never", bad.run)
        assert take(elsewhere).slot.job == "triage" and take(elsewhere) is None
        [row] = elsewhere.damaged()
        assert (row.job, row.stops) == ("answers", True) and "never" in row.why
        assert [run.slot.job for run in ledger.unfinished()] == ["triage"] and ledger.reconcile() == []
        with pytest.raises(DamagedRowError, match="jobs repair"):
            ledger.run(bad.run)
        assert ledger.all_damaged() == [row] == ledger.damaged()
        assert ledger.set_aside(row) and not ledger.set_aside(row)
        assert elsewhere.damaged() == [] and ledger.history("answers") == []

    def test_pauses_and_withdrawals_are_kept_with_who_and_why(self, ledger, elsewhere, clock):
        ledger.pause("a", by="ops", reason="first")
        ledger.pause("a", by="ops2", reason="second")
        ledger.pause("a", tenant="x", version=2, by="gate", reason="model")
        found = [(p.job, p.tenant, p.version, p.by, p.reason, p.at) for p in elsewhere.pauses()]
        assert found == [("a", "", 0, "ops2", "second", AT), ("a", "x", 2, "gate", "model", AT)]
        assert ledger.withdraw("a", 3, by="rollout", reason="worse", evidence="e.dsse.json")
        assert not elsewhere.withdraw("a", 3, by="other", reason="again")
        ledger.withdraw("b", 1, by="ops", reason="r")
        (one,) = elsewhere.withdrawals("a")
        assert (one.version, one.by, one.reason, one.evidence, one.at) == (
            3, "rollout", "worse", "e.dsse.json", AT,
        )  # fmt: skip
        assert len(ledger.withdrawals()) == 2
        assert ledger.restore("a", 3) and not ledger.restore("a", 3) and ledger.withdrawals("a") == []

    def test_a_server_is_listed_as_long_as_it_lives(self, ledger, elsewhere, host, clock):
        host.processes[77] = "server"
        row = ServerRow(id="s1", host="here", pid=77, born="server", address="http://x", started_at=AT)
        ledger.beat_server(row)
        ledger.beat_server(row)
        (found,) = elsewhere.servers()
        assert (found.id, found.pid, found.address, found.started_at) == ("s1", 77, "http://x", AT)
        assert found.lease_until == AT + dt.timedelta(seconds=LEASE_S)
        clock.advance(LEASE_S)
        assert elsewhere.servers() == [] and len(ledger.servers()) == 1
        del host.processes[77]
        assert ledger.servers() == []
        host.processes[78] = "next"
        ledger.beat_server(ServerRow(id="s2", host="here", pid=78, born="next", address="", started_at=AT))
        assert [server.id for server in ledger.servers()] == ["s2"]
        ledger.leave("s2")
        assert ledger.servers() == []

    def test_an_effect_happens_once_in_a_slot_whichever_run_asks(self, ledger, elsewhere):
        assert ledger.effect(SLOT, "production", "memory", "k")
        assert not elsewhere.effect(SLOT, "production", "memory", "k")
        for other in ((slot(1), "production", "memory", "k"), (SLOT, "shadow", "memory", "k")):
            assert ledger.effect(*other)
        assert ledger.effect(SLOT, "production", "memory", "k2")
        assert ledger.effect(SLOT, "production", "mail", "k")

    # -- notices

    def test_a_notice_is_posted_once_and_delivered_to_each_channel(self, ledger, elsewhere, clock):
        notice = PostedNotice(
            key="k", job="a", event="failed", payload={"at": "é"}, channels=("mail", "oncall")
        )
        assert ledger.post(notice) and not elsewhere.post(notice)
        assert ledger.post(PostedNotice(key="k2", job="b", event="late", channels=("mail",)))
        assert [(d.notice.key, d.channel) for d in elsewhere.undelivered()] == [
            ("k", "mail"), ("k", "oncall"), ("k2", "mail"),
        ]  # fmt: skip
        assert len(ledger.undelivered(limit=1)) == 1
        ledger.delivered("k", "mail")
        ledger.failed_delivery("k", "oncall", "503", AT + MINUTE)
        assert [d.notice.key for d in ledger.undelivered()] == ["k2"]
        clock.advance(60)
        again = ledger.undelivered()[0]
        assert (again.channel, again.tries, again.detail) == ("oncall", 1, "503")
        assert again.notice.payload == {"at": "é"} and again.notice.posted_at == AT
        ledger.failed_delivery("k", "oncall", "gone", None)
        ledger.delivered("k2", "mail")
        assert ledger.undelivered() == []
        assert [n.key for n in ledger.notices()] == ["k2", "k"]
        assert [n.key for n in ledger.notices("a")] == ["k"] and ledger.notices(limit=1)[0].key == "k2"

    # -- retention

    def test_a_due_delivery_is_leased_by_one_process(self, ledger, elsewhere, clock):
        ledger.post(PostedNotice(key="k", job="answers", event="failed", channels=("mail",)))
        assert [book.lease_delivery("k", "mail", AT + MINUTE) for book in (ledger, elsewhere)] == [
            True,
            False,
        ]
        assert ledger.undelivered() == []
        clock.advance(60)
        assert elsewhere.lease_delivery("k", "mail", AT + 2 * MINUTE), "its first process died"
        elsewhere.delivered("k", "mail")
        clock.advance(3600)
        assert not ledger.lease_delivery("k", "mail", AT + 3600 * MINUTE)

    def test_purging_keeps_the_newest_line_of_a_slot_and_all_that_is_not_over(self, ledger, clock):
        for run in ("r1", "r2", "r3"):
            claimed(ledger, run)
            ledger.finished(run, "failed")
            clock.advance(60)
        claimed(ledger, "alive", slot(1))
        waits = ledger.enqueue(order(slot(2)))
        ledger.post(PostedNotice(key="told", job="a", event="failed"))
        ledger.post(PostedNotice(key="due", job="a", event="failed", channels=("mail",)))
        clock.advance(60)
        before = [run.run for run in ledger.history()]
        assert ledger.purge(AT, dry_run=False) == 0
        assert ledger.purge(clock.now(), dry_run=True) == 2
        assert [run.run for run in ledger.history()] == before and len(ledger.notices()) == 2
        assert ledger.purge(clock.now()) == 2
        assert [run.run for run in ledger.history()] == [waits.run, "alive", "r3"]
        assert [notice.key for notice in ledger.notices()] == ["due"]
        assert ledger.enqueue(order(slot(2))) is None, "what fired has fired"

    def test_a_ledger_that_was_never_written_reads_as_empty(self, ledger):
        assert (ledger.history(), ledger.unfinished(), ledger.reconcile(), ledger.pauses()) == (
            [],
            [],
            [],
            [],
        )
        assert (ledger.withdrawals(), ledger.servers(), ledger.undelivered(), ledger.notices()) == (
            [], [], [], [],
        )  # fmt: skip
        assert take(ledger) is None and ledger.alive(SLOT) is None and ledger.purge(AT) == 0
        assert not ledger.resume("a") and not ledger.restore("a", 1)


class TestSqlite(Contract):
    @pytest.fixture(autouse=True)
    def _file(self, tmp_path):
        self.path = tmp_path / "state" / "jobs.db"

    def open_ledger(self, clock, host, **given):
        return SqliteLedger(self.path, clock=clock, host=host, **given)

    def test_reading_creates_no_file(self, ledger):
        self.test_a_ledger_that_was_never_written_reads_as_empty(ledger)
        with pytest.raises(NotFoundError, match="no run r9"):
            ledger.run("r9")
        assert not self.path.parent.exists()


class TestPostgres(Contract):
    @pytest.fixture(autouse=True)
    def _server(self, postgres):  # noqa: F811
        self.url, self.opened = postgres.url, []
        yield
        for ledger in self.opened:
            ledger.close()
        with psycopg.connect(self.url, password=PASSWORD, autocommit=True) as db:
            db.execute("DROP SCHEMA IF EXISTS workbench_jobs CASCADE")

    def open_ledger(self, clock, host, **given):
        self.opened.append(PostgresLedger(self.url, clock=clock, password=PASSWORD, host=host, **given))
        return self.opened[-1]

    def test_a_connection_that_the_server_closed_is_opened_again(self, ledger):
        claimed(ledger)
        with psycopg.connect(self.url, password=PASSWORD, autocommit=True) as db:
            db.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'workbench-jobs'"
            )
        assert ledger.beat("r1").alive

    def test_a_ledger_of_another_schema_is_refused_and_left_alone(self, ledger, clock, host):
        claimed(ledger)
        with psycopg.connect(self.url, password=PASSWORD, autocommit=True) as db:
            db.execute("UPDATE workbench_jobs.ledger_schema SET version = 9")
        with pytest.raises(ConfigError, match="has schema 9, this workbench knows schema 2"):
            self.open_ledger(clock, host).history()

    def test_hosts_whose_clocks_differ_agree_by_the_clock_of_the_server(self):
        class Ahead(SystemClock):
            def now(self):
                return super().now() + dt.timedelta(days=1)

        clocks = {"here": SystemClock(), "ahead": Ahead()}
        here, ahead = (self.open_ledger(clock, FakeHost(name)) for name, clock in clocks.items())
        claimed(here)
        assert ahead.reconcile() == [] and ahead.is_alive("r1")
        assert ahead.beat("r1").lease_until - SystemClock().now() <= dt.timedelta(seconds=LEASE_S + 1)
        assert here.reconcile() == []

    def test_a_server_that_is_away_is_a_clear_error(self, clock, host):
        ledger = PostgresLedger("postgresql://tests@127.0.0.1:1/postgres", clock=clock, host=host)
        for work in (ledger.history, lambda: claimed(ledger)):
            with pytest.raises(UnavailableError, match="budget_url: the job ledger in PostgreSQL") as caught:
                work()
            assert caught.value.retryable and "budget_url" in caught.value.hint
