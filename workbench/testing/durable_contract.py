"""What a memory store that outlives its process promises beside `MemoryContract`."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workbench.testing.memory_contract import MemoryContract
from workbench.testing.memory_items import Store, circle, contents, make_item, make_query


def _add_when_all_are_ready(open_store: Callable[[Path], Store], path: Path, barrier: Any) -> None:
    barrier.wait(timeout=60)
    store = open_store(path)
    for start in range(0, 40, 10):
        store.tenant("acme").add(circle(40)[start : start + 10])
    store.close()


class DurableContract(MemoryContract):
    """`open_store(path)` must be picklable and open the same memory again for the same path."""

    def test_another_handle_sees_a_write_at_once(self, tmp_path: Path) -> None:
        one, two = self.open_store(tmp_path / "memory"), self.open_store(tmp_path / "memory")
        item = make_item("taxi")
        for _ in range(2):
            one.tenant("acme").add([item])
            assert len(two.tenant("acme").search(make_query("taxi"))) == 1
            two.tenant("acme").forget([item.id])
            assert one.tenant("acme").search(make_query("taxi")) == []
        one.close()
        two.close()

    def test_a_reopened_store_holds_the_same(self, tmp_path: Path) -> None:
        store = self.open_store(tmp_path / "memory")
        store.tenant("acme").add(circle(10))
        before = contents(store.tenant("acme"))
        store.close()
        store = self.open_store(tmp_path / "memory")
        assert contents(store.tenant("acme")) == before
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
        store = self.open_store(tmp_path / "memory")
        assert store.tenant("acme").count() == 40
        store.close()
