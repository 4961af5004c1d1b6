"""Contract of search: adding items, rankings, and query texts of any form."""

from __future__ import annotations

import dataclasses
import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import strategies as st

from workbench.errors import ConfigError
from workbench.ports import Added, Budget, Selector
from workbench.testing.memory_items import (
    AXIS,
    DIMENSIONS,
    HOSTILE,
    NOW,
    circle,
    contents,
    episode_lists,
    ids_of,
    instants,
    item_lists,
    levels,
    make_item,
    make_query,
    modes,
    random_vector,
    texts,
)
from workbench.testing.store_contract import StoreContract, sentence
from workbench.testing.sync_memory import SyncMemory
from workbench.types import Item

TREES = ("alder", "birch", "cedar", "dogwood", "elm", "fir", "juniper")


class FindingContract(StoreContract):
    """Adding and search."""

    # Adding ------------------------------------------------------------------------------------

    def test_an_added_item_is_found_with_its_provenance(self, acme: SyncMemory) -> None:
        item = make_item("taxi to the airport", source="travel", trust=3, valid=("2125-06-05", None))
        assert acme.add([item]) == Added(added=1, unchanged=0, replaced=0, version=1)
        (hit,) = acme.search(make_query("taxi"))
        assert (hit.id, hit.text, hit.source, hit.title) == (item.id, item.text, "travel", item.title)
        assert (hit.version, hit.digest, hit.tenant) == (2, item.source_digest, "acme")
        assert (hit.as_of, hit.memory, hit.memory_version) == ("2125-06-15", "contract", 1)
        assert (hit.kind, hit.trust, hit.since, hit.age_days) == ("document", 3, "2125-06-05", 10)
        assert (hit.valid_to, hit.words_rank, hit.vector_rank) == (None, 1, 1)
        assert hit.allowed.startswith("everyone;")
        assert not hit.stale
        assert not hit.degraded

    @sentence(
        items=item_lists(), written=episode_lists(), parents=st.lists(st.sampled_from("abcd")),
        trust=levels, seed=st.integers(0, 99), created=instants,
    )  # fmt: skip
    def test_every_field_of_an_item_is_kept(
        self,
        acme: SyncMemory,
        items: list[Item],
        written: list[Item],
        parents: list[str],
        seed: int,
        **fields: Any,
    ) -> None:
        given = [
            dataclasses.replace(item, parents=tuple(parents), vector=random_vector(seed + n), **fields)
            for n, item in enumerate(items)
        ]
        acme.add(given)
        acme.remember(written, budget=Budget(), now=NOW)
        ordered = [
            dataclasses.replace(
                item, access=tuple(sorted(set(item.access))), parents=tuple(sorted(set(item.parents)))
            )
            for item in (*given, *written)
        ]
        assert acme.items() == sorted(ordered, key=lambda item: item.id)

    @sentence(items=item_lists(), order=st.randoms(use_true_random=False))
    def test_adding_again_in_any_order_changes_nothing(
        self, acme: SyncMemory, items: list[Item], order: Any
    ) -> None:
        version = acme.add(items).version
        before = contents(acme)
        order.shuffle(items)
        again = acme.add(items)
        assert again == Added(added=0, unchanged=len(items), replaced=0, version=version)
        assert contents(acme) == before

    @sentence(old=item_lists(), new=item_lists())
    def test_the_items_of_a_source_replace_its_older_ones_only(
        self, acme: SyncMemory, old: list[Item], new: list[Item]
    ) -> None:
        sources = {item.source for item in new}
        known, given_ids = {item.id for item in old}, {item.id for item in new}
        removed = {item.id for item in old if item.source in sources and item.id not in given_ids}
        acme.add(old)
        done = acme.add(new)
        version = bool(old) + bool(given_ids - known or removed)
        assert (done.added, done.replaced, done.version) == (len(given_ids - known), len(removed), version)
        assert acme.count() == acme.count(list(known | given_ids)) == len((known | given_ids) - removed)
        assert acme.count(list(removed)) == 0

    def test_an_id_identifies_one_item(self, acme: SyncMemory) -> None:
        item = make_item("taxi", source="one")
        with pytest.raises(ConfigError, match="given twice"):
            acme.add([item, item])
        acme.add([item])
        with pytest.raises(ConfigError, match="has the id of an item of 'one'"):
            acme.add([make_item("hotel", source="two"), dataclasses.replace(item, source="two")])
        assert acme.count() == 1

    @pytest.mark.parametrize(
        "wrong",
        [
            {"valid_from": "2125-6-1"},
            {"valid_to": "2125-02-29"},
            {"valid_to": "21250301"},
            {"expires": "2125-03-01"},
            {"expires": "2125-03-01T00:00:00+01:00"},
            {"created": "2125-03-01T24:00:00Z"},
            {"classification": -1},
            {"trust": 4},
            {"kind": "rumour"},
            {"vector": ()},
            {"vector": (math.nan,) * DIMENSIONS},
            {"vector": (math.inf,) * DIMENSIONS},
            {"text": "\ud800"},
            {"subject": "\ud800"},
        ],
        ids=lambda wrong: "-".join(map(ascii, next(iter(wrong.items()))))[:40],
    )
    def test_a_batch_with_an_invalid_item_is_refused(self, acme: SyncMemory, wrong: dict[str, Any]) -> None:
        good = make_item("taxi", source="good")
        bad = dataclasses.replace(make_item("hotel", source="bad"), **wrong)
        for write in (acme.add, acme.stage):
            with pytest.raises(ConfigError) as caught:
                write([good, bad])
            assert caught.value.hint
        assert acme.count() == 0
        assert acme.missing([good.id]) == [good.id]

    def test_items_of_another_embedding_are_refused(self, acme: SyncMemory) -> None:
        first = make_item("taxi", source="one")
        acme.add([first])
        for other in (make_item("hotel", embedding="another"), make_item("hotel", vector=[1.0])):
            with pytest.raises(ConfigError, match="vectors of 'hash'"):
                acme.add([other])
            with pytest.raises(ConfigError, match="two embeddings"):
                acme.add([make_item("rope", source="two"), other])
            with pytest.raises(ConfigError, match="vectors of 'hash'"):
                acme.remember(
                    [dataclasses.replace(other, kind="fact")], budget=Budget(), now="2125-06-15T00:00:00Z"
                )
        assert acme.count() == 1
        acme.forget(Selector(ids=(first.id,)))
        acme.add([make_item("hotel", embedding="another", vector=[1.0])])
        assert [hit.text for hit in acme.search(make_query("hotel", vector=[1.0]))] == ["hotel"]

    @sentence(text=st.text(max_size=40), name=st.text(max_size=10))
    def test_any_text_is_kept(self, acme: SyncMemory, text: str, name: str) -> None:
        item = make_item(text, title=name, source=name, owner=name, subject=name, access=("everyone", name))
        item = dataclasses.replace(item, access=tuple(sorted({"everyone", name})))
        acme.add([item])
        (hit,) = acme.search(make_query(text))
        assert (hit.text, hit.title, hit.source) == (text, name, name)
        assert acme.items() == [item]
        assert acme.add([make_item(text + "!", source=name)]).replaced == 1
        assert [item.source for item in acme.items()] == [name]

    # Finding -----------------------------------------------------------------------------------

    @sentence(number=st.integers(1, 40), k=st.integers(1, 60))
    def test_nearest_first_and_never_more_than_k(self, acme: SyncMemory, number: int, k: int) -> None:
        acme.add(circle(number))
        hits = acme.search(make_query("", vector=AXIS, k=k))
        assert [hit.source for hit in hits] == [f"s{n}" for n in range(min(number, k))]

    @sentence(words=st.lists(st.sampled_from(TREES), min_size=1, unique=True))
    def test_a_rare_word_decides_between_equal_vectors(self, acme: SyncMemory, words: list[str]) -> None:
        acme.add([make_item(f"clause {word} of the contract", source=word, vector=AXIS) for word in words])
        for word in words[:3]:
            assert acme.search(make_query(word.upper(), vector=AXIS))[0].source == word
            found = acme.search(make_query(word, mode="words"))
            assert [hit.source for hit in found] == [word]

    def test_a_title_is_searched_too(self, acme: SyncMemory) -> None:
        acme.add(
            [
                *(make_item(f"clause {n}", source=f"s{n}", vector=AXIS) for n in range(5)),
                make_item("another clause", source="sequoia", vector=AXIS),
            ]
        )
        assert acme.search(make_query("Sequoia", vector=AXIS))[0].source == "sequoia"

    @sentence(place=st.integers(0, 9), k=st.integers(1, 12))
    def test_the_modes_vector_and_words_use_one_ranking(self, acme: SyncMemory, place: int, k: int) -> None:
        acme.add(circle(10))
        found = acme.search(make_query(f"w{place}", vector=AXIS, mode="words", k=k))
        assert [hit.source for hit in found] == [f"s{place}"]
        assert acme.search(make_query("nothing", vector=AXIS, mode="words")) == []
        hits = acme.search(make_query(f"w{place}", vector=AXIS, mode="vector", k=k))
        assert [hit.source for hit in hits] == [f"s{n}" for n in range(min(k, 10))]
        assert acme.search(make_query(f"w{place}", vector=AXIS, k=20))[0].source == f"s{place}"

    @sentence(seeds=st.lists(st.integers(0, 40), min_size=1, max_size=30), query_seed=st.integers(100, 140))
    def test_exact_search_is_brute_force(self, acme: SyncMemory, seeds: list[int], query_seed: int) -> None:
        items = [
            make_item("taxi", position=n, vector=random_vector(seed)) for n, seed in enumerate(seeds)
        ]  # equal seeds tie
        axis = random_vector(query_seed)

        def order(item: Item) -> tuple[float, str]:
            return (-round(math.fsum(a * b for a, b in zip(item.vector, axis, strict=True)), 4), item.id)

        acme.add(items)
        hits = acme.search(make_query("taxi", vector=axis, k=10, mode="vector", exact=True))
        assert ids_of(hits) == ids_of(sorted(items, key=order)[:10])
        assert [hit.score for hit in hits] == [round(61 / (61 + n), 4) for n in range(len(hits))]

    @sentence(items=item_lists(), question=texts, mode=modes, exact=st.booleans())
    def test_scores_fall_from_at_most_1_and_have_4_decimals(
        self, acme: SyncMemory, items: list[Item], question: str, mode: str, exact: bool
    ) -> None:
        acme.add(items)
        hits = acme.search(make_query(question, k=60, clearance=3, mode=mode, exact=exact))
        scores = [hit.score for hit in hits]
        assert scores == sorted(scores, reverse=True)
        assert all(0 < score == round(score, 4) <= 1 for score in scores)
        assert mode == "hybrid" or scores[:1] in ([], [1.0])
        for hit in hits:  # its places in the rankings are those that the score was fused from
            places = [place for place in (hit.words_rank, hit.vector_rank) if place]
            rankings = 2 if mode == "hybrid" else 1
            assert abs(sum(61 / (60 + place) for place in places) / rankings - hit.score) <= 0.5001e-4
            assert mode == "hybrid" or (hit.words_rank is None) == (mode == "vector")

    @sentence(number=st.integers(1, 70), k=st.integers(1, 70), mode=modes)
    def test_equal_scores_are_ordered_by_id(self, acme: SyncMemory, number: int, k: int, mode: str) -> None:
        items = [make_item("taxi", source=f"s{n}", title="") for n in range(number)]
        acme.add(items)
        wanted = sorted(ids_of(items))[:k]
        assert ids_of(acme.search(make_query("taxi", k=k, mode=mode, candidates=70))) == wanted
        few = make_query("taxi", k=min(k, 5), mode="vector", candidates=5, exact=True)
        assert ids_of(acme.search(few)) == wanted[:5]

    @sentence(items=item_lists(), question=texts, order=st.randoms(use_true_random=False))
    def test_the_order_of_adding_does_not_matter(self, items: list[Item], question: str, order: Any) -> None:
        found = []
        for _ in range(2):
            with self.opened() as store:
                acme = store.tenant("acme")
                for source in dict.fromkeys(item.source for item in items):
                    acme.add([item for item in items if item.source == source])
                hits = acme.search(make_query(question, clearance=3))
                found.append([dataclasses.replace(hit, memory_version=0) for hit in hits])
            order.shuffle(items)
        assert found[0] == found[1]

    @pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(text[:20]))
    def test_a_query_text_is_data_not_syntax(self, acme: SyncMemory, text: str) -> None:
        acme.add([make_item("taxi hotel"), make_item("salary", source="secret", access=("people",))])
        for mode in ("hybrid", "vector"):
            assert [hit.text for hit in acme.search(make_query(text, mode=mode))] == ["taxi hotel"]
        assert {hit.text for hit in acme.search(make_query(text, mode="words"))} <= {"taxi hotel"}

    @sentence(text=st.text(max_size=60))
    def test_any_query_text_is_answered(self, acme: SyncMemory, text: str) -> None:
        acme.add([make_item("taxi hotel"), make_item("salary", source="secret", access=("people",))])
        assert [hit.text for hit in acme.search(make_query(text))] == ["taxi hotel"]

    def test_an_invalid_query_is_refused(self, acme: SyncMemory) -> None:
        acme.add([make_item("taxi")])
        for query in (
            make_query("taxi", k=0),
            make_query("taxi", candidates=0),
            make_query("taxi", as_of="today"),
            make_query("taxi", now="2125-06-15"),
            make_query("taxi", mode="psychic"),
            make_query("taxi", vector=[1.0]),
        ):
            with pytest.raises(ConfigError) as caught:
                acme.search(query)
            assert caught.value.hint

    def test_an_empty_memory_finds_nothing(self, acme: SyncMemory) -> None:
        assert (acme.search(make_query("taxi")), acme.count(), acme.items()) == ([], 0, [])
        assert acme.forget(Selector(ids=("x",))).items == 0
        assert acme.add([]) == acme.publish([]) == Added(added=0, unchanged=0, replaced=0)
        assert acme.versions() == []

    # Together ----------------------------------------------------------------------------------

    def test_threads_add_and_search_at_once(self, acme: SyncMemory) -> None:
        def work(n: int) -> int:
            acme.add(circle(40)[n * 10 : n * 10 + 10])
            return len(acme.search(make_query("w1", vector=AXIS, k=50)))

        with ThreadPoolExecutor(8) as pool:
            counts = list(pool.map(work, [0, 1, 2, 3] * 4))
        assert (acme.count(), max(counts)) == (40, 40)
        assert all(count % 10 == 0 and count for count in counts)
        assert [version.items for version in acme.versions()] == [10, 20, 30, 40]
