"""An error in any phase of a look, of one job: the others run, it is told once, and it is tried again."""

from __future__ import annotations

import pytest
from job_servers import House, definition
from prometheus_client import CollectorRegistry, generate_latest

from workbench.errors import UnavailableError
from workbench.jobs.ledger import open_ledger
from workbench.scheduler.due import Timetable
from workbench.scheduler.faults import JobFaults
from workbench.scheduler.firing import Firing
from workbench.scheduler.health import _jobs, _readiness, _ServerMetrics
from workbench.scheduler.telling import OutboxTeller


class OddError(Exception):
    """An error of a kind that nobody expects, whose message quotes a row."""


class Faulty:
    """Makes a method fail for the job `bad`, until it is mended."""

    def __init__(self, patch, owner, name, job_of):
        self.mended, self.calls, work = False, 0, getattr(owner, name)

        def failing(*given, **rest):
            if not self.mended and job_of(*given) == "bad":
                self.calls += 1
                raise OddError("row 7 of max@acme.example")
            return work(*given, **rest)

        patch.setattr(owner, name, failing)


def of_run(house):
    return lambda run, *_: house.ledger.run(run).slot.job


def of_table(house):
    def job_of(table, *_):
        return next((key[0] for key, (_, one) in house.server.firing._tables.items() if one is table), "")

    return job_of


def of_orders(orders):
    return next((order.slot.job for order in orders if order.slot.job == "bad"), "")


#: Where the error is raised: what is patched there, and how the job of a call is found.
PHASES = {
    "its timetable": lambda h: (Firing, "_timetable", lambda _self, key, *_: key[0]),
    "what is due": lambda h: (Timetable, "until", of_table(h)),
    "the first slot": lambda h: (h.ledger, "miss", lambda slot, *_: slot.job),
    "its line among others": lambda h: (h.ledger, "enqueue_all", of_orders),
    "its line": lambda h: (h.ledger, "enqueue", lambda order, **_: order.slot.job),
    "its overlap": lambda h: (Firing, "_fire", lambda _self, item, *_: item.job),
    "the start": lambda h: (h.starter, "start", lambda run: run.slot.job),
    "the process": lambda h: (h.server, "_polled", of_run(h)),
    "the end of a process": lambda h: (h.server, "_ended", of_run(h)),
    "settling": lambda h: (h.server.settling, "settle", lambda run: run.slot.job),
    "telling the end": lambda h: (h.told, "run", lambda run, *_: run.slot.job),
    "telling a late slot": lambda h: (h.told, "slot", lambda _event, slot, *_: slot.job),
    "replacing": lambda h: (h.server, "_end_replaced", lambda run: run.slot.job),
}
#: The phases in which the run of `bad` has to end, and those in which it has a rule for overlaps.
ENDS = {"the process", "the end of a process", "settling", "telling the end"}
OVERLAPS = {"its overlap", "replacing", "its line"}


def end_all(house, *jobs):
    for run in house.starter.runs:
        if run.slot.job in jobs and house.ledger.run(run.run).alive:
            house.starter.end(run)


def published(house, job):
    return [run.slot.at.day for run in house.ledger.history(job) if run.outcome == "published"]


