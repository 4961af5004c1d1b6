"""Contract of access: tenants, access lists, clearance, validity, expiry and hostile names."""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
from typing import Any

import pytest
from hypothesis import strategies as st

from workbench.errors import ConfigError
from workbench.memory import rules
from workbench.memory.ranking import DECIMALS
from workbench.ports import Budget, Requester, Selector
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
    kinds,
    levels,
    make_episode,
    make_item,
    make_query,
    modes,
    texts,
)
from workbench.testing.store_contract import StoreContract, sentence
from workbench.testing.sync_memory import SyncMemory, SyncStore
from workbench.types import Item

EVERYBODY = ("everyone", "finance", "people")
#: Group names that a store with loose comparison would confuse.
GROUPS = ("people", "People", "people-team", "team people", "principal:anna", "PRINCIPAL:anna", "péople")
strange = st.text(max_size=8).filter(lambda name: name not in EVERYBODY)


class AccessContract(StoreContract):
    """The items that a requester sees."""

    # Tenants -----------------------------------------------------------------------------------

    def test_a_tenant_that_cannot_name_a_file_is_refused(self, store: SyncStore) -> None:
        for name in ("", "../acme", "Acme", "a/b", "acme\n", "acme.", "a" * 64):
            with pytest.raises(ConfigError, match="cannot name a tenant"):
                store.tenant(name)

    def test_a_view_stays_with_its_tenant(self, acme: SyncMemory) -> None:
        with pytest.raises(AttributeError):
            acme.inner.tenant = "globex"  # type: ignore[misc]

    def test_tenants_with_items_are_listed(self, store: SyncStore) -> None:
        assert store.tenants() == []
        for name in ("globex", "acme", "a" * 63):
            store.tenant(name).add([make_item(f"taxi of {name}")])
        store.tenant("initech").search(make_query("taxi"))
        assert store.tenants() == ["a" * 63, "acme", "globex"]
        store.tenant("globex").forget(Selector(source="page"))
        assert store.tenants() == ["a" * 63, "acme"]

    @sentence(own=item_lists(), other=item_lists(), question=texts, groups=groups)
    def test_a_tenant_never_sees_another(
        self, store: SyncStore, own: list[Item], other: list[Item], question: str, groups: list[str]
    ) -> None:
        query = make_query(question, groups=groups, k=20, clearance=3)
        acme, globex = store.tenant("acme"), store.tenant("globex")
        acme.add(own)
        alone = (acme.search(query), contents(acme))
        globex.add(other)
        assert (acme.search(query), contents(acme)) == alone  # scores are unchanged too
        before = contents(globex)
        acme.forget(Selector(ids=tuple(ids_of(other))))
        assert contents(globex) == before
        assert all(hit.tenant == "globex" for hit in globex.search(query))

    def test_a_verb_of_one_tenant_changes_no_other(self, store: SyncStore) -> None:
        acme, globex = store.tenant("acme"), store.tenant("globex")
        items = [make_item("taxi", subject="cust-1", expires="2125-01-01T00:00:00Z")]
        for tenant in (acme, globex):
            tenant.add(items)
            tenant.remember([make_episode("hotel", subject="cust-1")], budget=Budget(), now=NOW)
        before = (contents(acme), acme.versions(), acme.stats(now=NOW))
        globex.hold(Selector(subject="cust-1"))
        assert acme.stats(now=NOW) == before[2]
        globex.release(Selector(subject="cust-1"))
        globex.remember([make_episode("rope", source="more")], budget=Budget(items=1), now=NOW)
        globex.stage([make_item("badge")])
        globex.publish([])
        globex.purge(now=NOW, keep_versions=1)
        for what in (Selector(subject="cust-1"), Selector(source="page"), Selector(expired=True)):
            globex.forget(what, now=NOW)
        assert (contents(acme), acme.versions(), acme.stats(now=NOW)) == before

    # Access lists ------------------------------------------------------------------------------

    @sentence(items=item_lists(), groups=groups, question=texts, clearance=levels, now=instants)
    def test_a_search_finds_what_access_clearance_and_days_allow(
        self,
        acme: SyncMemory,
        items: list[Item],
        groups: list[str],
        question: str,
        clearance: int,
        now: str | None,
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
        acme.add(items)
        for exact in (False, True):
            query = make_query(question, groups=groups, k=50, clearance=clearance, now=now, exact=exact)
            assert {hit.id for hit in acme.search(query)} == expected

    @sentence(
        items=item_lists(), written=episode_lists(), mode=modes, exact=st.booleans(),
        unknown=st.lists(st.sampled_from(["", "every", "everyone ", "Everyone", "%", "*", "a,b"]) | strange),
    )  # fmt: skip
    def test_without_groups_or_an_access_list_nothing_is_found(
        self,
        acme: SyncMemory,
        items: list[Item],
        written: list[Item],
        mode: str,
        exact: bool,
        unknown: list[str],
    ) -> None:
        version = acme.add(items).version
        acme.remember(written, budget=Budget(), now=NOW)
        for asking, at in itertools.product(((), unknown), (None, version or None)):
            query = make_query("taxi", groups=asking, mode=mode, exact=exact, version=at, clearance=9)
            assert acme.search(query) == []
            assert acme.search(dataclasses.replace(query, sources=("one", "talk"))) == []
            assert acme.search(dataclasses.replace(query, kinds=("document", "episode"))) == []
        seen = acme.search(make_query("taxi", groups=EVERYBODY, k=50, mode=mode, exact=exact))
        assert {item.id for item in items if not item.access}.isdisjoint(ids_of(seen))

    @sentence(
        names=st.lists(st.sampled_from(GROUPS) | strange, min_size=1, max_size=6, unique=True),
        others=st.lists(st.sampled_from([*GROUPS, "team", "anna", "peopl"]) | strange, max_size=3),
    )
    def test_groups_are_matched_exactly(self, acme: SyncMemory, names: list[str], others: list[str]) -> None:
        acme.add([make_item("taxi", source=name, access=(name,)) for name in names])
        for name in {*names, *others}:
            found = acme.search(make_query("taxi", groups=(name,)))
            assert [hit.source for hit in found] == ([name] if name in names else [])

    @sentence(level=st.integers(0, 9), clearance=st.integers(-1, 10))
    def test_an_item_needs_a_clearance_of_its_classification(
        self, acme: SyncMemory, level: int, clearance: int
    ) -> None:
        acme.add([make_item("taxi", classification=level)])
        found = acme.search(make_query("taxi", clearance=clearance))
        assert [hit.classification for hit in found] == ([level] if level <= clearance else [])

    @sentence(seen=st.sets(st.integers(0, 119), max_size=7))
    def test_few_visible_items_of_many_are_all_found_in_order(self, acme: SyncMemory, seen: set[int]) -> None:
        items = [
            dataclasses.replace(item, access=("people",) if place in seen else ("others",))
            for place, item in enumerate(circle(120))
        ]
        acme.add(items)
        hits = acme.search(make_query("w1 w2 w3", vector=AXIS, groups=("people",), mode="vector"))
        order = sorted(
            (items[place] for place in seen), key=lambda item: (-round(item.vector[0], DECIMALS), item.id)
        )
        assert ids_of(hits) == ids_of(order)[:5]

    @sentence(
        items=item_lists(), written=episode_lists(), exact=st.booleans(),
        sources=st.lists(st.sampled_from(["one", "two", "talk", "nowhere"]), max_size=3),
        wanted=st.lists(kinds | st.just("document"), max_size=2),
    )  # fmt: skip
    def test_only_the_sources_and_kinds_asked_for_are_searched(
        self,
        acme: SyncMemory,
        items: list[Item],
        written: list[Item],
        exact: bool,
        sources: list[str],
        wanted: list[Any],
    ) -> None:
        query = make_query("taxi", groups=EVERYBODY, k=50, clearance=9, exact=exact)
        acme.add(items)
        acme.remember(written, budget=Budget(), now=NOW)
        seen = {hit.id for hit in acme.search(query)}
        narrowed = dataclasses.replace(query, sources=tuple(sources), kinds=tuple(wanted))
        assert {hit.id for hit in acme.search(narrowed)} == {
            item.id
            for item in (*items, *written)
            if item.id in seen
            and (not sources or item.source in sources)
            and (not wanted or item.kind in wanted)
        }

    # Validity and expiry -----------------------------------------------------------------------

    @sentence(
        day=st.dates(dt.date(2124, 2, 1), dt.date(2126, 3, 1)),
        first=st.none() | st.integers(-2, 2),
        end=st.none() | st.integers(-2, 2),
    )
    def test_an_item_is_valid_from_its_first_day_until_the_day_before_valid_to(
        self, acme: SyncMemory, day: dt.date, first: int | None, end: int | None
    ) -> None:
        starts, ends = (
            None if days is None else (day + dt.timedelta(days=days)).isoformat() for days in (first, end)
        )
        acme.add([make_item("taxi", valid=(starts, ends))])
        found = acme.search(make_query("taxi", as_of=day.isoformat()))
        assert len(found) == ((first is None or first <= 0) and (end is None or end > 0))

    @sentence(
        when=st.datetimes(dt.datetime(2125, 7, 1), dt.datetime(2129, 1, 1)),  # noqa: DTZ001  all are UTC
        seconds_later=st.integers(-2, 2) | st.integers(-(10**6), 10**6),
    )
    def test_an_item_expires_at_its_instant(
        self, acme: SyncMemory, when: dt.datetime, seconds_later: int
    ) -> None:
        expires, now = (
            f"{moment:%Y-%m-%dT%H:%M:%S}Z" for moment in (when, when + dt.timedelta(seconds=seconds_later))
        )
        acme.add([make_item("taxi", expires=expires)])
        acme.remember([make_episode("taxi", expires=expires)], budget=Budget(), now=NOW)
        assert len(acme.search(make_query("taxi", now=now))) == (2 if seconds_later < 0 else 0)
        assert acme.count() == 2  # until it is purged

    @sentence(day=st.dates(), later=st.integers(0, 10**6))
    def test_an_expired_item_is_not_found_for_any_day(self, acme: SyncMemory, day: Any, later: int) -> None:
        acme.add([make_item("taxi", expires="2125-06-15T12:00:00Z")])
        now = f"{2125 + later % 900}-12-31T00:00:00Z"
        assert acme.search(make_query("taxi", as_of=day.isoformat(), now=now)) == []
        before = make_query("taxi", as_of=day.isoformat(), now="2125-06-15T11:59:59Z")
        assert len(acme.search(before)) == 1

    @sentence(
        items=item_lists(), written=episode_lists(most=4), groups_asked=groups, clearance=levels,
        now=st.sampled_from([NOW, "2125-06-14T00:00:00Z", "2130-01-01T00:00:00Z"]),
    )  # fmt: skip
    def test_items_and_count_are_limited_to_the_requester(
        self,
        acme: SyncMemory,
        items: list[Item],
        written: list[Item],
        groups_asked: list[str],
        clearance: int,
        now: str,
    ) -> None:
        acme.add(items, now=NOW)
        acme.remember(written, budget=Budget(), now=NOW)
        requester = Requester(groups=tuple(groups_asked), clearance=clearance, now=now)
        everything = sorted([*items, *written], key=lambda item: item.id)
        seen = ids_of([item for item in everything if rules.readable(item, requester)])
        assert ids_of(acme.items(requester=requester)) == seen
        assert (
            acme.count(requester=requester)
            == acme.count(ids_of(everything), requester=requester)
            == len(seen)
        )
        assert acme.count() == len(acme.items()) == len(everything)
        nobody = Requester(groups=(), clearance=5, now=now)
        assert acme.items(requester=nobody) == []
        assert acme.count(requester=nobody) == 0
        if items:
            earlier = ids_of([item for item in everything if item.kind != "document"])
            acme.publish([], now=NOW)
            assert ids_of(acme.items(requester=requester)) == [key for key in seen if key in earlier]
            assert ids_of(acme.items(1, requester=requester)) == seen

    # Hostile names and attempts ----------------------------------------------------------------

    def test_a_name_is_data_not_a_pattern(self, acme: SyncMemory) -> None:
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
            assert acme.missing([f"{item.id}?", item.id]) == [f"{item.id}?"]
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
