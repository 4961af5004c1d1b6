"""Open a memory's store on a server, with one key for all tenants or one key for each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from workbench import files
from workbench.config import TENANT, MemoryServer
from workbench.errors import ConfigError
from workbench.memory.cipher import IdCipher
from workbench.memory.weaviate.connection import Address
from workbench.memory.weaviate.memory import WeaviateMemory
from workbench.memory.weaviate.offloading import ActiveTenants
from workbench.memory.weaviate.schema import IndexSettings
from workbench.memory.weaviate.store import WeaviateStore
from workbench.ports import MemoryStore


def open_store(
    server: MemoryServer, *, name: str, part: str, names: IdCipher, index: Mapping[str, Any], locks: Path
) -> MemoryStore:
    """Open the memory `name` on a server; no request is sent yet.

    A `part` that is a number is a version of the memory's spec, and live. Any other part is pinned: the
    server's clock removes nothing from it.
    """
    settings = files.parse(IndexSettings, {"ttl": part.isdigit(), **index}, where=f"the index of {name}")
    store = WeaviateStore(
        address_of(server),
        name=name,
        part=part,
        names=names,
        index=settings,
        locks=locks / name / part,
        active=ActiveTenants(server.awake),
    )
    return KeyedStore(store, server) if TENANT in (server.api_key_env or "") else store


def address_of(server: MemoryServer) -> Address:
    """Return a server's address from params.yaml; ConfigError when that of gRPC is not host:port."""
    if server.grpc is None:
        return Address(url=server.url, api_key_env=server.api_key_env)
    host, _, port = server.grpc.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65_536:
        raise ConfigError(
            f"memory_grpc is {server.grpc!r}, not host:port", hint="for example memory_grpc: 127.0.0.1:50051"
        )
    return Address(url=server.url, grpc_host=host, grpc_port=int(port), api_key_env=server.api_key_env)


class KeyedStore:
    """One memory whose tenants each have a key of their own; implements `ports.MemoryStore`."""

    def __init__(self, store: WeaviateStore, server: MemoryServer) -> None:
        self._server = server
        self.name = store.name
        self._store = store
        self._opened: dict[str, WeaviateStore] = {}

    def tenant(self, tenant: str) -> WeaviateMemory:
        """Return one tenant's view, over a connection that presents its key alone."""
        return self._of(tenant).tenant(tenant)

    async def deactivate(self, tenants: Iterable[str]) -> int:
        """Deactivate tenants, each with its own key; return how many."""
        return sum([await self._of(tenant).deactivate([tenant]) for tenant in tenants])

    def _of(self, tenant: str) -> WeaviateStore:
        if tenant not in self._opened:
            address = replace(self._store.address, api_key_env=self._server.key_variable(tenant))
            self._opened[tenant] = self._store.at(address)
        return self._opened[tenant]

    async def tenants(self) -> list[str]:
        """Return the opened tenants that have items, sorted: no key here sees more."""
        found: set[str] = set()
        for store in self._opened.values():
            found |= set(await store.tenants())
        return sorted(found)

    async def aclose(self) -> None:
        """Close all connections; closing twice is fine."""
        await asyncio.gather(*(store.aclose() for store in self._opened.values()))
