"""Contract of retention: episodic items, budgets, forgetting, holds and purges."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import assume
from hypothesis import strategies as st

from workbench.errors import ConfigError, NotFoundError, RefusedError
from workbench.ports import Budget, Forgotten, Purged, Remembered, Selector
from workbench.testing.memory_items import (
    NOW,
    circle,
    contents,
    episode_lists,
    ids_of,
    item_lists,
    make_episode,
    make_item,
    make_query,
)
from workbench.testing.memory_version_contract import everything, put
from workbench.testing.store_contract import StoreContract, sentence
from workbench.testing.sync_memory import SyncMemory
from workbench.types import Item

FREE = Budget()
PAST = "2125-01-01T00:00:00Z"


class RetentionContract(StoreContract):
    """Remember, forget, hold and purge."""

    # Remembering -------------------------------------------------------------------------------

    @sentence(written=episode_lists(), parents=st.lists(st.just("unknown"), max_size=1))
    def test_a_remembered_item_is_found_at_once_with_its_trust(
        self, acme: SyncMemory, written: list[Item], parents: list[str]
    ) -> None:
        items = [dataclasses.replace(item, parents=tuple(parents)) for item in written]
        done = acme.remember(items, budget=FREE, now=NOW)
        assert done == Remembered(added=len(items), unchanged=0)
        hits = acme.search(everything("taxi", now=PAST))
        assert {(hit.id, hit.kind, hit.trust, hit.memory_version) for hit in hits} == {
            (item.id, item.kind, item.trust, 0) for item in items
        }
        assert acme.items() == sorted(items, key=lambda item: item.id)
        assert acme.versions() == []

    @sentence(written=episode_lists(), order=st.randoms(use_true_random=False))
    def test_remembering_again_changes_nothing(
        self, acme: SyncMemory, written: list[Item], order: Any
    ) -> None:
        acme.remember(written, budget=FREE, now=NOW)
        before = contents(acme)
        order.shuffle(written)
        again = acme.remember(written, budget=FREE, now=NOW)
        assert again == Remembered(added=0, unchanged=len(written))
        assert contents(acme) == before

    def test_documents_are_not_remembered_and_episodes_not_added(self, acme: SyncMemory) -> None:
        with pytest.raises(ConfigError) as caught:
            acme.remember([make_item("taxi")], budget=FREE, now=NOW)
        assert caught.value.hint
        for write in (acme.add, acme.stage):
            with pytest.raises(ConfigError):
                write([make_episode("taxi")])
        assert acme.count() == 0

    @sentence(
        written=episode_lists(most=10),
        more=episode_lists(most=10),
        most=st.integers(0, 8),
        size=st.integers(0, 30),
    )
    def test_a_budget_is_never_exceeded(
        self, acme: SyncMemory, written: list[Item], more: list[Item], most: int, size: int
    ) -> None:
        budget = Budget(items=most, tokens=size)
        acme.add([make_item("a document counts against no budget")])
        for batch in (written, more):
            done = acme.remember(batch, budget=budget, now=NOW)
            left = [item for item in acme.items() if item.kind != "document"]
            assert len(left) <= most
            assert sum(Budget.tokens_of(item.text) for item in left) <= size
            assert set(done.evicted).isdisjoint(ids_of(left))
            assert done.added + done.unchanged == len(batch)
        assert acme.count() == len(left) + 1

    @sentence(written=episode_lists(most=10), most=st.integers(0, 10))
    def test_eviction_takes_the_least_trusted_then_the_oldest(
        self, acme: SyncMemory, written: list[Item], most: int
    ) -> None:
        def worth(item: Item) -> tuple[Any, ...]:
            expired = item.expires is not None and item.expires <= NOW
            return (not expired, item.trust, item.created, item.id)

        best = sorted(written, key=worth, reverse=True)[:most]
        done = acme.remember(written, budget=Budget(items=most), now=NOW)
        assert ids_of(acme.items()) == sorted(ids_of(best))
        assert sorted([*done.evicted, *ids_of(best)]) == sorted(ids_of(written))

    @sentence(written=episode_lists(), more=st.integers(0, 2))
    def test_nothing_is_evicted_while_the_budget_holds(
        self, acme: SyncMemory, written: list[Item], more: int
    ) -> None:
        size = sum(Budget.tokens_of(item.text) for item in written)
        enough = Budget(items=len(written) + more, tokens=size + more)
        done = acme.remember(written, budget=enough, now=NOW)
        assert (done.added, done.evicted, acme.count()) == (len(written), (), len(written))

    @sentence(written=episode_lists(), more=episode_lists(), most=st.integers(0, 8), data=st.data())
    def test_a_held_item_is_never_evicted(
        self, acme: SyncMemory, written: list[Item], more: list[Item], most: int, data: Any
    ) -> None:
        held = data.draw(st.sets(st.sampled_from(ids_of(written)))) if written else set()
        acme.remember(written, budget=FREE, now=NOW)
        assert acme.hold(Selector(ids=tuple(held))) == len(held)
        before = contents(acme)
        if len(held) > most:
            with pytest.raises(RefusedError) as caught:
                acme.remember(more, budget=Budget(items=most), now=NOW)
            assert caught.value.hint
            assert contents(acme) == before
        else:
            acme.remember(more, budget=Budget(items=most), now=NOW)
            assert acme.count() <= most
            assert held <= set(ids_of(acme.items()))

    def test_concurrent_writers_stay_within_the_budget(self, acme: SyncMemory) -> None:
        def write(n: int) -> None:
            acme.remember([make_episode("taxi", position=n, trust=n % 4)], budget=Budget(items=3), now=NOW)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(write, range(16)))
        assert sorted(item.trust for item in acme.items()) == [3, 3, 3]

    def test_a_derived_item_is_written_only_while_its_parents_are_active(self, acme: SyncMemory) -> None:
        page, next_, talk = make_item("taxi"), make_item("rope", source="next"), make_episode("talk")
        made = make_episode("of both", kind="summary", parents=(page.id, talk.id))
        put(acme, [page])
        acme.stage([next_])
        acme.remember([talk], budget=FREE, now=NOW, while_there=[page.id])

        def refused(*parents: str) -> bool:
            before = contents(acme)
            with pytest.raises(NotFoundError) as caught:
                acme.remember([made], budget=Budget(items=0), now=NOW, while_there=parents)
            return bool(caught.value.hint) and contents(acme) == before

        for parents in (("unknown",), (page.id, next_.id), (made.id,)):
            assert refused(*parents)
        assert acme.remember([made], budget=FREE, now=NOW, while_there=made.parents).added == 1
        assert acme.forget(Selector(ids=(talk.id,))).derived == 1
        assert refused(page.id, talk.id)
        put(acme, [])
        assert refused(page.id), "an item of an earlier version is no parent"

    def test_no_child_survives_a_concurrent_forget_of_its_parent(self, acme: SyncMemory) -> None:
        def write(child: Item) -> None:
            with contextlib.suppress(NotFoundError):
                acme.remember([child], budget=FREE, now=NOW, while_there=child.parents)

        with ThreadPoolExecutor(4) as pool:
            for n in range(5):
                parent = make_episode("talk", position=n)
                acme.remember([parent], budget=FREE, now=NOW)
                given = [make_episode("of it", position=100 * n + m, parents=(parent.id,)) for m in range(3)]
                written = [pool.submit(write, child) for child in given]
                acme.forget(Selector(ids=(parent.id,)))
                for writing in written:
                    writing.result()
        assert acme.count() == 0

    # Forgetting --------------------------------------------------------------------------------

    @sentence(items=item_lists(), written=episode_lists(), data=st.data())
    def test_a_forgotten_item_is_never_found(
        self, acme: SyncMemory, items: list[Item], written: list[Item], data: Any
    ) -> None:
        assume(items or written)
        everyone = [*items, *written]
        removed = data.draw(st.sets(st.sampled_from(ids_of(everyone))))
        put(acme, items)
        acme.remember(written, budget=FREE, now=NOW)
        put(acme, items[:1])  # the other items stay in an earlier version
        done = acme.forget(Selector(ids=(*removed, "unknown")))
        assert done == Forgotten(items=len(removed), ids=tuple(sorted(removed)))
        assert acme.forget(Selector(ids=tuple(removed))).items == 0
        assert acme.count(list(removed)) == 0
        for version in [None, *(kept.number for kept in acme.versions())]:
            assert removed.isdisjoint(ids_of(acme.items(version)))
            for text in ("taxi", *(item.text for item in everyone[:2])):
                assert removed.isdisjoint(ids_of(acme.search(everything(text, version=version))))
        put(acme, items)
        assert acme.count(ids_of(items)) == len(items)

    @sentence(items=item_lists(), written=episode_lists(), data=st.data())
    def test_forget_removes_exactly_the_selected_items(
        self, acme: SyncMemory, items: list[Item], written: list[Item], data: Any
    ) -> None:
        stored = {item.id: item for item in (*items, *written)}
        chosen: dict[Selector, Any] = {
            Selector(subject="cust-1"): lambda item: item.subject == "cust-1",
            Selector(source="two"): lambda item: item.source == "two",
            Selector(source="talk"): lambda item: item.source == "talk",
            Selector(expired=True): lambda item: item.expires is not None and item.expires <= NOW,
            Selector(ids=()): lambda _: False,
        }
        what = data.draw(st.sampled_from(list(chosen)))
        ids = {key for key, item in stored.items() if chosen[what](item)}
        acme.add(items)
        acme.remember(written, budget=FREE, now=NOW)
        before = contents(acme)
        dry = acme.forget(what, now=NOW, dry_run=True)
        assert contents(acme) == before
        assert acme.forget(what, now=NOW) == dry == Forgotten(items=len(ids), ids=tuple(sorted(ids)))
        assert ids_of(acme.items()) == sorted(stored.keys() - ids)

    def test_a_selector_has_exactly_one_criterion(self, acme: SyncMemory) -> None:
        acme.add([make_item("taxi", subject="")])
        for what in (
            Selector(),
            Selector(subject=""),
            Selector(source=""),
            Selector(ids=("a",), source="page"),
            Selector(subject="cust-1", expired=True),
        ):
            for verb in (acme.forget, acme.hold, acme.release):
                with pytest.raises(ConfigError) as caught:
                    verb(what)
                assert caught.value.hint
        with pytest.raises(ConfigError):
            acme.forget(Selector(expired=True), now="yesterday")
        with pytest.raises(ConfigError):
            acme.hold(Selector(expired=True))
        assert acme.count() == 1

    @sentence(old=item_lists(), new=item_lists(), staged=item_lists())
    def test_staged_items_and_earlier_versions_are_forgotten_too(
        self, acme: SyncMemory, old: list[Item], new: list[Item], staged: list[Item]
    ) -> None:
        put(acme, old)
        put(acme, new)
        acme.stage(staged)
        versioned = {item.id for number in (1, 2)[: len(acme.versions())] for item in acme.items(number)}
        removed = acme.forget(Selector(subject="cust-1")).ids
        assert set(removed) >= {item.id for item in staged if item.subject == "cust-1"} - versioned
        for version in (None, *(kept.number for kept in acme.versions())):
            left = acme.items(version)
            assert all(item.subject != "cust-1" for item in left)
        assert acme.missing(removed) == list(removed)
        assert acme.forget(Selector(subject="cust-1")).items == 0

    @sentence(
        edges=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=15), root=st.integers(0, 9)
    )
    def test_derived_items_are_forgotten_with_their_parents(
        self, acme: SyncMemory, edges: list[tuple[int, int]], root: int
    ) -> None:
        names = [f"item-{n}" for n in range(10)]
        parents = {n: tuple({names[a] for a, b in edges if b == n}) for n in range(10)}
        written = [
            make_episode(f"taxi {n}", id=names[n], kind="summary", parents=parents[n]) for n in range(10)
        ]
        reached = {root}
        while more := {b for a, b in edges if a in reached} - reached:
            reached |= more
        acme.remember(written, budget=FREE, now=NOW)
        done = acme.forget(Selector(ids=(names[root],)))
        assert done.ids == tuple(sorted(names[n] for n in reached))
        assert (done.items, done.derived, done.held) == (len(reached), len(reached) - 1, 0)
        assert acme.count() == 10 - len(reached)

    # Holds -------------------------------------------------------------------------------------

    @pytest.mark.parametrize("by", ["ids", "subject", "source"])
    def test_a_hold_blocks_forget_purge_and_eviction(self, acme: SyncMemory, by: str) -> None:
        held = make_episode("taxi", subject="cust-1", source="held", expires=PAST)
        what = {
            "ids": Selector(ids=("other", held.id)),
            "subject": Selector(subject="cust-1"),
            "source": Selector(source="held"),
        }[by]
        acme.remember([held], budget=FREE, now=PAST)
        assert acme.hold(what) == acme.hold(what) == 1
        for selector in (Selector(ids=(held.id,)), Selector(subject="cust-1"), Selector(expired=True)):
            assert acme.forget(selector, now=NOW) == Forgotten(items=0, kept=(held.id,))
        assert acme.purge(now=NOW, keep_versions=1) == Purged(expired=0, outdated=0, held=1)
        acme.remember([make_episode("rope", trust=3)], budget=Budget(items=1), now=NOW)
        assert ids_of(acme.items()) == [held.id]
        assert acme.search(make_query("taxi", now=NOW)) == []  # stored, but expired for every search
        assert (acme.release(what), acme.stats(now=NOW).held) == (1, 0)
        assert acme.forget(Selector(ids=(held.id,))).items == 1

    def test_a_hold_covers_later_items(self, acme: SyncMemory) -> None:
        document = make_item("taxi", subject="cust-1", expires=PAST)
        written = make_episode("hotel", id="known-before", expires=PAST)
        assert acme.hold(Selector(subject="cust-1")) == acme.hold(Selector(ids=("known-before",))) == 0
        acme.add([document])
        acme.remember([written], budget=FREE, now=NOW)
        assert acme.purge(now=NOW, keep_versions=1) == Purged(expired=0, outdated=0, held=2)
        assert acme.forget(Selector(expired=True), now=NOW).held == 2
        assert acme.stats(now=NOW).held == acme.count() == 2

    def test_an_item_under_two_holds_is_held_until_both_end(self, acme: SyncMemory) -> None:
        item = make_episode("taxi", subject="cust-1")
        acme.remember([item], budget=FREE, now=NOW)
        for what in (Selector(subject="cust-1"), Selector(source="talk"), Selector(source="talk")):
            acme.hold(what)
        assert acme.release(Selector(source="talk")) == 1 == acme.forget(Selector(ids=(item.id,))).held
        assert acme.release(Selector(subject="cust-1")) == 1
        assert acme.forget(Selector(ids=(item.id,))).items == 1

    def test_a_held_child_and_its_children_survive_their_parent(self, acme: SyncMemory) -> None:
        parent, child, grandchild = (
            make_episode(f"taxi {name}", id=name, parents=parents)
            for name, parents in (("p", ()), ("c", ("p",)), ("g", ("c",)))
        )
        acme.remember([parent, child, grandchild], budget=FREE, now=NOW)
        acme.hold(Selector(ids=("c",)))
        assert acme.forget(Selector(ids=("p",))) == Forgotten(items=1, ids=("p",), kept=("c",))
        assert ids_of(acme.items()) == ["c", "g"]

    def test_a_held_item_of_an_old_version_is_purged_after_the_release(self, acme: SyncMemory) -> None:
        old = make_item("taxi", subject="cust-1")
        put(acme, [old])
        acme.hold(Selector(subject="cust-1"))
        put(acme, [make_item("hotel")])
        assert acme.purge(now=NOW, keep_versions=1) == Purged(expired=0, outdated=0, held=1)
        assert [each.number for each in acme.versions()] == [2]
        assert acme.stats(now=NOW).held == 1
        acme.release(Selector(subject="cust-1"))
        assert acme.purge(now=NOW, keep_versions=3) == Purged(expired=0, outdated=1)
        assert acme.forget(Selector(subject="cust-1")).items == 0

    def test_a_held_item_of_an_old_version_stays_when_staged_again(self, acme: SyncMemory) -> None:
        old = make_item("taxi", source="held")
        for wanted in ([old], []):
            put(acme, wanted)
        acme.hold(Selector(source="held"))
        acme.stage([old])
        acme.purge(now=NOW, keep_versions=1)
        acme.publish([], now=NOW)  # removes the staged items
        assert (acme.stats(now=NOW).stored, acme.stats(now=NOW).staged) == (1, 0)
        assert acme.forget(Selector(source="held")) == Forgotten(items=0, kept=(old.id,))

    # Sweeping ----------------------------------------------------------------------------------

    @sentence(items=item_lists(), written=episode_lists(), keep=st.integers(1, 3))
    def test_purge_removes_expired_items_only(
        self, acme: SyncMemory, items: list[Item], written: list[Item], keep: int
    ) -> None:
        expired = {item.id for item in (*items, *written) if item.expires and item.expires <= NOW}
        put(acme, items)
        acme.remember(written, budget=FREE, now=NOW)
        seen = acme.search(everything("taxi", now=NOW, mode="vector"))
        assert acme.stats(now=NOW).expired == len(expired)
        assert acme.purge(now=NOW, keep_versions=keep) == Purged(expired=len(expired), outdated=0)
        assert set(ids_of(acme.items())) == {item.id for item in (*items, *written)} - expired
        assert acme.search(everything("taxi", now=NOW, mode="vector")) == seen
        before = (contents(acme), acme.versions())
        assert acme.purge(now=NOW, keep_versions=keep) == Purged(expired=0, outdated=0)
        assert (contents(acme), acme.versions()) == before

    @pytest.mark.parametrize("keep", [1, 2, 4, 9])
    def test_purge_removes_items_of_older_versions(self, acme: SyncMemory, keep: int) -> None:
        pages = circle(6)
        for first, last in itertools.pairwise(range(7)):
            put(acme, pages[max(0, first - 1) : last])  # each page is in two versions
        kept = {item.id for version in range(max(1, 7 - keep), 7) for item in acme.items(version)}
        answers = [acme.items(version) for version in range(max(1, 7 - keep), 7)]
        assert acme.purge(now=NOW, keep_versions=keep).outdated == 6 - len(kept)
        assert [each.number for each in acme.versions()] == list(range(max(1, 7 - keep), 7))
        assert [acme.items(each.number) for each in acme.versions()] == answers
        assert acme.purge(now=NOW, keep_versions=keep) == Purged(expired=0, outdated=0)
        assert acme.stats(now=NOW).stored == len(kept)
