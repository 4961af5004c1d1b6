"""What a filter finds while what it asks about is being written."""

import asyncio

import pytest
from weaviate_servers import open_store

from workbench import _sync
from workbench.testing.memory_items import NOW, circle, ids_of, make_query

NUMBER = 200


@pytest.mark.usefixtures("weaviate")
def test_a_version_is_whole_while_the_end_of_each_of_its_rows_is_written(tmp_path):
    store = open_store(tmp_path)
    acme = store.tenant("acme")
    items = circle(NUMBER)
    query = make_query("w1", k=NUMBER, candidates=NUMBER, mode="vector", version=1)

    async def life():
        await acme.add(items, now=NOW)
        await acme.add(circle(NUMBER + 1)[-1:], now=NOW)  # a second version: the first has to be told apart
        rows = [row.uuid for row in await acme.table.rows()]
        done, found = asyncio.Event(), []

        async def write():
            for turn in range(25):
                await acme.table.change(rows, lambda _, until=2**30 + turn: {"until": until})
            done.set()

        async def read():
            while not done.is_set():
                found.append(len(await acme.search(query)))

        await asyncio.gather(write(), read(), read())
        return found

    found = _sync.run(life())
    assert len(found) > 50
    assert set(found) == {len(set(ids_of(items)))}
    _sync.run(store.aclose())
