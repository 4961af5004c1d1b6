"""What others see of a tenant while one writer mends its index after the server has started anew."""

import pytest
from weaviate_servers import open_store

from workbench import _sync
from workbench.memory.weaviate import repair
from workbench.memory.weaviate.table import TenantTable
from workbench.ports import Budget
from workbench.testing.memory_items import AXIS, NOW, circle, contents, ids_of, make_episode, make_query
from workbench.testing.sync_memory import SyncStore

ITEMS = circle(6)


@pytest.fixture
def restarted(weaviate, tmp_path):
    """A tenant whose record is of before the server's last start, and a second store that looks at it."""
    stores = [SyncStore(inner=open_store(tmp_path)) for _ in range(2)]
    acme = stores[0].tenant("acme")
    acme.add(ITEMS)
    acme.remember([make_episode("written", vector=AXIS)], budget=Budget(), now=NOW)
    memory = stores[0].inner.tenant("acme")
    record = _sync.run(memory.record())
    _sync.run(memory.save(record, term=-1))
    yield acme, stores[1].inner.tenant("acme")
    for store in stores:
        store.close()


def test_during_a_repair_every_item_is_counted_once(restarted, monkeypatch):
    acme, elsewhere = restarted
    looked = []

    async def nothing(*_):
        return frozenset()

    async def look():
        stats = await elsewhere.stats(now=NOW)
        items = await elsewhere.items()
        ids = [item.id for item in items]
        counts = (await elsewhere.count(), await elsewhere.count(ids), stats.items, stats.stored)
        return (ids, counts, stats.by_kind)

    remove = TenantTable.remove

    async def removing(table, ids):
        rows = await table.rows(properties=("item",))
        looked.append((len(rows), await look()))
        await remove(table, ids)

    monkeypatch.setattr(repair, "_indexed", nothing)
    monkeypatch.setattr(TenantTable, "remove", removing)
    before = contents(acme)
    assert len(acme.search(make_query("", vector=AXIS, mode="vector", k=9, candidates=9))) == 7
    assert looked[0][0] == 14, "every row was there under two UUIDs"
    ids = sorted([*ids_of(ITEMS), make_episode("written", vector=AXIS).id])
    assert looked[0][1] == (ids, (7, 7, 7, 7), {"document": 6, "episode": 1})
    assert contents(acme) == before
