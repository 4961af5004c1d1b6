"""What is the Weaviate store's own, on a real server: schema, alias, idle tenants, expiry, exactness."""

import datetime as dt
import functools
import socket
import time
import uuid
from dataclasses import replace
from unittest.mock import Mock

import pytest
from aiohttp import web
from endpoint import endpoint
from weaviate_servers import QUICK_TTL, connection, open_store

from workbench import _sync
from workbench.config import MemoryServer
from workbench.errors import ConfigError, CorruptError, NotFoundError, UnavailableError
from workbench.memory.cipher import IdCipher
from workbench.memory.locks import Locks
from workbench.memory.weaviate import Address, IndexSettings, WeaviateStore, objects, schema, versions
from workbench.memory.weaviate import open_store as open_named
from workbench.memory.weaviate.connection import Connection
from workbench.memory.weaviate.space import TenantSpace
from workbench.memory.weaviate.table import TenantTable
from workbench.memory.weaviate.tenant_record import CONDITIONS
from workbench.ports import Budget, Selector
from workbench.testing.memory_items import (
    AXIS,
    EVERYONE,
    NOW,
    circle,
    contents,
    ids_of,
    make_episode,
    make_item,
    make_query,
)
from workbench.testing.sync_memory import SyncStore

NAMES = IdCipher(key=b"s" * 64)
SERVER = QUICK_TTL


@pytest.fixture
def opened(weaviate_address, tmp_path):
    """Opens stores of a memory of this test's own, and closes them."""
    stores = []

    def open_one(*, name="own", names=NAMES, address=weaviate_address, kind=WeaviateStore, **more):
        part = tmp_path.name.replace("_", "-")
        stores.append(kind(address, name=name, part=part, names=names, locks=tmp_path / "locks", **more))
        return SyncStore(inner=stores[-1])

    yield open_one
    for store in stores:
        _sync.run(store.aclose())
    for alias in {store.alias for store in stores}:
        _sync.run(connection(weaviate_address).ask(functools.partial(without, alias)))


async def without(alias, client):
    """A server looks after each collection that it has many times a second."""
    await client.alias.delete(alias_name=alias)
    await client.collections.delete(
        [f"{alias}_{end}" for end in (f"c{schema.SCHEMA}", f"s{schema.SCHEMA}", "copy")]
    )


def asked(store, request):
    return _sync.run(store.inner.connection.ask(request))


def test_no_name_of_a_tenant_an_item_or_a_subject_is_on_the_server(opened):
    store = opened()
    store.tenant("acme").add([make_item("taxi", subject="cust-4711")])
    inner = store.inner
    names = asked(store, lambda client: client.collections.use(inner.records).tenants.get())
    rows = _sync.run(inner.tenant("acme").table.rows(vectors=True))
    said = f"{list(names)} {[row.properties for row in rows]} {inner.tenant('acme').table.tenant}"
    for name in ("acme", "cust-4711", make_item("taxi").id):
        assert name not in said


def test_another_key_another_index_and_another_schema_are_refused(opened):
    opened().tenant("acme").add(circle(3))
    with pytest.raises(ConfigError, match="another memory, schema or key"):
        opened(names=IdCipher(key=b"o" * 64)).tenant("acme").count()
    with pytest.raises(ConfigError, match="maxConnections"):
        opened(index=IndexSettings(max_connections=8)).tenant("acme").count()


def test_settings_of_searches_follow_the_spec(opened):
    first = opened()
    first.tenant("acme").add(circle(3))
    again = opened(index=IndexSettings(ef=77, flat_cutoff=12))
    assert again.tenant("acme").count() == 3
    config = asked(again, lambda client: client.collections.use(again.inner.alias).config.get()).to_dict()
    index = config["vectorIndexConfig"]
    assert (index["ef"], index["flatSearchCutoff"]) == (77, 12)


