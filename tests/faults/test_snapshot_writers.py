"""Processes that write snapshots of one memory into one place, and one that is killed meanwhile."""

from __future__ import annotations

import subprocess
import sys

import pytest

from workbench.memory.snapshot import read_manifest

pytestmark = pytest.mark.faults
WRITER = """
import asyncio, sys
from pathlib import Path
from workbench.memory.snapshot_store import SnapshotStore
from workbench.memory.tombstones import TombstoneLog
from workbench.memory.cipher import IdCipher
from workbench.testing.fake_memory import FakeMemory, FakeStore
from workbench.testing.memory_items import make_item

state, tenant, often = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
ledger = TombstoneLog(state / "forgotten.jsonl")
archive = SnapshotStore(state / "snapshots", ledger, lambda: IdCipher(key=b"k" * 64))

async def act():
    view = FakeStore(name="m").tenant(tenant)
    await view.add([make_item(tenant)])
    if not often:
        FakeMemory.items = stay
    for _ in range(often or 1):
        place, *_ = await archive.write([view], None, spec="m@1", digest="d", version=None)
        await archive.read(place, memory="m", tenant=tenant)

async def stay(self, version=None):
    print("inside", flush=True)
    await asyncio.sleep(600)

asyncio.run(act())
"""


def writer(state, tenant, often):
    arguments = [sys.executable, "-c", WRITER, str(state), tenant, str(often)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


def tenants(state):
    return set(read_manifest(state / "snapshots/m@1").tenants)


def test_processes_that_write_their_tenants_at_once_lose_none(tmp_path):
    names = ["acme", "globex", "initech"]
    for process in [writer(tmp_path, name, 15) for name in names]:
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert tenants(tmp_path) == set(names)


def test_who_is_killed_while_writing_keeps_nobody_waiting(tmp_path):
    process = writer(tmp_path, "acme", 0)
    try:
        assert process.stdout.readline() == "inside\n"
    finally:
        process.kill()
        process.communicate(timeout=60)
    after = writer(tmp_path, "globex", 1)
    after.communicate(timeout=60)
    assert after.returncode == 0 and tenants(tmp_path) == {"globex"}
