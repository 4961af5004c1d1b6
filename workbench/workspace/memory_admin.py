"""Maintain one memory of a use case for all its tenants, as the command line does."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from workbench import _sync, config, retrieval
from workbench.audit import Act, audited
from workbench.errors import ConfigError, NotFoundError
from workbench.experiments.suggested import SuggestedCases
from workbench.identities.providers import identity_of_process
from workbench.memory.snapshot import read_manifest
from workbench.policy.authorise import authorise, system_context
from workbench.ports import Added
from workbench.ports.policy import Resource
from workbench.retrieval import MemoryHandle, suggesting
from workbench.retrieval.maintenance import Restored, Snapshotted, snapshot_of
from workbench.workspace import connection, provider_keys

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Which:
    """The memory and tenant of a command; by default the use case's own memory and all its tenants."""

    use_case: str | None = None
    memory: str | None = None
    tenant: str | None = None


class Memories:
    """One memory of a use case, with a handle for each tenant; a context manager that closes connections."""

    def __init__(self, root: Path, which: Which) -> None:
        self.use_case = which.use_case or _only(config.load_params(root))
        self._ws = connection.connect(self.use_case, root=root, tenant=which.tenant, purpose="memory")
        tenants = self._ws.use_case.tenants if which.tenant is None else (which.tenant,)
        self.handles = {tenant: self._ws.bind(tenant=tenant).memory(which.memory) for tenant in tenants}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ws.close()

    def on_server(self, *, api_key_env: str | None = None) -> Any:
        """Open the memory's store on the server with this key; ConfigError when the memory is embedded."""
        spec = self.first().spec
        provider_keys.put_back()  # this process itself asks the server
        return self._ws.boundary.stores.on_server(
            spec.name, str(spec.version), dataclasses.asdict(spec.index), api_key_env=api_key_env
        )

    def first(self) -> MemoryHandle:
        """Return the handle of the named tenant, or of the use case's first."""
        return next(iter(self.handles.values()))

    def one(self, verb: str) -> MemoryHandle:
        """Return the handle of the only tenant; ConfigError for several, because `verb` needs one."""
        if len(self.handles) > 1:
            raise ConfigError(
                f"{verb} needs one tenant, and {self.use_case!r} has {len(self.handles)} "
                f"({', '.join(map(repr, self.handles))})",
                hint=self.first().command(verb),
            )
        return self.first()

    def each(self, verb: Callable[[MemoryHandle], T]) -> dict[str, T]:
        """Run `verb` for each tenant; return its results by tenant."""
        return {tenant: verb(handle) for tenant, handle in self.handles.items()}

    def ingest(self, source: str | None) -> dict[str, Added]:
        """Ingest each tenant's pages; a tenant that has neither pages nor knowledge is left out."""
        first = self.first()
        if source is None and not first.spec.source:
            raise ConfigError(f"the memory {first.spec} names no source", hint=first.command("ingest DIR"))
        pages = retrieval.load(first.spec.reading(source), root=first.root)
        owners = {page.tenant for page in pages}
        if not owners & set(self.handles):
            raise ConfigError(
                f"none of the {len(pages)} pages belongs to {', '.join(self.handles)} "
                f"(they belong to {', '.join(sorted(owners))})",
                hint=f"add their tenant to use_cases.{self.use_case}.tenants in params.yaml",
            )
        return {
            tenant: handle.ingest(pages)
            for tenant, handle in self.handles.items()
            if tenant in owners or handle.versions()
        }

    def suggest(self, n: int, *, seed: int) -> SuggestedCases:
        """Draft at most `n` cases from the documents of these tenants, spread over them."""
        return _sync.run(suggesting.drafts(self.handles.values(), n=n, seed=seed))

    def restore(self, folder: Path) -> dict[str, Restored]:
        """Restore these tenants from the snapshot in `folder`; NotFoundError when it holds none of them."""
        _sync.run(self._ws.boundary.stores.snapshot_store().put_back(folder))
        held = read_manifest(folder).tenants
        handles = [handle for tenant, handle in self.handles.items() if tenant in held]
        if not handles:
            raise NotFoundError(
                f"the snapshot {folder} has no items of {', '.join(self.handles)} "
                f"(its tenants: {', '.join(held) or 'none'})",
                hint="name the folder of another snapshot, or pass --use-case NAME",
            )
        return {handle.tenant: handle.restore(folder) for handle in handles}

    def snapshot(self, folder: Path | None) -> Snapshotted:
        """Write one snapshot of all tenants that have items; NotFoundError when none has."""
        handles = [handle for handle in self.handles.values() if _sync.run(handle.unfiltered.count())]
        if not handles:
            raise NotFoundError(
                f"the memory {self.first().spec} has no items to write a snapshot of",
                hint=self.first().command("ingest"),
            )
        return _sync.run(snapshot_of(handles, folder))


