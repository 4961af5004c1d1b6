"""Which tenants a process keeps active: it deactivates the least recently used ones, and no call waits."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import UnavailableError
from workbench.memory.weaviate.offloading import ActiveTenants


class Asked:
    """A store that records which tenants the server has active."""

    def __init__(self, active):
        self.within, self.active, self.deactivated = active, set(), []

    def ask(self, tenant):
        self.active.add(tenant)
        self.within.use(tenant, self)

    async def offload(self, tenants):
        self.deactivated.append(sorted(tenants))
        self.active -= set(tenants)


class Away(Asked):
    """A store whose server is away when a tenant is to be deactivated."""

    async def offload(self, tenants):
        raise UnavailableError("nobody answers")


async def settled(active):
    while active._task is not None and not active._task.done():
        await active._task


@given(asked=st.lists(st.integers(0, 30)), most=st.integers(1, 12), together=st.integers(1, 9))
def test_at_most_the_limit_stays_active_and_the_most_recently_used(asked, most, together):
    async def run():
        active = ActiveTenants(most)
        store = Asked(active)
        for start in range(0, len(asked), together):
            for one in asked[start : start + together]:
                store.ask(str(one))
            await settled(active)
        latest = list(dict.fromkeys(str(one) for one in reversed(asked)))[:most]
        assert len(store.active) <= most
        assert store.active == set(latest[: len(store.active)])
        assert len(store.active) >= min(len(latest), most - most // 10)
        await active.leave(store)

    asyncio.run(run())


def test_a_tenth_is_deactivated_in_one_request():
    async def run():
        active = ActiveTenants(20)
        store = Asked(active)
        for number in range(21):
            store.ask(f"t{number:02}")
        await settled(active)
        assert store.deactivated == [["t00", "t01", "t02"]]
        await active.leave(store)

    asyncio.run(run())


def test_a_caller_does_not_wait_and_a_tenant_used_again_is_the_most_recent():
    async def run():
        active = ActiveTenants(2)
        store = Asked(active)
        for tenant in ("acme", "globex", "acme", "python"):
            store.ask(tenant)
        assert store.deactivated == [], "only the loop's next turn deactivates a tenant"
        await settled(active)
        assert store.deactivated == [["globex"]]
        await active.leave(store)

    asyncio.run(run())


def test_an_idle_tenant_is_deactivated_without_another_call():
    async def run():
        active = ActiveTenants(idle_s=0.01)
        store = Asked(active)
        store.ask("acme")
        while store.active:
            await asyncio.sleep(0.005)
        store.ask("acme")
        while store.active:
            await asyncio.sleep(0.005)
        assert store.deactivated == [["acme"], ["acme"]]

    asyncio.run(run())


def test_leaving_deactivates_what_this_process_activated_and_nothing_else():
    async def run():
        active = ActiveTenants()
        one, other = Asked(active), Asked(active)
        active.activated("acme")
        active.activated("python")
        one.ask("acme")
        one.ask("globex")
        other.ask("python")
        await active.leave(one)
        assert (one.deactivated, other.deactivated) == ([["acme"]], [])
        await active.leave(other)
        assert other.deactivated == [["python"]]
        await active.leave(other)
        assert other.deactivated == [["python"]]
        assert active._timer is None

    asyncio.run(run())


@pytest.mark.parametrize("leaving", [True, False])
def test_an_unavailable_server_delays_neither_work_nor_exit(leaving):
    async def run():
        active = ActiveTenants(1)
        store = Away(active)
        for tenant in ("acme", "globex"):
            active.activated(tenant)
            store.ask(tenant)
        if not leaving:
            await settled(active)
            store.ask("acme")
        await active.leave(store)
        assert active._used == {}

    asyncio.run(run())
