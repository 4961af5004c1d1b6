"""A server of jobs with a clock set by hand, a ledger in a file, and processes that a test ends."""

from __future__ import annotations

import datetime as dt

from workbench.config.operations import Capacity, JobOperation, Operations
from workbench.jobs.ledger import open_ledger
from workbench.jobs.schedule import Schedule
from workbench.scheduler.definitions import Definition, Definitions
from workbench.scheduler.due import Era
from workbench.scheduler.server import JobServer, ServerParts

NIGHT = dt.datetime(2026, 11, 24, 5, 59, tzinfo=dt.UTC)
SIX = dt.datetime(2026, 11, 24, 6, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


class SetClock:
    """A clock that a test sets, also back."""

    def __init__(self, at=NIGHT):
        self.at, self.passed = at, 0.0

    def now(self):
        return self.at

    def monotonic(self):
        return self.passed

    def advance(self, seconds):
        self.at += dt.timedelta(seconds=seconds)
        self.passed += max(0.0, seconds)


class Process:
    """The process of a run, which a test ends."""

    def __init__(self):
        self.code, self.killed = None, False

    def poll(self):
        return self.code

    def kill(self):
        self.killed = True

    def said(self):
        return "the last line"


class Starter:
    """Notes the runs that are started; a run publishes at once when `quick` is set."""

    def __init__(self, ledger):
        self.ledger, self.runs, self.processes, self.fault = ledger, [], {}, None

    def start(self, run):
        if self.fault is not None:
            raise self.fault
        self.runs.append(run)
        self.processes[run.run] = Process()
        return self.processes[run.run]

    def end(self, run, outcome="published", detail=""):
        self.ledger.finished(run.run, outcome, detail=detail)
        self.processes[run.run].code = 0 if outcome == "published" else 1

    @property
    def slots(self):
        return [run.slot.key for run in self.runs]


class Reader:
    def __init__(self, *found, operations=None, faults=None):
        self.current = Definitions(
            found=found, operations=operations or Operations(), faults=faults or {}, mark=(1,)
        )

    def read(self):
        return self.current


class Told:
    """What was told, in order."""

    def __init__(self):
        self.slots, self.runs, self.faults = [], [], []

    def slot(self, event, slot, channels, *, detail):
        self.slots.append((event, slot.key))

    def fault(self, job, channels, *, when, detail):
        self.faults.append((job, detail))

    def run(self, run, channels, *, retried):
        self.runs.append((run.outcome or run.state, retried))


def definition(job="answers", cron="0 6 * * *", **operation):
    schedule = Schedule.parse(cron, "UTC", where="test")
    return Definition(
        job=job, role="production", version=1, seconds=60, operation=JobOperation(**operation),
        eras=(Era(start=NIGHT - 30 * DAY, schedule=schedule),),
    )  # fmt: skip


class House:
    """A server with its parts; `again` is the next server over the same ledger."""

    def __init__(self, folder, *found, runs=2, per_tenant=0, clock=None, options=None):
        self.folder, self.clock = folder, clock or SetClock()
        self.ledger = open_ledger(folder, self.clock)
        self.starter, self.told = Starter(self.ledger), Told()
        operations = Operations(
            capacity=Capacity(runs=runs, per_tenant=per_tenant),
            jobs={item.job: item.operation for item in found},
        )
        self.reader = Reader(*found, operations=operations)
        parts = ServerParts(
            ledger=self.ledger, reader=self.reader, starter=self.starter, teller=self.told, clock=self.clock
        )
        self.server = JobServer(parts, options)

    def again(self, **options):
        found = self.reader.current
        return House(
            self.folder, *found.found, runs=found.operations.capacity.runs, clock=self.clock, **options
        )

    def tick(self, seconds=0.0):
        self.clock.advance(seconds)
        self.server._last = {}  # everything is looked at again
        return self.server.tick()

    def states(self, job="answers"):
        return [
            (f"{run.slot.at:%d %H:%M}", run.outcome or run.state)
            for run in reversed(self.ledger.history(job, limit=1_000))
        ]
