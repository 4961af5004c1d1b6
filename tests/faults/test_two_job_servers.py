"""Two servers of jobs on one ledger, of which one is killed: nothing happens twice, and nothing is left."""

from __future__ import annotations

import collections
import datetime as dt
import json
import signal
import sys

import psycopg
import pytest
import racing_servers
from postgres_server import PASSWORD, postgres  # noqa: F401 - a fixture
from sizes import SEED, SOAK
from two_racers import raced, waiting

from workbench.context import SystemClock
from workbench.jobs.ledger import Slot

SLOTS = 200 if SOAK else 40
EPOCH = SystemClock().now().replace(minute=0, second=0, microsecond=0)
JOBS = [f"job{number}" for number in range(racing_servers.JOBS)]


@pytest.fixture
def where(request, tmp_path):
    """The ledger, in which the slot before those that are due has fired."""
    url = (
        request.getfixturevalue("postgres").url if request.param == "postgres" else str(tmp_path / "jobs.db")
    )
    ledger = racing_servers.opened(url, PASSWORD)
    before = EPOCH - dt.timedelta(hours=SLOTS // len(JOBS))
    for job in JOBS:
        assert ledger.miss(Slot(job=job, tenant="", at=before), "production", "before the test")
    yield url, ledger
    ledger.close()
    if request.param == "postgres":
        with psycopg.connect(url, password=PASSWORD, autocommit=True) as db:
            db.execute("DROP SCHEMA workbench_jobs CASCADE")


def race(where: str, *, kill_after: int) -> tuple[list[dict], list[int]]:
    """What two servers told, and their exit codes; the second is killed after both told so many lines."""
    program, names = [sys.executable, racing_servers.__file__, where, PASSWORD], ("first", "second")
    commands = [[*program, name, str(SLOTS), EPOCH.isoformat()] for name in names]
    told, codes = raced(list(map(waiting, commands, names)), kill_after=kill_after)
    lines = told.decode().split("\n")
    return [json.loads(line) for line in lines if line.endswith("}")], codes


@pytest.mark.drawn("races of two servers of jobs", 1)
@pytest.mark.parametrize("where", ["sqlite", "postgres"], indirect=True)
def test_of_two_servers_one_of_which_is_killed_nothing_happens_twice(where):
    address, ledger = where
    told, codes = race(address, kill_after=1 + SEED % (SLOTS // 2))
    assert codes == [0, -signal.SIGKILL]
    runs = [run for run in ledger.history(limit=10 * SLOTS) if run.outcome != "missed"]
    published = collections.Counter(run.slot.key for run in runs if run.outcome == "published")
    assert len(published) == SLOTS and set(published.values()) == {1}
    assert ledger.unfinished() == [] and ledger.servers() == []
    attempts = collections.Counter((run.slot.key, run.attempt) for run in runs)
    assert set(attempts.values()) == {1}, "no attempt of a slot is made twice"
    lost = [run for run in runs if run.state == "lost"]
    failed = [run for run in runs if run.outcome == "failed"]
    assert len(runs) == SLOTS + len(lost) + len(failed) and len(lost) <= 3, "what the killed one had taken"
    assert {run.slot.at.hour for run in failed} <= {7}
    effects = collections.Counter(each["ran"] for each in told if each.get("first"))
    assert set(effects.values()) == {1} and len(effects) >= SLOTS - 1
    events = {item.event for item in ledger.notices(limit=1_000)}
    assert events <= {"missed"}, "of the slots before; a failure that is retried is not told, nor its end"
