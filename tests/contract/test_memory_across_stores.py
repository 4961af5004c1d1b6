"""What SQLite and a real Weaviate give alike: one snapshot, exact hits, the few visible of many."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from weaviate_servers import open_store

from workbench import _sync
from workbench.errors import NotFoundError
from workbench.memory import rules
from workbench.memory.names import Names
from workbench.memory.snapshot import open_snapshot, read_manifest, write_snapshot
from workbench.memory.sqlite import SQLiteStore
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
    texts,
    unit_vector,
)
from workbench.testing.sync_memory import SyncStore

pytestmark = [pytest.mark.usefixtures("weaviate"), pytest.mark.timeout(240)]
KEY = Names(key=b"s" * 64)
FREE = Budget()
days = st.sampled_from(["2125-06-13", "2125-06-14", "2125-06-15", "2125-06-16", "2126-01-02"])
vectors = st.lists(st.integers(-3, 3), min_size=16, max_size=16).filter(any).map(unit_vector)


def sqlite_store(path):
    return SQLiteStore(path, name="contract", names=KEY)


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


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
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


def few_of(n, visible):
    """`n` items on a circle, of which people see those at these places alone."""
    return [
        dataclasses.replace(item, access=("people",) if place in visible else ("others",))
        for place, item in enumerate(circle(n))
    ]


def finds_all_of(memory, items, visible, *, exact):
    query = make_query("w1", vector=AXIS, groups=("people",), k=len(visible) + 5, mode="vector", exact=exact)
    wanted = [(-round(items[place].vector[0], rules.DECIMALS), items[place].id) for place in visible]
    return ids_of(memory.search(query)) == [one for _, one in sorted(wanted)]


@pytest.mark.slow
def test_the_few_visible_of_5000_are_all_found_in_the_same_order_on_both():
    visible = {1, 2, 700, 701, 2499, 4990, 4999}
    items = few_of(5000, visible)
    with both() as (memories, _):
        for memory in memories:
            memory.add(items, now=NOW)
            assert finds_all_of(memory, items, visible, exact=True)
            assert finds_all_of(memory, items, visible, exact=False)
            assert memory.search(make_query("w1 w2", groups=("nobody",), k=20)) == []


@pytest.mark.slow
def test_the_few_visible_of_100000_are_all_found_in_exact_order_in_the_embedded_store(tmp_path):
    visible = {0, 3, 50_000, 77_777, 99_998, 99_999}
    items = few_of(100_000, visible)
    store = SyncStore(inner=sqlite_store(tmp_path / "memory"))
    memory = store.tenant("acme")
    memory.add(items, now=NOW)
    for exact in (True, False):
        assert finds_all_of(memory, items, visible, exact=exact)
    store.close()


@pytest.mark.parametrize("opens", [sqlite_store, open_store], ids=["sqlite", "weaviate"])
def test_a_version_that_another_handle_put_in_force_can_be_asked_for_at_once(opens, tmp_path):
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
    writer.sweep(now=NOW, keep_versions=1)
    with pytest.raises(NotFoundError, match="version 1"):
        reader.search(make_query("taxi", version=1))
    assert writer.forget(Selector(source="page")).items == 1
    assert reader.search(make_query("taxi", version=2)) == []
