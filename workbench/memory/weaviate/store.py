"""One memory on a Weaviate server: its two collections, its alias and its tenants."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from workbench.errors import ConfigError, CorruptError, NotFoundError, RefusedError
from workbench.memory import rules
from workbench.memory.cipher import IdCipher
from workbench.memory.locks import Locks
from workbench.memory.weaviate import errors, schema, tenant_record
from workbench.memory.weaviate.connection import Address, Connection
from workbench.memory.weaviate.errors import AbsentError, BusyError, ExistsError
from workbench.memory.weaviate.memory import WeaviateMemory
from workbench.memory.weaviate.offloading import Awake
from workbench.memory.weaviate.schema import IndexSettings
from workbench.memory.weaviate.table import Row, Table
from workbench.memory.weaviate.tenant_record import Control

T = TypeVar("T")
_DEFAULT = IndexSettings()
#: Tenants asked at the same time, and put to rest again, when all of them are looked at.
_ABREAST = 32
_RESTING_S = (0.2, 0.4)


class WeaviateStore:
    """One memory for all its tenants; implements `ports.MemoryStore`.

    Nothing is asked before the first verb. `part` tells memories of one name apart; `locks` is a folder
    for this machine's lock files. Every verb must be awaited on one loop, `_sync`'s. ConfigError when
    the server holds a memory of that name with another key, another schema or another index.
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
        awake: Awake | None = None,
    ) -> None:
        self.address = address
        self.name = name
        self.names = names
        self.index = index
        self.connection = Connection(address)
        self.locks = Locks(locks)
        self.part = part
        self.awake = awake or Awake()
        self._whole = f"{name}/{part}" if part else name
        self.alias = schema.collection_name(self._whole)
        self.records = f"{self.alias}_c{schema.SCHEMA}"
        #: The last record seen of each tenant, by its opaque name.
        self.seen: dict[str, Control] = {}
        self._texts: dict[str, str] = {}
        self._met: set[str] = set()
        self._items = ""
        self._making = asyncio.Lock()

    def tenant(self, tenant: str) -> WeaviateMemory:
        """One tenant's view. The tenant cannot be changed afterwards."""
        rules.check_tenant(tenant)
        encrypted = self.names.tenant(tenant)
        table, records = (
            Table(connection=self.connection, collection=one, tenant=encrypted, used=self._used)
            for one in (self.alias, self.records)
        )
        return WeaviateMemory(store=self, tenant=tenant, table=table, records=records)

    def at(self, address: Address) -> WeaviateStore:
        """The same memory over another connection, such as one with another key."""
        return WeaviateStore(
            address,
            name=self.name,
            part=self.part,
            names=self.names,
            index=self.index,
            locks=self.locks.folder,
            awake=self.awake,
        )

    def __repr__(self) -> str:
        return f"WeaviateStore({self.name!r}, {self.address.where})"

    async def tenants(self) -> list[str]:
        """Tenants that have items, sorted. Each is asked; idle ones wake up for it and rest again."""
        if not await self.exists():
            return []
        found = await self._listed(self.records)
        names: list[str | None] = []
        for start in range(0, len(found), _ABREAST):
            some = list(found)[start : start + _ABREAST]
            names += await asyncio.gather(*map(self._name_of, some))
            await self.rest(one for one in some if found[one].activity_status.value != "ACTIVE")
        return sorted(name for name in names if name is not None)

    async def deactivate(self, tenants: Iterable[str] | None = None) -> int:
        """Put tenants to rest, all without `tenants`: off memory until next used; how many.

        One that is not in both collections is left out: the server would refuse all of them for it.
        """
        named = None if tenants is None else [self.names.tenant(one) for one in tenants]
        if named == [] or not await self.exists():
            return 0
        records, items = [await self._listed(one, named) for one in (self.records, self._items)]
        encrypted = [
            one
            for one in records.keys() & items.keys()
            if named or "ACTIVE" in {about[one].activity_status.value for about in (records, items)}
        ]
        await self.rest(encrypted)
        self.awake.at_rest(encrypted)
        return len(encrypted)

    async def point_all(self, collection: str) -> None:
        """Let every tenant's reads and writes go to another collection of this memory, at once.

        It has to hold every tenant: ConfigError otherwise, and nothing is moved.
        """
        wanted = schema.items_collection(collection, self._about(), self.index)
        await self._check(collection, wanted, hint="make it and copy all tenants before the alias is moved")
        here, there = await self._listed(self.records), await self._listed(collection)
        if missing := len(here.keys() - there.keys()):
            raise ConfigError(
                f"the collection {collection} lacks {missing} of {len(here)} tenants",
                hint="copy all tenants before the alias is moved",
            )
        await self.connection.ask(
            lambda client: client.alias.update(alias_name=self.alias, new_target_collection=collection)
        )
        self._items = collection

    async def drop(self, collection: str) -> None:
        """Delete a collection that no alias points to: the server would leave the alias dangling."""
        pointing = await self.connection.ask(lambda client: client.alias.list_all(collection=collection))
        if pointing:
            raise ConfigError(
                f"the collection {collection} is what {', '.join(sorted(pointing))} points to",
                hint="move the alias to another collection first: WeaviateStore.point_all",
            )
        await self.connection.ask(lambda client: client.collections.delete(collection))

    async def rest(self, tenants: Iterable[str]) -> None:
        """Put tenants of these opaque names to rest.

        What is still asked after two seconds the server neither wakes nor lets rest until it is told once
        more (1.39), so it is.
        """
        if encrypted := list(tenants):
            for collection in (self._items, self.records):
                for pause in _RESTING_S:
                    try:
                        await self._deactivate(collection, encrypted)
                        break
                    except BusyError:
                        await asyncio.sleep(pause)
                else:
                    await self._deactivate(collection, encrypted)

    async def aclose(self) -> None:
        """Put to rest what was woken, and close the connection; closing twice is fine."""
        await self.awake.leave(self)
        await self.connection.aclose()

    async def exists(self) -> bool:
        """Whether the memory is on the server; UnavailableError while that cannot be known."""
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
            records = schema.control_collection(self.records, self._about(), self.index)
            for one in (records, wanted):
                await self._create(one)
            with contextlib.suppress(ExistsError):  # another process was first
                await self.connection.ask(
                    lambda client: client.alias.create(
                        alias_name=self.alias, target_collection=wanted["class"]
                    )
                )
            if not await self.exists():
                raise AbsentError(self.address.where, "collection")

    async def make_tenant(self, encrypted: str, *, anew: bool = False) -> None:
        """Make a tenant in both collections unless it is there; `anew` empties its rows first."""
        from weaviate.classes.tenants import Tenant

        await self.make()
        await self._meet(encrypted)
        self.awake.use(encrypted, self)
        one = Tenant(name=encrypted)

        async def made(client: Any) -> None:
            if anew:
                await client.collections.use(self._items).tenants.remove([one])
            for collection in (self.records, self._items):
                await client.collections.use(collection).tenants.create([one])

        await self.connection.ask(made)

    async def record(self, memory: WeaviateMemory) -> Control | None:
        """The tenant's record, None when it was never written to; CorruptError when it alone is lost."""
        if not await self.exists():
            return None
        encrypted = memory.table.tenant
        await self._meet(encrypted)
        text = await self._text(memory)
        if text is None and await self._has_rows(memory):
            text = await self._text(memory)  # rows come after a record, which may have come meanwhile
            if text is None:
                raise errors.record_lost(self.address.where)
        if text is None:
            return None
        if text != self._texts.get(encrypted):  # reading it strictly takes longer than getting it
            self.seen[encrypted] = tenant_record.parsed(text)
            self._texts[encrypted] = text
        return self.seen[encrypted]

    async def save(self, memory: WeaviateMemory, record: Control) -> None:
        """Replace the tenant's record: what is in force changes with this one write.

        UnavailableError, and nothing is replaced, when somebody else has replaced it since this writer read
        it. The server cannot compare and replace in one step, so another machine may still come between.
        """
        now = await self.record(memory)
        if record.writes != (now.writes + 1 if now else 0):
            raise errors.overtaken(self.address.where)
        place = self.names.uuid(memory.tenant, "control")
        text = record.text()
        await memory.records.put([Row(uuid=place, properties={"record": text})])
        self.seen[memory.table.tenant], self._texts[memory.table.tenant] = record, text

    async def _listed(self, collection: str, named: list[str] | None = None) -> dict[str, Any]:
        """Tenants of a collection, those of these opaque names or all, and whether each is awake."""

        async def asked(client: Any) -> dict[str, Any]:
            there = client.collections.use(collection).tenants
            return dict(await (there.get() if named is None else there.get_by_names(named)))

        return await self.connection.ask(asked)

    async def _deactivate(self, collection: str, encrypted: list[str]) -> None:
        await self.connection.ask(
            lambda client: client.collections.use(collection).tenants.deactivate(encrypted)
        )

    def _used(self, encrypted: str) -> None:
        self.awake.use(encrypted, self)

    async def _meet(self, encrypted: str) -> None:
        """See, before the first question wakes it, whether a tenant is awake already: for somebody else."""
        if encrypted in self._met:
            return
        with contextlib.suppress(RefusedError):  # a key that may not know leaves it awake
            found = await self._listed(self.records, [encrypted])
            if encrypted not in found or found[encrypted].activity_status.value != "ACTIVE":
                self.awake.woken(encrypted)
        self._met.add(encrypted)

    async def _text(self, memory: WeaviateMemory) -> str | None:
        place = self.names.uuid(memory.tenant, "control")
        try:
            found = await self.connection.ask(
                lambda client: memory.records.use(client).query.fetch_object_by_id(
                    place, return_properties=["record"]
                )
            )
        except AbsentError:
            if memory.table.tenant in self.seen:
                raise
            await self.connection.check_ready()
            return None
        return None if found is None else str(found.properties["record"])

    async def _has_rows(self, memory: WeaviateMemory) -> bool:
        try:
            return bool(await memory.table.count())
        except AbsentError:
            await self.connection.check_ready()
            return False

    def _about(self) -> str:
        return schema.description(self._whole, self.names)

    def _wanted(self) -> dict[str, Any]:
        return schema.items_collection(f"{self.alias}_s{schema.SCHEMA}", self._about(), self.index)

    async def _create(self, wanted: dict[str, Any]) -> None:
        with contextlib.suppress(ExistsError):  # made by an attempt that was cut off, or by another process
            await self.connection.ask(lambda client: client.collections.create_from_dict(wanted))
        await self._check(wanted["class"], wanted)

    async def _check(self, name: str, wanted: dict[str, Any], *, hint: str = errors.ANOTHER) -> None:
        """ConfigError unless the collection is what is wanted; settings of searches are set anew."""
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
        with contextlib.suppress(RefusedError):  # a key of one tenant takes them as they are
            await self.connection.ask(
                lambda client: client.collections.use(name).config.update(vectorizer_config=changed)
            )

    async def _name_of(self, encrypted: str) -> str | None:
        """A tenant's name by its opaque one; None when it holds nothing or was written under another key."""
        rows = Table(connection=self.connection, collection=self.records, tenant=encrypted)
        for row in await rows.rows(properties=["record"]):
            try:
                name = self.names.decrypt("", tenant_record.parsed(str(row.properties["record"])).name)
            except CorruptError:
                continue
            table = Table(connection=self.connection, collection=self.alias, tenant=encrypted)
            if self.names.tenant(name) == encrypted and await table.count():
                return name
        return None
