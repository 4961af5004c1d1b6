"""Implement the port of a memory's store on a Weaviate server."""

from __future__ import annotations

import asyncio

from workbench import config
from workbench.errors import CorruptError
from workbench.memory.weaviate import tenant_record
from workbench.memory.weaviate.collections import Collections
from workbench.memory.weaviate.connection import Address
from workbench.memory.weaviate.memory import WeaviateMemory
from workbench.memory.weaviate.table import TenantTable

#: Tenants that are read at the same time, and deactivated again, when all are listed.
_CONCURRENT = 32


class WeaviateStore(Collections):
    """One memory for all its tenants, which asks nothing before its first verb; a `ports.MemoryStore`."""

    def tenant(self, tenant: str) -> WeaviateMemory:
        """Return one tenant's view. Its tenant cannot be changed afterwards."""
        config.check_tenant(tenant)
        encrypted = self.names.tenant(tenant)
        table, records = (
            TenantTable(connection=self.connection, collection=name, tenant=encrypted, used=self._use)
            for name in (self.alias, self.records)
        )
        return WeaviateMemory(store=self, tenant=tenant, table=table, records=records)

    def at(self, address: Address) -> WeaviateStore:
        """Return the same memory over another connection, such as one with another key."""
        return WeaviateStore(
            address,
            name=self.name,
            part=self.part,
            names=self.names,
            index=self.index,
            locks=self.locks.folder,
            active=self.active,
        )

    async def tenants(self) -> list[str]:
        """Return the tenants that have items, sorted; inactive ones are read and deactivated again."""
        if not await self.exists():
            return []
        found = await self._listed(self.records)
        names: list[str | None] = []
        for start in range(0, len(found), _CONCURRENT):
            part = list(found)[start : start + _CONCURRENT]
            names += await asyncio.gather(*map(self._name_of, part))
            await self.offload(name for name in part if found[name].activity_status.value != "ACTIVE")
        return sorted(name for name in names if name is not None)

    async def aclose(self) -> None:
        """Deactivate what this store activated, and close the connection; closing twice is fine."""
        await self.active.leave(self)
        await self.connection.aclose()

    def _use(self, encrypted: str) -> None:
        self.active.use(encrypted, self)

    async def _name_of(self, encrypted: str) -> str | None:
        """Return a tenant's name; None when it has no items or was written under another key."""
        rows = TenantTable(connection=self.connection, collection=self.records, tenant=encrypted)
        for row in await rows.rows(properties=["record"]):
            try:
                name = self.names.decrypt("", tenant_record.parsed(str(row.properties["record"])).name)
            except CorruptError:
                continue
            table = TenantTable(connection=self.connection, collection=self.alias, tenant=encrypted)
            if self.names.tenant(name) == encrypted and await table.count():
                return name
        return None
