from __future__ import annotations

import asyncio
import dataclasses
import gc

import pytest

from workbench.context import Context
from workbench.errors import UnavailableError
from workbench.identity import Principal
from workbench.memory.stores import StoreLocation, Stores
from workbench.ports import Budget, Call
from workbench.testing.fake_memory import FakeStore
from workbench.testing.fakes import FakeClock
from workbench.testing.memory_items import NOW, make_episode, make_item


@pytest.fixture
def stores(tmp_path):
    """Stores that fall back on the last snapshot, as when their server is away."""
    return Stores(StoreLocation(state=tmp_path / "state"))


CALL = Call(
    port="memory", operation="count", target="m", payload={},
    identity={"version": 1, "spec": "d", "degraded": True},
    context=Context(
        use_case="u", tenant="acme", principal=Principal(name="p"), purpose="test", clock=FakeClock()
    ),
)  # fmt: skip


async def written(stores, view):
    return (await stores.snapshot_store().write([view], None, spec="m@1", digest="d", version=None))[0]


async def one_item():
    view = FakeStore(name="m").tenant("acme")
    await view.add([make_item("first")])
    return view


def test_the_last_snapshot_is_fallen_back_on_though_its_writer_was_killed_between_its_renames(stores):
    async def act():
        place = await written(stores, await one_item())
        place.rename(place.with_name(f".{place.name}.before-0123abcd"))
        try:
            return await stores.answer(CALL)
        finally:
            await stores.aclose()

    assert asyncio.run(act()) == 1


async def ended(database):
    """Wait until a database is closed: a thread may hold its last task for a moment."""
    for _ in range(100):
        gc.collect()
        try:
            with database.reading():
                await asyncio.sleep(0.05)
        except UnavailableError as error:
            if "closed" in str(error):
                return
            raise
    pytest.fail("the snapshot that was replaced is still open")


def test_a_snapshot_that_was_replaced_is_closed_when_nobody_reads_it_any_more(stores):
    async def act():
        view = await one_item()
        await written(stores, view)
        reading = await stores.view(CALL)
        database = reading.inner.store.database
        await view.remember([make_episode("later")], budget=Budget(), now=NOW)
        await written(stores, view)
        assert len(await (await stores.view(CALL)).items()) == 2
        assert len(await reading.items()) == 1, "who reads the older one reads on"
        del reading
        await ended(database)
        await stores.aclose()

    asyncio.run(act())


def test_what_is_forgotten_is_in_none_of_many_snapshots_that_replace_one_another(stores):
    async def act():
        view = await one_item()
        await view.remember([make_episode("out", id="out")], budget=Budget(), now=NOW)
        stores.ledger.forget("acme", memory="m", names=stores.names(), at=NOW, ids=["out"])
        for number in range(5):
            await view.remember([make_episode(f"e{number}")], budget=Budget(), now=NOW)
            await written(stores, view)
            assert "out" not in {item.id for item in await (await stores.view(CALL)).items()}
        await stores.aclose()

    asyncio.run(act())


def test_all_stores_are_closed_though_one_of_them_fails_to(tmp_path):
    closed = []

    class Closing(FakeStore):
        async def aclose(self):
            closed.append(self.name)
            if self.name != "m/2":
                raise UnavailableError(self.name)

    class OnAServer(Stores):
        def on_server(self, name, part, index, *, api_key_env=None):
            return Closing(name=f"{name}/{part}")

    stores = OnAServer(StoreLocation(state=tmp_path / "state", server=object()))
    for version in (1, 2, 3):
        stores.live(dataclasses.replace(CALL, identity={"version": version}))
    with pytest.raises(UnavailableError, match="m/1"):
        asyncio.run(stores.aclose())
    assert sorted(closed) == ["m/1", "m/2", "m/3"]
