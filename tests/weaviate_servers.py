"""Real Weaviate servers for tests: one for the whole session, more for those that kill them."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from workbench.memory.names import Names
from workbench.memory.weaviate import Address, IndexSettings, WeaviateStore
from workbench.memory.weaviate.server import Server, find_binary

#: Says where the session's server is, for processes that a test starts.
VARIABLE = "WORKBENCH_TEST_WEAVIATE"
QUICK_TTL = {"OBJECTS_TTL_DELETE_SCHEDULE": "@every 1s", "OBJECTS_TTL_ALLOW_SECONDS": "true"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedNames(Names):
    """Names of a key of their own in a collection that other keys use too: new tenants are cheap there."""

    @property
    def fingerprint(self) -> str:
        return "shared by tests"


class ContractStore(WeaviateStore):
    """A store whose tenants rest when it is closed: a session makes thousands."""

    async def aclose(self) -> None:
        await self.deactivate_seen()
        await super().aclose()

    async def deactivate_seen(self) -> None:
        if self.seen and await self.exists():
            await self._rest(list(self.seen))


def open_store(path: Path) -> ContractStore:
    """The same memory for the same path, in the session's server; a new one for a new path."""
    http, grpc = os.environ[VARIABLE].split()
    key = hashlib.sha512(str(path).encode()).digest()
    return ContractStore(
        Address(url=f"http://127.0.0.1:{http}", grpc_port=int(grpc)),
        name="contract",
        names=SharedNames(key=key),
        locks=path,
        index=IndexSettings(ttl=False),  # these tests bring their own clock
    )


@pytest.fixture(scope="session")
def weaviate():
    """A running server; skipped where there is none to start."""
    if find_binary() is None:
        pytest.skip("there is no weaviate-server; to get one: make weaviate")
    with (
        tempfile.TemporaryDirectory(prefix="weaviate-") as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        server = Server(Path(folder), environment=QUICK_TTL)
        server.start()
        patch.setenv(VARIABLE, f"{server.http_port} {server.grpc_port}")
        yield server
        server.kill()  # it would write down thousands of tenants that nobody asks for again


@pytest.fixture
def weaviate_address(weaviate) -> Address:
    """Where the session's server is."""
    return weaviate.address