def test_a_row_that_was_written_again_is_still_found_by_its_words(opened):
    acme = opened().tenant("acme")
    acme.add([make_item("taxi")])
    acme.add([make_item("hotel")])
    assert [hit.text for hit in acme.search(make_query("taxi", mode="words", version=1))] == ["taxi"]
    assert acme.search(make_query("taxi", mode="words")) == []


@pytest.mark.parametrize("mode", ["hybrid", "vector", "words"])
@pytest.mark.parametrize("exact", [False, True])
def test_an_item_with_two_rows_during_a_repair_is_found_once(opened, mode, exact):
    acme = opened().tenant("acme")
    acme.add([*circle(8), *(make_item("taxi", source=f"t{n}") for n in range(8))])
    query = make_query("taxi w3", vector=AXIS, mode=mode, exact=exact, k=5)
    before = acme.search(query)
    table = acme.inner.table
    rows = _sync.run(table.by_uuid([row.uuid for row in _sync.run(table.rows())], vectors=True))
    again = [{name: value for name, value in row.properties.items() if value is not None} for row in rows]
    _sync.run(
        table.put(replace(row, uuid=uuid.uuid4(), properties=p) for row, p in zip(rows, again, strict=True))
    )
    assert len(before) == 5
    assert ids_of(acme.search(query)) == ids_of(before)


def test_deactivated_tenants_are_activated_by_the_next_call(opened):
    store = opened()
    for name in ("acme", "globex"):
        store.tenant(name).add(circle(4))
    assert _sync.run(store.inner.deactivate(["acme"])) == 1
    found = asked(store, lambda client: client.collections.use(store.inner.records).tenants.get())
    assert found[NAMES.tenant("acme")].activity_status.value == "INACTIVE"
    assert _sync.run(store.inner.deactivate()) == 1
    assert store.tenants() == ["acme", "globex"]
    assert len(opened().tenant("acme").search(make_query("w1"))) == 4


def test_a_collection_that_the_alias_points_to_is_not_deleted(opened):
    store = opened()
    store.tenant("acme").add(circle(2))
    target = asked(store, lambda client: client.alias.get(alias_name=store.inner.alias)).collection
    with pytest.raises(ConfigError, match="points to"):
        _sync.run(store.inner.drop(target))
    assert store.tenant("acme").count() == 2


def test_the_alias_moves_all_tenants_at_once_and_only_to_a_collection_that_holds_them(opened):
    store = opened()
    store.tenant("acme").add(circle(3))
    inner, about = store.inner, schema.description(store.inner._full_name, NAMES)
    wanted = schema.items_collection(f"{inner.alias}_copy", about, inner.index)
    asked(store, lambda client: client.collections.create_from_dict(wanted))
    with pytest.raises(ConfigError, match="lacks 1 of 1"):
        _sync.run(inner.point_all(wanted["class"]))
    with pytest.raises(NotFoundError) as caught:
        _sync.run(inner.point_all("Nowhere"))
    assert "copy all tenants" in caught.value.hint
    encrypted = NAMES.tenant("acme")
    asked(store, lambda client: client.collections.use(wanted["class"]).tenants.create([encrypted]))
    copy = TenantTable(connection=inner.connection, collection=wanted["class"], tenant=encrypted)
    rows = _sync.run(inner.tenant("acme").table.rows(properties=schema.WHOLE, vectors=True))
    clean = [
        replace(row, properties={k: v for k, v in row.properties.items() if v is not None}) for row in rows
    ]
    _sync.run(copy.put(clean))
    before, old = contents(store.tenant("acme")), inner._items
    _sync.run(inner.point_all(wanted["class"]))
    assert contents(store.tenant("acme")) == before
    _sync.run(inner.drop(old))
    assert len(opened().tenant("acme").search(make_query("w1"))) == 3


