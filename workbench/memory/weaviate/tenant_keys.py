"""Keys that open one tenant: the server itself refuses every other one."""

from __future__ import annotations

from typing import Any

from workbench.memory import rules
from workbench.memory.weaviate.errors import AbsentError
from workbench.memory.weaviate.store import WeaviateStore


async def grant(store: WeaviateStore, tenant: str, *, write: bool = True) -> str:
    """A new key for one tenant of the memory, which is made when missing; an older key ends.

    The store's own key has to be an administrator's. The key is returned once and kept nowhere: put
    it where the environment of its user gets it from.
    """
    rules.check_tenant(tenant)
    encrypted = store.names.tenant(tenant)
    await store.make_tenant(encrypted)
    role = f"{store.alias}_{encrypted}"
    permissions = await _permissions(store, encrypted, write=write)

    async def granted(client: Any) -> str:
        if await client.roles.exists(role):
            await client.roles.delete(role)
        await client.roles.create(role_name=role, permissions=permissions)
        if await client.users.db.get(user_id=role) is not None:
            await client.users.db.delete(user_id=role)
        key = await client.users.db.create(user_id=role)
        await client.users.db.assign_roles(user_id=role, role_names=[role])
        return str(key)

    return await store.connection.ask(granted)


async def revoke(store: WeaviateStore, tenant: str) -> bool:
    """End the key of a tenant; whether there was one."""
    role = f"{store.alias}_{store.names.tenant(tenant)}"

    async def revoked(client: Any) -> bool:
        gone = bool(await client.users.db.delete(user_id=role))
        await client.roles.delete(role)
        return gone

    return await store.connection.ask(revoked)


async def _permissions(store: WeaviateStore, encrypted: str, *, write: bool) -> list[Any]:
    from weaviate.classes.rbac import Permissions

    pointed = await store.connection.ask(lambda client: client.alias.get(alias_name=store.alias))
    if pointed is None:
        raise AbsentError(store.address.where, "collection")
    both = [pointed.collection, store.records]
    return [
        Permissions.data(
            collection=both, tenant=encrypted, read=True, create=write, update=write, delete=write
        ),
        Permissions.tenants(collection=both, tenant=encrypted, read=True, update=True),
        Permissions.collections(collection=both, read_config=True),
        Permissions.cluster(read=True),  # whether the server has started anew
        Permissions.alias(alias=store.alias, collection=pointed.collection, read=True),
    ]