@pytest.mark.parametrize("phase", PHASES)
def test_an_error_of_one_job_stops_no_other_is_told_once_and_goes_when_it_is_mended(
    tmp_path, monkeypatch, phase
):
    bad = definition("bad", overlap="replace" if phase in OVERLAPS else "queue")
    house = House(tmp_path, bad, definition(), runs=4)
    fault = Faulty(monkeypatch, *PHASES[phase](house))
    opened: dict[str, str] = {}
    for seconds, ending in (
        (0, ()), (60, ("answers", *(["bad"] if phase in ENDS else []))), (1, ()),
        (4_000, ()),  # an unfinished slot is late
        (86_400 - 4_001, ("answers",)), (1, ()),
    ):  # fmt: skip
        house.tick(seconds)
        assert not house.server.fault
        opened |= house.server.faults.open
        end_all(house, *ending)
    assert published(house, "answers") == [25, 24] and fault.calls
    if phase == "its line among others":
        assert opened == {}, "each is tried alone, and the line of this one can be written"
    else:
        assert set(opened.values()) == {"OddError"} and house.server.faults.count >= 1
        assert {job for job, _ in house.told.faults} == {"bad"}
        assert len(house.told.faults) <= 3, "once an hour, of three hours"
        assert "acme" not in str(house.told.faults)

    fault.mended = True
    for _ in range(4):
        house.tick(301)
        end_all(house, "answers", "bad")
    house.tick(86_400)
    house.tick(1)
    end_all(house, "answers", "bad")
    house.tick(1)
    assert published(house, "bad")[0] == published(house, "answers")[0] == 26
    assert house.server.faults.open == {}


def test_definitions_that_cannot_be_read_anew_leave_those_of_before(tmp_path, monkeypatch):
    house = House(tmp_path, definition())
    house.tick()

    def broken():
        raise OddError("a row")

    monkeypatch.setattr(house.reader, "read", broken)
    house.tick(60)
    assert house.starter.slots == ["answers/all/20261124T060000Z"]
    assert house.server.fault.startswith("OddError") and _readiness(house.server)[0] == 503


def test_an_error_of_a_kind_that_nobody_expects_ends_no_server(tmp_path, monkeypatch):
    house = House(tmp_path, definition())

    def broken():
        raise OddError("a row")

    with monkeypatch.context() as patch:
        patch.setattr(house.server, "_tick", broken)
        assert house.tick() > 0 and house.server.fault.startswith("OddError")
    house.tick()
    assert not house.server.fault


def test_a_process_is_followed_until_the_ledger_answers(tmp_path, monkeypatch):
    house = House(tmp_path, definition())
    house.tick()
    house.tick(60)
    (run,) = house.starter.runs
    house.starter.processes[run.run].code = 1

    def away(*_):
        raise UnavailableError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(house.ledger, "run", away)
        house.tick(1)
        assert "full" in house.server.fault and run.run in house.server.children
    house.tick(1)
    assert house.ledger.run(run.run).outcome == "failed" and not house.server.fault


def test_the_pauses_between_two_tries_double_up_to_five_minutes(tmp_path):
    house = House(tmp_path, definition())
    faults, pauses = JobFaults(house.clock), []
    for _ in range(10):
        with faults.of("bad", "firing bad"):
            raise OddError("a row")
        pauses.append(faults.left_s("firing bad"))
        house.clock.advance(1_000)
    assert pauses == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300] and faults.count == 10
    with faults.of("bad", "firing bad"):
        pass
    assert faults.open == {} and faults.left_s("firing bad") == 0
    with pytest.raises(UnavailableError), faults.of("bad", "firing bad"):
        raise UnavailableError("the ledger is away")


def test_a_fault_is_in_health_metrics_and_the_outbox(tmp_path, monkeypatch):
    house = House(tmp_path, definition(notify=("log",)))
    house.server._parts.teller.fault = OutboxTeller(house.ledger).fault
    house.starter.fault = OddError("row 7 of max@acme.example")
    house.tick()
    house.tick(60)
    assert _readiness(house.server)[1]["checks"]["definitions"].startswith("1 not served")
    assert _jobs(house.server)["faults"] == {"starting runs of answers": "OddError"}
    registry = CollectorRegistry()
    registry.register(_ServerMetrics(house.server))
    shown = generate_latest(registry).decode()
    assert "workbench_jobs_job_faults_total 1.0" in shown and "workbench_jobs_faults 1.0" in shown
    [notice] = open_ledger(tmp_path, house.clock).notices("answers")
    assert (notice.event, notice.payload["detail"]) == ("fault", "starting runs of answers: OddError")