def test_a_record_whose_rows_are_gone_is_an_error_and_never_an_empty_answer(opened):
    store = opened()
    acme = store.tenant("acme")
    acme.add(circle(2))
    encrypted = NAMES.tenant("acme")
    asked(store, lambda client: client.collections.use(store.inner._items).tenants.remove([encrypted]))
    for ask in (lambda: acme.search(make_query("w1")), acme.count, acme.items):
        with pytest.raises(UnavailableError, match="lost the tenant"):
            ask()


def test_a_memory_whose_items_are_lost_says_how_to_restore_it(opened):
    store = opened()
    store.tenant("acme").add(circle(2))
    asked(store, lambda client: client.collections.delete(store.inner._items))
    again = opened().tenant("acme")
    for ask in (again.count, lambda: again.search(make_query("w1")), lambda: again.stage(circle(3))):
        with pytest.raises(NotFoundError, match="has no collection") as caught:
            ask()
        assert "memory restore" in caught.value.hint


def test_rows_without_a_record_are_an_error_and_never_a_new_tenant(opened):
    acme, globex = (opened().tenant(name) for name in ("acme", "globex"))
    acme.add(circle(2))
    _sync.run(opened().inner.make_tenant(NAMES.tenant("globex")))
    assert globex.count() == 0, "a writer killed before it wrote anything leaves a tenant without rows"
    assert globex.add(circle(3)).version == 1
    record = _sync.run(acme.inner.records.rows(properties=["record"]))
    _sync.run(acme.inner.records.remove([row.uuid for row in record]))
    again = opened().tenant("acme")
    for ask in (lambda: again.search(make_query("w1")), again.items, lambda: again.add(circle(4))):
        with pytest.raises(CorruptError, match="the record of its versions is lost") as caught:
            ask()
    assert "memory restore" in caught.value.hint
    assert len(_sync.run(acme.inner.table.rows())) == 2


@pytest.mark.parametrize("verb", ["purge", "forget", "hold"])
def test_a_slow_writer_never_replaces_a_later_version(opened, tmp_path, monkeypatch, verb):
    here, there = opened(), opened()
    there.inner.locks = Locks(tmp_path / "another machine")
    slow, write = here.tenant("acme"), TenantSpace.write_record
    what = Selector(source=circle(1)[0].source)
    run = {
        "purge": lambda: slow.purge(now=NOW, keep_versions=1),
        "forget": lambda: slow.forget(what),
        "hold": lambda: slow.hold(what),
    }[verb]
    for number in (2, 3):
        slow.add(circle(number))

    async def overtaken(space, record):
        if space.store is here.inner:
            await there.inner.tenant("acme").add(circle(9))
        await write(space, record)

    with monkeypatch.context() as patch:
        patch.setattr(TenantSpace, "write_record", overtaken)
        with pytest.raises(UnavailableError, match="another writer changed this tenant") as caught:
            run()
    assert "run the same command again" in caught.value.hint
    run()
    assert slow.versions()[-1].number == there.tenant("acme").versions()[-1].number == 3
    assert ids_of(slow.items()) == ids_of(there.tenant("acme").items())
    assert slow.count() >= 8, "what the other machine added"


@pytest.mark.parametrize("verb", ["purge", "forget"])
def test_versions_say_what_is_left_also_when_rows_went_uncounted(opened, monkeypatch, verb):
    (acme, globex), what = map(opened().tenant, ("acme", "globex")), Selector(source="s0")
    acme.add(circle(3))
    acme.remember([make_episode("said")], budget=Budget(), now=NOW)
    with monkeypatch.context() as patch:
        patch.setattr(versions, "recount", Mock(side_effect=InterruptedError))
        with pytest.raises(InterruptedError):
            acme.forget(what)
    acme.forget(what, dry_run=True)
    assert acme.versions()[0].items == 3
    again = {"purge": lambda: acme.purge(now=NOW, keep_versions=9), "forget": lambda: acme.forget(what)}[verb]
    again()
    globex.add(circle(3)[1:])
    left, written = acme.versions()[0], _sync.run(acme.inner.record()).writes
    assert (left.items, left.content) == (2, globex.versions()[0].content)
    again()
    assert _sync.run(acme.inner.record()).writes == written


