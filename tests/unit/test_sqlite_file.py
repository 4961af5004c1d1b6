"""What the embedded store's file holds, byte for byte, and which files it refuses."""

import asyncio
import dataclasses
import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import ConfigError, NotFoundError
from workbench.memory.cipher import IdCipher
from workbench.memory.parquet import vector_bytes
from workbench.memory.snapshot import open_snapshot, write_snapshot
from workbench.memory.sqlite.store import SQLiteStore
from workbench.ports import Budget, Selector
from workbench.testing.memory_items import circle, make_episode, make_item, make_query, random_vector

KEY, OTHER = IdCipher(key=bytes(64)), IdCipher(key=b"\x01" * 64)
NOW = "2025-06-15T12:00:00Z"
FREE = Budget()


def run(work):
    return asyncio.run(work)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "memory.sqlite"


@pytest.fixture
def store(path):
    store = SQLiteStore(path, name="m", names=KEY)
    yield store
    store.close()


def everything_on_disk(path):
    return b"".join(file.read_bytes() for file in sorted(path.parent.iterdir()))


def test_no_tenant_id_subject_or_parent_stands_in_the_file(store, path):
    acme = store.tenant("canary-tenant")
    parent = make_item("a page", id="canary-parent", subject="canary-subject")
    child = make_episode("a note", id="canary-child", parents=("canary-parent", "canary-elsewhere"))
    run(acme.add([parent]))
    run(acme.remember([child], budget=FREE, now=NOW))
    for what in (Selector(ids=("canary-held",)), Selector(subject="canary-held-too")):
        run(acme.hold(what))
    run(acme.stage([make_item("another page", id="canary-staged")]))
    assert b"a page" in everything_on_disk(path)
    assert b"canary" not in everything_on_disk(path)
    assert run(store.tenants()) == ["canary-tenant"]
    assert [item.id for item in run(acme.items())] == ["canary-child", "canary-parent"]


def test_what_is_forgotten_is_gone_to_the_byte_from_every_version(store, path):
    acme = store.tenant("acme")
    vectors = [random_vector(n) for n in range(4)]
    secret = make_item("xylophone quagmire", source="one", subject="cust-1", vector=vectors[0])
    derived = make_episode("zeppelin of it", parents=(secret.id,), vector=vectors[1])
    staged = make_item("bassoon wanted", source="two", subject="cust-1", vector=vectors[2])
    kept = make_item("taxi to the airport", source="three", vector=vectors[3])
    run(acme.add([secret, kept, *circle(50)]))
    run(acme.remember([derived], budget=FREE, now=NOW))
    run(acme.publish([kept.id, *(item.id for item in circle(50))]))
    run(acme.stage([staged]))
    gone = [b"xylophon", b"quagmir", b"zeppelin", b"bassoon", *map(vector_bytes, vectors[:3])]
    assert all(canary in everything_on_disk(path) for canary in gone)
    assert run(acme.forget(Selector(subject="cust-1"))).items == 3
    left = everything_on_disk(path)
    assert [canary for canary in gone if canary in left] == []
    assert b"taxi" in left
    assert vector_bytes(vectors[3]) in left


def test_what_is_swept_is_gone_to_the_byte(store, path):
    acme = store.tenant("acme")
    run(acme.add([make_item("xylophone", source="one")]))
    run(acme.remember([make_episode("zeppelin", expires=NOW)], budget=FREE, now=NOW))
    run(acme.add([make_item("taxi", source="one")]))
    purged = run(acme.purge(now=NOW, keep_versions=1))
    assert (purged.expired, purged.outdated) == (1, 1)
    left = everything_on_disk(path)
    assert b"xylophon" not in left
    assert b"zeppelin" not in left
    assert b"taxi" in left


def test_a_file_written_with_another_key_is_refused(store, path):
    run(store.tenant("acme").add([make_item("taxi")]))
    with pytest.raises(ConfigError, match="another key") as caught:
        SQLiteStore(path, name="m", names=OTHER)
    assert caught.value.hint
    assert run(store.tenant("acme").count()) == 1


def test_a_file_of_an_older_schema_is_refused_and_left_as_it_is(path):
    old = sqlite3.connect(path)
    old.executescript("PRAGMA application_id = 0x776B626D; PRAGMA user_version = 1; CREATE TABLE items (id);")
    old.close()
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="schema 1") as caught:
        SQLiteStore(path, name="m", names=KEY)
    assert str(caught.value.hint).startswith("mv ")
    assert path.read_bytes() == before


def test_a_version_that_was_never_made_is_not_the_staged_one(store):
    acme = store.tenant("acme")
    run(acme.add([make_item("taxi", source="one")]))
    run(acme.stage([make_item("hotel", source="two")]))
    for version in (0, 2, 99):
        with pytest.raises(NotFoundError, match="not kept"):
            run(acme.search(make_query("hotel", version=version)))
        with pytest.raises(NotFoundError, match="not kept"):
            run(acme.items(version))


