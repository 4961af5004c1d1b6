"""Contract of durable stores: reopening, several processes and killed writers."""

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
    """Ingest in parts, write episodic items and purge; call `told` after each acknowledged step.

    Stored items are not sent again, so a second call resumes the first.
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
    told("purged", [])


def _add_when_all_are_ready(open_store: OpenStore, path: Path, barrier: Any) -> None:
    with SyncStore(inner=open_store(path)) as store:
        barrier.wait(timeout=60)
        for start in range(0, 40, 10):
            store.tenant("acme").add(circle(40)[start : start + 10])


def _live_when_told(open_store: OpenStore, path: Path, ends: Connection) -> None:
    with SyncStore(inner=open_store(path)) as store:
        store.tenant("acme").count()
        ends.send(("ready", []))
        ends.recv()
        live(store.tenant("acme"), lambda done, ids: ends.send((done, ids)))


def _resumed(memory: SyncMemory, told: list[tuple[str, list[str]]]) -> None:
    """Check that a killed writer left one complete version with every acknowledged item; then resume it."""
    documents = [item for item in memory.items() if item.kind == "document"]
    complete = [sorted(ids_of(_BEFORE)), sorted(ids_of(_AFTER))]
    assert ids_of(documents) in complete
    steps = {done for done, _ in told}
    assert "published" not in steps or ids_of(documents) == complete[1]
    acknowledged = [key for _, ids in told for key in ids]
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
    """The promises of a store on disk: `open_store(path)` is picklable and opens one memory for one path."""

    durable = True
    #: Writers killed at random moments; each costs the start of a process.
    kills = 4

    def at(self, path: Path) -> SyncStore:
        """Open the memory at `path`."""
        return SyncStore(inner=self.open_store(path))

    def test_another_handle_sees_a_write_at_once(self, tmp_path: Path) -> None:
        item = make_item("taxi")
        with self.at(tmp_path / "memory") as first, self.at(tmp_path / "memory") as second:
            for _ in range(2):
                first.tenant("acme").add([item])
                assert len(second.tenant("acme").search(make_query("taxi"))) == 1
                second.tenant("acme").publish([])
                assert first.tenant("acme").search(make_query("taxi")) == []

    def test_a_reopened_store_holds_the_same(self, tmp_path: Path) -> None:
        def state(acme: SyncMemory) -> tuple[Any, ...]:
            return contents(acme), contents(acme, 1), acme.versions(), acme.stats(now=NOW)

        with self.at(tmp_path / "memory") as store:
            acme = store.tenant("acme")
            put(acme, circle(10))
            put(acme, circle(8))
            acme.remember([make_episode("taxi")], budget=_FREE, now=NOW)
            acme.stage([make_item("staged", subject="cust-1")])
            acme.hold(_HOLD)
            before = state(acme)
            store.close()  # closing twice is fine
        with self.at(tmp_path / "memory") as store:
            acme = store.tenant("acme")
            assert state(acme) == before
            assert acme.forget(_HOLD).held == 1

    def test_two_processes_that_add_the_same_make_no_duplicates(self, tmp_path: Path) -> None:
        spawn = multiprocessing.get_context("spawn")
        arguments = (self.open_store, tmp_path / "memory", spawn.Barrier(2))
        writers = [spawn.Process(target=_add_when_all_are_ready, args=arguments) for _ in range(2)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join(60)
        assert [writer.exitcode for writer in writers] == [0, 0]
        with self.at(tmp_path / "memory") as store:
            acme = store.tenant("acme")
            assert acme.count() == acme.stats(now=NOW).stored == 40
            assert [version.items for version in acme.versions()] == [10, 20, 30, 40]

    def test_a_killed_writer_loses_no_acknowledged_write_and_resumes(self, tmp_path: Path) -> None:
        drawn = random.Random(6)  # noqa: S311  draws moments, guards nothing
        took = 0.0
        for n in range(self.kills + 1):
            path = tmp_path / f"{n}" / "memory"
            path.parent.mkdir()
            with self.at(path) as store:
                put(store.tenant("acme"), _BEFORE)
            told, lasted = self._killed(path, after=drawn.uniform(0, took) if n else None)
            took = took or lasted  # the first writer is not killed, to measure the duration
            with self.at(path) as store:
                _resumed(store.tenant("acme"), told)

    def _killed(self, path: Path, *, after: float | None) -> tuple[list[tuple[str, list[str]]], float]:
        """Kill a writer after `after` seconds unless None; return its acknowledged steps and its duration."""
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
        while not told or told[-1][0] != "purged":
            told.append(ends.recv())
    except (EOFError, ConnectionResetError):  # the writer was killed; ConnectionResetError: before it began
        pass
    return told
