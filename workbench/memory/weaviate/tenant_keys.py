"""Grant and revoke keys that open one tenant: the server refuses them every other one."""

from __future__ import annotations

from typing import Any

from workbench import config
from workbench.memory.weaviate import errors
from workbench.memory.weaviate.store import WeaviateStore


async def grant(store: WeaviateStore, tenant: str, *, write: bool = True) -> str:
    """Return a new key for one tenant, which is made when missing; its older key ends.

    The store's own key has to be an administrator's. The new key is kept nowhere: put it where the
    environment of its user is set.
    """
    config.check_tenant(tenant)
    encrypted = store.names.tenant(tenant)
    await store.make_tenant(encrypted)
    role = f"{store.alias}_{encrypted}"
    permissions = await _permissions(store, encrypted, write=write)

    async def create(client: Any) -> str:
        if await client.roles.exists(role):
            await client.roles.delete(role)
        await client.roles.create(role_name=role, permissions=permissions)
        if await client.users.db.get(user_id=role) is not None:
            await client.users.db.delete(user_id=role)
        key = await client.users.db.create(user_id=role)
        await client.users.db.assign_roles(user_id=role, role_names=[role])
        return str(key)

    return await store.connection.ask(create)


async def revoke(store: WeaviateStore, tenant: str) -> bool:
    """End the key of a tenant; return whether there was one."""
    role = f"{store.alias}_{store.names.tenant(tenant)}"

    async def delete(client: Any) -> bool:
        found = bool(await client.users.db.delete(user_id=role))
        await client.roles.delete(role)
        return found

    return await store.connection.ask(delete)


async def _permissions(store: WeaviateStore, encrypted: str, *, write: bool) -> list[Any]:
    from weaviate.classes.rbac import Permissions

    target = await store.connection.ask(lambda client: client.alias.get(alias_name=store.alias))
    if target is None:
        raise errors.named("collection", store.address.where)
    collections = [target.collection, store.records]
    return [
        Permissions.data(
            collection=collections, tenant=encrypted, read=True, create=write, update=write, delete=write
        ),
        Permissions.tenants(collection=collections, tenant=encrypted, read=True, update=True),
        Permissions.collections(collection=collections, read_config=True),
        Permissions.cluster(read=True),  # tells a restart of the server
        Permissions.alias(alias=store.alias, collection=target.collection, read=True),
    ]
