"""Hold what every verb of one tenant shares: its rows, its record, its encrypted names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from workbench.memory.weaviate import errors, objects, tenant_record
from workbench.memory.weaviate.collections import Collections
from workbench.memory.weaviate.errors import AbsentError
from workbench.memory.weaviate.table import Properties, StoredRow, TenantTable
from workbench.memory.weaviate.tenant_record import TenantRecord
from workbench.types import Item


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantSpace:
    """One tenant's part of a memory: `table` holds its items, `records` its record."""

    store: Collections
    tenant: str
    table: TenantTable
    records: TenantTable

    def encrypt(self, name: str) -> str:
        """Return a name of this tenant as the server holds it."""
        return self.store.names.encrypt(self.tenant, name)

    def decrypt(self, name: str) -> str:
        """Return a name of this tenant as its writer gave it."""
        return self.store.names.decrypt(self.tenant, name)

    def item(self, row: StoredRow) -> Item:
        """Return the item of a row with all its properties."""
        return objects.item_of(row.properties, row.vector, tenant=self.tenant, names=self.store.names)

    @property
    def last_record(self) -> TenantRecord | None:
        """The record as it was last read or written here."""
        return self.store.seen.get(self.table.tenant, ("", None))[1]

    async def record(self) -> TenantRecord | None:
        """Read the tenant's record; None when it was never written to, CorruptError when it alone is lost."""
        if not await self.store.exists():
            return None
        await self.store.meet(self.table.tenant)
        text = await self._text()
        if text is None and await self._has_rows():
            text = await self._text()  # a record is written before rows, perhaps between the two reads
            if text is None:
                raise errors.named("record", self.store.address.where)
        if text is None:
            return None
        if text != self.store.seen.get(self.table.tenant, ("",))[0]:  # parsing takes longer than reading
            self.store.seen[self.table.tenant] = text, tenant_record.parsed(text)
        return self.last_record

    async def save(self, record: TenantRecord, **changes: Any) -> TenantRecord:
        """Replace the tenant's record with one in which these fields are changed."""
        changed = replace(record, writes=record.writes + 1, **changes)
        await self.write_record(changed)
        return changed

    async def write_record(self, record: TenantRecord) -> None:
        """Replace the tenant's record: this one write activates a version or a hold.

        UnavailableError, and nothing is replaced, when another writer has replaced the record meanwhile. The
        server cannot compare and replace in one step, so a writer on another machine may still come between.
        """
        current = await self.record()
        if record.writes != (current.writes + 1 if current else 0):
            raise errors.named("overtaken", self.store.address.where)
        text, place = record.text(), self._place
        await self.records.put([StoredRow(uuid=place, properties={"record": text})])
        self.store.seen[self.table.tenant] = text, record

    @property
    def _place(self) -> Any:
        return self.store.names.uuid(self.tenant, "control")

    async def _text(self) -> str | None:
        try:
            found = await self.records.connection.ask(
                lambda client: self.records.use(client).query.fetch_object_by_id(
                    self._place, return_properties=["record"]
                )
            )
        except AbsentError:
            if self.last_record is not None:
                raise
            await self.store.connection.check_ready()
            return None
        return None if found is None else str(found.properties["record"])

    async def _has_rows(self) -> bool:
        try:
            return bool(await self.table.count())
        except AbsentError:
            await self.store.connection.check_ready()
            return False


def is_active(properties: Properties, version: int) -> bool:
    """Return whether a row belongs to a version; a row that use has written belongs to all of them."""
    return bool(properties["since"] <= version < properties["until"])


def of_version(rows: Iterable[StoredRow], version: int) -> dict[str, StoredRow]:
    """Return the rows of a version by encrypted id: one for each item, though a repair duplicates rows."""
    return {row.properties["item"]: row for row in rows if is_active(row.properties, version)}
