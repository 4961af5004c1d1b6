"""What a memory store that outlives its process promises beside the rest."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from workbench.memory.parquet import logical_digest
from workbench.ports import Budget, Selector
from workbench.testing.governed_memory import OpenStore
from workbench.testing.memory_history_contract import HistoryContract
from workbench.testing.memory_items import NOW, circle, contents, ids_of, make_episode, make_item, make_query
from workbench.testing.memory_version_contract import put
from workbench.testing.sync_memory import SyncMemory, SyncStore

_BEFORE, _AFTER = circle(60)[:40], circle(60)[20:]
_WRITTEN = [make_episode("taxi", position=n) for n in range(6)]
_PART = 4
_FREE, _HOLD = Budget(), Selector(subject="cust-1")
Told = Callable[[str, list[str]], None]


def live(memory: SyncMemory, told: Told) -> None:
    """An ingest part by part, some writing by use and a sweep; `told` hears what was acknowledged.

    What is there already is not sent again, so that doing it again is resuming it.
    """
    ids = set(memory.missing(ids_of(_AFTER)))
    missing = [item for item in _AFTER if item.id in ids]
    for start in range(0, len(missing), _PART):
        memory.stage(missing[start : start + _PART])
        told("staged", ids_of(missing[start : start + _PART]))
    memory.publish(ids_of(_AFTER), now=NOW)
    told("published", ids_of(_AFTER))
    for item in _WRITTEN:
        memory.remember([item], budget=_FREE, now=NOW)
        told("remembered", [item.id])
    memory.purge(now=NOW, keep_versions=1)
    told("swept", [])


def _add_when_all_are_ready(open_store: OpenStore, path: Path, barrier: Any) -> None:
    store = SyncStore(inner=open_store(path))
    barrier.wait(timeout=60)
    for start in range(0, 40, 10):
        store.tenant("acme").add(circle(40)[start : start + 10])
    store.close()


def _live_when_told(open_store: OpenStore, path: Path, ends: Connection) -> None:
    store = SyncStore(inner=open_store(path))
    store.tenant("acme").count()
    ends.send(("ready", []))
    ends.recv()
    live(store.tenant("acme"), lambda done, ids: ends.send((done, ids)))
    store.close()


def _resumed(memory: SyncMemory, told: list[tuple[str, list[str]]]) -> None:
    """What a killed writer left is whole and holds what was acknowledged; doing it again completes it."""
    documents = [item for item in memory.items() if item.kind == "document"]
    whole = [sorted(ids_of(_BEFORE)), sorted(ids_of(_AFTER))]
    assert ids_of(documents) in whole
    steps = {done for done, _ in told}
    assert "published" not in steps or ids_of(documents) == whole[1]
    acknowledged = [one for _, ids in told for one in ids]
    assert memory.missing(acknowledged) == []
    numbers = [version.number for version in memory.versions()]
    assert numbers in ([1], [1, 2], [2])
    if 1 in numbers:
        held = [item for item in memory.items(1) if item.kind == "document"]
        assert logical_digest("acme", held) == logical_digest("acme", _BEFORE)
    live(memory, lambda *_: None)
    assert [version.number for version in memory.versions()] == [2]
    assert contents(memory) == logical_digest("acme", [*_AFTER, *_WRITTEN])
    stats = memory.stats(now=NOW)
    assert (stats.staged, stats.stored) == (0, stats.items)


class DurableSentences(HistoryContract):
    """`open_store(path)` must be picklable and open the same memory again for the same path."""

    durable = True
    #: Writers killed at a moment drawn anew each time; each costs the start of a process.
    kills = 4

    def test_another_handle_sees_a_write_at_once(self, tmp_path: Path) -> None:
        one, two = (SyncStore(inner=self.open_store(tmp_path / "memory")) for _ in range(2))
        item = make_item("taxi")
        for _ in range(2):
            one.tenant("acme").add([item])
            assert len(two.tenant("acme").search(make_query("taxi"))) == 1
            two.tenant("acme").publish([])
            assert one.tenant("acme").search(make_query("taxi")) == []
        one.close()
        two.close()

    def test_a_reopened_store_holds_the_same(self, tmp_path: Path) -> None:
        store = SyncStore(inner=self.open_store(tmp_path / "memory"))
        acme = store.tenant("acme")
        put(acme, circle(10))
        put(acme, circle(8))
        acme.remember([make_episode("taxi")], budget=_FREE, now=NOW)
        acme.stage([make_item("staged", subject="cust-1")])
        acme.hold(_HOLD)
        before = (contents(acme), contents(acme, 1), acme.versions(), acme.stats(now=NOW))
        store.close()
        store.close()
        store = SyncStore(inner=self.open_store(tmp_path / "memory"))
        acme = store.tenant("acme")
        assert (contents(acme), contents(acme, 1), acme.versions(), acme.stats(now=NOW)) == before
        assert acme.forget(_HOLD).held == 1
        store.close()

    def test_two_processes_that_add_the_same_make_no_duplicates(self, tmp_path: Path) -> None:
        spawn = multiprocessing.get_context("spawn")
        arguments = (self.open_store, tmp_path / "memory", spawn.Barrier(2))
        writers = [spawn.Process(target=_add_when_all_are_ready, args=arguments) for _ in range(2)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join(60)
        assert [writer.exitcode for writer in writers] == [0, 0]
        store = SyncStore(inner=self.open_store(tmp_path / "memory"))
        acme = store.tenant("acme")
        assert acme.count() == acme.stats(now=NOW).stored == 40
        assert [version.items for version in acme.versions()] == [10, 20, 30, 40]
        store.close()

    def test_a_killed_writer_loses_no_acknowledged_write_and_resumes(self, tmp_path: Path) -> None:
        drawn = random.Random(6)  # noqa: S311  draws moments, guards nothing
        took = 0.0
        for n in range(self.kills + 1):
            path = tmp_path / f"{n}" / "memory"
            path.parent.mkdir()
            store = SyncStore(inner=self.open_store(path))
            put(store.tenant("acme"), _BEFORE)
            store.close()
            told, lasted = self._killed(path, after=drawn.uniform(0, took) if n else None)
            took = took or lasted  # the first one lives, so that it is known how long the work takes
            store = SyncStore(inner=self.open_store(path))
            _resumed(store.tenant("acme"), told)
            store.close()

    def _killed(self, path: Path, *, after: float | None) -> tuple[list[tuple[str, list[str]]], float]:
        """Kill a writer after so many seconds, or let it live: what it said is done, and how long it took."""
        spawn = multiprocessing.get_context("spawn")
        ours, theirs = spawn.Pipe()
        writer = spawn.Process(target=_live_when_told, args=(self.open_store, path, theirs))
        writer.start()
        theirs.close()
        try:
            ours.recv()
            began = time.monotonic()
            ours.send("go")
            if after is not None:
                time.sleep(after)
                os.kill(int(writer.pid or 0), signal.SIGKILL)
            return _all_of(ours), time.monotonic() - began
        finally:
            writer.join(60)
            writer.close()
            ours.close()


def _all_of(ends: Connection) -> list[tuple[str, list[str]]]:
    told: list[tuple[str, list[str]]] = []
    try:
        while not told or told[-1][0] != "swept":
            told.append(ends.recv())
    except (EOFError, ConnectionResetError):  # it was killed; the second when it had not yet begun
        pass
    return told
