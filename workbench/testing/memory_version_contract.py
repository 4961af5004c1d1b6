"""Contract of versions: staging, publishing, earlier versions and snapshots."""

from __future__ import annotations

import dataclasses
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from workbench import _sync
from workbench.errors import CorruptError, WorkbenchError
from workbench.memory.parquet import logical_digest
from workbench.memory.snapshot import open_snapshot, write_snapshot
from workbench.ports import Added, Budget, Selector
from workbench.testing.fake_memory import FakeStore
from workbench.testing.memory_items import (
    NOW,
    circle,
    contents,
    episode_lists,
    groups,
    ids_of,
    item_lists,
    make_item,
    make_query,
    texts,
)
from workbench.testing.store_contract import StoreContract, sentence
from workbench.testing.sync_memory import SyncMemory, SyncStore
from workbench.types import Item

EVERYBODY = ("everyone", "finance", "people")


def everything(text: str, **changes: Any) -> Any:
    """Return a query that sees every item valid on 15 June 2125."""
    return make_query(text, **{"groups": EVERYBODY, "clearance": 9, "k": 100, **changes})


def put(memory: SyncMemory, items: list[Item], now: str = NOW) -> Added:
    """Make `items` all of a tenant's knowledge, as an ingest does."""
    missing = set(memory.missing(ids_of(items)))
    memory.stage([item for item in items if item.id in missing])
    return memory.publish(ids_of(items), now=now)


