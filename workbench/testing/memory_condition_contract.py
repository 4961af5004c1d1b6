"""Contract of conditions: a store applies what the policies permit before it takes the best hits."""

from __future__ import annotations

import dataclasses
from typing import Any

from hypothesis import strategies as st

from workbench.memory import rules
from workbench.ports import Budget, ItemFilter, Requester
from workbench.ports.item_filter import all_of, any_of, at_most, by_lists, one_of
from workbench.testing.memory_items import (
    AXIS,
    HOSTILE_NAMES,
    NOW,
    circle,
    episode_lists,
    ids_of,
    item_lists,
    make_episode,
    make_item,
    make_query,
    modes,
    texts,
)
from workbench.testing.store_contract import StoreContract, sentence
from workbench.testing.sync_memory import SyncMemory
from workbench.types import Item

_VALUES: dict[str, tuple[str, ...]] = {
    "acl": ("everyone", "finance", "people", "every"),
    "owner": ("an owner", "an owner ", "ada", ""),
    "kind": ("document", "episode", "fact"),
    "source": ("one", "two", "talk", "tw"),
    "subject": ("", "cust-1", "cust-2"),
}
_NUMBERS: dict[str, tuple[int, ...]] = {
    "classification": (-1, 0, 1, 2, 3, 12),
    "trust": (-1, 0, 1, 2, 3, 7),
    "valid_from": (-1, 0, 10100, 21250614, 21250631, 21251301, 99991231),
    "valid_to": (0, 21240229, 21240230, 21250615, 99991231, 99991232),
    "expires": (0, 21250614235959, 21250615120000, 21250615129900, 21250699000000, 99991231240000),
}


def _leaf(drawn: tuple[str, bool, int, int]) -> ItemFilter:
    name, within, first, second = drawn
    if name in _VALUES:
        given = _VALUES[name]
        return one_of(name, [given[first % len(given)], given[second % len(given)]])
    numbers = _NUMBERS[name]
    number = numbers[first % len(numbers)]
    return one_of(name, [number, numbers[second % len(numbers)]]) if within else at_most(name, number)


_names = st.sampled_from(sorted([*_VALUES, *_NUMBERS]))
_leaves = st.tuples(_names, st.booleans(), st.integers(0, 6), st.integers(0, 6)).map(_leaf)
conditions = st.recursive(
    _leaves,
    lambda parts: (
        st.lists(parts, max_size=3).map(all_of)
        | st.lists(parts, max_size=3).map(any_of)
        | parts.map(ItemFilter.negated)
    ),
    max_leaves=6,
)


_owned_items = st.tuples(
    item_lists(), st.lists(st.sampled_from(["an owner", "ada", "", "an owner "]), min_size=8)
).map(lambda both: [dataclasses.replace(item, owner=name) for item, name in zip(*both, strict=False)])


class ConditionContract(StoreContract):
    """The items that a condition of the policies permits."""

    @sentence(
        items=_owned_items, written=episode_lists(most=4), where=conditions, question=texts, mode=modes,
        exact=st.booleans(),
    )  # fmt: skip
    def test_a_search_finds_what_a_condition_permits(
        self,
        acme: SyncMemory,
        items: list[Item],
        written: list[Item],
        where: ItemFilter,
        question: str,
        mode: Any,
        exact: bool,
    ) -> None:
        acme.add(items, now=NOW)
        acme.remember(written, budget=Budget(), now=NOW)
        query = make_query(question, k=50, groups=(), exact=exact, now=NOW, where=where)
        everything = sorted([*items, *written], key=lambda item: item.id)
        permitted = {item.id for item in everything if rules.visible(item, query)}
        assert {hit.id for hit in acme.search(query)} == permitted
        some = acme.search(dataclasses.replace(query, k=2, mode=mode))
        assert {hit.id for hit in some} <= permitted
        assert len(some) == min(2, len(permitted)) or mode == "words"
        requester = Requester(groups=(), now=NOW, where=where)
        seen = ids_of([item for item in everything if rules.readable(item, requester)])
        assert ids_of(acme.items(requester=requester)) == seen
        assert acme.count(requester=requester) == len(seen)
        assert acme.count(ids_of(everything), requester=requester) == len(seen)

    @sentence(seen=st.sets(st.integers(0, 119), max_size=7))
    def test_few_permitted_items_of_many_are_all_found_in_order(
        self, acme: SyncMemory, seen: set[int]
    ) -> None:
        items = [
            dataclasses.replace(item, owner="ada" if place in seen else "eve", access=())
            for place, item in enumerate(circle(120))
        ]
        acme.add(items)
        where = one_of("owner", ["ada"])
        hits = acme.search(make_query("w1 w2", vector=AXIS, groups=(), mode="vector", k=7, where=where))
        assert set(ids_of(hits)) == {items[place].id for place in seen}
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)

    def test_a_condition_on_lists_finds_what_groups_and_clearance_find(self, acme: SyncMemory) -> None:
        acme.add([make_item(f"taxi {n}", source=f"s{n}", classification=n % 3) for n in range(9)])
        asked = make_query("taxi", groups=("everyone",), clearance=1, k=4)
        where = by_lists(("everyone",), 1)
        by_condition = acme.search(dataclasses.replace(asked, groups=(), clearance=0, where=where))
        found = acme.search(asked)
        assert [(hit.id, hit.score) for hit in found] == [(hit.id, hit.score) for hit in by_condition]

    def test_a_condition_permits_what_was_written_since(self, acme: SyncMemory) -> None:
        where = one_of("owner", ["ada"])
        query = make_query("taxi", groups=(), now=NOW, where=where)
        for n in range(3):
            assert len(acme.search(query)) == n
            new = [
                make_episode(f"taxi {n}", source=f"{n}", owner="ada"),
                make_episode("taxi", source=f"e{n}"),
            ]
            acme.remember(new, budget=Budget(), now=NOW)

    def test_names_in_a_condition_are_data(self, acme: SyncMemory) -> None:
        items = [
            make_item(f"taxi {n}", source=name, owner=name, subject=name, access=(name,), id=f"{n}")
            for n, name in enumerate(HOSTILE_NAMES)
        ]
        acme.add(items)
        for item in items:
            for attribute, value in (
                ("owner", item.owner), ("source", item.source), ("subject", item.subject),
                ("acl", item.access[0]),
            ):  # fmt: skip
                _check_exact(acme, item, attribute, value)


def _check_exact(acme: SyncMemory, item: Item, attribute: str, value: Any) -> None:
    where = one_of(attribute, [value])
    requester = Requester(groups=(), now=NOW, where=where)
    found = acme.search(make_query("taxi", k=50, groups=(), where=where))
    assert ids_of(found) == [item.id]
    assert acme.count(requester=requester) == 1
    others = Requester(groups=(), now=NOW, where=where.negated())
    assert item.id not in ids_of(acme.items(requester=others))
    assert acme.count(requester=others) == len(HOSTILE_NAMES) - 1
