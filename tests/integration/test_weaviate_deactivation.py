"""Tenants of a real server that are deactivated before, during and after a call."""

import asyncio
import hashlib
import time

import pytest
from weaviate_servers import SharedNames

from workbench import _sync
from workbench.errors import UnavailableError
from workbench.memory.weaviate import IndexSettings, WeaviateStore
from workbench.memory.weaviate import connection as connection_module
from workbench.memory.weaviate.errors import InactiveError
from workbench.memory.weaviate.offloading import ActiveTenants
from workbench.testing.memory_items import circle, ids_of, make_query
from workbench.testing.sync_memory import SyncStore


@pytest.fixture
def opened(weaviate_address, tmp_path):
    """Opens stores of one memory, each as if it were of a process of its own."""
    stores = []

    def open_one(**active):
        names = SharedNames(key=hashlib.sha512(str(tmp_path).encode()).digest())
        stores.append(
            WeaviateStore(
                weaviate_address,
                name="resting",
                names=names,
                locks=tmp_path,
                index=IndexSettings(ttl=False),
                active=ActiveTenants(**active),
            )
        )
        return SyncStore(inner=stores[-1])

    yield open_one
    for store in stores:
        _sync.run(store.aclose())


@pytest.fixture
def active(opened):
    """Return which of these tenants the server has active, in either collection."""
    inner = opened().inner

    async def asked(tenants):
        await inner.exists()
        encrypted = {inner.names.tenant(one): one for one in tenants}
        found = []
        for collection in (inner.records, inner.alias):
            about = await inner.connection.ask(
                lambda client, name=collection: client.collections.use(name).tenants.get_by_names(
                    [*encrypted]
                )
            )
            found.append(
                {encrypted[one] for one, it in about.items() if it.activity_status.value == "ACTIVE"}
            )
        return found[0] | found[1]

    return lambda *tenants: _sync.run(asked(tenants))


def eventually(wanted, look):
    until = time.monotonic() + 30
    while look() != wanted and time.monotonic() < until:
        time.sleep(0.05)
    assert look() == wanted


def test_no_more_tenants_stay_active_than_are_wanted_and_all_of_them_answer(opened, active):
    names = [f"t{number}" for number in range(8)]
    store = opened(most=3)
    for name in names:
        store.tenant(name).add(circle(4))
    for name in names:
        assert len(store.tenant(name).search(make_query("w1"))) == 4
    eventually(set(names[-3:]), lambda: active(*names))
    assert len(store.tenant(names[0]).search(make_query("w1"))) == 4
    eventually({names[0], *names[-2:]}, lambda: active(*names))


def test_an_idle_tenant_is_deactivated_while_the_process_runs(opened, active):
    store = opened(idle_s=0.3)
    store.tenant("acme").add(circle(4))
    eventually(set(), lambda: active("acme"))
    assert store.tenant("acme").count() == 4


def test_closing_a_store_restores_the_activity_of_its_tenants(opened, active):
    first, second = opened(), opened()
    first.tenant("acme").add(circle(4))
    assert second.tenant("acme").count() == 4
    second.close()
    assert active("acme") == {"acme"}, "the first one is still there"
    first.close()
    assert active("acme") == set()
    third = opened()
    assert third.tenant("acme").count() == 4
    third.close()
    assert active("acme") == set()


def test_missing_and_half_made_tenants_do_not_block_deactivation(opened, active):
    store = opened()
    half, inner = store.inner.names.tenant("half"), store.inner
    assert _sync.run(inner.deactivate(["acme"])) == 0, "there is no memory yet"
    for name in ("acme", "globex"):
        store.tenant(name).add(circle(4))
    _sync.run(
        inner.connection.ask(lambda client: client.collections.use(inner.records).tenants.create([half]))
    )
    assert [_sync.run(inner.deactivate(none)) for none in ([], ["nobody"])] == [0, 0]
    assert active("acme", "globex") == {"acme", "globex"}
    assert _sync.run(inner.deactivate(iter(["nobody", "half", "acme"]))) == 1
    assert active("acme", "globex") == {"globex"}
    assert _sync.run(inner.deactivate()) == 1
    assert active("acme", "globex") == set()


def test_nothing_fails_while_another_process_deactivates_the_same_tenants(opened):
    here, there = opened().inner, opened().inner
    names, met, said, asked = ["acme", "globex"], [], set(), here.connection._asked

    async def seen(*request):
        try:
            return await asked(*request)
        except InactiveError as error:
            met.append(error)
            raise

    async def run():
        for name in names:
            await here.tenant(name).add(circle(20))
        here.connection._asked = seen
        done = asyncio.Event()

        async def asking(name):
            found = set()
            while not done.is_set():
                found.add(len(await here.tenant(name).search(make_query("w1", k=30))))
            return found

        async def writing():
            number = 20
            while not done.is_set():
                number += 1
                await here.tenant("acme").add(circle(number))
            return number

        tasks = [*map(asyncio.ensure_future, (*(asking("globex") for _ in range(4)), writing()))]
        until = time.monotonic() + 60
        while not met and time.monotonic() < until and not any(task.done() for task in tasks):
            try:
                await there.deactivate(names)
            except UnavailableError as error:
                said.add(error.message.partition(" in the Weaviate")[0])
        done.set()
        *found, number = await asyncio.gather(*tasks)
        assert found == [{20}] * 4
        assert ids_of(await here.tenant("acme").items()) == sorted(ids_of(circle(number)))

    _sync.run(run())
    assert met, "a call came while its tenant was being deactivated"
    assert said <= {"a tenant is being asked at this moment"}


def test_a_call_to_a_tenant_being_deactivated_is_repeated(opened, monkeypatch):
    from weaviate.exceptions import WeaviateQueryError

    asked, connection = [], opened().inner.connection

    async def question(client, *, times):
        asked.append(client)
        if len(asked) <= times:
            raise WeaviateQueryError("get/init local shard, no shutdown: already shut or dropped", "GRPC")
        return "answer"

    assert _sync.run(connection.ask(lambda client: question(client, times=2))) == "answer"
    assert len(asked) == 3
    monkeypatch.setattr(connection_module, "_INACTIVE_S", (0.001, 0.001))
    with pytest.raises(UnavailableError, match="deactivated") as caught:
        _sync.run(connection.ask(lambda client: question(client, times=99)))
    assert caught.value.retryable
