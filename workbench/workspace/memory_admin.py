"""What the command line adds to a memory's verbs: which memory is meant, and all tenants at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from workbench import _sync, config, retrieval
from workbench.errors import ConfigError, NotFoundError
from workbench.memory.snapshot import read_manifest
from workbench.ports import Added
from workbench.retrieval import MemoryHandle
from workbench.retrieval.maintenance import Restored, Snapshotted, snapshot_of
from workbench.workspace import workspace

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Which:
    """The memory that a command is about: what is left out is the use case's own, and all its tenants."""

    use_case: str | None = None
    memory: str | None = None
    tenant: str | None = None


class Memories:
    """One memory of a use case, as each of its tenants. Connections are given back when the block ends."""

    def __init__(self, root: Path, which: Which) -> None:
        self.use_case = which.use_case or _only(config.load_params(root))
        self._ws = workspace.connect(self.use_case, root=root, tenant=which.tenant, purpose="memory")
        tenants = self._ws.use_case.tenants if which.tenant is None else (which.tenant,)
        self.handles = {tenant: self._ws.bind(tenant=tenant).memory(which.memory) for tenant in tenants}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ws.close()

    def on_server(self, *, api_key_env: str | None = None) -> Any:
        """The memory's store on the server, opened with this key; ConfigError when it is embedded."""
        spec = self.first().spec
        return self._ws.boundary.stores.on_server(
            spec.name, str(spec.version), dataclasses.asdict(spec.index), api_key_env=api_key_env
        )

    def first(self) -> MemoryHandle:
        """The handle of the tenant named, or of the use case's first."""
        return next(iter(self.handles.values()))

    def one(self, verb: str) -> MemoryHandle:
        """The handle of the only tenant; ConfigError when there are several, and the `verb` needs one."""
        if len(self.handles) > 1:
            raise ConfigError(
                f"{self.use_case!r} has {len(self.handles)} tenants, and this is for one of them "
                f"({', '.join(map(repr, self.handles))})",
                hint=self.first().command(verb),
            )
        return self.first()

    def each(self, verb: Callable[[MemoryHandle], T]) -> dict[str, T]:
        """What a verb gives for each tenant."""
        return {tenant: verb(handle) for tenant, handle in self.handles.items()}

    def ingest(self, source: str | None) -> dict[str, Added]:
        """Ingest each tenant's pages; a tenant that has neither pages nor knowledge is left out."""
        first = self.first()
        if source is None and not first.spec.source:
            raise ConfigError(f"{first.spec} names no source", hint=first.command("ingest DIR"))
        pages = retrieval.load(source or first.spec.source, root=first.root)
        having = {page.tenant for page in pages}
        if not having & set(self.handles):
            raise ConfigError(
                f"none of the {len(pages)} pages belongs to {', '.join(self.handles)} "
                f"(but to: {', '.join(sorted(having))})",
                hint=f"add their tenant to use_cases.{self.use_case}.tenants in params.yaml",
            )
        return {
            tenant: handle.ingest(pages)
            for tenant, handle in self.handles.items()
            if tenant in having or handle.versions()
        }

    def restore(self, folder: Path) -> dict[str, Restored]:
        """Restore each of these tenants that the snapshot in `folder` holds; NotFoundError when none."""
        _sync.run(self._ws.boundary.stores.snapshot_store().put_back(folder))
        held = read_manifest(folder).tenants
        having = [handle for tenant, handle in self.handles.items() if tenant in held]
        if not having:
            raise NotFoundError(
                f"{folder} holds nothing of {', '.join(self.handles)} (but of {', '.join(held) or 'nobody'})",
                hint="name another snapshot's folder, or another use case",
            )
        return {handle.tenant: handle.restore(folder) for handle in having}

    def snapshot(self, folder: Path | None) -> Snapshotted:
        """One snapshot of all these tenants; one that has no items is left out."""
        having = [handle for handle in self.handles.values() if _sync.run(handle.unfiltered.count())]
        if not having:
            raise NotFoundError(
                f"there is nothing in {self.first().spec} to write a snapshot of",
                hint=self.first().command("ingest"),
            )
        return _sync.run(snapshot_of(having, folder))


def grant(root: Path, which: Which, *, admin_key_env: str) -> dict[str, str]:
    """A new key for each tenant, by its tenant's name; with it the server opens that tenant and no other.

    `admin_key_env` names the variable that holds an administrator's key. A tenant's older key ends.
    """
    from workbench.memory.weaviate import tenant_keys

    with Memories(root, which) as memories:
        store = memories.on_server(api_key_env=admin_key_env)
        return _sync.run(_each(store, memories.handles, tenant_keys.grant))


def revoke(root: Path, which: Which, *, admin_key_env: str) -> dict[str, bool]:
    """End each tenant's key; whether there was one."""
    from workbench.memory.weaviate import tenant_keys

    with Memories(root, which) as memories:
        store = memories.on_server(api_key_env=admin_key_env)
        return _sync.run(_each(store, memories.handles, tenant_keys.revoke))


def rest(root: Path, which: Which) -> int:
    """Put tenants of a memory on a server to rest until they are next used; how many."""
    with Memories(root, which) as memories:
        store = memories.on_server()
        done = _sync.run(_each(store, memories.handles, lambda store, tenant: store.deactivate([tenant])))
    return sum(done.values())


async def _each(store: Any, tenants: Iterable[str], verb: Callable[[Any, str], Awaitable[T]]) -> dict[str, T]:
    try:
        return {tenant: await verb(store, tenant) for tenant in tenants}
    finally:
        await store.aclose()


def _only(params: config.Params) -> str:
    names = list(params.use_cases)
    if len(names) > 1:
        raise ConfigError(
            f"params.yaml has {len(names)} use cases ({', '.join(map(repr, names))})",
            hint=f"say whose memory: --use-case {names[0]}",
        )
    return names[0]
