"""Make, find and check one memory's collections, alias and tenants on a Weaviate server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from workbench.errors import ConfigError, NotFoundError, RefusedError
from workbench.memory.cipher import IdCipher
from workbench.memory.locks import Locks
from workbench.memory.weaviate import errors, schema
from workbench.memory.weaviate.connection import Address, Connection
from workbench.memory.weaviate.errors import BusyError, ExistsError
from workbench.memory.weaviate.offloading import ActiveTenants
from workbench.memory.weaviate.schema import IndexSettings
from workbench.memory.weaviate.tenant_record import TenantRecord

_DEFAULT = IndexSettings()
#: Seconds before a deactivation that the server refused is sent again.
_BUSY_S = (0.2, 0.4)


class Collections:
    """The collection of a memory's items, the collection of its tenants' records, and the alias of the first.

    `part` tells memories of one name apart; `locks` is a folder for this machine's lock files. Every verb
    is awaited on one loop, `_sync`'s. ConfigError when the server holds a memory of that name with another
    key, another schema or another index.
    """

    def __init__(
        self,
        address: Address,
        *,
        name: str,
        names: IdCipher,
        locks: Path,
        part: str = "",
        index: IndexSettings = _DEFAULT,
        active: ActiveTenants | None = None,
    ) -> None:
        self.address = address
        self.name = name
        self.names = names
        self.index = index
        self.connection = Connection(address)
        self.locks = Locks(locks)
        self.part = part
        self.active = active or ActiveTenants()
        self._full_name = f"{name}/{part}" if part else name
        self.alias = schema.collection_name(self._full_name)
        self.records = f"{self.alias}_c{schema.SCHEMA}"
        #: The last record read of each tenant, by its encrypted name, with its text.
        self.seen: dict[str, tuple[str, TenantRecord]] = {}
        self._met: set[str] = set()
        self._items = ""
        self._making = asyncio.Lock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.address.where})"

    async def exists(self) -> bool:
        """Return whether the memory is on the server; UnavailableError while that cannot be known."""
        if not self._items:
            found = await self.connection.ask(lambda client: client.alias.get(alias_name=self.alias))
            if found is None:
                await self.connection.check_ready()
                return False
            await self._check(found.collection, self._wanted())
            self._items = found.collection
        return True

    async def make(self) -> None:
        """Make the memory on the server unless it is there."""
        async with self._making:
            if await self.exists():
                return
            wanted = self._wanted()
            records = schema.control_collection(self.records, self._description(), self.index)
            for definition in (records, wanted):
                await self._create(definition)
            with contextlib.suppress(ExistsError):  # another process was first
                await self.connection.ask(
                    lambda client: client.alias.create(
                        alias_name=self.alias, target_collection=wanted["class"]
                    )
                )
            if not await self.exists():
                raise errors.named("collection", self.address.where)

    async def make_tenant(self, encrypted: str, *, anew: bool = False) -> None:
        """Make a tenant in both collections unless it is there; `anew` removes its rows first."""
        from weaviate.classes.tenants import Tenant

        await self.make()
        await self.meet(encrypted)
        self.active.use(encrypted, self)
        tenant = Tenant(name=encrypted)

        async def made(client: Any) -> None:
            if anew:
                await client.collections.use(self._items).tenants.remove([tenant])
            for collection in (self.records, self._items):
                await client.collections.use(collection).tenants.create([tenant])

        await self.connection.ask(made)

    async def meet(self, encrypted: str) -> None:
        """Note, before a first read activates a tenant, whether another process has it active already."""
        if encrypted in self._met:
            return
        with contextlib.suppress(RefusedError):  # a key that may not list tenants leaves this one active
            found = await self._listed(self.records, [encrypted])
            if encrypted not in found or found[encrypted].activity_status.value != "ACTIVE":
                self.active.activated(encrypted)
        self._met.add(encrypted)

    async def deactivate(self, tenants: Iterable[str] | None = None) -> int:
        """Deactivate tenants, all without `tenants`: off memory until next used; return how many.

        A tenant that is not in both collections is left out: the server would refuse all of them for it.
        """
        named = None if tenants is None else [self.names.tenant(tenant) for tenant in tenants]
        if named == [] or not await self.exists():
            return 0
        records, items = [await self._listed(name, named) for name in (self.records, self._items)]
        encrypted = [
            name
            for name in records.keys() & items.keys()
            if named or "ACTIVE" in {side[name].activity_status.value for side in (records, items)}
        ]
        await self.offload(encrypted)
        self.active.deactivated(encrypted)
        return len(encrypted)

    async def offload(self, tenants: Iterable[str]) -> None:
        """Deactivate tenants of these encrypted names.

        A tenant that is still read after two seconds the server neither serves nor deactivates until the
        request is repeated (1.39), so it is repeated.
        """
        if encrypted := list(tenants):
            for collection in (self._items, self.records):
                for pause in _BUSY_S:
                    try:
                        await self._deactivate(collection, encrypted)
                        break
                    except BusyError:
                        await asyncio.sleep(pause)
                else:
                    await self._deactivate(collection, encrypted)

    async def point_all(self, collection: str) -> None:
        """Point every tenant's reads and writes to another collection of this memory, at once.

        ConfigError, and nothing is moved, unless that collection holds every tenant.
        """
        wanted = schema.items_collection(collection, self._description(), self.index)
        await self._check(collection, wanted, hint="make it and copy all tenants before the alias is moved")
        known, copied = await self._listed(self.records), await self._listed(collection)
        if missing := len(known.keys() - copied.keys()):
            raise ConfigError(
                f"the collection {collection} lacks {missing} of {len(known)} tenants",
                hint="copy all tenants before the alias is moved",
            )
        await self.connection.ask(
            lambda client: client.alias.update(alias_name=self.alias, new_target_collection=collection)
        )
        self._items = collection

    async def drop(self, collection: str) -> None:
        """Delete a collection; ConfigError while an alias points to it, which the server would not check."""
        aliases = await self.connection.ask(lambda client: client.alias.list_all(collection=collection))
        if aliases:
            raise ConfigError(
                f"{', '.join(sorted(aliases))} points to the collection {collection}",
                hint="move the alias to another collection first: WeaviateStore.point_all",
            )
        await self.connection.ask(lambda client: client.collections.delete(collection))

    async def _listed(self, collection: str, named: list[str] | None = None) -> dict[str, Any]:
        """Return the tenants of a collection, of these encrypted names or all, with their activity."""

        async def read(client: Any) -> dict[str, Any]:
            tenants = client.collections.use(collection).tenants
            return dict(await (tenants.get() if named is None else tenants.get_by_names(named)))

        return await self.connection.ask(read)

    async def _deactivate(self, collection: str, encrypted: list[str]) -> None:
        await self.connection.ask(
            lambda client: client.collections.use(collection).tenants.deactivate(encrypted)
        )

    def _description(self) -> str:
        return schema.description(self._full_name, self.names)

    def _wanted(self) -> dict[str, Any]:
        return schema.items_collection(f"{self.alias}_s{schema.SCHEMA}", self._description(), self.index)

    async def _create(self, wanted: dict[str, Any]) -> None:
        with contextlib.suppress(ExistsError):  # an interrupted attempt or another process made it
            await self.connection.ask(lambda client: client.collections.create_from_dict(wanted))
        await self._check(wanted["class"], wanted)

    async def _check(self, name: str, wanted: dict[str, Any], *, hint: str = errors.ANOTHER) -> None:
        """ConfigError unless the collection is the wanted one; settings of searches are updated."""
        if not await self.connection.ask(lambda client: client.collections.exists(name)):
            raise NotFoundError(f"the Weaviate at {self.address.where} has no collection {name}", hint=hint)
        config = await self.connection.ask(lambda client: client.collections.use(name).config.get())
        found = config.to_dict()
        schema.check_collection(found, wanted)
        if "ef" in wanted["vectorIndexConfig"] and schema.changed_at_run_time(found, self.index):
            await self._update(name)

    async def _update(self, name: str) -> None:
        from weaviate.classes.config import Reconfigure

        changed = Reconfigure.VectorIndex.hnsw(ef=self.index.ef, flat_search_cutoff=self.index.flat_cutoff)
        with contextlib.suppress(RefusedError):  # a key of one tenant may not change settings
            await self.connection.ask(
                lambda client: client.collections.use(name).config.update(vectorizer_config=changed)
            )
