"""Measure a server of jobs in this process: `python -m benchmarks.jobs_served start|ticks|due FOLDER`."""

from __future__ import annotations

import datetime as dt
import gc
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.jobs_made import NOON, resident_mb
from workbench.config.operations import Capacity, JobOperation, Operations
from workbench.context import SystemClock
from workbench.jobs.ledger import JobLedger, JobRun, open_ledger
from workbench.jobs.schedule import Schedule
from workbench.scheduler.children import CommandProcess, CommandStarter
from workbench.scheduler.definitions import Definition, DefinitionReader, Definitions
from workbench.scheduler.due import Era
from workbench.scheduler.server import JobServer, ServeOptions, ServerParts
from workbench.scheduler.telling import OutboxTeller
from workbench.testing.fakes import FakeClock


class Published:
    """A process that has published when it is looked at."""

    def __init__(self, ledger: JobLedger, run: JobRun) -> None:
        self._ledger, self._run = ledger, run

    def poll(self) -> int:
        self._ledger.finished(self._run.run, "published", rows=1)
        return 0

    def kill(self) -> None:
        """It has ended."""

    def said(self) -> str:
        return ""


class PublishingStarter:
    """Starts no process: each run publishes at once."""

    def __init__(self, ledger: JobLedger) -> None:
        self._ledger = ledger
        self.jobs: list[str] = []

    def start(self, run: JobRun) -> Published:
        self.jobs.append(run.slot.job)
        return Published(self._ledger, run)


class SleepingStarter(CommandStarter):
    """Starts `sleep` where a server starts `workbench jobs run`, as a server starts it."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.started: list[float] = []

    def start(self, run: JobRun) -> CommandProcess:
        log = self._root / f"{run.run}.log"
        process = subprocess.Popen(["sleep", "60"], start_new_session=True)
        self.started.append(time.perf_counter())
        return CommandProcess(process, run.run, log)


def _server(ledger: JobLedger, reader, starter, clock, **options) -> JobServer:
    parts = ServerParts(
        ledger=ledger, reader=reader, starter=starter, teller=OutboxTeller(ledger), clock=clock
    )
    return JobServer(parts, ServeOptions(**options))


def start(folder: Path) -> Mapping[str, float]:
    """From the first line of the process to the end of the first look: seconds of CPU and of the clock."""
    clock = SystemClock()
    begun = time.perf_counter()
    ledger = open_ledger(folder, clock)
    server = _server(ledger, DefinitionReader(folder), PublishingStarter(ledger), clock)
    server.tick()
    assert not server.fault, server.fault
    return {
        "definitions": len(server.definitions.found), "cpu_s": time.process_time(),
        "wall_s": time.perf_counter() - begun,
    }  # fmt: skip


def ticks(folder: Path) -> Mapping[str, float]:
    """1,000 looks in steps of 20 seconds, with every definition due once an hour: memory, and CPU a look."""
    clock = FakeClock(NOON.isoformat())
    ledger = open_ledger(folder, clock)
    starter = PublishingStarter(ledger)
    server = _server(ledger, DefinitionReader(folder), starter, clock, runs=1_000)
    _look(server, clock, 100)
    before, used = resident_mb(), time.process_time()
    _look(server, clock, 900)
    cpu = time.process_time() - used
    return {
        "mb_at_100": before, "mb_at_1000": resident_mb(), "runs": len(starter.jobs),
        "ms_a_tick": cpu / 900 * 1e3,
    }  # fmt: skip


def _look(server: JobServer, clock: FakeClock, times: int) -> None:
    for _ in range(times):
        server.tick()
        assert not server.fault, server.fault
        clock.advance(20)
    gc.collect()


def due(folder: Path) -> Mapping[str, float]:
    """100 slots due at once, of ten jobs with ten tenants: how late they start, and in which order.

    The processes are `sleep`, because 100 notebooks at once measure the machine. The order is that of a
    server with ten places, whose runs end before its next look.
    """
    root = folder / "late"
    clock = FakeClock("2026-11-24T05:59:59.900000+00:00")
    server, starter = _of_tenants(root, clock, SleepingStarter, runs=100)
    server.tick()
    clock.advance(0.1)
    begun, used = time.perf_counter(), time.process_time()
    server.tick()
    late, cpu = starter.started[-1] - begun, time.process_time() - used
    assert len(starter.started) == 100, server.fault
    for child in server.children.values():
        child._process.kill()
        child._process.wait()
    root = folder / "fair"
    server, counted = _of_tenants(root, clock, lambda _: PublishingStarter(open_ledger(root, clock)), runs=10)
    clock.advance(86_400)
    ahead = 0
    while len(counted.jobs) < 100:
        server.tick()
    started = Counter({f"job-{number}": 0 for number in range(10)})
    for job in counted.jobs:
        started[job] += 1
        ahead = max(ahead, max(started.values()) - min(started.values()))
    return {"last_s": late, "cpu_s": cpu, "ahead": ahead}


def _of_tenants(root: Path, clock: FakeClock, starter: Callable, *, runs: int) -> tuple[JobServer, object]:
    tenants = tuple(f"t{number}" for number in range(10))
    schedule = Schedule.parse("0 6 * * *", where="benchmark")
    operation = JobOperation(tenants=tenants)
    found = tuple(
        Definition(
            job=f"job-{number}", role="production", version=1, seconds=60, operation=operation,
            eras=(Era(start=NOON - dt.timedelta(days=30), schedule=schedule),),
        )
        for number in range(10)
    )  # fmt: skip
    operations = Operations(capacity=Capacity(runs=runs), jobs={item.job: operation for item in found})
    definitions = Definitions(found=found, operations=operations, mark=(1,))
    root.mkdir()
    ledger, started = open_ledger(root, clock), starter(root)
    return _server(ledger, _Fixed(definitions), started, clock), started


class _Fixed:
    """A reader of definitions that do not change."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions

    def read(self) -> Definitions:
        return self._definitions


if __name__ == "__main__":
    print(json.dumps({"start": start, "ticks": ticks, "due": due}[sys.argv[1]](Path(sys.argv[2]))))
