from __future__ import annotations

import asyncio

import pytest

from workbench import files
from workbench.memory.archive import Archive
from workbench.memory.forgotten import Ledger
from workbench.memory.names import Names
from workbench.memory.snapshot import read_manifest
from workbench.ports import Budget
from workbench.testing.fake_memory import FakeMemory, FakeStore
from workbench.testing.memory_items import NOW, make_episode, make_item

KEY = Names(key=b"k" * 64)


def archive(tmp_path):
    """As every workspace has one of its own."""
    return Archive(tmp_path / "state/snapshots", Ledger(tmp_path / "state/forgotten.jsonl"), lambda: KEY)


async def tenant_of(name):
    view = FakeStore(name="m").tenant(name)
    await view.add([make_item(name)])
    return view


async def write(tmp_path, view, folder=None):
    await archive(tmp_path).write([view], folder, spec="m@1", digest="d", version=None)


def test_two_tenants_written_at_once_into_the_memorys_own_place_are_both_there(tmp_path, monkeypatch):
    async def act():
        acme, globex = await tenant_of("acme"), await tenant_of("globex")
        real, others = FakeMemory.items, []

        async def items(self, version=None):
            if self.tenant == "acme" and not others:
                others.append(asyncio.create_task(write(tmp_path, globex)))
                await asyncio.wait(others, timeout=0.3)  # as long as it takes, if nothing makes it wait
            return await real(self, version)

        monkeypatch.setattr(FakeMemory, "items", items)
        await write(tmp_path, acme)
        await asyncio.gather(*others)

    asyncio.run(act())
    assert set(read_manifest(tmp_path / "state/snapshots/m@1").tenants) == {"acme", "globex"}


@pytest.mark.parametrize("again", ["read", "written"])
def test_a_snapshot_whose_writer_was_killed_between_its_renames_is_put_back(tmp_path, again):
    place = tmp_path / "state/snapshots/m@1"

    async def act():
        acme, globex = await tenant_of("acme"), await tenant_of("globex")
        await write(tmp_path, acme)
        await acme.remember([make_episode("later")], budget=Budget(), now=NOW)
        await write(tmp_path, acme, tmp_path / "newer")
        for whole in (place, tmp_path / "newer"):  # as the two stand at that moment
            whole.rename(files.aside_of(place))
        files.aside_of(place).mkdir()  # and what one left that was killed long before its end
        if again == "written":
            await write(tmp_path, globex)
        else:
            await archive(tmp_path).read(place, memory="m", tenant="acme")

    asyncio.run(act())
    manifest = read_manifest(place)
    assert manifest.tenants["acme"].rows == 2, "the newest that is whole"
    assert len(manifest.tenants) == (1 if again == "read" else 2)
