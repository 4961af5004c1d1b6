"""What every memory store promises, sentence by sentence; a new store subclasses `MemoryContract`.

    class TestMyStore(MemoryContract):
        open_store = staticmethod(functools.partial(MyStore, name="contract"))

A store that outlives its process subclasses `durable_contract.DurableContract` instead, which adds
the sentences on reopening and on processes.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import ConfigError, CorruptError
from workbench.memory.snapshot import open_snapshot, write_snapshot
from workbench.ports import Added, Memory
from workbench.testing.memory_items import (
    AXIS,
    DIMENSIONS,
    HOSTILE,
    Store,
    circle,
    contents,
    few,
    groups,
    item_lists,
    make_item,
    make_query,
    texts,
)
from workbench.types import Item


class MemoryContract:
    """Subclass it and give `open_store`."""

    open_store: ClassVar[Any]  # a static method: Callable[[Path], Store]

    @contextmanager
    def opened(self) -> Iterator[Store]:
        """A new, empty store."""
        with tempfile.TemporaryDirectory() as folder:
            store = self.open_store(Path(folder) / "memory")
            try:
                yield store
            finally:
                store.close()

    @pytest.fixture
    def store(self) -> Iterator[Store]:
        """A new, empty store."""
        with self.opened() as store:
            yield store

    @pytest.fixture
    def acme(self, store: Store) -> Memory:
        """One tenant of it."""
        return store.tenant("acme")

    # Adding ------------------------------------------------------------------------------------

    def test_what_is_added_is_found_with_its_provenance(self, acme: Memory) -> None:
        item = make_item("taxi to the airport", source="travel")
        assert acme.add([item]) == Added(added=1, unchanged=0, replaced=0)
        (hit,) = acme.search(make_query("taxi"))
        assert (hit.id, hit.text, hit.source, hit.title) == (item.id, item.text, "travel", item.title)
        assert (hit.version, hit.digest, hit.tenant) == (2, item.source_digest, "acme")
        assert (hit.as_of, hit.memory) == ("2025-06-15", "contract")

    @few
    @given(items=item_lists(), order=st.randoms(use_true_random=False))
    def test_adding_again_in_any_order_changes_nothing(self, items: list[Item], order: Any) -> None:
        with self.opened() as store:
            acme = store.tenant("acme")
            acme.add(items)
            before = contents(acme)
            order.shuffle(items)
            assert acme.add(items) == Added(added=0, unchanged=len(items), replaced=0)
            assert contents(acme) == before

    @few
    @given(old=item_lists(), new=item_lists())
    def test_the_items_of_a_source_replace_its_older_ones_only(
        self, old: list[Item], new: list[Item]
    ) -> None:
        sources = {item.source for item in new}
        there, given_ids = {item.id for item in old}, {item.id for item in new}
        gone = {item.id for item in old if item.source in sources and item.id not in given_ids}
        with self.opened() as store:
            acme = store.tenant("acme")
            acme.add(old)
            done = acme.add(new)
            assert done == Added(
                added=len(given_ids - there), unchanged=len(given_ids & there), replaced=len(gone)
            )
            assert acme.count() == acme.count(list(there | given_ids)) == len((there | given_ids) - gone)
            assert acme.count(list(gone)) == 0

    def test_an_id_means_one_item(self, acme: Memory) -> None:
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
            {"valid_from": "2025-6-1"},
            {"expires": "2025-02-29"},
            {"expires": "20250301"},
            {"vector": ()},
            {"vector": (math.nan,) * DIMENSIONS},
            {"vector": (math.inf,) * DIMENSIONS},
            {"text": "\ud800"},
        ],
    )
    def test_what_could_not_be_given_back_is_refused_whole(self, acme: Memory, wrong: dict[str, Any]) -> None:
        good = make_item("taxi", source="good")
        with pytest.raises(ConfigError) as caught:
            acme.add([good, dataclasses.replace(make_item("hotel", source="bad"), **wrong)])
        assert caught.value.hint
        assert acme.count() == 0

    def test_two_embeddings_never_mix(self, acme: Memory) -> None:
        first = make_item("taxi", source="one")
        acme.add([first])
        for other in (
            make_item("hotel", embedding="another"),
            make_item("hotel", vector=[1.0]),
        ):
            with pytest.raises(ConfigError, match="vectors of 'hash'"):
                acme.add([other])
            with pytest.raises(ConfigError, match="two embeddings"):
                acme.add([make_item("rope", source="two"), other])
        assert acme.count() == 1
        acme.forget([first.id])
        acme.add([make_item("hotel", embedding="another", vector=[1.0])])
        assert [hit.text for hit in acme.search(make_query("hotel", vector=[1.0]))] == ["hotel"]

    def test_a_tenant_that_cannot_name_a_file_is_refused(self, store: Store) -> None:
        for name in ("", "../acme", "Acme", "a/b", "acme\n", "acme.", "a" * 64):
            with pytest.raises(ConfigError, match="cannot name a tenant"):
                store.tenant(name)

    def test_a_view_stays_with_its_tenant(self, acme: Memory) -> None:
        with pytest.raises(AttributeError):
            acme.tenant = "globex"  # type: ignore[misc]

    @few
    @given(text=st.text(max_size=40), name=st.text(max_size=10))
    def test_any_text_comes_back_as_it_was(self, text: str, name: str) -> None:
        item = dataclasses.replace(make_item(text), title=name, source=name, owner=name)
        with self.opened() as store:
            acme = store.tenant("acme")
            acme.add([item])
            (hit,) = acme.search(make_query(text))
            assert (hit.text, hit.title, hit.source) == (text, name, name)

    # Who sees what -----------------------------------------------------------------------------

    @few
    @given(own=item_lists(), other=item_lists(), asked=texts, groups=groups)
    def test_a_tenant_never_sees_another(
        self, own: list[Item], other: list[Item], asked: str, groups: list[str]
    ) -> None:
        query = make_query(asked, groups=groups, k=20)
        with self.opened() as store:
            acme, globex = store.tenant("acme"), store.tenant("globex")
            acme.add(own)
            alone = (acme.search(query), contents(acme))
            globex.add(other)
            assert (acme.search(query), contents(acme)) == alone  # not even a score moves
            before = contents(globex)
            acme.forget([item.id for item in other])
            assert contents(globex) == before
            assert all(hit.tenant == "globex" for hit in globex.search(query))

    @few
    @given(items=item_lists(), groups=groups, asked=texts)
    def test_an_item_is_seen_when_a_group_is_on_its_list_and_it_is_valid(
        self, items: list[Item], groups: list[str], asked: str
    ) -> None:
        with self.opened() as store:
            acme = store.tenant("acme")
            acme.add(items)
            expected = {
                item.id
                for item in items
                if any(group in item.access for group in groups)
                and (item.valid_from or "0000") <= "2025-06-15" < (item.expires or "9999")
            }
            hits = acme.search(make_query(asked, groups=groups, k=50))
            assert {hit.id for hit in hits} == expected

    def test_no_group_and_an_empty_list_mean_nothing_never_everything(self, acme: Memory) -> None:
        acme.add([make_item("taxi", source="one"), make_item("taxi", source="two", access=())])
        assert acme.search(make_query("taxi", groups=())) == []
        assert acme.search(make_query("taxi", groups=("", "every", "everyone ", "%"))) == []
        assert [hit.source for hit in acme.search(make_query("taxi"))] == ["one"]

    def test_an_item_is_valid_from_its_first_day_until_the_day_before_it_expires(self, acme: Memory) -> None:
        acme.add([make_item("taxi", valid=("2024-02-29", "2025-03-31"))])
        found = {
            day: len(acme.search(make_query("taxi", as_of=day)))
            for day in ("2024-02-28", "2024-02-29", "2025-03-30", "2025-03-31", "2025-04-01")
        }
        assert list(found.values()) == [0, 1, 1, 0, 0]

    @pytest.mark.parametrize("seen", [0, 1, 4, 5, 6])
    def test_the_few_visible_of_many_are_all_found_in_exact_order(self, acme: Memory, seen: int) -> None:
        chosen = {f"s{7 + 50 * n}" for n in range(seen)}
        items = [
            dataclasses.replace(item, access=("people",) if item.source in chosen else ("others",))
            for item in circle(400)
        ]
        acme.add(items)
        hits = acme.search(make_query("w1 w2 w3", vector=AXIS, groups=("people",)))
        order = [item.source for item in items if item.source in chosen]
        assert [hit.source for hit in hits] == order[:5]

    def test_only_the_sources_asked_for_are_searched(self, acme: Memory) -> None:
        acme.add(circle(200))
        hits = acme.search(make_query("w1", vector=AXIS, sources=("s190", "s150", "nowhere")))
        assert [hit.source for hit in hits] == ["s150", "s190"]

    # Finding -----------------------------------------------------------------------------------

    def test_nearest_first_and_never_more_than_k(self, acme: Memory) -> None:
        acme.add(circle(30))
        hits = acme.search(make_query("", vector=AXIS, k=7))
        assert [hit.source for hit in hits] == [f"s{n}" for n in range(7)]
        assert len(acme.search(make_query("", vector=AXIS, k=500))) == 30

    def test_a_rare_word_finds_what_the_vector_does_not_tell_apart(self, acme: Memory) -> None:
        names = [f"clause {word} of the contract" for word in ("alder", "birch", "cedar", "dogwood", "elm")]
        acme.add([make_item(text, source=text.split()[1], vector=AXIS) for text in names])
        for text in names:
            word = text.split()[1]
            assert acme.search(make_query(word.upper(), vector=AXIS))[0].source == word

    def test_a_title_is_searched_too(self, acme: Memory) -> None:
        acme.add([make_item(f"clause {n}", source=f"s{n}", vector=AXIS) for n in range(5)])
        acme.add([make_item("another clause", source="sequoia", vector=AXIS)])
        assert acme.search(make_query("Sequoia", vector=AXIS))[0].source == "sequoia"

    def test_scores_fall_from_at_most_1_and_have_4_decimals(self, acme: Memory) -> None:
        acme.add(circle(60))
        scores = [hit.score for hit in acme.search(make_query("w0", vector=AXIS, k=60))]
        assert scores[0] == 1.0
        assert scores == sorted(scores, reverse=True)
        assert all(0 < score == round(score, 4) for score in scores)

    def test_equal_scores_are_ordered_by_id(self, acme: Memory) -> None:
        acme.add([make_item("taxi", source=f"s{n}") for n in range(120)])
        hits = acme.search(make_query("taxi", k=120))
        ranks = [(-hit.score, hit.id) for hit in hits]
        assert ranks == sorted(ranks)
        assert [hit.id for hit in hits] == sorted(hit.id for hit in hits)

    @few
    @given(items=item_lists(), asked=texts, order=st.randoms(use_true_random=False))
    def test_the_order_of_adding_does_not_matter(self, items: list[Item], asked: str, order: Any) -> None:
        found = []
        for _ in range(2):
            with self.opened() as store:
                acme = store.tenant("acme")
                for source in dict.fromkeys(item.source for item in items):
                    acme.add([item for item in items if item.source == source])
                found.append(acme.search(make_query(asked)))
            order.shuffle(items)
        assert found[0] == found[1]

    @pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(text[:20]))
    def test_a_question_is_data_and_never_a_command(self, acme: Memory, text: str) -> None:
        acme.add([make_item("taxi hotel"), make_item("salary", source="secret", access=("people",))])
        assert [hit.text for hit in acme.search(make_query(text))] == ["taxi hotel"]

    @few
    @given(text=st.text(max_size=60))
    def test_any_question_can_be_asked(self, text: str) -> None:
        with self.opened() as store:
            acme = store.tenant("acme")
            acme.add([make_item("taxi hotel"), make_item("salary", source="secret", access=("people",))])
            assert [hit.text for hit in acme.search(make_query(text))] == ["taxi hotel"]

    def test_a_question_that_cannot_be_answered_is_refused(self, acme: Memory) -> None:
        acme.add([make_item("taxi")])
        for query in (
            make_query("taxi", k=0),
            make_query("taxi", as_of="today"),
            make_query("taxi", vector=[1.0]),
        ):
            with pytest.raises(ConfigError) as caught:
                acme.search(query)
            assert caught.value.hint

    def test_an_empty_memory_finds_nothing(self, acme: Memory) -> None:
        assert (acme.search(make_query("taxi")), acme.count(), acme.forget(["x"])) == ([], 0, 0)
        assert acme.add([]) == Added(added=0, unchanged=0, replaced=0)

    # Forgetting --------------------------------------------------------------------------------

    @few
    @given(items=item_lists(), data=st.data())
    def test_what_is_forgotten_is_never_found_again(self, items: list[Item], data: Any) -> None:
        gone = data.draw(st.sets(st.sampled_from([item.id for item in items]))) if items else set()
        everybody = ("everyone", "finance", "people")
        with self.opened() as store:
            acme = store.tenant("acme")
            acme.add(items)
            before = acme.search(make_query("taxi", groups=everybody, k=50))
            assert acme.forget([*gone, "unknown"]) == len(gone)
            assert acme.forget(list(gone)) == 0
            assert acme.count() == len(items) - len(gone)
            for text in (item.text for item in items):
                hits = acme.search(make_query(text, groups=everybody, k=50))
                assert {hit.id for hit in hits} == {hit.id for hit in before} - gone
            acme.add(items)
            assert acme.count() == len(items)

    # Snapshots ---------------------------------------------------------------------------------

    @few
    @given(items=item_lists(), asked=texts, groups=groups)
    def test_a_snapshot_opened_and_written_again_is_the_same(
        self, items: list[Item], asked: str, groups: list[str]
    ) -> None:
        query = make_query(asked, groups=groups)
        with self.opened() as store, tempfile.TemporaryDirectory() as folder:
            acme = store.tenant("acme")
            acme.add(items)
            first = write_snapshot([acme], Path(folder) / "a", memory="contract", spec_digest="s")
            snapshot = open_snapshot(Path(folder) / "a", expected_digest=first.logical_digest)
            pinned = snapshot.tenant("acme")
            again = write_snapshot([pinned], Path(folder) / "b", memory="contract", spec_digest="s")
            assert again == first
            for file in (Path(folder) / "a").iterdir():
                assert file.read_bytes() == (Path(folder) / "b" / file.name).read_bytes()
            # Which words count how much is the store's own; who is found is not.
            assert {h.id for h in pinned.search(query)} == {h.id for h in acme.search(query)}
            snapshot.close()

    @few
    @given(data=st.data())
    def test_one_flipped_byte_of_a_snapshot_is_refused(self, data: Any) -> None:
        with self.opened() as store, tempfile.TemporaryDirectory() as folder:
            store.tenant("acme").add([make_item("taxi"), make_item("hotel", source="two")])
            write_snapshot([store.tenant("acme")], Path(folder) / "a", memory="m", spec_digest="s")
            file = Path(folder) / "a" / "acme.parquet"
            raw = bytearray(file.read_bytes())
            raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
            file.write_bytes(raw)
            with pytest.raises(CorruptError, match=r"acme\.parquet") as caught:
                open_snapshot(Path(folder) / "a")
            assert "dvc repro" in caught.value.hint

    # Together ----------------------------------------------------------------------------------

    def test_threads_add_and_search_at_once(self, acme: Memory) -> None:
        def work(n: int) -> int:
            acme.add(circle(40)[n * 10 : n * 10 + 10])
            return len(acme.search(make_query("w1", vector=AXIS, k=50)))

        with ThreadPoolExecutor(8) as pool:
            counts = list(pool.map(work, [0, 1, 2, 3] * 4))
        assert (acme.count(), max(counts)) == (40, 40)
        assert all(count % 10 == 0 and count for count in counts)
