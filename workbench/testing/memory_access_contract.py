"""Who sees what: tenants, access lists, clearance, validity, expiry, and hostile names."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest
from hypothesis import strategies as st

from workbench.errors import ConfigError
from workbench.memory import rules
from workbench.ports import Asker, Budget, Selector
from workbench.testing.memory_isolation import attempt_all
from workbench.testing.memory_items import (
    AXIS,
    DAY,
    HOSTILE_NAMES,
    NOW,
    circle,
    contents,
    episode_lists,
    groups,
    ids_of,
    instants,
    item_lists,
    levels,
    make_episode,
    make_item,
    make_query,
    texts,
)
from workbench.testing.store_contract import StoreContract, sentence
from workbench.testing.sync_memory import SyncMemory, SyncStore
from workbench.types import Item


class AccessContract(StoreContract):
    """Seeing."""

    # Tenants -----------------------------------------------------------------------------------

    def test_a_tenant_that_cannot_name_a_file_is_refused(self, store: SyncStore) -> None:
        for name in ("", "../acme", "Acme", "a/b", "acme\n", "acme.", "a" * 64):
            with pytest.raises(ConfigError, match="cannot name a tenant"):
                store.tenant(name)

    def test_a_view_stays_with_its_tenant(self, acme: SyncMemory) -> None:
        with pytest.raises(AttributeError):
            acme.inner.tenant = "globex"  # type: ignore[misc]

    def test_the_tenants_that_have_items_are_listed(self, store: SyncStore) -> None:
        assert store.tenants() == []
        for name in ("globex", "acme", "a" * 63):
            store.tenant(name).add([make_item(f"taxi of {name}")])
        store.tenant("initech").search(make_query("taxi"))
        assert store.tenants() == ["a" * 63, "acme", "globex"]
        store.tenant("globex").forget(Selector(source="page"))
        assert store.tenants() == ["a" * 63, "acme"]

    @sentence(own=item_lists(), other=item_lists(), asked=texts, groups=groups)
    def test_a_tenant_never_sees_another(
        self, own: list[Item], other: list[Item], asked: str, groups: list[str]
    ) -> None:
        query = make_query(asked, groups=groups, k=20, clearance=3)
        with self.opened() as store:
            acme, globex = store.tenant("acme"), store.tenant("globex")
            acme.add(own)
            alone = (acme.search(query), contents(acme))
            globex.add(other)
            assert (acme.search(query), contents(acme)) == alone  # not even a score moves
            before = contents(globex)
            acme.forget(Selector(ids=tuple(ids_of(other))))
            assert contents(globex) == before
            assert all(hit.tenant == "globex" for hit in globex.search(query))

    def test_a_verb_of_one_tenant_changes_no_other(self, store: SyncStore) -> None:
        acme, globex = store.tenant("acme"), store.tenant("globex")
        items = [make_item("taxi", subject="cust-1", expires="2125-01-01T00:00:00Z")]
        for each in (acme, globex):
            each.add(items)
            each.remember([make_episode("hotel", subject="cust-1")], budget=Budget(), now=NOW)
        before = (contents(acme), acme.versions(), acme.stats(now=NOW))
        globex.hold(Selector(subject="cust-1"))
        assert acme.stats(now=NOW) == before[2]
        globex.release(Selector(subject="cust-1"))
        globex.remember([make_episode("rope", source="more")], budget=Budget(items=1), now=NOW)
        globex.stage([make_item("badge")])
        globex.publish([])
        globex.sweep(now=NOW, keep_versions=1)
        for what in (Selector(subject="cust-1"), Selector(source="page"), Selector(expired=True)):
            globex.forget(what, now=NOW)
        assert (contents(acme), acme.versions(), acme.stats(now=NOW)) == before

    # Access lists ------------------------------------------------------------------------------

    @sentence(items=item_lists(), groups=groups, asked=texts, clearance=levels, now=instants)
    def test_an_item_is_seen_when_a_group_is_on_its_list_and_it_is_valid(
        self, items: list[Item], groups: list[str], asked: str, clearance: int, now: str | None
    ) -> None:
        moment = now or "2125-06-15T00:00:00Z"
        expected = {
            item.id
            for item in items
            if any(group in item.access for group in groups)
            and item.classification <= clearance
            and (item.valid_from or "0000") <= DAY < (item.valid_to or "9999")
            and moment < (item.expires or "9999")
        }
        with self.opened() as store:
            acme = store.tenant("acme")
            acme.add(items)
            for exact in (False, True):
                query = make_query(asked, groups=groups, k=50, clearance=clearance, now=now, exact=exact)
                assert {hit.id for hit in acme.search(query)} == expected

    def test_no_group_and_an_empty_list_mean_nothing_never_everything(self, acme: SyncMemory) -> None:
        acme.add([make_item("taxi", source="one"), make_item("taxi", source="two", access=())])
        acme.remember([make_episode("taxi")], budget=Budget(), now=NOW)
        for mode, exact, version in itertools.product(
            ("hybrid", "vector", "words"), (False, True), (None, 1)
        ):
            settings: dict[str, Any] = {"mode": mode, "exact": exact, "version": version, "clearance": 9}
            assert acme.search(make_query("taxi", groups=(), **settings)) == []
            for sources, kinds in ((("one",), ()), ((), ("document", "episode"))):
                assert acme.search(make_query("taxi", groups=(), sources=sources, kinds=kinds)) == []
            unknown = ("", "every", "everyone ", "Everyone", "%", "*", "everyone,everyone")
            assert acme.search(make_query("taxi", groups=unknown, **settings)) == []
        assert {hit.source for hit in acme.search(make_query("taxi"))} == {"one", "talk"}

    def test_a_group_is_matched_whole_and_as_it_is_written(self, acme: SyncMemory) -> None:
        names = [
            "people",
            "People",
            "people-team",
            "team people",
            "principal:anna",
            "PRINCIPAL:anna",
            "péople",
        ]
        acme.add([make_item("taxi", source=name, access=(name,)) for name in names])
        for name in names:
            assert [hit.source for hit in acme.search(make_query("taxi", groups=(name,)))] == [name]
        assert acme.search(make_query("taxi", groups=("team", "anna", "peopl"))) == []

    @sentence(level=st.integers(0, 9), clearance=st.integers(-1, 10))
    def test_a_level_is_seen_with_at_least_that_clearance(self, level: int, clearance: int) -> None:
        with self.opened() as store:
            acme = store.tenant("acme")
            acme.add([make_item("taxi", classification=level)])
            found = acme.search(make_query("taxi", clearance=clearance))
            assert [hit.classification for hit in found] == ([level] if level <= clearance else [])

    @pytest.mark.parametrize("seen", [0, 1, 4, 5, 6])
    def test_the_few_visible_of_many_are_all_found_in_exact_order(self, acme: SyncMemory, seen: int) -> None:
        chosen = {f"s{7 + 50 * n}" for n in range(seen)}
        items = [
            dataclasses.replace(item, access=("people",) if item.source in chosen else ("others",))
            for item in circle(400)
        ]
        acme.add(items)
        hits = acme.search(make_query("w1 w2 w3", vector=AXIS, groups=("people",)))
        order = [item.source for item in items if item.source in chosen]
        assert [hit.source for hit in hits] == order[:5]

    def test_only_the_sources_and_kinds_asked_for_are_searched(self, acme: SyncMemory) -> None:
        acme.add(circle(200))
        hits = acme.search(make_query("w1", vector=AXIS, sources=("s190", "s150", "nowhere")))
        assert [hit.source for hit in hits] == ["s150", "s190"]
        acme.remember([make_episode("w1"), make_episode("w2", kind="fact")], budget=Budget(), now=NOW)
        assert {hit.kind for hit in acme.search(make_query("w1", kinds=("fact", "episode")))} == {
            "fact",
            "episode",
        }
        assert acme.search(make_query("w1", kinds=("summary",))) == []

    # Validity and expiry -----------------------------------------------------------------------

    def test_an_item_is_valid_from_its_first_day_until_the_day_before_valid_to(
        self, acme: SyncMemory
    ) -> None:
        acme.add([make_item("taxi", valid=("2124-02-29", "2125-03-31"))])
        found = {
            day: len(acme.search(make_query("taxi", as_of=day)))
            for day in ("2124-02-28", "2124-02-29", "2125-03-30", "2125-03-31", "2125-04-01")
        }
        assert list(found.values()) == [0, 1, 1, 0, 0]

    def test_what_expires_is_gone_at_that_very_instant(self, acme: SyncMemory) -> None:
        acme.add([make_item("taxi", expires=NOW)])
        acme.remember([make_episode("taxi", expires=NOW)], budget=Budget(), now="2125-06-01T00:00:00Z")
        found = {
            now: len(acme.search(make_query("taxi", now=now)))
            for now in ("2125-06-15T11:59:59Z", NOW, "2125-06-15T12:00:01Z", "2130-01-01T00:00:00Z")
        }
        assert list(found.values()) == [2, 0, 0, 0]
        assert acme.count() == 2  # until it is swept

    @sentence(day=st.dates(), later=st.integers(0, 10**6))
    def test_what_has_expired_is_not_found_whatever_day_is_asked_for(self, day: Any, later: int) -> None:
        with self.opened() as store:
            acme = store.tenant("acme")
            acme.add([make_item("taxi", expires="2125-06-15T12:00:00Z")])
            now = f"{2125 + later % 900}-12-31T00:00:00Z"
            assert acme.search(make_query("taxi", as_of=day.isoformat(), now=now)) == []
            before = make_query("taxi", as_of=day.isoformat(), now="2125-06-15T11:59:59Z")
            assert len(acme.search(before)) == 1

    @sentence(
        items=item_lists(), written=episode_lists(most=4), asked=groups, clearance=levels,
        now=st.sampled_from([NOW, "2125-06-14T00:00:00Z", "2130-01-01T00:00:00Z"]),
    )  # fmt: skip
    def test_who_reads_sees_what_groups_clearance_and_the_clock_open_and_nobody_sees_all(
        self, items: list[Item], written: list[Item], asked: list[str], clearance: int, now: str
    ) -> None:
        with self.opened() as store:
            acme = store.tenant("acme")
            acme.add(items, now=NOW)
            acme.remember(written, budget=Budget(), now=NOW)
            asker = Asker(groups=tuple(asked), clearance=clearance, now=now)
            everything = sorted([*items, *written], key=lambda item: item.id)
            seen = ids_of([item for item in everything if rules.readable(item, asker)])
            assert ids_of(acme.items(asker=asker)) == seen
            assert acme.count(asker=asker) == acme.count(ids_of(everything), asker=asker) == len(seen)
            assert acme.count() == len(acme.items()) == len(everything)
            nobody = Asker(groups=(), clearance=5, now=now)
            assert acme.items(asker=nobody) == []
            assert acme.count(asker=nobody) == 0
            if items:
                earlier = ids_of([item for item in everything if item.kind != "document"])
                acme.publish([], now=NOW)
                assert ids_of(acme.items(asker=asker)) == [one for one in seen if one in earlier]
                assert ids_of(acme.items(1, asker=asker)) == seen

    # Hostile names and attempts ----------------------------------------------------------------

    def test_a_name_is_data_and_never_a_pattern(self, acme: SyncMemory) -> None:
        items = [
            make_item(f"taxi {n}", source=name, subject=name, access=(name,), id=f"{name}-{n}")
            for n, name in enumerate(HOSTILE_NAMES)
        ]
        acme.add([make_item("plain", source="plain", subject="plain", access=("plain",)), *items])
        for item in items:
            narrowed = make_query("taxi", k=50, groups=item.access, sources=(item.source,))
            assert ids_of(acme.search(narrowed)) == [item.id]
            assert ids_of(acme.search(make_query("taxi", k=50, groups=item.access))) == [item.id]
            assert acme.count([item.id]) == 1
            assert acme.lacking([f"{item.id}?", item.id]) == [f"{item.id}?"]
        for item in items:
            for what in (
                Selector(ids=(item.id,)),
                Selector(subject=item.subject),
                Selector(source=item.source),
            ):
                assert acme.forget(what, dry_run=True).ids == (item.id,)
                assert acme.hold(what) == acme.release(what) == 1
        assert [acme.forget(Selector(subject=item.subject)).ids for item in items] == [
            (item.id,) for item in items
        ]
        assert [item.text for item in acme.items()] == ["plain"]

    def test_no_attempt_reads_across_tenants_or_access_lists(self, store: SyncStore) -> None:
        assert attempt_all(store.inner, number=self.attempted, seed=6) > self.attempted // 50
