"""A server of jobs as a process that races another one: it fires, runs and settles what both find due.

`python racing_servers.py LEDGER PASSWORD NAME SLOTS EPOCH` waits for a line, and then tells what it does as
JSON lines. LEDGER is the path of a SQLite file or the address of a PostgreSQL database. The slots are of four
jobs, each hour before EPOCH; one in ten fails at first.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
import sys
from pathlib import Path

from job_servers import Reader, definition

from workbench.config.operations import Capacity, Operations, Retries
from workbench.context import SystemClock
from workbench.jobs.ledger.postgres import PostgresLedger
from workbench.jobs.ledger.sqlite import SqliteLedger
from workbench.scheduler.due import Era
from workbench.scheduler.server import JobServer, ServeOptions, ServerParts
from workbench.scheduler.telling import OutboxTeller

JOBS = 4


def tell(**what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")  # in one piece, also where print would write two
    sys.stdout.flush()


def opened(where: str, password: str):
    if "://" in where:
        return PostgresLedger(where, password=password, clock=SystemClock())
    return SqliteLedger(Path(where), clock=SystemClock())


class Ended:
    """The process of a run that has ended."""

    def poll(self) -> int:
        return 0

    def kill(self) -> None:
        """It has ended."""

    def said(self) -> str:
        return "the command failed"


class AtOnce:
    """Runs each run at once, in the process of its server."""

    def __init__(self, ledger) -> None:
        self._ledger = ledger

    def start(self, run) -> Ended:
        self._ledger.claim(run.slot, run=run.run, version=1, input_digest="i")
        self._ledger.started(run.run, os.getpid())
        if run.slot.at.hour == 7 and run.attempt == 1:
            self._ledger.finished(run.run, "failed", detail="at first")
        else:
            tell(ran=run.slot.key, first=self._ledger.effect(run.slot, run.role, "mail", "k"))
            self._ledger.finished(run.run, "published")
        return Ended()


def definitions(slots: int, epoch: dt.datetime) -> Reader:
    """Four jobs, which together have so many slots before the epoch, and none after it."""
    retries = Retries(times=9, backoff_s=0.01, most_s=0.01)
    found = []
    for number in range(JOBS):
        item = definition(
            f"job{number}", "0 * * * *", catch_up="all", retries=retries, notify=("kept",),
            start_deadline_s=20_000_000.0, late_after_s=30_000_000.0,
        )  # fmt: skip
        first = epoch - dt.timedelta(hours=slots // JOBS)
        eras = (Era(start=first, schedule=item.eras[0].schedule), Era(start=epoch, schedule=None))
        found.append(dataclasses.replace(item, eras=eras))
    operations = Operations(capacity=Capacity(runs=3), jobs={item.job: item.operation for item in found})
    return Reader(*found, operations=operations)


def main(where: str, password: str, name: str, slots: str, epoch: str) -> None:
    """Serve until nothing is due and nothing runs."""
    ledger, clock = opened(where, password), SystemClock()
    reader = definitions(int(slots), dt.datetime.fromisoformat(epoch))
    parts = ServerParts(
        ledger=ledger, reader=reader, starter=AtOnce(ledger), teller=OutboxTeller(ledger), clock=clock
    )
    server = JobServer(parts, ServeOptions(once=True))
    tell(ready=name)
    sys.stdin.readline()
    while not server.is_done() or ledger.unfinished():
        server._last = {}  # everything is looked at again
        server.tick()
        assert not server.fault, server.fault
    server.leave()
    tell(done=name)


if __name__ == "__main__":
    main(*sys.argv[1:])
