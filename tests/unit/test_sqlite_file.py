"""What the embedded store's file holds, byte for byte, and which files it refuses."""

import asyncio
import dataclasses
import functools
import json
import random
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
    store = SQLiteStore(path, name="m")
    yield store
    store.close()


def everything_on_disk(path):
    return b"".join(file.read_bytes() for file in sorted(path.parent.iterdir()))


def test_no_byte_of_a_forgotten_item_stays_in_the_file(store, path):
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


def test_no_byte_of_a_purged_item_stays_in_the_file(store, path):
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


def test_no_byte_moved_between_pages_stays_in_the_file(store, path):
    """SQLite copies rows to other pages as a table grows; the copies must go as well."""
    acme, drawn = store.tenant("acme"), random.Random(0)
    items = [
        make_item(
            f"text {n} " + "x" * drawn.randint(0, 300),
            id=f"id-{drawn.random():.12f}-{n}", subject=f"<subject-{n % 60}-{'y' * (n % 60)}>",
            source=f"page-{n % 37}",
        )
        for n in range(600)
    ]  # fmt: skip
    drawn.shuffle(items)
    for start in range(0, 600, 150):
        run(acme.stage(items[start : start + 150]))
    run(acme.publish([item.id for item in items]))
    subjects = sorted({item.subject for item in items})[:20]
    gone = [name for subject in subjects for name in run(acme.forget(Selector(subject=subject))).ids]
    left = everything_on_disk(path)
    assert [name for name in (*subjects, *gone) if name.encode() in left] == []
    assert len(gone) == 200


def of_schema_2(path, key):
    """Turn a closed file into what the former schema held: encrypted tenants, ids, subjects, parents."""
    db = sqlite3.connect(path)
    db.execute("ALTER TABLE tenants ADD COLUMN sealed TEXT NOT NULL DEFAULT ''")
    db.execute("CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL)")
    db.execute("INSERT INTO settings VALUES ('names', ?)", (key.fingerprint,))
    for number, tenant in db.execute("SELECT key, tenant FROM tenants").fetchall():
        hide = functools.partial(key.encrypt, tenant)
        named = (key.tenant(tenant), key.encrypt("", tenant), number)
        db.execute("UPDATE tenants SET tenant = ?, sealed = ? WHERE key = ?", named)
        rows = db.execute("SELECT number, id, subject, parents FROM items WHERE tenant = ?", (number,))
        for row, item, subject, parents in rows.fetchall():
            hidden = json.dumps([hide(parent) for parent in json.loads(parents)])
            values = (hide(item), hide(subject), hidden, row)
            db.execute("UPDATE items SET id = ?, subject = ?, parents = ? WHERE number = ?", values)
        holds = db.execute("SELECT rowid, what, name FROM holds WHERE tenant = ?", (number,)).fetchall()
        for row, what, name in holds:
            hidden = name if what == "source" else hide(name)
            db.execute("UPDATE holds SET name = ? WHERE rowid = ?", (hidden, row))
    db.execute("PRAGMA user_version = 2")
    db.commit()
    db.close()


@pytest.fixture
def former(path):
    """A file of schema 2, what its tenant held, and the items that the holds cover."""
    store = SQLiteStore(path, name="m")
    acme = store.tenant("acme")
    parent = make_item("a page", source="one", subject="cust-1")
    children = [make_episode(f"note {n}", parents=(parent.id,), subject=f"cust-{n}") for n in range(5)]
    run(acme.add([parent]))
    run(acme.add([parent, make_item("another page", source="two")]))
    run(acme.remember(children, budget=FREE, now=NOW))
    for what in (Selector(subject="cust-2"), Selector(ids=(children[3].id, children[4].id))):
        run(acme.hold(what))
    expected = (run(acme.items()), run(acme.versions()), run(acme.search(make_query("note page", k=9))))
    store.close()
    of_schema_2(path, KEY)
    return path, expected, children


def test_a_file_of_the_former_schema_is_decrypted_once_with_its_versions_and_holds(former):
    path, expected, children = former
    store = SQLiteStore(path, name="m", cipher=lambda: KEY)
    acme = store.tenant("acme")
    found = run(acme.search(make_query("note page", k=9)))
    assert (run(acme.items()), run(acme.versions()), found) == expected
    assert run(store.tenants()) == ["acme"]
    assert run(acme.forget(Selector(ids=tuple(child.id for child in children)))).held == 3
    assert run(acme.release(Selector(subject="cust-2"))) == 1
    assert run(acme.release(Selector(ids=(children[4].id, children[3].id)))) == 2
    store.close()
    again = SQLiteStore(path, name="m")
    assert run(again.tenant("acme").stats(now=NOW)).held == 0
    again.close()


def test_a_file_of_the_former_schema_and_another_key_is_refused_and_left_as_it_is(former):
    path, expected, _ = former
    with pytest.raises(ConfigError, match="another key") as caught:
        SQLiteStore(path, name="m", cipher=lambda: OTHER)
    assert caught.value.hint
    store = SQLiteStore(path, name="m", cipher=lambda: KEY)
    assert run(store.tenant("acme").items()) == expected[0]
    store.close()


@pytest.mark.parametrize("version", [1, 2])
def test_a_file_of_an_older_schema_is_refused_without_a_key_and_left_as_it_is(path, version):
    old = sqlite3.connect(path)
    old.executescript(
        f"PRAGMA application_id = 0x776B626D; PRAGMA user_version = {version}; CREATE TABLE items (id);"
    )
    old.close()
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=f"schema {version}") as caught:
        SQLiteStore(path, name="m")
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
    stores = [SQLiteStore(None, name="m") for _ in range(2)]
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


def test_an_opened_snapshot_is_read_only(store, tmp_path):
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
    with pytest.raises(ConfigError, match="is neither a snapshot"):
        _sync.run(write_snapshot([], tmp_path / "mine", memory="m", spec_digest="s"))
    assert (tmp_path / "mine" / "letter.txt").read_text() == "keep me"
    _sync.run(write_snapshot([], tmp_path / "new", memory="m", spec_digest="s"))
    _sync.run(write_snapshot([], tmp_path / "new", memory="m", spec_digest="s"))
