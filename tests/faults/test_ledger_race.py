"""Two servers race for the slots of one ledger, 200 with `make soak`, and one is killed while it works."""

from __future__ import annotations

import collections
import json
import signal
import sys

import psycopg
import pytest
from postgres_server import PASSWORD, postgres  # noqa: F401 - a fixture
from sizes import SEED, SOAK
from two_racers import raced, waiting

from workbench.context import SystemClock
from workbench.jobs.ledger.postgres import PostgresLedger
from workbench.jobs.ledger.sqlite import SqliteLedger

SLOTS = 200 if SOAK else 60
#: A server: it fires every slot, then runs what is due, and retries what it finds lost.
SERVER = """
import datetime as dt, json, sys
from pathlib import Path
from workbench.context import SystemClock
from workbench.jobs.ledger import RunOrder, Slot
from workbench.jobs.ledger.postgres import PostgresLedger
from workbench.jobs.ledger.sqlite import SqliteLedger

where, password, name, slots = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
if "://" in where:
    ledger = PostgresLedger(where, password=password, clock=SystemClock())
else:
    ledger = SqliteLedger(Path(where), clock=SystemClock())

def tell(**what):
    sys.stdout.write(json.dumps(what) + "\\n")  # in one piece, also where print would write two
    sys.stdout.flush()

tell(ready=name)
input()
for n in range(slots):
    at = dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(hours=n // 4)
    run = ledger.enqueue(RunOrder(slot=Slot(job=f"job{n % 4}", tenant="", at=at)))
    if run:
        tell(fired=run.slot.key)
while True:
    run = ledger.take(name, runs=3, per_tenant=0)
    if run is None:
        if not ledger.unfinished():
            break
        for lost in ledger.reconcile():
            order = RunOrder(slot=lost.slot, trigger="retry", attempt=lost.attempt + 1)
            if ledger.enqueue(order):
                tell(retried=lost.slot.key)
        continue
    ledger.claim(run.slot, run=run.run, version=1, input_digest="i")
    ledger.started(run.run, __import__("os").getpid())
    tell(began=run.slot.key, first=ledger.effect(run.slot, run.role, "mail", "k"))
    ledger.finished(run.run, "published")
tell(done=name)
"""


def race(where, *, kill_after=None):
    """What two servers told, in this order, and their exit codes."""
    names = ("first", "second")
    commands = [[sys.executable, "-c", SERVER, where, PASSWORD, name, str(SLOTS)] for name in names]
    told, codes = raced(list(map(waiting, commands, names)), kill_after=kill_after)
    return [json.loads(line) for line in told.splitlines()], codes


def check(ledger, told, *, killed):
    fired = [each["fired"] for each in told if "fired" in each]
    runs = ledger.history(limit=10 * SLOTS)
    assert len(fired) == len(set(fired)) >= SLOTS - killed, "a kill may come before the line is read"
    published = collections.Counter(run.slot.key for run in runs if run.outcome == "published")
    assert len(published) == SLOTS and set(published.values()) == {1}
    assert ledger.unfinished() == [] and ledger.servers() == []
    lost = [run.slot.key for run in runs if run.state == "lost"]
    assert len(lost) <= killed and len(runs) == SLOTS + len(lost)
    effects = collections.Counter(each["began"] for each in told if each.get("first"))
    assert set(effects.values()) == {1} and len(effects) >= SLOTS - killed


@pytest.fixture(params=["sqlite", "postgres"])
def where(request, tmp_path):
    if request.param == "sqlite":
        ledger = SqliteLedger(tmp_path / "state" / "jobs.db", clock=SystemClock())
        yield str(ledger.path), ledger
        ledger.close()
        return
    url = request.getfixturevalue("postgres").url
    ledger = PostgresLedger(url, password=PASSWORD, clock=SystemClock())
    yield url, ledger
    ledger.close()
    with psycopg.connect(url, password=PASSWORD, autocommit=True) as db:
        db.execute("DROP SCHEMA workbench_jobs CASCADE")


def test_two_servers_run_each_slot_once(where):
    address, ledger = where
    told, codes = race(address)
    assert codes == [0, 0]
    check(ledger, told, killed=0)


def test_the_slots_of_a_killed_server_are_run_by_the_other_one(where):
    address, ledger = where
    told, codes = race(address, kill_after=1 + SEED % SLOTS)
    assert codes == [0, -signal.SIGKILL]
    # Of the killed one: the run that it had begun, or had only taken.
    check(ledger, told, killed=1)