def grant(root: Path, which: Which, *, admin_key_env: str) -> dict[str, str]:
    """Create a key for each tenant, which opens that tenant only; return the keys by tenant.

    `admin_key_env` names the variable that holds an administrator's key. A tenant's older key ends. Raise
    PolicyError unless the policies permit the user of this process to manage keys of each tenant.
    """
    from workbench.memory.weaviate import tenant_keys

    with _keys_act(root, which, "grant_key"):
        return _on_server(root, which, tenant_keys.grant, api_key_env=admin_key_env)


def revoke(root: Path, which: Which, *, admin_key_env: str) -> dict[str, bool]:
    """Revoke each tenant's key; return by tenant whether it had one. Raise PolicyError as `grant` does."""
    from workbench.memory.weaviate import tenant_keys

    with _keys_act(root, which, "revoke_key"):
        return _on_server(root, which, tenant_keys.revoke, api_key_env=admin_key_env)


@contextmanager
def _keys_act(root: Path, which: Which, activity: str) -> Iterator[None]:
    """Log an act on tenants' keys, and let the policies decide it for each tenant."""
    params = config.load_params(root)
    name = which.use_case or _only(params)
    case, found = config.use_case(params, name), identity_of_process(params.identity, root)
    act = Act(
        activity=activity, principal=found.principal, type="Memory", name=which.memory or "",
        tenant=which.tenant or "", use_case=name,
    )  # fmt: skip
    base = system_context(root, name, purpose="keys", found=found)
    with audited(root, act) as facts:
        for tenant in case.tenants if which.tenant is None else (which.tenant,):
            key = Resource(
                type="ApiKey", id=f"memory {which.memory or ''}", tenant=tenant, attributes={"principal": ""}
            )
            context = dataclasses.replace(base, tenant=tenant)
            facts["decision"] = authorise(root, context, "manage_keys", key).to_json()
        yield


def deactivate(root: Path, which: Which) -> int:
    """Deactivate a memory's tenants on a server until their next use; return their number."""
    return sum(_on_server(root, which, lambda store, tenant: store.deactivate([tenant])).values())


def _on_server(
    root: Path, which: Which, verb: Callable[[Any, str], Awaitable[T]], *, api_key_env: str | None = None
) -> dict[str, T]:
    """Run `verb` for each tenant on the memory's server; return its results by tenant."""
    with Memories(root, which) as memories:
        store = memories.on_server(api_key_env=api_key_env)

        async def each() -> dict[str, T]:
            try:
                return {tenant: await verb(store, tenant) for tenant in memories.handles}
            finally:
                await store.aclose()

        return _sync.run(each())


def _only(params: config.Params) -> str:
    names = list(params.use_cases)
    if len(names) > 1:
        raise ConfigError(
            f"params.yaml has {len(names)} use cases ({', '.join(map(repr, names))})",
            hint=f"name one of them: --use-case {names[0]}",
        )
    return names[0]