class VersionContract(StoreContract):
    """Staging, publishing, earlier versions and snapshots."""

    def found(self, memory: SyncMemory, text: str, version: int | None = None) -> tuple[Any, Any]:
        """Return the hits by vector, and those of both rankings; sorted ids unless `steady_words`."""
        near = memory.search(everything(text, version=version, mode="vector"))
        fused = memory.search(everything(text, version=version))
        return near, fused if self.steady_words else sorted(ids_of(fused))

    @sentence(old=item_lists(), new=item_lists(), asked=texts)
    def test_a_staged_item_is_invisible_until_published(
        self, acme: SyncMemory, old: list[Item], new: list[Item], asked: str
    ) -> None:
        put(acme, old)
        before = (contents(acme), acme.count(), acme.versions(), self.found(acme, asked))
        fresh = {item.id for item in new} - {item.id for item in old}
        assert set(acme.missing(ids_of(new))) == fresh
        assert acme.stage(new) == len(fresh)
        assert acme.stage(new) == 0
        assert acme.missing(ids_of([*old, *new])) == []
        assert acme.count(list(fresh)) == 0
        after = (contents(acme), acme.count(), acme.versions(), self.found(acme, asked))
        assert after == before

    @sentence(old=item_lists(), new=item_lists())
    def test_a_version_holds_exactly_the_published_items(
        self, acme: SyncMemory, old: list[Item], new: list[Item]
    ) -> None:
        before, wanted = set(ids_of(old)), set(ids_of(new))
        put(acme, old)
        done = put(acme, new)
        assert (done.added, done.unchanged, done.replaced) == (
            len(wanted - before),
            len(wanted & before),
            len(before - wanted),
        )
        assert done.version == bool(before) + (wanted != before)
        assert ids_of(acme.items()) == sorted(wanted)
        if before and done.version > 1:
            assert ids_of(acme.items(1)) == sorted(before)

    @sentence(items=item_lists(), order=st.randoms(use_true_random=False))
    def test_the_same_ids_again_change_nothing(self, acme: SyncMemory, items: list[Item], order: Any) -> None:
        put(acme, items)
        before = (contents(acme), acme.versions())
        acme.stage([make_item("left over", source="dead")])
        ids = ids_of(items)
        order.shuffle(ids)
        done = acme.publish(ids, now="2125-07-01T00:00:00Z")
        assert (done.added, done.unchanged, done.replaced) == (0, len(items), 0)
        assert (contents(acme), acme.versions()) == before

    @sentence(left=item_lists(), wanted=item_lists())
    def test_items_staged_by_a_killed_writer_are_not_published(
        self, acme: SyncMemory, left: list[Item], wanted: list[Item]
    ) -> None:
        ids = ids_of(wanted)
        dead = [key for key in ids_of(left) if key not in ids]
        acme.stage(left)
        acme.stage(wanted)
        assert acme.publish(ids, now=NOW).version == bool(ids)
        assert ids_of(acme.items()) == sorted(ids)
        assert acme.missing([*dead, *ids]) == dead
        assert acme.publish([], now=NOW).version == 2 * bool(ids)
        assert acme.items() == []

    @sentence(active=item_lists(), staged=item_lists(), unknown=item_lists())
    def test_publishing_an_unknown_id_is_refused(
        self, acme: SyncMemory, active: list[Item], staged: list[Item], unknown: list[Item]
    ) -> None:
        known = {*ids_of(active), *ids_of(staged)}
        unknown = [item for item in unknown if item.id not in known] or [make_item("never given")]
        put(acme, active)
        acme.stage(staged)
        before = (contents(acme), acme.versions())
        with pytest.raises(WorkbenchError) as caught:
            acme.publish([*known, unknown[0].id], now=NOW)
        assert caught.value.hint
        assert (contents(acme), acme.versions()) == before
        acme.stage(unknown[:1])
        acme.publish([*known, unknown[0].id], now=NOW)
        assert acme.count() == len(known) + 1

    def test_an_item_published_again_is_found_in_its_versions_only(self, acme: SyncMemory) -> None:
        item, other = make_item("taxi"), make_item("hotel", source="other")
        for wanted in ([item], [other], [item, other], [], [item]):
            put(acme, wanted)
        held = [len(acme.search(everything("taxi", sources=("page",), version=n))) for n in range(1, 6)]
        assert held == [1, 0, 1, 0, 1]
        assert [ids_of(acme.items(n)) == [item.id] for n in range(1, 6)] == [True, False, False, False, True]
        assert acme.forget(Selector(ids=(item.id,))).items == 1
        assert all(item.id not in ids_of(acme.items(version)) for version in range(1, 6))

    @sentence(versions=st.lists(item_lists(most=5), min_size=1, max_size=4), asked=texts)
    def test_a_search_of_an_earlier_version_is_unchanged(
        self, acme: SyncMemory, versions: list[list[Item]], asked: str
    ) -> None:
        answers: dict[int, Any] = {}
        for items in versions:
            number = put(acme, items).version
            answers[number] = (contents(acme), self.found(acme, asked))
        numbers = [each.number for each in acme.versions()]
        assert numbers == [number for number in answers if number]
        for number in numbers:
            assert (contents(acme, number), self.found(acme, asked, number)) == answers[number]
            hits = acme.search(everything(asked, version=number, exact=True))
            assert {hit.memory_version for hit in hits} <= {number}

    def test_versions_state_time_size_and_content(self, acme: SyncMemory) -> None:
        items = circle(3)
        for wanted, now in ((items, "2125-06-01"), (items[:2], "2125-06-02"), (items, "2125-06-03")):
            put(acme, wanted, f"{now}T00:00:00Z")
        first, second, third = acme.versions()
        assert [each.number for each in (first, second, third)] == [1, 2, 3]
        assert [each.items for each in (first, second, third)] == [3, 2, 3]
        assert [each.at[:10] for each in (first, second, third)] == ["2125-06-01", "2125-06-02", "2125-06-03"]
        assert first.content == third.content != second.content

    def test_a_version_that_is_not_kept_is_refused(self, acme: SyncMemory) -> None:
        for n in range(4):
            put(acme, [make_item(f"taxi {n}")])
        acme.purge(now=NOW, keep_versions=2)
        assert [each.number for each in acme.versions()] == [3, 4]
        for version in (-1, 1, 2, 5):
            with pytest.raises(WorkbenchError) as caught:
                acme.search(everything("taxi", version=version))
            assert caught.value.hint
            with pytest.raises(WorkbenchError):
                acme.items(version)
        assert len(acme.search(everything("taxi", version=3))) == 1

    def test_adding_keeps_other_sources_in_one_new_version(self, acme: SyncMemory) -> None:
        first, second = make_item("taxi", source="one"), make_item("hotel", source="two")
        newer = make_item("taxi fare", source="one")
        acme.add([first, second], now=NOW)
        done = acme.add([newer], now=NOW)
        assert (done.added, done.replaced, done.version) == (1, 1, 2)
        assert set(ids_of(acme.items())) == {newer.id, second.id}
        assert set(ids_of(acme.items(1))) == {first.id, second.id}

    @sentence(documents=item_lists(), written=episode_lists(), later=item_lists())
    def test_episodic_items_are_in_every_version(
        self, acme: SyncMemory, documents: list[Item], written: list[Item], later: list[Item]
    ) -> None:
        put(acme, documents)
        acme.remember(written, budget=Budget(), now=NOW)
        put(acme, later)
        for version in [None, *(each.number for each in acme.versions())]:
            assert set(ids_of(written)) <= set(ids_of(acme.items(version)))
            hits = acme.search(everything("taxi", version=version))
            assert all(hit.memory_version == 0 for hit in hits if hit.kind != "document")

    def test_a_reader_sees_one_version_during_a_publish(self, acme: SyncMemory) -> None:
        first, second = circle(24)[:16], circle(24)[8:]
        put(acme, first)
        complete = [sorted(ids_of(first)), sorted(ids_of(second))]

        def read(_: int) -> bool:
            hits = acme.search(everything("w9", mode="vector"))
            same = len({hit.memory_version for hit in hits}) == 1
            return same and sorted(ids_of(hits)) in complete and ids_of(acme.items()) in complete

        with ThreadPoolExecutor(3) as pool:
            seen = pool.map(read, range(30))
            for wanted in (second, first) * 3:
                put(acme, wanted)
            assert all(seen)
        assert len(acme.versions()) == 7

    @sentence(old=item_lists(), new=item_lists(), written=episode_lists(), staged=item_lists())
    def test_stats_add_up(
        self, acme: SyncMemory, old: list[Item], new: list[Item], written: list[Item], **more: Any
    ) -> None:
        put(acme, old)
        version = put(acme, new).version
        acme.remember(written, budget=Budget(), now=NOW)
        count = acme.stage(more["staged"])
        acme.hold(Selector(source="talk"))
        stats = acme.stats(now=NOW)
        assert (stats.tenant, stats.version, stats.items) == ("acme", version, acme.count())
        kinds = Counter(item.kind for item in (*new, *written))
        assert {kind: number for kind, number in stats.by_kind.items() if number} == kinds
        assert (stats.items, stats.held) == (len(new) + len(written), len(written))
        past = {item.id for item in old} - {item.id for item in new}
        assert (stats.stored, stats.staged) == (stats.items + len(past), count)
        assert stats.store

    # Snapshots ---------------------------------------------------------------------------------

    @sentence(items=item_lists(), written=episode_lists(), asked=texts, groups=groups)
    def test_a_snapshot_opened_and_written_again_is_the_same(
        self, acme: SyncMemory, items: list[Item], written: list[Item], asked: str, groups: list[str]
    ) -> None:
        query = make_query(asked, groups=groups, exact=True, mode="vector", k=20)
        put(acme, items)
        acme.remember(written, budget=Budget(), now=NOW)
        with tempfile.TemporaryDirectory() as folder:
            a, b = Path(folder) / "a", Path(folder) / "b"
            first = _sync.run(write_snapshot([acme.inner], a, memory="contract", spec_digest="s"))
            snapshot = open_snapshot(a, expected_digest=first.logical_digest)
            pinned = SyncMemory(inner=snapshot.tenant("acme"))
            again = _sync.run(write_snapshot([pinned.inner], b, memory="contract", spec_digest="s"))
            assert again == first
            for file in a.iterdir():
                assert file.read_bytes() == (b / file.name).read_bytes()
            assert pinned.search(query) == acme.search(query)
            # Word weights differ between stores; the set of hits does not.
            hybrid = dataclasses.replace(query, mode="hybrid", k=50)
            assert {h.id for h in pinned.search(hybrid)} == {h.id for h in acme.search(hybrid)}
            snapshot.close()

    @sentence(items=item_lists(), written=episode_lists(), asked=texts)
    def test_a_restore_into_another_store_keeps_digest_and_hits(
        self, acme: SyncMemory, items: list[Item], written: list[Item], asked: str
    ) -> None:
        query = everything(asked, exact=True, mode="vector")
        truth = SyncStore(inner=FakeStore(name="contract")).tenant("acme")
        put(truth, items)
        truth.remember(written, budget=Budget(), now=NOW)
        put(acme, [item for item in truth.items() if item.kind == "document"])
        acme.remember([item for item in truth.items() if item.kind != "document"], budget=Budget(), now=NOW)
        assert contents(acme) == contents(truth)
        assert acme.search(query) == truth.search(query)

    def test_an_earlier_version_can_be_written_as_a_snapshot(self, acme: SyncMemory) -> None:
        put(acme, circle(4))
        put(acme, circle(3))
        with tempfile.TemporaryDirectory() as folder:
            manifest = _sync.run(
                write_snapshot([acme.inner], Path(folder) / "a", memory="m", spec_digest="s", version=1)
            )
        assert manifest.tenants["acme"].logical_digest == logical_digest("acme", circle(4))

    @sentence(data=st.data())
    def test_one_flipped_byte_of_a_snapshot_is_refused(self, acme: SyncMemory, data: Any) -> None:
        acme.add([make_item("taxi"), make_item("hotel", source="two")])
        with tempfile.TemporaryDirectory() as folder:
            _sync.run(write_snapshot([acme.inner], Path(folder) / "a", memory="m", spec_digest="s"))
            file = Path(folder) / "a" / "acme.parquet"
            raw = bytearray(file.read_bytes())
            raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
            file.write_bytes(raw)
            with pytest.raises(CorruptError, match=r"acme\.parquet") as caught:
                open_snapshot(Path(folder) / "a")
            assert "dvc repro" in caught.value.hint
