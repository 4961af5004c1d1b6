"""What SQLite and a real Weaviate give alike: one snapshot, exact hits, the few visible of many."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sizes import MANY, SOAK
from weaviate_servers import open_store

from workbench import _sync
from workbench.errors import NotFoundError
from workbench.memory import ranking
from workbench.memory.cipher import IdCipher
from workbench.memory.snapshot import open_snapshot, read_manifest, write_snapshot
from workbench.memory.sqlite.store import SQLiteStore
from workbench.memory.weaviate import versions
from workbench.memory.weaviate.memory import WeaviateMemory
from workbench.ports import Budget, Selector
from workbench.testing.memory_items import (
    AXIS,
    NOW,
    circle,
    contents,
    episode_lists,
    groups,
    ids_of,
    item_lists,
    levels,
    make_item,
    make_query,
    random_vector,
    texts,
    unit_vector,
)
from workbench.testing.sync_memory import SyncStore

pytestmark = [pytest.mark.usefixtures("weaviate"), pytest.mark.timeout(240)]
KEY = IdCipher(key=b"s" * 64)
FREE = Budget()
days = st.sampled_from(["2125-06-13", "2125-06-14", "2125-06-15", "2125-06-16", "2126-01-02"])
vectors = st.lists(st.integers(-3, 3), min_size=16, max_size=16).filter(any).map(unit_vector)


def sqlite_store(path):
    return SQLiteStore(path, name="contract")


@contextmanager
def both():
    """An empty memory in SQLite, one on the server, and a folder."""
    with tempfile.TemporaryDirectory() as folder:
        opening = {"embedded": sqlite_store, "server": open_store}
        stores = [SyncStore(inner=opens(Path(folder) / name)) for name, opens in opening.items()]
        try:
            yield [store.tenant("acme") for store in stores], Path(folder)
        finally:
            for store in stores:
                store.close()


def restore(memory, folder):
    """Put all that a snapshot holds of the tenant into an empty memory."""
    snapshot = open_snapshot(folder)
    items = _sync.run(snapshot.tenant("acme").items())
    _sync.run(snapshot.aclose())
    documents = [item for item in items if item.kind == "document"]
    memory.stage(documents)
    memory.publish(ids_of(documents), now=NOW)
    memory.remember([item for item in items if item.kind != "document"], budget=FREE, now=NOW)


@settings(max_examples=6 if SOAK else 3, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    documents=item_lists(most=12),
    episodes=episode_lists(most=5),
    asked=st.lists(
        st.fixed_dictionaries(
            {"text": texts, "vector": vectors, "groups": groups, "clearance": levels, "as_of": days},
            optional={"now": st.just(NOW), "k": st.integers(1, 20), "sources": st.just(["one", "two"])},
        ),
        min_size=4,
        max_size=8,
    ),
)
def test_one_snapshot_in_both_stores_has_one_digest_and_exact_hits_in_one_order(documents, episodes, asked):
    with both() as ((embedded, server), folder):
        with tempfile.TemporaryDirectory() as first:
            made = SyncStore(inner=sqlite_store(Path(first) / "memory"))
            made.tenant("acme").add(documents, now=NOW)
            made.tenant("acme").remember(episodes, budget=FREE, now=NOW)
            views = [made.inner.tenant("acme")]
            _sync.run(write_snapshot(views, folder / "snap", memory="contract", spec_digest="d"))
            made.close()
        manifest = read_manifest(folder / "snap")
        for memory in (embedded, server):
            restore(memory, folder / "snap")
            assert contents(memory) == manifest.tenants["acme"].logical_digest
            view = memory.inner
            again = _sync.run(write_snapshot([view], folder / "back", memory="contract", spec_digest="d"))
            assert again.tenants["acme"].logical_digest == manifest.tenants["acme"].logical_digest
        for one in asked:
            query = make_query(mode="vector", exact=True, **one)
            found = [memory.search(query) for memory in (embedded, server)]
            assert found[0] == found[1]


def seen_by_people(items, places):
    """The items, of which people see those at these places alone."""
    return [
        dataclasses.replace(item, access=("people",) if place in places else ("others",))
        for place, item in enumerate(items)
    ]


def search(memory, axis, k, *, exact):
    return ids_of(
        memory.search(make_query("", vector=axis, groups=("people",), k=k, mode="vector", exact=exact))
    )


def in_order(items, axis):
    """Ids of what people see, nearest first, and by id where that is the same to four decimals."""

    def order(item):
        return (
            -round(math.fsum(a * b for a, b in zip(item.vector, axis, strict=True)), ranking.DECIMALS),
            item.id,
        )

    return ids_of(sorted((item for item in items if item.access == ("people",)), key=order))


def filled(memory, items):
    """As `add` leaves it; a server is spared what `add` reads before and after, which takes longer."""
    if not isinstance(memory.inner, WeaviateMemory):
        memory.add(items, now=NOW)
        return
    memory.add(items[:1], now=NOW)

    async def write():
        record = await memory.inner.record()
        await versions.write(memory.inner, record, items[1:], since=record.version)

    _sync.run(write())


light = functools.partial(open_store, name="many", ef_construction=8, max_connections=4)


@pytest.mark.slow
@pytest.mark.parametrize("opens", [sqlite_store, light], ids=["sqlite", "weaviate"])
def test_few_visible_items_of_many_are_all_found_in_order(opens, tmp_path):
    places = {0, 3, MANY // 2, MANY * 7 // 9, MANY - 2, MANY - 1}
    vectors = [item.vector for item in circle(MANY)]
    items = [make_item("taxi", position=n, vector=vector) for n, vector in enumerate(vectors)]
    items = seen_by_people(items, places)
    with contextlib.closing(SyncStore(inner=opens(tmp_path / "memory"))) as store:
        memory = store.tenant("acme")
        filled(memory, items)
        assert memory.count() == len(items)
        for exact in (True, False):
            assert search(memory, AXIS, 50, exact=exact) == in_order(items, AXIS)
        assert memory.search(make_query("taxi", groups=("nobody",), k=20)) == []


graph = functools.partial(open_store, name="graph", flat_cutoff=300)


@pytest.mark.slow
@pytest.mark.parametrize("opens", [sqlite_store, graph], ids=["sqlite", "weaviate"])
def test_the_nearest_are_found_beyond_the_cutoff_of_exact_search(opens, tmp_path):
    items = [make_item("taxi", position=n, vector=random_vector(n)) for n in range(4000)]
    items = seen_by_people(items, set(range(0, 4000, 4)))
    with contextlib.closing(SyncStore(inner=opens(tmp_path / "memory"))) as store:
        memory = store.tenant("acme")
        memory.add(items, now=NOW)
        for seed in range(5000, 5040):
            axis = random_vector(seed)
            assert search(memory, axis, 10, exact=False) == in_order(items, axis)[:10]
        assert search(memory, axis, 10, exact=True) == in_order(items, axis)[:10]


@pytest.mark.parametrize("opens", [sqlite_store, open_store], ids=["sqlite", "weaviate"])
def test_a_version_published_by_another_handle_is_found_at_once(opens, tmp_path):
    with contextlib.ExitStack() as opened:
        stores = [SyncStore(inner=opens(tmp_path / "memory")) for _ in range(2)]
        for store in stores:
            opened.callback(store.close)
        reader, writer = (store.tenant("acme") for store in stores)
        asks_for_versions(reader, writer)


def asks_for_versions(reader, writer):
    writer.add([make_item("taxi")], now=NOW)
    assert [hit.memory_version for hit in reader.search(make_query("taxi"))] == [1]
    writer.add([make_item("taxi by night")], now=NOW)
    (hit,) = reader.search(make_query("taxi", version=2))
    assert hit.text == "taxi by night" and hit.memory_version == 2
    (hit,) = reader.search(make_query("taxi", version=1))
    assert hit.text == "taxi" and hit.memory_version == 1
    writer.purge(now=NOW, keep_versions=1)
    with pytest.raises(NotFoundError, match="version 1"):
        reader.search(make_query("taxi", version=1))
    assert writer.forget(Selector(source="page")).items == 1
    assert reader.search(make_query("taxi", version=2)) == []