WORDS = ("taxi", "hotel", "rope", "badge", "the")
words = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(words, min_size=1, max_size=8), st.lists(words, max_size=8), st.lists(words, max_size=4), words
)
def test_keyword_scores_are_those_of_the_version_alone(first, second, staged, asked):
    """Neither other versions nor staged items weigh in: as in a store that never held them."""

    def items(texts, source):
        return [make_item(text, source=source, position=n) for n, text in enumerate(texts)]

    query = make_query(asked, mode="words", k=20)
    stores = [SQLiteStore(None, name="m", names=KEY) for _ in range(2)]
    one, other = (store.tenant("acme") for store in stores)
    run(one.add(items(first, "page")))
    run(other.add(items(first, "page")))
    if second:
        run(one.add(items(second, "page")))
    run(one.stage(items(staged, "another")))
    assert run(one.search(dataclasses.replace(query, version=1))) == run(other.search(query))
    for store in stores:
        store.close()


def test_words_in_every_item_fill_up_behind_the_rare_ones_in_the_order_of_ids(store):
    acme = store.tenant("acme")
    many = [make_item(f"the clause {n}", source=f"s{n}") for n in range(30)]
    rare = make_item("the sequoia", source="rare")
    run(acme.add([*many, rare]))
    hits = run(acme.search(make_query("the sequoia", mode="words", k=10)))
    assert [hit.id for hit in hits] == [rare.id, *sorted(item.id for item in many)[:9]]


def test_a_snapshot_keeps_the_number_of_the_version_it_was_made_of(store, tmp_path):
    acme = store.tenant("acme")
    run(acme.add([make_item("taxi", source="one")]))
    run(acme.add([make_item("hotel", source="two")]))
    note = make_episode("rope")
    run(acme.remember([note], budget=FREE, now=NOW))
    live = run(acme.search(make_query("taxi hotel rope")))
    folder = tmp_path / "snapshot"
    manifest = run(write_snapshot([acme], folder, memory="m", spec_digest="s"))
    assert manifest.tenants["acme"].version == 2
    snapshot = open_snapshot(folder, expected_digest=manifest.logical_digest)
    assert run(snapshot.tenant("acme").search(make_query("taxi hotel rope"))) == live
    assert {hit.kind: hit.memory_version for hit in live} == {"document": 2, "episode": 0}
    earlier = run(write_snapshot([acme], folder, memory="m", spec_digest="s", version=1))
    assert (earlier.tenants["acme"].rows, earlier.tenants["acme"].version) == (2, 1)
    snapshot.close()


def test_an_opened_snapshot_refuses_what_would_change_it_and_reads_as_before(store, tmp_path):
    item, note = make_item("taxi", source="one"), make_episode("rope")
    acme = store.tenant("acme")
    run(acme.add([item]))
    run(acme.remember([note], budget=FREE, now=NOW))
    run(write_snapshot([acme], tmp_path / "snapshot", memory="m", spec_digest="s"))
    snapshot = open_snapshot(tmp_path / "snapshot")
    pinned = snapshot.tenant("acme")
    other = make_item("hotel", source="one")
    for change in (
        pinned.add([other]), pinned.stage([other]), pinned.publish([]),
        pinned.remember([make_episode("badge")], budget=FREE, now=NOW),
        pinned.forget(Selector(ids=(item.id,))), pinned.hold(Selector(source="one")),
    ):  # fmt: skip
        with pytest.raises(ConfigError) as caught:
            run(change)
        assert caught.value.hint
    assert run(pinned.add([item])).version == run(pinned.publish([item.id])).version == 1
    assert run(pinned.stage([item])) == run(pinned.release(Selector(source="one"))) == 0
    assert run(pinned.forget(Selector(ids=("nowhere",)))).items == 0
    assert run(pinned.forget(Selector(ids=(item.id,)), dry_run=True)).ids == (item.id,)
    assert run(pinned.items()) == run(acme.items())
    assert run(pinned.stats(now=NOW)).store == "snapshot"
    snapshot.store.tenant("acme").forget_now(Selector(ids=(item.id,)))
    assert [left.id for left in run(pinned.items())] == [note.id]
    snapshot.close()


def test_a_snapshot_of_an_older_format_is_refused(store, tmp_path):
    run(store.tenant("acme").add([make_item("taxi")]))
    folder = tmp_path / "snapshot"
    run(write_snapshot([store.tenant("acme")], folder, memory="m", spec_digest="s"))
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format": 2', '"format": 1'))
    with pytest.raises(ConfigError, match="format 1") as caught:
        open_snapshot(folder)
    assert "dvc" in caught.value.hint


def test_a_folder_that_is_no_snapshot_is_never_replaced_by_one(tmp_path):
    from workbench import _sync
    from workbench.errors import ConfigError
    from workbench.memory.snapshot import write_snapshot

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("keep me")
    with pytest.raises(ConfigError, match="is no snapshot"):
        _sync.run(write_snapshot([], tmp_path / "mine", memory="m", spec_digest="s"))
    assert (tmp_path / "mine" / "letter.txt").read_text() == "keep me"
    _sync.run(write_snapshot([], tmp_path / "new", memory="m", spec_digest="s"))
    _sync.run(write_snapshot([], tmp_path / "new", memory="m", spec_digest="s"))
