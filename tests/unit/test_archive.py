from __future__ import annotations

import asyncio
import contextlib
import shutil
import threading
from pathlib import Path

import pytest

from workbench import files
from workbench.context import Context
from workbench.errors import ConfigError, UnavailableError
from workbench.identity import Principal
from workbench.memory.cipher import IdCipher
from workbench.memory.snapshot import read_manifest, write_snapshot
from workbench.memory.snapshot_store import SnapshotStore
from workbench.memory.stores import StoreLocation, Stores
from workbench.memory.tombstones import TombstoneLog
from workbench.ports import Budget, Call, Selector
from workbench.testing.fake_memory import FakeMemory, FakeStore
from workbench.testing.fakes import FakeClock
from workbench.testing.memory_items import NOW, make_episode, make_item

KEY = IdCipher(key=b"k" * 64)


def snapshot_store(tmp_path):
    """As every workspace has one of its own."""
    return SnapshotStore(
        tmp_path / "state/snapshots", TombstoneLog(tmp_path / "state/forgotten.jsonl"), lambda: KEY
    )


async def tenant_of(name):
    view = FakeStore(name="m").tenant(name)
    await view.add([make_item(name)])
    return view


def left_beside(place):
    return [path.name for path in place.parent.iterdir() if path.name.startswith(".m@1.")]


async def write(tmp_path, view, folder=None):
    await snapshot_store(tmp_path).write([view], folder, spec="m@1", digest="d", version=None)


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
        place.rename(place.with_name(".m@1.before-0123abcd"))  # as the two stand at that moment
        (tmp_path / "newer").rename(files.aside_of(place))
        files.aside_of(place).mkdir()  # and what one left that was killed long before its end
        if again == "written":
            await write(tmp_path, globex)
        else:
            await snapshot_store(tmp_path).read(place, memory="m", tenant="acme")

    asyncio.run(act())
    manifest = read_manifest(place)
    assert manifest.tenants["acme"].rows == 1, "the one whose writer was told that it is written"
    assert len(manifest.tenants) == (1 if again == "read" else 2)
    assert again == "read" or left_beside(place) == []


@pytest.mark.parametrize("renames", range(4))  # before any, between the two, after them, after the third
def test_a_writer_killed_at_any_rename_leaves_a_snapshot_that_once_deleted_stays_so(
    tmp_path, monkeypatch, renames
):
    place = tmp_path / "snapshots" / "m@1"
    real, done = Path.rename, []

    def rename(self, target):
        if len(done) == renames:
            raise InterruptedError
        done.append(target)
        return real(self, target)

    async def act():
        acme = await tenant_of("acme")
        await write(tmp_path, acme, place)
        await acme.remember([make_episode("later")], budget=Budget(), now=NOW)
        with monkeypatch.context() as patch, contextlib.suppress(UnavailableError):
            patch.setattr(Path, "rename", rename)
            patch.setattr(shutil, "rmtree", lambda *_, **__: None)  # who is killed tidies nothing up
            await write_snapshot([acme], place, memory="m", spec_digest="d")
        await snapshot_store(tmp_path).put_back(place)
        rows = read_manifest(place).tenants["acme"].rows
        shutil.rmtree(place)
        await snapshot_store(tmp_path).put_back(place)
        return rows

    assert asyncio.run(act()) == (1 if renames < 2 else 2)
    assert len(done) == renames and not place.exists()


def test_an_interrupted_write_is_removed_by_the_next_one(tmp_path):
    place = tmp_path / "m@1"

    async def act():
        acme = await tenant_of("acme")
        await write(tmp_path, acme, place)
        shutil.copytree(place, files.aside_of(place))
        await write(tmp_path, acme, place)

    asyncio.run(act())
    assert left_beside(place) == [] and read_manifest(place).tenants["acme"].rows == 1


def test_a_running_writer_is_not_recovered_by_others(tmp_path, monkeypatch):
    place = tmp_path / "m@1"
    between, go_on = threading.Event(), threading.Event()
    real = Path.rename

    def rename(self, target):
        if target == place:
            between.set()
            go_on.wait(10)
        return real(self, target)

    async def act():
        acme = await tenant_of("acme")
        await write(tmp_path, acme, place)
        await acme.remember([make_episode("later")], budget=Budget(), now=NOW)
        monkeypatch.setattr(Path, "rename", rename)
        writer = asyncio.create_task(write(tmp_path, acme, place))
        await asyncio.to_thread(between.wait, 10)
        other = asyncio.create_task(snapshot_store(tmp_path).put_back(place))
        await asyncio.wait([other], timeout=0.1)  # as long as it takes, if nothing makes it wait
        waited = not other.done()
        go_on.set()
        await asyncio.gather(writer, other)
        return waited

    assert asyncio.run(act())
    assert read_manifest(place).tenants["acme"].rows == 2


class OnAServer(Stores):
    """Stores whose server is a dictionary."""

    def on_server(self, name, part, index, *, api_key_env=None):
        return FakeStore(name=f"{name}/{part}")


CHANGES = {
    "forget": {"what": Selector(source="page")},
    "hold": {"what": Selector(source="page")},
    "remember": {"items": [make_episode("new")], "budget": Budget(), "now": NOW},
    "stage": {"items": [make_item("new", source="new")]},
    "add": {"items": [make_item("new", source="new")]},
    "publish": {"ids": []},
}


@pytest.mark.parametrize("verb", CHANGES)
def test_a_pinned_snapshot_on_a_server_is_as_read_only_as_an_embedded_one(tmp_path, verb):
    pinned = tmp_path / "pinned"

    async def said(stores):
        with pytest.raises(ConfigError) as caught:
            await stores.answer(asked(verb, **CHANGES[verb]))
        assert await stores.answer(asked("count")) == 1 and not (tmp_path / "state/forgotten.jsonl").exists()
        for quiet in ("release", "purge"):
            how = {"now": NOW, "keep_versions": 1} if quiet == "purge" else {"what": Selector(source="page")}
            await stores.answer(asked(quiet, **how))
        await stores.aclose()
        return str(caught.value), caught.value.hint

    def asked(operation, **payload):
        return Call(
            port="memory", operation=operation, target="m", payload=payload, identity={"version": 1},
            context=Context(
                use_case="u", tenant="acme", principal=Principal(name="p"), purpose="test", clock=FakeClock()
            ),
        )  # fmt: skip

    async def act():
        acme = FakeStore(name="m").tenant("acme")
        await acme.add([make_item("old")])
        await write(tmp_path, acme, pinned)
        where = {"state": tmp_path / "state", "pinned": pinned, "today": True}
        embedded = await said(Stores(StoreLocation(**where)))
        assert await said(OnAServer(StoreLocation(**where, server=object()))) == embedded

    asyncio.run(act())
