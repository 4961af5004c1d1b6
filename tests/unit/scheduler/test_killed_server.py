"""A server that is killed before or after a step in the ledger: one output for each slot, none stuck."""

from __future__ import annotations

import os

import pytest
from job_servers import NIGHT, Reader, SetClock, Told, definition
from sizes import drawn

from workbench.config.operations import Capacity, Operations, Retries
from workbench.errors import RefusedError
from workbench.jobs.ledger import Host
from workbench.jobs.ledger.sqlite import SqliteLedger
from workbench.scheduler.server import JobServer, ServerParts

#: The steps of a server that write, with how often the story below has them, rounded down.
WRITES = {
    "beat_server": 10,
    "take": 8,
    "enqueue": 2,
    "enqueue_all": 3,
    "give_back": 2,
    "reconcile": 10,
    "miss": 2,
}
POINTS = [
    (step, n, when)
    for step, most in WRITES.items()
    for n in range(1, most + 1)
    for when in ("before", "after")
]
EXPECTED = {f"{job}/all/20261124T060{minute}00Z" for job in ("one", "two") for minute in range(3)}


class Killed(BaseException):
    """The kill: nothing of the server runs on after it."""


class Machine(Host):
    """A host whose processes are this test's: the server of a generation, and the children that live."""

    __slots__ = ("generation", "living")

    def __init__(self):
        super().__init__(name="machine")
        object.__setattr__(self, "generation", [1])
        object.__setattr__(self, "living", set())

    def process_started_at(self, pid):
        if pid == os.getpid():
            return f"server-{self.generation[0]}"
        return "child" if pid in self.living else None


class KillingLedger:
    """A server's ledger, which kills the server before or after the n-th call of one of its methods."""

    def __init__(self, ledger, point=None):
        self.ledger, self.point, self.calls = ledger, point, 0

    def __getattr__(self, name):
        verb = getattr(self.ledger, name)
        if self.point is None or name != self.point[0]:
            return verb

        def counted(*values, **named):
            self.calls += 1
            due = self.calls == self.point[1]
            if due and self.point[2] == "before":
                raise Killed
            done = verb(*values, **named)
            if due:
                raise Killed
            return done

        return counted


class World:
    """The children of servers: each marks its run as running, and ends it some steps later."""

    def __init__(self, folder, point):
        self.clock, self.machine = SetClock(NIGHT), Machine()
        self.ledger = SqliteLedger(folder / "jobs.db", clock=self.clock, host=self.machine)
        self.children, self.outputs, self.kills, self.pid = {}, [], 0, 1_000_000
        retries = Retries(times=5, backoff_s=5, most_s=5)
        jobs = [definition(name, "0-2 6 * * *", retries=retries, catch_up="all") for name in ("one", "two")]
        operations = Operations(capacity=Capacity(runs=3), jobs={item.job: item.operation for item in jobs})
        self.reader = Reader(*jobs, operations=operations)
        self.server = self.begun(point)

    def begun(self, point=None):
        ledger = KillingLedger(self.ledger, point)
        return JobServer(
            ServerParts(ledger=ledger, reader=self.reader, starter=self, teller=Told(), clock=self.clock)
        )

    def start(self, run):
        self.pid += 1
        self.machine.living.add(self.pid)
        self.children[self.pid] = [run, 0]
        return Child(self, self.pid)

    def step(self):
        self.clock.advance(5)
        for pid, child in list(self.children.items()):
            child[1] += 1
            try:
                self.live(pid, *child)
            except RefusedError:  # it was declared lost: it must not publish
                self.end(pid)
        try:
            self.server._last = {}
            self.server.tick()
        except Killed:
            self.kills += 1
            self.machine.generation[0] += 1
            self.server = self.begun()

    def live(self, pid, run, age):
        if age == 1:
            self.ledger.started(run.run, pid)
        elif age == 14:  # longer than a minute, so that the next slot waits behind it
            fails = run.attempt == 1 and run.slot.at.minute == 1
            self.ledger.beat(run.run)
            if not fails:
                self.outputs.append(run.slot.key)
            self.ledger.finished(run.run, "failed" if fails else "published")
            self.end(pid)

    def end(self, pid):
        self.machine.living.discard(pid)
        del self.children[pid]


class Child:
    def __init__(self, world, pid):
        self.world, self.pid = world, pid

    def poll(self):
        return None if self.pid in self.world.machine.living else 0

    def kill(self):
        self.world.end(self.pid)

    def said(self):
        return ""


@pytest.mark.parametrize("point", drawn(POINTS, 10), ids=lambda point: "-".join(map(str, point)))
def test_each_slot_has_one_output_and_nothing_is_stuck(tmp_path, point):
    world = World(tmp_path, point)
    for _ in range(200):
        world.step()
        if set(world.outputs) == EXPECTED and not world.children and not world.ledger.unfinished():
            break
    assert sorted(world.outputs) == sorted(EXPECTED)
    assert not world.ledger.unfinished() and not world.children
    published = [run.slot.key for run in world.ledger.history(limit=1_000) if run.outcome == "published"]
    assert sorted(published) == sorted(EXPECTED)


def test_the_story_reaches_its_points(tmp_path):
    """A point that no call reaches would kill nothing."""
    reached = {}
    world = World(tmp_path, None)
    for step in WRITES:
        verb = getattr(world.ledger, step)

        def counted(*values, _step=step, _verb=verb, **named):
            reached[_step] = reached.get(_step, 0) + 1
            return _verb(*values, **named)

        setattr(world.ledger, step, counted)
    for _ in range(120):
        world.step()
    assert set(world.outputs) == EXPECTED
    assert not {step: reached.get(step, 0) for step, most in WRITES.items() if reached.get(step, 0) < most}
