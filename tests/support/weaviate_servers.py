"""Real Weaviate servers for tests: one for each module that asks, more for those that kill them."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from workbench import _sync
from workbench.memory.cipher import IdCipher
from workbench.memory.weaviate import Address, IndexSettings, WeaviateStore
from workbench.memory.weaviate.connection import Connection
from workbench.memory.weaviate.local_server import LocalServer, find_binary

#: Says where the module's server is, for processes that a test starts.
VARIABLE = "WORKBENCH_TEST_WEAVIATE"
#: A server of tests is short of time, not of memory.
SELDOM_COLLECTED = {"GOGC": "400"}
#: The server looks for what has expired each second.
QUICK_TTL = {"OBJECTS_TTL_DELETE_SCHEDULE": "@every 1s", "OBJECTS_TTL_ALLOW_SECONDS": "true"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedNames(IdCipher):
    """Names of a key of their own in a collection that other keys use too: new tenants are cheap there."""

    @property
    def fingerprint(self) -> str:
        return "shared by tests"


class ContractStore(WeaviateStore):
    """A store that deactivates its tenants when it is closed, and leaves the connection to the others.

    This process compares the collection that all of them share with its definition once.
    """

    async def exists(self) -> bool:
        checked = _checked(self.connection)
        self._items = self._items or checked.get(self.alias, "")
        if there := await super().exists():
            checked[self.alias] = self._items
        return there

    async def aclose(self) -> None:
        await self.active.leave(self)


@functools.cache
def _checked(_: Connection) -> dict[str, str]:
    """The collections that were found to be as they are defined, by their aliases."""
    return {}


@functools.cache
def connection(address: Address) -> Connection:
    """This process's connection: to make one takes longer than most sentences take on it."""
    return Connection(address)


def open_store(path: Path, *, name: str = "contract", **index: int) -> ContractStore:
    """The same memory for the same path, in the module's server; a new one for a new path.

    One with an index of its own needs a name of its own, too.
    """
    http, grpc = os.environ[VARIABLE].split()
    store = ContractStore(
        Address(url=f"http://127.0.0.1:{http}", grpc_port=int(grpc)),
        name=name,
        names=SharedNames(key=hashlib.sha512(str(path).encode()).digest()),
        locks=path,
        index=IndexSettings(ttl=False, **index),  # these tests bring their own clock
    )
    store.connection = connection(store.address)
    return store


def folder_in_memory() -> str | None:
    """Where there is room in memory: to remove thousands of tenants from a disk takes up to half a minute."""
    place = Path("/dev/shm")
    return str(place) if place.is_dir() and shutil.disk_usage(place).free > 4 << 30 else None


@pytest.fixture(scope="module")
def weaviate(request):
    """A running server, with what the module's `SERVER` sets; skipped where there is none to start.

    It ends with the module: to start one takes half a second of a processor, and one that holds the tenants
    of a module takes more than that in each ten seconds in which nobody asks it.
    """
    if find_binary() is None:
        pytest.skip("there is no weaviate-server; to get one: make weaviate")
    with (
        tempfile.TemporaryDirectory(prefix="weaviate-", dir=folder_in_memory()) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        own = getattr(request.module, "SERVER", {})
        server = LocalServer(Path(folder), environment=SELDOM_COLLECTED | own)
        server.start()
        patch.setenv(VARIABLE, f"{server.http_port} {server.grpc_port}")
        yield server
        _sync.run(connection(server.address).aclose())
        connection.cache_clear()  # another server may come to have this address
        _checked.cache_clear()
        server.kill()  # it would write down thousands of tenants that nobody asks for again


@pytest.fixture
def weaviate_address(weaviate) -> Address:
    """Where the module's server is."""
    return weaviate.address