def test_a_record_of_an_earlier_workbench_names_all_conditions_before_a_row_is_written(opened, monkeypatch):
    acme = opened().tenant("acme")
    acme.add(circle(1))
    space = acme.inner
    record = _sync.run(space.record())
    _sync.run(space.save(record, conditions=("expires",)))
    with monkeypatch.context() as patch:
        patch.setattr(TenantTable, "put", refusing_rows(TenantTable.put))
        with pytest.raises(InterruptedError):
            acme.remember([make_episode("said")], budget=Budget(), now=NOW)
    assert _sync.run(space.record()).conditions == CONDITIONS


def refusing_rows(put):
    """Writes records and no item."""

    async def put_records(table, rows):
        if table.collection.endswith("_c1"):
            return await put(table, rows)
        raise InterruptedError

    return put_records


def test_another_embedding_may_come_once_all_is_forgotten(opened):
    acme = opened().tenant("acme")
    acme.add(circle(2))
    short = make_item("short", vector=(1.0, 0.0), embedding="other")
    with pytest.raises(ConfigError, match="never mix"):
        acme.add([short])
    acme.forget(Selector(ids=tuple(ids_of(circle(2)))))
    acme.add([short])
    assert [hit.id for hit in acme.search(make_query("short", vector=(1.0, 0.0)))] == [short.id]


def test_exact_search_is_in_the_order_of_inner_products_also_where_the_index_would_approximate(opened):
    store = opened(index=IndexSettings(flat_cutoff=5))
    items = circle(60)
    store.tenant("acme").add(items)
    query = make_query("", vector=AXIS, mode="vector", exact=True, k=20, candidates=20)
    assert ids_of(store.tenant("acme").search(query)) == ids_of(items[:20])


def test_ties_at_the_cut_are_broken_by_id_however_many_there_are(opened):
    same = [make_item(f"same {n}", position=n, vector=AXIS) for n in range(150)]
    store = opened()
    store.tenant("acme").add(same)
    query = make_query("", vector=AXIS, mode="vector", exact=True, k=5, candidates=5)
    assert ids_of(store.tenant("acme").search(query)) == sorted(ids_of(same))[:5]


