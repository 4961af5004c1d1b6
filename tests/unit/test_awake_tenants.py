"""Which tenants a process keeps awake: the least recently used ones are put to rest, and nobody waits."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import UnavailableError
from workbench.memory.weaviate.offloading import ActiveTenants


class Asked:
    """A store that knows which of its tenants the server has awake."""

    def __init__(self, awake):
        self.within, self.awake, self.rested = awake, set(), []

    def ask(self, tenant):
        self.awake.add(tenant)
        self.within.use(tenant, self)

    async def offload(self, tenants):
        self.rested.append(sorted(tenants))
        self.awake -= set(tenants)


class Away(Asked):
    """A store whose server is away when a tenant is to be put to rest."""

    async def offload(self, tenants):
        raise UnavailableError("nobody answers")


async def settled(awake):
    while awake._task is not None and not awake._task.done():
        await awake._task


@given(asked=st.lists(st.integers(0, 30)), most=st.integers(1, 12), together=st.integers(1, 9))
def test_whatever_is_asked_at_most_so_many_stay_awake_and_they_are_the_latest(asked, most, together):
    async def run():
        awake = ActiveTenants(most)
        store = Asked(awake)
        for start in range(0, len(asked), together):
            for one in asked[start : start + together]:
                store.ask(str(one))
            await settled(awake)
        latest = list(dict.fromkeys(str(one) for one in reversed(asked)))[:most]
        assert len(store.awake) <= most
        assert store.awake == set(latest[: len(store.awake)])
        assert len(store.awake) >= min(len(latest), most - most // 10)
        await awake.leave(store)

    asyncio.run(run())


def test_a_tenth_goes_at_once_and_not_one_at_a_time():
    async def run():
        awake = ActiveTenants(20)
        store = Asked(awake)
        for number in range(21):
            store.ask(f"t{number:02}")
        await settled(awake)
        assert store.rested == [["t00", "t01", "t02"]]
        await awake.leave(store)

    asyncio.run(run())


def test_who_asks_does_not_wait_and_what_is_asked_again_is_the_latest():
    async def run():
        awake = ActiveTenants(2)
        store = Asked(awake)
        for tenant in ("acme", "globex", "acme", "python"):
            store.ask(tenant)
        assert store.rested == [], "only the loop's next turn puts anything to rest"
        await settled(awake)
        assert store.rested == [["globex"]]
        await awake.leave(store)

    asyncio.run(run())


def test_a_tenant_that_nobody_asks_any_more_is_put_to_rest_though_nothing_else_happens():
    async def run():
        awake = ActiveTenants(idle_s=0.01)
        store = Asked(awake)
        store.ask("acme")
        while store.awake:
            await asyncio.sleep(0.005)
        store.ask("acme")
        while store.awake:
            await asyncio.sleep(0.005)
        assert store.rested == [["acme"], ["acme"]]

    asyncio.run(run())


def test_who_leaves_puts_to_rest_what_it_woke_and_leaves_awake_what_others_had_awake():
    async def run():
        awake = ActiveTenants()
        one, other = Asked(awake), Asked(awake)
        awake.activated("acme")
        awake.activated("python")
        one.ask("acme")
        one.ask("globex")
        other.ask("python")
        await awake.leave(one)
        assert (one.rested, other.rested) == ([["acme"]], [])
        await awake.leave(other)
        assert other.rested == [["python"]]
        await awake.leave(other)
        assert other.rested == [["python"]]
        assert awake._timer is None

    asyncio.run(run())


@pytest.mark.parametrize("leaving", [True, False])
def test_a_server_that_is_away_keeps_nobody_from_working_or_leaving(leaving):
    async def run():
        awake = ActiveTenants(1)
        store = Away(awake)
        for tenant in ("acme", "globex"):
            awake.activated(tenant)
            store.ask(tenant)
        if not leaving:
            await settled(awake)
            store.ask("acme")
        await awake.leave(store)
        assert awake._used == {}

    asyncio.run(run())
