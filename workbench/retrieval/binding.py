"""The binding of a memory handle: a spec, a context, the boundary and the store of snapshots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from workbench.context import Context, instant
from workbench.identity import Principal
from workbench.ports import Call, Handler, ItemFilter, Memory
from workbench.retrieval.spec import MemorySpec
from workbench.types import JSON, Item, Port


class MakeCall(Protocol):
    """Builds a call with its context, the target's identity and a deadline; supplied by the workspace."""

    def __call__(self, port: Port, operation: str, target: str, payload: JSON) -> Call:
        """Build a call without making it."""


class Snapshots(Protocol):
    """Writes and reads snapshots as files. The workspace supplies it, with the state and the tombstones."""

    async def write(
        self, views: Sequence[Memory], folder: Path | None, *, spec: str, digest: str, version: int | None
    ) -> tuple[Path, str, dict[str, int]]:
        """Write the tenants of `views`, of a memory's `spec` (`name@version`) with that digest.

        Returns the folder, the logical digest, and the number of items of each tenant. Without a folder the
        snapshot goes into the memory's own folder, which keeps the other tenants' items.
        """

    async def read(self, folder: Path, *, memory: str, tenant: str) -> list[Item]:
        """Read a tenant's items from a snapshot of a memory, verified, without tombstoned items."""

    async def admitted(self, items: Sequence[Item], *, memory: str, tenant: str) -> list[Item]:
        """Return those of a tenant's `items` that have no tombstone, in their order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """One memory for one tenant and one principal, without the verbs.

    `as_of` is the day on which validity is judged when a search names none (None: today). `version` is the
    version of the knowledge that is searched (None: the active one). `pinned` is the digest of the pinned
    snapshot that is searched instead of the live memory. A pinned snapshot ignores the clock unless `today`
    is set, as it is in a job. `home` holds `.workbench` when `root` is only a copy of the code. `permitted`
    returns the condition of the policies on the items of a call, for pages that no store holds yet; without
    it access lists and clearance decide about these. `permits` returns whether the policies let a call
    pass: the question of a search that they deny is not embedded. `narrowed` returns the binding of a
    principal with the same rights or fewer, and `stems` the stems of texts as the ranking by words has them.
    `marked` is whether the handler marks the
    passages whose source has changed, as the gateway of a run does: its kernel may not read the sources.
    """

    spec: MemorySpec
    context: Context
    handler: Handler
    make_call: MakeCall
    root: Path
    home: Path | None = None
    as_of: str | None = None
    version: int | None = None
    pinned: str | None = None
    today: bool = False
    marked: bool = False
    snapshot_store: Snapshots | None = field(default=None, repr=False)
    permitted: Callable[[Call], ItemFilter] | None = field(default=None, repr=False)
    permits: Callable[[Call], bool] | None = field(default=None, repr=False)
    narrowed: Callable[[Principal], Binding] | None = field(default=None, repr=False, compare=False)
    stems: Callable[[Sequence[str]], list[str]] | None = field(default=None, repr=False, compare=False)

    @property
    def name(self) -> str:
        """The memory's name."""
        return self.spec.name

    @property
    def tenant(self) -> str:
        """The tenant whose items are added and found."""
        return self.context.tenant

    def now(self) -> str:
        """Return the context's time as a UTC instant."""
        return instant(self.context.clock.now())

    def command(self, verb: str) -> str:
        """Return the command of `verb` for this memory and tenant, for an error's hint."""
        name = f"--use-case {self.context.use_case} --memory {self.spec} --tenant {self.tenant}"
        return f"workbench memory {verb} {name}"