def test_the_servers_clock_removes_what_has_expired_and_nothing_that_is_held(opened, weaviate):
    def instant(seconds):
        return (dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")

    acme = opened().tenant("acme")
    ends = instant(3)
    held = make_episode("held", subject="cust-1", expires=ends)
    items = [held, make_episode("short", position=1, expires=ends), make_episode("stays", position=2)]
    acme.remember(items, budget=Budget(), now=instant(0))
    assert acme.hold(Selector(subject="cust-1")) == 1
    until = time.monotonic() + 30
    while acme.count() == 3 and time.monotonic() < until:
        time.sleep(0.2)
    assert {item.text for item in acme.items()} == {"held", "stays"}
    day = instant(0)[:10]
    assert [hit.text for hit in acme.search(make_query("held", as_of=day, now=instant(0)))] == ["stays"]
    assert acme.release(Selector(subject="cust-1")) == 1
    while acme.count() == 2 and time.monotonic() < until:
        time.sleep(0.2)
    assert {item.text for item in acme.items()} == {"stays"}


def test_large_batches_go_in_pieces_and_come_back_whole(opened):
    items = [make_item("x" * 20_000, source=f"s{n}", position=n) for n in range(700)]
    acme = opened().tenant("acme")
    assert acme.stage(items) == 700
    acme.publish(ids_of(items))
    assert ids_of(acme.items()) == sorted(ids_of(items))


def test_words_are_stemmed_by_the_insertion_and_away_from_the_loop(opened, monkeypatch):
    asked, stems = [], objects.stems

    def seen(texts):
        asked.append((len(texts), _sync.on_background_loop()))
        return stems(texts)

    monkeypatch.setattr(objects, "stems", seen)
    items = circle(600)
    acme = opened().tenant("acme")
    acme.add(items)
    assert asked == [(128, False)] * 4 + [(88, False)]
    assert [hit.text for hit in acme.search(make_query(items[-1].text, mode="words", k=1))] == [
        items[-1].text
    ]


@pytest.mark.parametrize("verb", ["count", "items", "versions", "search"])
def test_a_memory_that_was_never_written_is_empty(opened, verb):
    acme = opened(name="never").tenant("acme")
    assert not (acme.search(make_query("w1")) if verb == "search" else getattr(acme, verb)())


def test_an_address_without_a_server_is_an_error_with_a_command(free_port, opened):
    store = opened(address=Address(url=f"http://127.0.0.1:{free_port}"))
    began = time.monotonic()
    with pytest.raises(UnavailableError, match="refused") as caught:
        store.tenant("acme").search(make_query("w1"))
    assert "make weaviate" in caught.value.hint
    assert time.monotonic() - began < 5


def test_a_closed_grpc_port_is_told_apart_from_a_server_that_is_down(weaviate_address, free_port, opened):
    store = opened(address=replace(weaviate_address, grpc_port=free_port))
    with pytest.raises(UnavailableError, match=f"nothing answers gRPC on port {free_port}"):
        store.tenant("acme").count()


def test_a_server_that_accepts_and_never_answers_is_given_up(opened):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        store = opened(address=Address(url=f"http://127.0.0.1:{silent.getsockname()[1]}"))
        store.inner.connection = Connection(store.inner.address, deadline_s=1.0, start_s=1.0)
        with pytest.raises(UnavailableError):
            store.tenant("acme").count()
        _sync.run(store.inner.connection.aclose())


def test_a_server_that_is_too_old_is_told_with_what_to_do(opened):
    async def old(request):
        return web.json_response({"hostname": "http://[::]:8080", "modules": {}, "version": "1.35.9"})

    with endpoint(old) as url:
        store = opened(address=Address(url=url.removesuffix("/v1")))
        with pytest.raises(ConfigError, match=r"is version 1\.35\.9; 1\.36 or later is needed") as caught:
            store.tenant("acme").count()
        assert "make weaviate" in caught.value.hint
        with pytest.raises(ConfigError, match="is needed"):
            store.tenant("acme").add(circle(1))


def test_two_processes_may_create_one_memory_at_once(opened):
    class Overtaken(WeaviateStore):
        """Another process makes the memory whenever this one has just seen that there is none."""

        async def exists(self):
            there = await super().exists()
            if not there:
                await first.inner.make()
            return there

    first, second = opened(), opened(kind=Overtaken)
    second.tenant("acme").add(circle(3))
    assert first.tenant("acme").count() == second.tenant("acme").count() == 3


def test_the_store_that_params_names_keeps_its_versions_apart(weaviate_address, tmp_path):
    server = MemoryServer(url=weaviate_address.url, grpc=f"127.0.0.1:{weaviate_address.grpc_port}")
    options = {"names": NAMES, "index": {"ef": 64}, "locks": tmp_path}
    one, two = (SyncStore(inner=open_named(server, name="named", part=part, **options)) for part in "12")
    one.tenant("acme").add(circle(2))
    assert (one.tenant("acme").count(), two.tenant("acme").count()) == (2, 0)
    assert one.tenant("acme").search(make_query("w1", groups=EVERYONE))[0].memory == "named"
    one.close()
    two.close()


def test_a_store_of_the_contract_is_a_new_one_for_a_new_path(weaviate, tmp_path):
    for name in ("one", "two"):
        store = SyncStore(inner=open_store(tmp_path / name))
        assert store.tenant("acme").count() == 0
        store.tenant("acme").add(circle(1))
        store.close()
